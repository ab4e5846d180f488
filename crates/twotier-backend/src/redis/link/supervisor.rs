//! Whoever keeps a link: makes it, watches it, and makes it anew when it is lost.

use std::{sync::Arc, thread, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};
use twotier_core::{BackendError, BackendErrorKind};

use crate::redis::{
    authority::Vouch,
    command::Commands,
    listeners::{Listeners, Member, Standing},
    session::{Session, Verdict, open},
    wire::{Connection, Target},
};

use super::{
    journal::Journal,
    state::{LinkInner, Marks, Phase, Signs, admitted},
};

/// The longest pause between two heartbeats.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// How many heartbeats there are within the shortest staleness bound, or more.
const BEATS: u32 = 5;
/// The pause between two canaries.
const CANARY: Duration = Duration::from_secs(4);
/// The longest first pause between two attempts to connect.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// A link that lived this long was a good one: the pauses start over after it. One that is taken away at once, again
/// and again, is not asked for at full speed.
const GOOD_LIFE: Duration = Duration::from_millis(100);

/// The end of a supervisor, however it comes: with its runtime, or by a panic. One that was stopped has another
/// generation than the state, and nothing to report any more.
pub(super) struct Gone {
    pub(super) shared: Arc<LinkInner>,
    pub(super) generation: u64,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let message = if thread::panicking() {
            "the task that keeps the link has panicked; does its runtime have time and I/O enabled?"
        } else {
            "the runtime that kept the link has ended"
        };
        let cause = BackendError::new(BackendErrorKind::Unavailable, message);
        self.shared.change(self.generation, |phase| {
            for member in self.shared.listeners.all().iter() {
                member.link_lost(&cause);
                member.is_refused_if_waiting(&cause);
            }
            let now = match phase {
                Phase::Up(up) => {
                    up.connections.loss().declare(cause.clone());
                    up.since
                }
                Phase::Down { since, .. } | Phase::Abandoned { since, .. } => *since,
                Phase::Closed => return,
                Phase::Idle | Phase::Connecting => Instant::now(),
            };
            *phase = Phase::Abandoned { since: now, cause };
        });
    }
}

/// Keeps the link up until the task is aborted.
pub(super) async fn supervise(shared: Arc<LinkInner>, generation: u64) {
    // Since when there is no good link.
    let mut down_since = Instant::now();
    let LinkInner { target, listeners, progress, fences, authority, .. } = &*shared;
    let mut journal = Journal::new(Arc::clone(target), Arc::clone(listeners));
    let _asking = authority.ask();
    loop {
        let made = async {
            let (server, vouch) = authority.locate(target).await?;
            let (session, admissions) = open(&server, progress, listeners, fences).await?;
            session.tracked().alive(target.dead_after, vouch.begin(session.tracked())).await?;
            Ok((session, admissions, vouch))
        };
        match made.await {
            Ok((session, admissions, vouch)) => {
                let (connections, signs, marks) = shared.up(generation, &session, admissions, &vouch);
                journal.up(connections.reporting().mode(), session.fenced);
                let since = Instant::now();
                let cause = watched(session, &connections, &shared, generation, vouch, &signs, marks).await;
                journal.lost(&cause);
                shared.lost(generation, &connections, cause);
                if since.elapsed() >= GOOD_LIFE {
                    down_since = Instant::now();
                }
            }
            Err(cause) => {
                journal.still_down(&cause);
                shared.down(generation, cause);
            }
        }
        // As long as it has been down already, so that pauses grow exponentially and a short outage costs no more than
        // its own length; and full jitter: a fleet that lost its server together does not come back together.
        let longest = down_since.elapsed().clamp(FIRST_BACKOFF, target.max_backoff.max(FIRST_BACKOFF));
        authority.pause(longest.mul_f64(fastrand::f64())).await;
    }
}

/// Watches a link until it is lost, and returns why.
async fn watched(
    session: Session,
    connections: &Commands,
    shared: &LinkInner,
    generation: u64,
    vouch: Vouch,
    signs: &Signs,
    marks: Marks,
) -> BackendError {
    let (tracked, data) = (connections.tracked(), connections.data());
    tokio::select! {
        biased;
        cause = connections.loss().wait() => cause,
        cause = vouch.withdrawn() => cause,
        cause = heartbeats(tracked, shared, &vouch, signs, marks) => cause,
        cause = admissions(session, connections, shared, generation, signs, &vouch) => cause,
        cause = pings(data, &shared.target), if !data.is(tracked) => cause,
    }
}

/// Asks for a sign of life, again and again, that proves what was reported.
///
/// The reply to a request that was sent after an earlier reply had arrived fences everything that was acknowledged to
/// anyone before that earlier request was sent: so each reply proves the marks of the heartbeat before, the first one
/// those of the test of the link, as far as somebody vouches for the server.
async fn heartbeats(
    tracked: &Connection,
    shared: &LinkInner,
    vouch: &Vouch,
    signs: &Signs,
    mut answered: Marks,
) -> BackendError {
    loop {
        vouch.rest(period(&shared.listeners)).await;
        // Taken before the request is queued.
        let marked = Instant::now();
        let mark = |member: &Arc<Member>| (Arc::clone(member), member.mark(), marked);
        let marks: Marks = shared.listeners.all().iter().filter(|member| member.is_up()).map(mark).collect();
        if let Err(cause) = tracked.alive(shared.target.dead_after, vouch.inquire(tracked)).await {
            return cause;
        }
        signs.reply_took(marked.elapsed());
        for (member, mark, marked) in std::mem::replace(&mut answered, marks) {
            if let Some(as_of) = vouch.as_of(marked) {
                member.proof_of_life(mark, marked, as_of);
            }
        }
    }
}

/// The pause between two heartbeats: by the shortest bound that one of the caches has.
fn period(listeners: &Listeners) -> Duration {
    let bounds = listeners.all().iter().map(|member| member.max_staleness() / BEATS).min();
    bounds.map_or(HEARTBEAT, |shortest| shortest.min(HEARTBEAT))
}

/// Admits caches that come later, and tests again and again whether changes are still being reported: one cache after
/// the other, one at a time.
async fn admissions(
    mut session: Session,
    connections: &Commands,
    shared: &LinkInner,
    generation: u64,
    signs: &Signs,
    vouch: &Vouch,
) -> BackendError {
    let (mode, data) = (connections.reporting().mode(), connections.data());
    let mut next = Instant::now() + CANARY;
    let mut turn = 0;
    loop {
        let members = |filter: fn(&&Arc<Member>) -> bool| -> Vec<_> {
            shared.listeners.all().iter().filter(filter).map(Arc::clone).collect()
        };
        let mut candidates = members(|member| member.is_waiting());
        candidates.retain(|member| shared.listeners.place().takes(member.namespace()));
        if candidates.is_empty() {
            tokio::select! {
                () = shared.newcomers.notified() => continue,
                () = sleep_until(next) => next = Instant::now() + CANARY,
            }
            turn += 1;
            // One that was refused may have been allowed more meanwhile.
            let due = members(|member| member.is_up() || member.is_refused());
            let Some(member) = due.get(turn % due.len().max(1)) else { continue };
            if member.is_up() {
                let probed = session.probe(std::slice::from_ref(&member));
                let verdicts = match data.alive(shared.target.dead_after, probed).await {
                    Ok(verdicts) => verdicts,
                    Err(cause) => return cause,
                };
                match verdicts.into_iter().next() {
                    Some(Verdict::Reported(lag)) => signs.report_took(member, lag),
                    Some(Verdict::Elsewhere) => {}
                    // Nothing is known: reports may come as ever.
                    Some(Verdict::Unknown(cause)) => tracing::debug!(%cause, "no canary"),
                    Some(Verdict::Denied(cause)) => shared.change(generation, |_| {
                        member.link_lost(&cause);
                        member.stands(Standing::Refused(cause));
                    }),
                    // Nothing is reported to one that has left meanwhile.
                    Some(Verdict::Silent) | None if !member.is_up() => {}
                    Some(Verdict::Silent) | None => {
                        let message = "the server has stopped reporting changes";
                        return BackendError::new(BackendErrorKind::Unavailable, message);
                    }
                }
                continue;
            }
            candidates.push(Arc::clone(member));
        }
        match data.alive(shared.target.dead_after, session.admit(&candidates, None)).await {
            Ok(admissions) => shared.change(generation, |_| drop(admitted(admissions, mode, signs, vouch))),
            Err(cause) => return cause,
        }
    }
}

/// Asks the data connection for a sign of life when it has long given none.
async fn pings(data: &Connection, target: &Target) -> BackendError {
    let pause = target.dead_after / 2;
    loop {
        sleep(pause).await;
        if data.is_silent_for(pause)
            && let Err(cause) = data.alive(target.dead_after, data.ping()).await
        {
            return cause;
        }
    }
}
