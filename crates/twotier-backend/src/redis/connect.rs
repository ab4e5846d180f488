//! Making a connection: from the socket to the proof that changes are reported on it.

use std::{sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, Value, cmd};
use tokio::time::timeout;
use twotier_core::{BackendError, BackendErrorKind, Coherence, Timestamp};

use crate::{BackendResult, Watch};

use super::{
    canary::Canary,
    channel::Channel,
    connection::{Connection, Loss, Reporting},
    error,
    push::{self, Ears},
    target::Target,
};

/// A new connection, ready for commands.
pub(super) struct Made {
    pub(super) connection: Connection,
    /// The listener's time at which changes were certainly being reported.
    pub(super) reported_since: Timestamp,
    /// What tested the link, where that is possible.
    pub(super) canary: Option<Arc<Canary>>,
    /// How long the canary took.
    pub(super) invalidation_lag: Option<Duration>,
}

/// Connects, authenticates and, with a watch, turns on tracking and checks that it is on.
///
/// The whole attempt ends within the target's `connect_timeout`.
pub(super) async fn connect(target: &Target, watch: Option<&Watch>) -> BackendResult<Made> {
    match timeout(target.connect_timeout, attempt(target, watch)).await {
        Ok(result) => result,
        Err(_elapsed) => Err(BackendError::new(
            BackendErrorKind::Unavailable,
            format!("no connection within {} ms", target.connect_timeout.as_millis()),
        )),
    }
}

async fn attempt(target: &Target, watch: Option<&Watch>) -> BackendResult<Made> {
    let Some(watch) = watch else {
        let connection = dial(target, None, Ears::default(), Reporting::None).await?;
        live_primary(&connection).await?;
        return Ok(Made { connection, reported_since: Timestamp::ZERO, canary: None, invalidation_lag: None });
    };
    match watch.coherence {
        Some(Coherence::PubSub) => attempt_channel(target, watch).await,
        Some(_) => attempt_broadcast(target, watch).await,
        None => match attempt_broadcast(target, watch).await {
            // The server refuses the best, and nobody asked for it: the next best.
            Err(cause) if matches!(cause.kind(), BackendErrorKind::Unsupported | BackendErrorKind::Denied) => {
                tracing::debug!(%cause, "no tracking");
                attempt_channel(target, watch).await.map_err(|_no_better| cause)
            }
            made => made,
        },
    }
}

async fn attempt_broadcast(target: &Target, watch: &Watch) -> BackendResult<Made> {
    let canary = Arc::new(Canary::new(&watch.namespace));
    let ears = Ears { canary: Some(Arc::clone(&canary)), channel: None };
    let connection = dial(target, Some(watch), ears, Reporting::Broadcast).await?;
    track(&connection, watch.namespace.prefix()).await?;
    let reported_since = watch.listener.mark().at;
    live_primary(&connection).await?;
    let invalidation_lag = canary.sing(&connection, &connection).await?;
    let canary = invalidation_lag.map(|_| canary);
    Ok(Made { connection, reported_since, canary, invalidation_lag })
}

async fn attempt_channel(target: &Target, watch: &Watch) -> BackendResult<Made> {
    let channel = Arc::new(Channel::new(&watch.namespace));
    let ears = Ears { canary: None, channel: Some(Arc::clone(&channel)) };
    let connection = dial(target, Some(watch), ears, Reporting::Channel(Arc::clone(&channel))).await?;
    connection.subscribe(channel.name()).await?;
    let reported_since = watch.listener.mark().at;
    live_primary(&connection).await?;
    Ok(Made { connection, reported_since, canary: None, invalidation_lag: None })
}

/// Connects for reads alone, to the server whose changes another connection hears of.
pub(super) async fn dial_reader(target: &Target) -> BackendResult<Connection> {
    dial(target, None, Ears::default(), Reporting::Broadcast).await
}

async fn dial(target: &Target, watch: Option<&Watch>, ears: Ears, reporting: Reporting) -> BackendResult<Connection> {
    let loss = Arc::new(Loss::default());
    let listener = watch.map(|watch| Arc::clone(&watch.listener));
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        // An operation ends at its reply or at the loss of the connection, which the heartbeat declares; the deadline
        // of a call is its caller's.
        .set_response_timeout(None)
        .set_push_sender(push::sender(listener, ears, Arc::clone(&loss)));
    let dialed = target.dial.dial(config).await.map_err(|failed| error::from_redis(&failed))?;
    Ok(Connection::new(dialed, loss, reporting))
}

/// Asks the server to report every change under the prefix, except those made on this connection, and asks it whether it
/// understood.
async fn track(connection: &Connection, prefix: &str) -> BackendResult<()> {
    let on = cmd("CLIENT").arg(&["TRACKING", "ON", "BCAST", "PREFIX", prefix, "NOLOOP"]).to_owned();
    connection.one(&on).await.map_err(|cause| match cause.kind() {
        BackendErrorKind::Rejected => BackendError::new(
            BackendErrorKind::Unsupported,
            format!("the server refuses CLIENT TRACKING ({cause}); ask for coherence `none` to go without"),
        ),
        _ => cause,
    })?;
    let info = connection.one(cmd("CLIENT").arg("TRACKINGINFO")).await?;
    let Some(Value::Set(flags) | Value::Array(flags)) = field(&info, "flags") else {
        return Err(error::unexpected("CLIENT TRACKINGINFO"));
    };
    let has = |wanted: &str| flags.iter().any(|flag| text(flag) == Some(wanted));
    if has("on") && has("bcast") && has("noloop") {
        Ok(())
    } else {
        Err(BackendError::new(BackendErrorKind::Unsupported, "the server did not turn CLIENT TRACKING on"))
    }
}

/// Asks for the server's role, and then for a second reply.
///
/// The reply to a request that was sent after an earlier reply had arrived fences everything that was acknowledged to
/// anyone before that earlier request was sent; a single reply does not, where a server acknowledges writes before the
/// end of the cycle that pushes them (Redis 8 with several I/O threads).
pub(super) async fn live_primary(connection: &Connection) -> BackendResult<()> {
    let hello = connection.one(cmd("HELLO").arg(3)).await?;
    match field(&hello, "role").and_then(text) {
        Some("master") => {}
        Some(_replica) => {
            return Err(BackendError::new(
                BackendErrorKind::Unavailable,
                "the server is a replica; a primary is needed",
            ));
        }
        None => return Err(error::unexpected("HELLO")),
    }
    connection.one(&cmd("PING")).await?;
    Ok(())
}

/// Finds a field of a map reply.
fn field<'r>(reply: &'r Value, name: &str) -> Option<&'r Value> {
    match reply {
        Value::Map(fields) => fields.iter().find(|(key, _)| text(key) == Some(name)).map(|(_, value)| value),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
