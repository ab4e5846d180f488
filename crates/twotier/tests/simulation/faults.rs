//! What goes wrong, one fault after the other.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::sleep;
use twotier_testkit::simulation::{Direction, Loss, Weather};

use crate::{
    scenario::{Scenario, pick},
    world::World,
};

/// Breaks things, and mends most of them, until the task is aborted.
pub(crate) async fn break_things(world: World, scenario: Arc<Scenario>, mut rng: Rng) {
    let Some(calm) = scenario.calm else { return };
    let longest = u64::try_from(scenario.max_staleness.as_millis()).unwrap() * 2;
    loop {
        sleep(Duration::from_millis(rng.u64(1..=calm))).await;
        let link = rng.usize(..scenario.caches);
        let (network, server) = match &world {
            World::One(server) => server,
            World::Cluster(cluster) => pick(&mut rng, cluster.nodes()),
        };
        if scenario.only_long_holds {
            network.hold(link, Direction::Down);
            sleep(2 * scenario.max_staleness).await;
            network.heal(link);
            continue;
        }
        if scenario.only_late_delivery {
            network.stall(link, Direction::Up);
            sleep(scenario.dead_after + Duration::from_millis(rng.u64(1..=200))).await;
            network.heal(link);
            continue;
        }
        let direction = *pick(&mut rng, &[Direction::Up, Direction::Down, Direction::Both]);
        let while_it_lasts = Duration::from_millis(if rng.bool() { rng.u64(1..=30) } else { rng.u64(1..=longest) });
        // The nodes of a cluster are stopped where others can take their place.
        let most = if scenario.slots.is_some() { 76 } else { 100 };
        match rng.u8(..most) {
            0..25 => network.cut(link),
            25..50 => {
                network.hold(link, direction);
                sleep(while_it_lasts).await;
                network.heal(link);
            }
            50..60 => network.stall(link, direction),
            60..68 => network.heal(link),
            68..76 => {
                network.refuse(link, true);
                network.cut(link);
                sleep(while_it_lasts).await;
                network.refuse(link, false);
            }
            76..86 => {
                server.pause(true);
                sleep(while_it_lasts).await;
                server.pause(false);
            }
            86..92 => server.take_snapshot(),
            _ => {
                // What is lost and comes back is an older row, and no cache is at fault.
                let losses = &[Loss::Nothing, Loss::Nothing, Loss::SinceSnapshot, Loss::Everything];
                let losses = if scenario.origin.is_some() { &losses[..2] } else { losses };
                server.kill(*pick(&mut rng, losses));
                sleep(while_it_lasts).await;
                server.restart();
            }
        }
    }
}

/// Mends everything, and makes server and network quick: from here on no deadline has an excuse.
pub(crate) fn mend(world: &World, scenario: &Scenario) {
    for (network, server) in world.nodes() {
        network.set_weather(Weather::CALM);
        server.hurry();
        server.pause(false);
        server.restart();
        for link in 0..scenario.caches {
            network.heal(link);
        }
    }
    if let World::Cluster(cluster) = world {
        cluster.heal();
    }
}
