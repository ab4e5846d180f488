//! Settings are layered: what is set over what is configured over the defaults, field by field.

use std::time::Duration;

use twotier::{Cache, CacheConfig, MemoryBackend};

#[tokio::test]
async fn what_the_builder_sets_wins_over_its_defaults_whichever_came_first() {
    let config = CacheConfig::new("configured").max_entries(7).max_bytes(70_000);
    let store = MemoryBackend::new();
    for order in [false, true] {
        let builder = Cache::<String>::builder();
        let builder = if order {
            builder.namespace("set").max_entries(9).defaults(&config)
        } else {
            builder.defaults(&config).namespace("set").max_entries(9)
        };
        let cache = builder.build(store.clone()).await.unwrap();
        cache.set("k", "v".to_owned()).await.unwrap();
        assert_eq!(store.len(), 1, "the namespace that was set holds the key in both orders");
        let local = cache.stats().local;
        assert_eq!((local.max_size, local.max_bytes), (9, 70_000));
    }
}

#[tokio::test]
async fn one_configuration_makes_many_caches() {
    let vars = [("MYAPP_CACHE_MAX_STALENESS".into(), "1s".into()), ("MYAPP_CACHE_SERVICE_PORT".into(), "80".into())];
    let config = CacheConfig::default().max_entries(7).with_vars("MYAPP_CACHE", vars).unwrap();
    let store = MemoryBackend::new();
    for namespace in ["users", "pages"] {
        let builder = Cache::<String>::builder().namespace(namespace).defaults(&config);
        let cache = builder.build(store.clone()).await.unwrap();
        assert_eq!(cache.stats().local.max_size, 7);
        assert_eq!(cache.health().max_staleness, Some(Duration::from_secs(1)));
    }
}
