//! Making a link: from the socket to the proof that changes are reported on it.
//!
//! Three round trips beside those of TCP and TLS: greetings; tracking and what is needed of the server; the proof. Each
//! is one pipeline on both connections at the same time.

use std::{sync::Arc, time::Duration};

use redis::{Pipeline, Value};
use tokio::{
    time::{Instant, timeout},
    try_join,
};
use twotier_core::{BackendError, BackendErrorKind, Coherence, LinkId, Namespace, Timestamp};

use crate::{
    BackendResult, Watch,
    redis::{
        command::{Channel, Connections, Reporting},
        wire::{Connection, Lines, Loss, MAX_BULK, Progress, Reply, Target, nonce, text},
    },
};

use super::{
    canary::Canary,
    fence::Fences,
    push::{PushHandler, disconnected},
};

/// How many times `connect_timeout` one attempt takes at most, however lively the server is.
const ATTEMPT: u32 = 10;
/// The codes of refusals that a server without room gives to writes. It reads as ever.
const NO_ROOM: [&str; 3] = ["MISCONF", "OOM", "NOREPLICAS"];

/// A new link, ready for commands.
pub(in crate::redis) struct Opened {
    pub(in crate::redis) connections: Connections,
    /// The listener's time at which changes were certainly being reported.
    pub(in crate::redis) reported_since: Timestamp,
    /// How long the canary took, where there is one.
    pub(in crate::redis) invalidation_lag: Option<Duration>,
    pub(in crate::redis) round_trip: Duration,
    /// Whether every earlier link of the handle to this server is known to have ended there.
    pub(in crate::redis) fenced: bool,
    /// The server, as it names itself anew at each start.
    pub(in crate::redis) run_id: Option<String>,
}

/// Makes a link: without a watch, and where nothing is to be reported, of one connection, else of two.
///
/// An attempt ends after a silence of the target's `connect_timeout`.
pub(in crate::redis) async fn open(
    target: &Target,
    progress: &Arc<Progress>,
    watch: Option<&Watch>,
    fences: &Fences,
) -> BackendResult<Opened> {
    let silence = target.connect_timeout;
    let attempt = async {
        match watch {
            Some(watch) if watch.coherence != Some(Coherence::None) => pair(target, progress, watch, fences).await,
            _ => single(target, progress, watch, fences).await,
        }
    };
    let unavailable = |message: String| Err(BackendError::new(BackendErrorKind::Unavailable, message));
    match timeout(silence * ATTEMPT, progress.while_alive(silence, attempt)).await {
        Ok(Some(opened)) => opened,
        Ok(None) => {
            let step = progress.step();
            let hint = if step == "the TLS handshake" { "; does the server speak TLS on this port?" } else { "" };
            unavailable(format!("{step} was not answered for {} ms{hint}", silence.as_millis()))
        }
        Err(_elapsed) => unavailable(format!("no link within {} ms", (silence * ATTEMPT).as_millis())),
    }
}

/// One connection for everything.
async fn single(
    target: &Target,
    progress: &Arc<Progress>,
    watch: Option<&Watch>,
    fences: &Fences,
) -> BackendResult<Opened> {
    let (namespace, loss) = (watch.map(|watch| &watch.namespace), Arc::new(Loss::default()));
    let largest = watch.map_or(MAX_BULK, largest);
    let pushed = {
        let loss = Arc::clone(&loss);
        move |push: redis::PushInfo| {
            if push.kind == redis::PushKind::Disconnection {
                disconnected(&loss);
            }
        }
    };
    let connection = Connection::open(target, progress, loss, largest, pushed).await?;
    connection.hello().primary()?;
    progress.begin("the test of the server");
    let canary = namespace.map(Canary::new);
    let mut commands = Pipeline::new();
    commands.cmd("INFO").arg("server");
    let mut count = 1;
    if let Some(canary) = &canary {
        count += add_reads(&mut commands, canary) + add_write(&mut commands, canary);
        // Value and time of a read are one transaction here.
        commands.cmd("MULTI").cmd("EXEC");
        count += 2;
    }
    let asked = Instant::now();
    let mut replies = connection.ask(&commands, count).await?;
    let round_trip = asked.elapsed();
    let run_id = run_id(&mut replies)?;
    let mut coalesces = true;
    if let Some(namespace) = namespace {
        coalesces = may_read(&mut replies, namespace)?;
        may_write(&mut replies, namespace, &target.lines)?;
        replies.okay("MULTI").map_err(|cause| with_cure(cause, "MULTI", namespace))?;
        replies.array("EXEC").map_err(|cause| with_cure(cause, "EXEC", namespace))?;
    }
    fence(&connection, fences, run_id.as_deref()).await?;
    Ok(Opened {
        connections: Connections::new(connection.clone(), connection, Reporting::None, coalesces),
        reported_since: Timestamp::ZERO,
        invalidation_lag: None,
        round_trip,
        fenced: fences.is_clear(run_id.as_deref()),
        run_id,
    })
}

/// A connection on which changes are reported, and one for data.
async fn pair(target: &Target, progress: &Arc<Progress>, watch: &Watch, fences: &Fences) -> BackendResult<Opened> {
    let (namespace, loss) = (&watch.namespace, Arc::new(Loss::default()));
    let (canary, channel) = (Arc::new(Canary::new(namespace)), Arc::new(Channel::new(namespace)));
    let handler =
        PushHandler::new(Arc::clone(&watch.listener), Arc::clone(&canary), Arc::clone(&channel), Arc::clone(&loss));
    let ended = Arc::clone(&loss);
    let (tracked, data) = try_join!(
        Connection::open(target, progress, Arc::clone(&loss), largest(watch), move |push| handler.apply(&push)),
        Connection::open(target, progress, Arc::clone(&loss), largest(watch), move |push| {
            if push.kind == redis::PushKind::Disconnection {
                disconnected(&ended);
            }
        }),
    )?;
    tracked.hello().primary()?;
    data.hello().primary()?;

    progress.begin("the test of the server");
    let (tracking, (data_run_id, coalesces)) =
        try_join!(begin_reports(&tracked, watch, &channel), survey(&data, &canary, namespace))?;
    let (reporting, refused) = match tracking.outcome {
        Tracking::On => (Reporting::Broadcast, None),
        Tracking::Subscribed => (Reporting::Channel(Arc::clone(&channel)), None),
        // The server refuses the best, and nobody asked for it: the next best.
        Tracking::Refused(cause) => {
            tracing::debug!(%cause, %namespace, "no tracking");
            tracked.subscribe(channel.name()).await.map_err(|cause| with_cure(cause, "SUBSCRIBE", namespace))?;
            (Reporting::Channel(Arc::clone(&channel)), Some(cause))
        }
    };

    progress.begin("the test of the link");
    // Changes are being reported by now: nothing that is acknowledged from now on is missed.
    let reported_since = watch.listener.mark(LinkId::ONLY).at;
    let run_id = tracking.run_id;
    let draft = Draft { tracked: &tracked, data: &data, canary: &canary, namespace, lines: &target.lines };
    let sent = Instant::now();
    let announced = match &reporting {
        Reporting::Channel(channel) => Some(&**channel),
        _ => None,
    };
    let (probed, ()) = try_join!(draft.probe(announced), fence(&tracked, fences, run_id.as_deref())).map_err(
        |cause| match refused {
            // What was tried first belongs to the story.
            Some(refused) if cause.kind() == BackendErrorKind::Denied => cause.with_source(refused),
            _ => cause,
        },
    )?;
    let round_trip = sent.elapsed();
    let one_server = (&run_id, &data_run_id);
    let invalidation_lag = draft.seen(probed, announced.is_some(), one_server).await?.map(|seen| seen - sent);
    Ok(Opened {
        connections: Connections::new(tracked, data, reporting, coalesces),
        reported_since,
        invalidation_lag,
        round_trip,
        fenced: fences.is_clear(run_id.as_deref()),
        run_id,
    })
}

/// The largest value that is read, in bytes. The replies to the handshake may be as large in any case.
fn largest(watch: &Watch) -> u64 {
    (watch.max_value_bytes as u64).max(64 * 1024)
}

/// What became of the request for reports.
struct TrackingStart {
    outcome: Tracking,
    run_id: Option<String>,
}

enum Tracking {
    On,
    Subscribed,
    /// Refused for good, where nobody asked for it.
    Refused(BackendError),
}

/// Asks the server to report every change under the prefix, except those made on this connection, and asks it whether
/// it understood; or subscribes to the channel.
async fn begin_reports(tracked: &Connection, watch: &Watch, channel: &Channel) -> BackendResult<TrackingStart> {
    let mut commands = Pipeline::new();
    commands.cmd("INFO").arg("server");
    if watch.coherence == Some(Coherence::PubSub) {
        let asked = async {
            let mut replies = tracked.ask(&commands, 1).await?;
            run_id(&mut replies)
        };
        let subscribed = async {
            tracked.subscribe(channel.name()).await.map_err(|cause| with_cure(cause, "SUBSCRIBE", &watch.namespace))
        };
        let (run_id, ()) = try_join!(asked, subscribed)?;
        return Ok(TrackingStart { outcome: Tracking::Subscribed, run_id });
    }
    let prefix = watch.namespace.prefix();
    commands.cmd("CLIENT").arg(&["TRACKING", "ON", "BCAST", "PREFIX", prefix, "NOLOOP"]);
    commands.cmd("CLIENT").arg("TRACKINGINFO");
    let mut replies = tracked.ask(&commands, 3).await?;
    let run_id = run_id(&mut replies)?;
    let on = replies.okay("CLIENT TRACKING");
    let info = replies.value("CLIENT TRACKINGINFO");
    let outcome = match on.and(info).and_then(|info| is_on(tracked, &info)) {
        Ok(()) => Tracking::On,
        // Only what does not pass is a reason for another mode: `NOPERM`, and a server that does not know the command.
        Err(cause) if matches!(cause.code(), Some("NOPERM" | "ERR")) => {
            let kind = match cause.kind() {
                BackendErrorKind::Denied => BackendErrorKind::Denied,
                _ => BackendErrorKind::Unsupported,
            };
            let message = format!(
                "the server refuses to report changes ({cause}): allow the user `+client|tracking \
                 +client|trackinginfo`, or ask for coherence `pub-sub` or `none`"
            );
            Tracking::Refused(BackendError::new(kind, message).with_code(cause.code().unwrap_or("ERR")).not_sent())
        }
        Err(cause) if cause.kind() == BackendErrorKind::Unsupported => Tracking::Refused(cause),
        Err(cause) => return Err(cause),
    };
    match outcome {
        Tracking::Refused(cause) if watch.coherence.is_some() => Err(cause),
        outcome => Ok(TrackingStart { outcome, run_id }),
    }
}

fn is_on(tracked: &Connection, info: &Value) -> BackendResult<()> {
    let Value::Map(fields) = info else { return Err(tracked.out_of_step("CLIENT TRACKINGINFO")) };
    let flags = fields.iter().find(|(name, _)| text(name) == Some("flags")).map(|(_, flags)| flags);
    let Some(Value::Set(flags) | Value::Array(flags)) = flags else {
        return Err(tracked.out_of_step("CLIENT TRACKINGINFO"));
    };
    let has = |wanted: &str| flags.iter().any(|flag| text(flag) == Some(wanted));
    if has("on") && has("bcast") && has("noloop") {
        Ok(())
    } else {
        Err(BackendError::new(BackendErrorKind::Unsupported, "the server did not turn CLIENT TRACKING on"))
    }
}

/// Asks the data connection for its server, and whether the user may read the namespace. Returns the server's name of
/// itself, and whether reads can be coalesced.
async fn survey(data: &Connection, canary: &Canary, namespace: &Namespace) -> BackendResult<(Option<String>, bool)> {
    let mut commands = Pipeline::new();
    commands.cmd("INFO").arg("server");
    let count = add_reads(&mut commands, canary);
    let mut replies = data.ask(&commands, count + 1).await?;
    let run_id = run_id(&mut replies)?;
    Ok((run_id, may_read(&mut replies, namespace)?))
}

fn add_reads(commands: &mut Pipeline, canary: &Canary) -> usize {
    for command in ["GET", "PTTL", "MGET"] {
        commands.cmd(command).arg(canary.key());
    }
    3
}

fn add_write(commands: &mut Pipeline, canary: &Canary) -> usize {
    commands.cmd("SET").arg(canary.key()).arg("").arg("PX").arg(1000);
    commands.cmd("UNLINK").arg(canary.key());
    2
}

/// Reads whether a user may do what reads need, and returns whether `MGET` is part of that.
fn may_read(replies: &mut Reply, namespace: &Namespace) -> BackendResult<bool> {
    replies.bulk("GET").map_err(|cause| with_cure(cause, "GET", namespace))?;
    replies.integer("PTTL").map_err(|cause| with_cure(cause, "PTTL", namespace))?;
    match replies.array("MGET") {
        Ok(_nothing) => Ok(true),
        // Keys are then read one by one.
        Err(cause) if matches!(cause.code(), Some("NOPERM" | "ERR")) => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// Reads whether a user may write, and returns why it cannot for the moment.
fn may_write(replies: &mut Reply, namespace: &Namespace, lines: &Lines) -> BackendResult<Option<BackendError>> {
    let set = replies.okay("SET");
    let removed = replies.integer("UNLINK").map(drop);
    let no_room = |cause: &BackendError| cause.code().is_some_and(|code| NO_ROOM.contains(&code));
    match (set, removed) {
        (Err(cause), _) if !no_room(&cause) => Err(with_cure(cause, "SET", namespace)),
        (_, Err(cause)) if !no_room(&cause) => Err(with_cure(cause, "UNLINK", namespace)),
        (Err(cause), _) | (_, Err(cause)) => {
            match lines.due() {
                Some(others) => tracing::warn!(%cause, %namespace, others, "the server takes no writes"),
                None => tracing::debug!(%cause, %namespace, "the server takes no writes"),
            }
            Ok(Some(cause))
        }
        (Ok(()), Ok(())) => Ok(None),
    }
}

/// Describes what a user lacks.
fn with_cure(cause: BackendError, command: &str, namespace: &Namespace) -> BackendError {
    if cause.code() != Some("NOPERM") {
        return cause;
    }
    let (word, prefix) = (command.to_lowercase(), namespace.prefix());
    let scope = match command {
        "PUBLISH" | "SUBSCRIBE" => format!("+{word} &{prefix}*"),
        "MULTI" | "EXEC" => format!("+{word}"),
        _ => format!("+{word} ~{prefix}*"),
    };
    let message = format!("the user may not run {command} for namespace `{namespace}`: allow it with `{scope}`");
    BackendError::new(BackendErrorKind::Denied, message).with_code("NOPERM").not_sent()
}

/// Reads the server's name of itself from `INFO`, `None` where the user may not ask.
fn run_id(replies: &mut Reply) -> BackendResult<Option<String>> {
    let info = match replies.value("INFO") {
        Ok(Value::VerbatimString { text, .. }) => text,
        Ok(Value::BulkString(bytes)) => String::from_utf8_lossy(&bytes).into_owned(),
        Ok(_other) => return Err(replies.connection().out_of_step("INFO")),
        Err(cause) if matches!(cause.kind(), BackendErrorKind::Denied | BackendErrorKind::Rejected) => return Ok(None),
        Err(cause) => return Err(cause),
    };
    Ok(info.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned()))
}

/// Ends the connections of earlier links at this server, and asks for a reply.
///
/// The reply to a request that was sent after an earlier reply had arrived fences everything that was acknowledged to
/// anyone before that earlier request was sent; a single reply does not, where a server acknowledges writes before the
/// end of the cycle that pushes them (Redis 8 with several I/O threads).
async fn fence(connection: &Connection, fences: &Fences, run_id: Option<&str>) -> BackendResult<()> {
    let ids = fences.at(run_id);
    let mut commands = Pipeline::with_capacity(ids.len() + 1);
    for id in &ids {
        commands.cmd("CLIENT").arg("KILL").arg("ID").arg(*id);
    }
    let mark = nonce();
    commands.cmd("PING").arg(&mark);
    let mut replies = connection.ask(&commands, ids.len() + 1).await?;
    let mut refused = None;
    for _ in &ids {
        match replies.integer("CLIENT KILL") {
            Ok(_ended) => {}
            Err(cause) if matches!(cause.kind(), BackendErrorKind::Denied | BackendErrorKind::Rejected) => {
                refused = Some(cause);
            }
            Err(cause) => return Err(cause),
        }
    }
    replies.pong(&mark)?;
    match refused {
        None => fences.ended(&ids, run_id),
        Some(cause) => tracing::debug!(%cause, "earlier connections of ours may still write"),
    }
    Ok(())
}

/// Two connections of which it is not known yet that they make a link.
struct Draft<'d> {
    tracked: &'d Connection,
    data: &'d Connection,
    canary: &'d Canary,
    namespace: &'d Namespace,
    lines: &'d Lines,
}

impl Draft<'_> {
    /// Makes a change over the data connection, which is foreign to the other one, and where writers notify each other
    /// of their writes announces it. Returns why it could not be made for the moment.
    async fn probe(&self, channel: Option<&Channel>) -> BackendResult<Option<BackendError>> {
        let mut commands = Pipeline::new();
        let mut count = add_write(&mut commands, self.canary);
        if let Some(channel) = channel {
            commands.cmd("MULTI").cmd("PUBLISH").arg(channel.name()).arg(channel.keys([self.canary.key()])).cmd("EXEC");
            count += 3;
        }
        let mut replies = self.data.ask(&commands, count).await?;
        let no_room = may_write(&mut replies, self.namespace, self.lines)?;
        if channel.is_some() {
            replies.okay("MULTI").map_err(|cause| with_cure(cause, "MULTI", self.namespace))?;
            replies.queued("PUBLISH").map_err(|cause| with_cure(cause, "PUBLISH", self.namespace))?;
            replies.array("EXEC").map_err(|cause| with_cure(cause, "EXEC", self.namespace))?;
        }
        Ok(no_room)
    }

    /// Waits for the report of that change over the tracked connection: it proves that changes are reported, and that
    /// both connections end at one server. Returns when it came, `None` where no change could be made and the server
    /// says that it is one.
    async fn seen(
        &self,
        no_room: Option<BackendError>,
        announced: bool,
        run_ids: (&Option<String>, &Option<String>),
    ) -> BackendResult<Option<Instant>> {
        if let Some(cause) = no_room
            && !announced
        {
            return if run_ids.0.is_some() && run_ids.0 == run_ids.1 { Ok(None) } else { Err(cause) };
        }
        let answered = async {
            // The second of two replies is behind the report, on every server.
            self.tracked.ping().await?;
            self.tracked.ping().await
        };
        tokio::select! {
            biased;
            () = self.canary.report() => {}
            answered = answered => answered?,
        }
        match (self.canary.seen(), run_ids) {
            (Some(seen), _) => Ok(Some(seen)),
            (None, (Some(one), Some(other))) if one != other => Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "two connections to the same address ended at different servers",
            )),
            (None, _) => Err(BackendError::new(
                BackendErrorKind::Unsupported,
                "the server does not report changes although it says so; ask for coherence `none` to go without",
            )),
        }
    }
}
