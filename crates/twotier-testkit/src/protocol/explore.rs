//! Breadth-first search of all states of a configuration.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    config::Config,
    promise::Promise,
    state::State,
    steps::{Action, successors},
};

/// What a search found.
#[derive(Debug)]
pub struct Report {
    /// How many distinct states were reached, up to the violation if there is one.
    pub states: usize,
    /// How many steps the farthest of them is away from the start.
    pub depth: usize,
    /// The first violation: no other is fewer steps away.
    pub violation: Option<Violation>,
    /// Whether every state was reached: no violation, and fewer states than were allowed.
    pub complete: bool,
}

/// A broken promise, and how to break it.
pub struct Violation {
    /// What was broken.
    pub promise: Promise,
    /// How many steps it takes.
    pub depth: usize,
    config: Config,
    /// The state from which one step breaks the promise, and that step.
    last: (u64, Action),
}

/// Explores a configuration until a promise is broken, every state was reached, or there are more than `limit`.
///
/// Visited states are kept as 64-bit hashes: of 30 million states the chance that any two have the same, so that one is
/// taken for visited, is about 2⁻¹⁵.
#[must_use]
pub fn explore(config: &Config, limit: usize) -> Report {
    let start = State::initial(config);
    let mut visited: HashSet<u64, Fingerprints> = HashSet::default();
    visited.insert(start.fingerprint());
    let mut level = vec![start];
    let mut depth = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        for state in &level {
            let mut broken = None;
            successors(state, config, |action, step| match step {
                Ok(reached) if visited.insert(reached.fingerprint()) => next.push(reached),
                Ok(_visited) => {}
                Err(promise) => broken = broken.or(Some((promise, action))),
            });
            if let Some((promise, action)) = broken {
                let violation =
                    Violation { promise, depth: depth + 1, config: *config, last: (state.fingerprint(), action) };
                return Report { states: visited.len(), depth, violation: Some(violation), complete: false };
            }
        }
        if visited.len() > limit {
            return Report { states: visited.len(), depth, violation: None, complete: false };
        }
        if !next.is_empty() {
            depth += 1;
        }
        level = next;
    }
    Report { states: visited.len(), depth, violation: None, complete: true }
}

impl Violation {
    /// Finds the way to the violation: the search again, with every state's predecessor kept.
    fn way(&self) -> Vec<(Action, Option<State>)> {
        let start = State::initial(&self.config);
        let mut before: HashMap<u64, (u64, Action), Fingerprints> = HashMap::default();
        let mut level = vec![start];
        let (target, last) = self.last;
        let first = start.fingerprint();
        while first != target && !before.contains_key(&target) && !level.is_empty() {
            let mut next = Vec::new();
            for state in &level {
                successors(state, &self.config, |action, step| {
                    let Ok(reached) = step else { return };
                    let fingerprint = reached.fingerprint();
                    if fingerprint != first && !before.contains_key(&fingerprint) {
                        before.insert(fingerprint, (state.fingerprint(), action));
                        next.push(reached);
                    }
                });
            }
            level = next;
        }
        let mut actions = vec![last];
        let mut at = target;
        while let Some(&(predecessor, action)) = before.get(&at) {
            actions.push(action);
            at = predecessor;
        }
        actions.reverse();
        let mut state = Some(start);
        let mut way = Vec::new();
        for action in actions {
            let from = state;
            state = None;
            if let Some(from) = from {
                successors(&from, &self.config, |possible, step| {
                    if possible == action {
                        state = step.ok();
                    }
                });
            }
            way.push((action, state));
        }
        way
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is broken in {} steps:", self.promise, self.depth)?;
        for (number, (action, state)) in self.way().into_iter().enumerate() {
            let Some(state) = state else {
                writeln!(f, "{:3}. {action}   <- here", number + 1)?;
                continue;
            };
            let text = action.to_string();
            write!(f, "{:3}. {text:58} server v{} acked v{}", number + 1, state.version, state.acked)?;
            write!(f, ", epoch {}, seen v{}, proven v{}", state.epoch, state.seen, state.proven)?;
            if state.origin > 0 {
                write!(f, ", row r{}, held r{}, seen r{}", state.origin, state.row(state.version), state.seen_row)?;
            }
            match state.entry {
                Some(entry) => write!(f, ", entry v{}", entry.version)?,
                None => write!(f, ", no entry")?,
            }
            if let Some(flight) = state.flight {
                write!(f, ", flight of get {}", flight.getter)?;
            }
            if let Some(load) = state.load {
                write!(f, ", load of get {}", load.getter)?;
            }
            if state.pending > 0 {
                write!(f, ", {} pending, live {:03b}", state.pending, state.live)?;
            }
            writeln!(f, ", requests {:?}, messages {:?}", state.requests, state.stream)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

type Fingerprints = BuildHasherDefault<AlreadyHashed>;

/// A fingerprint is its own hash.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        unreachable!("a fingerprint is a u64, not {} bytes", bytes.len());
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
    }
}
