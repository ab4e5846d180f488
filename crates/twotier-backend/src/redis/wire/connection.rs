//! One connection to the server.

use std::{
    pin::pin,
    str,
    sync::{Arc, Weak},
    time::Duration,
    vec,
};

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Parser, Pipeline, ProtocolVersion, PushInfo, RedisConnectionInfo,
    RedisError, ServerError, Value, aio::MultiplexedConnection, cmd,
};
use tokio::{
    runtime::Handle,
    task::{AbortHandle, coop::unconstrained},
};
use twotier_core::{BackendError, BackendErrorKind};

use crate::BackendResult;

use super::{
    dial::Route,
    error,
    framing::ValueLimit,
    identity::{Identity, signed},
    loss::Loss,
    progress::{Progress, Traffic},
    stream::{Greeting, Watched},
    target::{Kind, Target},
};

/// How many commands may wait to be written: as many as there are, so that handing one over never has to wait.
const QUEUE: usize = u32::MAX as usize;

/// A connection that many operations share. Commands are executed in the order in which they were queued.
#[derive(Clone)]
pub(in crate::redis) struct Connection(Arc<Parts>);

struct Parts {
    commands: MultiplexedConnection,
    driver: AbortHandle,
    loss: Arc<Loss>,
    traffic: Arc<Traffic>,
    hello: Hello,
    /// Where the connection's own reader runs: without it nothing here comes to an end.
    runtime: Handle,
}

/// A connection that is not kept open by this.
pub(super) struct WeakConnection(Weak<Parts>);

impl WeakConnection {
    /// Returns the connection while somebody else uses it.
    pub(super) fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(Connection)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What a server says about itself and this connection.
#[derive(Clone, Debug, Default)]
pub(in crate::redis) struct Hello {
    /// The server's number of the connection.
    pub(in crate::redis) id: Option<i64>,
    pub(in crate::redis) mode: Option<String>,
    pub(in crate::redis) role: Option<String>,
}

impl Hello {
    /// Reads the reply to `HELLO`.
    pub(in crate::redis) fn read(reply: &Value) -> Option<Self> {
        let Value::Map(fields) = reply else { return None };
        let field = |name: &str| fields.iter().find(|(key, _)| text(key) == Some(name)).map(|(_, value)| value);
        let word = |name: &str| field(name).and_then(text).map(str::to_owned);
        let id = match field("id") {
            Some(Value::Int(id)) => Some(*id),
            _ => None,
        };
        Some(Self { id, mode: word("mode"), role: word("role") })
    }

    /// Refuses a server that is no primary.
    pub(in crate::redis) fn primary(&self) -> BackendResult<()> {
        match self.role.as_deref() {
            Some("master") => Ok(()),
            Some(_replica) => {
                Err(BackendError::new(BackendErrorKind::Unavailable, "the server is a replica; a primary is needed"))
            }
            None => Err(error::out_of_step("HELLO")),
        }
    }
}

impl Connection {
    /// Dials, authenticates, and asks for RESP3. What is pushed goes to `pushed`, inside the connection's reader. A
    /// value over the limit is not read into memory: an error is in its place. Returns how long the credentials live
    /// too, where they expire.
    pub(super) async fn open(
        target: &Target,
        progress: &Arc<Progress>,
        loss: Arc<Loss>,
        limit: &ValueLimit,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> BackendResult<(Self, Option<Duration>)> {
        // Before the socket, which is not to wait for somebody else.
        progress.begin("the request for credentials");
        let credentials = target.identity.credentials().await?;
        let lifetime = credentials.as_ref().and_then(|credentials| credentials.lifetime);
        let stream = target.route.dial(progress).await?;
        progress.begin("HELLO");
        let traffic = Arc::new(Traffic::new(Arc::clone(progress)));
        let greeting: Greeting = Arc::new(Mutex::new(Some(Vec::new())));
        let stream =
            Watched::new(stream, Arc::clone(&traffic), Arc::clone(&loss), Arc::clone(&greeting), limit.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            // An operation ends at its reply or at the loss of the connection, which the heartbeat declares; the
            // deadline of a call is its caller's.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE)
            .set_push_sender(move |push| {
                pushed(push);
                Ok::<_, std::convert::Infallible>(())
            });
        let settings = RedisConnectionInfo::default().set_db(target.database).set_protocol(ProtocolVersion::RESP3);
        // `CLIENT SETINFO` is in the log of what was denied wherever it is not allowed, and cannot be allowed by name
        // where the server does not know it.
        let settings = settings.set_skip_set_lib_name();
        let settings = signed(settings, credentials);
        let made = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let replies = greeted(&greeting);
        let hello = greeting_read(&replies, target);
        let (commands, driver) = made.map_err(|_failed| match (&hello, loss.cause()) {
            (Err(cause), _) => cause.clone(),
            (Ok(_), Some(cause)) if replies.is_empty() => during_hello(&cause, &target.route),
            (Ok(_), Some(cause)) => cause,
            (Ok(_), None) => error::out_of_step("HELLO"),
        })?;
        let ended = Ended(Arc::clone(&loss));
        let driver = tokio::spawn(async move {
            let driver = pin!(driver);
            // Dropped before the driver is, so that the cause is known when replies do not come.
            let _ended = ended;
            driver.await;
        });
        loss.ends(driver.abort_handle());
        let (driver, runtime) = (driver.abort_handle(), Handle::current());
        let hello = hello.inspect_err(|cause| loss.declare(cause.clone()))?;
        Ok((Self(Arc::new(Parts { commands, driver, loss, traffic, hello, runtime })), lifetime))
    }

    /// What keeps no connection open that nobody uses.
    pub(super) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    pub(in crate::redis) fn loss(&self) -> &Arc<Loss> {
        &self.0.loss
    }

    pub(in crate::redis) fn hello(&self) -> &Hello {
        &self.0.hello
    }

    pub(in crate::redis) fn runtime(&self) -> &Handle {
        &self.0.runtime
    }

    pub(in crate::redis) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Returns whether nothing arrived for so long.
    pub(in crate::redis) fn is_silent_for(&self, time: Duration) -> bool {
        self.0.traffic.progress().last().elapsed() >= time
    }

    /// Waits for an answer for as long as there are signs of life, in either direction: dead is a connection without
    /// any for so long.
    pub(in crate::redis) async fn alive<T>(
        &self,
        dead_after: Duration,
        asked: impl Future<Output = BackendResult<T>>,
    ) -> BackendResult<T> {
        self.0.traffic.progress().while_alive(dead_after, asked).await.unwrap_or_else(|| {
            let message = format!("nothing arrived on the connection for {} ms", dead_after.as_millis());
            Err(BackendError::new(BackendErrorKind::Unavailable, message))
        })
    }

    /// Sends commands together and returns their replies in order. They are queued when this is polled for the first
    /// time, or never. Ends at the last reply or when the connection is lost.
    pub(in crate::redis) async fn ask(&self, commands: &Pipeline, count: usize) -> BackendResult<Reply> {
        // Not held up by the runtime's budget for a task, which would be a first poll that queues nothing.
        unconstrained(async {
            if let Some(cause) = self.0.loss.cause() {
                return Err(cause.not_sent());
            }
            let mut connection = self.0.commands.clone();
            // A loss ends the driver, and with it every request that waits.
            let replies = connection.send_packed_commands(commands, 0, count).await;
            // Of a connection that is lost nothing is believed, though it came before.
            if let Some(cause) = self.0.loss.cause() {
                return Err(cause);
            }
            match replies {
                Ok(replies) if replies.len() == count => {
                    Ok(Reply { connection: self.clone(), values: replies.into_iter() })
                }
                Ok(_other_number) => Err(self.out_of_step("a pipeline")),
                Err(failed) => Err(self.ended(&failed)),
            }
        })
        .await
    }

    /// The end of the connection, as its reader returns it to those whose replies do not come. Mostly the cause is
    /// known.
    fn ended(&self, failed: &RedisError) -> BackendError {
        let cause = match failed.kind() {
            ErrorKind::Parse => error::not_resp(),
            _ => BackendError::new(BackendErrorKind::Unavailable, "the connection was lost"),
        };
        self.0.loss.declare(cause.clone());
        self.0.loss.cause().unwrap_or(cause)
    }

    /// Sends one command.
    pub(in crate::redis) async fn one(&self, command: Cmd) -> BackendResult<Reply> {
        let mut commands = Pipeline::with_capacity(1);
        commands.add_command(command);
        self.ask(&commands, 1).await
    }

    /// Asks for a sign of life that no other reply can be taken for. A refusal is one too.
    pub(in crate::redis) async fn ping(&self) -> BackendResult<()> {
        let mark = nonce();
        self.one(cmd("PING").arg(&mark).to_owned()).await?.pong(&mark)
    }

    /// Subscribes to channels, whose messages are pushed from then on: to all of them or to none.
    pub(in crate::redis) async fn subscribe(&self, channels: &[Vec<u8>]) -> BackendResult<()> {
        let mut connection = self.0.commands.clone();
        let subscribed = tokio::select! {
            biased;
            cause = self.0.loss.wait() => return Err(cause),
            subscribed = connection.subscribe(channels) => subscribed,
        };
        let refusal = |kind, code: &str| {
            BackendError::new(kind, format!("SUBSCRIBE was refused: {code}")).with_code(code).not_sent()
        };
        match subscribed {
            Ok(()) => {
                // The confirmations are pushes; a refusal would have been a reply.
                self.0.traffic.spare_one();
                Ok(())
            }
            Err(refused) => Err(match refused.code() {
                Some("NOPERM") => refusal(BackendErrorKind::Denied, "NOPERM"),
                Some(code @ ("BUSY" | "LOADING")) => refusal(BackendErrorKind::Busy, code),
                _ => refusal(BackendErrorKind::Rejected, "ERR"),
            }),
        }
    }

    /// Gives the connection up: replies and requests are out of step.
    pub(in crate::redis) fn out_of_step(&self, command: &str) -> BackendError {
        let cause = error::out_of_step(command);
        self.0.loss.declare(cause.clone());
        cause
    }

    /// Reads a refusal. A primary that was demoted keeps its sockets and notifies nobody but those who write:
    /// `READONLY` ends the connection.
    pub(in crate::redis) fn refused(&self, command: &str, refused: &ServerError) -> BackendError {
        if refused.code() == "READONLY" {
            self.0.loss.declare(BackendError::new(BackendErrorKind::Unavailable, "the server is no longer a primary"));
        }
        error::from_server(command, refused)
    }
}

/// The payload of a `PING`.
pub(in crate::redis) fn nonce() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Replies in the order of their commands, each of which must have the shape that its command returns: the first that
/// has not ends the connection.
pub(in crate::redis) struct Reply {
    connection: Connection,
    values: vec::IntoIter<Value>,
}

impl Reply {
    /// Reads replies that came inside another one.
    pub(in crate::redis) fn within(connection: Connection, values: Vec<Value>) -> Self {
        Self { connection, values: values.into_iter() }
    }

    pub(in crate::redis) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Takes the next reply, of which nothing is known but that it is no refusal.
    pub(in crate::redis) fn value(&mut self, command: &str) -> BackendResult<Value> {
        match self.values.next() {
            Some(Value::ServerError(refused)) => Err(self.connection.refused(command, &refused)),
            Some(value) => Ok(value),
            None => Err(self.connection.out_of_step(command)),
        }
    }

    pub(in crate::redis) fn okay(&mut self, command: &str) -> BackendResult<()> {
        match self.value(command)? {
            Value::Okay => Ok(()),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    /// `OK`, or nil where the condition of a `SET` was not met.
    pub(in crate::redis) fn okay_or_nil(&mut self, command: &str) -> BackendResult<bool> {
        match self.value(command)? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    pub(in crate::redis) fn queued(&mut self, command: &str) -> BackendResult<()> {
        match self.value(command)? {
            Value::SimpleString(text) if text == "QUEUED" => Ok(()),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    /// What `INFO` says, nothing where the user may not ask.
    pub(in crate::redis) fn info(&mut self) -> BackendResult<String> {
        match self.text("INFO") {
            Err(cause) if matches!(cause.kind(), BackendErrorKind::Denied | BackendErrorKind::Rejected) => {
                Ok(String::new())
            }
            said => said,
        }
    }

    /// Text for people.
    pub(in crate::redis) fn text(&mut self, command: &str) -> BackendResult<String> {
        match self.value(command)? {
            Value::VerbatimString { text, .. } => Ok(text),
            Value::BulkString(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    pub(in crate::redis) fn integer(&mut self, command: &str) -> BackendResult<i64> {
        match self.value(command)? {
            Value::Int(number) => Ok(number),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    pub(in crate::redis) fn bulk(&mut self, command: &str) -> BackendResult<Option<Vec<u8>>> {
        match self.value(command)? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => Ok(Some(bytes)),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    pub(in crate::redis) fn array(&mut self, command: &str) -> BackendResult<Vec<Value>> {
        match self.value(command)? {
            Value::Array(values) => Ok(values),
            _ => Err(self.connection.out_of_step(command)),
        }
    }

    /// The answer to a `PING` with this payload. A refusal is an answer.
    pub(in crate::redis) fn pong(&mut self, mark: &str) -> BackendResult<()> {
        match self.values.next() {
            Some(Value::BulkString(bytes)) if bytes == mark.as_bytes() => Ok(()),
            Some(Value::ServerError(refused)) => match self.connection.refused("PING", &refused) {
                lost if self.connection.loss().is_declared() => Err(lost),
                _busy => Ok(()),
            },
            _ => Err(self.connection.out_of_step("PING")),
        }
    }

    /// What the server says about itself, `None` when it refuses to.
    pub(in crate::redis) fn hello(&mut self) -> BackendResult<Option<Hello>> {
        match self.values.next() {
            Some(Value::ServerError(_refused)) => Ok(None),
            Some(map) => Hello::read(&map).map(Some).ok_or_else(|| self.connection.out_of_step("HELLO")),
            None => Err(self.connection.out_of_step("HELLO")),
        }
    }
}

/// Declares the loss when the task that drives a connection ends in whatever way.
struct Ended(Arc<Loss>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.declare(BackendError::new(BackendErrorKind::Unavailable, "the connection ended with its runtime"));
    }
}

/// The text in a reply.
pub(in crate::redis) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

/// Takes what arrived during the setup, and ends its recording.
fn greeted(greeting: &Greeting) -> Vec<Value> {
    let bytes = greeting.lock().take().unwrap_or_default();
    let (mut parser, mut rest, mut replies) = (Parser::new(), &bytes[..], Vec::new());
    while let Ok(reply) = parser.parse_value(&mut rest) {
        replies.push(reply);
    }
    replies
}

/// Reads the replies to the setup: `HELLO` with the credentials, and `SELECT` where the URL names a database.
fn greeting_read(replies: &[Value], target: &Target) -> BackendResult<Hello> {
    let hello = match replies.first() {
        None => return Ok(Hello::default()),
        Some(Value::ServerError(refused)) => return Err(not_welcome(refused, &target.identity)),
        Some(map) => Hello::read(map).ok_or_else(|| error::out_of_step("HELLO"))?,
    };
    let unsupported = |message: &'static str| Err(BackendError::new(BackendErrorKind::Unsupported, message));
    let mode = hello.mode.as_deref().unwrap_or_default();
    match (target.kind, mode, replies.get(1)) {
        (Kind::Sentinel, "sentinel", _) | (Kind::Node, "cluster", _) => Ok(hello),
        (Kind::Sentinel, ..) => {
            unsupported("this is no Sentinel; a redis+sentinel:// URL names the sentinels, not the servers")
        }
        (Kind::Server | Kind::Node, "sentinel", _) => {
            unsupported("this is a Sentinel and not the server that it watches; use redis+sentinel://host:port/service")
        }
        (Kind::Node, ..) => {
            unsupported("this is no node of a cluster; without cluster mode the URL is redis://host:port")
        }
        (Kind::Server, "cluster", _) => unsupported(
            "this is a node of a cluster; name it, or several of them, as redis-cluster://host:port,host:port",
        ),
        (_, _, Some(Value::ServerError(refused))) if target.database != 0 => Err(not_selected(refused)),
        _ => Ok(hello),
    }
}

fn not_welcome(refused: &ServerError, identity: &Identity) -> BackendError {
    let detail = refused.details().unwrap_or_default();
    let unknown = detail.to_ascii_lowercase().starts_with("unknown command");
    match refused.code() {
        "ERR" if detail.contains("max number of clients") => BackendError::new(
            BackendErrorKind::Unavailable,
            "the server has as many clients as it takes (maxclients); raise its limit or use fewer connections",
        ),
        code if code == "NOPROTO" || unknown => BackendError::new(
            BackendErrorKind::Unsupported,
            "the server does not speak RESP3; Redis 6.0 or Valkey is needed",
        ),
        "DENIED" => BackendError::new(
            BackendErrorKind::Denied,
            "the server is in protected mode and takes clients of its own machine only; give it a password",
        ),
        _ => return identity.refused("HELLO", refused),
    }
    .with_code(refused.code())
    .not_sent()
}

fn not_selected(refused: &ServerError) -> BackendError {
    match refused.code() {
        "NOPERM" => BackendError::new(
            BackendErrorKind::Denied,
            "the user may not run SELECT, which a URL with a database needs: allow it with `+select`",
        ),
        "ERR" => BackendError::new(
            BackendErrorKind::Rejected,
            "the server has no database of the number in the URL (see its `databases` setting)",
        ),
        _ => return error::from_server("SELECT", refused),
    }
    .with_code(refused.code())
    .not_sent()
}

fn during_hello(cause: &BackendError, route: &Route) -> BackendError {
    let hint = match route {
        #[cfg(feature = "tls")]
        Route::Tls { .. } => "does it ask for a client certificate (`tls_cert_file`)?",
        _ => "does it speak TLS only (rediss://)?",
    };
    match cause.kind() {
        BackendErrorKind::Unavailable => BackendError::new(
            BackendErrorKind::Unavailable,
            format!("the server closed the connection before it answered; {hint}"),
        )
        .with_source(cause.clone()),
        _ => cause.clone(),
    }
}
