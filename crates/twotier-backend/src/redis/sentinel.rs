//! Sentinels: those who say where the primary is, and whether it still is.
//!
//! Each is asked by a task of its own, over a connection of its own, again and again; what each said last lies in a
//! [`Panel`], off which majorities are read. Nothing here waits for a sentinel but the search for a primary.

mod panel;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value, cmd};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use twotier_core::{BackendError, BackendErrorKind};

use crate::BackendResult;

use self::panel::{Address, Panel, Report};
use super::wire::{Connection, Lines, Loss, Progress, Target, ValueLimit, connect, text};

/// The pause between two requests to a sentinel, unless they find a server dead soon.
const PERIOD: Duration = Duration::from_millis(500);
/// The shortest pause between two requests to a sentinel that nobody gave a hint for.
const SHORTEST: Duration = Duration::from_millis(50);
/// What a sentinel publishes as it takes another server for the primary.
const SWITCHED: &[u8] = b"+switch-master";

/// The sentinels of a backend: none where its URL names a server.
pub(super) struct Sentinels {
    targets: Vec<Target>,
    service: String,
    panel: watch::Sender<Panel>,
    /// Counts the reasons to ask everyone at once.
    hint: watch::Sender<u64>,
    /// Whether a lease could be renewed when it was last tried.
    vouched: AtomicBool,
    lines: Arc<Lines>,
}

/// By whose word the server of a link is the primary.
#[derive(Clone)]
pub(super) struct Vouch {
    sentinels: Arc<Sentinels>,
    named: Option<(Address, Instant)>,
}

impl Sentinels {
    pub(super) fn of(target: &Target) -> Arc<Self> {
        let (targets, service) = (target.sentinels.clone(), target.service.clone());
        let panel = watch::Sender::new(Panel::new(targets.len()));
        let (hint, vouched, lines) = (watch::Sender::new(0), AtomicBool::new(true), Arc::clone(&target.lines));
        Arc::new(Self { targets, service, panel, hint, vouched, lines })
    }

    /// Begins to ask them. It ends when what is returned is dropped.
    pub(super) fn ask(self: &Arc<Self>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for member in 0..self.targets.len() {
            tasks.spawn(Arc::clone(self).keep_asking(member));
        }
        tasks
    }

    /// Returns where the primary is now: each sentinel is asked after this was called, for at most `connect_timeout`.
    pub(super) async fn locate(self: &Arc<Self>, target: &Arc<Target>) -> BackendResult<(Arc<Target>, Vouch)> {
        let vouch = |named| Vouch { sentinels: Arc::clone(self), named };
        if self.targets.is_empty() {
            return Ok((Arc::clone(target), vouch(None)));
        }
        let (since, mut panel) = (Instant::now(), self.panel.subscribe());
        self.hint();
        let decided = panel.wait_for(|panel| panel.named(since).is_some() || panel.is_complete(since));
        // Those who have not spoken by then are silent.
        let _ = timeout(target.connect_timeout, decided).await;
        let panel = self.panel.borrow();
        match panel.named(since) {
            Some(address) => {
                let primary = target.at(&address.host, address.port);
                Ok((Arc::new(primary), vouch(Some((address.clone(), since)))))
            }
            None => Err(panel.undecided(since)),
        }
    }

    /// Waits for so long, or until a sentinel says that something has changed.
    pub(super) async fn pause(&self, pause: Duration) {
        let _ = timeout(pause, self.hint.subscribe().changed()).await;
    }

    fn hint(&self) {
        self.hint.send_modify(|hints| *hints += 1);
    }

    async fn keep_asking(self: Arc<Self>, member: usize) {
        let mut hints = self.hint.subscribe();
        loop {
            let (asked, cause) = self.converse(member, &mut hints).await;
            tracing::debug!(%cause, member, "a sentinel cannot be asked");
            self.panel.send_modify(|panel| panel.fails(member, asked, cause));
            self.rest(PERIOD, &mut hints).await;
        }
    }

    /// Asks one sentinel again and again. Returns when it was last tried in vain, and why.
    async fn converse(&self, member: usize, hints: &mut watch::Receiver<u64>) -> (Instant, BackendError) {
        let (target, loss) = (&self.targets[member], Arc::new(Loss::default()));
        // In this order: whoever gives a hint after it took the time is asked for again.
        hints.mark_unchanged();
        let mut asked = Instant::now();
        let opened = timeout(target.connect_timeout, open(target, &loss, self.hint.clone()));
        let connection = match opened.await {
            Ok(Ok(connection)) => connection,
            Ok(Err(cause)) => return (asked, cause),
            Err(_elapsed) => return (asked, silent(target.connect_timeout)),
        };
        loop {
            hints.mark_unchanged();
            asked = Instant::now();
            let report = match timeout(target.connect_timeout, self.report(&connection)).await {
                Ok(Ok(report)) => report,
                Ok(Err(cause)) => return (asked, cause),
                Err(_elapsed) => return (asked, silent(target.connect_timeout)),
            };
            let pause = PERIOD.min(report.down_after / 4);
            self.panel.send_modify(|panel| panel.reports(member, asked, report));
            tokio::select! {
                cause = loss.wait() => return (Instant::now(), cause),
                () = self.rest(pause, hints) => {}
            }
        }
    }

    async fn rest(&self, pause: Duration, hints: &mut watch::Receiver<u64>) {
        let _ = timeout(pause.max(SHORTEST), hints.changed()).await;
    }

    async fn report(&self, connection: &Connection) -> BackendResult<Report> {
        let request = cmd("SENTINEL").arg("MASTER").arg(&self.service).to_owned();
        let reply = connection.one(request).await?.value("SENTINEL MASTER").map_err(|cause| match cause.code() {
            Some("ERR") => {
                BackendError::new(BackendErrorKind::Rejected, "a sentinel watches no service of the name in the URL")
            }
            _ => cause,
        })?;
        read(&reply).ok_or_else(|| connection.out_of_step("SENTINEL MASTER"))
    }
}

impl Vouch {
    /// Returns whether a lease may be renewed as of this time: a majority of the sentinels was asked no longer before
    /// it than they take to find a server dead, and took this one for the primary and alive.
    pub(super) fn holds(&self, mark: Instant) -> bool {
        let Some((address, _since)) = &self.named else { return true };
        let sentinels = &self.sentinels;
        let vouches = sentinels.panel.borrow().vouches(address, mark);
        match (sentinels.vouched.swap(vouches, Ordering::Relaxed), vouches) {
            (true, false) => match sentinels.lines.due() {
                Some(others) => tracing::warn!(others, "no majority of the sentinels vouches for the primary"),
                None => tracing::debug!("no majority of the sentinels vouches for the primary"),
            },
            (false, true) => tracing::info!("a majority of the sentinels vouches for the primary again"),
            _ => {}
        }
        vouches
    }

    /// Waits until a majority names another server.
    pub(super) async fn withdrawn(&self) -> BackendError {
        let Some((address, since)) = &self.named else { return pending().await };
        let mut panel = self.sentinels.panel.subscribe();
        // The sender is that of the sentinels, which this keeps.
        let _ = panel.wait_for(|panel| panel.named(*since).is_some_and(|named| named != address)).await;
        BackendError::new(BackendErrorKind::Unavailable, "the sentinels name another primary")
    }
}

/// Connects to a sentinel, which from then on says when it takes another server for the primary.
async fn open(target: &Target, loss: &Arc<Loss>, hint: watch::Sender<u64>) -> BackendResult<Connection> {
    let pushed = {
        let loss = Arc::clone(loss);
        move |push: PushInfo| match push.kind {
            PushKind::Message => hint.send_modify(|hints| *hints += 1),
            PushKind::Disconnection => {
                loss.declare(BackendError::new(BackendErrorKind::Unavailable, "a sentinel closed the connection"));
            }
            _ => {}
        }
    };
    let progress = Arc::new(Progress::new());
    let connection = connect(target, &progress, Arc::clone(loss), &ValueLimit::least(), pushed).await?;
    connection.subscribe(&[SWITCHED.to_vec()]).await?;
    Ok(connection)
}

/// Reads what a sentinel says of a service, `None` when that is no such reply.
fn read(reply: &Value) -> Option<Report> {
    let flat: Vec<(&Value, &Value)> = match reply {
        Value::Map(fields) => fields.iter().map(|(name, value)| (name, value)).collect(),
        Value::Array(fields) => fields.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect(),
        _ => return None,
    };
    let field = |name: &str| flat.iter().find(|(key, _)| text(key) == Some(name)).and_then(|(_, value)| text(value));
    let address = Address { host: field("ip")?.to_owned(), port: field("port")?.parse().ok()? };
    let is_down = field("flags")?.split(',').any(|flag| matches!(flag, "s_down" | "o_down"));
    let down_after = Duration::from_millis(field("down-after-milliseconds")?.parse().ok()?);
    Some(Report { address, is_down, down_after })
}

fn silent(patience: Duration) -> BackendError {
    let message = format!("a sentinel did not answer for {} ms", patience.as_millis());
    BackendError::new(BackendErrorKind::Unavailable, message)
}
