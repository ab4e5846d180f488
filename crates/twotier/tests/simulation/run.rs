//! One run.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    runtime::{Builder, Handle},
    task::JoinHandle,
    time::sleep,
};
use twotier::{Cache, Coherence, codec::Text};
use twotier_testkit::simulation::{Event, Journal, VirtualClock};

use crate::{
    checker::{Checker, NAMESPACE},
    faults::{break_things, mend},
    foreign::disturb,
    party::Party,
    rest,
    scenario::Scenario,
    topology::rearrange,
    world::World,
};

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) operations: usize,
    pub(crate) hits: usize,
    /// How many rows were loaded from the origin.
    pub(crate) loads: usize,
    /// How long it took, in virtual time.
    pub(crate) lasted: Duration,
    /// The first broken promise.
    pub(crate) violation: Option<String>,
    /// Every event, where a journal was kept.
    pub(crate) events: Vec<Event>,
}

/// Runs a seed, from the first connection to the last task's end.
pub(crate) fn run(seed: u64, journal_kept: bool) -> Outcome {
    // The library draws its jitter from the generator of the thread.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulate(seed, journal_kept))
}

async fn simulate(seed: u64, journal_kept: bool) -> Outcome {
    let scenario = Arc::new(Scenario::of(seed));
    // Its own stream: a scenario with one more choice leaves the runs what they were.
    let mut rng = Rng::with_seed(!seed);
    let journal = Journal::start(journal_kept);
    journal.note("run", || format!("seed {seed}: {scenario:?}"));
    let world = World::new(&scenario, &mut rng, &journal);
    let serving = world.serve();
    let checker =
        Arc::new(Checker::new(world.histories(), journal.clone(), scenario.max_staleness, scenario.op_timeout));

    let mut caches = Vec::new();
    for link in 0..scenario.caches {
        caches.push(build(&world, link, &scenario).await);
    }
    let mut others = vec![
        tokio::spawn(disturb(world.clone(), Arc::clone(&checker), Arc::clone(&scenario), rng.fork())),
        tokio::spawn(break_things(world.clone(), Arc::clone(&scenario), rng.fork())),
    ];
    if let World::Cluster(cluster) = &world {
        others.push(tokio::spawn(rearrange(cluster.clone(), Arc::clone(&scenario), rng.fork())));
    }
    let mut parties = Vec::new();
    for (number, cache) in caches.iter().enumerate() {
        for task in 0..scenario.tasks {
            let (cache, scenario, checker) = (cache.clone(), Arc::clone(&scenario), Arc::clone(&checker));
            let party = Party { cache, number, task, scenario, checker, rng: rng.fork(), written: 0 };
            parties.push(tokio::spawn(party.act()));
        }
    }
    for party in parties {
        if let Err(panicked) = party.await {
            checker.violation("no panic", panicked.to_string());
        }
    }
    for other in others {
        other.abort();
        // An error says that it was aborted; everything else is an end before its time.
        if let Err(ended) = other.await
            && ended.is_panic()
        {
            checker.violation("no panic", ended.to_string());
        }
    }
    mend(&world, &scenario);
    rest::wait(&caches, &scenario).await;
    checker.judge_writes();
    rest::judge(&caches, &checker, &scenario).await;
    checker.judge_loads();

    drop(caches);
    sleep(Duration::from_secs(5)).await;
    // The servers' tasks, and whatever a panic of theirs would have ended.
    let left = Handle::current().metrics().num_alive_tasks();
    if left != serving.len() || serving.iter().any(JoinHandle::is_finished) {
        checker.violation("nothing is left over", format!("{left} tasks, of which {} serve", serving.len()));
    }
    let connections: usize = world.nodes().iter().map(|(network, _)| network.connections()).sum();
    if connections != 0 {
        checker.violation("nothing is left over", format!("{connections} connections"));
    }
    let (operations, hits) = checker.counts();
    let (loads, lasted) = (checker.origin.loads(), journal.now());
    Outcome { operations, hits, loads, lasted, violation: checker.first_violation(), events: journal.take() }
}

/// Builds a cache over a link; in bad weather not at the first attempt.
pub(crate) async fn build(world: &World, link: usize, scenario: &Scenario) -> Cache<String> {
    for attempt in 1.. {
        let mut builder = Cache::<String>::builder();
        if scenario.unreported {
            builder = builder.coherence(Coherence::None);
        }
        if scenario.without_local {
            builder = builder.without_local();
        }
        let built = builder
            .namespace(NAMESPACE)
            .codec(Text)
            .clock(VirtualClock::new(scenario.resolution))
            .max_entries(scenario.max_entries)
            .max_staleness(scenario.max_staleness)
            // The histories are those of the servers: what is served of a load that none of them had is in no history.
            .outage_time_to_live(Duration::ZERO)
            .op_timeout(scenario.op_timeout)
            .local_time_to_live(scenario.local_ttl)
            .negative_time_to_live(scenario.negative_ttl)
            .build(world.backend(link, scenario))
            .await;
        match built {
            Ok(cache) => return cache,
            Err(error) => assert!(attempt < 50, "no cache could be built over a network without faults: {error}"),
        }
    }
    unreachable!("an attempt succeeds, or the last one panics")
}
