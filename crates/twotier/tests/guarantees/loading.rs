//! `get_or_load`: one load per key at a time.

use std::{
    error::Error as _,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use twotier::{BackendError, BackendErrorKind, ErrorKind, FaultyBackend, MemoryBackend};

use crate::support::{ends, over_memory, read, text};

#[tokio::test(start_paused = true)]
async fn concurrent_loads_of_one_key_run_one_loader_and_all_get_its_value() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let loads = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, loads) = (cache.clone(), Arc::clone(&loads));
            tokio::spawn(async move {
                let loader = || async {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, io::Error>("loaded".to_owned())
                };
                cache.get_or_load("k", |_| loader()).await.unwrap()
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(*ends(caller).await.unwrap(), "loaded");
    }
    assert_eq!(loads.load(Ordering::SeqCst), 1);
    assert_eq!(cache.stats().backend.loads, 1);
    assert_eq!(cache.get_if_local("k").as_deref().map(String::as_str), Some("loaded"));
    cache.clear_local();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("loaded"), "it is in the backend");
}

#[tokio::test(start_paused = true)]
async fn the_loader_s_own_error_reaches_every_waiter_and_nothing_is_kept() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let loader = || async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Err::<String, _>(io::Error::other("no such user"))
                };
                cache.get_or_load("k", |_| loader()).await.unwrap_err()
            })
        })
        .collect();
    for caller in callers {
        let error = ends(caller).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Load);
        let own = error.source().unwrap().downcast_ref::<io::Error>().expect("the loader's own type");
        assert_eq!(own.to_string(), "no such user");
    }
    assert_eq!(cache.stats().backend.loads, 1);
    let value = cache.get_or_load("k", |_| async { Ok::<_, io::Error>("now".to_owned()) }).await.unwrap();
    assert_eq!(*value, "now");
}

#[tokio::test(start_paused = true)]
async fn when_the_future_that_loads_is_dropped_a_waiter_runs_its_own_loader() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("k", |_| std::future::pending::<Result<String, io::Error>>()).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("k", |_| async { Ok::<_, io::Error>("second".to_owned()) }).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!second.is_finished(), "it waits for the first");
    first.abort();
    assert_eq!(*ends(second).await.unwrap(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_panics_leaves_nobody_waiting() {
    let cache = over_memory(&MemoryBackend::new()).await;
    let first = tokio::spawn({
        let cache = cache.clone();
        async move {
            let loader = || async {
                tokio::time::sleep(Duration::from_millis(5)).await;
                panic!("a defect in the loader");
                #[allow(unreachable_code, reason = "gives the loader its type")]
                Ok::<String, io::Error>(String::new())
            };
            cache.get_or_load("k", |_| loader()).await
        }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let second = cache.get_or_load("k", |_| async { Ok::<_, io::Error>("second".to_owned()) });
    assert_eq!(*ends(second).await.unwrap(), "second");
    assert!(first.await.unwrap_err().is_panic());
}

#[tokio::test(start_paused = true)]
async fn a_value_whose_key_was_written_or_deleted_while_it_was_loaded_is_returned_but_not_stored() {
    for other_instance in [false, true] {
        for delete in [false, true] {
            let store = MemoryBackend::new();
            let cache = over_memory(&store).await;
            let writer = if other_instance { over_memory(&store).await } else { cache.clone() };
            let loading = tokio::spawn({
                let cache = cache.clone();
                async move {
                    let loader = || async {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok::<_, io::Error>("from before".to_owned())
                    };
                    cache.get_or_load("k", |_| loader()).await.unwrap()
                }
            });
            tokio::time::sleep(Duration::from_millis(10)).await;
            writer.set("k", "newer".to_owned()).await.unwrap();
            if delete {
                writer.delete("k").await.unwrap();
            }
            assert_eq!(*ends(loading).await.unwrap(), "from before");
            let expected = (!delete).then_some("newer");
            assert_eq!(read(&cache, "k").await.as_deref(), expected, "{other_instance} {delete}");
        }
    }
}

#[tokio::test]
async fn the_loader_runs_even_when_the_backend_is_down_and_the_failure_is_counted() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.fail_all(Some(BackendError::new(BackendErrorKind::Unavailable, "unplugged")));
    let value = cache.get_or_load("k", |_| async { Ok::<_, io::Error>("origin".to_owned()) }).await.unwrap();
    assert_eq!(*value, "origin");
    assert!(cache.stats().backend.errors > 0);
    faults.fail_all(None);
    assert_eq!(cache.clear_local(), 1, "kept for a short time");
    assert_eq!(read(&cache, "k").await, None, "nothing was stored");
}

#[tokio::test]
async fn a_key_known_to_be_absent_is_loaded_without_asking_the_backend_again() {
    let cache = over_memory(&MemoryBackend::new()).await;
    assert_eq!(read(&cache, "k").await, None);
    let value = cache.get_or_load("k", |_| async { Ok::<_, io::Error>("v".to_owned()) }).await.unwrap();
    assert_eq!(*value, "v");
    assert_eq!(cache.stats().backend.reads, 1);
    assert_eq!(read(&cache, "k").await.as_deref(), Some("v"));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_during_an_own_write_does_not_overwrite_it() {
    let backend = FaultyBackend::new(MemoryBackend::new());
    let faults = backend.faults();
    let cache = text().build(backend).await.unwrap();
    faults.latency(Duration::from_millis(100));
    let writing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.set("k", "written".to_owned()).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    faults.heal();
    let loader = || async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok::<_, io::Error>("from before the write".to_owned())
    };
    let loaded = ends(cache.get_or_load("k", |_| loader())).await.unwrap();
    assert_eq!(*loaded, "from before the write", "it found the key absent");
    ends(writing).await.unwrap().unwrap();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("written"));
    cache.clear_local();
    assert_eq!(read(&cache, "k").await.as_deref(), Some("written"));
}
