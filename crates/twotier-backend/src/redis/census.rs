//! What the primaries of a cluster say of it, and for whom a majority of them vouches.
//!
//! Each is asked in every heartbeat of its link for its epoch and its view of who owns what. A lease is renewed only as
//! of a time since which a majority answered in the epoch, and with the owners, of the map in force:
//!
//! - A replica is promoted by the votes of a majority, and whoever votes knows the new epoch *before* it votes. Two
//!   majorities meet: once a promotion is complete no majority answers in the earlier epoch.
//! - A slot that is moved by hand raises no epoch when its new owner has made the latest claim already, so views are
//!   compared besides. Nobody votes on such a move, and a majority may not know of it for as long as gossip takes.

mod map;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use redis::Pipeline;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use twotier_core::{BackendError, BackendErrorKind, LinkId};

use crate::BackendResult;

pub(super) use self::{
    map::{Map, Place, Routes, Slots},
    view::{Node, View},
};
use super::wire::{Connection, Lines, Reply, Target};

/// An election that is not over after so many node timeouts, and at least after two seconds, never will be: a candidate
/// counts no votes any more by then.
const ELECTION: u32 = 2;
const SHORTEST_ELECTION: Duration = Duration::from_secs(2);
/// The shortest pause between two heartbeats, however many reasons there are.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest one while the map may be changing.
const UNSETTLED: Duration = Duration::from_millis(100);
/// A doubt of this length is logged.
const LONG: Duration = Duration::from_secs(5);
/// How many bytes of views are asked for in one heartbeat in the mean: a large cluster is asked less often.
const VIEW_BYTES: usize = 2048;

/// The answers of a cluster's primaries.
pub(super) struct Census {
    state: Mutex<State>,
    /// Counts what may be news to whoever keeps the map.
    news: watch::Sender<u64>,
    /// How long an election takes at most.
    patience: Duration,
    doubt: Mutex<Doubt>,
    lines: Arc<Lines>,
}

/// Since when no lease could be renewed, if none can, and whether that was logged.
#[derive(Default)]
struct Doubt {
    since: Option<Instant>,
    is_logged: bool,
}

#[derive(Default)]
struct State {
    /// Who speaks for each link, by number, and what has it ask at once.
    speakers: BTreeMap<LinkId, (u64, Arc<Notify>)>,
    answers: BTreeMap<LinkId, Statement>,
    in_force: Option<InForce>,
    /// The greatest epoch that anybody showed, and since when it is known.
    newest: Option<(u64, Instant)>,
}

/// What a primary said last.
#[derive(Clone)]
struct Statement {
    /// Before this it was not asked.
    asked: Instant,
    epoch: u64,
    /// Whether it finds the cluster at work.
    is_ok: bool,
    view: Arc<View>,
}

/// The map by which keys are routed.
struct InForce {
    ownership: u64,
    /// The links of those who own slots, of whom a majority decides.
    voters: Vec<LinkId>,
    /// The latest epoch of which every claim is in the map; `None` while an election may be under way that began
    /// before anybody was asked.
    settled: Option<u64>,
}

impl InForce {
    /// Returns whether somebody who answers so knows of nothing that this map does not have.
    fn agrees(&self, answer: &Statement) -> bool {
        answer.is_ok && Some(answer.epoch) == self.settled && answer.view.ownership == self.ownership
    }

    /// Finds out whether every claim of the epochs up to that of this answer is in the map: each of them is the latest
    /// of some primary, or was of an election that came to nothing.
    fn settle(&mut self, answer: &Statement, is_over: bool) {
        let settled = self.settled.unwrap_or(0);
        if answer.view.ownership != self.ownership || answer.epoch <= settled {
            return;
        }
        let claims: BTreeSet<u64> = answer.view.primaries().map(|node| node.config_epoch).collect();
        let later = claims.range(settled + 1..=answer.epoch).count() as u64;
        if is_over || later == answer.epoch - settled {
            self.settled = Some(answer.epoch);
        }
    }
}

impl Census {
    pub(super) fn new(target: &Target) -> Self {
        Self {
            state: Mutex::default(),
            news: watch::Sender::new(0),
            patience: (target.node_timeout * ELECTION).max(SHORTEST_ELECTION),
            doubt: Mutex::default(),
            lines: Arc::clone(&target.lines),
        }
    }

    /// Has every primary asked at once: something has changed.
    pub(super) fn hint(&self) {
        self.state.lock().speakers.values().for_each(|(_, hint)| hint.notify_one());
    }

    /// Returns what announces news.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Announces news to whoever keeps the map.
    pub(super) fn announce(&self) {
        self.news.send_modify(|news| *news += 1);
    }

    /// Takes what a primary says, unless somebody else speaks for the link by now.
    fn receives(&self, link: LinkId, number: u64, answer: Statement) {
        let is_news = {
            let mut state = self.state.lock();
            if state.speakers.get(&link).is_none_or(|(speaks, _)| *speaks != number) {
                return;
            }
            if state.newest.is_none_or(|(epoch, _)| epoch < answer.epoch) {
                state.newest = Some((answer.epoch, Instant::now()));
            }
            let is_over = state.is_over(self.patience);
            if let Some(in_force) = &mut state.in_force {
                in_force.settle(&answer, is_over);
            }
            let is_news = state.in_force.as_ref().is_none_or(|map| map.ownership != answer.view.ownership);
            // Its replicas and those without slots may be others.
            let known = state.answers.insert(link, answer.clone());
            is_news || known.is_none_or(|known| !known.view.roles().eq(answer.view.roles()))
        };
        if is_news {
            self.announce();
        }
    }

    /// Forgets what a primary said: its link is lost.
    fn forgets(&self, link: LinkId) {
        self.state.lock().answers.remove(&link);
        self.hint();
        self.announce();
    }

    /// Has somebody speak for a link, and nobody else any more.
    pub(super) fn voter(self: &Arc<Self>, link: LinkId, target: &Target) -> Voter {
        let (number, hint) = (fastrand::u64(..), Arc::new(Notify::new()));
        {
            let mut state = self.state.lock();
            state.speakers.insert(link, (number, Arc::clone(&hint)));
            state.answers.remove(&link);
        }
        Voter { census: Arc::clone(self), link, number, host: target.host().into(), hint }
    }

    /// Has nobody speak for a link: it is no primary any more.
    pub(super) fn dismisses(&self, link: LinkId) {
        let mut state = self.state.lock();
        state.speakers.remove(&link);
        state.answers.remove(&link);
    }

    /// Returns the views there are, those of whom more is believed first.
    pub(super) fn views(&self) -> Vec<Arc<View>> {
        let mut answers: Vec<Statement> = self.state.lock().answers.values().cloned().collect();
        answers.sort_by_key(|answer| std::cmp::Reverse((answer.is_ok, answer.epoch, answer.asked)));
        answers.into_iter().map(|answer| answer.view).collect()
    }

    /// Puts a map in force: from now on leases are renewed by it.
    ///
    /// What is known of epochs is known further. Where nothing is, the present one is taken to be settled unless
    /// somebody is found dead, whose replacement may have been voted for already.
    pub(super) fn put_in_force(&self, routes: &Routes, epoch: u64) {
        let mut state = self.state.lock();
        let settled = state.in_force.take().and_then(|before| before.settled);
        let is_quiet = !routes.map.primaries.iter().any(|node| node.is_failing && !node.slots.is_empty());
        let settled = settled.or_else(|| is_quiet.then_some(epoch));
        if state.newest.is_none() {
            state.newest = Some((epoch, Instant::now()));
        }
        let mut in_force = InForce { ownership: routes.map.ownership, voters: routes.owners(), settled };
        let is_over = state.is_over(self.patience);
        state.answers.values().for_each(|answer| in_force.settle(answer, is_over));
        state.in_force = Some(in_force);
    }

    /// Returns as of when a lease of this link may be renewed, not later than the mark: since then it has said itself
    /// that it is as the map has it, and so has a majority.
    fn vouches(&self, link: LinkId, mark: Instant) -> Option<Instant> {
        let state = self.state.lock();
        let in_force = state.in_force.as_ref()?;
        let agrees = |link: &LinkId| state.answers.get(link).filter(|answer| in_force.agrees(answer));
        let own = agrees(&link)?.asked;
        let mut asked: Vec<Instant> = in_force.voters.iter().filter_map(agrees).map(|answer| answer.asked).collect();
        asked.sort_unstable_by(|one, other| other.cmp(one));
        // The last of a majority that was asked as late as can be.
        let majority = *asked.get(in_force.voters.len() / 2)?;
        Some(mark.min(own).min(majority))
    }

    /// Logs a doubt that lasts, and its end. As slots move there is a short one each time.
    fn notes(&self, is_vouched: bool) {
        let mut doubt = self.doubt.lock();
        if is_vouched {
            if std::mem::take(&mut *doubt).is_logged {
                tracing::info!("a majority of the cluster vouches for its map again");
            }
            return;
        }
        let since = *doubt.since.get_or_insert_with(Instant::now);
        if since.elapsed() < LONG || std::mem::replace(&mut doubt.is_logged, true) {
            return;
        }
        match self.lines.due() {
            Some(others) => {
                tracing::warn!(others, "no majority of the cluster vouches for its map: copies are not served");
            }
            None => tracing::debug!("no majority of the cluster vouches for its map: copies are not served"),
        }
    }

    /// Returns whether everybody who answers agrees with the map in force, and everybody answers.
    fn is_settled(&self) -> bool {
        let state = self.state.lock();
        let Some(in_force) = &state.in_force else { return false };
        in_force.voters.iter().all(|link| state.answers.get(link).is_some_and(|answer| in_force.agrees(answer)))
    }
}

impl State {
    /// Returns whether an election of the newest epoch would be over by now.
    fn is_over(&self, patience: Duration) -> bool {
        self.newest.is_some_and(|(_, since)| since.elapsed() >= patience)
    }
}

/// The place of one link in a census.
#[derive(Clone)]
pub(super) struct Voter {
    census: Arc<Census>,
    link: LinkId,
    number: u64,
    /// Where the node is, as it may not know itself.
    host: Box<str>,
    hint: Arc<Notify>,
}

impl Voter {
    /// Asks the node what it is and how it finds the cluster.
    pub(super) async fn ask(&self, connection: &Connection) -> BackendResult<()> {
        let asked = Instant::now();
        let known = self.census.state.lock().answers.get(&self.link).cloned();
        // So that views are, in the mean, not more than there is room for.
        let with_view = known.as_ref().is_none_or(|known| {
            let heartbeats = 1 + known.view.nodes.len() * 150 / VIEW_BYTES;
            !known.is_ok || fastrand::usize(..heartbeats) == 0 || !self.census.is_settled()
        });
        let (standing, view) = match inquire(connection, with_view, &self.host).await {
            // A sign of life, and no vote.
            Err(refused) if !connection.loss().is_declared() && refused.code().is_some() => return Ok(()),
            answer => answer?,
        };
        standing.role?;
        let view = match (view, known) {
            (Some(view), _) => Arc::new(view),
            (None, Some(known)) => known.view,
            (None, None) => return Ok(()),
        };
        let Standing { epoch, is_ok, .. } = standing;
        self.census.receives(self.link, self.number, Statement { asked, epoch, is_ok, view });
        Ok(())
    }

    /// As [`Census::vouches`].
    pub(super) fn vouches(&self, mark: Instant) -> Option<Instant> {
        let vouches = self.census.vouches(self.link, mark);
        self.census.notes(vouches.is_some());
        vouches
    }

    /// Waits until the next heartbeat is due: for so long, or until somebody has noticed a change.
    pub(super) async fn rest(&self, pause: Duration) {
        let pause = if self.census.is_settled() { pause } else { pause.min(UNSETTLED) };
        // Many hints cost one heartbeat.
        let shortest = SHORTEST.min(pause);
        sleep(shortest).await;
        let _ = timeout(pause - shortest, self.hint.notified()).await;
    }

    /// The link is gone: what the node said is not believed any more.
    pub(super) fn leave(&self) {
        self.census.forgets(self.link);
    }
}

/// What a node says of the state of its cluster.
pub(super) struct Standing {
    pub(super) epoch: u64,
    pub(super) is_ok: bool,
    /// An error where it is no primary.
    role: BackendResult<()>,
}

/// Asks a node whether it is a primary, how it finds the cluster, and if so wanted for its view: in this order, so that
/// the view is of the epoch or of a later one. A refusal is an error that names the cure.
pub(super) async fn inquire(
    connection: &Connection,
    with_view: bool,
    host: &str,
) -> BackendResult<(Standing, Option<View>)> {
    let mut commands = Pipeline::with_capacity(3);
    commands.cmd("HELLO").arg(3).cmd("CLUSTER").arg("INFO");
    if with_view {
        commands.cmd("CLUSTER").arg("NODES");
    }
    let mut replies = connection.ask(&commands, 2 + usize::from(with_view)).await?;
    let role = replies.hello()?.map_or(Ok(()), |hello| hello.primary());
    let info = said(&mut replies, "CLUSTER INFO");
    let nodes = if with_view { Some(said(&mut replies, "CLUSTER NODES")) } else { None };
    let (info, nodes) = (info?, nodes.transpose()?);
    let standing = standing(&info, role).ok_or_else(|| connection.out_of_step("CLUSTER INFO"))?;
    let view = nodes.map(|nodes| View::read(&nodes).ok_or_else(|| connection.out_of_step("CLUSTER NODES")));
    let view = view.transpose()?.map(|mut view| {
        for node in view.nodes.iter_mut().filter(|node| node.host.is_empty()) {
            node.host = host.into();
        }
        view
    });
    Ok((standing, view))
}

fn said(replies: &mut Reply, command: &'static str) -> BackendResult<String> {
    replies.text(command).map_err(|cause| match cause.code() {
        Some("NOPERM") => {
            let message = "the user may not ask how the cluster is: allow it with `+cluster|info +cluster|nodes`";
            BackendError::new(BackendErrorKind::Denied, message).with_code("NOPERM").not_sent()
        }
        _ => cause,
    })
}

fn standing(info: &str, role: BackendResult<()>) -> Option<Standing> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let epoch = field("cluster_current_epoch")?.parse().ok()?;
    Some(Standing { epoch, is_ok: field("cluster_state")? == "ok", role })
}

#[cfg(test)]
mod tests;
