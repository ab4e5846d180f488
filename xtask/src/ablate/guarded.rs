//! Rules that are taken out with the tests that guard them: promises of the facade and of the link to Redis of which
//! the nets over the protocol tell nothing, or not all.

use super::rules::{Edit, Rule, edit};

/// A rule, and the tests each of which fails without it: those without a suite before their names are guarantees.
pub(super) struct Guarded {
    pub(super) rule: Rule,
    pub(super) tests: &'static [&'static str],
}

const AUDIT: &str = "crates/twotier/src/audit.rs";
const WRITE_QUEUE: &str = "crates/twotier/src/remote/write.rs";
const STORE: &str = "crates/twotier/src/load/store.rs";
const LOAD: &str = "crates/twotier/src/load.rs";
const LOAD_MANY: &str = "crates/twotier/src/load/many.rs";
const LOAD_STACK: &str = "crates/twotier/src/load/stack.rs";
const READ: &str = "crates/twotier/src/read.rs";
const ADMISSION: &str = "crates/twotier/src/remote/admission.rs";
const REMOTE_READ: &str = "crates/twotier/src/remote/read.rs";
const GATHER: &str = "crates/twotier/src/remote/gather.rs";
const CALL: &str = "crates/twotier/src/remote/call.rs";
const DEADLINES: &str = "crates/twotier/src/remote/deadlines.rs";
const WRITE: &str = "crates/twotier/src/write.rs";
const REMOTE: &str = "crates/twotier/src/remote.rs";
const CODEC_GUARD: &str = "crates/twotier/src/codec/guard.rs";
const CODEC_GUARD_WRITING: &str = "crates/twotier/src/codec/guard/writing.rs";
const CODEC_FINGERPRINT: &str = "crates/twotier/src/codec/fingerprint.rs";
const UPDATE: &str = "crates/twotier/src/update.rs";
const TURNS: &str = "crates/twotier/src/turns.rs";
const SLIDING: &str = "crates/twotier/src/sliding.rs";
const BUILD: &str = "crates/twotier/src/builder/build.rs";
const STALE: &str = "crates/twotier/src/stale.rs";
const HEALTH: &str = "crates/twotier/src/health.rs";
const SHORT_TERM: &str = "crates/twotier/src/short_term.rs";
const SHORT_TERM_CREDENTIALS: &str = "crates/twotier/src/short_term/credentials.rs";
const SHORT_TERM_PLACE: &str = "crates/twotier/src/short_term/place.rs";
const SHORT_TERM_STASHED: &str = "crates/twotier/src/short_term/stashed.rs";
const ERROR: &str = "crates/twotier-core/src/error.rs";
const SHARD: &str = "crates/twotier-local/src/shard.rs";
const LOADS: &str = "crates/twotier-local/src/loads.rs";
const LINK: &str = "crates/twotier-local/src/link.rs";
const MEMORY_CLIENT: &str = "crates/twotier-backend/src/memory/cluster/client.rs";
const REDIS_LINK: &str = "crates/twotier-backend/src/redis/link.rs";
const REDIS_OPEN: &str = "crates/twotier-backend/src/redis/session/open.rs";
const REDIS_ADMISSION: &str = "crates/twotier-backend/src/redis/session/admission.rs";
const REDIS_PERMISSIONS: &str = "crates/twotier-backend/src/redis/session/permissions.rs";
const REDIS_FENCE: &str = "crates/twotier-backend/src/redis/session/fence.rs";
const REDIS_CONNECTION: &str = "crates/twotier-backend/src/redis/wire/connection.rs";
const REDIS_ERROR: &str = "crates/twotier-backend/src/redis/wire/error.rs";
const REDIS_BATCH: &str = "crates/twotier-backend/src/redis/command/batch.rs";
const REDIS_READ: &str = "crates/twotier-backend/src/redis/command/read.rs";
const REDIS_SIZES: &str = "crates/twotier-backend/src/redis/command/sizes.rs";
const REDIS_WRITE: &str = "crates/twotier-backend/src/redis/command/write.rs";

pub(super) const fn guarded(name: &'static str, edits: &'static [Edit], tests: &'static [&'static str]) -> Guarded {
    Guarded { rule: Rule { name, edits }, tests }
}

pub(super) const GUARDED: &[Guarded] = &[
    guarded(
        "an audit fails only where the same copy would still be served",
        &[edit(
            AUDIT,
            "let is_served = || self.local.served(key) == Some(*copy);",
            "let is_served = || copy.epoch > 0;",
        )],
        &[
            "auditing::what_takes_the_copy_within_the_bound_is_no_violation",
            "auditing::no_violation_is_ever_found_while_every_report_arrives",
        ],
    ),
    guarded(
        "an audit names a copy by when it was fetched and not by its bytes alone",
        &[edit(
            AUDIT,
            "let is_served = || self.local.served(key) == Some(*copy);",
            "let is_served = || self.local.served(key).is_some_and(|now| now.digest == copy.digest);",
        )],
        &["auditing::a_copy_that_was_written_back_meanwhile_is_another_one"],
    ),
    guarded(
        "an audit fails no sooner than the bound after the answer",
        &[edit(
            AUDIT,
            "now >= first.answered.saturating_add(bound)",
            "now >= first.answered.min(now.saturating_add(bound))",
        )],
        &["auditing::a_lost_report_is_one_violation_that_is_counted_and_announced_and_the_copy_goes"],
    ),
    guarded(
        "a key that is gone is no failed audit",
        &[edit(AUDIT, "        Digest::ABSENT => Finding::Unknown,\n", "")],
        &["auditing::a_key_that_is_gone_may_have_expired_and_is_no_violation"],
    ),
    guarded(
        "a copy that failed an audit is removed",
        &[edit(AUDIT, "        let _held = self.local.invalidate(key);\n", "")],
        &["auditing::a_lost_report_is_one_violation_that_is_counted_and_announced_and_the_copy_goes"],
    ),
    guarded(
        "an auditor ends with its cache",
        &[edit(AUDIT, "        self.task.abort();\n", "")],
        &["auditing::an_auditor_ends_with_its_cache"],
    ),
    guarded(
        "audits are no more than was asked for",
        &[edit(AUDIT, "sleep(self.pause.mul_f64(0.5 + fastrand::f64())).await;", "sleep(self.pause / 2).await;")],
        &["auditing::no_more_is_read_than_was_asked_for_however_many_hits_there_are"],
    ),
    guarded(
        "nothing is audited where changes are not reported",
        &[edit(
            AUDIT,
            "let Some(bound) = remote.settings.staleness_bound() else { continue };",
            "let bound = remote.settings.max_staleness;",
        )],
        &["auditing::by_default_nothing_is_audited_nor_where_changes_are_not_reported"],
    ),
    guarded(
        "a copy that differed is read once more before the audit fails",
        &[edit(AUDIT, " || self.read_again(&due.sample).await != Finding::Differs", "")],
        &["auditing::a_backend_whose_reads_lag_behind_is_no_violation"],
    ),
    guarded(
        "a loaded value is stored only where the load saw nothing",
        &[edit(STORE, "condition: WriteCondition::Absent });", "condition: WriteCondition::Always });")],
        &["loads_and_writes::a_foreign_write_while_the_loader_runs_stays_in_every_mode"],
    ),
    guarded(
        "the last look at a load is taken as its store is sent",
        &[edit(SHARD, "if !is_up(epoch) || !self.loads.is_live(ticket, epoch) {", "if !is_up(epoch) {")],
        &[
            "loads_and_writes::an_own_write_or_delete_while_the_loader_runs_stays_in_every_mode",
            "loads_and_writes::a_foreign_change_that_nobody_reports_because_the_link_is_cut_stays",
            "loads_and_writes::a_reported_delete_while_the_loader_runs_is_not_undone",
            "loads_and_writes::an_own_write_or_delete_that_completes_while_a_loaded_value_is_encoded_stays",
            "loads_and_writes::a_change_while_the_store_waits_for_its_turn_stays",
        ],
    ),
    guarded(
        "a store is registered no earlier than it is sent",
        &[
            edit(
                STORE,
                "        let remote = Arc::clone(&self.remote);\n        let cost",
                "        let early: Vec<_> = storing.iter().map(|one| one.loaded.begin_store(one.prepared.digest())).collect();\n        let mut early = early.into_iter();\n        let remote = Arc::clone(&self.remote);\n        let cost",
            ),
            edit(
                STORE,
                "let Storing { key, loaded, prepared, condition } = &storing;\n                match loaded.begin_store(prepared.digest()) {",
                "let Storing { key, prepared, condition, .. } = &storing;\n                match early.next().flatten() {",
            ),
        ],
        &["loads_and_writes::a_change_while_the_store_waits_for_its_turn_stays"],
    ),
    guarded(
        "an own write kills the load",
        &[
            edit(
                SHARD,
                "        let _dead = self.loads.kill(hash, key);\n        self.register",
                "        self.register",
            ),
            edit(LOADS, "_ => _ = self.kill(write.hash, write.key),", "_ => {}"),
        ],
        &[
            "loads_and_writes::an_own_write_or_delete_while_the_loader_runs_stays_in_every_mode",
            "loads_and_writes::an_own_write_or_delete_that_completes_while_a_loaded_value_is_encoded_stays",
        ],
    ),
    guarded(
        "a read that found something else kills the load of its key",
        &[edit(
            SHARD,
            "let overtaken = self.loads.see(ticket.hash, ticket.key, digest);\n        (self",
            "let overtaken = None;\n        (self",
        )],
        &["loads_and_writes::whoever_asks_after_something_newer_was_returned_does_not_join_an_older_load"],
    ),
    guarded(
        "writes are sent by one at a time",
        &[edit(
            WRITE_QUEUE,
            "let free = !std::mem::replace(&mut state.sending, true);",
            "let free = !std::mem::replace(&mut state.sending, true) || state.waiting.is_empty();",
        )],
        &["loads_and_writes::a_delete_is_never_sent_between_the_last_look_at_a_load_and_its_store"],
    ),
    guarded(
        "a loaded value that is not stored is counted",
        &[edit(
            STORE,
            "Ok(None) => self.keep_loaded(operation, key, loaded),\n                Err(error) => self.remote.not_stored(&error, true),",
            "Ok(None) => self.keep_loaded(operation, key, loaded),\n                Err(error) => drop(error),",
        )],
        &["loads_and_writes::a_loaded_value_that_cannot_be_stored_is_returned_and_counted"],
    ),
    guarded(
        "a loader that asks for its own key is an error",
        &[edit(LOAD_STACK, "if running.cache == cache && keys", "if running.cache != running.cache && keys")],
        &["loads_end::a_loader_that_asks_for_its_own_key_fails_at_once_for_all_who_wait"],
    ),
    guarded(
        "so is one that asks for it through the loader of another key",
        &[edit(LOAD_STACK, "frame = running.outer.as_ref();", "frame = None;")],
        &["loads_end::a_loader_that_asks_for_its_own_key_fails_at_once_for_all_who_wait"],
    ),
    guarded(
        "a loader may ask another cache for its key",
        &[edit(LOAD_STACK, "if running.cache == cache && keys", "if keys")],
        &["loads_end::a_loader_may_ask_for_other_keys_and_for_its_own_in_another_cache"],
    ),
    guarded(
        "a loader may ask for another key",
        &[edit(LOAD_STACK, "&& keys.iter().any(|key| running.keys.contains(key))", "")],
        &["loads_end::a_loader_may_ask_for_other_keys_and_for_its_own_in_another_cache"],
    ),
    guarded(
        "a load is waited for no longer than configured",
        &[edit(
            LOAD,
            "self.remote.runtime.timeout(patience, joiner.wait())",
            "self.remote.runtime.timeout(patience * 1000, joiner.wait())",
        )],
        &[
            "loads_end::a_leader_that_is_kept_and_not_polled_is_waited_for_once_and_then_replaced_by_one",
            "loads_end::loaders_that_wait_for_each_other_s_keys_end",
        ],
    ),
    guarded(
        "a load that was waited for long enough is not joined again",
        &[edit(LOAD, "self.local.load_again(key, &joiner)", "self.local.load(key)")],
        &[
            "loads_end::a_leader_that_is_kept_and_not_polled_is_waited_for_once_and_then_replaced_by_one",
            "loads_end::loaders_that_wait_for_each_other_s_keys_end",
        ],
    ),
    guarded(
        "a batch waits for a load no longer than configured",
        &[edit(
            LOAD_MANY,
            "self.remote.runtime.timeout(self.remote.settings.load_wait, std",
            "self.remote.runtime.timeout(self.remote.settings.load_wait * 1000, std",
        )],
        &["loads_end::a_leader_that_is_kept_and_not_polled_is_waited_for_once_and_then_replaced_by_one"],
    ),
    guarded(
        "a batch does not join again what it waited for long enough",
        &[edit(LOAD_MANY, "self.local.load_again(key, &joiner)", "self.local.load(key)")],
        &["loads_end::a_leader_that_is_kept_and_not_polled_is_waited_for_once_and_then_replaced_by_one"],
    ),
    guarded(
        "a loader has a deadline",
        &[edit(
            LOAD,
            "let ended = self.remote.runtime.timeout(after, loading.run(loader)).await",
            "let ended = self.remote.runtime.timeout(after * 1000, loading.run(loader)).await",
        )],
        &["loads_end::a_loader_that_never_ends_is_dropped_at_its_deadline"],
    ),
    guarded(
        "deadlines are on the runtime of the cache",
        &[edit(
            DEADLINES,
            "drop(self.runtime.spawn(measure(Arc::clone(shared))))",
            "drop(tokio::spawn(measure(Arc::clone(shared))))",
        )],
        &["outside_a_runtime::every_method_works_when_it_is_polled_outside_any_runtime"],
    ),
    guarded(
        "a write leaves the queue at its deadline",
        &[edit(
            WRITE_QUEUE,
            "match timeout_at(deadline, admitted.as_mut()).await {",
            "match timeout_at(deadline + std::time::Duration::from_secs(3600), admitted.as_mut()).await {",
        )],
        &[
            "unsent_writes::what_is_not_sent_by_its_deadline_never_is_and_its_error_says_so",
            "unsent_writes::a_write_that_waits_and_is_never_polled_again_is_sent_in_its_turn_and_holds_nobody_up",
        ],
    ),
    guarded(
        "a write that was given up is never sent",
        &[edit(
            WRITE_QUEUE,
            "if !send_state.decide(if permit.is_ok() { SENT } else { GIVEN_UP }) && permit.is_ok() {",
            "if !send_state.decide(if permit.is_ok() { SENT } else { GIVEN_UP }) && permit.is_err() {",
        )],
        &[
            "unsent_writes::a_write_that_is_dropped_before_it_was_sent_never_is",
            "unsent_writes::an_update_that_cannot_be_sent_changes_nothing_and_says_so",
        ],
    ),
    guarded(
        "a write whose caller goes away is given up",
        &[edit(
            WRITE_QUEUE,
            "    fn drop(&mut self) {\n        let _sent = self.give_up();",
            "    fn drop(&mut self) {",
        )],
        &["unsent_writes::a_write_that_is_dropped_before_it_was_sent_never_is"],
    ),
    guarded(
        "a write that was given up says that it was not sent",
        &[edit(
            WRITE_QUEUE,
            "!self.send_state.decide(GIVEN_UP) && self.was_sent()",
            "!self.send_state.decide(GIVEN_UP) || !self.was_sent()",
        )],
        &[
            "unsent_writes::what_is_not_sent_by_its_deadline_never_is_and_its_error_says_so",
            "unsent_writes::a_write_that_waits_for_its_turn_past_its_deadline_is_not_sent",
        ],
    ),
    guarded(
        "what has to wait stands behind what waits already",
        &[edit(
            WRITE_QUEUE,
            "return self.queue(terms, send_state, start, VecDeque::push_back) };",
            "return self.queue(terms, send_state, start, VecDeque::push_front) };",
        )],
        &["unsent_writes::writes_of_every_kind_reach_the_backend_in_the_order_of_the_calls"],
    ),
    guarded(
        "an update counts as sent no earlier than it is",
        &[edit(
            UPDATE,
            "            let sending = Arc::clone(sent);\n",
            "            let sending = Arc::clone(sent);\n            sent.store(true, Ordering::Release);\n",
        )],
        &["unsent_writes::an_update_that_cannot_be_sent_changes_nothing_and_says_so"],
    ),
    guarded(
        "a write for which the backend is not ready was not sent",
        &[edit(
            WRITE_QUEUE,
            "Some(ready.map(|()| permit).map_err(|source| self.backend_failed(operation, source.not_sent())))",
            "Some(ready.map(|()| permit).map_err(|source| self.backend_failed(operation, source)))",
        )],
        &["unsent_writes::a_write_for_which_the_backend_is_not_ready_was_not_sent_whatever_its_error_says"],
    ),
    guarded(
        "nor was one for which it turns out not to be",
        &[edit(
            WRITE_QUEUE,
            "Ok(Err(source)) => return Err(self.backend_failed(operation, source.not_sent())),",
            "Ok(Err(source)) => return Err(self.backend_failed(operation, source)),",
        )],
        &["unsent_writes::a_write_for_which_the_backend_is_not_ready_was_not_sent_whatever_its_error_says"],
    ),
    guarded(
        "a write in its turn waits until the backend is ready",
        &[edit(WRITE_QUEUE, "self.backend.ready().await.map(|()| permit)", "Ok::<_, BackendError>(permit)")],
        &["unsent_writes::writes_of_every_kind_reach_the_backend_in_the_order_of_the_calls"],
    ),
    guarded(
        "a write that waits when the runtime ends was not sent",
        &[edit(WRITE_QUEUE, "let source = if write.was_sent() { source } else { source.not_sent() };", "")],
        &["unsent_writes::a_write_that_waits_when_the_runtime_ends_was_not_sent_and_of_one_under_way_nobody_knows"],
    ),
    guarded(
        "a refusal was not executed",
        &[edit(ERROR, "        self.executed\n", "        true\n")],
        &["unsent_writes::a_refusal_was_not_executed_and_of_a_lost_link_nobody_knows"],
    ),
    guarded(
        "the permit of a read goes back with its answer",
        &[
            edit(ADMISSION, "    remote: Option<Arc<Remote<V>>>,", "    pub(crate) remote: Option<Arc<Remote<V>>>,"),
            edit(
                REMOTE_READ,
                "let Some(permit) = self.permit.take() else { return };\n        let remote = permit.give_back();",
                "let Some(remote) = self.permit.as_ref().and_then(|permit| permit.remote.clone()) else { return };",
            ),
        ],
        &[
            "slow_consumers::a_slow_consumer_of_many_reads_slows_nobody_else_down",
            "slow_consumers::calls_that_are_polled_once_and_then_kept_give_their_permits_back",
        ],
    ),
    guarded(
        "the permit of a batch goes back with its last answer",
        &[
            edit(
                REMOTE_READ,
                "        let failed = OnceLock::new();\n",
                "        let failed = OnceLock::new();\n        let permit = Arc::new(permit);\n",
            ),
            edit(
                REMOTE_READ,
                "let remote = Arc::clone(self);\n                ticket.arrived(move |ticket| remote.finish(operation, ticket, answer));",
                "let (remote, held) = (Arc::clone(self), Arc::clone(&permit));\n                ticket.arrived(move |ticket| {\n                    drop(held);\n                    remote.finish(operation, ticket, answer);\n                });",
            ),
            edit(REMOTE_READ, "        drop(permit);\n        let nothing_moved", "        let nothing_moved"),
        ],
        &["slow_consumers::calls_that_are_polled_once_and_then_kept_give_their_permits_back"],
    ),
    guarded(
        "an answer of a batch gives its own permit back",
        &[edit(
            GATHER,
            "                permit.iter_mut().for_each(Permit::give_back_one);\n",
            "                let _ = &permit;\n",
        )],
        &["gathering::a_late_answer_holds_up_none_of_those_that_were_gathered_with_it_and_keeps_only_its_own_room"],
    ),
    guarded(
        "whoever waits for a gathered read is woken as its time is over",
        &[edit(GATHER, "waiting.into_iter().for_each(Waker::wake);", "drop(waiting);")],
        &["gathering::whoever_waits_for_a_gathered_read_has_a_deadline_of_their_own"],
    ),
    guarded(
        "what nobody waits for any more is not read once there is room",
        &[edit(
            GATHER,
            ".partition(|read| read.as_ref().is_some_and(Gathered::is_wanted));",
            ".partition(Option::is_some);",
        )],
        &["gathering::what_nobody_waits_for_any_more_is_not_read_once_there_is_room"],
    ),
    guarded(
        "reads are gathered only where that is of use",
        &[edit(GATHER, "*is_of_use && (", "(*is_of_use || true) && (")],
        &["gathering::a_backend_that_reads_one_key_at_a_time_is_never_asked_for_many"],
    ),
    guarded(
        "a gathered answer tells of its own link",
        &[edit(GATHER, "silent.note(&self.breakers, read.link(),", "silent.note(&self.breakers, LinkId::ONLY,")],
        &["gathering::a_link_that_does_not_answer_opens_its_own_breaker_however_its_keys_were_gathered"],
    ),
    guarded(
        "a key of which a batch says nothing is an error",
        &[edit(
            GATHER,
            "        reads.into_iter().flatten().for_each(|read| read.answer(self, Err(unanswered())));\n",
            "        let _ = unanswered;\n        drop(reads);\n",
        )],
        &["gathering::a_key_of_which_a_batch_says_nothing_is_an_error_of_its_own"],
    ),
    guarded(
        "of what was gathered no more waits than may",
        &[edit(
            ADMISSION,
            "        waiting.leave(calls - self.max_waiting.saturating_sub(before).min(calls));\n",
            "        waiting.leave(before.min(0));\n",
        )],
        &["gathering::gathered_reads_wait_for_room_and_those_beyond_what_may_wait_are_refused"],
    ),
    guarded(
        "a batch that has half of what is under way is sent",
        &[edit(GATHER, "        if count >= half {", "        if count >= half.max(BATCH) {")],
        &["gathering::live::the_server_works_on_one_half_of_the_reads_while_the_other_is_put_together"],
    ),
    guarded(
        "a batch that was never sent ends with its runtime",
        &[edit(
            GATHER,
            "let (batch, ended) = (self.remote.close(self.number), self.remote.ended());",
            "let (batch, ended) = (None::<Batch<V>>, self.remote.ended());",
        )],
        &["gathering::reads_that_were_gathered_and_never_sent_end_with_the_runtime_of_the_cache"],
    ),
    guarded(
        "what a user may not run is not tried for every batch",
        &[edit(REDIS_READ, "if !connections.reads_with_mget()", "if connections.are_in_slots()")],
        &["gathering::live::a_user_who_may_not_run_mget_reads_all_the_same_in_few_round_trips"],
    ),
    guarded(
        "a write that was sent goes on without its caller",
        &[
            edit(
                WRITE_QUEUE,
                "#[derive(Debug, Default)]\nstruct SendState(AtomicU8);",
                "#[derive(Default)]\nstruct SendState(AtomicU8, Mutex<Option<Rest>>);",
            ),
            edit(
                WRITE_QUEUE,
                "            self.runtime.spawn(rest);\n",
                "            *send_state.1.lock() = Some(rest);\n",
            ),
            edit(
                WRITE_QUEUE,
                "        match self.runtime.timeout(self.settings.op_timeout, &mut write.outcome).await {",
                "        let send_state = Arc::clone(&write.send_state);\n        let polled = std::future::poll_fn(|context| {\n            let rest = send_state.1.lock().take();\n            if let Some(mut rest) = rest {\n                if rest.as_mut().poll(context).is_pending() {\n                    *send_state.1.lock() = Some(rest);\n                }\n            }\n            Pin::new(&mut write.outcome).poll(context)\n        });\n        match self.runtime.timeout(self.settings.op_timeout, polled).await {",
            ),
        ],
        &["slow_consumers::calls_that_are_polled_once_and_then_kept_give_their_permits_back"],
    ),
    guarded(
        "a batch goes on as long as anything moves",
        &[edit(
            CALL,
            "            if now == before {\n                return None;",
            "            if now.0 >= before.0 {\n                return None;",
        )],
        &["progress::a_batch_takes_as_long_as_its_answers_keep_coming"],
    ),
    guarded(
        "a batch for which nothing moves ends",
        &[edit(
            CALL,
            "            if now == before {\n                return None;",
            "            if now.0 < before.0 {\n                return None;",
        )],
        &["progress::a_batch_that_stalls_ends_one_timeout_later_and_keeps_what_has_come"],
    ),
    guarded(
        "what has come by then is kept",
        &[edit(
            READ,
            "                                Poll::Ready(joined) => Some(joined),",
            "                                Poll::Ready(_) => None,",
        )],
        &["progress::a_batch_that_stalls_ends_one_timeout_later_and_keeps_what_has_come"],
    ),
    guarded(
        "nothing is asked for after a part that stalled",
        &[edit(
            READ,
            "                            stopped.get_or_insert_with(|| error.clone());",
            "                            let _ = error;",
        )],
        &["progress::a_batch_of_reads_that_stalls_asks_for_no_more"],
    ),
    guarded(
        "nothing is sent after a part that stalled",
        &[edit(
            WRITE,
            "                        stopped = Some(error);\n                        break;",
            "                        stopped = Some(error);",
        )],
        &["progress::a_batch_of_writes_that_stalls_says_what_was_sent_and_sends_no_more"],
    ),
    guarded(
        "a part that was sent says so",
        &[edit(WRITE, "let sent = part.was_sent();", "let sent = !part.was_sent();")],
        &["progress::a_batch_of_writes_that_stalls_says_what_was_sent_and_sends_no_more"],
    ),
    guarded(
        "a part that was not sent says so",
        &[edit(
            WRITE,
            "results.resize_with(items, || Err(not_sent.clone().unwrap_or_else(|| self.remote.timed_out(operation, false))));",
            "let _ = not_sent;\n        results.resize_with(items, || Err(self.remote.timed_out(operation, true)));",
        )],
        &["progress::a_batch_of_writes_that_stalls_says_what_was_sent_and_sends_no_more"],
    ),
    guarded(
        "a link that is being made lives as long as it gives signs",
        &[edit(REDIS_OPEN, "timeout(silence * ATTEMPT, progress", "timeout(silence, progress")],
        &[
            "far_away::live::a_link_that_takes_longer_to_make_than_one_silence_may_last_is_made_as_long_as_it_gives_signs",
        ],
    ),
    guarded(
        "a round trip of 300 ms is no silence",
        &[edit(REDIS_OPEN, "progress.while_alive(silence, attempt)", "progress.while_alive(silence / 4, attempt)")],
        &["far_away::live::a_link_over_300_ms_is_made_with_every_default_and_comes_back_after_a_cut"],
    ),
    guarded(
        "a staleness bound that is too small is reported",
        &[edit(HEALTH, "broadcast && needed(*round_trip) >= bound);", "broadcast && needed(*round_trip) == bound);")],
        &["far_away::live::a_staleness_bound_that_two_round_trips_use_up_is_said"],
    ),
    guarded(
        "the parts of a batch go together",
        &[edit(
            REDIS_BATCH,
            "        while next < keys.len() {\n",
            "        while next < keys.len() && under_way.keys == 0 {\n",
        )],
        &["far_away::live::a_batch_of_512_large_values_takes_a_handful_of_round_trips"],
    ),
    guarded(
        "one large value changes little of what is expected of others",
        &[edit(
            REDIS_SIZES,
            "(bytes / keys.max(1)).clamp(before / 2, before.saturating_mul(2)).max(1)",
            "(bytes / keys.max(1)).max(before * 0).max(1)",
        )],
        &["far_away::live::after_a_large_value_a_batch_of_small_ones_is_one_round_trip_again"],
    ),
    guarded(
        "large writes go over the connection for data",
        &[edit(REDIS_WRITE, "const LARGE: usize = 256 * 1024;", "const LARGE: usize = usize::MAX;")],
        &["far_away::live::a_large_value_over_a_narrow_link_is_written_and_read_while_hits_go_on"],
    ),
    guarded(
        "a refused sign of life is one",
        &[edit(REDIS_CONNECTION, "                _busy => Ok(()),", "                busy => Err(busy),")],
        &[
            "refusals::live::with_a_full_disk_on_the_server_reads_hits_and_loads_go_on_and_writes_say_why",
            "refusals::live::a_slow_script_of_somebody_else_costs_no_link_no_copy_and_no_mode",
        ],
    ),
    guarded(
        "a server without room makes links",
        &[edit(
            REDIS_PERMISSIONS,
            "const NO_ROOM: [&str; 3] = [\"MISCONF\", \"OOM\", \"NOREPLICAS\"];",
            "const NO_ROOM: [&str; 0] = [];",
        )],
        &["refusals::live::with_a_full_disk_on_the_server_reads_hits_and_loads_go_on_and_writes_say_why"],
    ),
    guarded(
        "a load runs whatever the server refuses",
        &[edit(
            LOAD,
            "matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Rejected)",
            "matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)",
        )],
        &["refusals::live::whatever_the_server_refuses_a_load_runs_its_loader"],
    ),
    guarded(
        "a load runs without a link",
        &[edit(
            LOAD,
            "matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Rejected)",
            "matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Rejected)",
        )],
        &[
            "refusals::live::a_rotated_password_is_a_link_that_is_down_for_that_cause_and_loads_go_on",
            "refusals::live::a_cache_whose_runtime_has_ended_says_so",
        ],
    ),
    guarded(
        "a link that is down has its cause",
        &[edit(REDIS_LINK, "\"the link is down\").with_source(cause)", "\"the link is down\")")],
        &["refusals::live::a_rotated_password_is_a_link_that_is_down_for_that_cause_and_loads_go_on"],
    ),
    guarded(
        "the words of a refusal that may quote are cut",
        &[edit(REDIS_ERROR, "detail.filter(|_| EXPLAINED.contains(&code.as_str()))", "detail")],
        &["refusals::live::a_refusal_names_our_command_and_quotes_no_argument"],
    ),
    guarded(
        "a link that ends with its runtime says so",
        &[edit(REDIS_LINK, "                let _gone = gone;\n", "                std::mem::forget(gone);\n")],
        &[
            "refusals::live::a_cache_whose_runtime_has_ended_says_so",
            "refusals::live::a_runtime_without_timers_or_io_is_an_error_at_once",
        ],
    ),
    guarded(
        "a link that is down is a reason",
        &[
            edit(
                HEALTH,
                "LinkState::Down { cause, .. } => vec![Reason::LinkDown(cause.clone())],",
                "LinkState::Down { .. } => Vec::new(),",
            ),
            edit(
                HEALTH,
                "            LinkState::Connecting => vec![Reason::Connecting],\n",
                "            LinkState::Connecting => Vec::new(),\n",
            ),
        ],
        &["health::a_link_that_is_cut_is_down_and_ready_again_when_it_is_restored"],
    ),
    guarded(
        "a lease that lapsed is a reason",
        &[edit(
            HEALTH,
            "(broadcast && copies && !serving).then_some",
            "(broadcast && copies && !serving && bound.is_zero()).then_some",
        )],
        &["health::a_lease_that_lapsed_is_degraded_and_its_copies_are_not_served"],
    ),
    guarded(
        "a weaker mode is a reason",
        &[edit(HEALTH, "coherence.filter(|_| !broadcast && ", "coherence.filter(|_| closed && ")],
        &["health::a_weaker_mode_is_degraded_unless_it_was_asked_for"],
    ),
    guarded(
        "but not where it was asked for",
        &[edit(HEALTH, "!broadcast && coherence != coherence_asked)", "!broadcast)")],
        &["health::a_weaker_mode_is_degraded_unless_it_was_asked_for"],
    ),
    guarded(
        "of several links the reasons say which is meant",
        &[edit(HEALTH, "if link == LinkId::ONLY { self }", "if link.number() < u16::MAX { self }")],
        &["topology::the_loss_of_one_primary_touches_its_copies_and_no_others"],
    ),
    guarded(
        "the flush of one link touches no other",
        &[edit(
            LINK,
            "        if let Some(state) = self.reported(link) {\n            self.outdate(state, true, &mut changes);\n        }",
            "        let _one = link;\n        self.each().for_each(|state| self.outdate(state, true, &mut changes));",
        )],
        &["topology::the_flush_of_one_primary_outdates_its_copies_and_no_others"],
    ),
    guarded(
        "the backend says over which link a key lies",
        &[edit(
            BUILD,
            "Some(backend) => backend.route(&namespace.qualify(key)),",
            "Some(backend) if backend.links().is_empty() => backend.route(&namespace.qualify(key)),\n        Some(_) => LinkId::new(1),",
        )],
        &[
            "topology::the_loss_of_one_primary_touches_its_copies_and_no_others",
            "topology::of_a_slot_that_lost_its_keys_without_a_report_no_copy_outlives_the_next_round",
        ],
    ),
    guarded(
        "what a redirection brings is not kept",
        &[edit(MEMORY_CLIENT, "keys.iter().for_each(|key| listener.changed(key));", "let _kept = (keys, listener);")],
        &[
            "topology::a_primary_that_was_replaced_and_comes_back_redirects",
            "topology::a_slot_that_migrates_has_its_keys_reported_and_keeps_them",
        ],
    ),
    guarded(
        "who lost or gained slots has a new epoch",
        &[edit(MEMORY_CLIENT, "None => watch.iter().for_each(|watch| watch.listener.flushed(link)),", "None => {}")],
        &[
            "topology::of_a_slot_that_lost_its_keys_without_a_report_no_copy_outlives_the_next_round",
            "topology::through_any_moves_and_promotions_every_copy_under_a_renewed_lease_is_what_the_cluster_holds",
        ],
    ),
    guarded(
        "a majority vouches for a lease",
        &[edit(
            MEMORY_CLIENT,
            "if !trusts_anyone && answers.len() * 2 <= asked.len() {",
            "if !trusts_anyone && answers.is_empty() {",
        )],
        &[
            "topology::a_minority_promotes_nobody_and_a_primary_that_comes_back_is_as_before",
            "topology::beside_a_primary_that_is_cut_off_no_copy_is_served_for_longer_than_the_bound",
        ],
    ),
    guarded(
        "a map is of the epoch of its latest change",
        &[edit(
            MEMORY_CLIENT,
            "(Arc::clone(&state.map), state.map.epoch, state",
            "(Arc::clone(&state.map), topology.epoch.max(state.map.epoch), state",
        )],
        &["topology::while_an_election_is_not_over_nothing_is_renewed"],
    ),
    guarded(
        "a closed cache is a reason",
        &[edit(HEALTH, "        if closed {\n            reasons.push(Reason::Closed);\n", "        if closed {\n")],
        &["health::a_closed_cache_is_down"],
    ),
    guarded(
        "a link that is not fenced is a reason",
        &[edit(HEALTH, "(!fenced).then_some", "(!fenced && bound.is_zero()).then_some")],
        &["health::live::a_user_who_may_not_end_its_former_connections_is_degraded_once_there_are_some"],
    ),
    guarded(
        "a refusal to end connections is noted",
        &[edit(
            REDIS_ADMISSION,
            "                refused = Some(cause);\n",
            "                refused = Some(cause).filter(|_| false);\n",
        )],
        &["health::live::a_user_who_may_not_end_its_former_connections_is_degraded_once_there_are_some"],
    ),
    guarded(
        "a server that cannot be identified is not fenced",
        &[edit(
            REDIS_FENCE,
            "|earlier: &Earlier| earlier.run_id.is_some() && run_id.is_some() && earlier.run_id.as_deref() != run_id;",
            "|earlier: &Earlier| earlier.run_id.is_none() || run_id.is_none() || earlier.run_id.as_deref() != run_id;",
        )],
        &["health::live::a_user_who_may_not_end_its_former_connections_is_degraded_once_there_are_some"],
    ),
    guarded(
        "the first link has nothing to end",
        &[edit(
            REDIS_FENCE,
            "self.0.lock().iter().all(other)",
            "Some(self.0.lock()).is_some_and(|earlier| !earlier.is_empty() && earlier.iter().all(other))",
        )],
        &[
            "health::live::a_user_who_may_not_end_its_former_connections_is_degraded_once_there_are_some",
            "health::live::a_user_who_may_end_its_former_connections_is_ready_after_each_lost_link",
        ],
    ),
    guarded(
        "connections that were ended are forgotten",
        &[edit(REDIS_ADMISSION, "        None => fences.ended(&ids, run_id),", "        None => {}")],
        &[
            "health::live::a_user_who_may_end_its_former_connections_is_ready_after_each_lost_link",
            "health::live::a_user_who_is_allowed_to_end_its_former_connections_is_ready_after_the_next_lost_link",
        ],
    ),
    guarded(
        "bytes that read as an absent key are replaced only if the load saw them",
        &[edit(
            STORE,
            "Ok(Some(held)) if storing.loaded.saw(self.remote.digest(&storing.key, &held.value)) => {",
            "Ok(Some(held)) => {",
        )],
        &["undecodable::what_came_in_their_place_while_the_loader_ran_stays_in_every_mode"],
    ),
    guarded(
        "bytes that do not decode are replaced where they are a miss",
        &[edit(REMOTE, "Err(_undecodable) => self.undecodable_is_absent(),", "Err(_undecodable) => false,")],
        &["undecodable::as_a_miss_loads_and_batches_replace_them_once"],
    ),
    guarded(
        "writes are verified where that is set",
        &[edit(REMOTE, "if self.settings.verify_writes {", "if self.settings.verify_writes && ttl.is_some() {")],
        &[
            "read_back::writes_are_verified_before_anything_is_changed_where_that_is_set",
            "read_back::a_codec_of_the_user_s_own_is_verified_by_decoding",
        ],
    ),
    guarded(
        "verification compares what was written with what is read",
        &[edit(
            CODEC_FINGERPRINT,
            "(Ok(written), Ok(read)) if written == read => Ok(()),",
            "(Ok(_), Ok(_)) => Ok(()),",
        )],
        &["read_back::what_reads_back_as_something_else_or_not_at_all_is_refused_with_a_reason"],
    ),
    guarded(
        "a float that JSON has no word for is refused",
        &[edit(CODEC_GUARD_WRITING, "if self.guard.finite && !finite {", "if self.guard.finite && !finite && false {")],
        &["read_back::a_float_that_json_has_no_word_for_is_refused_and_nothing_is_changed"],
    ),
    guarded(
        "no more levels are written than are read",
        &[edit(CODEC_GUARD, "const MOST_LEVELS: u8 = 127;", "const MOST_LEVELS: u8 = 200;")],
        &["nesting::what_is_too_deep_to_be_read_is_refused_as_it_is_written"],
    ),
    guarded(
        "who may not write is refused",
        &[edit(SHORT_TERM_CREDENTIALS, "if self.tier < needed {", "if self.tier < needed && false {")],
        &[
            "short_term::in_memory::an_observer_changes_nothing_and_no_command_is_sent",
            "short_term::in_memory::only_a_steward_clears_the_memory_of_another_agent",
            "short_term::the_blocking_memory_holds_the_same_in_memory",
        ],
    ),
    guarded(
        "a batch is refused to an observer as a single write is",
        &[edit(
            SHORT_TERM,
            "        self.permit(operation, AccessTier::Contributor, credentials)?;\n        let mut stashed",
            "        let mut stashed",
        )],
        &["short_term::in_memory::an_observer_changes_nothing_and_no_command_is_sent"],
    ),
    guarded(
        "forgetting takes the right to write",
        &[edit(SHORT_TERM, "self.permit(Operation::Delete, AccessTier::Contributor, credentials)?;", "")],
        &["short_term::in_memory::an_observer_changes_nothing_and_no_command_is_sent"],
    ),
    guarded(
        "clearing another agent takes a steward",
        &[edit(
            SHORT_TERM,
            "if own { AccessTier::Contributor } else { AccessTier::Steward }",
            "{ _ = own; AccessTier::Contributor }",
        )],
        &["short_term::in_memory::only_a_steward_clears_the_memory_of_another_agent"],
    ),
    guarded(
        "an agent id is escaped in a stored key",
        &[
            edit(
                SHORT_TERM_PLACE,
                "beginning(self.agent_id).write(text);",
                "text.push_str(self.agent_id);\n        text.push_str(\":\");",
            ),
            edit(SHORT_TERM_PLACE, "    (agent_id, \"\")", "    format!(\"{agent_id}:\")"),
        ],
        &[
            "short_term::in_memory::clearing_one_agent_touches_no_other_and_reaches_every_instance",
            "short_term::in_memory::a_contributor_stashes_under_its_own_key_space",
            "short_term::no_two_agents_meet_in_memory",
        ],
    ),
    guarded(
        "what is cleared ends with the agent id's own separator",
        &[edit(
            SHORT_TERM,
            "self.cache.tiers().clear_under(&beginning).await",
            "self.cache.tiers().clear_under(beginning.trim_end_matches(':')).await",
        )],
        &[
            "short_term::in_memory::clearing_one_agent_touches_no_other_and_reaches_every_instance",
            "short_term::no_two_agents_meet_in_memory",
        ],
    ),
    guarded(
        "a pattern in an agent id is cleared as plain bytes",
        &[edit(REDIS_WRITE, "        if matches!(byte, b'*' |", "        if matches!(byte, b'!' |")],
        &[
            "short_term::live::clearing_one_agent_touches_no_other_and_reaches_every_instance",
            "short_term::live::no_two_agents_meet",
        ],
    ),
    guarded(
        "a clearing lets no read from before it become a copy",
        &[edit(
            WRITE,
            "        let (clearing, cleared) = local.begin_clear();\n        drop_aside(cleared);",
            "        let clearing = local.clone();",
        )],
        &["short_term::a_read_in_flight_cannot_bring_back_what_was_cleared_meanwhile"],
    ),
    guarded(
        "an empty key of an agent is refused",
        &[edit(SHORT_TERM, "if key.with_text(str::is_empty) {", "if key.with_text(str::is_empty) && false {")],
        &[
            "short_term::agents_and_keys_without_a_name_or_with_too_long_a_one_are_refused",
            "short_term::in_memory::a_batch_is_stashed_whole_or_not_at_all",
        ],
    ),
    guarded(
        "what was decoded once is kept beside the JSON",
        &[edit(SHORT_TERM_STASHED, "let _first = self.decoded.set(Arc::<T>::clone(&value));", "")],
        &["short_term::in_memory::a_repeated_retrieve_is_a_local_hit"],
    ),
    guarded(
        "each batch of an agent has the time to live that was asked for",
        &[edit(
            WRITE,
            "self.remote.prepare(operation, &key, value, options)?;",
            "{ _ = options; self.remote.prepare(operation, &key, value, SetOptions::default())? };",
        )],
        &["short_term::in_memory::a_stashed_value_lives_as_long_as_its_strategy_says"],
    ),
    guarded(
        "what a loader did not find is another version of the key than what the backend does not have",
        &[edit(
            LOAD,
            "self.local.serves(key, Digest::LOADED_ABSENT)",
            "(self.local.serves(key, Digest::LOADED_ABSENT) || self.local.serves(key, Digest::ABSENT))",
        )],
        &["absence::a_key_that_was_merely_read_as_absent_is_loaded_all_the_same"],
    ),
    guarded(
        "an absence is remembered by a live load only",
        &[edit(
            SHARD,
            "if new.is_some() && is_up(epoch) && self.loads.is_live(ticket, epoch) {",
            "if new.is_some() && is_up(epoch) {",
        )],
        &["absence::an_absence_that_was_overtaken_while_it_was_loaded_is_not_remembered"],
    ),
    guarded(
        "an absence is remembered only where the backend said that it has nothing",
        &[edit(LOAD, "_ if unanswered.is_some() => drop(loaded),", "_ if false => drop(loaded),")],
        &["absence::an_absence_is_not_remembered_when_the_backend_could_not_say_what_it_holds"],
    ),
    guarded(
        "updates of one key take turns",
        &[edit(TURNS, "turn: Semaphore::new(1)", "turn: Semaphore::new(64)")],
        &["updating::updates_of_one_key_by_one_cache_take_turns_and_call_the_function_once_each"],
    ),
    guarded(
        "who has the turn and is not polled is passed over",
        &[edit(TURNS, "queue.turn.add_permits(1);", "queue.turn.add_permits(0);")],
        &["updating::an_update_that_is_never_polled_again_holds_the_others_up_for_a_moment_only"],
    ),
    guarded(
        "a touch shortens the life of the copy as it begins",
        &[edit(SHARD, "self.change_deadline(hash, key, |held| held.min(deadline), |_| true);", "")],
        &[
            "sliding::a_touch_that_shortens_a_life_shortens_that_of_the_copy",
            "sliding::after_a_failed_touch_a_copy_lives_no_longer_than_before_or_than_was_asked_for",
        ],
    ),
    guarded(
        "a touch extends a copy only where changes are reported",
        &[edit(
            SLIDING,
            "Ok(true) if remote.settings.coherence() == Coherence::Broadcast => ticket.extend(),",
            "Ok(true) if [Coherence::None, Coherence::Broadcast].contains(&remote.settings.coherence()) => ticket.extend(),",
        )],
        &["sliding::where_only_its_life_bounds_how_stale_a_copy_is_a_touch_does_not_extend_that"],
    ),
    guarded(
        "an increment makes a number with its life in one step",
        &[edit(
            REDIS_WRITE,
            "channels.is_some() || changes.iter().any(Change::is_transaction) ||",
            "channels.is_some() ||",
        )],
        &["counters::live::an_increment_is_one_round_trip_whose_own_report_drops_nothing"],
    ),
    guarded(
        "a flush ends the epochs that a link lost before it",
        &[edit(LINK, "        changes.lost.forget(link);\n", "")],
        &["revalidation::after_a_flush_nothing_is_read_again"],
    ),
    guarded(
        "a stale copy is as old as the last proof of its epoch",
        &[edit(SHARD, "proven.max(origin.fetched_at(entry))", "proven.max(lookup.now)")],
        &["stale::a_copy_stands_in_for_a_backend_that_is_away_and_says_how_stale_it_may_be"],
    ),
    guarded(
        "what is loaded without a backend takes an older copy with it",
        &[edit(LOAD, "else { return ticket.supersede() };", "else { return };")],
        &["stale::a_load_returns_a_stale_copy_before_it_asks_its_loader_and_nothing_older_afterwards"],
    ),
    guarded(
        "a stale copy is handed to nobody as what was loaded",
        &[edit(
            LOAD,
            "            Ok(stale) if matches!(stale.freshness, Freshness::Stale { .. }) => return Ok(stale),\n",
            "",
        )],
        &["stale::all_who_load_a_key_at_once_are_given_its_stale_copy_as_such"],
    ),
    guarded(
        "a copy that is kept for longer is no hit for longer",
        &[edit(BUILD, "        if stale.is_some() {\n", "        if stale.is_none() {\n")],
        &[
            "stale::a_copy_is_no_hit_for_longer_than_without_it",
            "stale::a_soft_timeout_of_zero_returns_at_once_and_reads_again",
        ],
    ),
    guarded(
        "a read goes on though its caller was given a stale copy",
        &[edit(STALE, "                        self.go_on_reading(key, operation);\n", "")],
        &[
            "stale::after_the_soft_timeout_the_copy_is_returned_and_the_read_goes_on",
            "stale::a_soft_timeout_of_zero_returns_at_once_and_reads_again",
        ],
    ),
];
