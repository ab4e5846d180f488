//! What a miss costs under load: reads of distinct keys, none of them held locally, by ours and by other clients.

mod client;
mod far;
mod load;
mod pinning;
mod redis_benchmark;
mod report;

use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Builder;

use crate::{Result, machine::Machine, progress::Progress, server::Server, spread::Spread};

pub use self::far::Far;

use self::{
    client::{Client, Kind},
    load::{Sample, cpu_seconds},
    pinning::Pinning,
};

/// How many keys there are: many more than a local tier holds, so that every read in turn is a miss.
const KEYS: usize = 100_000;
/// What they hold.
const VALUE: usize = 64;
/// How many tasks read at once, each one key at a time.
const TASKS: [usize; 4] = [1, 8, 64, 512];
/// How many requests `redis-benchmark` keeps on its one connection.
const DEPTHS: [usize; 3] = [1, 16, 64];
/// The namespace of the keys.
const NAMESPACE: &str = "twotier-bench-misses";

/// The figures.
#[derive(Clone, Debug, Serialize)]
pub struct Misses {
    /// What the numbers are in.
    pub units: &'static str,
    /// Whether these are tiny counts that mean nothing.
    pub smoke: bool,
    /// What it ran on.
    pub machine: Machine,
    /// The server.
    pub server: String,
    /// Which core was whose.
    pub pinning: String,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// By number of tasks and client.
    pub rows: Vec<Row>,
    /// `redis-benchmark`, reads a second by depth.
    pub ceilings: Vec<Ceiling>,
    /// The same far away.
    pub far: Option<Far>,
}

/// One client under one load.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// How many tasks read.
    pub tasks: usize,
    /// The client.
    pub client: &'static str,
    /// Reads a second.
    pub throughput: Spread,
    /// That, divided by redis-rs' in the same repetition.
    pub ratio: Spread,
    /// Half of the reads took no longer, in seconds.
    pub p50: Spread,
    /// 99 of 100.
    pub p99: Spread,
    /// That, divided by redis-rs' in the same repetition.
    pub p99_ratio: Spread,
    /// 999 of 1000.
    pub p999: Spread,
    /// The processor time of this process for one read, in seconds.
    pub cpu: Option<Spread>,
    /// The share of reads that the local tier answered.
    pub hit_ratio: f64,
}

/// `redis-benchmark` at one depth.
#[derive(Clone, Debug, Serialize)]
pub struct Ceiling {
    /// Requests under way on its one connection.
    pub depth: usize,
    /// Reads a second.
    pub throughput: Spread,
    /// What the cache reads with as many tasks, divided by that in the same repetition.
    pub ours: Option<Spread>,
}

/// Measures, all clients in turn in each repetition. Blocks: it has a runtime of its own.
///
/// # Errors
///
/// When there is no server, or it does not answer.
pub fn measure(smoke: bool, progress: &Arc<Progress>) -> Result<Misses> {
    let server = Arc::new(Server::find()?.ok_or_else(Server::none)?);
    progress.step(&format!("server: {server}"));
    let pinning = Pinning::of(&server)?;
    // One thread reads: there is one core for it.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let measured = measure_pinned(smoke, progress, &server, &pinning);
    let misses = runtime.block_on(async { tokio::spawn(measured).await })??;
    drop(pinning);
    Ok(misses)
}

fn measure_pinned(
    smoke: bool,
    progress: &Arc<Progress>,
    server: &Arc<Server>,
    pinning: &Pinning,
) -> impl Future<Output = Result<Misses>> + Send + 'static {
    let (server, progress) = (Arc::clone(server), Arc::clone(progress));
    // This process may now run on fewer cores than there are.
    let (pinning, cores) = (pinning.to_string(), pinning.cores());
    async move {
        let (repetitions, seconds) = if smoke { (1, 0.05) } else { (7, 0.4) };
        progress.step("writing the keys");
        let keys = Arc::new(load::Keys::write(&server, NAMESPACE, KEYS, VALUE).await?);
        let mut left_out = Vec::new();
        let mut clients = Vec::new();
        for kind in Kind::ALL {
            match Client::connect(kind, &server, NAMESPACE).await {
                Ok(client) => clients.push(client),
                Err(why) => left_out.push(format!("{}: {why}", kind.name())),
            }
        }
        let mut samples: Vec<Vec<Vec<Sample>>> = vec![vec![Vec::new(); clients.len()]; TASKS.len()];
        let mut ceilings: Vec<Vec<f64>> = vec![Vec::new(); DEPTHS.len()];
        for repetition in 0..repetitions {
            for (tasks, samples) in TASKS.iter().zip(&mut samples) {
                progress.step(&format!("misses, {tasks} tasks, repetition {} of {repetitions}", repetition + 1));
                for (client, samples) in clients.iter().zip(samples) {
                    samples.push(client.load(*tasks, seconds, &keys).await?);
                }
            }
            for (depth, ceilings) in DEPTHS.into_iter().zip(&mut ceilings) {
                let requests = if smoke { 2000 } else { 4000 * (depth + 10) };
                if let Some(throughput) = redis_benchmark::run(&server, NAMESPACE, KEYS, depth, requests)? {
                    ceilings.push(throughput);
                }
            }
        }
        if ceilings.iter().all(Vec::is_empty) {
            left_out.push("redis-benchmark, which is not in PATH".to_owned());
        }
        let far = match far::measure(&server, &keys, NAMESPACE, if smoke { 1 } else { 3 }, &progress).await {
            Ok(far) => Some(far),
            Err(why) => {
                left_out.push(format!("the far network: {why}"));
                None
            }
        };
        keys.remove().await?;
        let machine = Machine { cores, ..Machine::here() };
        let ours = clients.iter().position(|client| client.kind() == Kind::Cache);
        let at = |tasks: usize| TASKS.iter().position(|other| *other == tasks);
        let ceilings = DEPTHS.into_iter().zip(&ceilings).filter_map(|(depth, ceiling)| {
            let ours = ours.zip(at(depth)).and_then(|(ours, at)| {
                Spread::of(samples[at][ours].iter().zip(ceiling).map(|(ours, ceiling)| ours.throughput / ceiling))
            });
            Some(Ceiling { depth, throughput: Spread::of(ceiling.iter().copied())?, ours })
        });
        Ok(Misses {
            units: "times in seconds, reads a second, ratios to redis-rs, each spread over n repetitions",
            smoke,
            machine,
            server: server.to_string(),
            pinning,
            left_out,
            ceilings: ceilings.collect(),
            rows: rows(&clients, &samples),
            far,
        })
    }
}

fn rows(clients: &[Client], samples: &[Vec<Vec<Sample>>]) -> Vec<Row> {
    let baseline = clients.iter().position(|client| client.kind() == Kind::RedisRs);
    let mut rows = Vec::new();
    for (tasks, samples) in TASKS.into_iter().zip(samples) {
        for (client, own) in clients.iter().zip(samples) {
            let Some(peer) = baseline.map(|baseline| &samples[baseline]) else { continue };
            let spread = |of: fn(&Sample) -> f64| Spread::of(own.iter().map(of));
            let ratio = |of: fn(&Sample) -> f64| Spread::of(own.iter().zip(peer).map(|(own, peer)| of(own) / of(peer)));
            let row = || {
                Some(Row {
                    tasks,
                    client: client.kind().name(),
                    throughput: spread(|sample| sample.throughput)?,
                    ratio: ratio(|sample| sample.throughput)?,
                    p50: spread(|sample| sample.p50)?,
                    p99: spread(|sample| sample.p99)?,
                    p99_ratio: ratio(|sample| sample.p99)?,
                    p999: spread(|sample| sample.p999)?,
                    cpu: cpu_seconds().and_then(|_| spread(|sample| sample.cpu)),
                    hit_ratio: spread(|sample| sample.hit_ratio)?.median,
                })
            };
            rows.extend(row());
        }
    }
    rows
}
