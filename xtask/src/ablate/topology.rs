//! The rules of clusters, of Sentinel and of links that several caches share, with the tests that must fail without
//! them.

use super::{
    guarded::{Guarded, guarded},
    rules::edit,
};

const CENSUS: &str = "crates/twotier-backend/src/redis/census.rs";
const MAP: &str = "crates/twotier-backend/src/redis/census/map.rs";
const KEEPER: &str = "crates/twotier-backend/src/redis/cluster/keeper.rs";
const FOLLOW: &str = "crates/twotier-backend/src/redis/cluster/follow.rs";
const STATE: &str = "crates/twotier-backend/src/redis/link/state.rs";
const SUPERVISOR: &str = "crates/twotier-backend/src/redis/link/supervisor.rs";
const AUTHORITY: &str = "crates/twotier-backend/src/redis/authority.rs";
const PANEL: &str = "crates/twotier-backend/src/redis/sentinel/panel.rs";
const LISTENERS: &str = "crates/twotier-backend/src/redis/listeners.rs";

/// The clusters of the simulation.
const CLUSTERS: &str = "simulation: seeds::a_cluster_whose_slots_move_and_whose_primaries_are_replaced";

pub(super) const TOPOLOGY: &[Guarded] = &[
    guarded(
        "a majority of the primaries vouches",
        &[edit(CENSUS, "*asked.get(in_force.voters.len() / 2)?", "*asked.first()?")],
        &[
            CLUSTERS,
            "backend: redis::census::tests::a_lease_is_renewed_as_of_the_time_since_which_a_majority_and_the_primary_itself_have_answered",
        ],
    ),
    guarded(
        "a primary answers for itself",
        &[edit(
            CENSUS,
            "let own = agrees(&link)?.asked;",
            "let own = agrees(&link).map_or(mark, |answer| answer.asked);",
        )],
        &[
            "backend: redis::census::tests::a_lease_is_renewed_as_of_the_time_since_which_a_majority_and_the_primary_itself_have_answered",
        ],
    ),
    guarded(
        "owners are compared",
        &[edit(CENSUS, " && answer.view.ownership == self.ownership\n", "\n")],
        &["backend: redis::census::tests::a_move_that_raises_no_epoch_is_seen_by_comparing_views"],
    ),
    guarded(
        "epochs are compared",
        &[edit(CENSUS, "answer.is_ok && Some(answer.epoch) == self.settled && ", "answer.is_ok && ")],
        &[
            CLUSTERS,
            "backend: redis::census::tests::whoever_votes_for_another_primary_vouches_for_nobody_until_its_claim_is_in_the_map",
        ],
    ),
    guarded(
        "an epoch is settled once its claims are in the map",
        &[edit(CENSUS, "if is_over || later == answer.epoch - settled {", "if is_over || later <= answer.epoch {")],
        &[
            CLUSTERS,
            "backend: redis::census::tests::a_claim_that_nobody_has_announced_is_waited_for_though_a_later_one_is_known",
        ],
    ),
    guarded(
        "an election is over after a while",
        &[edit(CENSUS, "since.elapsed() >= patience)", "since.elapsed() >= patience && patience.is_zero())")],
        &[CLUSTERS, "backend: redis::census::tests::an_election_that_came_to_nothing_is_over_after_two_node_timeouts"],
    ),
    guarded(
        "a primary that finds the cluster down vouches for nobody",
        &[edit(CENSUS, "answer.is_ok && Some(answer.epoch)", "Some(answer.epoch)")],
        &["backend: redis::census::tests::a_primary_that_finds_the_cluster_down_vouches_for_nobody"],
    ),
    guarded(
        "a primary that has become a replica is news",
        &[edit(CENSUS, "!known.view.roles().eq(answer.view.roles())", "known.view.nodes.is_empty()")],
        &[CLUSTERS, "backend: redis::census::tests::that_a_primary_without_slots_has_become_a_replica_is_news"],
    ),
    guarded(
        "the later claim of a slot wins",
        &[edit(
            MAP,
            "if latest_one.is_none_or(|other| other.config_epoch < node.config_epoch) {",
            "if latest_one.is_none() {",
        )],
        &[
            "backend: redis::census::map::tests::of_two_who_claim_a_slot_the_one_of_the_later_claim_owns_it_whoever_is_asked_first",
        ],
    ),
    guarded(
        "copies over a new link are vouched for",
        &[edit(STATE, "mark.zip(vouch.as_of(marked))", "mark.zip(vouch.as_of(marked).or(Some(marked)))")],
        &[CLUSTERS],
    ),
    guarded(
        "links that lost or gained slots are outdated",
        &[edit(KEEPER, "                peer.link.keys_moved();\n", "")],
        &["redis: cluster::live::a_slot_that_moves_is_followed_and_both_links_begin_anew_also_when_no_epoch_rises"],
    ),
    guarded(
        "nothing is kept of an answer that was redirected",
        &[edit(FOLLOW, "            self.inner.keep_nothing_of(self.key);\n", "")],
        &[
            "redis: cluster::live::while_a_slot_migrates_commands_are_asked_at_the_other_end_and_nothing_of_them_is_kept",
        ],
    ),
    guarded(
        "writes of one key wait for one another",
        &[edit(FOLLOW, "            permit.acquire().await;\n", "            let _unordered = &mut permit;\n")],
        &["simulation: stories::a_write_that_is_redirected_late_undoes_no_later_one"],
    ),
    guarded(
        "a command for a key that migrates says that it was redirected",
        &[edit(
            FOLLOW,
            "let for_once = redirect.is_asking;",
            "let for_once = redirect.is_asking && error.code().is_none();",
        )],
        &[
            "redis: cluster::live::while_a_slot_migrates_commands_are_asked_at_the_other_end_and_nothing_of_them_is_kept",
        ],
    ),
    guarded(
        "a majority of the sentinels names the primary",
        &[edit(PANEL, "other == one).count() >= self.majority())", "other == one).count() >= 1)")],
        &[
            "backend: redis::sentinel::panel::tests::the_server_that_most_of_all_sentinels_name_is_the_primary_and_nobody_else",
        ],
    ),
    guarded(
        "a majority of the sentinels vouches",
        &[edit(PANEL, "vouching.count() >= self.majority()", "vouching.count() >= 1")],
        &[
            "backend: redis::sentinel::panel::tests::sentinels_vouch_by_majority_for_whom_they_name_and_find_alive_and_not_for_longer_than_they_take_to_find_dead",
        ],
    ),
    guarded(
        "a sentinel that does not speak counts",
        &[edit(
            PANEL,
            "self.0.len() / 2 + 1",
            "self.0.iter().filter(|member| member.failure.is_none()).count() / 2 + 1",
        )],
        &[
            "backend: redis::sentinel::panel::tests::the_server_that_most_of_all_sentinels_name_is_the_primary_and_nobody_else",
        ],
    ),
    guarded(
        "a sentinel that finds the primary dead does not vouch for it",
        &[edit(PANEL, "!report.is_down && ", "")],
        &[
            "backend: redis::sentinel::panel::tests::sentinels_vouch_by_majority_for_whom_they_name_and_find_alive_and_not_for_longer_than_they_take_to_find_dead",
        ],
    ),
    guarded(
        "what sentinels have said grows old",
        &[edit(
            PANEL,
            "mark.saturating_duration_since(*asked) <= report.down_after",
            "mark.saturating_duration_since(*asked) <= report.down_after * 1000",
        )],
        &[
            "backend: redis::sentinel::panel::tests::sentinels_vouch_by_majority_for_whom_they_name_and_find_alive_and_not_for_longer_than_they_take_to_find_dead",
            "redis: sentinel::live::without_a_majority_that_vouches_no_lease_is_renewed_for_longer_than_sentinels_take_to_find_a_server_dead",
        ],
    ),
    guarded(
        "a lease needs sentinels that vouch",
        &[edit(
            AUTHORITY,
            "vouch.holds(mark).then_some(mark)",
            "Some(mark).filter(|mark| vouch.holds(*mark) || mark.elapsed() < Duration::MAX)",
        )],
        &[
            "redis: sentinel::live::without_a_majority_that_vouches_no_lease_is_renewed_for_longer_than_sentinels_take_to_find_a_server_dead",
        ],
    ),
    guarded(
        "another primary that is named ends the link",
        &[edit(SUPERVISOR, "        cause = vouch.withdrawn() => cause,\n", "")],
        &["redis: sentinel::live::a_majority_that_names_another_primary_ends_the_link_and_a_hint_makes_it_end_at_once"],
    ),
    guarded(
        "a report goes to the namespace that its key lies under",
        &[edit(
            LISTENERS,
            ".filter(|member| name.starts_with(member.prefix()))",
            ".filter(|member| !member.prefix().is_empty())",
        )],
        &[
            "backend: redis::listeners::tests::a_name_belongs_to_the_one_namespace_it_lies_under_whatever_others_there_are",
        ],
    ),
    guarded(
        "no two namespaces on a link overlap",
        &[edit(LISTENERS, "if namespace.overlaps(other) {", "if namespace == other && namespace.overlaps(other) {")],
        &["backend: redis::listeners::tests::a_namespace_that_another_cache_has_or_that_overlaps_one_is_refused"],
    ),
    guarded(
        "the caches on a link have one mode",
        &[edit(LISTENERS, "} else if !agrees {", "} else if !agrees && members.is_empty() {")],
        &[
            "backend: redis::listeners::tests::all_caches_on_a_link_that_are_reported_changes_have_one_mode_which_none_of_them_asked_against",
        ],
    ),
    guarded(
        "a cache that was given up as it joined is off the link",
        &[edit(LISTENERS, "            leave();\n", "            drop(leave);\n")],
        &["redis: sharing::live::an_attachment_that_is_given_up_leaves_the_link"],
    ),
    guarded(
        "a cache that leaves while it is tested costs the others no link",
        &[edit(
            SUPERVISOR,
            "Some(Verdict::Silent) | None if !member.is_up() => {}",
            "Some(Verdict::Silent) | None if false => {}",
        )],
        &["redis: sharing::live::a_cache_that_leaves_while_it_is_tested_costs_nobody_the_link"],
    ),
    guarded(
        "a server that has stopped reporting is a lost link",
        &[edit(
            SUPERVISOR,
            "                        return BackendError::new(BackendErrorKind::Unavailable, message);\n",
            "                        tracing::debug!(message);\n",
        )],
        &["redis: sharing::live::a_link_on_which_reports_cease_to_come_is_given_up_though_it_answers"],
    ),
];
