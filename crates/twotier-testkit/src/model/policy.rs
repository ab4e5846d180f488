//! The eviction policies written down as plainly as possible, over vectors searched from end to end.

mod s3fifo;
mod wtinylfu;

use std::fmt::Debug;

pub use self::{s3fifo::S3FifoModel, wtinylfu::WTinyLfuModel};

/// Decides who goes. The tier tells it of every hit, arrival and removal; it never sees a value.
pub trait ModelPolicy: Debug {
    /// Somebody was hit.
    fn hit(&mut self, key: &str);

    /// Somebody is about to come in, who is not there.
    fn coming(&mut self, _key: &str) {}

    /// Returns who goes to make room, and lets them go.
    fn victim(&mut self) -> String;

    /// Somebody came in.
    fn arrived(&mut self, key: &str, weight: usize);

    /// Somebody was removed, though not to make room.
    fn removed(&mut self, key: &str);

    /// Returns the keys in the order in which the real policy tells them.
    fn keys(&self) -> Vec<String>;
}

/// The least recently used goes, or whoever came in first if hits do not count.
#[derive(Debug)]
pub struct QueueModel {
    /// Whether a hit moves its key to the end.
    hits_count: bool,
    queue: Vec<String>,
}

impl QueueModel {
    /// Makes the model of LRU.
    #[must_use]
    pub fn lru() -> Self {
        Self { hits_count: true, queue: Vec::new() }
    }

    /// Makes the model of FIFO.
    #[must_use]
    pub fn fifo() -> Self {
        Self { hits_count: false, queue: Vec::new() }
    }
}

impl ModelPolicy for QueueModel {
    fn hit(&mut self, key: &str) {
        if self.hits_count {
            self.removed(key);
            self.queue.push(key.to_owned());
        }
    }

    fn victim(&mut self) -> String {
        self.queue.remove(0)
    }

    fn arrived(&mut self, key: &str, _weight: usize) {
        self.queue.push(key.to_owned());
    }

    fn removed(&mut self, key: &str) {
        self.queue.retain(|held| held != key);
    }

    fn keys(&self) -> Vec<String> {
        self.queue.clone()
    }
}

/// Who was hit least since they came in goes; of several the least recently used.
#[derive(Debug, Default)]
pub struct LfuModel {
    /// Key, hits, and when it was last used, in the order of arrival.
    held: Vec<(String, u64, u64)>,
    now: u64,
}

impl ModelPolicy for LfuModel {
    fn hit(&mut self, key: &str) {
        self.now += 1;
        for held in self.held.iter_mut().filter(|held| held.0 == key) {
            (held.1, held.2) = (held.1 + 1, self.now);
        }
    }

    fn victim(&mut self) -> String {
        let least = self.held.iter().map(|held| (held.1, held.2)).min().expect("somebody is there");
        let place = self.held.iter().position(|held| (held.1, held.2) == least).expect("it was just seen");
        self.held.remove(place).0
    }

    fn arrived(&mut self, key: &str, _weight: usize) {
        self.now += 1;
        self.held.push((key.to_owned(), 0, self.now));
    }

    fn removed(&mut self, key: &str) {
        self.held.retain(|held| held.0 != key);
    }

    fn keys(&self) -> Vec<String> {
        self.held.iter().map(|held| held.0.clone()).collect()
    }
}

/// Anybody goes: whoever stands at the place drawn. The last in the row takes a place that becomes free.
#[derive(Debug)]
pub struct RandomModel {
    row: Vec<String>,
    arrivals: Vec<String>,
    state: u64,
}

impl RandomModel {
    /// Makes a model that draws from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { row: Vec::new(), arrivals: Vec::new(), state: seed }
    }

    /// One draw of `splitmix64`.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl ModelPolicy for RandomModel {
    fn hit(&mut self, _key: &str) {}

    fn victim(&mut self) -> String {
        let scaled = (u128::from(self.draw()) * self.row.len() as u128) >> 64;
        let key = self.row[usize::try_from(scaled).expect("it is below the length")].clone();
        self.removed(&key);
        key
    }

    fn arrived(&mut self, key: &str, _weight: usize) {
        self.row.push(key.to_owned());
        self.arrivals.push(key.to_owned());
    }

    fn removed(&mut self, key: &str) {
        if let Some(place) = self.row.iter().position(|held| held == key) {
            self.row.swap_remove(place);
        }
        self.arrivals.retain(|held| held != key);
    }

    fn keys(&self) -> Vec<String> {
        self.arrivals.clone()
    }
}
