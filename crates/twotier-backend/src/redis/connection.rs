//! One connection to the server, and the news of its loss.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{Cmd, Pipeline, Value, aio::MultiplexedConnection};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, timeout_at},
};
use twotier_core::{BackendError, BackendErrorKind, Coherence};

use crate::BackendResult;

use super::{
    channel::Channel,
    coalesce::Coalescer,
    dial::{Dialed, Reader},
    error,
};

/// Values of so many bytes in one round trip are cause for a second connection, for reads alone: sixteen of these at
/// once are a megabyte, which holds up reports and heartbeats by 9 ms at 1 Gbit/s.
const LARGE: usize = 64 * 1024;

/// How many bytes of values one round trip should carry at most.
const ROUND_TRIP: usize = 1024 * 1024;

/// A connection that many operations share. Commands are executed in the order in which they were queued.
#[derive(Clone)]
pub(super) struct Connection(Arc<Parts>);

struct Parts {
    commands: MultiplexedConnection,
    /// Held for its end.
    _reader: Option<Arc<Reader>>,
    loss: Arc<Loss>,
    reporting: Reporting,
    coalescer: Coalescer,
    /// A second connection, for reads alone, once there was cause for one.
    apart: OnceLock<Connection>,
    wanted_apart: Notify,
    /// How large values were of late, on average over a round trip.
    mean_value: AtomicUsize,
    born: Instant,
    /// When the last reply came, in milliseconds since the connection was made.
    replied: AtomicU64,
    /// Where the connection's own reader runs: without it nothing here comes to an end.
    runtime: Handle,
}

/// How changes under the namespace come to this connection.
#[derive(Clone)]
pub(super) enum Reporting {
    /// Not at all.
    None,
    /// The server pushes every change, in the order of its execution.
    Broadcast,
    /// Writers say so on a channel: so do we, with each write.
    Channel(Arc<Channel>),
}

impl Reporting {
    /// The mode that this is to users.
    pub(super) fn mode(&self) -> Coherence {
        match self {
            Self::None => Coherence::None,
            Self::Broadcast => Coherence::Broadcast,
            Self::Channel(_) => Coherence::PubSub,
        }
    }
}

impl Connection {
    pub(super) fn new(Dialed { commands, reader }: Dialed, loss: Arc<Loss>, reporting: Reporting) -> Self {
        Self(Arc::new(Parts {
            commands,
            _reader: reader,
            loss,
            reporting,
            coalescer: Coalescer::default(),
            apart: OnceLock::new(),
            wanted_apart: Notify::new(),
            mean_value: AtomicUsize::new(0),
            born: Instant::now(),
            replied: AtomicU64::new(0),
            runtime: Handle::current(),
        }))
    }

    pub(super) fn coalescer(&self) -> &Coalescer {
        &self.0.coalescer
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(super) fn reporting(&self) -> &Reporting {
        &self.0.reporting
    }

    pub(super) fn loss(&self) -> &Arc<Loss> {
        &self.0.loss
    }

    /// The connection that reads go over: this one, unless there is a second one for them.
    pub(super) fn reading(&self) -> &Self {
        self.0.apart.get().unwrap_or(self)
    }

    /// Sends reads over a second connection from now on.
    pub(super) fn read_over(&self, apart: Self) {
        apart.0.mean_value.store(self.0.mean_value.load(Ordering::Relaxed), Ordering::Relaxed);
        // The supervisor of this connection makes one, once.
        let _ = self.0.apart.set(apart);
    }

    /// Says how many bytes of values came in one round trip, for so many keys. Many are cause for a second connection.
    pub(super) fn carried(&self, bytes: usize, keys: usize) {
        let (before, now) = (self.0.mean_value.load(Ordering::Relaxed), bytes / keys.max(1));
        // Up at once and down slowly. A lost update of two at once does no harm: the next round trip makes up for it.
        self.0.mean_value.store(now.max((7 * before + now) / 8), Ordering::Relaxed);
        if bytes >= LARGE {
            self.0.wanted_apart.notify_one();
        }
    }

    /// How many keys go into one round trip, at most `most`: as many as are a megabyte, if they are as large as the last
    /// ones were.
    pub(super) fn keys_at_once(&self, most: usize) -> usize {
        (ROUND_TRIP / self.0.mean_value.load(Ordering::Relaxed).max(1)).clamp(1, most)
    }

    /// Waits until there is cause for a second connection.
    pub(super) async fn wants_apart(&self) {
        self.0.wanted_apart.notified().await;
    }

    /// Waits for an answer for as long as replies of any kind arrive: dead is a connection on which none came for so long.
    pub(super) async fn alive<T>(
        &self,
        dead_after: Duration,
        asked: impl Future<Output = BackendResult<T>>,
    ) -> BackendResult<T> {
        tokio::pin!(asked);
        let since = Instant::now();
        loop {
            let last = since.max(self.last_reply());
            match timeout_at(last + dead_after, &mut asked).await {
                Ok(answer) => return answer,
                Err(_elapsed) if self.last_reply() > last => {}
                Err(_elapsed) => {
                    let message = format!("nothing arrived on the connection for {} ms", dead_after.as_millis());
                    return Err(BackendError::new(BackendErrorKind::Unavailable, message));
                }
            }
        }
    }

    fn last_reply(&self) -> Instant {
        self.0.born + Duration::from_millis(self.0.replied.load(Ordering::Relaxed))
    }

    /// Sends one command. Ends at the reply or when the connection is lost.
    pub(super) async fn one(&self, command: &Cmd) -> BackendResult<Value> {
        let mut commands = self.0.commands.clone();
        let reply = self.or_lost(commands.send_packed_command(command)).await?;
        self.checked(reply)
    }

    /// Sends commands together and returns their replies in order; a refused command is a `ServerError` among them.
    pub(super) async fn pipeline(&self, commands: &Pipeline, count: usize) -> BackendResult<Vec<Value>> {
        let mut connection = self.0.commands.clone();
        let replies = self.or_lost(connection.send_packed_commands(commands, 0, count)).await?;
        if replies.len() != count {
            return Err(error::unexpected("a pipeline"));
        }
        for reply in &replies {
            self.watch_role(reply);
        }
        Ok(replies)
    }

    /// Sends commands as one transaction, and returns their replies as [`pipeline`](Self::pipeline) does.
    pub(super) async fn transaction(&self, commands: &Pipeline, count: usize) -> BackendResult<Vec<Value>> {
        let mut connection = self.0.commands.clone();
        // The replies to MULTI and to the queued commands are passed over; EXEC's holds the results.
        let replies = self.or_lost(connection.send_packed_commands(commands, count + 1, 1)).await?;
        match <[Value; 1]>::try_from(replies) {
            Ok([Value::Array(replies)]) if replies.len() == count => {
                replies.iter().for_each(|reply| self.watch_role(reply));
                Ok(replies)
            }
            Ok([reply]) => self.checked(reply).and_then(|_| Err(error::unexpected("EXEC"))),
            Err(_other_length) => Err(error::unexpected("EXEC")),
        }
    }

    /// Subscribes to a channel, whose messages are pushed from then on.
    pub(super) async fn subscribe(&self, channel: &[u8]) -> BackendResult<()> {
        let mut connection = self.0.commands.clone();
        self.or_lost(connection.subscribe(channel)).await
    }

    async fn or_lost<T>(&self, reply: impl Future<Output = redis::RedisResult<T>>) -> BackendResult<T> {
        tokio::select! {
            biased;
            reply = reply => {
                let millis = u64::try_from(self.0.born.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.0.replied.fetch_max(millis, Ordering::Relaxed);
                reply.map_err(|failed| error::from_redis(&failed))
            }
            cause = self.0.loss.wait() => Err(cause),
        }
    }

    fn checked(&self, reply: Value) -> BackendResult<Value> {
        self.watch_role(&reply);
        match reply {
            Value::ServerError(refused) => Err(error::from_server(&refused)),
            reply => Ok(reply),
        }
    }

    /// A primary that was demoted keeps its sockets and tells nobody but those who write: `READONLY` ends the connection.
    fn watch_role(&self, reply: &Value) {
        if let Value::ServerError(refused) = reply
            && refused.code() == "READONLY"
        {
            self.0.loss.declare(BackendError::new(BackendErrorKind::Unavailable, "the server is no longer a primary"));
        }
    }
}

/// The end of a connection: declared once, seen by everyone who waits on it.
#[derive(Debug, Default)]
pub(super) struct Loss {
    cause: OnceLock<BackendError>,
    declared: Notify,
}

impl Loss {
    /// Declares the connection lost. The first cause stays.
    pub(super) fn declare(&self, cause: BackendError) {
        if self.cause.set(cause).is_ok() {
            self.declared.notify_waiters();
        }
    }

    pub(super) fn is_declared(&self) -> bool {
        self.cause.get().is_some()
    }

    /// Waits until the connection is lost, and returns why.
    pub(super) async fn wait(&self) -> BackendError {
        let declared = self.declared.notified();
        tokio::pin!(declared);
        // Registered before the cause is looked at, so a declaration in between is not missed.
        declared.as_mut().enable();
        if let Some(cause) = self.cause.get() {
            return cause.clone();
        }
        declared.await;
        self.cause.get().cloned().unwrap_or_else(lost)
    }
}

fn lost() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the connection was lost")
}
