//! What `health` returns.

use std::{fmt, time::Duration};

use crate::{BackendError, Coherence, LinkState, LinkUp};

/// The state of a cache, as [`Cache::health`](crate::Cache::health) reports it without a round trip.
///
/// ```
/// # use twotier::{Cache, MemoryBackend, Status};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// # let cache: Cache<u32> = Cache::builder().build(MemoryBackend::new()).await?;
/// let health = cache.health();
/// assert_eq!(health.status, Status::Ready);
/// println!("{health}"); // ready, or what is wrong
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Health {
    /// What can be expected of operations.
    pub status: Status,
    /// Why the status is not [`Ready`](Status::Ready); empty when it is.
    pub reasons: Vec<Reason>,
    /// The state of the backend's link.
    pub link: LinkState,
    /// The coherence mode in force.
    pub coherence: Coherence,
    /// The longest a hit may be stale; `None` when only the time to live bounds it.
    pub max_staleness: Option<Duration>,
    /// Whether there is a local tier.
    pub local_enabled: bool,
    /// Whether the cache was closed.
    pub closed: bool,
}

/// What can be expected of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Everything works as configured.
    Ready,
    /// Operations work, but a promise or the local tier does not.
    Degraded,
    /// Operations that need the backend fail or wait.
    Down,
}

/// What is wrong with a cache.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reason {
    /// The cache or its backend was closed.
    Closed,
    /// The link is being made; operations wait for it.
    Connecting,
    /// The link is down, for this cause.
    LinkDown(BackendError),
    /// The link gave no proof of life for as long as a hit may be stale: local copies are not served until it does.
    LeaseLapsed,
    /// The backend was built without the mode that reports every change, and nobody asked for less.
    WeakerCoherence(Coherence),
    /// A proof of life takes so long that the staleness bound leaves no room for it: local copies are served only part
    /// of the time, or never.
    BoundTooSmall {
        /// One round trip, as last measured.
        round_trip: Duration,
        /// The bound (`max_staleness`).
        bound: Duration,
    },
    /// The user of this cache may not end its own former connections (on Redis: `CLIENT KILL`, and `INFO`): a write
    /// that failed because its connection was given up may take effect after a later one was acknowledged.
    Unfenced,
}

impl Reason {
    fn status(&self) -> Status {
        match self {
            Self::Closed | Self::Connecting | Self::LinkDown(_) => Status::Down,
            Self::LeaseLapsed | Self::WeakerCoherence(_) | Self::BoundTooSmall { .. } | Self::Unfenced => {
                Status::Degraded
            }
        }
    }
}

/// What the reasons are derived from.
pub(crate) struct Observed {
    pub(crate) link: LinkState,
    /// `None` before the backend was attached to.
    pub(crate) coherence: Option<Coherence>,
    pub(crate) coherence_asked: Option<Coherence>,
    /// The configured bound, in force or not.
    pub(crate) bound: Duration,
    pub(crate) local_enabled: bool,
    /// Whether the local tier would serve a copy now.
    pub(crate) serving: bool,
    pub(crate) closed: bool,
}

/// The longest pause between two proofs of life.
const HEARTBEAT: Duration = Duration::from_millis(500);

impl Health {
    pub(crate) fn new(observed: Observed) -> Self {
        let Observed { link, coherence, coherence_asked, bound, local_enabled, serving, closed } = observed;
        let mut reasons = Vec::new();
        let broadcast = coherence == Some(Coherence::Broadcast);
        match &link {
            _ if closed => reasons.push(Reason::Closed),
            LinkState::Closed => reasons.push(Reason::Closed),
            LinkState::Connecting => reasons.push(Reason::Connecting),
            LinkState::Unlinked if coherence.is_none() => reasons.push(Reason::Connecting),
            LinkState::Down { cause, .. } => reasons.push(Reason::LinkDown(cause.clone())),
            LinkState::Up(LinkUp { round_trip, fenced, .. }) => {
                if let Some(round_trip) = *round_trip {
                    // A proof counts from before its request, and comes with the reply to the next heartbeat.
                    let needed = 2 * round_trip + HEARTBEAT.min(bound / 5);
                    if broadcast && needed >= bound {
                        reasons.push(Reason::BoundTooSmall { round_trip, bound });
                    }
                }
                if broadcast && local_enabled && !serving {
                    reasons.push(Reason::LeaseLapsed);
                }
                if !fenced {
                    reasons.push(Reason::Unfenced);
                }
            }
            _ => {}
        }
        if let Some(weaker) = coherence.filter(|_| !broadcast && coherence != coherence_asked) {
            reasons.push(Reason::WeakerCoherence(weaker));
        }
        let status = reasons.iter().map(Reason::status).max_by_key(|status| *status as u8).unwrap_or(Status::Ready);
        let max_staleness = broadcast.then_some(bound);
        let coherence = coherence.unwrap_or(Coherence::None);
        Self { status, reasons, link, coherence, max_staleness, local_enabled, closed }
    }

    /// Returns whether operations can be expected to work: the status is not [`Down`](Status::Down).
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.status != Status::Down
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        for (index, reason) in self.reasons.iter().enumerate() {
            write!(f, "{} {reason}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Down => "down",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::Connecting => f.write_str("the link is being made"),
            Self::LinkDown(cause) => write!(f, "the link is down: {cause}"),
            Self::LeaseLapsed => f.write_str("the link gave no proof of life of late, so local copies are not served"),
            Self::WeakerCoherence(mode) => {
                write!(f, "coherence is `{mode}`: writes by others are not seen for certain")
            }
            Self::BoundTooSmall { round_trip, bound } => write!(
                f,
                "a staleness bound of {} ms is too small for a round trip of {} ms",
                bound.as_millis(),
                round_trip.as_millis()
            ),
            Self::Unfenced => f.write_str(
                "the user may not run CLIENT KILL and INFO: a failed write may take effect after a later one",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BackendErrorKind;

    fn observed(link: LinkState) -> Observed {
        Observed {
            link,
            coherence: Some(Coherence::Broadcast),
            coherence_asked: None,
            bound: Duration::from_secs(2),
            local_enabled: true,
            serving: true,
            closed: false,
        }
    }

    fn up(round_trip: u64, fenced: bool) -> LinkState {
        let round_trip = Some(Duration::from_millis(round_trip));
        LinkState::Up(LinkUp::new(Duration::ZERO).round_trip(round_trip).fenced(fenced))
    }

    #[test]
    fn each_thing_that_is_wrong_is_a_reason_and_the_worst_decides() {
        let status = |observed| Health::new(observed).status;
        assert_eq!(status(observed(up(37, true))), Status::Ready);
        assert_eq!(status(observed(up(37, false))), Status::Degraded);
        assert_eq!(status(observed(up(800, true))), Status::Degraded, "two round trips and a pause take over 2 s");
        assert_eq!(status(Observed { serving: false, ..observed(up(1, true)) }), Status::Degraded);
        assert_eq!(status(Observed { coherence: Some(Coherence::PubSub), ..observed(up(1, true)) }), Status::Degraded);
        let none = Some(Coherence::None);
        let asked = Observed { coherence: none, coherence_asked: none, ..observed(LinkState::Unlinked) };
        assert_eq!(status(asked), Status::Ready);
        let not_attached = Observed { coherence: None, ..observed(LinkState::Unlinked) };
        assert_eq!(status(not_attached), Status::Down);
        assert_eq!(status(observed(LinkState::Connecting)), Status::Down);
        let cause = BackendError::new(BackendErrorKind::Denied, "WRONGPASS");
        let down = Health::new(observed(LinkState::down(Duration::ZERO, cause)));
        assert_eq!((down.status, down.to_string()), (Status::Down, "down: the link is down: WRONGPASS".to_owned()));
        assert!(!down.is_healthy());
        assert_eq!(status(Observed { closed: true, ..observed(up(1, false)) }), Status::Down);
    }
}
