//! Single commands: sent by the map, and followed wherever nodes redirect them.
//!
//! What was redirected is returned and never kept: it came over another link than its ticket is registered with.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::oneshot};
use twotier_core::{BackendError, BackendErrorKind};

use crate::{
    AnswerTaker, BackendResult, Counted, GetReply, Stored,
    redis::{
        command::{self, Action, Change, Commands, Effect, ReadResult},
        wire::Redirect,
    },
};

use super::{Cluster, Inner, Peer};

/// How often a command is redirected before it is an error: nodes that disagree send it round.
const MOST: usize = 5;
/// How many moments a node is waited for that a command was redirected to and no map has yet.
const UNKNOWN: usize = 20;

impl Cluster {
    pub(in crate::redis) async fn get(&self, key: &[u8]) -> ReadResult {
        let network = self.inner.network().await?;
        let peer = network.owner(key)?;
        let answer = match peer.link.ready().await {
            Ok(commands) => command::get(&commands, key).await,
            Err(down) => Err(down),
        };
        self.inner.followed_read(peer, key, answer).await
    }

    pub(in crate::redis) fn start_get(&self, key: &[u8], reply: GetReply) -> Option<GetReply> {
        let Some(network) = self.inner.known() else { return Some(reply) };
        let peer = match network.as_ref().map_err(Clone::clone).and_then(|network| network.owner(key)) {
            Ok(peer) => peer,
            Err(cause) => {
                reply.send(Err(cause));
                return None;
            }
        };
        match peer.link.known() {
            Some(Ok(commands)) => {
                let (inner, peer, key) = (Arc::clone(&self.inner), Arc::clone(peer), Bytes::copy_from_slice(key));
                let runtime = commands.runtime().clone();
                let read = RedirectedRead { inner, peer, key: key.clone(), reply: Some(reply), runtime };
                command::start_get(&commands, &key, GetReply::to(Box::new(read)));
            }
            // What is closed is asked for elsewhere, which takes its time.
            Some(Err(cause)) if cause.kind() == BackendErrorKind::Closed => return Some(reply),
            Some(Err(cause)) => reply.send(Err(cause)),
            None => return Some(reply),
        }
        None
    }

    /// Makes one change, in the order of the calls for its key, and returns whether it changed anything.
    pub(in crate::redis) async fn change(&self, key: &[u8], action: Action) -> BackendResult<bool> {
        self.make(key, action).await.map(Effect::is_change)
    }

    /// Adds to a number, and returns what it is then.
    pub(in crate::redis) async fn add(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
        self.make(key, Action::Add { by, ttl }).await?.counted()
    }

    async fn make(&self, key: &[u8], action: Action) -> BackendResult<Effect> {
        let change = Change { key: Bytes::copy_from_slice(key), action };
        let inner = Arc::clone(&self.inner);
        let keys = vec![change.key.clone()];
        self.inner.in_order(keys, async move { inner.make(change).await }).await.unwrap_or_else(|| Err(ended()))
    }
}

impl Inner {
    /// Runs a write once every earlier one of its keys has ended: at once, on the stack of the caller, if there is
    /// none. It runs to its end then, whoever polls. One that has to wait is not sent any more when nobody waits for
    /// it; `None` where it ended with its runtime.
    pub(super) async fn in_order<T: Send + 'static>(
        &self,
        keys: Vec<Bytes>,
        write: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut permit = self.order.accept(keys);
        let (sender, outcome) = oneshot::channel();
        let mut write = Box::pin(async move {
            permit.acquire().await;
            if !sender.is_closed() {
                let _ = sender.send(write.await);
            }
        });
        let ended = poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_ready())).await;
        if !ended {
            let runtime = Handle::try_current().ok().or_else(|| self.state.lock().runtime.clone());
            runtime?.spawn(write);
        }
        outcome.await.ok()
    }

    async fn make(self: &Arc<Self>, change: Change) -> BackendResult<Effect> {
        let network = self.current()?;
        let peer = network.owner(&change.key)?;
        let answer = match peer.link.current() {
            Ok(commands) => command::make(&commands, change.clone()).await,
            Err(down) => Err(down),
        };
        self.followed_change(peer, change, answer).await
    }

    pub(super) async fn followed_read(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        key: &[u8],
        answer: ReadResult,
    ) -> ReadResult {
        let again = async |commands: Commands, for_once| match for_once {
            true => command::get_asking(&commands, key).await,
            false => command::get(&commands, key).await,
        };
        let mut followed = Followed::new(self, peer, key, true, answer);
        while let Some(next) = followed.next().await {
            let answer = match next {
                Ok((commands, for_once)) => again(commands, for_once).await,
                Err(cause) => Err(cause),
            };
            followed.answered(answer);
        }
        followed.end()
    }

    /// A redirection says that nothing was executed: so a write that was redirected is sent again, and so is one that
    /// was not sent to a node that is no primary any more.
    pub(super) async fn followed_change(
        self: &Arc<Self>,
        peer: &Arc<Peer>,
        change: Change,
        answer: BackendResult<Effect>,
    ) -> BackendResult<Effect> {
        let key = change.key.clone();
        let mut followed = Followed::new(self, peer, &key, false, answer);
        while let Some(next) = followed.next().await {
            let answer = match next {
                Ok((commands, true)) => command::make_asking(&commands, change.clone()).await,
                Ok((commands, false)) => command::make(&commands, change.clone()).await,
                Err(cause) => Err(cause),
            };
            followed.answered(answer);
        }
        followed.end()
    }

    /// Returns the primary at an address, once a map has it.
    async fn at(&self, redirect: &Redirect, asked: &Peer) -> BackendResult<Arc<Peer>> {
        let host = if redirect.host.is_empty() { &asked.node.host } else { &redirect.host };
        for _ in 0..UNKNOWN {
            let found = {
                let state = self.state.lock();
                state.peers.values().find(|peer| peer.is_at(host, redirect.port)).map(Arc::clone)
            };
            if let Some(peer) = found {
                return Ok(peer);
            }
            self.census.hint();
            self.a_while().await;
        }
        Err(BackendError::new(BackendErrorKind::Unavailable, "a node redirects to one that no map has").not_sent())
    }

    /// Has no cache keep what is known of a key.
    fn keep_nothing_of(&self, key: &[u8]) {
        if let Some(cache) = self.caches.of(key) {
            cache.changed(key);
        }
    }
}

/// Returns whether a command has to be sent elsewhere, as far as its error says: it was redirected, or its node has
/// ceased to be a primary.
pub(super) fn is_elsewhere<T>(answer: &BackendResult<T>) -> bool {
    answer.as_ref().is_err_and(|error| Redirect::of(error).is_some() || error.kind() == BackendErrorKind::Closed)
}

/// A command on its way through the cluster.
struct Followed<'c, T> {
    inner: &'c Arc<Inner>,
    key: &'c [u8],
    /// Whether it may be sent again though it may have been executed.
    is_read: bool,
    /// Who answered last.
    peer: Arc<Peer>,
    answer: BackendResult<T>,
    redirected: usize,
}

impl<'c, T> Followed<'c, T> {
    fn new(inner: &'c Arc<Inner>, peer: &Arc<Peer>, key: &'c [u8], is_read: bool, answer: BackendResult<T>) -> Self {
        Self { inner, key, is_read, peer: Arc::clone(peer), answer, redirected: 0 }
    }

    /// Returns where the command has to go, and whether it has to say that it was redirected; `None` once it was
    /// answered.
    async fn next(&mut self) -> Option<BackendResult<(Commands, bool)>> {
        let error = self.answer.as_ref().err()?;
        if self.redirected == MOST {
            return None;
        }
        let Some(redirect) = Redirect::of(error) else {
            let again = self.is_read || !error.may_have_executed();
            return if error.kind() == BackendErrorKind::Closed && again { self.by_the_map().await } else { None };
        };
        if !redirect.is_asking {
            self.inner.census.hint();
        }
        if self.redirected > 1 {
            // Sent round by nodes that have to agree first.
            self.inner.a_while().await;
        }
        self.redirected += 1;
        Some(match self.inner.at(redirect, &self.peer).await {
            Ok(peer) => {
                let for_once = redirect.is_asking;
                self.peer = peer;
                self.peer.link.ready().await.map(|commands| (commands, for_once))
            }
            Err(unknown) => Err(unknown),
        })
    }

    /// Returns where the command goes by the map in force, if that is elsewhere.
    async fn by_the_map(&mut self) -> Option<BackendResult<(Commands, bool)>> {
        let network = self.inner.current().ok()?;
        let owner = network.owner(self.key).ok().filter(|owner| !Arc::ptr_eq(owner, &self.peer))?;
        self.redirected += 1;
        self.peer = Arc::clone(owner);
        Some(self.peer.link.ready().await.map(|commands| (commands, false)))
    }

    fn answered(&mut self, answer: BackendResult<T>) {
        self.answer = answer;
    }

    /// Returns the answer, of which nothing is kept if it came by a detour.
    fn end(self) -> BackendResult<T> {
        if self.redirected > 0 {
            self.inner.keep_nothing_of(self.key);
        }
        match self.answer {
            // It is one of many that was closed.
            Err(error) if error.kind() == BackendErrorKind::Closed && !self.inner.is_closed() => {
                let message = "the node is no primary of the cluster any more";
                let gone = BackendError::new(BackendErrorKind::Unavailable, message);
                Err(if error.may_have_executed() { gone } else { gone.not_sent() })
            }
            answer => answer,
        }
    }
}

/// Whoever takes the answer to a read that may have to be followed.
struct RedirectedRead {
    inner: Arc<Inner>,
    peer: Arc<Peer>,
    key: Bytes,
    reply: Option<GetReply>,
    runtime: Handle,
}

impl AnswerTaker for RedirectedRead {
    fn take(mut self: Box<Self>, answer: BackendResult<Option<Stored>>) {
        if !is_elsewhere(&answer) {
            return self.reply(answer);
        }
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            let answer = self.inner.followed_read(&self.peer, &self.key, answer).await;
            self.reply(answer);
        });
    }
}

impl RedirectedRead {
    fn reply(&mut self, answer: ReadResult) {
        if let Some(reply) = self.reply.take() {
            reply.send(answer);
        }
    }
}

impl Drop for RedirectedRead {
    /// Whoever waits for the answer is notified when the runtime ends on the way.
    fn drop(&mut self) {
        self.reply(Err(ended()));
    }
}

pub(super) fn ended() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the command was ended by the end of the runtime")
}
