//! Admitting caches to a link, as it comes up or later: what their users may do, and that changes of theirs are
//! reported.

use std::{sync::Arc, time::Duration};

use redis::{Pipeline, Value};
use tokio::{time::Instant, try_join};
use twotier_core::{BackendError, BackendErrorKind, Coherence, Timestamp};

use crate::{
    BackendResult,
    redis::{
        command::{Channels, Commands, Connections, Reporting},
        listeners::{Listeners, Member},
        wire::{Connection, Progress, Reply, Target, nonce, text},
    },
};

use super::{
    canary::{Canary, canary},
    fence::Fences,
    permissions::{READS, WRITES, add_reads, add_write, is_without_room, may_read, may_write, with_cure},
};

/// How many replies an introduction has.
const INTRODUCTION: usize = 2;

/// The connections of a link, and what was found out about them.
pub(in crate::redis) struct Session {
    pub(super) target: Arc<Target>,
    pub(super) progress: Arc<Progress>,
    pub(super) listeners: Arc<Listeners>,
    pub(super) tracked: Connection,
    pub(super) data: Connection,
    pub(super) canary: Arc<Canary>,
    pub(super) channels: Arc<Channels>,
    /// How changes are reported, decided by the first admission.
    pub(super) reporting: Reporting,
    /// Under which prefixes changes are reported.
    pub(super) prefixes: Vec<String>,
    /// Whether the user may run `MGET`.
    pub(super) may_mget: bool,
    /// Whether every earlier link of the backend to this server is known to have ended there.
    pub(in crate::redis) fenced: bool,
    pub(in crate::redis) round_trip: Duration,
    /// The server, as it names itself anew at each start; `None` where it may not be asked.
    pub(in crate::redis) run_id: Option<String>,
}

/// What became of a cache that wants to be on a link.
pub(in crate::redis) struct Admission {
    pub(in crate::redis) member: Arc<Member>,
    pub(in crate::redis) outcome: BackendResult<Admitted>,
}

/// Changes under the namespace of a cache are being reported.
#[derive(Clone, Copy, Debug)]
pub(in crate::redis) struct Admitted {
    /// The listener's time at which they certainly were.
    pub(in crate::redis) reported_since: Timestamp,
    /// The same by our own clock.
    pub(in crate::redis) marked: Instant,
    /// How long the canary took, where it was sent.
    pub(in crate::redis) lag: Option<Duration>,
}

/// What a canary showed.
#[derive(Clone, Debug)]
pub(in crate::redis) enum Verdict {
    /// The report of it came, after so long.
    Reported(Duration),
    /// It could not be sent for the moment, for this cause, which says nothing about reports.
    Unknown(BackendError),
    /// The user may not send it.
    Denied(BackendError),
    /// It was sent, and no report of it came.
    Silent,
    /// No key of the namespace can lie at this server: there is nothing to test.
    Elsewhere,
}

impl Session {
    /// Returns the commands of the link, once something was admitted.
    pub(in crate::redis) fn commands(&self) -> Commands {
        let listeners = Arc::clone(&self.listeners);
        let (tracked, data, reporting) = (self.tracked.clone(), self.data.clone(), self.reporting.clone());
        Commands::new(Connections::new(tracked, data, reporting, listeners, self.may_mget))
    }

    /// The connection that carries the reports.
    pub(in crate::redis) fn tracked(&self) -> &Connection {
        &self.tracked
    }

    /// Tests whether these caches can be on this link, in two round trips. Beside the second one, connections of
    /// earlier links are ended. Of a cache no key of which can lie at this server nothing became: changes are reported
    /// to it once there can, and it is tested then. An error is that of the link.
    pub(in crate::redis) async fn admit(
        &mut self,
        members: &[Arc<Member>],
        earlier: Option<&Fences>,
    ) -> BackendResult<Vec<Admission>> {
        let (reports, survey) = try_join!(self.begin_reports(members), self.survey(members))?;
        self.prefixes.extend_from_slice(&reports.prefixes);
        self.reporting = reports.reporting.clone();
        self.run_id.clone_from(&reports.run_id);
        let mut outcomes: Vec<BackendResult<()>> = Vec::with_capacity(members.len());
        for (reported, read) in reports.outcomes.iter().cloned().zip(survey.outcomes) {
            outcomes.push(match (reported, read) {
                (Ok(()), Ok(may_mget)) => {
                    self.may_mget &= may_mget;
                    Ok(())
                }
                (Err(cause), _) | (_, Err(cause)) => Err(reports.with_story(cause)),
            });
        }
        self.progress.begin("the test of the link");
        // Changes are being reported by now: nothing that is acknowledged from now on is missed.
        let marked = Instant::now();
        let since: Vec<_> = members.iter().map(|member| member.mark().at).collect();
        let may: Vec<_> = members.iter().zip(&outcomes).filter(|(_, may)| may.is_ok()).map(|(m, _)| m).collect();
        let sent = Instant::now();
        let run_id = self.run_id.as_deref();
        let fenced = async {
            match earlier {
                Some(fences) => fence(&self.tracked, fences, run_id).await.map(|()| fences.is_clear(run_id)),
                None => Ok(self.fenced),
            }
        };
        let (verdicts, fenced) = try_join!(self.probe(&may), fenced)?;
        self.round_trip = sent.elapsed();
        self.fenced = fenced;
        let one_server = self.run_id == survey.run_id;
        let mut verdicts = verdicts.into_iter();
        let mut admissions = Vec::with_capacity(members.len());
        let mut no_room = None;
        for ((member, outcome), reported_since) in members.iter().zip(outcomes).zip(since) {
            let outcome = match outcome {
                Err(cause) => Err(cause),
                Ok(()) => match verdicts.next() {
                    Some(Verdict::Reported(lag)) => Ok(Some(lag)),
                    // A server without room reads and reports as ever; that it is one says its name.
                    Some(Verdict::Unknown(cause)) if is_without_room(&cause) && one_server && self.run_id.is_some() => {
                        no_room = Some(cause);
                        Ok(None)
                    }
                    Some(Verdict::Unknown(cause)) => Err(cause),
                    Some(Verdict::Denied(cause)) => Err(reports.with_story(cause)),
                    Some(Verdict::Elsewhere) => continue,
                    Some(Verdict::Silent) if !one_server && self.run_id.is_some() && survey.run_id.is_some() => {
                        return Err(BackendError::new(
                            BackendErrorKind::Unavailable,
                            "two connections to the same address ended at different servers",
                        ));
                    }
                    Some(Verdict::Silent) | None => Err(BackendError::new(
                        BackendErrorKind::Unsupported,
                        "the server does not report changes although it says so; ask for coherence `none` to go \
                         without",
                    )),
                },
            };
            let outcome = outcome.map(|lag| Admitted { reported_since, marked, lag });
            admissions.push(Admission { member: Arc::clone(member), outcome });
        }
        if let Some(cause) = no_room {
            let namespaces = self.listeners.names();
            match self.target.lines.due() {
                Some(others) => tracing::warn!(%cause, namespace = %namespaces, others, "the server takes no writes"),
                None => tracing::debug!(%cause, namespace = %namespaces, "the server takes no writes"),
            }
        }
        Ok(admissions)
    }

    /// Makes a change under each of these namespaces over the data connection, which is foreign to the tracked one, and
    /// waits for the reports over that one: they prove that changes are reported, and that both connections end at one
    /// server. Where nothing is to be reported, it proves that changes can be made.
    pub(in crate::redis) async fn probe(&self, members: &[&Arc<Member>]) -> BackendResult<Vec<Verdict>> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        let keys = self.canary.set_free(members.iter().map(|member| member.namespace()), self.listeners.place());
        let sent = Instant::now();
        let made = self.make_changes(members, &keys).await?;
        let took = sent.elapsed();
        let expected = |index: &usize| {
            members[*index].is_reported() && keys[*index].is_some() && matches!(made.get(*index), Some(Ok(())))
        };
        if (0..members.len()).any(|index| expected(&index)) {
            let answered = async {
                // The second of two replies is behind the reports, on every server.
                self.tracked.ping().await?;
                self.tracked.ping().await
            };
            let waited = (0..members.len()).filter(expected).map(|index| &**members[index]);
            tokio::select! {
                biased;
                () = self.canary.reports(waited) => {}
                answered = answered => answered?,
            }
        }
        let mut verdicts = Vec::with_capacity(members.len());
        for ((member, key), made) in members.iter().zip(&keys).zip(made) {
            verdicts.push(match made {
                _ if key.is_none() => Verdict::Elsewhere,
                Ok(()) if !member.is_reported() => Verdict::Reported(took),
                Ok(()) => match self.canary.seen_in(member.namespace()) {
                    Some(seen) => Verdict::Reported(seen - sent),
                    None => Verdict::Silent,
                },
                Err(cause) if cause.kind() == BackendErrorKind::Denied => Verdict::Denied(cause),
                Err(cause) => Verdict::Unknown(cause),
            });
        }
        Ok(verdicts)
    }

    /// Makes the changes, and where writers notify each other of their writes announces them. What a server without
    /// room is announced all the same, and is as good a canary.
    async fn make_changes(
        &self,
        members: &[&Arc<Member>],
        keys: &[Option<Vec<u8>>],
    ) -> BackendResult<Vec<BackendResult<()>>> {
        let mut commands = Pipeline::new();
        let mut count = 0;
        for (member, key) in members.iter().zip(keys) {
            let Some(key) = key else { continue };
            add_write(&mut commands, key);
            count += WRITES;
            match &self.reporting {
                Reporting::Broadcast if member.is_reported() => {}
                Reporting::Channel(channels) if member.is_reported() => {
                    let (channel, message) = (Channels::name(member.namespace()), channels.message([&key[..]]));
                    commands.cmd("MULTI").cmd("PUBLISH").arg(channel).arg(message).cmd("EXEC");
                    count += 3;
                }
                // Value and time of a read are one transaction here.
                _ => {
                    commands.cmd("MULTI").cmd("EXEC");
                    count += 2;
                }
            }
        }
        if count == 0 {
            return Ok(vec![Ok(()); members.len()]);
        }
        let mut replies = self.data.ask(&commands, count).await?;
        let made = |(member, key): (&&Arc<Member>, &Option<_>)| match key {
            Some(_) => self.made(&mut replies, member),
            None => Ok(()),
        };
        let made = members.iter().zip(keys).map(made).collect();
        match self.data.loss().cause() {
            Some(lost) => Err(lost),
            None => Ok(made),
        }
    }

    fn made(&self, replies: &mut Reply, member: &Member) -> BackendResult<()> {
        let namespace = member.namespace();
        let written = may_write(replies, namespace);
        let announced = match &self.reporting {
            Reporting::Broadcast if member.is_reported() => None,
            Reporting::Channel(_) if member.is_reported() => Some(within_transaction(replies, Some("PUBLISH"))),
            _ => Some(within_transaction(replies, None)),
        };
        let announced = announced.map(|result| result.map_err(|(cause, command)| with_cure(cause, command, namespace)));
        match (written, announced) {
            (Err(cause), Some(announced)) if is_without_room(&cause) => announced,
            (written, announced) => written.and(announced.unwrap_or(Ok(()))),
        }
    }

    /// Says who we are, by a command that needs no other permission than a heartbeat, and asks for the server.
    fn introduction(&self) -> Pipeline {
        let mut commands = Pipeline::new();
        commands.cmd("HELLO").arg(3).arg("SETNAME").arg(&self.target.client_name).cmd("INFO").arg("server");
        commands
    }

    /// Asks the data connection for its server, and whether the user may read the namespaces.
    async fn survey(&self, members: &[Arc<Member>]) -> BackendResult<Survey> {
        let (mut commands, place) = (self.introduction(), self.listeners.place());
        let keys: Vec<_> = members.iter().map(|member| canary(member.namespace(), place)).collect();
        let here = keys.iter().flatten();
        here.clone().for_each(|key| add_reads(&mut commands, key));
        let mut replies = self.data.ask(&commands, INTRODUCTION + READS * here.count()).await?;
        let run_id = run_id(&mut replies)?;
        let outcome = |(member, key): (&Arc<Member>, &Option<_>)| match key {
            Some(_) => may_read(&mut replies, member.namespace()),
            None => Ok(true),
        };
        let outcomes = members.iter().zip(&keys).map(outcome).collect();
        match self.data.loss().cause() {
            Some(lost) => Err(lost),
            None => Ok(Survey { run_id, outcomes }),
        }
    }

    /// Asks the server to report every change under the namespaces, except those made on this connection, and asks it
    /// whether it understood; or subscribes to their channels.
    async fn begin_reports(&self, members: &[Arc<Member>]) -> BackendResult<Reports> {
        let mut reports = Reports {
            run_id: None,
            reporting: self.reporting.clone(),
            prefixes: Vec::new(),
            outcomes: vec![Ok(()); members.len()],
            refused: None,
        };
        let asked = self.listeners.mode();
        let reported: Vec<_> = members.iter().filter(|member| member.is_reported()).collect();
        let tracks = match &self.reporting {
            Reporting::Broadcast => true,
            Reporting::Channel(_) => false,
            Reporting::None => asked != Some(Coherence::PubSub),
        };
        for member in &reported {
            let prefix = self.target.key_prefix.as_ref().unwrap_or_else(|| member.namespace()).prefix();
            if tracks && !self.prefixes.iter().chain(&reports.prefixes).any(|tracked| tracked == prefix) {
                reports.prefixes.push(prefix.to_owned());
            }
        }
        let (mut commands, mut count) = (self.introduction(), INTRODUCTION);
        if !reports.prefixes.is_empty() {
            commands.cmd("CLIENT").arg(&["TRACKING", "ON", "BCAST"]);
            for prefix in &reports.prefixes {
                commands.arg("PREFIX").arg(prefix);
            }
            commands.arg("NOLOOP").cmd("CLIENT").arg("TRACKINGINFO").cmd("INFO").arg("stats");
            count += 3;
        }
        let subscribes = async {
            match tracks || reported.is_empty() {
                true => Ok(None),
                false => self.subscribe(&reported).await.map(Some),
            }
        };
        let (mut replies, mut outcomes) = try_join!(self.tracked.ask(&commands, count), subscribes)?;
        reports.run_id = run_id(&mut replies)?;
        if outcomes.is_some() {
            reports.reporting = Reporting::Channel(Arc::clone(&self.channels));
        }
        if !reports.prefixes.is_empty() {
            match self.is_tracking(&mut replies) {
                Ok(()) => {
                    reports.reporting = Reporting::Broadcast;
                    self.listeners.warn_of_prefixes(&replies.info()?);
                }
                Err(cause) => {
                    if let Some(lost) = self.tracked.loss().cause() {
                        return Err(lost);
                    }
                    reports.prefixes.clear();
                    // The server refuses the best, and nobody asked for it: the next best.
                    let is_for_good = cause.kind() == BackendErrorKind::Unsupported || cause.code() == Some("NOPERM");
                    if is_for_good && asked.is_none() {
                        tracing::debug!(%cause, namespace = %self.listeners.names(), "no tracking");
                        reports.refused = Some(cause);
                        reports.reporting = Reporting::Channel(Arc::clone(&self.channels));
                        outcomes = Some(self.subscribe(&reported).await?);
                    } else {
                        outcomes = Some(vec![Err(cause); reported.len()]);
                    }
                }
            }
        }
        let mut outcomes = outcomes.into_iter().flatten();
        for (_, outcome) in members.iter().zip(&mut reports.outcomes).filter(|(member, _)| member.is_reported()) {
            *outcome = outcomes.next().unwrap_or(Ok(()));
        }
        Ok(reports)
    }

    /// Subscribes to the channels of these caches: at once where the user may, else to one after the other.
    async fn subscribe(&self, members: &[&Arc<Member>]) -> BackendResult<Vec<BackendResult<()>>> {
        let names: Vec<_> = members.iter().map(|member| Channels::name(member.namespace())).collect();
        let mut outcomes = Vec::with_capacity(members.len());
        match self.tracked.subscribe(&names).await {
            Err(cause) if members.len() > 1 && cause.kind() == BackendErrorKind::Denied => {
                for name in &names {
                    outcomes.push(self.tracked.subscribe(std::slice::from_ref(name)).await);
                }
            }
            outcome => outcomes.resize(members.len(), outcome),
        }
        if let Some(lost) = self.tracked.loss().cause() {
            return Err(lost);
        }
        let cured = |(outcome, member): (BackendResult<()>, &&Arc<Member>)| {
            outcome.map_err(|cause| with_cure(cause, "SUBSCRIBE", member.namespace()))
        };
        Ok(outcomes.into_iter().zip(members).map(cured).collect())
    }

    /// Reads whether the server reports changes from now on.
    fn is_tracking(&self, replies: &mut Reply) -> BackendResult<()> {
        let on = replies.okay("CLIENT TRACKING");
        let info = replies.value("CLIENT TRACKINGINFO");
        match on.and(info).and_then(|info| is_on(&self.tracked, &info)) {
            // Only what does not pass is a reason for another mode: `NOPERM`, and a server that does not know the
            // command.
            Err(cause) if matches!(cause.code(), Some("NOPERM" | "ERR")) => {
                let kind = match cause.kind() {
                    BackendErrorKind::Denied => BackendErrorKind::Denied,
                    _ => BackendErrorKind::Unsupported,
                };
                let message = format!(
                    "the server refuses to report changes ({cause}): allow the user `+client|tracking \
                     +client|trackinginfo`, or ask for coherence `pub-sub` or `none`"
                );
                Err(BackendError::new(kind, message).with_code(cause.code().unwrap_or("ERR")).not_sent())
            }
            result => result,
        }
    }
}

/// Reads the replies to a transaction of one command or none, all of them: where it did not begin the others are
/// refusals, or replies to commands by themselves.
fn within_transaction(replies: &mut Reply, command: Option<&'static str>) -> Result<(), (BackendError, &'static str)> {
    if let Err(cause) = replies.okay("MULTI") {
        for command in command.into_iter().chain(["EXEC"]) {
            let _whatever = replies.value(command);
        }
        return Err((cause, "MULTI"));
    }
    let queued = command.map_or(Ok(()), |command| replies.queued(command).map_err(|cause| (cause, command)));
    let executed = replies.array("EXEC").map(drop).map_err(|cause| (cause, "EXEC"));
    queued.and(executed)
}

/// What a server answered to the request for reports.
struct Reports {
    run_id: Option<String>,
    reporting: Reporting,
    /// Under which prefixes changes are reported from now on, beyond those from before.
    prefixes: Vec<String>,
    /// Of each cache, whether its changes are being reported.
    outcomes: Vec<BackendResult<()>>,
    /// Why the best mode is not to be had, where nobody asked for it.
    refused: Option<BackendError>,
}

impl Reports {
    /// What was tried first belongs to the story of what is denied.
    fn with_story(&self, cause: BackendError) -> BackendError {
        match &self.refused {
            Some(refused) if cause.kind() == BackendErrorKind::Denied => cause.with_source(refused.clone()),
            _ => cause,
        }
    }
}

/// What a server answered to reads.
struct Survey {
    run_id: Option<String>,
    /// Of each cache, whether the user may read its keys by `MGET`.
    outcomes: Vec<BackendResult<bool>>,
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

/// Reads the replies to an introduction: the server's name of itself, `None` where the user may not ask.
fn run_id(replies: &mut Reply) -> BackendResult<Option<String>> {
    // That a name is refused is no reason to go without a link.
    let _named = replies.value("HELLO");
    let info = replies.info()?;
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
