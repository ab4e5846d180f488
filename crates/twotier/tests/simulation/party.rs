//! A task that uses a cache.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use fastrand::Rng;
use futures_util::poll;
use tokio::time::{sleep, timeout};
use twotier::{Cache, Error, SetOptions, Tier};
use twotier_testkit::history::WriteOutcome;

use crate::{
    checker::{Checker, Floor, ServedBy, Span},
    scenario::{Scenario, key, pick},
    writes::Tried,
};

/// Longer than any call may take that has no deadline of its own: loads, whose leaders change, `clear`, and batches,
/// whose deadline is one of progress.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// What timers round up.
const TICK: Duration = Duration::from_millis(2);

/// One task of one cache.
pub(crate) struct Party {
    pub(crate) cache: Cache<String>,
    pub(crate) number: usize,
    pub(crate) task: usize,
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) checker: Arc<Checker>,
    pub(crate) rng: Rng,
    pub(crate) written: u64,
}

impl Party {
    /// Does its operations, one after the other.
    pub(crate) async fn act(mut self) {
        for _ in 0..self.scenario.operations {
            let think = self.rng.u64(0..=self.scenario.think);
            // Now and then long enough for leases and local copies to run out.
            let think = if self.rng.u8(..40) == 0 { think + 300 } else { think };
            if think > 0 {
                sleep(Duration::from_millis(think)).await;
            }
            self.checker.count_operation();
            self.operation().await;
        }
    }

    async fn operation(&mut self) {
        if let Some(following) = self.scenario.origin {
            return self.operation_with_origin(following).await;
        }
        let any = key(self.rng.usize(..self.scenario.keys));
        let mine: Vec<usize> =
            (0..self.scenario.keys).filter(|key| self.scenario.may_write(self.number, *key)).collect();
        let roll = self.rng.u8(..100);
        let Some(mine) = (!mine.is_empty()).then(|| key(*pick(&mut self.rng, &mine))) else {
            // Nothing to write here.
            return match roll {
                0..40 => self.get(&any).await,
                40..80 => self.lookup(&any).await,
                80..95 => self.get_many().await,
                95..98 => self.warm().await,
                _ => self.clear_local(),
            };
        };
        match roll {
            0..22 => self.get(&any).await,
            22..40 => self.lookup(&any).await,
            40..47 => self.get_many().await,
            47..66 => self.set(&mine).await,
            66..69 => self.update(&mine).await,
            69..75 => self.set_many().await,
            75..82 => self.delete(&mine).await,
            82..85 => self.delete_many().await,
            85..93 => self.get_or_load(&mine).await,
            93..95 => self.warm().await,
            95..97 => self.clear_local(),
            97 => drop(self.cache.invalidate_local(&any)),
            _ if self.scenario.many_writers => self.clear().await,
            _ => self.get(&any).await,
        }
    }

    pub(crate) async fn get(&mut self, key: &str) {
        if self.scenario.slots.is_some() {
            // What comes at once may be the answer to a read that this one joined. This call says which tier it was.
            return self.lookup(key).await;
        }
        let floor = self.checker.floor(self.number, key);
        let mut answer = ServedBy::Remote;
        let cache = self.cache.clone();
        let call = async {
            let mut get = Box::pin(cache.get(key));
            // Only the local tier answers at once.
            if let std::task::Poll::Ready(result) = poll!(&mut get) {
                answer = ServedBy::Local;
                return result;
            }
            get.await
        };
        let ended = self.call(format!("get {key}"), self.deadline(), call).await;
        if let Some((span, Ok(value))) = ended {
            self.checker.read(span, key, floor, value.as_deref().map(String::as_str), answer);
        }
    }

    pub(crate) async fn lookup(&mut self, key: &str) {
        let floor = self.checker.floor(self.number, key);
        let cache = self.cache.clone();
        let ended = self.call(format!("lookup {key}"), self.deadline(), cache.lookup(key)).await;
        if let Some((span, Ok(found))) = ended {
            let answer = if found.tier == Tier::Local { ServedBy::Local } else { ServedBy::Remote };
            // A hit that came in while this call looked again was looked up at its start too, as nothing was awaited.
            let answer = if answer == ServedBy::Local && span.start != span.end { ServedBy::Either } else { answer };
            self.checker.read(span, key, floor, found.value.as_deref().map(String::as_str), answer);
            let longest = match found.value {
                Some(_) => self.scenario.local_ttl,
                None => self.scenario.negative_ttl.unwrap_or_default(),
            };
            if answer == ServedBy::Local && found.age >= longest {
                self.checker.violation("local time to live", format!("{key} was a hit at the age of {:?}", found.age));
            }
        }
    }

    pub(crate) async fn get_many(&mut self) {
        let keys = self.some_keys();
        let floors: Vec<Floor> = keys.iter().map(|key| self.checker.floor(self.number, key)).collect();
        let cache = self.cache.clone();
        let ended = self.call(format!("get_many {keys:?}"), LONG, cache.get_many(&keys)).await;
        if let Some((span, Ok(values))) = ended {
            for ((key, floor), value) in keys.iter().zip(floors).zip(values) {
                self.checker.read(span, key, floor, value.as_deref().map(String::as_str), ServedBy::Either);
            }
        }
    }

    async fn warm(&mut self) {
        let keys = self.some_keys();
        let cache = self.cache.clone();
        let _ended = self.call(format!("warm {keys:?}"), LONG, cache.warm(&keys)).await;
    }

    async fn set(&mut self, key: &str) {
        let value = self.new_value(key);
        let ttl = (self.scenario.expiring && self.rng.bool()).then(|| Duration::from_millis(self.rng.u64(1..=150)));
        let cache = self.cache.clone();
        let options = SetOptions::new().time_to_live(ttl);
        let call = cache.set_with(key, value.clone(), options);
        let what = format!("set {key} = {value} for {ttl:?}");
        let (_, ended) = self.write(what, self.deadline(), vec![(key.to_owned(), Some(value.clone()))], call).await;
        if let Some((span, Ok(()))) = ended {
            self.checker.wrote(span, key, &value);
        }
    }

    /// Writes a value of its own, whatever was there.
    async fn update(&mut self, key: &str) {
        let value = self.new_value("");
        let floor = self.checker.floor(self.number, key);
        let (cache, new) = (self.cache.clone(), value.clone());
        let mut seen = None;
        let call = cache.update(key, |held: Option<&String>| {
            seen = Some(held.cloned());
            Some(new.clone())
        });
        let what = format!("update {key} = {value}");
        let (_, ended) = self.write(what, self.deadline(), vec![(key.to_owned(), Some(value.clone()))], call).await;
        if let Some((span, Ok(_written))) = ended {
            // What it was shown is a read like any other.
            if let Some(held) = seen {
                self.checker.read(span, key, floor, held.as_deref(), ServedBy::Remote);
            }
            self.checker.wrote(span, key, &value);
        }
    }

    async fn set_many(&mut self) {
        let items: Vec<(String, String)> = self
            .some_keys()
            .into_iter()
            .filter(|name| (0..self.scenario.keys).any(|n| key(n) == *name && self.scenario.may_write(self.number, n)))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|key| {
                let value = self.new_value(&key);
                (key, value)
            })
            .collect();
        let cache = self.cache.clone();
        let call = cache.set_many(items.clone());
        let written = items.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let (_, ended) = self.write(format!("set_many {items:?}"), LONG, written, call).await;
        if let Some((span, Ok(()))) = ended {
            // Of several values for one key the last one is written.
            let last: BTreeMap<String, String> = items.into_iter().collect();
            for (key, value) in &last {
                self.checker.wrote(span, key, value);
            }
        }
    }

    async fn delete(&mut self, key: &str) {
        let cache = self.cache.clone();
        let (_, ended) =
            self.write(format!("delete {key}"), self.deadline(), vec![(key.to_owned(), None)], cache.delete(key)).await;
        if let Some((span, Ok(_there))) = ended {
            self.checker.deleted(span, key, true);
        }
    }

    async fn delete_many(&mut self) {
        let keys: Vec<String> =
            (0..self.scenario.keys).filter(|n| self.scenario.may_write(self.number, *n)).map(key).collect();
        let cache = self.cache.clone();
        let written = keys.iter().map(|key| (key.clone(), None)).collect();
        let (_, ended) = self.write(format!("delete_many {keys:?}"), LONG, written, cache.delete_many(&keys)).await;
        if let Some((span, Ok(_count))) = ended {
            for key in &keys {
                self.checker.deleted(span, key, true);
            }
        }
    }

    async fn get_or_load(&mut self, key: &str) {
        let value = self.new_value("");
        let takes = Duration::from_millis(self.rng.u64(0..=40));
        let fails = self.rng.u8(..6) == 0;
        let (cache, checker, number) = (self.cache.clone(), Arc::clone(&self.checker), self.number);
        let loaded = value.clone();
        let loader = async move || {
            let start = checker.journal.now();
            checker.journal.note(format_args!("cache {number}"), || format!("loads {loaded}"));
            sleep(takes).await;
            if fails {
                return Err(io::Error::other("the loader fails"));
            }
            let end = checker.journal.now();
            checker.loaded(Span { cache: number, start, end }, key, &loaded);
            Ok(loaded)
        };
        let floor = self.checker.floor(self.number, key);
        let ended = self.call(format!("get_or_load {key} = {value}"), LONG, cache.get_or_load(key, |_| loader())).await;
        if let Some((span, Ok(value))) = ended {
            if self.checker.is_loaded(&value) {
                return;
            }
            self.checker.read(span, key, floor, Some(&value), ServedBy::Either);
        }
    }

    fn clear_local(&self) {
        self.note("clear_local");
        let _count = self.cache.clear_local();
    }

    async fn clear(&mut self) {
        let cache = self.cache.clone();
        let ended = self.call("clear".to_owned(), LONG, cache.clear()).await;
        if let Some((span, Ok(_count))) = ended {
            for index in 0..self.scenario.keys {
                self.checker.deleted(span, &key(index), false);
            }
        }
    }

    /// Makes a call that writes these keys, and takes note of what is known of its end.
    pub(crate) async fn write<T: fmt::Debug>(
        &mut self,
        what: String,
        limit: Duration,
        keys: Vec<(String, Option<String>)>,
        call: impl Future<Output = twotier::Result<T>>,
    ) -> (Vec<Tried>, Option<(Span, twotier::Result<T>)>) {
        let (called, from) = (self.checker.writes.place(), self.checker.journal.now());
        let call = self.call(what, limit, call).await;
        let (ended, to) = (self.checker.writes.place(), self.checker.journal.now());
        let outcome = match &call {
            None => WriteOutcome::Unknown,
            Some((_, result)) => WriteOutcome::of(result, Error::may_have_executed),
        };
        // The error of a batch is that of one of its keys.
        let in_part = keys.len() > 1 && outcome == WriteOutcome::NotSent;
        let outcome = if in_part { WriteOutcome::Unknown } else { outcome };
        let cache = self.number;
        let tried = |(key, value)| Tried { cache, key, value, called, ended, from, to, outcome };
        let tried: Vec<Tried> = keys.into_iter().map(tried).collect();
        for tried in &tried {
            self.checker.writes.add(tried.clone());
        }
        (tried, call)
    }

    /// Makes a call, drops it half-way if the dice say so, and finds out whether it ends in time.
    pub(crate) async fn call<T: fmt::Debug>(
        &mut self,
        what: String,
        limit: Duration,
        call: impl Future<Output = T>,
    ) -> Option<(Span, T)> {
        let dropped = self.scenario.dropped > 0 && self.rng.u8(..self.scenario.dropped) == 0;
        let patience = if dropped { Duration::from_millis(self.rng.u64(0..=20)) } else { limit };
        let start = self.checker.journal.now();
        self.note(format_args!("{what} …"));
        let result = timeout(patience, call).await;
        let end = self.checker.journal.now();
        match result {
            Ok(result) => {
                self.note(format_args!("{what} -> {result:?}"));
                Some((Span { cache: self.number, start, end }, result))
            }
            Err(_elapsed) if dropped => {
                self.note(format_args!("{what} is dropped"));
                None
            }
            Err(_elapsed) => {
                self.checker
                    .violation("every call ends", format!("{what} of cache {} after {patience:?}", self.number));
                None
            }
        }
    }

    fn note(&self, what: impl fmt::Display) {
        self.checker.journal.note(format_args!("cache {}.{}", self.number, self.task), || what.to_string());
    }

    /// When a call that has a deadline must have ended.
    pub(crate) fn deadline(&self) -> Duration {
        self.scenario.op_timeout + TICK
    }

    /// Makes a value that was never there; now and then takes the last one of the key once more.
    fn new_value(&mut self, key: &str) -> String {
        if !key.is_empty()
            && self.rng.u8(..8) == 0
            && let Some(last) = self.checker.present(key)
        {
            return last;
        }
        self.written += 1;
        let padding = if self.rng.u8(..8) == 0 { self.rng.usize(..300) } else { 0 };
        format!("c{}.{}-{}{}", self.number, self.task, self.written, "~".repeat(padding))
    }

    fn some_keys(&mut self) -> Vec<String> {
        let count = self.rng.usize(1..=4);
        (0..count).map(|_| key(self.rng.usize(..self.scenario.keys))).collect()
    }
}
