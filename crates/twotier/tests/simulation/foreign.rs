//! Clients of the server that have nothing to do with the library.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::sleep;
use twotier_testkit::simulation::{Foreign, Version, Writer};

use crate::{
    checker::{Checker, qualified},
    origin::{Following, value_of},
    scenario::{Scenario, key, pick},
    world::World,
};

/// Writes, deletes and expires keys until the task is aborted.
pub(crate) async fn disturb(world: World, checker: Arc<Checker>, scenario: Arc<Scenario>, mut rng: Rng) {
    let mine: Vec<usize> = (0..scenario.keys).filter(|key| scenario.may_write(scenario.caches, *key)).collect();
    for count in 0_u64.. {
        sleep(Duration::from_millis(rng.u64(1..=scenario.foreign_think))).await;
        // Evictions and flushes are nobody's writes, so they may hit any key.
        let any = qualified(&key(rng.usize(..scenario.keys)));
        let what = match rng.u8(..100) {
            _ if scenario.origin == Some(Following::Sets) => {
                let Some(key) = (!mine.is_empty()).then(|| key(*pick(&mut rng, &mine))) else { continue };
                // One after the other: what a cycle brings at once comes in any order.
                let newest = value_of(checker.origin.newest(&key));
                let first = newest == value_of(1);
                let is_newest =
                    |version: &Version| version.by == Writer::Foreign && version.value.as_ref() == Some(&newest);
                if !first && !checker.history(&key).iter().any(is_newest) {
                    continue;
                }
                Foreign::Set { value: value_of(checker.origin.write(&key)), key: qualified(&key), ttl: None }
            }
            16.. if scenario.origin.is_some() => continue,
            0..4 => Foreign::FlushAll,
            4..12 => Foreign::Evict(any),
            12..16 => Foreign::Sweep,
            roll => {
                let Some(mine) = (!mine.is_empty()).then(|| qualified(&key(*pick(&mut rng, &mine)))) else { continue };
                let ttl = (scenario.expiring && rng.bool()).then(|| Duration::from_millis(rng.u64(1..=150)));
                match roll {
                    16..76 => Foreign::Set { key: mine, value: format!("f-{count}"), ttl },
                    76..90 => Foreign::Delete(mine),
                    _ => Foreign::Expire(mine, ttl),
                }
            }
        };
        world.foreign(what);
    }
}
