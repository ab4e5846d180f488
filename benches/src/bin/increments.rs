//! Measures `increment` beside a plain `INCR` of redis-rs and prints both; `cargo xtask bench --suite increments` runs
//! this. Each task adds to a counter of its own, so that what is compared is the way there and back.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the report is for a person at a terminal")]

use std::{process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};
use twotier::{Cache, RedisBackend};
use twotier_benches::{Result, server::Server, spread::Spread};

/// How many tasks add at once.
const TASKS: [usize; 3] = [1, 8, 64];

fn main() -> ExitCode {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    match measure(smoke) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Who adds.
#[derive(Clone)]
enum Adder {
    Plain(redis::aio::MultiplexedConnection),
    Cache(Cache<i64>),
}

impl Adder {
    async fn add(&mut self, key: &str) -> Result<i64> {
        Ok(match self {
            Self::Plain(connection) => redis::cmd("INCR").arg(key).query_async(connection).await?,
            Self::Cache(cache) => cache.increment(key, 1).await?,
        })
    }
}

fn measure(smoke: bool) -> Result<()> {
    let server = Server::find()?.ok_or_else(Server::none)?;
    println!("server: {server}");
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async { tokio::spawn(compare(server, smoke)).await })?
}

async fn compare(server: Server, smoke: bool) -> Result<()> {
    let (time, repetitions) = if smoke { (Duration::from_millis(20), 1) } else { (Duration::from_secs(1), 7) };
    let config = redis::AsyncConnectionConfig::new();
    let client = redis::Client::open(server.url())?;
    let plain = Adder::Plain(client.get_multiplexed_async_connection_with_config(&config).await?);
    let cache = |namespace: &str, ttl: Option<Duration>| {
        Cache::<i64>::builder().namespace(namespace).time_to_live(ttl).op_timeout(Duration::from_secs(10))
    };
    let lasting = cache("twotier-bench-lasting", None).build(RedisBackend::new(server.url())?).await?;
    let minute = Some(Duration::from_secs(60));
    let expiring = cache("twotier-bench-expiring", minute).build(RedisBackend::new(server.url())?).await?;
    let adders = [
        ("redis-rs, INCR", plain),
        ("increment, no expiry", Adder::Cache(lasting)),
        ("increment, with expiry", Adder::Cache(expiring)),
    ];
    println!("{:>5}  {:<24} {:>12}  {:>10}", "tasks", "", "a second", "of plain");
    for tasks in TASKS {
        let mut figures = vec![Vec::new(); adders.len()];
        for _ in 0..repetitions {
            for ((_, adder), figures) in adders.iter().zip(&mut figures) {
                figures.push(rate(adder, tasks, time).await?);
            }
        }
        let plain = figures[0].clone();
        for ((name, _), figures) in adders.iter().zip(figures) {
            let ratio = Spread::of(figures.iter().zip(&plain).map(|(ours, plain)| ours / plain));
            let (rate, ratio) =
                (Spread::of(figures).map_or(0.0, |rate| rate.median), ratio.map_or(0.0, |it| it.median));
            println!("{tasks:>5}  {name:<24} {rate:>12.0}  {ratio:>9.2}x");
        }
    }
    Ok(())
}

/// Returns how many additions a second so many tasks make.
async fn rate(adder: &Adder, tasks: usize, time: Duration) -> Result<f64> {
    let began = Instant::now();
    let until = began + time;
    let counting: Vec<_> = (0..tasks)
        .map(|task| {
            let (mut adder, key) = (adder.clone(), Arc::<str>::from(format!("counter-{task}")));
            tokio::spawn(async move {
                let mut added = 0_u32;
                while Instant::now() < until {
                    adder.add(&key).await?;
                    added += 1;
                }
                Result::<u32>::Ok(added)
            })
        })
        .collect();
    let mut added = 0.0;
    for counting in counting {
        added += f64::from(counting.await??);
    }
    let rate = added / began.elapsed().as_secs_f64();
    sleep(Duration::from_millis(10)).await;
    Ok(rate)
}
