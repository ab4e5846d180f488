//! What the cache promises, under load and faults on real servers, checked operation by operation.
//!
//! Two groups of caches run at once, each with a server of its own, through a proxy for each cache:
//!
//! - the *lossy* one, whose server keeps nothing on disk: it is also flushed, made to evict, and killed with what it
//!   holds;
//! - the *durable* one, whose server writes every command to disk before it answers: nothing acknowledged may be lost.
//!
//! Each of 64 keys has one writing party: one of the caches, or a foreign client. Another 16 keys have an origin in
//! memory, whose rows are written before their keys and loaded slowly. Every read is checked against the rules
//! of [`twotier_testkit::history`]. Faults come from a script that the seed decides.
//!
//! `cargo xtask stress` runs this for longer and in release. Environment: `TWOTIER_TEST_STRESS_SECONDS` (of load),
//! `TWOTIER_TEST_STRESS_SEED`, `TWOTIER_TEST_STRESS_FAULTS` (`all`, or names with commas between),
//! `TWOTIER_TEST_STRESS_AUDITORS_ALONE` (set: what the histories find does not count, so that a run shows what the
//! auditors find).

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]

mod fault;
mod foreign;
mod group;
mod nemesis;
mod prober;
mod readers;
mod rest;
mod rows;
mod settings;
mod totals;
mod value;
mod writers;

mod live {
    use std::{
        sync::{Arc, atomic::Ordering::SeqCst},
        thread,
        time::{Duration, Instant},
    };

    use tokio::{runtime::Runtime, task::JoinSet};

    use crate::{
        foreign,
        group::{Group, Kind},
        nemesis, prober, readers, rest, rows,
        settings::Settings,
        totals, writers,
    };

    /// Load is interrupted for a look at rest about this often.
    const ROUND: Duration = Duration::from_secs(20);

    #[test]
    fn every_promise_holds_under_load_and_faults() {
        let settings = Arc::new(Settings::from_environment());
        println!("stress: {settings}");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
        let groups = [Kind::Lossy, Kind::Durable].map(|kind| Arc::new(runtime.block_on(Group::start(kind, &settings))));
        let started = Instant::now();
        let rounds = settings.load.div_duration_f64(ROUND).round().max(1.0);
        for round in 0_u64.. {
            let left = settings.load.mul_f64((round + 1) as f64 / rounds).min(settings.load);
            let passed = settings.load.mul_f64(round as f64 / rounds);
            if left <= passed || groups.iter().any(|group| group.is_broken()) {
                break;
            }
            load(&runtime, &groups, &settings, round, left - passed);
            let [lossy, durable] = &groups;
            runtime.block_on(async { tokio::join!(rest::check(lossy), rest::check(durable)) });
        }
        totals::print(&groups, &settings, started.elapsed());
        drop(runtime);
        let broken: usize = groups.iter().map(|group| group.history.violations().len()).sum();
        for group in &groups {
            println!("{}", group.history.story());
        }
        let audited: u64 = groups.iter().map(|group| group.audit().violations).sum();
        let broken = if settings.auditors_alone { 0 } else { broken };
        assert_eq!((broken, audited), (0, 0), "promises were broken; repeat it with: {settings}");
    }

    /// Runs everything at once for a while.
    fn load(runtime: &Runtime, groups: &[Arc<Group>], settings: &Arc<Settings>, round: u64, time: Duration) {
        let mut tasks = JoinSet::new();
        let mut threads = Vec::new();
        for group in groups {
            group.stop.store(false, SeqCst);
            group.under_attack.store(true, SeqCst);
            for instance in 0..group.instances.len() {
                let seed = settings.seed_of(group, round * 100 + instance as u64);
                tasks.spawn_on(prober::run(Arc::clone(group), instance), runtime.handle());
                for part in 0..2 {
                    tasks.spawn_on(
                        writers::run(Arc::clone(group), instance, part, seed ^ part as u64),
                        runtime.handle(),
                    );
                }
                tasks.spawn_on(readers::hot(Arc::clone(group), instance, seed ^ 10), runtime.handle());
                tasks.spawn_on(readers::hot(Arc::clone(group), instance, seed ^ 11), runtime.handle());
                tasks.spawn_on(rows::write(Arc::clone(group), instance, seed ^ 13), runtime.handle());
                tasks.spawn_on(rows::load(Arc::clone(group), instance, seed ^ 14), runtime.handle());
                tasks.spawn_on(rows::load(Arc::clone(group), instance, seed ^ 15), runtime.handle());
                tasks.spawn_on(readers::local(Arc::clone(group), instance), runtime.handle());
                tasks.spawn_on(readers::varied(Arc::clone(group), instance, seed ^ 12), runtime.handle());
            }
            for part in 0..2 {
                let (group, seed) = (Arc::clone(group), settings.seed_of(group, round * 100 + 50 + part as u64));
                threads.push(thread::spawn(move || foreign::run(&group, part, seed)));
            }
            let (group, settings, handle) = (Arc::clone(group), Arc::clone(settings), runtime.handle().clone());
            threads.push(thread::spawn(move || {
                nemesis::run(&group, &settings, round, &handle);
                group.under_attack.store(false, SeqCst);
            }));
        }
        let until = Instant::now() + time;
        while Instant::now() < until && !groups.iter().any(|group| group.is_broken()) {
            thread::sleep(Duration::from_millis(20));
        }
        for group in groups {
            group.stop.store(true, SeqCst);
        }
        for thread in threads {
            thread.join().expect("a thread of the stress ends well");
        }
        runtime.block_on(async {
            while let Some(ended) = tasks.join_next().await {
                ended.expect("a task of the stress ends well");
            }
        });
    }
}
