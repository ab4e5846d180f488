//! What must hold once everything was healed and nothing happens any more.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use twotier::{Cache, Tier};

use crate::{
    checker::Checker,
    scenario::{Scenario, key},
};

/// Waits until everything must have settled. In a cluster it has for most of the time as soon as the caches find
/// themselves well.
pub(crate) async fn wait(caches: &[Cache<String>], scenario: &Scenario) {
    let Some(slots) = &scenario.slots else { return sleep(scenario.rest()).await };
    // An election that came to nothing is waited for.
    let end = Instant::now() + scenario.rest() + 2 * slots.node_timeout + Duration::from_secs(3);
    sleep(2 * (scenario.max_staleness + scenario.dead_after)).await;
    while Instant::now() < end && !caches.iter().all(|cache| cache.health().reasons.is_empty()) {
        sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that every cache agrees with the server, and that every key can be a local hit again.
pub(crate) async fn judge(caches: &[Cache<String>], checker: &Checker, scenario: &Scenario) {
    for (number, cache) in caches.iter().enumerate() {
        if !cache.health().is_healthy() {
            checker.violation("at rest", format!("cache {number} has no link: {:?}", cache.health().link));
            continue;
        }
        for key in (0..scenario.keys).map(key) {
            judge_key(cache, number, &key, checker, scenario).await;
        }
    }
    for (number, cache) in caches.iter().enumerate() {
        let (key, value) = (key(0), format!("rest-{number}"));
        if let Err(error) = cache.set(&key, value.clone()).await {
            checker.violation("at rest", format!("cache {number} cannot write {key}: {error}"));
            continue;
        }
        if cache.get_if_local(&key).as_deref() != Some(&value) && !scenario.without_local {
            checker.violation("own writes are hits", format!("cache {number} does not hold {key} = {value}"));
        }
        // As long as the others may keep what was there before.
        let late = if scenario.unreported { scenario.max_staleness } else { Duration::ZERO };
        sleep(Duration::from_millis(200).max(late)).await;
        for (other, cache) in caches.iter().enumerate() {
            match cache.get(&key).await {
                Ok(found) if found.as_deref() == Some(&value) => {}
                Ok(found) => {
                    checker.violation("at rest", format!("cache {other} read {key} = {found:?}, written was {value}"));
                }
                Err(error) => checker.violation("at rest", format!("cache {other} cannot read {key}: {error}")),
            }
        }
    }
}

async fn judge_key(cache: &Cache<String>, number: usize, key: &str, checker: &Checker, scenario: &Scenario) {
    let truth = || checker.present(key);
    if let Some(copy) = cache.get_if_local(key)
        && Some(&*copy) != truth().as_ref()
    {
        let truth = truth();
        checker.violation("at rest", format!("cache {number} holds {key} = {copy:?}, the server has {truth:?}"));
    }
    let found = match cache.get(key).await {
        Ok(found) => found,
        Err(error) => return checker.violation("at rest", format!("cache {number} cannot read {key}: {error}")),
    };
    if found.as_deref() != truth().as_ref() {
        let truth = truth();
        checker.violation("at rest", format!("cache {number} read {key} = {found:?}, the server has {truth:?}"));
    }
    if scenario.without_local || found.is_none() && scenario.negative_ttl.is_none() {
        return;
    }
    // Values with a time to live are gone by now, or about to go.
    if checker.history(key).iter().rfind(|version| version.lost.is_none()).is_some_and(|last| last.expires.is_some()) {
        return;
    }
    // The first read may have been what made the server notice that the key expired, and the report of that comes after
    // it.
    if let Err(error) = cache.get(key).await {
        checker.violation("at rest", format!("cache {number} cannot read {key} again: {error}"));
    }
    match cache.lookup(key).await {
        Ok(again) if again.tier == Tier::Local => {}
        Ok(_again) => checker.violation("at rest", format!("cache {number} does not keep {key}")),
        Err(error) => checker.violation("at rest", format!("cache {number} cannot read {key}: {error}")),
    }
}
