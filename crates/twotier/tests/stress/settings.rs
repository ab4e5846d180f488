//! What to run: seconds, seed, faults.

use std::{env, fmt, time::Duration};

use crate::{
    fault::Fault,
    group::{Group, Kind},
};

/// The load of a run that nobody asked to be longer.
const SHORT: Duration = Duration::from_secs(4);

pub(crate) struct Settings {
    pub(crate) load: Duration,
    pub(crate) seed: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) auditors_alone: bool,
}

impl Settings {
    pub(crate) fn from_environment() -> Self {
        let load = variable("SECONDS").map_or(SHORT, |text| {
            Duration::from_secs(text.parse().expect("TWOTIER_TEST_STRESS_SECONDS is a number of seconds"))
        });
        assert!(!load.is_zero(), "TWOTIER_TEST_STRESS_SECONDS is at least 1: no load proves nothing");
        let seed = variable("SEED")
            .map_or_else(|| fastrand::u64(..), |text| text.parse().expect("TWOTIER_TEST_STRESS_SEED is a number"));
        let faults = match variable("FAULTS").as_deref() {
            None | Some("all") => Fault::ALL.to_vec(),
            Some("none") => Vec::new(),
            Some(list) => list.split(',').map(|name| Fault::named(name.trim())).collect(),
        };
        Self { load, seed, faults, auditors_alone: variable("AUDITORS_ALONE").is_some() }
    }

    /// Whether this run has no time for long faults.
    pub(crate) fn is_short(&self) -> bool {
        self.load < Duration::from_secs(20)
    }

    /// The longest a server is stopped or a link hangs.
    pub(crate) fn longest_fault(&self) -> Duration {
        if self.is_short() { Duration::from_millis(700) } else { Duration::from_secs(6) }
    }

    /// The staleness bounds of the caches of a group, as many as there are.
    pub(crate) fn bounds(&self) -> [Duration; 4] {
        let millis = if self.is_short() { [400, 300, 400, 200] } else { [2000, 500, 1000, 2000] };
        millis.map(Duration::from_millis)
    }

    /// Returns the seed of one party.
    pub(crate) fn seed_of(&self, group: &Group, party: u64) -> u64 {
        let group = if group.kind == Kind::Lossy { 0 } else { 1 << 40 };
        fastrand::Rng::with_seed(self.seed.wrapping_add(group + (party << 8))).u64(..)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.faults.iter().map(|fault| fault.name()).collect();
        let names = match names.len() {
            0 => "none".to_owned(),
            all if all == Fault::ALL.len() => "all".to_owned(),
            _ => names.join(","),
        };
        write!(f, "--seconds {} --seed {} --faults {names}", self.load.as_secs(), self.seed)
    }
}

fn variable(name: &str) -> Option<String> {
    env::var(format!("TWOTIER_TEST_STRESS_{name}")).ok().filter(|text| !text.is_empty())
}
