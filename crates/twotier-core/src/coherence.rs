//! The words in which a backend and the local tier talk about freshness.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{BackendError, Timestamp};

/// How local copies are kept coherent with other writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Coherence {
    /// The backend reports every change under the namespace, whoever made it.
    /// On Redis: [`CLIENT TRACKING`](https://redis.io/docs/latest/commands/client-tracking/) in broadcast mode.
    Broadcast,
    /// Caches notify each other over a channel of the namespace. Writes by anyone else are not seen: the time to live
    /// bounds how stale a copy gets. On Redis: the fallback where `CLIENT TRACKING` is refused.
    PubSub,
    /// Nobody reports changes: a local copy is only bounded by its time to live.
    None,
}

impl fmt::Display for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Broadcast => "broadcast",
            Self::PubSub => "pub-sub",
            Self::None => "none",
        })
    }
}

/// One of the streams over which a backend reports changes: the only one of a single server, one for each primary of a
/// cluster.
///
/// A number is free to be used again for another link, after the one that had it went down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(u16);

impl LinkId {
    /// The link of a backend that has no other. A backend of several numbers them from 1, so that whoever does not ask
    /// [where a key lies](https://docs.rs/twotier) keeps nothing by mistake.
    pub const ONLY: Self = Self(0);

    /// Names a link by its number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The moment before a command was queued: when it was, and in which epoch of which link.
///
/// Take it with [`ChangeListener::mark`] *before* taking the connection and queueing the command; a mark taken later
/// could vouch for a copy that was already stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mark {
    /// The link that the command goes over.
    pub link: LinkId,
    /// The link's epoch.
    pub epoch: u64,
    /// The time on the listener's clock.
    pub at: Timestamp,
}

impl Mark {
    /// Puts link, epoch and time together, as a listener does.
    #[must_use]
    pub fn new(link: LinkId, epoch: u64, at: Timestamp) -> Self {
        Self { link, epoch, at }
    }
}

/// Whether the word of a link that is up runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Changes are delivered before the write that made them returns: as long as the link is up, copies are fresh.
    Unlimited,
    /// The link may die without anyone noticing: copies are served for at most the staleness bound after the last
    /// [`ChangeListener::proof_of_life`].
    Renewed,
}

/// Receives what a backend knows about changes under one namespace. The local tier is one.
///
/// # Contract
///
/// For the backend that calls it:
///
/// - A change that was acknowledged to its writer before a mark was taken is reported before
///   [`proof_of_life`](Self::proof_of_life) with that mark, or the link goes down. Reports need no order with the
///   replies to commands: what a reply may still put in, its ticket decides.
/// - Changes made through the same attached backend handle may be left out: the cache keeps track of its own writes.
///   Changes by anyone else may not. Reporting too much is safe.
/// - Calls come in the order of the link's events. [`link_up`](Self::link_up) comes only after changes are being
///   reported for certain and the new connection is the one commands go to.
/// - Links are independent: each is up or down, flushed and proved alive by itself. A backend has the link
///   [`LinkId::ONLY`] and no other, or links that are numbered from 1.
/// - **When keys change from one link to another**, the backend first routes them anew and *then* notifies the listener
///   of every link that lost or gained keys that it was [flushed](Self::flushed) or went down. In this order a ticket
///   that was registered by the old route is dead before long, whoever registers it when.
///
/// For the listener: calls are synchronous, take no user code, never panic on any input and return soon; they may come
/// from inside a connection's reader.
pub trait ChangeListener: Send + Sync + 'static {
    /// Reads the link's epoch and the clock, to be kept until the reply comes.
    fn mark(&self, link: LinkId) -> Mark;

    /// Proves that every change acknowledged before `mark` has been reported over its link: copies that came over that
    /// link may be served until the staleness bound has passed since. Ignored when the epoch has changed.
    fn proof_of_life(&self, mark: Mark);

    /// Reports that the key changed or went away, whichever link says so. `key` is the name in the backend, namespace
    /// included.
    fn changed(&self, key: &[u8]);

    /// Reports that everything that is read over this link may have changed.
    fn flushed(&self, link: LinkId);

    /// Notifies that changes are reported over this link from now on. Copies from before are never served again.
    fn link_up(&self, link: LinkId, lease: Lease);

    /// Notifies that changes are not reported over this link any more. Nothing that came over it is served, and nothing
    /// that comes over it is kept, until the link is up again.
    fn link_down(&self, link: LinkId);

    /// As [`link_down`](Self::link_down), from a backend that knows why. Provided as that.
    fn link_lost(&self, link: LinkId, _cause: &BackendError) {
        self.link_down(link);
    }

    /// Notifies that a change of our own making, sent to test the link, took so long to be reported. For statistics
    /// only.
    ///
    /// Provided as nothing.
    fn invalidation_took(&self, _lag: Duration) {}
}

/// A listener for those who keep no copies: it ignores every report.
#[derive(Clone, Copy, Debug, Default)]
pub struct IgnoreChanges;

impl ChangeListener for IgnoreChanges {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 0, Timestamp::ZERO)
    }

    fn proof_of_life(&self, _mark: Mark) {}

    fn changed(&self, _key: &[u8]) {}

    fn flushed(&self, _link: LinkId) {}

    fn link_up(&self, _link: LinkId, _lease: Lease) {}

    fn link_down(&self, _link: LinkId) {}
}

/// One of a backend's links, as [`health`](https://docs.rs/twotier) lists it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkStatus {
    /// Which of them.
    pub link: LinkId,
    /// How it is.
    pub state: LinkState,
}

impl LinkStatus {
    /// Puts a link and its state together.
    #[must_use]
    pub fn new(link: LinkId, state: LinkState) -> Self {
        Self { link, state }
    }
}

/// The state of a backend's link, as [`health`](https://docs.rs/twotier) reports it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LinkState {
    /// There is no standing link to watch: every operation stands for itself.
    Unlinked,
    /// The link is up.
    Up(LinkUp),
    /// The link is being made.
    Connecting,
    /// The link is down; it is tried again in the background.
    #[non_exhaustive]
    Down {
        /// Since when, as an age.
        age: Duration,
        /// Why the last attempt failed.
        cause: BackendError,
    },
    /// The backend was closed.
    Closed,
}

/// What is known of a link that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkUp {
    /// Since when, as an age.
    pub age: Duration,
    /// How long a change of our own making took from being sent to being reported, when the link tested itself as it
    /// came up; `None` where it does not test itself.
    pub invalidation_lag: Option<Duration>,
    /// How long a round trip took at the last sign of life; `None` where none was measured.
    pub round_trip: Option<Duration>,
    /// Whether what an earlier connection of ours still had under way was ended at the backend before this one was
    /// used. If not, a write that failed may take effect later than the next link.
    pub fenced: bool,
}

impl LinkUp {
    /// Makes a link that has been up for so long, of which nothing was measured, and that outlives none of its writes.
    #[must_use]
    pub fn new(age: Duration) -> Self {
        Self { age, invalidation_lag: None, round_trip: None, fenced: true }
    }

    /// Sets how long a change of our own making took to be reported.
    #[must_use]
    pub fn invalidation_lag(mut self, lag: impl Into<Option<Duration>>) -> Self {
        self.invalidation_lag = lag.into();
        self
    }

    /// Sets how long a round trip takes.
    #[must_use]
    pub fn round_trip(mut self, round_trip: impl Into<Option<Duration>>) -> Self {
        self.round_trip = round_trip.into();
        self
    }

    /// Sets whether earlier connections of ours were ended at the backend before this one was used.
    #[must_use]
    pub fn fenced(mut self, fenced: bool) -> Self {
        self.fenced = fenced;
        self
    }
}

impl LinkState {
    /// Makes the state of a link that has been down for so long, for this cause.
    #[must_use]
    pub fn down(age: Duration, cause: BackendError) -> Self {
        Self::Down { age, cause }
    }

    /// Returns whether operations can be expected to work.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up(_) | Self::Unlinked)
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlinked => f.write_str("no standing link"),
            Self::Up(up) => {
                write!(f, "up for {:.1} s", up.age.as_secs_f64())?;
                match up.invalidation_lag {
                    Some(lag) => write!(f, ", a change reported after {:.3} ms", lag.as_secs_f64() * 1e3),
                    None => Ok(()),
                }
            }
            Self::Connecting => f.write_str("connecting"),
            Self::Down { age, cause } => write!(f, "down for {:.1} s: {cause}", age.as_secs_f64()),
            Self::Closed => f.write_str("closed"),
        }
    }
}
