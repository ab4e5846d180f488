//! `increment`: the backend adds, in one step.

use std::time::Duration;

use twotier::{
    BackendError, BackendErrorKind, Cache, Error, ErrorKind, FaultPoint, FaultyBackend, ManualClock, MemoryBackend,
    RemainingTtl, SetOptions,
    codec::{Codec, Json, Raw, Sealed},
};

use twotier::Backend as _;

async fn numbers(store: &MemoryBackend) -> Cache<i64> {
    Cache::builder().namespace("n").build(store.clone()).await.unwrap()
}

#[tokio::test]
async fn a_sum_is_returned_by_one_command_and_is_a_local_hit_afterwards() {
    let store = MemoryBackend::new();
    let (ours, theirs) = (numbers(&store).await, numbers(&store).await);
    assert_eq!(ours.increment("k", 5).await.unwrap(), 5);
    assert_eq!(ours.increment("k", -7).await.unwrap(), -2);
    assert_eq!(store.operations().total(), 2);
    assert_eq!(ours.get("k").await.unwrap().as_deref(), Some(&-2));
    assert_eq!(store.operations().total(), 2, "it is a local hit");
    assert_eq!(theirs.get("k").await.unwrap().as_deref(), Some(&-2));
    assert_eq!(theirs.increment("k", 1).await.unwrap(), -1);
    assert_eq!(ours.get("k").await.unwrap().as_deref(), Some(&-1), "a copy of the number went by the report");
}

#[tokio::test]
async fn a_number_lives_for_as_long_as_is_said_when_it_is_new_and_keeps_its_life_afterwards() {
    let clock = ManualClock::new();
    let store = MemoryBackend::with_clock(clock.clone());
    let builder = Cache::<i64>::builder().namespace("n").clock(clock.clone()).time_to_live(Duration::from_secs(60));
    let cache = builder.build(store.clone()).await.unwrap();
    let ttl = async |key: &[u8]| store.get(key).await.unwrap().unwrap().ttl;
    cache.increment("k", 1).await.unwrap();
    cache.increment_with("own", 1, SetOptions::new().time_to_live(Duration::from_secs(10))).await.unwrap();
    cache.increment_with("ever", 1, SetOptions::new().time_to_live(None)).await.unwrap();
    assert_eq!(ttl(b"n:k").await, RemainingTtl::Expires(Duration::from_secs(60)));
    assert_eq!(ttl(b"n:ever").await, RemainingTtl::Persistent);
    clock.advance(Duration::from_secs(4));
    for key in ["k", "own", "ever"] {
        assert_eq!(cache.increment(key, 1).await.unwrap(), 2);
    }
    assert_eq!(ttl(b"n:k").await, RemainingTtl::Expires(Duration::from_secs(56)));
    assert_eq!(ttl(b"n:ever").await, RemainingTtl::Persistent);
    clock.advance(Duration::from_millis(5_999));
    assert_eq!(cache.get_if_local("own").as_deref(), Some(&2));
    clock.advance(Duration::from_millis(1));
    assert_eq!(cache.get_if_local("own"), None, "the copy ends with the number");
    assert_eq!(cache.increment("own", 1).await.unwrap(), 1);
    let refused = cache.increment_with("k", 1, SetOptions::new().time_to_live(Duration::ZERO)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn what_is_no_integer_is_refused_and_stays() {
    let store = MemoryBackend::new();
    let cache = numbers(&store).await;
    for held in ["1.5", "\"7\"", "9223372036854775807"] {
        store.set(b"n:k", held.into(), None).await.unwrap();
        let error = cache.increment("k", 1).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::Rejected, false), "{error}");
        assert!(error.to_string().starts_with("increment in namespace `n`"), "{error}");
        assert_eq!(store.get(b"n:k").await.unwrap().unwrap().value, held);
    }
}

#[tokio::test]
async fn a_sum_that_the_type_has_no_room_for_is_returned_and_an_error_of_reads() {
    let store = MemoryBackend::new();
    let cache: Cache<u8> = Cache::builder().namespace("n").build(store.clone()).await.unwrap();
    assert_eq!(cache.increment("k", 250).await.unwrap(), 250);
    assert_eq!(cache.get_if_local("k").as_deref(), Some(&250));
    assert_eq!(cache.increment("k", 10).await.unwrap(), 260);
    assert_eq!(cache.get("k").await.unwrap_err().kind(), ErrorKind::Codec);
}

async fn refuses<V: Send + Sync + 'static>(codec: impl Codec<V>) {
    let store = MemoryBackend::new();
    let cache = Cache::<V>::builder().codec(codec).build(store.clone()).await.unwrap();
    let error = cache.increment("k", 1).await.unwrap_err();
    assert!(matches!(error, Error::Usage { .. }) && error.to_string().contains("decimal"), "{error}");
    assert_eq!(store.operations().total(), 0, "nothing was sent");
}

#[tokio::test]
async fn codecs_whose_numbers_are_no_decimal_text_are_refused_before_anything_is_sent() {
    refuses::<i64>(Sealed::new(Json)).await;
    refuses::<f64>(Json).await;
    refuses::<String>(Json).await;
    refuses::<Vec<i64>>(Json).await;
    #[cfg(feature = "messagepack")]
    refuses::<i64>(twotier::codec::MessagePack).await;
    #[cfg(feature = "postcard")]
    refuses::<i64>(twotier::codec::Postcard).await;
    let text: Cache<String> = crate::support::text().build(MemoryBackend::new()).await.unwrap();
    assert_eq!(text.increment("k", 3).await.unwrap(), 3);
    assert_eq!(text.get_if_local("k").as_deref().map(String::as_str), Some("3"));
    let raw: Cache<Vec<u8>> = Cache::builder().codec(Raw).build(MemoryBackend::new()).await.unwrap();
    assert_eq!(raw.increment("k", 3).await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_failed_increment_says_whether_it_may_have_counted_and_leaves_no_copy() {
    let store = MemoryBackend::new();
    let backend = FaultyBackend::new(store.clone());
    let faults = backend.faults();
    let cache: Cache<i64> = Cache::builder().namespace("n").build(backend).await.unwrap();
    cache.increment("k", 1).await.unwrap();
    faults.strike(FaultPoint::After);
    faults.fail_next(1, BackendError::new(BackendErrorKind::Unavailable, "the connection broke"));
    let error = cache.increment("k", 1).await.unwrap_err();
    assert!(error.may_have_executed());
    assert_eq!(cache.get_if_local("k"), None);
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
    faults.hang(true);
    let error = cache.increment("k", 1).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { sent: true, .. }), "{error:?}");
    faults.heal();
    assert_eq!(cache.increment("k", 0).await.unwrap(), 3, "it was executed");
}

mod live {
    use std::time::Duration;

    use twotier::{Cache, ErrorKind};
    use twotier_testkit::RedisServer;

    use crate::support::redis;

    #[tokio::test]
    async fn an_increment_is_one_round_trip_whose_own_report_drops_nothing() {
        let server = RedisServer::start();
        let cache: Cache<i64> = Cache::builder().namespace("n").build(redis(&server)).await.unwrap();
        let expiring = Cache::<i64>::builder().namespace("e").time_to_live(Duration::from_secs(60));
        let expiring = expiring.build(redis(&server)).await.unwrap();
        server.reset_stats();
        for number in 1..=100 {
            for cache in [&cache, &expiring] {
                assert_eq!(cache.increment("k", 1).await.unwrap(), number);
                assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&number));
            }
        }
        assert_eq!((server.calls(&["incrby"]), server.calls(&["get", "mget"])), (200, 0), "every get was a local hit");
        assert_eq!((server.calls(&["multi"]), server.calls(&["eval"])), (100, 0));
        assert_eq!(server.command(&["PTTL", "n:k"]).as_int(), -1);
        assert!((1..=60_000).contains(&server.command(&["PTTL", "e:k"]).as_int()));
        server.command(&["SET", "n:k", "text"]);
        assert_eq!(cache.increment("k", 1).await.unwrap_err().kind(), ErrorKind::Rejected);
        server.command(&["SET", "e:k", "text"]);
        assert_eq!(expiring.increment("k", 1).await.unwrap_err().kind(), ErrorKind::Rejected);
        assert_eq!(expiring.increment("l", 1).await.unwrap(), 1, "the connection is as good as before");
    }

    #[tokio::test]
    async fn a_user_without_transactions_gets_an_error_that_says_so_and_keeps_its_link() {
        let rules = "+@all -multi -exec";
        let server = RedisServer::builder().acl_user(&format!("app on >p ~* &* {rules}")).start();
        let backend = twotier::RedisBackend::new(format!("redis://app:p@127.0.0.1:{}", server.port())).unwrap();
        let builder = Cache::<i64>::builder().namespace("n").time_to_live(Duration::from_secs(60));
        let cache = builder.build(backend).await.unwrap();
        cache.set("l", 1).await.unwrap();
        for _ in 0..3 {
            let error = cache.increment("k", 1).await.unwrap_err();
            assert!(error.may_have_executed(), "{error}");
            assert!(std::error::Error::source(&error).unwrap().to_string().contains("+multi"), "{error:?}");
        }
        let plain = twotier::SetOptions::new().time_to_live(None);
        assert_eq!(cache.increment_with("other", 1, plain).await.unwrap(), 1, "that is one command");
        assert_eq!(cache.get_if_local("l").as_deref(), Some(&1));
        assert_eq!(cache.stats().coherence.links, 1, "the link was not lost");
    }

    #[tokio::test]
    async fn increments_of_several_caches_lose_nothing() {
        let server = RedisServer::start();
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let builder = Cache::<i64>::builder().namespace("n").time_to_live(Duration::from_secs(60));
            let cache = builder.op_timeout(Duration::from_secs(10)).build(redis(&server)).await.unwrap();
            for _ in 0..4 {
                let cache = cache.clone();
                tasks.push(tokio::spawn(async move {
                    for _ in 0..100 {
                        cache.increment("k", 1).await.unwrap();
                    }
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(server.command(&["GET", "n:k"]).as_str(), "1200");
    }
}
