//! What happened, and when.

use std::{fmt, time::Duration};

/// A time: nanoseconds since the history began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HistoryTime(u64);

impl HistoryTime {
    /// Makes a time from nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Makes a time from milliseconds.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000_000)
    }

    /// Returns the nanoseconds since the history began.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns the time from `earlier` to this one, zero when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for HistoryTime {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms", self.0 as f64 / 1e6)
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Ok,
    /// It was answered from the local tier.
    Hit,
    /// It failed without effect.
    Failed,
    /// Nobody knows whether it took effect.
    Open,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// It was acknowledged.
    Acknowledged,
    /// It failed before it was sent, or was refused: it has no effect, now or later.
    NotSent,
    /// It failed after it was sent, or nobody waited for its end: it takes effect before its party's next link is up,
    /// or never.
    Unknown,
}

impl WriteOutcome {
    /// Returns how a write ended whose caller got this result.
    pub fn of<T, E>(result: &Result<T, E>, may_have_executed: impl FnOnce(&E) -> bool) -> Self {
        match result {
            Ok(_) => Self::Acknowledged,
            Err(error) if may_have_executed(error) => Self::Unknown,
            Err(_) => Self::NotSent,
        }
    }
}

/// One operation on one key.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// What was asked for.
    pub operation: &'static str,
    /// The key, by number.
    pub key: usize,
    /// Before it was asked for.
    pub start: HistoryTime,
    /// After it was answered or given up.
    pub end: HistoryTime,
    /// The version read or written, `None` for absence.
    pub version: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
}

impl Event {
    /// Returns whether two events differ only in their times.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let untimed = |event: &Self| (event.operation, event.key, event.version, event.outcome);
        untimed(self) == untimed(other)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, key, start, end, version, outcome } = self;
        let outcome = format!("{outcome:?}");
        write!(f, "{start:>14} to {end:>14}  key {key:<3} {operation:<14} {outcome:<7}")?;
        match version {
            Some(version) => write!(f, " v{version}"),
            None => write!(f, " absent"),
        }
    }
}
