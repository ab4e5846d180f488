//! A look at everything while nobody writes.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::sleep;
use twotier::Tier;
use twotier_testkit::history::{Broken, Violation};

use crate::group::{Group, KEYS};

/// Waits until no stale copy may be left, then compares what every cache serves with what the server holds.
pub(crate) async fn check(group: &Group) {
    if group.history.is_broken() {
        return;
    }
    sleep(2 * group.longest_bound).await;
    let history = &group.history;
    for key in 0..KEYS {
        let held = group.held(key);
        history.end_of_writes(key, held.map(|held| held.version), history.now());
        for (handle, instance) in group.instances.iter().enumerate() {
            let at = history.now();
            let version = None;
            match instance.cache.lookup(&group.keys[key]).await {
                Ok(found) => {
                    let read = found.value.map(|value| *value);
                    history.at_rest(handle, key, read.map(|read| read.version), held.map(|held| held.version), at);
                    if read.map(|read| read.identity()) != held.map(|held| held.identity()) {
                        let held = held.map(|held| held.version);
                        history.report(Violation { broken: Broken::AtRest { held }, handle, key, version, at });
                    }
                }
                Err(_down) => history.report(Violation { broken: Broken::NotRecovered, handle, key, version, at }),
            }
            // What was just read is served locally now: the local tier came back too, not only the link.
            let again = instance.cache.lookup(&group.keys[key]).await;
            let long_forgotten = handle == 3 && held.is_none();
            if !matches!(again, Ok(found) if found.tier == Tier::Local || long_forgotten) {
                history.report(Violation { broken: Broken::NotRecovered, handle, key, version, at });
            }
        }
    }
    group.counts.rests.fetch_add(1, SeqCst);
    sleep(Duration::from_millis(1)).await;
}
