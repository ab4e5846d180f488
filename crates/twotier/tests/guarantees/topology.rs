//! The promises in a cluster, played in memory: primaries that stop, slots that move, promotions, a primary that is cut
//! off from the others.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use twotier::{
    Backend, BreakerState, Cache, Error, ErrorKind, LinkId, ManualClock, MemoryCluster, MemoryClusterBackend, Reason,
    Status, Tier,
};

use crate::support::{read, text};

const BOUND: Duration = Duration::from_secs(2);
const HALF: Duration = Duration::from_millis(500);
const PRIMARIES: [LinkId; 3] = [LinkId::new(1), LinkId::new(2), LinkId::new(3)];

struct World {
    clock: ManualClock,
    cluster: MemoryCluster,
    /// The backend of the cache.
    client: Arc<MemoryClusterBackend>,
    cache: Cache<String>,
    /// Somebody else.
    other: MemoryClusterBackend,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let cluster = MemoryCluster::with_clock(3, clock.clone());
        let (client, other) = (Arc::new(cluster.client()), cluster.client());
        let builder = text().clock(clock.clone()).max_staleness(BOUND).local_time_to_live(Duration::from_secs(3600));
        let cache = builder.build(Arc::clone(&client)).await.unwrap();
        assert_eq!(client.round(), PRIMARIES);
        Self { clock, cluster, client, cache, other }
    }

    /// A key that lies behind each primary.
    fn keys(&self) -> [String; 3] {
        PRIMARIES.map(|primary| self.keys_of(primary).next().unwrap())
    }

    fn keys_of(&self, primary: LinkId) -> impl Iterator<Item = String> {
        let of = move |key: &String| self.cluster.owner(&qualified(key)) == primary;
        (0..1000).map(|number| format!("k{number}")).filter(of)
    }

    /// Has somebody else write a key, and the cache keep a copy.
    async fn keep(&self, key: &str, value: &str) {
        self.overwrite(key, value).await;
        assert_eq!(read(&self.cache, key).await.as_deref(), Some(value));
        assert_eq!(self.held(key).as_deref(), Some(value));
    }

    /// Has somebody else, who knows the map, write a key.
    async fn overwrite(&self, key: &str, value: &str) {
        self.other.round();
        self.other.set(&qualified(key), value.to_owned().into(), None).await.unwrap();
    }

    fn held(&self, key: &str) -> Option<String> {
        self.cache.get_if_local(key).map(|value| (*value).clone())
    }

    fn slot(&self, key: &str) -> u16 {
        self.cluster.slot(&qualified(key))
    }

    /// How many commands reached any primary.
    fn commands(&self) -> u64 {
        (1..10).map(|link| self.cluster.operations(LinkId::new(link)).total()).sum()
    }
}

fn qualified(key: &str) -> Vec<u8> {
    format!("t:{key}").into_bytes()
}

fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[tokio::test]
async fn behind_one_link_of_several_an_absence_is_remembered_for_the_bound_and_no_longer() {
    let world = World::new().await;
    let [key, ..] = world.keys();
    assert_eq!(read(&world.cache, &key).await, None);
    let tier = async || world.cache.lookup(&key).await.unwrap().tier;
    for _ in 0..3 {
        world.clock.advance(HALF);
        world.client.round();
        assert_eq!(tier().await, Tier::Local);
    }
    world.clock.advance(HALF);
    world.client.round();
    assert_eq!(tier().await, Tier::Remote, "though every link is up, and the negative time to live 5 s");
}

#[tokio::test]
async fn the_loss_of_one_primary_touches_its_copies_and_no_others() {
    let world = World::new().await;
    let [lost, second, third] = &world.keys();
    for key in [lost, second, third] {
        world.keep(key, "1").await;
    }
    world.cluster.stop(PRIMARIES[0]);
    assert_eq!(world.client.round(), PRIMARIES[1..], "two of three are a majority");
    let before = world.commands();
    assert_eq!((world.held(second).as_deref(), world.held(third).as_deref()), (Some("1"), Some("1")));
    assert_eq!(world.commands(), before, "hits ask nobody");
    assert_eq!(world.held(lost), None);
    assert_eq!(kind(world.cache.get(lost.as_str()).await), Some(ErrorKind::Unavailable));
    let health = world.cache.health();
    assert_eq!((health.status, health.links.len()), (Status::Down, 3));
    assert!(matches!(&health.reasons[..], [Reason::OfLink(link, _)] if *link == PRIMARIES[0]), "{health}");
    let new = world.cluster.promote(PRIMARIES[0]).expect("two of three vote for its replica");
    assert_eq!(world.client.round(), [], "the map is read, and nothing is renewed by this");
    assert_eq!(world.client.round(), [PRIMARIES[1], PRIMARIES[2], new]);
    assert_eq!(read(&world.cache, lost).await.as_deref(), Some("1"), "its replica held it");
    assert_eq!(world.held(lost).as_deref(), Some("1"));
    assert_eq!(world.held(second).as_deref(), Some("1"), "and all that time nothing else was touched");
    assert_eq!(world.cache.health().status, Status::Ready);
}

#[tokio::test]
async fn the_breaker_of_a_primary_that_was_replaced_is_forgotten() {
    let world = World::new().await;
    let [lost, ..] = &world.keys();
    world.overwrite(lost, "1").await;
    world.cluster.stop(PRIMARIES[0]);
    for _ in 0..3 {
        assert_eq!(kind(world.cache.get(lost.as_str()).await), Some(ErrorKind::Unavailable));
    }
    assert_eq!(world.cache.stats().backend.breaker.state, BreakerState::Open);
    world.cluster.promote(PRIMARIES[0]).unwrap();
    world.client.round();
    world.client.round();
    assert_eq!(read(&world.cache, lost).await.as_deref(), Some("1"), "by the new map");
    let breaker = world.cache.stats().backend.breaker;
    assert_eq!((breaker.state, breaker.opened), (BreakerState::Closed, 1), "nothing could ever close it");
    assert_eq!(world.cache.health().status, Status::Ready);
}

#[tokio::test]
async fn a_primary_that_is_started_again_serves_nothing_from_before() {
    let world = World::new().await;
    let [key, ..] = &world.keys();
    world.keep(key, "1").await;
    world.cluster.stop(PRIMARIES[0]);
    world.client.round();
    world.cluster.restart(PRIMARIES[0]);
    world.overwrite(key, "2").await;
    world.client.round();
    assert_eq!(world.client.round(), PRIMARIES);
    assert_eq!(world.held(key), None);
    assert_eq!(read(&world.cache, key).await.as_deref(), Some("2"));
    assert_eq!(world.held(key).as_deref(), Some("2"));
}

#[tokio::test]
async fn the_flush_of_one_primary_outdates_its_copies_and_no_others() {
    let world = World::new().await;
    let [flushed, second, _] = &world.keys();
    world.keep(flushed, "1").await;
    world.keep(second, "1").await;
    world.cluster.flush(PRIMARIES[0]);
    assert_eq!((world.held(flushed), world.held(second).as_deref()), (None, Some("1")));
    assert_eq!(read(&world.cache, flushed).await, None);
}

/// How long a copy of a primary that is cut off, and was replaced, is served after it was overwritten.
async fn served_for(trusts_anyone: bool) -> Duration {
    let world = World::new().await;
    let [key, ..] = &world.keys();
    world.keep(key, "1").await;
    world.client.stay_with(PRIMARIES[0]);
    if trusts_anyone {
        world.client.trust_anyone();
    }
    world.cluster.isolate(PRIMARIES[0]);
    assert!(world.cluster.promote(PRIMARIES[0]).is_some());
    world.overwrite(key, "2").await;
    let mut served = Duration::ZERO;
    while world.held(key).is_some() && served < 30 * BOUND {
        world.client.round();
        world.clock.advance(HALF);
        served += HALF;
    }
    served
}

#[tokio::test]
async fn beside_a_primary_that_is_cut_off_no_copy_is_served_for_longer_than_the_bound() {
    assert!(served_for(false).await <= BOUND);
    assert_eq!(served_for(true).await, 30 * BOUND, "by its word alone for as long as it has not noticed");
}

/// The primaries that voted are in the new epoch before any of them has the new map: to take the old map for that of
/// the new epoch would be to trust, for as long as it lasts, whom the others have replaced.
#[tokio::test]
async fn while_an_election_is_not_over_nothing_is_renewed() {
    let world = World::new().await;
    let [key, ..] = &world.keys();
    world.keep(key, "1").await;
    world.client.reach_all();
    assert!(world.cluster.vote(PRIMARIES[0]));
    for _ in 0..3 {
        assert_eq!(world.client.round(), [], "all of them are in the new epoch, and none has a new map");
    }
    world.cluster.isolate(PRIMARIES[0]);
    let new = world.cluster.promote(PRIMARIES[0]).unwrap();
    world.overwrite(key, "2").await;
    assert_eq!(world.held(key).as_deref(), Some("1"), "the lease from before the election has not ended");
    assert_eq!(world.client.round(), []);
    assert_eq!(world.held(key), None);
    assert_eq!(world.client.round(), [PRIMARIES[1], PRIMARIES[2], new], "the old one still answers, and is not asked");
    assert_eq!(read(&world.cache, key).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_minority_promotes_nobody_and_a_primary_that_comes_back_is_as_before() {
    let world = World::new().await;
    let [key, ..] = &world.keys();
    world.keep(key, "1").await;
    world.cluster.isolate(PRIMARIES[0]);
    world.cluster.isolate(PRIMARIES[1]);
    assert_eq!(world.cluster.promote(PRIMARIES[0]), None);
    assert_eq!(world.client.round(), [], "one of three is no majority");
    world.cluster.heal(PRIMARIES[0]);
    world.cluster.heal(PRIMARIES[1]);
    assert_eq!(world.client.round(), PRIMARIES);
    assert_eq!(world.held(key).as_deref(), Some("1"), "every report until now was applied");
}

#[tokio::test]
async fn a_primary_that_was_replaced_and_comes_back_redirects() {
    let world = World::new().await;
    let [key, ..] = &world.keys();
    world.overwrite(key, "1").await;
    world.cluster.isolate(PRIMARIES[0]);
    let new = world.cluster.promote(PRIMARIES[0]).unwrap();
    world.cluster.heal(PRIMARIES[0]);
    assert_eq!(read(&world.cache, key).await.as_deref(), Some("1"), "the old map led to it, and it to the new one");
    assert_eq!(world.held(key), None, "what a redirection brings is not kept");
    world.client.round();
    assert_eq!(world.client.route(&qualified(key)), new);
    world.client.round();
    assert_eq!(read(&world.cache, key).await.as_deref(), Some("1"));
    assert_eq!(world.held(key).as_deref(), Some("1"));
}

#[tokio::test]
async fn of_a_slot_that_lost_its_keys_without_a_report_no_copy_outlives_the_next_round() {
    let world = World::new().await;
    let [key, second, third] = &world.keys();
    for key in [key, second, third] {
        world.keep(key, "1").await;
    }
    let before = world.cache.stats().coherence.invalidations;
    assert!(world.cluster.assign(world.slot(key), PRIMARIES[1]));
    assert_eq!(world.cache.stats().coherence.invalidations, before, "nobody is notified");
    assert_eq!(world.held(key).as_deref(), Some("1"));
    assert_eq!(world.client.round(), []);
    assert_eq!((world.held(key), world.held(second)), (None, None), "who lost and who gained has a new epoch");
    assert_eq!(world.held(third).as_deref(), Some("1"), "who did neither goes on");
    assert_eq!(read(&world.cache, key).await, None);
}

#[tokio::test]
async fn a_slot_that_migrates_has_its_keys_reported_and_keeps_them() {
    let world = World::new().await;
    let [key, ..] = &world.keys();
    world.keep(key, "1").await;
    assert!(world.cluster.migrate(world.slot(key), PRIMARIES[2]));
    assert_eq!(world.held(key), None, "both ends report it");
    assert_eq!(read(&world.cache, key).await.as_deref(), Some("1"));
    assert_eq!(world.held(key), None, "by the old map it came from another primary than was asked");
    world.cache.set(key.as_str(), "own".to_owned()).await.unwrap();
    assert_eq!(world.held(key), None, "nor is what was written there kept");
    let mut loaded =
        world.cache.get_or_load(key.as_str(), async |_| Ok::<_, Error>("loaded".to_owned())).await.unwrap();
    assert_eq!(Arc::make_mut(&mut loaded), "own");
    assert_eq!(world.held(key), None);
    world.client.round();
    world.client.round();
    assert_eq!(read(&world.cache, key).await.as_deref(), Some("own"));
    assert_eq!(world.held(key).as_deref(), Some("own"));
}

#[tokio::test]
async fn batches_over_several_primaries_keep_their_order_and_fail_key_by_key() {
    let world = World::new().await;
    let of = |primary| world.keys_of(primary).take(20).collect::<Vec<_>>();
    let mut keys = PRIMARIES.map(of).concat();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    let items = keys.iter().map(|key| (key.clone(), format!("of {key}")));
    assert!(world.cache.set_each(items).await.into_iter().all(|written| written.is_ok()));
    world.cache.clear_local();
    let before = world.commands();
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = world.cache.get_many(&asked).await.unwrap();
    for (key, value) in keys.iter().zip(found) {
        assert_eq!(value.as_deref(), Some(&format!("of {key}")));
    }
    assert_eq!(world.commands() - before, 3, "one call for each primary");
    world.cluster.stop(PRIMARIES[1]);
    world.cache.clear_local();
    let lost: BTreeSet<String> = of(PRIMARIES[1]).into_iter().collect();
    for (key, value) in keys.iter().zip(world.cache.get_each(&asked).await) {
        match value {
            Ok(value) => assert!(!lost.contains(key) && value.as_deref() == Some(&format!("of {key}"))),
            Err(error) => assert!(lost.contains(key) && error.kind() == ErrorKind::Unavailable, "{key}: {error}"),
        }
    }
    for (key, deleted) in keys.iter().zip(world.cache.delete_each(&asked).await) {
        assert_eq!(deleted.ok(), (!lost.contains(key)).then_some(true));
    }
}

/// Whatever happens, and in whatever order: after a round by which every lease is renewed there is no copy that differs
/// from what the cluster holds.
#[tokio::test]
async fn through_any_moves_and_promotions_every_copy_under_a_renewed_lease_is_what_the_cluster_holds() {
    for seed in 0..12 {
        let world = World::new().await;
        let mut rng = fastrand::Rng::with_seed(seed);
        let keys: Vec<String> = PRIMARIES.iter().flat_map(|primary| world.keys_of(*primary).take(3)).collect();
        for step in 0..150 {
            let key = &keys[rng.usize(..keys.len())];
            let primaries = world.cluster.primaries();
            let primary = primaries[rng.usize(..primaries.len())];
            match rng.u8(..20) {
                0..6 => _ = world.cache.get(key.as_str()).await,
                6..9 => _ = world.cache.set(key.as_str(), format!("own {step}")).await,
                9..13 => world.overwrite(key, &format!("foreign {step}")).await,
                13 => _ = world.cache.delete(key.as_str()).await,
                14 | 15 => _ = world.cluster.migrate(world.slot(key), primary),
                16 => _ = world.cluster.assign(world.slot(key), primary),
                17 => _ = world.cluster.promote(primary),
                18 => world.cluster.flush(primary),
                _ => world.clock.advance(HALF),
            }
            if rng.u8(..3) == 0 && !world.client.round().is_empty() {
                world.other.round();
                for key in &keys {
                    if let Some(held) = world.held(key) {
                        let truth = world.other.get(&qualified(key)).await.unwrap();
                        assert_eq!(
                            truth.map(|stored| stored.value),
                            Some(held.into()),
                            "seed {seed}, step {step}, {key}"
                        );
                    }
                }
            }
        }
    }
}
