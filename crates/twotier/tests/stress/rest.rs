//! A look at everything while nobody writes.

use std::sync::atomic::Ordering::SeqCst;

use tokio::time::sleep;
use twotier::Tier;
use twotier_testkit::history::{Broken, Violation};

use crate::group::{Group, KEYS};

/// Waits until no stale copy may be left, then compares what every cache serves with what the server holds.
pub(crate) async fn check(group: &Group) {
    if group.is_broken() {
        return;
    }
    sleep(2 * group.longest_bound).await;
    for key in 0..KEYS {
        check_key(group, key).await;
    }
    group.counts.rests.fetch_add(1, SeqCst);
}

async fn check_key(group: &Group, key: usize) {
    let history = &group.history;
    let held = group.held(key);
    let held_version = held.map(|held| held.version);
    history.end_of_writes(key, held_version, history.now());
    for (handle, instance) in group.instances.iter().enumerate() {
        let at = history.now();
        let broken = |broken| {
            history.report(Violation { broken, handle: Some(handle), key, version: None, at });
        };
        let Ok(found) = instance.cache.lookup(&group.keys[key]).await else {
            broken(Broken::NotRecovered);
            continue;
        };
        let read = found.value.map(|value| *value);
        let read_version = read.map(|read| read.version);
        history.at_rest(handle, key, read_version, held_version, at);
        if read_version == held_version && read.map(|read| read.twin) != held.map(|held| held.twin) {
            broken(Broken::AtRest { held: held_version });
        }
        // What was just read is served locally now: the local tier came back too, not only the link.
        let again = instance.cache.lookup(&group.keys[key]).await;
        if !again.is_ok_and(|again| again.tier == Tier::Local || (held.is_none() && instance.forgets_absences)) {
            broken(Broken::NotRecovered);
        }
    }
}
