//! Cold reads over a network of 37 ms.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde::Serialize;

use crate::{
    Result,
    progress::Progress,
    server::Server,
    spread::Spread,
    stage::{Local, Stage},
    stopwatch::Stopwatch,
};

use super::{client::redis_rs, load::Keys};

/// How many keys are read, each once.
const READS: usize = 1000;
/// How many tasks read them.
const TASKS: usize = 64;

/// The time that all reads took together, in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Far {
    /// How many keys.
    pub reads: usize,
    /// How many tasks.
    pub tasks: usize,
    /// One command for each read, one after the other.
    pub one_by_one: Spread,
    /// One command for each read, by all tasks over one connection as redis-rs sets it up.
    pub commands_by_default: Spread,
    /// The same with `TCP_NODELAY`.
    pub commands: Spread,
    /// `Cache::get` by all tasks.
    pub gets: Spread,
    /// One `Cache::get_many` of all keys.
    pub get_many: Spread,
}

pub(super) async fn measure(
    server: &Arc<Server>,
    keys: &Arc<Keys>,
    namespace: &str,
    repetitions: usize,
    progress: &Progress,
) -> Result<Far> {
    let stage = Stage::far(server)?;
    let url = stage.url().ok_or("no server")?;
    let (by_default, connection) = (redis_rs(url, false).await?, redis_rs(url, true).await?);
    let mut times: [Vec<f64>; 5] = Default::default();
    for repetition in 0..repetitions {
        progress.step(&format!("{}, repetition {} of {repetitions}", stage.name(), repetition + 1));
        let one = |connection: redis::aio::MultiplexedConnection| {
            let keys = Arc::clone(keys);
            move |key: usize| {
                let (mut connection, keys) = (connection.clone(), Arc::clone(&keys));
                async move {
                    let value: Option<Vec<u8>> =
                        redis::cmd("GET").arg(&keys.qualified[key]).query_async(&mut connection).await?;
                    Ok(value.is_some())
                }
            }
        };
        // A tenth of them, since each is a whole round trip.
        times[0].push(10.0 * all(READS / 10, 1, one(connection.clone())).await?);
        times[4].push(all(READS, TASKS, one(by_default.clone())).await?);
        times[1].push(all(READS, TASKS, one(connection.clone())).await?);
        let cache = stage.cache(namespace, Local::Entries(2 * READS)).await?;
        let (reading, held) = (cache.clone(), Arc::clone(keys));
        let get = move |key: usize| {
            let (cache, keys) = (reading.clone(), Arc::clone(&held));
            async move { Ok(cache.get(&keys.bare[key]).await?.is_some()) }
        };
        times[2].push(all(READS, TASKS, get).await?);
        let cold = stage.cache(namespace, Local::Entries(2 * READS)).await?;
        let watch = Stopwatch::start();
        cold.get_many(&keys.bare[..READS]).await?;
        times[3].push(watch.seconds());
    }
    let [one_by_one, commands, gets, get_many, commands_by_default] = times.map(Spread::of);
    let missing = "nothing was measured";
    Ok(Far {
        reads: READS,
        tasks: TASKS,
        one_by_one: one_by_one.ok_or(missing)?,
        commands_by_default: commands_by_default.ok_or(missing)?,
        commands: commands.ok_or(missing)?,
        gets: gets.ok_or(missing)?,
        get_many: get_many.ok_or(missing)?,
    })
}

/// Has tasks share keys `0..reads`, and returns how long that took.
async fn all<R, F>(reads: usize, tasks: usize, read: R) -> Result<f64>
where
    R: Fn(usize) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<bool>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let watch = Stopwatch::start();
    let readers: Vec<_> = (0..tasks)
        .map(|_| {
            let (next, read) = (Arc::clone(&next), read.clone());
            tokio::spawn(async move {
                loop {
                    let key = next.fetch_add(1, Relaxed);
                    if key >= reads {
                        return Result::<()>::Ok(());
                    }
                    if !read(key).await? {
                        return Err("a key that was written is absent".into());
                    }
                }
            })
        })
        .collect();
    for reader in readers {
        reader.await??;
    }
    Ok(watch.seconds())
}
