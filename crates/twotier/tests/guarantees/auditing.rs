//! The auditor finds a copy that is served for longer than was promised, and nothing else, and costs what was asked
//! for.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use tokio::time::sleep;
use twotier::{
    AuditStats, BackendError, BackendErrorKind, Cache, Event, ManualClock, MemoryBackend, MemoryLink, OnUndecodable,
    RemovalCause,
};

use crate::support::{over_memory, read, text};

const BOUND: Duration = Duration::from_secs(2);
const LOCAL_LIFE: Duration = Duration::from_secs(60);
/// Time enough for the auditor to take some turns. Timers are paused: nobody waits for it.
const TURNS: Duration = Duration::from_millis(50);

/// A cache with an auditor that looks into every hit, on a link in the hands of the test, and another writer.
struct World {
    clock: ManualClock,
    cache: Cache<String>,
    link: MemoryLink,
    store: MemoryBackend,
    other: Cache<String>,
}

impl World {
    async fn new() -> Self {
        let clock = ManualClock::new();
        let store = MemoryBackend::with_clock(clock.clone());
        let other = text().clock(clock.clone()).build(store.clone()).await.unwrap();
        let audited = store.clone();
        let link = audited.scripted_link();
        let builder = text().clock(clock.clone()).max_staleness(BOUND).local_time_to_live(LOCAL_LIFE).audit(1000.0);
        let cache = builder.on_undecodable(OnUndecodable::Miss).build(audited).await.unwrap();
        other.set("k", "1".to_owned()).await.unwrap();
        assert_eq!(read(&cache, "k").await.as_deref(), Some("1"));
        let world = Self { clock, cache, link, store, other };
        world.pass(Duration::from_millis(1)).await;
        world
    }

    /// Lets time pass on a link that lives, a step well below the bound after the other, and the auditor work.
    async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(BOUND / 4);
            self.clock.advance(step);
            self.link.heartbeat();
            sleep(TURNS).await;
            left -= step;
        }
    }

    async fn overwrite(&self, value: &str) {
        self.other.set("k", value.to_owned()).await.unwrap();
    }

    /// Hits the key, which is sampled.
    async fn hit(&self) {
        let before = self.audit().sampled;
        assert!(self.cache.get("k").await.unwrap().is_some());
        assert_eq!(self.audit().sampled, before + 1, "the hit was sampled");
    }

    fn audit(&self) -> AuditStats {
        self.cache.stats().audit
    }

    /// Returns what became of the samples: how many were confirmed, inconclusive, and violations.
    fn verdicts(&self) -> (u64, u64, u64) {
        let AuditStats { sampled, confirmed, inconclusive, violations, .. } = self.audit();
        assert_eq!(sampled, confirmed + inconclusive + violations, "every sample is judged");
        (confirmed, inconclusive, violations)
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_report_is_one_violation_that_is_counted_and_announced_and_the_copy_goes() {
    let world = World::new().await;
    let mut events = world.cache.events();
    world.link.lose(1);
    world.overwrite("2").await;
    for _ in 0..3 {
        world.hit().await;
        sleep(TURNS).await;
    }
    world.pass(BOUND - Duration::from_millis(1)).await;
    assert_eq!((world.audit().sampled, world.audit().violations), (3, 0), "a report may take as long as the bound");
    world.pass(Duration::from_millis(1)).await;
    assert_eq!(world.verdicts(), (0, 2, 1), "the copy counts once");
    let Some(Event::AuditFailed { key, age, overwritten_for, .. }) = events.try_next() else {
        panic!("it is announced")
    };
    assert_eq!((&*key, age, overwritten_for), ("k", BOUND + Duration::from_millis(1), BOUND));
    let Some(Event::Removed { cause: RemovalCause::Invalidated, .. }) = events.try_next() else { panic!() };
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("2"), "the copy is not served any more");
    world.pass(BOUND * 5).await;
    assert_eq!(world.audit().violations, 1);
    assert!(events.try_next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lost_report_of_a_key_known_to_be_absent_is_a_violation() {
    let world = World::new().await;
    assert_eq!(read(&world.cache, "absent").await, None);
    world.pass(Duration::from_millis(1)).await;
    world.link.lose(1);
    world.other.set("absent", "there".to_owned()).await.unwrap();
    assert_eq!(read(&world.cache, "absent").await, None);
    world.pass(BOUND * 2).await;
    assert_eq!(world.verdicts(), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn hits_on_what_the_backend_holds_are_confirmed_and_count_as_nothing_else() {
    let world = World::new().await;
    let reads = world.cache.stats().backend.reads;
    for _ in 0..10 {
        world.hit().await;
        sleep(TURNS).await;
    }
    assert_eq!(world.verdicts(), (10, 0, 0));
    assert!(world.audit().nines() > 0.5);
    assert_eq!(world.cache.stats().backend.reads, reads, "audits are counted apart");
    assert_eq!(world.cache.stats().local.misses, 1);
    assert!(world.cache.stats().to_string().contains("10 hits sampled: 10 confirmed"));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_hit_is_sampled_and_a_miss_is_not() {
    let world = World::new().await;
    let mut expected = 0;
    let mut sampled = async |what: &str| {
        expected += 1;
        assert_eq!(world.audit().sampled, expected, "{what}");
        sleep(TURNS).await;
    };
    world.cache.get("k").await.unwrap();
    sampled("get").await;
    world.cache.lookup("k").await.unwrap();
    sampled("lookup").await;
    let _ = world.cache.get_if_local("k");
    sampled("get_if_local").await;
    world.cache.get_many(&["k", "k", "k"]).await.unwrap();
    sampled("the first of get_many").await;
    world.cache.get_or_load("k", async |_: &str| Ok::<_, std::io::Error>(String::new())).await.unwrap();
    sampled("get_or_load").await;
    assert_eq!(read(&world.cache, "missing").await, None);
    assert_eq!(world.audit().sampled, expected);
    assert_eq!(world.verdicts().0, expected);
}

/// What happens between a hit on a copy that the backend's bytes already differ from, and the verdict.
async fn no_violation(what: &str, happens: impl AsyncFn(&World)) {
    let world = World::new().await;
    world.link.hold();
    world.overwrite("2").await;
    world.hit().await;
    sleep(TURNS).await;
    assert_eq!(world.audit().confirmed + world.audit().inconclusive, 0, "{what}: it differs");
    happens(&world).await;
    world.link.release();
    world.link.heartbeat();
    world.pass(BOUND * 3).await;
    assert_eq!(world.verdicts(), (0, 1, 0), "{what}");
}

#[tokio::test(start_paused = true)]
async fn what_takes_the_copy_within_the_bound_is_no_violation() {
    no_violation("a foreign write whose report is late", async |_| {}).await;
    no_violation("another foreign write", async |world| world.overwrite("3").await).await;
    no_violation("one that writes the same again", async |world| world.overwrite("1").await).await;
    no_violation("an own write", async |world| world.cache.set("k", "own".to_owned()).await.unwrap()).await;
    no_violation("an own delete", async |world| _ = world.cache.delete("k").await.unwrap()).await;
    no_violation("a foreign delete", async |world| _ = world.other.delete("k").await.unwrap()).await;
    no_violation("a flush", async |world| world.store.flush_all()).await;
    no_violation("a clear", async |world| _ = world.cache.clear().await.unwrap()).await;
    no_violation("a link that is lost", async |world| world.link.cut()).await;
    no_violation("a link that is lost and restored", async |world| {
        world.link.cut();
        world.link.restore();
        assert_eq!(read(&world.cache, "k").await.as_deref(), Some("2"));
    })
    .await;
    no_violation("a copy that is dropped", async |world| _ = world.cache.clear_local()).await;
    no_violation("a link that gives no sign of life", async |world| {
        world.clock.advance(BOUND * 3);
        sleep(TURNS).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_was_written_back_meanwhile_is_another_one() {
    let world = World::new().await;
    world.link.hold();
    world.overwrite("2").await;
    world.hit().await;
    sleep(TURNS).await;
    world.link.release();
    world.overwrite("1").await;
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("1"), "the same bytes again");
    world.pass(BOUND - Duration::from_millis(1)).await;
    world.link.hold();
    world.overwrite("3").await;
    world.clock.advance(Duration::from_millis(1));
    sleep(TURNS).await;
    assert_eq!(world.verdicts(), (0, 1, 0), "that one was overwritten a moment ago");
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_reads_lag_behind_is_no_violation() {
    use twotier::Backend;
    let world = World::new().await;
    // As if the copy was newer than what the reads of the backend return for a while.
    world.link.lose(2);
    world.store.set(b"t:k", bytes_of(b"0"), None).await.unwrap();
    world.hit().await;
    sleep(TURNS).await;
    world.store.set(b"t:k", bytes_of(b"1"), None).await.unwrap();
    world.pass(BOUND * 2).await;
    assert_eq!(world.verdicts(), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_gone_may_have_expired_and_is_no_violation() {
    let world = World::new().await;
    world.link.lose(1);
    assert!(world.other.delete("k").await.unwrap());
    world.hit().await;
    world.pass(BOUND * 3).await;
    assert_eq!(world.verdicts(), (0, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_ends_before_the_verdict_is_no_violation() {
    let world = World::new().await;
    let life = twotier::SetOptions::new().time_to_live(BOUND);
    world.other.set_with("k", "short".to_owned(), life).await.unwrap();
    assert_eq!(read(&world.cache, "k").await.as_deref(), Some("short"));
    world.pass(BOUND / 2).await;
    let (confirmed, inconclusive, _) = world.verdicts();
    world.link.lose(1);
    world.overwrite("2").await;
    world.hit().await;
    world.pass(BOUND * 2).await;
    assert_eq!(world.verdicts(), (confirmed, inconclusive + 1, 0));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_do_not_decode_are_compared_and_never_decoded() {
    use twotier::Backend;
    let world = World::new().await;
    world.store.set(b"t:k", bytes_of(b"\xff\xfe"), None).await.unwrap();
    assert_eq!(read(&world.cache, "k").await, None, "it reads as absent");
    world.pass(Duration::from_millis(1)).await;
    let undecodable = world.cache.stats().backend.undecodable;
    assert_eq!(read(&world.cache, "k").await, None);
    world.pass(BOUND * 2).await;
    assert_eq!(world.verdicts(), (1, 0, 0), "they are the same bytes");
    assert_eq!(world.cache.stats().backend.undecodable, undecodable);
}

fn bytes_of(bytes: &'static [u8]) -> bytes::Bytes {
    bytes::Bytes::from_static(bytes)
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_cannot_be_read_leaves_a_sample_inconclusive() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let backend = twotier::FaultyBackend::new(store);
    let faults = backend.faults();
    let cache = text().clock(clock.clone()).audit(1000.0).build(backend).await.unwrap();
    cache.set("k", "1".to_owned()).await.unwrap();
    clock.advance(Duration::from_millis(1));
    sleep(TURNS).await;
    faults.fail_next(1, BackendError::new(BackendErrorKind::Unavailable, "a test has it so"));
    assert!(cache.get("k").await.unwrap().is_some());
    sleep(TURNS).await;
    let audit = cache.stats().audit;
    assert_eq!((audit.sampled, audit.inconclusive), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_read_than_was_asked_for_however_many_hits_there_are() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = text().clock(clock.clone()).local_time_to_live(Duration::from_secs(3600)).audit(2.0);
    let cache = builder.build(store.clone()).await.unwrap();
    cache.set("k", "1".to_owned()).await.unwrap();
    let before = store.operations();
    for _ in 0..60_000 {
        clock.advance(Duration::from_millis(1));
        assert!(cache.get("k").await.unwrap().is_some());
        sleep(Duration::from_millis(1)).await;
    }
    let sampled = cache.stats().audit.sampled;
    // A minute at two a second, of pauses drawn at random.
    assert!((100..=140).contains(&sampled), "{sampled}");
    assert_eq!(store.operations().reads() - before.reads(), sampled);
}

#[tokio::test(start_paused = true)]
async fn by_default_nothing_is_audited_nor_where_changes_are_not_reported() {
    let store = MemoryBackend::new();
    let plain = over_memory(&store).await;
    plain.set("k", "1".to_owned()).await.unwrap();
    assert_eq!(plain.stats().audit, AuditStats::default());
    assert!(!plain.stats().to_string().contains("audit"));

    let clock = ManualClock::new();
    let unreported = MemoryBackend::new();
    let builder = text().clock(clock.clone()).coherence(twotier::Coherence::None).audit(1000.0);
    let cache = builder.build(unreported.clone()).await.unwrap();
    cache.set("k", "1".to_owned()).await.unwrap();
    clock.advance(Duration::from_millis(1));
    sleep(TURNS).await;
    assert!(cache.get("k").await.unwrap().is_some());
    sleep(TURNS).await;
    let audit = cache.stats().audit;
    assert!(audit.enabled && audit.sampled == 0, "{audit:?}");
}

#[tokio::test(start_paused = true)]
async fn an_auditor_ends_with_its_cache() {
    struct Value(#[allow(dead_code, reason = "it is held to be counted")] Arc<()>);
    struct Counted(Arc<()>);
    impl twotier::Codec<Value> for Counted {
        fn encode(&self, _value: &Value) -> Result<bytes::Bytes, twotier::CodecError> {
            Ok(bytes_of(b"v"))
        }

        fn decode(&self, _bytes: &bytes::Bytes) -> Result<Value, twotier::CodecError> {
            Ok(Value(Arc::clone(&self.0)))
        }
    }
    let held = Arc::new(());
    let builder = Cache::<Value>::builder().codec(Counted(Arc::clone(&held))).audit(1000.0);
    let cache = builder.build(MemoryBackend::new()).await.unwrap();
    cache.set("k", Value(Arc::clone(&held))).await.unwrap();
    sleep(TURNS).await;
    drop(cache);
    sleep(TURNS).await;
    assert_eq!(Arc::strong_count(&held), 1, "neither copies nor codec are held any more");
}

/// What a step of a random run does.
#[derive(Clone, Debug)]
enum Step {
    Hit,
    OwnWrite(u8),
    OwnDelete,
    OwnUpdate(u8),
    ForeignWrite(u8),
    ForeignLife,
    ForeignDelete,
    Flush,
    Clear,
    Forget,
    Hold,
    Deliver,
    Release,
    Cut,
    Restore,
    /// Of the next report, which no link may do.
    Lose,
    /// Without a sign of life.
    Wait(u64),
    /// With signs of life.
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Hit),
        2 => (0..3_u8).prop_map(Step::OwnWrite),
        1 => Just(Step::OwnDelete),
        1 => (0..3_u8).prop_map(Step::OwnUpdate),
        4 => (0..3_u8).prop_map(Step::ForeignWrite),
        1 => Just(Step::ForeignLife),
        1 => Just(Step::ForeignDelete),
        1 => Just(Step::Flush),
        1 => Just(Step::Clear),
        1 => Just(Step::Forget),
        2 => Just(Step::Hold),
        2 => Just(Step::Deliver),
        2 => Just(Step::Release),
        1 => Just(Step::Cut),
        2 => Just(Step::Restore),
        2 => (0..3000_u64).prop_map(Step::Wait),
        4 => (0..3000_u64).prop_map(Step::Pass),
    ]
}

async fn take(world: &World, step: &Step) {
    let value = |number: &u8| format!("v{number}");
    match step {
        Step::Hit => drop(world.cache.get("k").await.unwrap()),
        Step::OwnWrite(number) => world.cache.set("k", value(number)).await.unwrap(),
        Step::OwnDelete => _ = world.cache.delete("k").await.unwrap(),
        Step::OwnUpdate(number) => drop(world.cache.update("k", |_| Some(value(number))).await.unwrap()),
        Step::ForeignWrite(number) => world.overwrite(&value(number)).await,
        Step::ForeignLife => {
            let life = twotier::SetOptions::new().time_to_live(Duration::from_millis(700));
            world.other.set_with("k", "short".to_owned(), life).await.unwrap();
        }
        Step::ForeignDelete => _ = world.other.delete("k").await.unwrap(),
        Step::Flush => world.store.flush_all(),
        Step::Clear => _ = world.cache.clear().await.unwrap(),
        Step::Forget => _ = world.cache.clear_local(),
        Step::Hold => world.link.hold(),
        Step::Deliver => _ = world.link.deliver(1),
        Step::Release => world.link.release(),
        Step::Cut => world.link.cut(),
        Step::Restore => world.link.restore(),
        Step::Lose => world.link.lose(1),
        Step::Wait(millis) => world.clock.advance(Duration::from_millis(*millis)),
        Step::Pass(millis) => world.pass(Duration::from_millis(*millis)).await,
    }
    sleep(TURNS).await;
}

/// Runs steps, and returns what the auditor says then.
fn audited(steps: &[Step]) -> AuditStats {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new().await;
        for step in steps {
            take(&world, step).await;
        }
        world.link.restore();
        world.link.release();
        world.pass(BOUND * 3).await;
        let _verdicts = world.verdicts();
        world.audit()
    })
}

/// `PROPTEST_CASES` makes it more.
fn cases() -> ProptestConfig {
    let mut config = ProptestConfig::with_cases(64);
    if std::env::var_os("PROPTEST_CASES").is_some() {
        config.cases = ProptestConfig::default().cases;
    }
    config
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_violation_is_ever_found_while_every_report_arrives(steps in prop::collection::vec(step(), 0..80)) {
        let audit = audited(&steps);
        prop_assert_eq!(audit.violations, 0, "{:?}", audit);
    }
}

#[test]
fn random_runs_that_lose_reports_now_and_then_are_found_out() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let lossy = prop_oneof![
        4 => Just(Step::Hit),
        2 => (0..3_u8).prop_map(Step::ForeignWrite),
        2 => Just(Step::Lose),
        2 => (0..3000_u64).prop_map(Step::Pass),
    ];
    let steps = prop::collection::vec(lossy, 40..80);
    let violations = (0..32).filter(|_| audited(&steps.new_tree(&mut runner).unwrap().current()).violations > 0);
    let found = violations.count();
    assert!(found >= 8, "the property above can fail: {found}");
}
