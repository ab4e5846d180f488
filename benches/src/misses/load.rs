//! The load: tasks that read one key after the other.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{Result, server::Server, spread::quantile, stopwatch::Stopwatch};

/// One read of so many is timed: reading the clock costs as much as a good part of a read.
const TIMED: usize = 8;

/// The keys that are read, all of which are there.
#[derive(Debug)]
pub(super) struct Keys {
    /// With the namespace.
    pub(super) qualified: Vec<String>,
    /// Without.
    pub(super) bare: Vec<String>,
    next: AtomicUsize,
    connection: redis::aio::MultiplexedConnection,
}

impl Keys {
    /// Writes them. They are named as `redis-benchmark` names random ones.
    pub(super) async fn write(server: &Server, namespace: &str, count: usize, bytes: usize) -> Result<Self> {
        let client = redis::Client::open(server.url())?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let bare: Vec<String> = (0..count).map(|key| format!("{key:012}")).collect();
        let qualified: Vec<String> = bare.iter().map(|key| format!("{namespace}:{key}")).collect();
        // Readable as text and as JSON.
        let value = format!("\"{}\"", "v".repeat(bytes - 2));
        for keys in qualified.chunks(1000) {
            let mut commands = redis::pipe();
            for key in keys {
                commands.cmd("SET").arg(key).arg(&value).arg("EX").arg(1800).ignore();
            }
            commands.exec_async(&mut connection).await?;
        }
        Ok(Self { qualified, bare, next: AtomicUsize::new(0), connection })
    }

    /// Takes the next key in turn.
    pub(super) fn next(&self) -> usize {
        self.next.fetch_add(1, Relaxed) % self.bare.len()
    }

    /// Removes them.
    pub(super) async fn remove(&self) -> Result<()> {
        let mut connection = self.connection.clone();
        for keys in self.qualified.chunks(1000) {
            redis::cmd("UNLINK").arg(keys).exec_async(&mut connection).await?;
        }
        Ok(())
    }
}

/// What one load came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Reads a second.
    pub(super) throughput: f64,
    /// Times of one read, in seconds.
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// Processor time of this process for one read, in seconds.
    pub(super) cpu: f64,
    /// The share of reads that a local tier answered.
    pub(super) hit_ratio: f64,
}

/// Has so many tasks read for a while.
///
/// # Errors
///
/// When a read fails or finds nothing.
pub(super) async fn load<R, F>(tasks: usize, seconds: f64, keys: &Arc<Keys>, read: R) -> Result<Sample>
where
    R: Fn(usize) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<bool>> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let (watch, cpu) = (Stopwatch::start(), cpu_seconds());
    let readers: Vec<_> = (0..tasks)
        .map(|_| {
            let (stop, keys, read) = (Arc::clone(&stop), Arc::clone(keys), read.clone());
            tokio::spawn(async move {
                let (mut reads, mut times) = (0_usize, Vec::new());
                while !stop.load(Relaxed) {
                    let timed = reads.is_multiple_of(TIMED).then(Stopwatch::start);
                    if !read(keys.next()).await? {
                        return Err("a key that was written is absent".into());
                    }
                    times.extend(timed.map(Stopwatch::seconds));
                    reads += 1;
                }
                Result::<(usize, Vec<f64>)>::Ok((reads, times))
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    stop.store(true, Relaxed);
    let (mut reads, mut times) = (0, Vec::new());
    for reader in readers {
        let (own, own_times) = reader.await??;
        reads += own;
        times.extend(own_times);
    }
    let (wall, cpu_after) = (watch.seconds(), cpu_seconds());
    times.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| quantile(&times, share).unwrap_or(f64::NAN);
    #[allow(clippy::cast_precision_loss, reason = "a count of reads")]
    let count = reads as f64;
    Ok(Sample {
        throughput: count / wall,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
        cpu: cpu.zip(cpu_after).map_or(f64::NAN, |(before, after)| (after - before) / count),
        hit_ratio: 0.0,
    })
}

/// The processor time of this process so far, where the system tells.
pub(super) fn cpu_seconds() -> Option<f64> {
    let nanos = fs::read_dir("/proc/self/task").ok()?.filter_map(|task| {
        let stat = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    Some(nanos.sum::<f64>() / 1e9).filter(|seconds| *seconds > 0.0)
}
