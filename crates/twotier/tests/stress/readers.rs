//! The reading parties of one cache.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering::SeqCst},
    task::Poll,
    time::Duration,
};

use futures_util::poll;
use tokio::{
    task::yield_now,
    time::{sleep, timeout},
};
use twotier::{ErrorKind, Tier};
use twotier_testkit::history::Recorder;

use crate::{
    group::{CACHED_KEYS, Group, KEYS},
    value::Value,
};

/// How many reads a task makes before it lets others run.
const TURN: usize = 64;

/// Reads single keys as fast as it can.
pub(crate) async fn hot(group: Arc<Group>, instance: usize, seed: u64) {
    let cache = group.instances[instance].cache.clone();
    let mut recorder = Recorder::new(&group.history, format!("hot reader of {instance}"), instance);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut failures = 0;
    while group.goes_on() {
        for _ in 0..TURN {
            let key = random.usize(..KEYS);
            let reading = recorder.begin_read(key);
            let mut get = pin!(cache.get(&group.keys[key]));
            let (hit, read) = match poll!(get.as_mut()) {
                Poll::Ready(read) => (true, read),
                Poll::Pending => (false, get.await),
            };
            match read {
                Ok(value) => recorder.end_read("get", reading, version(value), hit),
                Err(_down) => {
                    recorder.fail_read("get", reading);
                    failures += 1;
                    sleep(Duration::from_millis(1)).await;
                }
            }
        }
        yield_now().await;
    }
    count(&group, &recorder, recorder.count(), failures);
}

/// Reads local copies only, so that it goes on when the link hangs.
pub(crate) async fn local(group: Arc<Group>, instance: usize) {
    let cache = group.instances[instance].cache.clone();
    let mut recorder = Recorder::new(&group.history, format!("local reader of {instance}"), instance);
    let mut operations = 0;
    while group.goes_on() {
        for key in 0..KEYS {
            let reading = recorder.begin_read(key);
            operations += 1;
            // Nothing is a miss or a known absence: not to be distinguished.
            if let Some(value) = cache.get_if_local(&group.keys[key]) {
                recorder.end_read("get_if_local", reading, Some(value.version), true);
            }
        }
        sleep(Duration::from_millis(2)).await;
    }
    count(&group, &recorder, operations, 0);
}

/// Reads in every other way there is, forgets local copies, and drops futures half-way.
pub(crate) async fn varied(group: Arc<Group>, instance: usize, seed: u64) {
    let cache = group.instances[instance].cache.clone();
    let mut recorder = Recorder::new(&group.history, format!("varied reader of {instance}"), instance);
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut operations, mut failures, mut dropped) = (0, 0, 0);
    while group.goes_on() {
        operations += 1;
        let key = random.usize(..KEYS);
        let name = group.keys[key].as_str();
        let patience = Duration::from_micros(random.u64(..2000));
        match random.u8(..20) {
            0..6 => {
                let keys: Vec<usize> = (0..random.usize(1..24)).map(|_| random.usize(..KEYS)).collect();
                let names: Vec<&str> = keys.iter().map(|&key| group.keys[key].as_str()).collect();
                let mut readings = Vec::new();
                for &key in &keys {
                    readings.push(recorder.begin_read(key));
                }
                let whole = if random.u8(..5) == 0 { patience } else { Duration::from_secs(60) };
                match timeout(whole, cache.get_many(&names)).await {
                    Ok(Ok(values)) => {
                        assert_eq!(values.len(), keys.len(), "get_many answers for each key");
                        for (reading, value) in readings.into_iter().zip(values) {
                            recorder.end_read("get_many", reading, version(value), false);
                        }
                    }
                    Ok(Err(_down)) => failures += 1,
                    Err(_dropped) => dropped += 1,
                }
            }
            6..10 => {
                let reading = recorder.begin_read(key);
                match cache.lookup(name).await {
                    Ok(found) => {
                        recorder.end_read("lookup", reading, version(found.value), found.tier == Tier::Local);
                    }
                    Err(_down) => failures += 1,
                }
            }
            10..13 => {
                // A loader that finds nothing either: nothing is written, and an absence is an error of kind `Load`.
                let key = random.usize(..CACHED_KEYS);
                let name = group.keys[key].as_str();
                let reading = recorder.begin_read(key);
                let mut loaded = false;
                let nothing = async |_| {
                    loaded = true;
                    Err::<Value, _>(io::Error::from(io::ErrorKind::NotFound))
                };
                match cache.get_or_load(name, nothing).await {
                    Ok(value) => recorder.end_read("get_or_load", reading, Some(value.version), false),
                    // The loader runs for an absent key, and also when the backend cannot be asked.
                    Err(error) if error.kind() == ErrorKind::Load => {}
                    Err(_down) => failures += 1,
                }
            }
            13..16 => {
                let reading = recorder.begin_read(key);
                match timeout(patience, cache.get(name)).await {
                    Ok(Ok(value)) => recorder.end_read("get", reading, version(value), false),
                    Ok(Err(_down)) => failures += 1,
                    Err(_dropped) => dropped += 1,
                }
            }
            16 => {
                let other = cache.clone();
                let name = name.to_owned();
                let task = tokio::spawn(async move { other.get(&name).await.is_ok() });
                sleep(patience / 4).await;
                task.abort();
                dropped += u64::from(task.await.is_err());
            }
            17 => {
                let _ = cache.invalidate_local(name);
            }
            18 => {
                let names: Vec<&str> = (0..8).map(|_| group.keys[random.usize(..KEYS)].as_str()).collect();
                failures += u64::from(cache.warm(&names).await.is_err());
            }
            _ if random.u8(..8) == 0 => {
                cache.clear_local();
            }
            _ => {}
        }
        if random.u8(..4) == 0 {
            sleep(Duration::from_millis(1)).await;
        } else {
            yield_now().await;
        }
    }
    group.counts.dropped.fetch_add(dropped, SeqCst);
    count(&group, &recorder, operations, failures);
}

fn version(value: Option<Arc<Value>>) -> Option<u64> {
    value.map(|value| value.version)
}

fn count(group: &Group, recorder: &Recorder, operations: usize, failures: u64) {
    group.counts.operations.fetch_add(operations as u64, SeqCst);
    group.counts.checked.fetch_add(recorder.count() as u64, SeqCst);
    group.counts.failures.fetch_add(failures, SeqCst);
}
