//! `twotier::blocking`: the same cache without a runtime of the caller's.

use twotier::{Cache, ErrorKind, MemoryBackend, blocking, codec::Text};

fn cache() -> blocking::Cache<String> {
    blocking::Cache::build(Cache::<String>::builder().namespace("t").codec(Text), MemoryBackend::new()).unwrap()
}

#[test]
fn every_operation_works_from_plain_threads() {
    let cache = cache();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = cache.clone();
            scope.spawn(move || {
                let key = format!("k{thread}");
                cache.set(&key, "v".to_owned()).unwrap();
                assert_eq!(cache.get(&key).unwrap().as_deref().map(String::as_str), Some("v"));
            });
        }
    });
    assert_eq!(cache.get_many(&["k0", "none"]).unwrap().iter().flatten().count(), 1);
    let loaded = cache.get_or_load("l", |_| Ok::<_, std::io::Error>("loaded".to_owned())).unwrap();
    assert_eq!(*loaded, "loaded");
    assert!(cache.lookup("l").unwrap().value.is_some());
    cache.set_many([("m", "1".to_owned())]).unwrap();
    assert!(cache.delete("m").unwrap());
    assert_eq!(cache.delete_many(&["k0", "k1"]).unwrap(), 2);
    cache.clear_local();
    assert_eq!(cache.warm(&["k2", "k3", "none"]).unwrap(), 2);
    assert!(cache.get_if_local("k2").is_some() && cache.invalidate_local("k2"));
    assert_eq!(cache.clear().unwrap(), 3);
    assert!(cache.health().is_healthy());
    let loader =
        |missing: Vec<&'static str>| Ok::<_, std::io::Error>(missing.into_iter().map(|key| (key, key.to_owned())));
    let loaded = cache.get_many_or_load(&["x", "y"], loader).unwrap();
    assert_eq!(loaded.iter().flatten().map(|value| value.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    assert!(cache.set_each([("z", "1".to_owned()), ("", "2".to_owned())]).iter().map(Result::is_ok).eq([true, false]));
    assert!(cache.get_each(&["z", ""]).iter().map(Result::is_ok).eq([true, false]));
    assert!(matches!(cache.delete_each(&["z", "z", "none"])[..], [Ok(true), Ok(true), Ok(false)]));
    let hot = cache.hot_keys(10);
    cache.clear_local();
    assert!(hot.contains(&"x".to_owned()));
    assert_eq!(cache.warm_paced(&hot, std::num::NonZeroU32::MAX).unwrap(), 2);
    cache.close().unwrap();
    assert_eq!(cache.get("k2").unwrap_err().kind(), ErrorKind::Closed);
    assert!(cache.stats().backend.operations() > 0);
}

#[tokio::test]
async fn a_blocking_call_within_a_task_is_an_error_and_dropping_the_cache_there_is_fine() {
    let cache = std::thread::spawn(cache).join().unwrap();
    let error = cache.get("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("twotier::Cache"), "{error}");
    assert!(matches!(&cache.get_each(&["k", "l"])[..], [Err(_), Err(error)] if error.kind() == ErrorKind::Invalid));
    let error = blocking::Cache::<u32>::build(Cache::builder(), MemoryBackend::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    drop(cache);
}
