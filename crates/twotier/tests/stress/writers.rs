//! The writing party of some keys through one cache.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    join,
    time::{sleep, timeout},
};
use twotier::Cache;
use twotier_testkit::history::{Broken, Change, Moment, Recorder, Violation, Writing};

use crate::{group::Group, value::Value};

/// A task that was spawned this long ago has been polled.
const SPAWNED: Duration = Duration::from_millis(20);

pub(crate) async fn run(group: Arc<Group>, instance: usize, part: usize, seed: u64) {
    let writer = Writer {
        keys: group.keys_of(instance, part),
        cache: group.instances[instance].cache.clone(),
        recorder: Recorder::new(&group.history, format!("writer {part} of {instance}"), instance),
        random: fastrand::Rng::with_seed(seed),
        open: HashMap::new(),
        group,
        instance,
        done: Done::default(),
    };
    writer.run().await;
}

#[derive(Default)]
struct Done {
    operations: u64,
    failures: u64,
    dropped: u64,
}

struct Writer {
    group: Arc<Group>,
    instance: usize,
    cache: Cache<Value>,
    keys: Vec<usize>,
    recorder: Recorder,
    random: fastrand::Rng,
    /// When the last write of a key ended without an answer, and through which cache beside this one it may be under way
    /// too. The key is not written again before that is settled.
    open: HashMap<usize, (Moment, Option<usize>)>,
    done: Done,
}

impl Writer {
    async fn run(mut self) {
        while self.group.goes_on() {
            if let Some(key) = self.writable() {
                self.write(key).await;
                self.done.operations += 1;
            }
            sleep(Duration::from_micros(self.random.u64(200..2500))).await;
        }
        let counts = &self.group.counts;
        counts.operations.fetch_add(self.done.operations, SeqCst);
        counts.failures.fetch_add(self.done.failures, SeqCst);
        counts.dropped.fetch_add(self.done.dropped, SeqCst);
        counts.checked.fetch_add(self.recorder.count() as u64, SeqCst);
    }

    fn writable(&mut self) -> Option<usize> {
        let instances = &self.group.instances;
        let settled = |instance: usize, open| instances[instance].settled().since(open) >= SPAWNED;
        self.open.retain(|_, &mut (open, rival)| {
            !settled(self.instance, open) || rival.is_some_and(|rival| !settled(rival, open))
        });
        let key = self.keys[self.random.usize(..self.keys.len())];
        (!self.open.contains_key(&key)).then_some(key)
    }

    async fn write(&mut self, key: usize) {
        match self.random.u8(..100) {
            0..50 => self.set(key).await,
            50..60 => self.delete(key).await,
            60..70 => self.set_many().await,
            70..74 => self.delete_many().await,
            74..78 => self.twins(key, None).await,
            78..82 => {
                let rival =
                    (self.instance + self.random.usize(1..self.group.instances.len())) % self.group.instances.len();
                self.twins(key, Some(rival)).await;
            }
            82..86 => self.get_or_load(key).await,
            86..88 => self.update(key).await,
            88..94 => self.set_dropped(key).await,
            94..97 => self.delete_dropped(key).await,
            _ => self.set_aborted(key).await,
        }
        // The handle's own next read: of what it wrote, or of what it left open.
        let reading = self.recorder.begin_read(key);
        match self.cache.get(&self.group.keys[key]).await {
            Ok(value) => self.recorder.end_read("get", reading, value.map(|value| value.version), false),
            Err(_down) => self.done.failures += 1,
        }
    }

    fn begin(&mut self, key: usize, change: Change) -> (Writing, Value) {
        let writing = self.recorder.begin_write(key, change);
        (writing, Value::new(writing.version, &mut self.random))
    }

    fn end(&mut self, operation: &'static str, writing: Writing, acknowledged: bool) {
        self.recorder.end_write(operation, writing, acknowledged);
        if !acknowledged {
            self.open.insert(writing.key, (self.group.history.now(), None));
        }
    }

    async fn set(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let result = self.cache.set(&self.group.keys[key], value).await;
        self.done.failures += u64::from(result.is_err());
        self.end("set", writing, result.is_ok());
    }

    async fn delete(&mut self, key: usize) {
        let (writing, _) = self.begin(key, Change::Absence);
        let result = self.cache.delete(&self.group.keys[key]).await;
        self.done.failures += u64::from(result.is_err());
        self.end("delete", writing, result.is_ok());
    }

    async fn set_many(&mut self) {
        let (mut writings, mut items) = (Vec::new(), Vec::new());
        for key in self.some() {
            let (writing, value) = self.begin(key, Change::Value);
            writings.push(writing);
            items.push((self.group.keys[key].clone(), value));
        }
        let result = self.cache.set_many(items).await;
        self.done.failures += u64::from(result.is_err());
        for writing in writings {
            self.end("set_many", writing, result.is_ok());
        }
    }

    async fn delete_many(&mut self) {
        let (mut writings, mut names) = (Vec::new(), Vec::new());
        for key in self.some() {
            writings.push(self.begin(key, Change::Absence).0);
            names.push(self.group.keys[key].clone());
        }
        let result = self.cache.delete_many(&names).await;
        self.done.failures += u64::from(result.is_err());
        for writing in writings {
            self.end("delete_many", writing, result.is_ok());
        }
    }

    /// Writes one version twice at once, as two values, the second through this cache or a rival. Which of them stays is
    /// up to the server, but it is one: reads that begin when every report has arrived must agree.
    async fn twins(&mut self, key: usize, rival: Option<usize>) {
        let (writing, value) = self.begin(key, Change::Value);
        let name = self.group.keys[key].clone();
        let other = self.group.instances[rival.unwrap_or(self.instance)].cache.clone();
        let (one, two) = join!(self.cache.set(&name, value), other.set(&name, value.twin()));
        let acknowledged = one.is_ok() && two.is_ok();
        self.end(if rival.is_some() { "set with rival" } else { "set twice" }, writing, acknowledged);
        if !acknowledged {
            self.open.insert(key, (self.group.history.now(), rival));
            self.done.failures += 1;
            return;
        }
        // What was acknowledged before the first of two requests is reported before the reply to the second.
        for _ in 0..2 {
            if self.cache.set(&format!("fence-{}", self.instance), value).await.is_err() {
                return;
            }
        }
        let mut seen = None;
        for again in 0..3 {
            if again == 2 {
                let _ = self.cache.invalidate_local(&name);
            }
            let reading = self.recorder.begin_read(key);
            let Ok(value) = self.cache.get(&name).await else { return };
            self.recorder.end_read("get", reading, value.as_ref().map(|value| value.version), false);
            let Some(value) = value else { return };
            if *seen.get_or_insert(value.twin) != value.twin {
                let (version, at) = (Some(value.version), self.group.history.now());
                let (broken, handle) = (Broken::Alternates, Some(self.instance));
                self.group.history.report(Violation { broken, handle, key, version, at });
            }
        }
    }

    /// Changes what is there, which must be what was written last.
    async fn update(&mut self, key: usize) {
        let change = if self.random.u8(..4) == 0 { Change::Absence } else { Change::Value };
        let (writing, value) = self.begin(key, change);
        let mut found = None;
        let reading = self.recorder.begin_read(key);
        let result = self.cache.update(&self.group.keys[key], |held| {
            found = Some(held.map(|held| held.version));
            (change == Change::Value).then_some(value)
        });
        let result = result.await;
        if let Some(found) = found {
            self.recorder.end_read("update", reading, found, false);
        }
        self.done.failures += u64::from(result.is_err());
        self.end("update", writing, result.is_ok());
    }

    /// Loads an absent key. The value comes back whether or not it could be stored, so the write is open.
    async fn get_or_load(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let ran = AtomicBool::new(false);
        let load = async || {
            ran.store(true, SeqCst);
            Ok::<_, io::Error>(value)
        };
        let reading = self.recorder.begin_read(key);
        let result = self.cache.get_or_load(&self.group.keys[key], load).await;
        self.done.failures += u64::from(result.is_err());
        if ran.load(SeqCst) {
            self.end("get_or_load", writing, false);
            return;
        }
        // Nothing was written: the version is left open and never seen.
        self.recorder.end_write("not loaded", writing, false);
        if let Ok(value) = result {
            self.recorder.end_read("get_or_load", reading, Some(value.version), false);
        }
    }

    async fn set_dropped(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let patience = self.patience();
        let result = timeout(patience, self.cache.set(&self.group.keys[key], value)).await;
        self.done.dropped += u64::from(result.is_err());
        self.end("set dropped", writing, matches!(result, Ok(Ok(()))));
    }

    async fn delete_dropped(&mut self, key: usize) {
        let (writing, _) = self.begin(key, Change::Absence);
        let patience = self.patience();
        let result = timeout(patience, self.cache.delete(&self.group.keys[key])).await;
        self.done.dropped += u64::from(result.is_err());
        self.end("delete dropped", writing, matches!(result, Ok(Ok(_))));
    }

    async fn set_aborted(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let (cache, name) = (self.cache.clone(), self.group.keys[key].clone());
        let task = tokio::spawn(async move { cache.set(&name, value).await });
        sleep(self.patience()).await;
        task.abort();
        let result = task.await;
        self.done.dropped += u64::from(result.is_err());
        self.end("set aborted", writing, matches!(result, Ok(Ok(()))));
    }

    fn patience(&mut self) -> Duration {
        Duration::from_micros(if self.random.bool() { 0 } else { self.random.u64(..1500) })
    }

    /// Returns a few keys that may be written.
    fn some(&mut self) -> Vec<usize> {
        let mut keys: Vec<usize> = self.keys.iter().copied().filter(|key| !self.open.contains_key(key)).collect();
        self.random.shuffle(&mut keys);
        keys.truncate(self.random.usize(1..5));
        keys
    }
}
