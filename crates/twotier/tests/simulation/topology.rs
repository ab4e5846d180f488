//! What changes in a cluster about who owns which slot.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::sleep;
use twotier_testkit::simulation::Cluster;

use crate::{
    checker::qualified,
    scenario::{Scenario, key},
};

/// Moves slots and replaces primaries, one after the other, until the task is aborted.
pub(crate) async fn rearrange(cluster: Cluster, scenario: Arc<Scenario>, mut rng: Rng) {
    let Some(slots) = &scenario.slots else { return };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let (bound, node_timeout) = (millis(scenario.max_staleness), millis(slots.node_timeout));
    loop {
        sleep(Duration::from_millis(rng.u64(1..=slots.calm))).await;
        // One change after the other: who claims slots without knowing who has them now would steal them.
        if !cluster.is_settled() {
            continue;
        }
        let moved = qualified(&key(rng.usize(..scenario.keys)));
        let primary = cluster.any_primary();
        let wins = rng.u8(..8) != 0;
        match rng.u8(..100) {
            0..35 => cluster.reshard(&moved, true, rng.u64(0..=4 * bound)).await,
            35..60 => cluster.reshard(&moved, false, 0).await,
            60..72 => cluster.fail_over(primary, wins, rng.u64(0..=2 * bound)).await,
            // It takes commands until it finds out that it is alone, and links.
            72..88 => {
                cluster.isolate(primary, true);
                sleep(Duration::from_millis(rng.u64(0..=bound))).await;
                cluster.fail_over(primary, wins, rng.u64(0..=2 * bound)).await;
                for _ in 0..rng.u8(0..=2) {
                    sleep(Duration::from_millis(rng.u64(0..=bound))).await;
                    (0..scenario.caches).for_each(|link| cluster.nodes()[primary].0.cut(link));
                }
                sleep(Duration::from_millis(rng.u64(0..=2 * node_timeout))).await;
                cluster.isolate(primary, false);
            }
            // It goes on where it was, with what it knew.
            _ => {
                cluster.stop(primary, true);
                sleep(Duration::from_millis(rng.u64(0..=bound))).await;
                cluster.fail_over(primary, wins, rng.u64(0..=2 * bound)).await;
                sleep(Duration::from_millis(rng.u64(0..=node_timeout))).await;
                cluster.stop(primary, false);
            }
        }
    }
}
