//! The canary: a change of our own making that must be reported to us, before anything is kept on the link's word.

use std::time::Duration;

use bytes::Bytes;
use redis::cmd;
use tokio::{sync::watch, time::Instant};
use twotier_core::{BackendError, BackendErrorKind, Namespace};

use crate::BackendResult;

use super::{connect::live_primary, connection::Connection};

/// The key of one connection's test, and whether the report of it came.
pub(super) struct Canary {
    key: Bytes,
    heard: watch::Sender<Option<Instant>>,
}

impl Canary {
    /// Chooses a key that nobody else uses: a control character that people do not type, and 128 random bits.
    pub(super) fn new(namespace: &Namespace) -> Self {
        let key = namespace.qualify(&format!("\u{1}canary-{:032x}", fastrand::u128(..)));
        Self { key: key.into(), heard: watch::Sender::new(None) }
    }

    #[cfg(test)]
    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Takes the report if it is that of the canary. Called in the connection's reader.
    pub(super) fn is_it(&self, key: &[u8]) -> bool {
        let own = key == self.key;
        if own {
            self.heard.send_replace(Some(Instant::now()));
        }
        own
    }

    /// Makes a change and waits for its report: returns how long that took, `None` where scripts are not allowed.
    ///
    /// What a script writes is reported to the connection that runs it too, `NOLOOP` or not, so the whole path is tested
    /// on the one connection. The key is removed by the same script: it is never seen by anyone.
    ///
    /// Sung over one connection and heard over the other, it proves that both end at one server.
    pub(super) async fn sing(&self, over: &Connection, hearing: &Connection) -> BackendResult<Option<Duration>> {
        const SCRIPT: &str = "redis.call('SET', KEYS[1], '', 'PX', 1000) return redis.call('UNLINK', KEYS[1])";
        self.heard.send_replace(None);
        let sent = Instant::now();
        let sung = over.one(cmd("EVAL").arg(SCRIPT).arg(1).arg(&self.key[..])).await;
        match sung {
            Ok(_removed) => {}
            Err(cause) if matches!(cause.kind(), BackendErrorKind::Denied | BackendErrorKind::Rejected) => {
                tracing::debug!(%cause, "the link does not test itself");
                return Ok(None);
            }
            Err(cause) => return Err(cause),
        }
        // The second of two replies is behind the report, on every server.
        live_primary(hearing).await?;
        match *self.heard.borrow() {
            Some(heard) => Ok(Some(heard.saturating_duration_since(sent))),
            None => Err(BackendError::new(
                BackendErrorKind::Unsupported,
                "the server does not report changes although it says so; ask for coherence `none` to go without",
            )),
        }
    }
}
