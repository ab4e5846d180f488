//! The second connection, for reads alone: what is read does not stand in the way of reports and heartbeats.

use std::{future::pending, time::Duration};

use redis::cmd;
use tokio::time::{sleep, timeout};
use twotier_core::{BackendError, BackendErrorKind};

use crate::BackendResult;

use super::{
    canary::Canary,
    connect::{dial_reader, live_primary},
    connection::Connection,
    target::Target,
};

/// The pause between two signs of life.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The pause after the first failed attempt.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// Makes the second connection once there is cause for it, and watches it. Ends when it was lost, with why: the two live
/// and die together, so that one epoch covers both.
///
/// A read over it needs no order with what comes over the first connection: only the registered ticket of its key keeps
/// it, a report kills the ticket whichever comes first, and while an own write is pending nothing is kept.
/// But it must end at the same server, or the reports would be of other data. That is proved by a change made over the
/// second connection whose report comes over the first. Where scripts are not allowed there is no such proof, and no
/// second connection.
pub(super) async fn kept(connection: &Connection, target: &Target, canary: Option<&Canary>) -> BackendError {
    let Some(canary) = canary else { return pending().await };
    let mut backoff = FIRST_BACKOFF;
    let apart = loop {
        connection.wants_apart().await;
        match timeout(target.connect_timeout, made(connection, target, canary)).await {
            Ok(Ok(apart)) => break apart,
            Ok(Err(cause)) => tracing::debug!(%cause, "no second connection for reads"),
            Err(_elapsed) => tracing::debug!("no second connection for reads in time"),
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(target.max_backoff.max(FIRST_BACKOFF));
    };
    let _together = Together(&apart);
    connection.read_over(apart.clone());
    tracing::debug!("reads go over a second connection");
    loop {
        tokio::select! {
            biased;
            cause = apart.loss().wait() => return cause,
            () = sleep(HEARTBEAT) => {}
        }
        if let Err(cause) = apart.alive(target.dead_after, apart.one(&cmd("PING"))).await {
            return cause;
        }
    }
}

async fn made(connection: &Connection, target: &Target, canary: &Canary) -> BackendResult<Connection> {
    let apart = dial_reader(target).await?;
    live_primary(&apart).await?;
    match canary.sing(&apart, connection).await? {
        Some(_lag) => Ok(apart),
        None => Err(BackendError::new(BackendErrorKind::Unsupported, "scripts are not allowed")),
    }
}

/// Ends the second connection with the first.
struct Together<'c>(&'c Connection);

impl Drop for Together<'_> {
    fn drop(&mut self) {
        self.0.loss().declare(BackendError::new(BackendErrorKind::Unavailable, "the connection was lost"));
    }
}
