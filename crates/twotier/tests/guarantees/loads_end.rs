//! I6 for loads: every call ends, whoever else is slow, unpolled or recursive.

use std::{future::pending, io, time::Duration};

use futures_util::{future::join, poll};
use tokio::time::Instant;
use twotier::{ErrorKind, MemoryBackend};

use crate::support::{ends, over_memory, text};

type Loaded = Result<String, io::Error>;

fn loaded(value: &str) -> Loaded {
    Ok(value.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_fails_at_once_for_all_who_wait() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let began = Instant::now();
    let own = async || cache.get_or_load("k", async |_| loaded("inner")).await.map(|value| (*value).clone());
    let error = ends(cache.get_or_load("k", |_| own())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Load);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("must not ask for the key that it loads"), "{cause}");
    // By either method, and through the loader of another key.
    let many = async |_missing: Vec<&str>| {
        let inner =
            async |missing: Vec<&'static str>| Ok::<_, io::Error>(missing.into_iter().map(|key| (key, String::new())));
        cache.get_many_or_load(&["b", "c"], inner).await.map(|_| Vec::<(String, String)>::new())
    };
    assert_eq!(ends(cache.get_many_or_load(&["a", "b"], many)).await.unwrap_err().kind(), ErrorKind::Load);
    let through = async || {
        let back = async || cache.get_or_load("a", async |_| loaded("x")).await.map(|value| (*value).clone());
        cache.get_or_load("b", |_| back()).await.map(|value| (*value).clone())
    };
    assert_eq!(ends(cache.get_or_load("a", |_| through())).await.unwrap_err().kind(), ErrorKind::Load);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_loader_may_ask_for_other_keys_and_for_its_own_in_another_cache() {
    let (cache, other) = (over_memory(&MemoryBackend::new()).await, over_memory(&MemoryBackend::new()).await);
    let loader = async || {
        let key = cache.get_or_load("other", async |_| loaded("1")).await?;
        let there = other.get_or_load("k", async |_| loaded("2")).await?;
        Ok::<_, twotier::Error>(format!("{key}{there}"))
    };
    assert_eq!(*ends(cache.get_or_load("k", |_| loader())).await.unwrap(), "12");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_kept_and_not_polled_is_waited_for_once_and_then_replaced_by_one() {
    let cache = text().load_wait(Duration::from_secs(1)).build(MemoryBackend::new()).await.unwrap();
    let mut leader = std::pin::pin!(cache.get_or_load("k", |_| pending::<Loaded>()));
    assert!(poll!(leader.as_mut()).is_pending());
    let began = Instant::now();
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let cache = cache.clone();
            let loader = async || {
                tokio::time::sleep(Duration::from_millis(300)).await;
                loaded("v")
            };
            tokio::spawn(async move { cache.get_or_load("k", |_| loader()).await.unwrap() })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(*ends(waiter).await.unwrap(), "v");
    }
    assert_eq!(began.elapsed().as_millis(), 1300);
    assert_eq!(cache.stats().backend.loads, 2, "that of the leader, and one for all who waited");
    let batch =
        async |missing: Vec<&'static str>| Ok::<_, io::Error>(missing.into_iter().map(|key| (key, "w".to_owned())));
    let mut second = std::pin::pin!(cache.get_or_load("l", |_| pending::<Loaded>()));
    assert!(poll!(second.as_mut()).is_pending());
    let found = ends(cache.get_many_or_load(&["l", "m"], batch)).await.unwrap();
    assert!(found.iter().all(|value| value.as_deref().is_some_and(|value| value == "w")));
}

#[tokio::test(start_paused = true)]
async fn loaders_that_wait_for_each_other_s_keys_end() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let load = |key: &'static str, other: &'static str| {
        let cache = cache.clone();
        async move {
            let loader = async || {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let inner = cache.get_or_load(other, async |_| loaded("inner")).await?;
                Ok::<_, twotier::Error>((*inner).clone())
            };
            cache.get_or_load(key, |_| loader()).await.map(|value| (*value).clone())
        }
    };
    let began = Instant::now();
    let (x, y) = ends(join(tokio::spawn(load("x", "y")), tokio::spawn(load("y", "x")))).await;
    assert!(x.unwrap().is_ok() && y.unwrap().is_ok());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_never_ends_is_dropped_at_its_deadline() {
    let cache = text().load_timeout(Duration::from_secs(3)).build(MemoryBackend::new()).await.unwrap();
    let began = Instant::now();
    let error = ends(cache.get_or_load("k", |_| pending::<Loaded>())).await.unwrap_err();
    assert_eq!((error.kind(), began.elapsed()), (ErrorKind::Timeout, Duration::from_secs(3)));
    assert!(!error.may_have_executed());
    let never = |_missing: Vec<&str>| pending::<Result<Vec<(String, String)>, io::Error>>();
    assert_eq!(ends(cache.get_many_or_load(&["k"], never)).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(*ends(cache.get_or_load("k", async |_| loaded("v"))).await.unwrap(), "v");
}
