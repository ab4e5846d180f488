//! What `health` returns.

use std::{fmt, time::Duration};

use crate::{BackendError, Coherence, LinkId, LinkState, LinkStatus, LinkUp};

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
    /// The state of the backend's link; of several, that of all of them together.
    pub link: LinkState,
    /// The state of each link: of one server the only one, of a cluster one for each primary.
    pub links: Vec<LinkStatus>,
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
    /// The backend did not answer of late, for this cause: calls fail at once until it does.
    BreakerOpen(BackendError),
    /// What is wrong with one link of several. The keys behind the others are not concerned.
    OfLink(LinkId, Box<Self>),
}

impl Reason {
    fn of(self, link: LinkId) -> Self {
        if link == LinkId::ONLY { self } else { Self::OfLink(link, Box::new(self)) }
    }

    fn status(&self) -> Status {
        match self {
            Self::Closed | Self::Connecting | Self::LinkDown(_) | Self::BreakerOpen(_) => Status::Down,
            Self::OfLink(_, reason) => reason.status(),
            Self::LeaseLapsed | Self::WeakerCoherence(_) | Self::BoundTooSmall { .. } | Self::Unfenced => {
                Status::Degraded
            }
        }
    }
}

/// What the reasons are derived from.
pub(crate) struct Observed {
    pub(crate) link: LinkState,
    /// Each link, after whether a copy that came over it would be served now.
    pub(crate) links: Vec<(bool, LinkStatus)>,
    /// `None` before the backend was attached to.
    pub(crate) coherence: Option<Coherence>,
    pub(crate) coherence_asked: Option<Coherence>,
    /// The configured bound, in force or not.
    pub(crate) bound: Duration,
    pub(crate) local_enabled: bool,
    pub(crate) closed: bool,
    /// Over which links calls are not made, and how the last one failed.
    pub(crate) breakers: Vec<(LinkId, BackendError)>,
}

/// The longest pause between two proofs of life.
const HEARTBEAT: Duration = Duration::from_millis(500);

impl Health {
    pub(crate) fn new(observed: Observed) -> Self {
        let Observed { link, links, coherence, coherence_asked, bound, local_enabled, closed, breakers } = observed;
        let mut reasons = Vec::new();
        let broadcast = coherence == Some(Coherence::Broadcast);
        if closed {
            reasons.push(Reason::Closed);
        } else {
            let each = links.iter().flat_map(|(serving, status)| {
                let promised = Promised { coherence, bound, copies: local_enabled, serving: *serving };
                promised.reasons(&status.state).into_iter().map(|reason| reason.of(status.link))
            });
            reasons.extend(each);
            // What is down by itself needs no second reason.
            let is_up = |link| links.iter().any(|(_, status)| status.link == link && status.state.is_up());
            let open = breakers.into_iter().filter(|(link, _)| is_up(*link));
            reasons.extend(open.map(|(link, cause)| Reason::BreakerOpen(cause).of(link)));
            if links.is_empty() {
                reasons.push(Reason::Connecting);
            }
        }
        if let Some(weaker) = coherence.filter(|_| !broadcast && coherence != coherence_asked) {
            reasons.push(Reason::WeakerCoherence(weaker));
        }
        let status = reasons.iter().map(Reason::status).max_by_key(|status| *status as u8).unwrap_or(Status::Ready);
        let max_staleness = broadcast.then_some(bound);
        let coherence = coherence.unwrap_or(Coherence::None);
        let links = links.into_iter().map(|(_, status)| status).collect();
        Self { status, reasons, link, links, coherence, max_staleness, local_enabled, closed }
    }

    /// Returns whether operations can be expected to work: the status is not [`Down`](Status::Down).
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.status != Status::Down
    }
}

/// What a link is judged by.
struct Promised {
    coherence: Option<Coherence>,
    bound: Duration,
    copies: bool,
    serving: bool,
}

impl Promised {
    /// Returns what is wrong with one link.
    fn reasons(self, link: &LinkState) -> Vec<Reason> {
        let Self { coherence, bound, copies, serving } = self;
        let broadcast = coherence == Some(Coherence::Broadcast);
        match link {
            LinkState::Closed => vec![Reason::Closed],
            LinkState::Connecting => vec![Reason::Connecting],
            LinkState::Unlinked if coherence.is_none() => vec![Reason::Connecting],
            LinkState::Down { cause, .. } => vec![Reason::LinkDown(cause.clone())],
            LinkState::Up(LinkUp { round_trip, fenced, .. }) => {
                // A proof counts from before its request, and comes with the reply to the next heartbeat.
                let needed = |round_trip: Duration| 2 * round_trip + HEARTBEAT.min(bound / 5);
                let slow = round_trip.filter(|round_trip| broadcast && needed(*round_trip) >= bound);
                let slow = slow.map(|round_trip| Reason::BoundTooSmall { round_trip, bound });
                let lapsed = (broadcast && copies && !serving).then_some(Reason::LeaseLapsed);
                let unfenced = (!fenced).then_some(Reason::Unfenced);
                slow.into_iter().chain(lapsed).chain(unfenced).collect()
            }
            _ => Vec::new(),
        }
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
            Self::BreakerOpen(cause) => write!(f, "the breaker is open: {cause}"),
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
            Self::OfLink(link, reason) => write!(f, "link {link}: {reason}"),
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
            links: vec![(true, LinkStatus::new(LinkId::ONLY, link.clone()))],
            link,
            coherence: Some(Coherence::Broadcast),
            coherence_asked: None,
            bound: Duration::from_secs(2),
            local_enabled: true,
            closed: false,
            breakers: Vec::new(),
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
        let mut lapsed = observed(up(1, true));
        lapsed.links[0].0 = false;
        assert_eq!(status(lapsed), Status::Degraded);
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

    #[test]
    fn of_several_links_the_reasons_say_which_is_meant_and_the_worst_decides() {
        let link = |number, serving, state| (serving, LinkStatus::new(LinkId::new(number), state));
        let cause = BackendError::new(BackendErrorKind::Unavailable, "connection refused");
        let mut three = observed(up(1, true));
        three.links = vec![link(1, true, up(1, true)), link(2, false, up(1, true)), link(3, true, up(1, true))];
        let health = Health::new(three);
        assert!(matches!(health.status, Status::Degraded), "{health}");
        assert!(matches!(&health.reasons[..], [Reason::OfLink(link, _)] if link.number() == 2), "{health}");
        let mut three = observed(LinkState::down(Duration::ZERO, cause.clone()));
        three.links = vec![link(1, true, up(1, true)), link(3, false, LinkState::down(Duration::ZERO, cause))];
        let health = Health::new(three);
        assert_eq!(health.to_string(), "down: link 3: the link is down: connection refused");
        assert_eq!(health.links.len(), 2);
    }
}
