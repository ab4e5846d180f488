//! What each sentinel said last, and what most of them say.

use std::time::Duration;

use tokio::time::Instant;
use twotier_core::{BackendError, BackendErrorKind};

/// Where a server is, in the words of the sentinels. Not printed: it is part of no message.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

/// What one sentinel says of a service.
#[derive(Clone)]
pub(super) struct Report {
    /// Whom it takes for the primary.
    pub(super) address: Address,
    /// Whether it finds that one dead.
    pub(super) is_down: bool,
    /// How long it takes to find so.
    pub(super) down_after: Duration,
}

/// What each sentinel said last, with the time before it was asked.
pub(super) struct Panel(Vec<Member>);

#[derive(Clone, Default)]
struct Member {
    report: Option<(Instant, Report)>,
    /// When it was last asked in vain, and why. What it said before stays said: it grows old.
    failure: Option<(Instant, BackendError)>,
}

impl Panel {
    pub(super) fn new(members: usize) -> Self {
        Self(vec![Member::default(); members])
    }

    pub(super) fn reports(&mut self, member: usize, asked: Instant, report: Report) {
        self.0[member].report = Some((asked, report));
    }

    pub(super) fn fails(&mut self, member: usize, asked: Instant, cause: BackendError) {
        self.0[member].failure = Some((asked, cause));
    }

    /// Returns the server that most of all sentinels name, each asked since then.
    pub(super) fn named(&self, since: Instant) -> Option<&Address> {
        let named = || self.since(since).map(|report| &report.address);
        named().find(|one| named().filter(|other| other == one).count() >= self.majority())
    }

    /// Returns whether every sentinel was asked since then, also in vain.
    pub(super) fn is_complete(&self, since: Instant) -> bool {
        self.0.iter().all(|member| {
            let asked = |at: Option<Instant>| at.is_some_and(|at| at >= since);
            asked(member.report.as_ref().map(|(at, _)| *at)) || asked(member.failure.as_ref().map(|(at, _)| *at))
        })
    }

    /// Returns whether most of all sentinels took this server for the primary and alive when they were last asked, and
    /// were asked no longer before the mark than it takes them to find a server dead.
    pub(super) fn vouches(&self, address: &Address, mark: Instant) -> bool {
        let vouching = self.0.iter().filter_map(|member| member.report.as_ref()).filter(|(asked, report)| {
            report.address == *address && !report.is_down && mark.saturating_duration_since(*asked) <= report.down_after
        });
        vouching.count() >= self.majority()
    }

    /// Describes why nobody is named.
    pub(super) fn undecided(&self, since: Instant) -> BackendError {
        let (said, all) = (self.since(since).count(), self.0.len());
        let failures = self.0.iter().filter_map(|member| member.failure.as_ref()).filter(|(asked, _)| *asked >= since);
        let cause = failures.map(|(_, cause)| cause).next();
        let message = match cause {
            Some(cause) if said < self.majority() => {
                format!("{said} of {all} sentinels say where the primary is, which is no majority: {cause}")
            }
            _ if said < self.majority() => {
                format!("{said} of {all} sentinels say where the primary is, which is no majority")
            }
            _ => format!("{said} of {all} sentinels say where the primary is, and they do not agree"),
        };
        let error = BackendError::new(BackendErrorKind::Unavailable, message).not_sent();
        match cause {
            Some(cause) => error.with_source(cause.clone()),
            None => error,
        }
    }

    /// Of all there are: whoever does not speak counts too.
    fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    fn since(&self, since: Instant) -> impl Iterator<Item = &Report> {
        self.0.iter().filter_map(move |member| {
            member.report.as_ref().filter(|(asked, _)| *asked >= since).map(|(_, report)| report)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(port: u16) -> Address {
        Address { host: "h".to_owned(), port }
    }

    fn report(port: u16, is_down: bool) -> Report {
        Report { address: address(port), is_down, down_after: 2 * SECOND }
    }

    /// Asks three sentinels at the same time, of whom each names a port or is silent.
    fn panel(asked: Instant, ports: [Option<u16>; 3]) -> Panel {
        let mut panel = Panel::new(3);
        for (member, port) in ports.into_iter().enumerate() {
            match port {
                Some(port) => panel.reports(member, asked, report(port, false)),
                None => panel.fails(member, asked, BackendError::new(BackendErrorKind::Unavailable, "silent")),
            }
        }
        panel
    }

    #[test]
    fn the_server_that_most_of_all_sentinels_name_is_the_primary_and_nobody_else() {
        let now = Instant::now();
        for (ports, expected) in [
            ([Some(1), Some(1), Some(1)], Some(1)),
            ([Some(1), Some(2), Some(2)], Some(2)),
            ([Some(1), None, Some(1)], Some(1)),
            ([Some(1), Some(2), Some(3)], None),
            ([Some(1), Some(2), None], None),
            ([Some(1), None, None], None),
            ([None, None, None], None),
        ] {
            let panel = panel(now, ports);
            assert_eq!(panel.named(now).map(|address| address.port), expected, "{ports:?}");
            assert!(panel.is_complete(now) && !panel.is_complete(now + SECOND));
            assert!(panel.named(now + SECOND).is_none(), "what was said before is no answer");
        }
        let words = |ports| panel(now, ports).undecided(now).to_string();
        assert!(words([Some(1), None, None]).contains("1 of 3"), "{}", words([Some(1), None, None]));
        assert!(words([Some(1), Some(2), None]).contains("do not agree"), "{}", words([Some(1), Some(2), None]));
    }

    #[test]
    fn sentinels_vouch_by_majority_for_whom_they_name_and_find_alive_and_not_for_longer_than_they_take_to_find_dead() {
        let now = Instant::now();
        let mut panel = panel(now, [Some(1), Some(1), Some(2)]);
        let vouches = |panel: &Panel, after: Duration| panel.vouches(&address(1), now + after);
        assert!(vouches(&panel, Duration::ZERO) && vouches(&panel, 2 * SECOND));
        assert!(!vouches(&panel, 2 * SECOND + Duration::from_millis(1)), "nobody was asked for too long");
        assert!(!panel.vouches(&address(2), now), "one of three names it");
        panel.reports(0, now + SECOND, report(1, false));
        assert!(!vouches(&panel, 3 * SECOND), "one alone is no majority, however lately it was asked");
        panel.fails(1, now + SECOND, BackendError::new(BackendErrorKind::Unavailable, "silent"));
        assert!(vouches(&panel, 2 * SECOND), "what it said stays said for a while");
        panel.reports(1, now + SECOND, report(1, true));
        assert!(!vouches(&panel, SECOND), "one finds it dead, and one names another");
        panel.reports(2, now + SECOND, report(1, false));
        assert!(vouches(&panel, 3 * SECOND));
    }
}
