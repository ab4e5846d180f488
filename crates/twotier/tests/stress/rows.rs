//! The keys with an origin: rows that are written before their keys, and loaded slowly meanwhile.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::time::{sleep, timeout};
use twotier_testkit::history::{Change, Recorder, WriteOutcome};

use crate::{group::Group, value::Value};

/// The longest that a loader takes before it reads the row, and again before it returns it, in microseconds.
const SLOWEST: u64 = 2000;

/// Changes rows, one after the other, and sets or deletes their keys.
pub(crate) async fn write(group: Arc<Group>, instance: usize, seed: u64) {
    let cache = group.instances[instance].cache.clone();
    let mut recorder = Recorder::new(&group.history, format!("row writer of {instance}"), instance);
    let mut random = fastrand::Rng::with_seed(seed);
    let keys = group.row_keys_of(instance);
    let mut failures = 0;
    while group.goes_on() {
        let key = keys[random.usize(..keys.len())];
        let name = &group.keys[key];
        let writing = recorder.begin_write(key, Change::Value);
        group.row(key).store(writing.version, SeqCst);
        let (operation, ended) = if random.u8(..3) > 0 {
            ("row, delete", cache.delete(name).await.map(|_there| ()))
        } else {
            ("row, set", cache.set(name, Value::of_row(writing.version)).await)
        };
        // The row is there whatever became of the key: it may be loaded.
        let outcome = if ended.is_ok() { WriteOutcome::Acknowledged } else { WriteOutcome::Unknown };
        failures += u64::from(ended.is_err());
        recorder.end_write(operation, writing, outcome);
        let reading = recorder.begin_read(key);
        if let Ok(value) = cache.get(name).await {
            recorder.end_read("get", reading, value.map(|value| value.version), false);
        }
        sleep(Duration::from_micros(random.u64(200..4000))).await;
    }
    count(&group, &recorder, failures, 0);
}

/// Loads rows, by ones and by many, and goes away half-way at times.
pub(crate) async fn load(group: Arc<Group>, instance: usize, seed: u64) {
    let cache = group.instances[instance].cache.clone();
    let mut recorder = Recorder::new(&group.history, format!("loader of {instance}"), instance);
    let mut random = fastrand::Rng::with_seed(seed);
    let keys = group.row_keys_of(instance);
    let (mut failures, mut dropped) = (0, 0);
    while group.goes_on() {
        let [to_row, back] = [0; 2].map(|_| Duration::from_micros(random.u64(..SLOWEST)));
        let patience = if random.u8(..8) == 0 { to_row + back / 2 } else { Duration::from_secs(60) };
        let read = |key: usize| {
            group.counts.loads.fetch_add(1, SeqCst);
            Value::of_row(group.row(key).load(SeqCst))
        };
        if random.bool() {
            let key = keys[random.usize(..keys.len())];
            let loader = async || {
                sleep(to_row).await;
                let row = read(key);
                sleep(back).await;
                // Before the first row there is nothing.
                if row.version == 0 { Err(io::Error::from(io::ErrorKind::NotFound)) } else { Ok(row) }
            };
            let reading = recorder.begin_read(key);
            match timeout(patience, cache.get_or_load(&group.keys[key], |_| loader())).await {
                Ok(Ok(value)) => recorder.end_load("get_or_load", reading, value.version),
                Ok(Err(_failed)) => failures += 1,
                Err(_dropped) => dropped += 1,
            }
        } else {
            let wanted: Vec<usize> = (0..random.usize(1..5)).map(|_| keys[random.usize(..keys.len())]).collect();
            let names: Vec<&str> = wanted.iter().map(|&key| group.keys[key].as_str()).collect();
            let numbers: HashMap<&str, usize> = names.iter().copied().zip(wanted.iter().copied()).collect();
            let loader = async |absent: Vec<&str>| {
                sleep(to_row).await;
                let rows = absent.into_iter().map(|name| (read(numbers[name]), name.to_owned()));
                let rows: Vec<(String, Value)> =
                    rows.filter(|(row, _)| row.version > 0).map(|(row, name)| (name, row)).collect();
                sleep(back).await;
                Ok::<_, io::Error>(rows)
            };
            let mut readings = Vec::new();
            for &key in &wanted {
                readings.push(recorder.begin_read(key));
            }
            match timeout(patience, cache.get_many_or_load(&names, loader)).await {
                Ok(Ok(values)) => {
                    for (reading, value) in readings.into_iter().zip(values) {
                        if let Some(value) = value {
                            recorder.end_load("get_many_or_load", reading, value.version);
                        }
                    }
                }
                Ok(Err(_failed)) => failures += 1,
                Err(_dropped) => dropped += 1,
            }
        }
    }
    count(&group, &recorder, failures, dropped);
}

fn count(group: &Group, recorder: &Recorder, failures: u64, dropped: u64) {
    let counts = &group.counts;
    counts.operations.fetch_add(recorder.count() as u64, SeqCst);
    counts.checked.fetch_add(recorder.count() as u64, SeqCst);
    counts.failures.fetch_add(failures, SeqCst);
    counts.dropped.fetch_add(dropped, SeqCst);
}
