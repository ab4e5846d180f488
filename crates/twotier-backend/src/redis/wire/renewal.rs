//! Credentials that expire: given anew to a connection that is up, in time.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use redis::{PushInfo, cmd};
use tokio::time::{sleep, timeout};
use twotier_core::{BackendError, BackendErrorKind};

use crate::BackendResult;

use super::{
    connection::{Connection, WeakConnection},
    credentials::RedisCredentials,
    framing::ValueLimit,
    identity::Identity,
    lines::Lines,
    loss::Loss,
    progress::Progress,
    target::Target,
};

/// The part of their lifetime after which credentials are renewed, in percent: not the same for every connection, so
/// that a fleet that was started together does not ask together.
const RENEWED_AT: RangeInclusive<u32> = 70..=75;
/// The shortest pause before credentials are renewed, or tried again.
const SHORTEST: Duration = Duration::from_millis(50);
/// The longest pause before a renewal that failed is tried again: this or their lifetime, whichever is shorter.
const LONGEST: Duration = Duration::from_secs(60);
/// However short they live, a server is not asked more often than that for long.
const SPARING: Duration = Duration::from_secs(1);

/// Makes a connection, as [`Connection::open`] does, that stays authenticated for as long as it is up.
pub(in crate::redis) async fn connect(
    target: &Target,
    progress: &Arc<Progress>,
    loss: Arc<Loss>,
    limit: &ValueLimit,
    pushed: impl Fn(PushInfo) + Send + Sync + 'static,
) -> BackendResult<Connection> {
    let (connection, lifetime) = Connection::open(target, progress, loss, limit, pushed).await?;
    if let Some(lifetime) = lifetime {
        let renewal = Renewal::new(target, connection.downgrade());
        connection.loss().ends(tokio::spawn(renewal.run(lifetime)).abort_handle());
    }
    Ok(connection)
}

/// Keeps one connection authenticated.
struct Renewal {
    /// It keeps no connection open that nobody uses.
    connection: WeakConnection,
    identity: Identity,
    patience: Duration,
    lines: Arc<Lines>,
}

impl Renewal {
    fn new(target: &Target, connection: WeakConnection) -> Self {
        let (identity, lines) = (target.identity.clone(), Arc::clone(&target.lines));
        Self { connection, identity, patience: target.connect_timeout, lines }
    }

    /// Renews the credentials again and again, for as long as they expire. The task ends with the connection.
    ///
    /// A failure leaves the connection as it is: a server keeps whom it has let in, though it refuses the next
    /// password. If it ends the connection when they expire, that is a loss like any other.
    async fn run(self, mut lifetime: Duration) {
        loop {
            sleep((lifetime / 100 * fastrand::u32(RENEWED_AT)).max(SHORTEST)).await;
            let longest = lifetime.clamp(SPARING, LONGEST);
            let mut pause = (lifetime / 20).clamp(SHORTEST, longest);
            lifetime = loop {
                match timeout(self.patience, self.renew()).await.unwrap_or_else(|_elapsed| Err(self.silent())) {
                    Ok(Some(lifetime)) => break lifetime,
                    // These do not expire, or the connection is gone.
                    Ok(None) => return,
                    Err(cause) => match self.lines.due() {
                        Some(others) => tracing::warn!(%cause, others, "the credentials of a connection not renewed"),
                        None => tracing::debug!(%cause, "the credentials of a connection not renewed"),
                    },
                }
                sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(longest);
            };
        }
    }

    /// Authenticates the connection, and returns for how long.
    async fn renew(&self) -> BackendResult<Option<Duration>> {
        let Some(RedisCredentials { user, password, lifetime }) = self.identity.credentials().await? else {
            return Ok(None);
        };
        let Some(connection) = self.connection.upgrade() else { return Ok(None) };
        let auth = cmd("AUTH").arg(user.as_deref().unwrap_or("default")).arg(password).to_owned();
        connection.one(auth).await?.okay("AUTH")?;
        Ok(lifetime)
    }

    fn silent(&self) -> BackendError {
        let message = format!("no new credentials were given and taken within {} ms", self.patience.as_millis());
        BackendError::new(BackendErrorKind::Timeout, message)
    }
}
