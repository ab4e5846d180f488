//! The typed second tier: the backend with all that stands between it and values.
//!
//! Permits, calls, deadlines and errors are dealt with here once. The local tier is not known here; what it has to do
//! with a read or a write comes in as a ticket or as a closure.

mod admission;
mod breaker;
mod breakers;
mod call;
mod deadlines;
mod gather;
mod invalidations;
mod read;
mod runtime;
mod settings;
mod slides;
mod write;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use twotier_backend::{Backend, Stored};
use twotier_core::{
    BackendError, BackendErrorKind, CodecError, Error, KeyError, Namespace, OnUndecodable, Operation, RemainingTtl,
    check_key, check_time_to_live,
};
use twotier_local::{Digest, FillTicket, LocalTier};

use crate::{
    Codec, Result, SetOptions,
    codec::Place,
    log::Occasional,
    meter::{Call, Meter},
};

pub(crate) use self::{
    admission::{Admission, Cost, writes_at_once},
    breaker::BreakerOptions,
    breakers::{Breakers, Links},
    deadlines::Deadline,
    gather::Gatherer,
    invalidations::{Invalidations, Queued},
    read::ReadStart,
    runtime::{Home, entered},
    settings::{Settings, Sliding, StaleOptions},
    slides::SlideSender,
    write::{PendingWrite, WriteQueue},
};

/// What the local tier keeps: a decoded value, or the knowledge that the key is absent.
pub(crate) type CachedValue<V> = Option<Arc<V>>;
pub(crate) type Local<V> = LocalTier<CachedValue<V>, Error>;
pub(crate) type Fill<V> = FillTicket<CachedValue<V>, Error>;
/// Says what a value weighs, in bytes.
pub(crate) type Weigher<V> = dyn Fn(&str, &V) -> usize + Send + Sync;

/// The most keys that go to the backend in one call.
pub(crate) const BATCH: usize = 512;
/// The longest that an absence is remembered which a loader gave for ever.
const LONGEST_ABSENCE: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) struct Remote<V> {
    pub(crate) namespace: Namespace,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) codec: Arc<dyn Codec<V>>,
    pub(crate) weigher: Option<Arc<Weigher<V>>>,
    pub(crate) settings: Settings,
    pub(crate) admission: Admission,
    pub(crate) gatherer: Gatherer<V>,
    pub(crate) writes: WriteQueue<V>,
    pub(crate) breakers: Arc<Breakers>,
    pub(crate) invalidations: Arc<Invalidations>,
    pub(crate) meter: Meter,
    /// Loaded values that were not stored.
    pub(crate) unstored: Occasional,
    /// Where reads extend the life of what they find: takes their keys.
    pub(crate) slides: Option<SlideSender>,
    /// Where requests run to their end whatever becomes of their callers.
    pub(crate) runtime: Home,
    pub(crate) closed: AtomicBool,
}

/// What the backend said about one key.
pub(crate) struct Fetched<V> {
    pub(crate) value: CachedValue<V>,
    digest: Digest,
    weight: usize,
    /// How long a local copy may live; `None` when it may not be kept.
    life: Option<Duration>,
}

impl<V> Fetched<V> {
    /// Ends a read with what it brought. The ticket decides whether it is kept.
    pub(crate) fn fill(self, ticket: Fill<V>) {
        let _kept = ticket.fill(self.value, self.digest, self.weight, self.life);
    }
}

/// What passed every check and is ready to be sent: a value, or what stands for the absence of one at the origin.
pub(crate) struct Prepared<V> {
    pub(crate) value: CachedValue<V>,
    pub(crate) bytes: bytes::Bytes,
    pub(crate) weight: usize,
    pub(crate) ttl: Option<Duration>,
    /// How long the local copy lives: the shorter of both times to live.
    pub(crate) life: Duration,
}

impl<V> Prepared<V> {
    /// Returns what stands for the bytes in the local tier.
    pub(crate) fn digest(&self) -> Digest {
        match self.value {
            Some(_) => Digest::of(&self.bytes),
            None => Digest::LOADED_ABSENT,
        }
    }
}

impl<V: Send + Sync + 'static> Remote<V> {
    /// Refuses every operation once the cache is closed.
    pub(crate) fn open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed { operation, namespace: self.namespace.clone() });
        }
        Ok(())
    }

    pub(crate) fn check_key(&self, operation: Operation, key: &str) -> Result<()> {
        check_key(key).map_err(|source: KeyError| Error::InvalidKey {
            operation,
            namespace: self.namespace.clone(),
            source,
        })
    }

    /// The most keys that go to the backend in one call of this cache.
    pub(crate) fn batch(&self) -> usize {
        BATCH.min(self.admission.max_in_flight())
    }

    /// Where the value of a key is kept, for the codec.
    pub(crate) fn place<'a>(&'a self, key: &'a str) -> Place<'a> {
        Place::new(self.namespace.as_str(), key, self.settings.max_value_bytes)
    }

    /// What a value weighs in the local tier, beside its key and the tier's own overhead.
    fn weigh(&self, key: &str, value: &V, encoded: usize) -> usize {
        match &self.weigher {
            Some(weigher) => weigher(key, value),
            None => encoded,
        }
    }

    /// Decodes what the backend holds; `None` when these bytes are to be read as an absent key.
    pub(crate) fn decode(&self, operation: Operation, key: &str, bytes: &bytes::Bytes) -> Result<Option<V>> {
        if bytes.len() > self.settings.max_value_bytes {
            return Err(self.refused(Call::Read, self.too_large(operation, bytes.len())));
        }
        match self.codec.decode_at(self.place(key), bytes) {
            Ok(Some(value)) => Ok(Some(value)),
            Ok(None) => {
                if !self.codec.is_absence_at(self.place(key), bytes) {
                    self.meter.foreign();
                }
                Ok(None)
            }
            Err(source) => {
                self.meter.undecodable();
                if self.undecodable_is_absent() {
                    Ok(None)
                } else {
                    Err(self.refused(Call::Read, self.codec_failed(operation, source)))
                }
            }
        }
    }

    /// Returns whether [`decode`](Self::decode) reads these bytes as an absent key. They were counted when that was
    /// done.
    pub(crate) fn reads_as_absent(&self, key: &str, bytes: &bytes::Bytes) -> bool {
        match self.codec.decode_at(self.place(key), bytes) {
            Ok(decoded) => decoded.is_none(),
            Err(_undecodable) => self.undecodable_is_absent(),
        }
    }

    /// Returns what stands for these bytes in the local tier.
    pub(crate) fn digest(&self, key: &str, bytes: &bytes::Bytes) -> Digest {
        if self.codec.is_absence_at(self.place(key), bytes) { Digest::LOADED_ABSENT } else { Digest::of(bytes) }
    }

    fn undecodable_is_absent(&self) -> bool {
        self.settings.on_undecodable == OnUndecodable::Miss
    }

    fn codec_failed(&self, operation: Operation, source: CodecError) -> Error {
        Error::Codec { operation, namespace: self.namespace.clone(), source }
    }

    /// Decodes the answer to a read, outside every lock.
    pub(crate) fn understand(&self, operation: Operation, key: &str, stored: Option<Stored>) -> Result<Fetched<V>> {
        let Some(Stored { value: bytes, ttl, .. }) = stored else {
            let life = self.settings.negative_time_to_live;
            return Ok(Fetched { value: None, digest: Digest::ABSENT, weight: 0, life });
        };
        let Some(value) = self.decode(operation, key, &bytes)? else {
            let digest = self.digest(key, &bytes);
            if digest == Digest::LOADED_ABSENT {
                let life = ttl.cap(self.settings.local_ttl());
                return Ok(Fetched { value: None, digest, weight: 0, life });
            }
            // Kept as an absent key is, but under the digest of what is there: to the local tier these bytes are one
            // version of the key and true absence is another, and it must not take news of the one for the other.
            return Ok(Fetched { value: None, digest, weight: 0, life: self.settings.negative_time_to_live });
        };
        if let (Some(slides), Some(sliding), RemainingTtl::Expires(left)) = (&self.slides, &self.settings.sliding, ttl)
            && sliding.is_due(left)
        {
            slides.want(key);
        }
        let weight = self.weigh(key, &value, self.codec.weight(&bytes));
        let digest = Digest::of(&bytes);
        Ok(Fetched { value: Some(Arc::new(value)), digest, weight, life: ttl.cap(self.settings.local_ttl()) })
    }

    /// Encodes and checks a value, before anything is changed.
    pub(crate) fn prepare(
        &self,
        operation: Operation,
        key: &str,
        value: Arc<V>,
        options: SetOptions,
    ) -> Result<Prepared<V>> {
        let prepared = self.prepare_uncounted(operation, key, value, options);
        // A value that a load brought is counted as it is not stored.
        match Call::of(operation) {
            Call::Write => prepared.map_err(|error| self.refused(Call::Write, error)),
            _ => prepared,
        }
    }

    /// Counts an error that no call of the backend was.
    fn refused(&self, call: Call, error: Error) -> Error {
        self.meter.refused(call, error.kind());
        error
    }

    fn prepare_uncounted(
        &self,
        operation: Operation,
        key: &str,
        value: Arc<V>,
        options: SetOptions,
    ) -> Result<Prepared<V>> {
        let ttl = self.ttl_of(operation, options)?;
        let place = self.place(key);
        let bytes = self.codec.encode_at(place, &value).map_err(|source| self.codec_failed(operation, source))?;
        if bytes.len() > self.settings.max_value_bytes {
            return Err(self.too_large(operation, bytes.len()));
        }
        if self.settings.verify_writes {
            self.codec.verify_at(place, &value, &bytes).map_err(|source| self.codec_failed(operation, source))?;
        }
        let weight = self.weigh(key, &value, self.codec.weight(&bytes));
        let local = self.settings.local_ttl();
        let life = ttl.map_or(local, |ttl| ttl.min(local));
        Ok(Prepared { value: Some(value), bytes, weight, ttl, life })
    }

    /// Makes what tells other instances that the origin has nothing under a key, where that is shared.
    pub(crate) fn prepare_absence(&self, key: &str, life: Duration) -> Option<Prepared<V>> {
        let bytes = self.settings.share_absence.then(|| self.codec.encode_absence_at(self.place(key))).flatten()?;
        let ttl = Some(life);
        Some(Prepared { value: None, bytes, weight: 0, ttl, life: life.min(self.settings.local_ttl()) })
    }

    /// Returns for how long the absence that a loader brought is remembered, if at all.
    pub(crate) fn life_of_absence(&self, operation: Operation, options: SetOptions) -> Result<Option<Duration>> {
        match options.ttl {
            None => Ok(self.settings.negative_time_to_live),
            // No report ends it for certain: it has to end by itself.
            Some(None) => Ok(Some(LONGEST_ABSENCE)),
            Some(Some(life)) => self.checked_ttl(operation, life).map(|life| Some(life.min(LONGEST_ABSENCE))),
        }
    }

    /// Decodes what we wrote ourselves, and returns what it weighs too; `None` where the type has no such value.
    /// Counted nowhere.
    pub(crate) fn decoded_quietly(&self, key: &str, bytes: &bytes::Bytes) -> Option<(V, usize)> {
        let value = self.codec.decode_at(self.place(key), bytes).ok().flatten()?;
        let weight = self.weigh(key, &value, self.codec.weight(bytes));
        Some((value, weight))
    }

    /// Returns how long a value lives that is written with these options.
    pub(crate) fn ttl_of(&self, operation: Operation, options: SetOptions) -> Result<Option<Duration>> {
        match options.ttl {
            None => Ok(self.settings.default_ttl()),
            Some(None) => Ok(None),
            Some(Some(ttl)) => self.checked_ttl(operation, ttl).map(Some),
        }
    }

    /// Refuses a time to live that is out of range.
    pub(crate) fn checked_ttl(&self, operation: Operation, ttl: Duration) -> Result<Duration> {
        check_time_to_live("time_to_live", ttl).map_err(|source| Error::InvalidOption {
            operation,
            namespace: self.namespace.clone(),
            source,
        })?;
        Ok(ttl)
    }

    pub(crate) fn backend_failed(&self, operation: Operation, source: BackendError) -> Error {
        if source.kind() == BackendErrorKind::Closed && self.closed.load(Ordering::Acquire) {
            return Error::Closed { operation, namespace: self.namespace.clone() };
        }
        match source.kind() {
            BackendErrorKind::ValueTooLarge { size } => self.too_large(operation, size),
            _ => Error::Backend { operation, namespace: self.namespace.clone(), source },
        }
    }

    fn too_large(&self, operation: Operation, size: usize) -> Error {
        let limit = self.settings.max_value_bytes;
        Error::ValueTooLarge { operation, namespace: self.namespace.clone(), size, limit }
    }

    pub(crate) fn timed_out(&self, operation: Operation, sent: bool) -> Error {
        Error::Timeout { operation, namespace: self.namespace.clone(), after: self.settings.op_timeout, sent }
    }

    /// Why nothing is sent any more once the runtime of this cache has ended.
    fn ended(&self) -> Option<BackendError> {
        let ended =
            || BackendError::new(BackendErrorKind::Unavailable, "the runtime of the cache has ended").not_sent();
        self.runtime.has_ended().then(ended)
    }

    fn overloaded(&self, operation: Operation, call: Call) -> Error {
        self.meter.overloaded(call);
        Error::Overloaded { operation, namespace: self.namespace.clone(), waiting: self.admission.max_waiting() }
    }
}

/// A backend of the user's own may break the contract: what it left unanswered is an error, never a silent success.
pub(crate) fn unanswered() -> BackendError {
    BackendError::new(BackendErrorKind::Protocol, "the backend did not return one result for each item of a batch")
}
