//! What is loaded while the backend does not answer: how often, by how many at a time, and for how long it is kept.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use twotier::{
    BackendError, BackendErrorKind, Cache, CacheBuilder, Error, ErrorKind, FaultyBackend, Freshness, MemoryBackend,
    Tier, codec::Text,
};
use twotier_testkit::simulation::VirtualClock;

use crate::support::text;

const BOUND: Duration = Duration::from_secs(2);

type Faulty = Arc<FaultyBackend<MemoryBackend>>;

/// A cache whose backend and whose clock are in the hands of the test, and rows behind it.
struct Shop {
    cache: Cache<String>,
    backend: Faulty,
    store: MemoryBackend,
    loads: AtomicUsize,
    row: AtomicUsize,
}

async fn shop(with: impl FnOnce(CacheBuilder<String, Text>) -> CacheBuilder<String, Text>) -> Shop {
    let clock = VirtualClock::new(Duration::from_millis(1));
    let store = MemoryBackend::with_clock(clock.clone());
    let backend = Arc::new(FaultyBackend::new(store.clone()));
    let builder = text().clock(clock).max_staleness(BOUND);
    let cache = with(builder).build(Arc::clone(&backend)).await.unwrap();
    Shop { cache, backend, store, loads: AtomicUsize::new(0), row: AtomicUsize::new(1) }
}

impl Shop {
    fn stop(&self) {
        let cause = BackendError::new(BackendErrorKind::Unavailable, "connection refused");
        self.backend.faults().fail_all(Some(cause));
    }

    /// Reads a key, and loads the row as it is now.
    async fn load(&self, key: &str) -> Result<String, Error> {
        let load = async |_: &str| {
            self.loads.fetch_add(1, Ordering::SeqCst);
            Ok::<_, io::Error>(format!("row {}", self.row.load(Ordering::SeqCst)))
        };
        self.cache.get_or_load(key, load).await.map(|value| (*value).clone())
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_is_loaded_once_in_a_bound_however_often_it_is_asked_for() {
    let shop = shop(|builder| builder).await;
    shop.stop();
    let started = Instant::now();
    while started.elapsed() < 10 * BOUND {
        assert_eq!(shop.load("k").await.unwrap(), "row 1");
        sleep(Duration::from_millis(10)).await;
    }
    assert!((10..=11).contains(&shop.loads()), "{} loads", shop.loads());
    let backend = shop.cache.stats().backend;
    assert_eq!((backend.outage_loads, backend.outage_kept), (backend.loads, backend.loads));
}

#[tokio::test(start_paused = true)]
async fn the_bound_counts_from_before_the_load_began() {
    let shop = shop(|builder| builder).await;
    shop.stop();
    let slow = async |_: &str| {
        sleep(BOUND * 3 / 4).await;
        Ok::<_, io::Error>("slow".to_owned())
    };
    shop.cache.get_or_load("k", slow).await.unwrap();
    let lookup = shop.cache.lookup("k").await.unwrap();
    assert_eq!((lookup.tier, lookup.age), (Tier::Local, BOUND * 3 / 4));
    assert!(matches!(lookup.freshness, Freshness::Outage { at_most, .. } if at_most == lookup.age), "{lookup:?}");
    sleep(BOUND / 4).await;
    assert_eq!(shop.cache.get_if_local("k"), None);
}

#[tokio::test(start_paused = true)]
async fn whatever_ends_a_copy_ends_what_was_loaded_without_a_backend() {
    let shop = shop(|builder| builder).await;
    let other = text().build(shop.store.clone()).await.unwrap();
    let held = |key: &str| shop.cache.get_if_local(key).is_some();
    let keys = ["set", "delete", "deleted with others", "update", "reported", "invalidated", "other"];
    shop.stop();
    for key in keys {
        shop.load(key).await.unwrap();
        assert!(held(key));
    }
    assert!(shop.cache.set("set", "v").await.is_err());
    assert!(shop.cache.delete("delete").await.is_err());
    assert!(shop.cache.delete_many(&["deleted with others"]).await.is_err());
    other.set("reported", "v").await.unwrap();
    assert!(shop.cache.invalidate_local("invalidated"));
    for key in ["set", "delete", "deleted with others", "reported", "invalidated"] {
        assert!(!held(key), "{key}");
    }
    assert!(held("other"));
    shop.cache.clear_local();
    assert!(!held("other"));
    shop.load("other").await.unwrap();
    shop.store.flush_all();
    assert!(!held("other"), "a flush");
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_backend_answers_again() {
    let shop = shop(|builder| builder.outage_time_to_live(Duration::from_secs(600))).await;
    shop.stop();
    for _ in 0..4 {
        shop.load("k").await.unwrap();
        shop.load("l").await.unwrap();
        shop.load("m").await.unwrap();
    }
    assert_eq!(shop.loads(), 3);
    shop.row.store(2, Ordering::SeqCst);
    shop.backend.faults().heal();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(shop.load("k").await.unwrap(), "row 1", "as long as nobody asks the backend, nobody knows");
    assert_eq!(shop.load("asked").await.unwrap(), "row 2");
    for key in ["k", "l", "m"] {
        assert_eq!(shop.load(key).await.unwrap(), "row 2");
    }
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_link_comes_up() {
    let store = MemoryBackend::new();
    let link = store.scripted_link();
    let backend = Arc::new(FaultyBackend::new(store));
    let cache = text().outage_time_to_live(Duration::from_secs(600)).build(Arc::clone(&backend)).await.unwrap();
    link.cut();
    let cause = BackendError::new(BackendErrorKind::Unavailable, "connection refused");
    backend.faults().fail_next(1, cause);
    let load = async |_: &str| Ok::<_, io::Error>("loaded".to_owned());
    cache.get_or_load("k", load).await.unwrap();
    assert!(cache.get_if_local("k").is_some(), "kept though the link is down");
    link.restore();
    assert!(cache.get_if_local("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_load_that_was_overtaken_is_returned_and_not_kept() {
    let shop = shop(|builder| builder).await;
    shop.stop();
    for end in ["own write", "report", "clearing"] {
        let overtaken = async |_: &str| {
            match end {
                "own write" => _ = shop.cache.set("k", "newer").await,
                "report" => shop.store.flush_all(),
                _ => _ = shop.cache.clear_local(),
            }
            Ok::<_, io::Error>("older".to_owned())
        };
        assert_eq!(*shop.cache.get_or_load("k", overtaken).await.unwrap(), "older");
        assert!(shop.cache.get_if_local("k").is_none(), "{end}");
    }
    assert_eq!(shop.cache.stats().backend.outage_kept, 0);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_left_out_and_lives_no_longer_than_its_value() {
    let shop = shop(|builder| builder.outage_time_to_live(Duration::ZERO)).await;
    shop.stop();
    shop.load("k").await.unwrap();
    assert!(shop.cache.get_if_local("k").is_none());
    let shop = self::shop(|builder| builder.outage_time_to_live(Duration::from_secs(60))).await;
    shop.stop();
    let load = async |_: &str| Ok::<_, io::Error>(("short".to_owned(), Duration::from_secs(1)));
    shop.cache.get_or_load("k", load).await.unwrap();
    sleep(Duration::from_millis(990)).await;
    assert!(shop.cache.get_if_local("k").is_some());
    sleep(Duration::from_millis(10)).await;
    assert!(shop.cache.get_if_local("k").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_kept_too() {
    let shop = shop(|builder| builder).await;
    shop.stop();
    let load = async |keys: Vec<&'static str>| {
        shop.loads.fetch_add(keys.len(), Ordering::SeqCst);
        Ok::<_, io::Error>(keys.into_iter().map(|key| (key, key.to_uppercase())).collect::<Vec<_>>())
    };
    for _ in 0..5 {
        let found = shop.cache.get_many_or_load(&["a", "b"], load).await.unwrap();
        assert_eq!(found.iter().flatten().map(|value| value.as_str()).collect::<Vec<_>>(), ["A", "B"]);
    }
    assert_eq!(shop.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_more_loaders_run_at_a_time_than_allowed_and_whoever_waits_too_long_gets_an_error() {
    let shop = Arc::new(shop(|builder| builder.outage_loads(3)).await);
    shop.stop();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..30)
        .map(|key: usize| {
            let (shop, running, most) = (Arc::clone(&shop), Arc::clone(&running), Arc::clone(&most));
            tokio::spawn(async move {
                let load = async |_: usize| {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    sleep(Duration::from_millis(500)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, io::Error>("loaded".to_owned())
                };
                shop.cache.get_or_load(key, load).await.map_err(|error| error.kind())
            })
        })
        .collect();
    let (mut loaded, mut refused) = (0, 0);
    for caller in callers {
        match caller.await.unwrap() {
            Ok(_) => loaded += 1,
            Err(kind) => {
                assert_eq!(kind, ErrorKind::Unavailable);
                refused += 1;
            }
        }
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert!((12..=15).contains(&loaded), "{loaded} loaded and {refused} not, in the 2 s that one waits for a load");
    assert_eq!(shop.cache.stats().backend.outage_refused, refused);
    shop.load("and then").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_is_never_polled_again_gives_its_place_back() {
    let shop = shop(|builder| builder.outage_loads(1).load_timeout(Duration::from_secs(1))).await;
    shop.stop();
    let never = async |_: &str| {
        std::future::pending::<()>().await;
        Ok::<_, io::Error>("never".to_owned())
    };
    let mut unpolled = Box::pin(shop.cache.get_or_load("unpolled", never));
    // Until its loader has begun.
    for _ in 0..8 {
        assert!(futures_util::poll!(&mut unpolled).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(shop.load("other").await.unwrap(), "row 1");
    assert_eq!(shop.load("another").await.unwrap(), "row 1");
    let mut dropped = Box::pin(shop.cache.get_or_load("dropped", never));
    for _ in 0..8 {
        assert!(futures_util::poll!(&mut dropped).is_pending());
        tokio::task::yield_now().await;
    }
    let now = Instant::now();
    drop(dropped);
    shop.load("at once").await.unwrap();
    assert_eq!(now.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn while_the_backend_answers_loaders_are_not_counted() {
    let shop = Arc::new(shop(|builder| builder.outage_loads(1)).await);
    let started = Instant::now();
    let callers: Vec<_> = (0..10)
        .map(|key: usize| {
            let shop = Arc::clone(&shop);
            tokio::spawn(async move {
                let load = async |_: usize| {
                    sleep(Duration::from_secs(1)).await;
                    Ok::<_, io::Error>("loaded".to_owned())
                };
                shop.cache.get_or_load(key, load).await.unwrap();
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(1100));
}
