//! What a task does where there is an origin: it reads and loads rows, and writes them before their keys.

use std::{io, sync::Arc, time::Duration};

use tokio::time::sleep;

use crate::{
    origin::{Following, value_of},
    party::{LONG, Party},
    scenario::{key, pick},
};

/// The longest that a loader takes to come to the row, and as much again to return it, in milliseconds.
const SLOWEST: u64 = 30;

impl Party {
    pub(crate) async fn operation_with_origin(&mut self, following: Following) {
        let any = key(self.rng.usize(..self.scenario.keys));
        let mine: Vec<usize> =
            (0..self.scenario.keys).filter(|key| self.scenario.may_write(self.number, *key)).collect();
        let loaded: Vec<String> = match following {
            Following::Sets => (0..self.scenario.keys).map(key).collect(),
            Following::OwnDeletions => mine.iter().copied().map(key).collect(),
        };
        let roll = self.rng.u8(..100);
        match roll {
            20..45 if !loaded.is_empty() => {
                let key = pick(&mut self.rng, &loaded).clone();
                self.load_row(&key).await;
            }
            45..60 if !loaded.is_empty() => self.load_rows(&loaded).await,
            60..90 if !mine.is_empty() => {
                let key = key(*pick(&mut self.rng, &mine));
                self.write_row(&key, following).await;
            }
            90..92 => drop(self.cache.invalidate_local(&any)),
            92..94 => self.get_many().await,
            94..97 => self.lookup(&any).await,
            _ => self.get(&any).await,
        }
    }

    /// Writes the next row, and then what follows it.
    async fn write_row(&mut self, key: &str, following: Following) {
        let checker = Arc::clone(&self.checker);
        let _permit = checker.origin.acquire(key).await;
        let row = checker.origin.write(key);
        let cache = self.cache.clone();
        let deletes = following == Following::OwnDeletions && self.rng.bool();
        let value = (!deletes).then(|| value_of(row));
        let what = format!("writes row {row} of {key}, then {value:?}");
        let follow = async {
            match value.clone() {
                Some(value) => cache.set(key, value).await,
                None => cache.delete(key).await.map(|_there| ()),
            }
        };
        let (tried, _ended) = self.write(what, self.deadline(), vec![(key.to_owned(), value.clone())], follow).await;
        for tried in tried {
            checker.origin.followed(row, tried);
        }
    }

    async fn load_row(&mut self, key: &str) {
        let (to_row, back) = self.pauses();
        let fails = self.rng.u8(..8) == 0;
        let (cache, checker) = (self.cache.clone(), Arc::clone(&self.checker));
        let who = format!("cache {}.{}", self.number, self.task);
        let loader = async move || {
            sleep(to_row).await;
            let value = value_of(checker.origin.load(key));
            checker.journal.note(&who, || format!("loads {key} = {value}"));
            sleep(back).await;
            if fails { Err(io::Error::other("the loader fails")) } else { Ok(value) }
        };
        let floor = self.checker.floor(self.number, key);
        let ended = self.call(format!("get_or_load {key}"), LONG, cache.get_or_load(key, |_| loader())).await;
        if let Some((span, Ok(value))) = ended {
            self.checker.row_read(span, key, floor, &value, Some(self.longest_load()));
        }
    }

    async fn load_rows(&mut self, loaded: &[String]) {
        let count = self.rng.usize(1..=4);
        let keys: Vec<String> = (0..count).map(|_| pick(&mut self.rng, loaded).clone()).collect();
        let (to_row, back) = self.pauses();
        let (cache, checker) = (self.cache.clone(), Arc::clone(&self.checker));
        let who = format!("cache {}.{}", self.number, self.task);
        let loader = async |keys: Vec<String>| {
            sleep(to_row).await;
            let rows: Vec<(String, String)> =
                keys.into_iter().map(|key| (key.clone(), value_of(checker.origin.load(&key)))).collect();
            checker.journal.note(&who, || format!("loads {rows:?}"));
            sleep(back).await;
            Ok::<_, io::Error>(rows)
        };
        let floors: Vec<_> = keys.iter().map(|key| self.checker.floor(self.number, key)).collect();
        let call = cache.get_many_or_load(&keys, loader);
        let ended = self.call(format!("get_many_or_load {keys:?}"), LONG, call).await;
        if let Some((span, Ok(values))) = ended {
            for ((key, floor), value) in keys.iter().zip(floors).zip(values) {
                match value {
                    Some(value) => {
                        self.checker.row_read(span, key, floor, &value, Some(self.longest_load()));
                    }
                    None => self.checker.violation("what is loaded is returned", format!("{key} in {keys:?}")),
                }
            }
        }
    }

    /// How long a loader takes before and after it has read the row.
    fn pauses(&mut self) -> (Duration, Duration) {
        let mut pause = || Duration::from_millis(self.rng.u64(0..=SLOWEST));
        (pause(), pause())
    }

    /// How old a row may be because somebody else's load, which this call joined, took so long to read and to store it.
    fn longest_load(&self) -> Duration {
        Duration::from_millis(2 * SLOWEST) + 2 * self.scenario.op_timeout
    }
}
