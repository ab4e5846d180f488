//! W-TinyLFU as the local tier does it: a window and a main part that a hit only marks, and a sketch.

use std::fmt;

use super::ModelPolicy;

#[derive(Debug)]
struct Held {
    key: String,
    weight: usize,
    mark: u8,
}

/// The model of W-TinyLFU. It takes the hash by which the real one counts.
pub struct WTinyLfuModel {
    window: Vec<Held>,
    main: Vec<Held>,
    /// What a tenth of the cache is, in entries and bytes.
    tenth: (usize, usize),
    somebody_went: bool,
    hash: Box<dyn Fn(&str) -> u64>,
    random: u64,
    /// Four rows of 32 counters in each block.
    sketch: Vec<[[u8; 32]; 4]>,
    counted: usize,
}

impl fmt::Debug for WTinyLfuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WTinyLfuModel")
            .field("window", &self.window)
            .field("main", &self.main)
            .field("counted", &self.counted)
            .finish_non_exhaustive()
    }
}

impl WTinyLfuModel {
    /// Makes the model of a cache of so many entries and bytes that draws from this seed.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize, seed: u64, hash: impl Fn(&str) -> u64 + 'static) -> Self {
        Self {
            window: Vec::new(),
            main: Vec::new(),
            tenth: ((max_entries / 10).max(1), (max_bytes / 10).max(1)),
            somebody_went: false,
            hash: Box::new(hash),
            random: seed,
            sketch: vec![[[0; 32]; 4]],
            counted: 0,
        }
    }

    /// Returns a key's block, and its counter in each row.
    fn places(&self, key: &str) -> (usize, [usize; 4]) {
        let hash = (self.hash)(key);
        let blocks = self.sketch.len() as u64;
        let index = |number: u64| usize::try_from(number).expect("it is small");
        let mixed = hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        (index((hash & 0xFFFF_FFFF) % blocks), [0, 5, 10, 15].map(|shift| index((mixed >> shift) % 32)))
    }

    fn count(&mut self, key: &str) {
        let (block, places) = self.places(key);
        let mut counted = false;
        for (row, place) in self.sketch[block].iter_mut().zip(places) {
            if row[place] < 15 {
                row[place] += 1;
                counted = true;
            }
        }
        self.counted += usize::from(counted);
        if self.counted >= self.sketch.len() * 80 {
            for counter in self.sketch.iter_mut().flatten().flatten() {
                *counter /= 2;
            }
            self.counted /= 2;
        }
    }

    fn estimate(&self, key: &str) -> u8 {
        let (block, places) = self.places(key);
        self.sketch[block].iter().zip(places).map(|(row, place)| row[place]).min().expect("there are four rows")
    }

    fn lucky(&mut self) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.is_multiple_of(128)
    }

    /// Turns the main part until one that was not hit is at its front, or 32 entries were spared.
    fn turn(&mut self, spared: usize) {
        for _ in spared..32 {
            if self.main.first().is_none_or(|oldest| oldest.mark == 0) {
                return;
            }
            let oldest = self.main.remove(0);
            self.main.push(Held { mark: oldest.mark - 1, ..oldest });
        }
    }

    fn window_bytes(&self) -> usize {
        self.window.iter().map(|held| held.weight).sum()
    }
}

impl ModelPolicy for WTinyLfuModel {
    fn hit(&mut self, key: &str) {
        for held in self.window.iter_mut().chain(&mut self.main).filter(|held| held.key == key) {
            held.mark = (held.mark + 1).min(3);
        }
        self.count(key);
    }

    fn coming(&mut self, key: &str) {
        while self.sketch.len() * 8 < self.window.len() + self.main.len() + 1 {
            self.sketch.extend_from_within(..);
        }
        self.count(key);
        self.somebody_went = false;
    }

    fn victim(&mut self) -> String {
        self.somebody_went = true;
        let mut spared = 0;
        loop {
            let full = self.window.len() >= self.tenth.0 || self.window_bytes() >= self.tenth.1;
            if self.window.is_empty() || !(full || self.main.is_empty()) {
                self.turn(spared);
                return self.main.remove(0).key;
            }
            let candidate = self.window.remove(0);
            if candidate.mark > 0 && spared < 32 {
                spared += 1;
                self.main.push(Held { mark: 0, ..candidate });
                continue;
            }
            self.turn(spared);
            let Some(rival) = self.main.first() else { return candidate.key };
            let (asks, rivals) = (self.estimate(&candidate.key), self.estimate(&rival.key));
            if asks > rivals || (asks >= 6 && self.lucky()) {
                self.main.push(candidate);
                return self.main.remove(0).key;
            }
            return candidate.key;
        }
    }

    fn arrived(&mut self, key: &str, weight: usize) {
        self.window.push(Held { key: key.to_owned(), weight, mark: 0 });
        for _ in 0..32 {
            if self.somebody_went
                || (self.window.len() <= self.tenth.0
                    && (self.window.len() <= 1 || self.window_bytes() <= self.tenth.1))
            {
                return;
            }
            let oldest = self.window.remove(0);
            self.main.push(Held { mark: 0, ..oldest });
        }
    }

    fn removed(&mut self, key: &str) {
        self.window.retain(|held| held.key != key);
        self.main.retain(|held| held.key != key);
    }

    fn keys(&self) -> Vec<String> {
        self.window.iter().chain(&self.main).map(|held| held.key.clone()).collect()
    }
}
