//! A story of a cluster of which seeds tell too seldom.

use std::time::Duration;

use fastrand::Rng;
use tokio::{runtime::Builder, time::sleep};
use twotier::Cache;
use twotier_testkit::simulation::{Cluster, Direction, Journal, Weather};

use crate::{
    checker::qualified,
    run::build,
    scenario::{CLUSTERS, Scenario, Slots, key},
    world::World,
};

const BOUND: Duration = Duration::from_millis(200);

/// Tells a story of one key and one cache, in calm weather.
fn tell<F: Future<Output = ()>>(story: impl FnOnce(Cluster, Cache<String>) -> F) {
    fastrand::seed(0);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let millis = Duration::from_millis;
        let slots = Slots { node_timeout: millis(1500), gossip: 4, calm: 1000, reports_vanished: true };
        let scenario = Scenario {
            caches: 1,
            keys: 1,
            max_staleness: BOUND,
            local_ttl: millis(60_000),
            op_timeout: millis(100),
            dead_after: millis(1000),
            weather: Weather::CALM,
            slots: Some(slots),
            ..Scenario::of(CLUSTERS)
        };
        let world = World::new(&scenario, &mut Rng::with_seed(0), &Journal::start(false));
        let _serving = world.serve();
        let cache = build(&world, 0, &scenario).await;
        let World::Cluster(cluster) = world else { panic!("the scenario is one of a cluster") };
        story(cluster, cache).await;
    });
}

#[test]
fn a_write_that_is_redirected_late_undoes_no_later_one() {
    tell(async |cluster, cache| {
        let name = qualified(&key(0));
        let key = key(0);
        let owner = cluster.owner(&name);
        // It is on its way to the owner while the slot goes elsewhere.
        cluster.nodes()[owner].0.hold(0, Direction::Up);
        assert!(cache.set(&key, "first").await.unwrap_err().may_have_executed());
        while cluster.owner(&name) == owner {
            cluster.reshard(&name, false, 0).await;
        }
        sleep(2 * BOUND).await;
        // It may time out, and is made all the same, after the first one.
        let _result = cache.set(&key, "second").await;
        cluster.nodes()[owner].0.heal(0);
        sleep(2 * BOUND).await;
        let history = cluster.histories().history(&name);
        assert!(history.iter().any(|version| version.value.as_deref() == Some("first")), "it was redirected");
        assert_eq!(cluster.histories().present(&name).as_deref(), Some("second"));
    });
}
