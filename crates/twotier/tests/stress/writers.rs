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
use twotier::{Cache, Error};
use twotier_testkit::history::{Broken, Change, HistoryTime, Recorder, Violation, WriteOutcome, Writing};

use crate::{group::Group, value::Value};

pub(crate) async fn run(group: Arc<Group>, instance: usize, part: usize, seed: u64) {
    let writer = Writer {
        keys: group.keys_of(instance, part),
        cache: group.instances[instance].cache.clone(),
        recorder: Recorder::new(&group.history, format!("writer {part} of {instance}"), instance),
        random: fastrand::Rng::with_seed(seed),
        rivalled: HashMap::new(),
        unknown: HashMap::new(),
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
    not_sent: u64,
    dropped: u64,
}

struct Writer {
    group: Arc<Group>,
    instance: usize,
    cache: Cache<Value>,
    keys: Vec<usize>,
    recorder: Recorder,
    random: fastrand::Rng,
    /// When a write through another cache failed that may have been executed, by key, and through which cache. That
    /// one's next link ends it, not ours: the key is not written again before.
    rivalled: HashMap<usize, (HistoryTime, usize)>,
    /// When the last write through our cache failed that may have been executed, by key. Our next link ends it: no
    /// rival writes the key before.
    unknown: HashMap<usize, HistoryTime>,
    done: Done,
}

impl Writer {
    async fn run(mut self) {
        while self.group.goes_on() {
            let key = self.keys[self.random.usize(..self.keys.len())];
            if self.is_writable(key) {
                self.write(key).await;
                self.done.operations += 1;
            }
            sleep(Duration::from_micros(self.random.u64(200..2500))).await;
        }
        let counts = &self.group.counts;
        counts.operations.fetch_add(self.done.operations, SeqCst);
        counts.failures.fetch_add(self.done.failures, SeqCst);
        counts.not_sent.fetch_add(self.done.not_sent, SeqCst);
        counts.dropped.fetch_add(self.done.dropped, SeqCst);
        counts.checked.fetch_add(self.recorder.count() as u64, SeqCst);
    }

    fn is_writable(&mut self, key: usize) -> bool {
        let instances = &self.group.instances;
        self.rivalled.retain(|_, (failed, rival)| instances[*rival].settled() <= *failed);
        !self.rivalled.contains_key(&key)
    }

    fn is_settled(&self, key: usize) -> bool {
        let settled = self.group.instances[self.instance].settled();
        self.unknown.get(&key).is_none_or(|failed| settled > *failed)
    }

    async fn write(&mut self, key: usize) {
        match self.random.u8(..100) {
            0..50 => self.set(key).await,
            50..60 => self.delete(key).await,
            60..70 => self.set_many().await,
            70..74 => self.delete_many().await,
            74..78 => self.twins(key, None).await,
            78..82 if self.is_settled(key) => {
                let rival =
                    (self.instance + self.random.usize(1..self.group.instances.len())) % self.group.instances.len();
                self.twins(key, Some(rival)).await;
            }
            78..82 => self.set(key).await,
            82..86 => self.get_or_load(key).await,
            86..88 => self.update(key).await,
            88..94 => self.set_dropped(key).await,
            94..97 => self.delete_dropped(key).await,
            _ => self.set_aborted(key).await,
        }
        // The handle's own next read: of what it wrote, or tried to.
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

    fn end<T>(&mut self, operation: &'static str, writing: Writing, result: &Result<T, Error>) {
        self.done.failures += u64::from(result.is_err());
        let outcome = WriteOutcome::of(result, Error::may_have_executed);
        self.done.not_sent += u64::from(outcome == WriteOutcome::NotSent);
        self.record(operation, writing, outcome);
    }

    fn record(&mut self, operation: &'static str, writing: Writing, outcome: WriteOutcome) {
        let key = writing.key;
        self.recorder.end_write(operation, writing, outcome);
        if outcome == WriteOutcome::Unknown {
            self.unknown.insert(key, self.group.history.now());
        }
    }

    /// Ends a write whose caller may have gone away.
    fn end_dropped<T, D>(&mut self, operation: &'static str, writing: Writing, result: &Result<Result<T, Error>, D>) {
        match result {
            Ok(result) => self.end(operation, writing, result),
            Err(_dropped) => {
                self.done.dropped += 1;
                self.record(operation, writing, WriteOutcome::Unknown);
            }
        }
    }

    async fn set(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let result = self.cache.set(&self.group.keys[key], value).await;
        self.end("set", writing, &result);
    }

    async fn delete(&mut self, key: usize) {
        let (writing, _) = self.begin(key, Change::Absence);
        let result = self.cache.delete(&self.group.keys[key]).await;
        self.end("delete", writing, &result);
    }

    async fn set_many(&mut self) {
        let (mut writings, mut items) = (Vec::new(), Vec::new());
        for key in self.some() {
            let (writing, value) = self.begin(key, Change::Value);
            writings.push(writing);
            items.push((self.group.keys[key].clone(), value));
        }
        let results = self.cache.set_each(items).await;
        for (writing, result) in writings.into_iter().zip(results) {
            self.end("set_each", writing, &result);
        }
    }

    async fn delete_many(&mut self) {
        let (mut writings, mut names) = (Vec::new(), Vec::new());
        for key in self.some() {
            writings.push(self.begin(key, Change::Absence).0);
            names.push(self.group.keys[key].clone());
        }
        let results = self.cache.delete_each(&names).await;
        for (writing, result) in writings.into_iter().zip(results) {
            self.end("delete_each", writing, &result);
        }
    }

    /// Writes one version twice at once, as two values, the second through this cache or a rival. Which of them stays
    /// is up to the server, but it is one: reads that begin when every report has arrived must agree.
    async fn twins(&mut self, key: usize, rival: Option<usize>) {
        let (writing, value) = self.begin(key, Change::Value);
        let name = self.group.keys[key].clone();
        let other = self.group.instances[rival.unwrap_or(self.instance)].cache.clone();
        let (one, two) = join!(self.cache.set(&name, value), other.set(&name, value.twin()));
        let outcome = match (&one, &two) {
            (Ok(()), Ok(())) => WriteOutcome::Acknowledged,
            (Err(one), Err(two)) if !one.may_have_executed() && !two.may_have_executed() => WriteOutcome::NotSent,
            _ => WriteOutcome::Unknown,
        };
        self.record(if rival.is_some() { "set with rival" } else { "set twice" }, writing, outcome);
        if outcome != WriteOutcome::Acknowledged {
            self.done.failures += 1;
            if let Some(rival) = rival.filter(|_| two.is_err_and(|error| error.may_have_executed())) {
                self.rivalled.insert(key, (self.group.history.now(), rival));
            }
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
        self.end("update", writing, &result);
    }

    /// Loads an absent key. The value comes back whether or not it could be stored, so nobody knows of the write.
    async fn get_or_load(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let ran = AtomicBool::new(false);
        let load = async || {
            ran.store(true, SeqCst);
            Ok::<_, io::Error>(value)
        };
        let reading = self.recorder.begin_read(key);
        let result = self.cache.get_or_load(&self.group.keys[key], |_| load()).await;
        self.done.failures += u64::from(result.is_err());
        if ran.load(SeqCst) {
            self.record("get_or_load", writing, WriteOutcome::Unknown);
            return;
        }
        self.recorder.end_write("not loaded", writing, WriteOutcome::NotSent);
        if let Ok(value) = result {
            self.recorder.end_read("get_or_load", reading, Some(value.version), false);
        }
    }

    async fn set_dropped(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let patience = self.patience();
        let result = timeout(patience, self.cache.set(&self.group.keys[key], value)).await;
        self.end_dropped("set dropped", writing, &result);
    }

    async fn delete_dropped(&mut self, key: usize) {
        let (writing, _) = self.begin(key, Change::Absence);
        let patience = self.patience();
        let result = timeout(patience, self.cache.delete(&self.group.keys[key])).await;
        self.end_dropped("delete dropped", writing, &result);
    }

    async fn set_aborted(&mut self, key: usize) {
        let (writing, value) = self.begin(key, Change::Value);
        let (cache, name) = (self.cache.clone(), self.group.keys[key].clone());
        let task = tokio::spawn(async move { cache.set(&name, value).await });
        sleep(self.patience()).await;
        task.abort();
        let result = task.await;
        self.end_dropped("set aborted", writing, &result);
    }

    fn patience(&mut self) -> Duration {
        Duration::from_micros(if self.random.bool() { 0 } else { self.random.u64(..1500) })
    }

    /// Returns a few keys that may be written.
    fn some(&mut self) -> Vec<usize> {
        let mut keys: Vec<usize> = self.keys.clone();
        keys.retain(|&key| self.is_writable(key));
        self.random.shuffle(&mut keys);
        keys.truncate(self.random.usize(1..5));
        keys
    }
}
