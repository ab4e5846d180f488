//! D11: a memory that agents share. Who may write is decided before anything is sent, each agent has a key space of its
//! own, and a repeated retrieve is a local hit.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde::Serialize;
use serde_json::{Value, json};
use twotier::{
    Backend, CacheConfig, Error, ErrorKind, FaultPoint, FaultyBackend, MemoryBackend, OnUndecodable, RedisBackend,
    RemainingTtl, blocking,
    short_term::{AccessTier, Credentials, MAX_AGENT_ID_BYTES, ShortTermMemory, TtlStrategy},
};
use twotier_testkit::RedisServer;

use crate::support::{READS, WRITES, ends, eventually};

const HOUR: Duration = Duration::from_secs(3600);
/// Agent ids and keys that would meet if they were joined, cut or matched without care.
const AWKWARD: [&str; 12] = ["a", "a:", ":a", "a:b", "a%3Ab", "*", "a*", "?", "[a-z]", r"\a", "é", "a:*"];

/// What lies below a memory.
enum Store {
    Memory(MemoryBackend),
    Redis(RedisServer),
}

impl Store {
    fn in_memory() -> Self {
        Self::Memory(MemoryBackend::new())
    }

    fn on_redis() -> Self {
        Self::Redis(RedisServer::start())
    }

    fn backend(&self) -> Box<dyn Backend> {
        match self {
            Self::Memory(store) => Box::new(store.clone()),
            Self::Redis(server) => Box::new(RedisBackend::new(server.url()).unwrap()),
        }
    }

    /// Builds another instance.
    async fn memory(&self) -> ShortTermMemory {
        ShortTermMemory::build(CacheConfig::new("t"), self.backend()).await.unwrap()
    }

    /// Returns how many commands about keys have reached the store.
    fn commands(&self) -> u64 {
        match self {
            Self::Memory(store) => store.operations().total(),
            Self::Redis(server) => server.calls(&READS) + server.calls(&WRITES) + server.calls(&["scan"]),
        }
    }

    /// Returns what lies under a key, and for how long.
    async fn held(&self, key: &str) -> Option<(String, Duration)> {
        match self {
            Self::Memory(store) => store.clone().get(key.as_bytes()).await.unwrap().map(|stored| {
                let RemainingTtl::Expires(ttl) = stored.ttl else { panic!("it expires") };
                (String::from_utf8(stored.value.to_vec()).unwrap(), ttl)
            }),
            Self::Redis(server) => {
                let ttl = server.command(&["PTTL", key]).as_int();
                let ttl = Duration::from_millis(u64::try_from(ttl).ok()?);
                let value = server.command(&["GET", key]);
                Some((String::from_utf8(value.as_bytes().to_vec()).unwrap(), ttl))
            }
        }
    }

    /// Writes past every memory, as another program does.
    async fn write_outside(&self, key: &str, value: &'static str) {
        match self {
            Self::Memory(store) => store.clone().set(key.as_bytes(), value.into(), None).await.unwrap(),
            Self::Redis(server) => _ = server.command(&["SET", key, value]),
        }
    }
}

fn agent(id: &str, tier: AccessTier) -> Credentials {
    Credentials::new(id, tier).unwrap()
}

fn contributor(id: &str) -> Credentials {
    agent(id, AccessTier::Contributor)
}

async fn number(memory: &ShortTermMemory, key: &str, who: &Credentials) -> Option<usize> {
    memory.retrieve::<usize>(key, who).await.unwrap().map(|number| *number)
}

#[track_caller]
fn forbidden<T: std::fmt::Debug>(outcome: Result<T, Error>, needs: AccessTier) {
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::Forbidden { needed, .. } if needed == needs), "{error:?}");
    assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::Forbidden, false));
    let text = format!("{error} {error:?}");
    assert!(!text.contains("secret") && !text.contains("watcher"), "{text}");
}

async fn an_observer_changes_nothing_and_no_command_is_sent(store: &Store) {
    let memory = store.memory().await;
    let owner = contributor("watcher");
    memory.stash("secret", &1, &owner).await.unwrap();
    let (observer, before) = (agent("watcher", AccessTier::Observer), store.commands());
    let needed = AccessTier::Contributor;
    forbidden(memory.stash("secret", &"secret", &observer).await, needed);
    forbidden(memory.stash_with("secret", &2, TtlStrategy::Session, &observer).await, needed);
    forbidden(memory.stash_many([("secret", 2), ("b", 3)], &observer).await, needed);
    forbidden(memory.stash_many_with([("secret", 2)], HOUR, &observer).await, needed);
    // An empty batch is no exception.
    forbidden(memory.stash_many([("", 0); 0], &observer).await, needed);
    forbidden(memory.forget("secret", &observer).await, needed);
    forbidden(memory.clear(&observer).await, needed);
    forbidden(memory.clear_of("watcher", &observer).await, needed);
    forbidden(memory.clear_of("other", &observer).await, AccessTier::Steward);
    assert_eq!(store.commands(), before, "nothing was sent");
    assert_eq!(number(&memory, "secret", &observer).await, Some(1), "it reads");
    assert_eq!(store.commands(), before, "and its copy is still there");
}

async fn a_contributor_stashes_under_its_own_key_space(store: &Store) {
    let memory = store.memory().await;
    memory.stash("plan:1", &json!({"step": 1}), &contributor("planner")).await.unwrap();
    memory.stash("plan:1", "text", &contributor("a:b%")).await.unwrap();
    assert_eq!(store.held("t:planner:plan:1").await.unwrap().0, r#"{"step":1}"#);
    assert_eq!(store.held("t:a%3Ab%25:plan:1").await.unwrap().0, r#""text""#);
}

async fn a_repeated_retrieve_is_a_local_hit(store: &Store) {
    let (writer, reader) = (store.memory().await, store.memory().await);
    let planner = contributor("planner");
    let plan = BTreeMap::from([("steps".to_owned(), 3_u64)]);
    writer.stash("plan", &plan, &planner).await.unwrap();
    let before = store.commands();
    for _ in 0..10 {
        assert_eq!(writer.retrieve("plan", &planner).await.unwrap().as_deref(), Some(&plan));
    }
    assert_eq!(store.commands(), before, "one's own stash is a local hit");
    let first: Arc<BTreeMap<String, u64>> = reader.retrieve("plan", &planner).await.unwrap().unwrap();
    let filled = store.commands();
    assert!(filled > before);
    for _ in 0..10 {
        let again = reader.retrieve("plan", &planner).await.unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &again), "it is not decoded again");
    }
    // As another type it is decoded, and still not asked for.
    assert_eq!(*reader.retrieve::<Value>("plan", &planner).await.unwrap().unwrap(), json!({"steps": 3}));
    assert_eq!(store.commands(), filled);
    let stats = reader.local_cache_stats();
    assert_eq!((stats.hits, stats.misses), (11, 1));
}

async fn what_another_instance_stashes_or_forgets_is_seen(store: &Store) {
    let (one, two) = (store.memory().await, store.memory().await);
    let planner = contributor("planner");
    one.stash("k", &1, &planner).await.unwrap();
    assert_eq!(number(&two, "k", &planner).await, Some(1));
    one.stash("k", &2, &planner).await.unwrap();
    eventually("the other sees it", async || number(&two, "k", &planner).await == Some(2)).await;
    assert!(one.forget("k", &planner).await.unwrap());
    assert!(!one.forget("k", &planner).await.unwrap());
    eventually("the other sees it", async || number(&two, "k", &planner).await.is_none()).await;
}

async fn everybody_reads_the_memory_of_everybody_and_writes_its_own(store: &Store) {
    let memory = store.memory().await;
    let (planner, other) = (contributor("planner"), contributor("other"));
    memory.stash("k", &1, &planner).await.unwrap();
    for tier in [AccessTier::Observer, AccessTier::Contributor, AccessTier::Validator, AccessTier::Steward] {
        let reader = agent("reader", tier);
        let found = memory.retrieve_of::<usize>("planner", "k", &reader).await.unwrap();
        assert_eq!(found.as_deref(), Some(&1));
        let found = memory.retrieve_many_of::<usize>("planner", &["k", "absent"], &reader).await.unwrap();
        assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some(&1), None]);
    }
    assert_eq!(number(&memory, "k", &other).await, None, "by default one's own is read");
    assert!(!memory.forget("k", &other).await.unwrap());
    memory.stash("k", &2, &other).await.unwrap();
    assert_eq!(number(&memory, "k", &planner).await, Some(1));
}

async fn only_a_steward_clears_the_memory_of_another_agent(store: &Store) {
    let memory = store.memory().await;
    let planner = contributor("planner");
    memory.stash_many([("a", 1), ("b", 2)], &planner).await.unwrap();
    let before = store.commands();
    for tier in [AccessTier::Observer, AccessTier::Contributor, AccessTier::Validator] {
        forbidden(memory.clear_of("planner", &agent("watcher", tier)).await, AccessTier::Steward);
    }
    assert_eq!(store.commands(), before, "nothing was sent");
    let steward = agent("steward", AccessTier::Steward);
    memory.stash("a", &3, &steward).await.unwrap();
    assert_eq!(memory.clear_of("planner", &steward).await.unwrap(), 2);
    assert_eq!(number(&memory, "a", &planner).await, None);
    assert_eq!(number(&memory, "a", &steward).await, Some(3));
    memory.stash("a", &1, &planner).await.unwrap();
    assert_eq!(memory.clear_of("planner", &planner).await.unwrap(), 1, "one's own may be named too");
}

async fn clearing_one_agent_touches_no_other_and_reaches_every_instance(store: &Store) {
    let (memory, other) = (store.memory().await, store.memory().await);
    for (index, id) in AWKWARD.into_iter().enumerate() {
        memory.stash_many(AWKWARD.map(|key| (key, index)), &contributor(id)).await.unwrap();
    }
    for (index, id) in AWKWARD.into_iter().enumerate() {
        let who = contributor(id);
        let all = vec![Some(Arc::new(index)); AWKWARD.len()];
        assert_eq!(other.retrieve_many::<usize>(&AWKWARD, &who).await.unwrap(), all, "{id}");
    }
    for (cleared, id) in AWKWARD.into_iter().enumerate() {
        let who = contributor(id);
        assert_eq!(memory.clear(&who).await.unwrap(), AWKWARD.len() as u64, "{id}");
        assert!(memory.retrieve_many::<usize>(&AWKWARD, &who).await.unwrap().iter().all(Option::is_none), "{id}");
        eventually("the other instance sees it", async || {
            other.retrieve_many::<usize>(&AWKWARD, &who).await.unwrap().iter().all(Option::is_none)
        })
        .await;
        for id in &AWKWARD[cleared + 1..] {
            let left = memory.retrieve_many::<usize>(&AWKWARD, &contributor(id)).await.unwrap();
            assert!(left.iter().all(Option::is_some), "{id}");
        }
    }
}

/// A value that JSON has no word for.
#[derive(Serialize)]
struct Infinite(f64);

async fn a_batch_is_stashed_whole_or_not_at_all(store: &Store) {
    let memory = store.memory().await;
    let planner = contributor("planner");
    let before = store.commands();
    let empty_key = memory.stash_many([("a", 1), ("", 2)], &planner).await.unwrap_err();
    assert_eq!(empty_key.kind(), ErrorKind::Invalid);
    let long = "k".repeat(2000);
    assert_eq!(memory.stash_many([("a", 1), (&long, 2)], &planner).await.unwrap_err().kind(), ErrorKind::Invalid);
    let values = [("a", Infinite(0.0)), ("b", Infinite(f64::INFINITY))];
    assert_eq!(memory.stash_many(values, &planner).await.unwrap_err().kind(), ErrorKind::Codec);
    let ttl = memory.stash_many_with([("a", 1)], Duration::ZERO, &planner).await.unwrap_err();
    assert_eq!(ttl.kind(), ErrorKind::Invalid);
    assert_eq!(store.commands(), before, "nothing was sent");
    memory.stash_many([("a", 1), ("b", 2), ("a", 3)], &planner).await.unwrap();
    let found = memory.retrieve_many::<usize>(&["b", "absent", "a", "b"], &planner).await.unwrap();
    assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some(&2), None, Some(&3), Some(&2)]);
}

async fn a_stashed_value_lives_as_long_as_its_strategy_says(store: &Store) {
    let memory = store.memory().await;
    let planner = contributor("planner");
    let minute = HOUR / 60;
    memory.stash("default", &1, &planner).await.unwrap();
    memory.stash_many([("batch", 1)], &planner).await.unwrap();
    memory.stash_with("working", &1, TtlStrategy::WorkingResults, &planner).await.unwrap();
    memory.stash_with("staged", &1, TtlStrategy::Staged, &planner).await.unwrap();
    memory.stash_with("session", &1, TtlStrategy::Session, &planner).await.unwrap();
    memory.stash_with("any", &1, minute, &planner).await.unwrap();
    memory.stash_many_with([("many", 1)], TtlStrategy::Session, &planner).await.unwrap();
    let session = 30 * minute;
    for (key, ttl) in [
        ("default", HOUR),
        ("batch", HOUR),
        ("working", HOUR),
        ("staged", 24 * HOUR),
        ("session", session),
        ("any", minute),
        ("many", session),
    ] {
        let (_, left) = store.held(&format!("t:planner:{key}")).await.unwrap();
        assert!(left <= ttl && left > ttl - minute / 2, "{key}: {left:?} of {ttl:?}");
    }
    let refused = memory.stash_with("any", &2, Duration::ZERO, &planner).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let config = CacheConfig::new("t").time_to_live(minute);
    let memory = ShortTermMemory::build(config, store.backend()).await.unwrap();
    memory.stash("default", &1, &planner).await.unwrap();
    assert!(store.held("t:planner:default").await.unwrap().1 <= minute, "the configuration's own stands");
}

async fn what_is_no_value_of_the_type_is_an_error_or_a_miss_and_stays(store: &Store) {
    let memory = store.memory().await;
    let config = CacheConfig::new("t").on_undecodable(OnUndecodable::Miss);
    let lenient = ShortTermMemory::build(config, store.backend()).await.unwrap();
    let planner = contributor("planner");
    memory.stash("k", "secret", &planner).await.unwrap();
    store.write_outside("t:planner:broken", "{secret").await;
    for key in ["k", "broken"] {
        let error = memory.retrieve::<usize>(key, &planner).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Codec);
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert_eq!(memory.retrieve_many::<usize>(&[key], &planner).await.unwrap_err().kind(), ErrorKind::Codec);
        assert!(lenient.retrieve::<usize>(key, &planner).await.unwrap().is_none());
    }
    assert_eq!((memory.stats().backend.undecodable, lenient.stats().backend.undecodable), (4, 2));
    assert_eq!(memory.retrieve::<String>("k", &planner).await.unwrap().as_deref(), Some(&"secret".to_owned()));
}

async fn without_a_local_cache_every_retrieve_is_a_read_of_the_backend(store: &Store) {
    let config = CacheConfig::new("t").local_enabled(false);
    let memory = ShortTermMemory::build(config, store.backend()).await.unwrap();
    let planner = contributor("planner");
    memory.stash("k", &1, &planner).await.unwrap();
    let before = store.commands();
    for _ in 0..3 {
        assert_eq!(number(&memory, "k", &planner).await, Some(1));
    }
    assert!(store.commands() >= before + 3);
    assert_eq!(memory.local_cache_stats(), Default::default(), "and nothing is counted");
}

async fn the_statistics_keep_their_names_and_clearing_copies_leaves_them_as_they_are(store: &Store) {
    let memory = store.memory().await;
    let planner = contributor("planner");
    memory.stash_many([("a", 1), ("b", 2)], &planner).await.unwrap();
    for key in ["a", "b", "a", "absent"] {
        number(&memory, key, &planner).await;
    }
    let stats = json!({
        "enabled": true, "size": 3, "max_size": 500, "hits": 3, "misses": 1, "hit_rate": 75.0, "total_requests": 4,
    });
    assert_eq!(serde_json::to_value(memory.local_cache_stats()).unwrap(), stats);
    assert_eq!(memory.clear_local_cache(), 3);
    assert_eq!(memory.clear_local_cache(), 0);
    let stats = memory.local_cache_stats();
    assert_eq!((stats.size, stats.hits, stats.misses), (0, 3, 1));
    assert_eq!(number(&memory, "a", &planner).await, Some(1));
}

/// Any agents and keys: each pair is its own, and a cleared agent is the only one that loses anything.
async fn pairs_do_not_meet(store: &Store, pairs: &[(String, String)]) -> Result<(), TestCaseError> {
    let memory = store.memory().await;
    let expected: BTreeMap<_, _> = pairs.iter().enumerate().map(|(index, pair)| (pair, index)).collect();
    for (index, (id, key)) in pairs.iter().enumerate() {
        memory.stash(key, &index, &contributor(id)).await.unwrap();
    }
    let cleared = &pairs[0].0;
    for cleared in [None, Some(cleared)] {
        if let Some(cleared) = cleared {
            let count = expected.keys().filter(|(id, _)| id == cleared).count();
            prop_assert_eq!(memory.clear(&contributor(cleared)).await.unwrap(), count as u64);
        }
        memory.clear_local_cache();
        for ((id, key), index) in &expected {
            let there = (Some(id) != cleared).then_some(*index);
            prop_assert_eq!(number(&memory, key, &contributor(id)).await, there);
        }
    }
    for (id, _) in expected.keys() {
        memory.clear(&contributor(id)).await.unwrap();
    }
    memory.close().await;
    Ok(())
}

fn no_two_agents_meet(store: &Store, cases: u32) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let text = "[ab:%3A*?\\[\\]\\\\^\\-0é☃]{1,4}";
    let pairs = prop::collection::vec((text, text), 1..8);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&pairs, |pairs| runtime.block_on(pairs_do_not_meet(store, &pairs))).unwrap();
}

fn the_blocking_memory_holds_the_same(store: &Store) {
    let memory = blocking::ShortTermMemory::build(CacheConfig::new("t"), store.backend()).unwrap();
    let (owner, observer) = (contributor("watcher"), agent("watcher", AccessTier::Observer));
    memory.stash("a", &1, &owner).unwrap();
    memory.stash_with("b", &2, TtlStrategy::Session, &owner).unwrap();
    memory.stash_many([("c", 3)], &owner).unwrap();
    memory.stash_many_with([("d", 4)], HOUR, &owner).unwrap();
    let before = store.commands();
    let needed = AccessTier::Contributor;
    forbidden(memory.stash("a", &2, &observer), needed);
    forbidden(memory.stash_with("a", &2, HOUR, &observer), needed);
    forbidden(memory.stash_many([("a", 2)], &observer), needed);
    forbidden(memory.stash_many_with([("a", 2)], HOUR, &observer), needed);
    forbidden(memory.forget("a", &observer), needed);
    forbidden(memory.clear(&observer), needed);
    forbidden(memory.clear_of("other", &owner), AccessTier::Steward);
    for _ in 0..10 {
        assert_eq!(memory.retrieve::<usize>("a", &observer).unwrap().as_deref(), Some(&1));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        assert!(memory.retrieve::<usize>("a", &owner).unwrap().is_some(), "a hit waits for nothing");
        assert_eq!(memory.stash("a", &2, &owner).unwrap_err().kind(), ErrorKind::Invalid);
    });
    let found = memory.retrieve_many::<usize>(&["d", "c", "b"], &owner).unwrap();
    assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), [Some(&4), Some(&3), Some(&2)]);
    assert_eq!(store.commands(), before, "all of that was local or refused");
    assert!(memory.forget("a", &owner).unwrap());
    assert!(memory.retrieve_of::<usize>("watcher", "a", &contributor("other")).unwrap().is_none());
    assert_eq!(memory.retrieve_many_of::<usize>("other", &["b"], &owner).unwrap(), [None]);
    assert_eq!(memory.clear_of("watcher", &agent("s", AccessTier::Steward)).unwrap(), 3);
    assert_eq!(memory.clear(&owner).unwrap(), 0);
    assert_eq!(memory.namespace().as_str(), "t");
    assert_eq!(memory.local_cache_stats().hits, memory.stats().local.hits);
    let held = memory.local_cache_stats().size;
    assert_eq!(memory.clear_local_cache(), held);
    memory.close().unwrap();
    assert_eq!(memory.retrieve::<usize>("b", &owner).unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn agents_and_keys_without_a_name_or_with_too_long_a_one_are_refused() {
    let long = "é".repeat(MAX_AGENT_ID_BYTES / 2);
    for id in ["", &format!("{long}x")] {
        let refused = Credentials::new(id, AccessTier::Steward).unwrap_err();
        assert_eq!(refused.field(), "agent_id");
        assert!(!refused.to_string().contains('é'), "{refused}");
    }
    let store = MemoryBackend::new();
    let memory = ShortTermMemory::build(CacheConfig::new("t"), store.clone()).await.unwrap();
    let who = agent(&long, AccessTier::Steward);
    for key in ["", &"k".repeat(1025 - 1 - MAX_AGENT_ID_BYTES)] {
        let outcomes = [
            memory.stash(key, &1, &who).await,
            memory.stash_with(key, &1, HOUR, &who).await,
            memory.stash_many([(key, 1)], &who).await,
            memory.stash_many_with([(key, 1)], HOUR, &who).await,
            memory.retrieve::<usize>(key, &who).await.map(drop),
            memory.retrieve_many::<usize>(&[key], &who).await.map(drop),
            memory.forget(key, &who).await.map(drop),
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::InvalidKey { .. }), "{error:?}");
        }
    }
    for id in ["", &format!("{long}x")] {
        for outcome in [
            memory.retrieve_of::<usize>(id, "k", &who).await.map(drop),
            memory.retrieve_many_of::<usize>(id, &["k"], &who).await.map(drop),
            memory.clear_of(id, &who).await.map(drop),
        ] {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Invalid);
        }
    }
    assert_eq!(store.operations().total(), 0);
    memory.stash("k".repeat(1024 - 1 - MAX_AGENT_ID_BYTES), &1, &who).await.unwrap();
    assert_eq!(memory.clear(&who).await.unwrap(), 1);
}

#[tokio::test]
async fn a_closed_memory_refuses_every_call_and_debug_prints_no_agent_id() {
    let store = MemoryBackend::new();
    let memory = ShortTermMemory::build_lazy(CacheConfig::new("t"), store).unwrap();
    let planner = contributor("planner");
    eventually("the link is made", async || memory.stash("k", &1, &planner).await.is_ok()).await;
    assert!(format!("{memory:?} {planner:?}").contains("Contributor") && !format!("{planner:?}").contains("planner"));
    memory.close().await;
    assert_eq!(memory.retrieve::<usize>("k", &planner).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(memory.stash("k", &1, &planner).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn a_read_in_flight_cannot_bring_back_what_was_cleared_meanwhile() {
    let slow = FaultyBackend::new(MemoryBackend::new());
    let faults = slow.faults();
    let memory = ShortTermMemory::build(CacheConfig::new("t"), slow).await.unwrap();
    let (planner, other) = (contributor("planner"), contributor("other"));
    memory.stash("k", &1, &planner).await.unwrap();
    memory.stash("k", &2, &other).await.unwrap();
    memory.clear_local_cache();
    // The read has its answer from the store, and is still on its way back while the clearing runs from start to end.
    faults.strike(FaultPoint::After);
    faults.latency(Duration::from_millis(100));
    let (reader, reading) = (memory.clone(), planner.clone());
    let reading = tokio::spawn(async move { number(&reader, "k", &reading).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    faults.heal();
    assert_eq!(ends(memory.clear(&planner)).await.unwrap(), 1);
    ends(reading).await.unwrap();
    assert_eq!(number(&memory, "k", &planner).await, None);
    assert_eq!(number(&memory, "k", &other).await, Some(2));
}

/// Each test on each backend.
macro_rules! on_both {
    ($($test:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Store::in_memory()).await;
            })*
        }

        mod live {
            $(#[tokio::test]
            async fn $test() {
                super::$test(&super::Store::on_redis()).await;
            })*

            #[test]
            fn no_two_agents_meet() {
                super::no_two_agents_meet(&super::Store::on_redis(), 32);
            }

            #[test]
            fn the_blocking_memory_holds_the_same() {
                super::the_blocking_memory_holds_the_same(&super::Store::on_redis());
            }
        }
    };
}

on_both! {
    an_observer_changes_nothing_and_no_command_is_sent
    a_contributor_stashes_under_its_own_key_space
    a_repeated_retrieve_is_a_local_hit
    what_another_instance_stashes_or_forgets_is_seen
    everybody_reads_the_memory_of_everybody_and_writes_its_own
    only_a_steward_clears_the_memory_of_another_agent
    clearing_one_agent_touches_no_other_and_reaches_every_instance
    a_batch_is_stashed_whole_or_not_at_all
    a_stashed_value_lives_as_long_as_its_strategy_says
    what_is_no_value_of_the_type_is_an_error_or_a_miss_and_stays
    without_a_local_cache_every_retrieve_is_a_read_of_the_backend
    the_statistics_keep_their_names_and_clearing_copies_leaves_them_as_they_are
}

#[test]
fn no_two_agents_meet_in_memory() {
    no_two_agents_meet(&Store::in_memory(), 256);
}

#[test]
fn the_blocking_memory_holds_the_same_in_memory() {
    the_blocking_memory_holds_the_same(&Store::in_memory());
}
