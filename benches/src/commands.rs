//! Commands counted by a server, as `INFO commandstats` reports them.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use serde::Serialize;

/// Commands that keep a link alive or ask for these very numbers: not what a read or a write costs.
const HOUSEKEEPING: [&str; 10] =
    ["auth", "client", "command", "config", "dbsize", "echo", "hello", "info", "ping", "select"];

/// How often each command was called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Commands(BTreeMap<String, u64>);

impl Commands {
    /// Takes the counts of a server, without what keeps a link alive.
    #[must_use]
    pub fn of(counts: impl IntoIterator<Item = (String, u64)>) -> Self {
        let counts = counts.into_iter().map(|(name, calls)| (name.to_lowercase(), calls)).filter(|(name, calls)| {
            let command = name.split('|').next().unwrap_or_default();
            *calls > 0 && !HOUSEKEEPING.contains(&command)
        });
        Self(counts.collect())
    }

    /// Returns what was called since an earlier count.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self::of(self.0.iter().map(|(name, calls)| (name.clone(), calls.saturating_sub(earlier.calls(name)))))
    }

    /// Returns how often one command was called.
    #[must_use]
    pub fn calls(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Returns how often any command was called.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns whether nothing was called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The most frequent first; those called equally often, as in one transaction, together.
impl fmt::Display for Commands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut by_calls: BTreeMap<Reverse<u64>, Vec<String>> = BTreeMap::new();
        for (name, calls) in &self.0 {
            by_calls.entry(Reverse(*calls)).or_default().push(name.to_uppercase());
        }
        for (index, (Reverse(calls), names)) in by_calls.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{calls} {}", names.join("+"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(counts: &[(&str, u64)]) -> Commands {
        Commands::of(counts.iter().map(|(name, calls)| ((*name).to_owned(), *calls)))
    }

    #[test]
    fn a_difference_holds_what_was_called_meanwhile() {
        let before = commands(&[("get", 5), ("set", 7), ("ping", 1)]);
        let after = commands(&[("get", 205), ("set", 7), ("ping", 9), ("client|tracking", 1), ("pttl", 200)]);
        let between = after.since(&before);
        assert_eq!(between, commands(&[("get", 200), ("pttl", 200)]));
        assert_eq!(between.to_string(), "200 GET+PTTL");
        assert_eq!(before.to_string(), "7 SET, 5 GET");
        assert_eq!(before.since(&before).to_string(), "none");
    }
}
