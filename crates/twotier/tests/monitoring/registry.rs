//! The text that Prometheus scrapes.

use std::collections::HashSet;

use twotier::{Cache, MemoryBackend, blocking, prometheus::Registry};

use crate::{figures::Figures, script};

#[tokio::test]
async fn every_figure_of_a_scrape_is_that_of_the_statistics_and_none_is_left_out() {
    let (first, second) = (script::run("first").await, script::run("second:v2").await);
    let registry = Registry::new();
    registry.register(&first.cache);
    registry.register(&second.cache);
    let shown = Figures::parse(&registry.render());
    let mut expected = Figures::default();
    expected.expect("first", &first.cache.stats());
    expected.expect("second:v2", &second.cache.stats());
    assert_eq!(shown.0, expected.0);

    let mut alone = String::new();
    first.cache.stats().write_prometheus(&mut alone).unwrap();
    let mut expected = Figures::default();
    expected.expect("first", &first.cache.stats());
    assert_eq!(Figures::parse(&alone).0, expected.0);
}

#[tokio::test]
async fn a_family_is_described_once_and_before_its_first_line() {
    let (first, second) = (script::run("first").await, script::run("second").await);
    let registry = Registry::new();
    registry.register(&first.cache);
    registry.register(&second.cache);
    let text = registry.render();
    assert!(text.ends_with('\n'));
    let mut described = HashSet::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let family = line.strip_prefix("# HELP ").unwrap().split(' ').next().unwrap();
        assert!(described.insert(family.to_owned()), "{family} is described twice");
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {family} ")).unwrap();
        assert_eq!(kind == "counter", family.ends_with("_total"), "{family}");
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            assert!(line.starts_with(family), "{line} stands under {family}");
        }
    }
}

#[tokio::test]
async fn a_dropped_cache_vanishes_and_a_registry_keeps_none_alive() {
    let registry = Registry::new();
    let cache: Cache<u32> = Cache::builder().namespace("gone").build(MemoryBackend::new()).await.unwrap();
    let stays: Cache<u32> = Cache::builder().namespace("stays").build(MemoryBackend::new()).await.unwrap();
    registry.register(&cache);
    registry.register(&stays);
    let (clone, shown) = (cache.clone(), |namespace: &str| registry.render().contains(&format!("\"{namespace}\"")));
    drop(cache);
    assert!(shown("gone") && shown("stays"), "a clone is left");
    drop(clone);
    assert!(!shown("gone") && shown("stays"));
    drop(stays);
    assert_eq!(registry.render(), "");
}

#[tokio::test]
async fn of_two_caches_with_one_name_the_later_is_shown_and_another_name_shows_both() {
    let registry = Registry::new();
    let mut caches: Vec<Cache<u32>> = Vec::new();
    for _ in 0..2 {
        caches.push(Cache::builder().namespace("n").build(MemoryBackend::new()).await.unwrap());
        registry.register(caches.last().unwrap());
    }
    caches[1].set("k", 1).await.unwrap();
    assert!(registry.render().contains("redis_client_csc_items{namespace=\"n\"} 1\n"));
    assert_eq!(registry.render().matches("redis_client_csc_items{").count(), 1);
    registry.register_as("elsewhere \"2\"", &caches[0]);
    assert!(registry.render().contains("redis_client_csc_items{namespace=\"elsewhere \\\"2\\\"\"} 0\n"));
    assert_eq!(registry.render().matches("redis_client_csc_items{").count(), 2);
}

#[test]
fn a_blocking_cache_is_shown_too_and_a_cache_without_local_tier_shows_no_figures_of_one() {
    let registry = Registry::new();
    let cache: blocking::Cache<u32> =
        blocking::Cache::build(blocking::Cache::builder().namespace("b").without_local(), MemoryBackend::new())
            .unwrap();
    registry.register_blocking(&cache);
    cache.set("k", 1).unwrap();
    let text = registry.render();
    assert!(
        text.contains(
            "db_client_operation_duration_seconds_count{namespace=\"b\",db_system_name=\"memory\",\
         db_operation_name=\"write\"} 1\n"
        ),
        "{text}"
    );
    assert!(!text.contains("redis_client_csc_") && !text.contains("twotier_misses"), "{text}");
}

#[tokio::test]
async fn a_link_that_is_down_is_shown_with_no_lease() {
    let run = script::run("n").await;
    run.link.cut();
    let mut text = String::new();
    run.cache.stats().write_prometheus(&mut text).unwrap();
    assert!(text.contains("twotier_link_state{namespace=\"n\"} 0\n"), "{text}");
    assert!(text.contains("twotier_lease_remaining_seconds{namespace=\"n\"} 0\n"));
}
