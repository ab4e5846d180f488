//! S3-FIFO, with the two rules that the local tier adds to it.

use super::ModelPolicy;

#[derive(Debug)]
struct Held {
    key: String,
    weight: usize,
    mark: u8,
}

/// The model of S3-FIFO.
#[derive(Debug)]
pub struct S3FifoModel {
    small: Vec<Held>,
    main: Vec<Held>,
    ghost: Vec<String>,
    /// What a tenth of the cache is, in entries and bytes.
    tenth: (usize, usize),
    returning: bool,
    somebody_went: bool,
}

impl S3FifoModel {
    /// Makes the model of a cache of so many entries and bytes.
    #[must_use]
    pub fn new(max_entries: usize, max_bytes: usize) -> Self {
        Self {
            small: Vec::new(),
            main: Vec::new(),
            ghost: Vec::new(),
            tenth: ((max_entries / 10).max(1), (max_bytes / 10).max(1)),
            returning: false,
            somebody_went: false,
        }
    }

    fn small_bytes(&self) -> usize {
        self.small.iter().map(|held| held.weight).sum()
    }

    fn remember(&mut self, key: &str) {
        if !self.ghost.iter().any(|known| known == key) {
            self.ghost.push(key.to_owned());
        }
        while self.ghost.len() > self.main.len().max(1) {
            self.ghost.remove(0);
        }
    }
}

impl ModelPolicy for S3FifoModel {
    fn hit(&mut self, key: &str) {
        for held in self.small.iter_mut().chain(&mut self.main).filter(|held| held.key == key) {
            held.mark = (held.mark + 1).min(3);
        }
    }

    fn coming(&mut self, key: &str) {
        self.returning = self.ghost.iter().any(|known| known == key);
        self.somebody_went = false;
    }

    fn victim(&mut self) -> String {
        self.somebody_went = true;
        for looked in 0.. {
            let tired = looked == 32;
            let full = self.small.len() >= self.tenth.0 || self.small_bytes() >= self.tenth.1;
            if !self.small.is_empty() && (full || self.main.is_empty()) {
                let oldest = self.small.remove(0);
                if oldest.mark >= 1 && !tired {
                    self.main.push(Held { mark: 0, ..oldest });
                } else {
                    self.remember(&oldest.key);
                    return oldest.key;
                }
            } else {
                let oldest = self.main.remove(0);
                if oldest.mark == 0 || tired {
                    return oldest.key;
                }
                self.main.push(Held { mark: oldest.mark - 1, ..oldest });
            }
        }
        unreachable!("whoever is tired takes the next")
    }

    fn arrived(&mut self, key: &str, weight: usize) {
        let held = Held { key: key.to_owned(), weight, mark: 0 };
        if self.returning {
            self.main.push(held);
        } else {
            self.small.push(held);
        }
        for _ in 0..32 {
            if self.somebody_went
                || (self.small.len() <= self.tenth.0 && (self.small.len() <= 1 || self.small_bytes() <= self.tenth.1))
            {
                return;
            }
            let oldest = self.small.remove(0);
            self.main.push(Held { mark: 0, ..oldest });
        }
    }

    fn removed(&mut self, key: &str) {
        let in_main = self.main.iter().any(|held| held.key == key);
        let marked = self.small.iter().any(|held| held.key == key && held.mark >= 1);
        self.main.retain(|held| held.key != key);
        self.small.retain(|held| held.key != key);
        if in_main || marked {
            self.remember(key);
        }
    }

    fn keys(&self) -> Vec<String> {
        self.small.iter().chain(&self.main).map(|held| held.key.clone()).collect()
    }
}
