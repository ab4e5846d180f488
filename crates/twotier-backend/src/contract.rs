//! The trait [`Backend`]: what a cache asks of the tier behind its local copies.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use twotier_core::{
    BackendError, BackendErrorKind, ChangeListener, Coherence, LinkId, LinkState, LinkStatus, Namespace, RemainingTtl,
};

/// What every operation of a backend returns.
pub type BackendResult<T> = Result<T, BackendError>;

/// A value as the backend holds it, with its remaining time to live, read in one round trip.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The encoded value. Empty is a value like any other.
    pub value: Bytes,
    /// How long it still lives.
    pub ttl: RemainingTtl,
}

impl Stored {
    /// Puts a value and its remaining time to live together. For the latter an `Option<Duration>` will do, where `None`
    /// is for ever.
    pub fn new(value: impl Into<Bytes>, ttl: impl Into<RemainingTtl>) -> Self {
        Self { value: value.into(), ttl: ttl.into() }
    }
}

/// One value to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Write {
    /// The key, namespace included.
    pub key: Bytes,
    /// The encoded value.
    pub value: Bytes,
    /// How long it lives, at least 1 ms; `None` is for ever.
    pub ttl: Option<Duration>,
    /// Whether the life of a value that is there is kept, and `ttl` holds only where there is none.
    pub keep_ttl: bool,
    /// What must be there for the value to be written.
    pub condition: WriteCondition,
}

impl Write {
    /// Makes a write that replaces whatever is there. `ttl` of `None` is for ever.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>, ttl: Option<Duration>) -> Self {
        Self { key: key.into(), value: value.into(), ttl, keep_ttl: false, condition: WriteCondition::Always }
    }

    /// Keeps the life of a value that is there.
    #[must_use]
    pub fn keep_ttl(mut self) -> Self {
        self.keep_ttl = true;
        self
    }

    /// Sets what must be there for the value to be written.
    #[must_use]
    pub fn only_if(mut self, condition: WriteCondition) -> Self {
        self.condition = condition;
        self
    }
}

/// A number as it is after [`Backend::increment`], with its remaining time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counted {
    /// The number.
    pub value: i64,
    /// How long it still lives.
    pub ttl: RemainingTtl,
}

impl Counted {
    /// Puts a number and its remaining time to live together.
    pub fn new(value: i64, ttl: impl Into<RemainingTtl>) -> Self {
        Self { value, ttl: ttl.into() }
    }
}

/// What must be there for a value to be written, decided by the backend in the same step as the write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WriteCondition {
    /// Anything.
    #[default]
    Always,
    /// Nothing: the key must be absent.
    Absent,
    /// Exactly this encoded value.
    Holds(Bytes),
}

/// Where the answer to one read goes: see [`Backend::start_get`]. Dropped without an answer, the read is abandoned.
#[must_use = "whoever asked waits for an answer"]
pub struct GetReply(Box<dyn AnswerTaker>);

/// Takes the answer to a read, where a closure would be one allocation too many.
pub trait AnswerTaker: Send {
    /// Takes the answer: soon, without waiting, and without a panic.
    fn take(self: Box<Self>, answer: BackendResult<Option<Stored>>);
}

impl<F: FnOnce(BackendResult<Option<Stored>>) + Send> AnswerTaker for F {
    fn take(self: Box<Self>, answer: BackendResult<Option<Stored>>) {
        self(answer);
    }
}

impl GetReply {
    /// Wraps a function that takes the answer: soon, without waiting, and without a panic.
    pub fn new(answer: impl FnOnce(BackendResult<Option<Stored>>) + Send + 'static) -> Self {
        Self(Box::new(answer))
    }

    /// Wraps what takes the answer.
    pub fn to(taker: Box<dyn AnswerTaker>) -> Self {
        Self(taker)
    }

    /// Hands the answer over.
    pub fn send(self, answer: BackendResult<Option<Stored>>) {
        self.0.take(answer);
    }
}

impl fmt::Debug for GetReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetReply").finish_non_exhaustive()
    }
}

/// Takes the answers of [`Backend::get_each`] as they come: the place of the key in the batch, and its answer.
pub type AnswerSink<'a> = &'a (dyn Fn(usize, BackendResult<Option<Stored>>) + Send + Sync);

/// What a cache subscribes to: given to [`Backend::attach`] once.
#[derive(Clone)]
#[non_exhaustive]
pub struct Watch {
    /// The namespace whose keys are watched.
    pub namespace: Namespace,
    /// Who is notified.
    pub listener: Arc<dyn ChangeListener>,
    /// The longest a local copy may be served after the last proof of life.
    /// A backend with a standing link proves life at least three times as often.
    pub max_staleness: Duration,
    /// The mode asked for; `None` is the best the backend has.
    pub coherence: Option<Coherence>,
    /// The largest value that is of any use to the reader, in bytes. A backend may read a larger one, or fail that read
    /// with [`BackendErrorKind::ValueTooLarge`](twotier_core::BackendErrorKind::ValueTooLarge), and no other.
    pub max_value_bytes: usize,
    /// Whether [`Backend::attach`] goes on until there is a first link, instead of failing with the first attempt.
    /// While it does, operations fail with why there is none.
    pub patient: bool,
}

impl Watch {
    /// Makes a watch over a namespace: with a bound of 2 s, the best mode the backend has, and values of any size.
    pub fn new(namespace: Namespace, listener: Arc<dyn ChangeListener>) -> Self {
        let max_staleness = Duration::from_secs(2);
        Self { namespace, listener, max_staleness, coherence: None, max_value_bytes: usize::MAX, patient: false }
    }

    /// Sets the longest a local copy may be served after the last proof of life.
    #[must_use]
    pub fn max_staleness(mut self, bound: Duration) -> Self {
        self.max_staleness = bound;
        self
    }

    /// Asks for a mode; `None` is the best the backend has.
    #[must_use]
    pub fn coherence(mut self, coherence: impl Into<Option<Coherence>>) -> Self {
        self.coherence = coherence.into();
        self
    }

    /// Waits for the first link for as long as it takes.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Sets the largest value that is of any use to the reader, in bytes.
    #[must_use]
    pub fn max_value_bytes(mut self, bytes: usize) -> Self {
        self.max_value_bytes = bytes;
        self
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("namespace", &self.namespace)
            .field("max_staleness", &self.max_staleness)
            .field("coherence", &self.coherence)
            .field("max_value_bytes", &self.max_value_bytes)
            .finish_non_exhaustive()
    }
}

/// What [`Backend::attach`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attachment {
    /// The mode in force. With [`Coherence::None`] the backend calls the listener never.
    pub coherence: Coherence,
}

impl Attachment {
    /// Makes an attachment in this mode.
    #[must_use]
    pub fn new(coherence: Coherence) -> Self {
        Self { coherence }
    }
}

/// The tier behind the local copies: a key-value store with expiry.
///
/// # Contract
///
/// - **Keys** come with their namespace, are not empty and may hold any bytes. Values may hold any bytes and may be
///   empty; an empty value is not an absent one.
/// - **Expiry**: a value whose time to live has passed is never returned. The remaining time to live comes from the
///   same round trip as the value and is never longer than the truth by more than a millisecond.
/// - **Order**: a call that *starts* after another call *returned* takes effect after it.
/// - **A write is sent at once or never**: the future of a write hands its command over when it is polled for the first
///   time, or ends with an error that says [`not_sent`](BackendError::not_sent). It does not wait for a connection:
///   [`ready`](Self::ready) does, and is awaited before. So writes reach the store in the order in which their futures
///   were first polled, and one that was given up before that has no effect.
/// - **A write that failed** and may have been executed takes effect before the next link is up, or never.
/// - **Futures may be dropped** at any time. A dropped write may or may not have taken effect; nothing else is lost,
///   and no later call hangs or sees a reply that was meant for another.
/// - **Every call ends**: with an error rather than never. Whoever calls adds a deadline of its own.
/// - **The runtime**: a cache calls its backend within the runtime that it was built in, whoever makes the call;
///   [`start_get`](Self::start_get) alone may find that of the calling task.
/// - **Batches** return one result for each item, in the order of the items. An item that fails does not fail the
///   others. A failed batch as a whole is one error for each item.
/// - **Errors** never hold values, keys or credentials.
/// - **Links**: where changes are reported over several links, [`route`](Self::route) says which one a key lies
///   behind.
/// - **Changes**: what [`attach`](Self::attach) promises is written at [`ChangeListener`]. A backend that cannot keep
///   it says [`Coherence::None`].
///
/// The suite `conformance` checks all of this that can be checked from outside.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a backend",
    label = "not a backend",
    note = "a backend is `RedisBackend::new(url)?`, `MemoryBackend::new()`, or what implements `twotier::Backend`"
)]
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Waits until a command can be sent at once, or returns why none can.
    ///
    /// Provided as "at once".
    ///
    /// # Errors
    ///
    /// When the backend cannot be reached. Nothing was sent.
    async fn ready(&self) -> BackendResult<()> {
        Ok(())
    }

    /// Reads a value and its remaining time to live, in one round trip.
    ///
    /// # Errors
    ///
    /// When the backend cannot be reached or refuses, for instance because the key holds another type.
    async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>>;

    /// Starts a read whose answer is handed over as soon as it is there, by a task of the backend's own: nobody need
    /// poll anything. Gives the reply back when it cannot: the caller then runs [`get`](Self::get) in a task of its
    /// own.
    ///
    /// The command may be sent together with others, but not before this call. Provided as "it cannot".
    fn start_get(&self, _key: &[u8], reply: GetReply) -> Option<GetReply> {
        Some(reply)
    }

    /// Writes a value with its time to live, replacing what was there whatever it was.
    ///
    /// # Errors
    ///
    /// When the backend cannot be reached or refuses. Whether the write may have taken effect all the same says
    /// [`BackendError::may_have_executed`].
    async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()>;

    /// Removes a key and returns whether it was there.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    async fn delete(&self, key: &[u8]) -> BackendResult<bool>;

    /// Removes every key that starts with these bytes and returns how many there were.
    /// Keys written meanwhile may or may not be removed.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set); some keys may have been removed.
    async fn clear(&self, prefix: &[u8]) -> BackendResult<u64>;

    /// Replaces a value only if it is still what the caller saw, in one atomic step, and returns whether it did.
    ///
    /// `expected` is the encoded value that must be there, `None` that there must be none; `value` is what to write,
    /// `None` to remove. A removal of what is expected to be absent does nothing and is a success.
    ///
    /// Provided as an error of kind `Unsupported`: it cannot be made of the other operations.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    async fn compare_and_set(
        &self,
        _key: &[u8],
        _expected: Option<Bytes>,
        _value: Option<Bytes>,
        _ttl: Option<Duration>,
    ) -> BackendResult<bool> {
        Err(BackendError::new(BackendErrorKind::Unsupported, "this backend has no compare-and-set"))
    }

    /// Adds to a number, in one atomic step, and returns what it is then. Numbers are decimal text, as Redis has them.
    ///
    /// A number that is there keeps its life. An absent one counts as 0, and lives for `ttl` then, at least 1 ms;
    /// `None`
    /// is for ever.
    ///
    /// Provided in terms of [`get`](Self::get) and [`compare_and_set`](Self::compare_and_set), again and again until
    /// nobody else changed the number in between: writes that are sent meanwhile may take effect before it.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set). `Rejected` when what is there is no decimal integer of 64 bits, or the sum would be none;
    /// nothing was changed then.
    async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
        loop {
            let stored = self.get(key).await?;
            let Some(life) = stored.as_ref().map_or(Some(ttl), |stored| left(stored.ttl)) else { continue };
            let held = stored.map(|stored| stored.value);
            let sum = added(held.as_deref(), by)?;
            if self.compare_and_set(key, held, Some(sum.to_string().into()), life).await? {
                return Ok(Counted::new(sum, life));
            }
        }
    }

    /// Sets how long a value lives from now on, at least 1 ms, and returns whether it was there.
    ///
    /// Provided in terms of [`get`](Self::get) and [`compare_and_set`](Self::compare_and_set): the value is written
    /// once more.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set).
    async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool> {
        loop {
            let Some(Stored { value, .. }) = self.get(key).await? else { return Ok(false) };
            if self.compare_and_set(key, Some(value.clone()), Some(value), Some(ttl)).await? {
                return Ok(true);
            }
        }
    }

    /// Reads many values: same length and order as `keys`. One round trip where the backend can.
    ///
    /// Provided as one [`get`](Self::get) after the other.
    async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.get(key).await);
        }
        results
    }

    /// Reads many values as [`get_many`](Self::get_many) does, and hands each answer over as soon as it is there,
    /// exactly one for each key, in any order.
    ///
    /// Provided as one [`get_many`](Self::get_many).
    async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
        for (index, answer) in self.get_many(keys).await.into_iter().enumerate().take(keys.len()) {
            answers(index, answer);
        }
    }

    /// Returns whether [`get_each`](Self::get_each) reads many keys in hardly more time than one: a cache then gathers
    /// the reads of different keys that come at the same time, and makes one call of them.
    ///
    /// Provided as `false`: each read is a call of its own.
    fn reads_together(&self) -> bool {
        false
    }

    /// Returns a number that grows whenever anything is sent to or arrives from the backend, so that a slow call can be
    /// distinguished from a dead one.
    ///
    /// Provided as a number that never grows: only answers count as progress then.
    fn progress(&self) -> u64 {
        0
    }

    /// Writes many values, and returns of each whether it was written, which it is unless its condition was not met:
    /// same length and order as `writes`; of two writes to one key the later one wins. One round trip where the backend
    /// can.
    ///
    /// Provided as one [`set`](Self::set) or [`compare_and_set`](Self::compare_and_set) after the other, with a
    /// [`get`](Self::get) before where a [life is kept](Write::keep_ttl).
    async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
        let mut results = Vec::with_capacity(writes.len());
        for write in writes {
            let Write { key, value, ttl, keep_ttl, condition } = write;
            let (value, ttl) = (value.clone(), *ttl);
            results.push(match condition {
                WriteCondition::Always | WriteCondition::Holds(_) if *keep_ttl => replace_keeping(self, write).await,
                WriteCondition::Always => self.set(key, value, ttl).await.map(|()| true),
                WriteCondition::Absent => self.compare_and_set(key, None, Some(value), ttl).await,
                WriteCondition::Holds(held) => self.compare_and_set(key, Some(held.clone()), Some(value), ttl).await,
            });
        }
        results
    }

    /// Removes many keys: same length and order as `keys`. One round trip where the backend can.
    ///
    /// Provided as one [`delete`](Self::delete) after the other.
    async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
        let mut results = Vec::with_capacity(keys.len());
        for key in keys {
            results.push(self.delete(key).await);
        }
        results
    }

    /// Returns what stands before the namespace of every cache on this backend. The cache puts it there: keys, prefixes
    /// and the namespace of a [`Watch`] come with it.
    ///
    /// Provided as nothing.
    fn key_prefix(&self) -> Option<&Namespace> {
        None
    }

    /// Returns what the backend is, as metrics have it under `db.system.name`.
    ///
    /// Provided as `other`.
    fn system(&self) -> &'static str {
        "other"
    }

    /// Starts reporting changes to a listener, and returns once they are reported for certain.
    ///
    /// A handle serves one cache: a second call on the same handle is an error of kind `Unsupported`. A namespace that
    /// [overlaps](Namespace::overlaps) another one is `Rejected` wherever a backend sees both: over one link, or in one
    /// store of this process.
    /// Provided as "nobody reports changes".
    ///
    /// # Errors
    ///
    /// When the backend cannot be reached, or cannot do the mode that was asked for.
    async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
        match watch.coherence {
            None | Some(Coherence::None) => Ok(Attachment::new(Coherence::None)),
            Some(asked) => Err(BackendError::new(
                BackendErrorKind::Unsupported,
                format!("this backend does not report changes, so coherence `{asked}` is not to be had"),
            )),
        }
    }

    /// Returns over which link a key is read and written now: the one whose reports and proofs of life stand for what
    /// the next command about the key brings. Without waiting; a cache asks it before and after it registers a ticket,
    /// and then sends the command.
    ///
    /// Provided as [`LinkId::ONLY`], for backends that have one link or none; the others number theirs from 1. What a
    /// backend of several links owes besides:
    ///
    /// - An operation that ends at another link than this said when it was sent, as one that is redirected on its way,
    ///   is answered, and nobody keeps what it brought: the backend calls [`ChangeListener::changed`] with the key
    ///   *before* it hands the answer over.
    /// - When keys go from one link to another, this says so first, and only then, for each link that lost or gained
    ///   any, [`ChangeListener::flushed`] or [`ChangeListener::link_down`] is called. In the other order a ticket
    ///   could be registered between the two, by the old route and in the new epoch, and be kept.
    fn route(&self, _key: &[u8]) -> LinkId {
        LinkId::ONLY
    }

    /// Returns the state of the link, without a round trip; of several, that of all of them together: they are up when
    /// every one is.
    fn link(&self) -> LinkState {
        LinkState::Unlinked
    }

    /// Returns the state of each link, without a round trip.
    ///
    /// Provided as the state of [`LinkId::ONLY`].
    fn links(&self) -> Vec<LinkStatus> {
        vec![LinkStatus::new(LinkId::ONLY, self.link())]
    }

    /// Ends the link: every later call but this one is an error of kind `Closed`.
    ///
    /// Provided as nothing at all, for backends that hold nothing and so have nothing to end; a cache refuses later
    /// calls by itself.
    async fn close(&self) {}
}

/// Replaces a value by another that lives as long as it would have; see [`Write::keep_ttl`].
async fn replace_keeping<B: Backend + ?Sized>(backend: &B, write: &Write) -> BackendResult<bool> {
    let Write { key, value, ttl, condition, .. } = write;
    loop {
        let stored = backend.get(key).await?;
        let held = stored.as_ref().map(|stored| stored.value.clone());
        if matches!(condition, WriteCondition::Holds(expected) if held.as_ref() != Some(expected)) {
            return Ok(false);
        }
        let Some(life) = stored.map_or(Some(*ttl), |stored| left(stored.ttl)) else { continue };
        if backend.compare_and_set(key, held, Some(value.clone()), life).await? {
            return Ok(true);
        }
    }
}

/// Returns for how long a value goes on living, `Some(None)` for ever; `None` when it goes, or went, this very moment.
fn left(ttl: RemainingTtl) -> Option<Option<Duration>> {
    match ttl {
        RemainingTtl::Persistent => Some(None),
        RemainingTtl::Expires(left) => Some(Some(left.max(Duration::from_millis(1)))),
        RemainingTtl::Unknown => None,
    }
}

/// Adds to a number in decimal text; an absent one is 0.
pub(crate) fn added(held: Option<&[u8]>, by: i64) -> BackendResult<i64> {
    let rejected = |message| BackendError::new(BackendErrorKind::Rejected, message);
    let number = match held {
        None => 0,
        // Strictly as Redis reads it: no plus sign, no leading zeros, no blanks.
        Some(held) => std::str::from_utf8(held)
            .ok()
            .and_then(|text| text.parse::<i64>().ok().filter(|number| number.to_string() == text))
            .ok_or_else(|| rejected("the value is no integer of 64 bits in decimal text"))?,
    };
    number.checked_add(by).ok_or_else(|| rejected("the sum is no integer of 64 bits"))
}

/// Forwards to the backend inside. Nothing is left to a provided method, or a wrapper would lose its batching.
macro_rules! forward {
    ($($wrapper:ident),*) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<B: Backend + ?Sized> Backend for $wrapper<B> {
            async fn ready(&self) -> BackendResult<()> {
                (**self).ready().await
            }

            async fn get(&self, key: &[u8]) -> BackendResult<Option<Stored>> {
                (**self).get(key).await
            }

            fn start_get(&self, key: &[u8], reply: GetReply) -> Option<GetReply> {
                (**self).start_get(key, reply)
            }

            async fn set(&self, key: &[u8], value: Bytes, ttl: Option<Duration>) -> BackendResult<()> {
                (**self).set(key, value, ttl).await
            }

            async fn delete(&self, key: &[u8]) -> BackendResult<bool> {
                (**self).delete(key).await
            }

            async fn clear(&self, prefix: &[u8]) -> BackendResult<u64> {
                (**self).clear(prefix).await
            }

            async fn compare_and_set(
                &self,
                key: &[u8],
                expected: Option<Bytes>,
                value: Option<Bytes>,
                ttl: Option<Duration>,
            ) -> BackendResult<bool> {
                (**self).compare_and_set(key, expected, value, ttl).await
            }

            async fn increment(&self, key: &[u8], by: i64, ttl: Option<Duration>) -> BackendResult<Counted> {
                (**self).increment(key, by, ttl).await
            }

            async fn touch(&self, key: &[u8], ttl: Duration) -> BackendResult<bool> {
                (**self).touch(key, ttl).await
            }

            async fn get_many(&self, keys: &[Bytes]) -> Vec<BackendResult<Option<Stored>>> {
                (**self).get_many(keys).await
            }

            async fn get_each(&self, keys: &[Bytes], answers: AnswerSink<'_>) {
                (**self).get_each(keys, answers).await;
            }

            fn reads_together(&self) -> bool {
                (**self).reads_together()
            }

            fn progress(&self) -> u64 {
                (**self).progress()
            }

            async fn set_many(&self, writes: &[Write]) -> Vec<BackendResult<bool>> {
                (**self).set_many(writes).await
            }

            async fn delete_many(&self, keys: &[Bytes]) -> Vec<BackendResult<bool>> {
                (**self).delete_many(keys).await
            }

            fn key_prefix(&self) -> Option<&Namespace> {
                (**self).key_prefix()
            }

            fn system(&self) -> &'static str {
                (**self).system()
            }

            async fn attach(&self, watch: Watch) -> BackendResult<Attachment> {
                (**self).attach(watch).await
            }

            fn route(&self, key: &[u8]) -> LinkId {
                (**self).route(key)
            }

            fn link(&self) -> LinkState {
                (**self).link()
            }

            fn links(&self) -> Vec<LinkStatus> {
                (**self).links()
            }

            async fn close(&self) {
                (**self).close().await;
            }
        }
    )*};
}

forward!(Arc, Box);
