//! The configuration of a cache.

use std::{ffi::OsString, time::Duration};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Eviction, OnUndecodable, check_time_to_live, duration, env, layer, layer::layered};
use crate::{Coherence, Namespace};

/// What an entry may weigh on average before the bound on bytes, where it was left out, is felt before that on entries.
const BYTES_PER_ENTRY: usize = 2000;

/// Everything there is to configure about a cache: defaults in code, and over them TOML, JSON or the environment.
///
/// Each layer sets the fields that it names, and no other. Unknown fields are errors, and every field is validated by
/// [`validate`](Self::validate) before anything is built. Durations carry their unit: `"250ms"`, `"5m"`, `"1h 30m"`.
///
/// ```
/// # use twotier_core as twotier;
/// use std::time::Duration;
/// use twotier::CacheConfig;
///
/// let config = CacheConfig::new("users").max_entries(10_000).time_to_live(Duration::from_secs(300))
///     .with_json(r#"{ "max_entries": 20000, "negative_time_to_live": "off" }"#)?
///     // As `with_env` does with the variables of the process.
///     .with_vars("MYAPP_CACHE", [("MYAPP_CACHE_MAX_STALENESS".into(), "1s".into())])?;
/// assert_eq!((config.max_entries, config.max_staleness), (20_000, Duration::from_secs(1)));
/// assert_eq!((config.time_to_live, config.negative_time_to_live), (Some(Duration::from_secs(300)), None));
/// # Ok::<(), twotier::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "CacheLayer")]
#[non_exhaustive]
pub struct CacheConfig {
    /// The prefix of every key in the backend: `<namespace>:<key>`; see [`Namespace`]. Default `twotier`.
    pub namespace: String,
    /// Whether there is a local tier; without one every read goes to the backend. Default true.
    pub local_enabled: bool,
    /// The most entries in the local tier, at least 1. Default 500.
    pub max_entries: usize,
    /// The most bytes in the local tier: keys, values as weighed, and a fixed overhead for each entry. A value is kept
    /// if it weighs up to an eighth of that, or up to all of it where there are fewer than 2048 `max_entries`.
    /// Left out: 2000 for each of `max_entries`, which is 1 000 000 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<usize>,
    /// Which entry goes when the local tier is full: `lru`, `lfu`, `fifo`, `random`, `random:SEED`, `s3-fifo` or
    /// `w-tinylfu`. Default `lru`.
    pub eviction: Eviction,
    /// How long a written value lives in the backend; `"off"` is for ever. Default off.
    #[serde(serialize_with = "duration::write_or_off")]
    pub time_to_live: Option<Duration>,
    /// The longest a local copy is served without asking the backend again; each copy gets up to a tenth less, so that
    /// copies made together do not end together. It never outlives the value in the backend.
    /// Left out: 60 s where the backend reports changes, 5 s where nothing but this bounds how stale a copy gets.
    #[serde(serialize_with = "duration::write_or_off", skip_serializing_if = "Option::is_none")]
    pub local_time_to_live: Option<Duration>,
    /// How long the local tier remembers that a key is absent; `"off"` not at all. Default 5 s. Also for how long it
    /// remembers that a loader found nothing, unless the loader says how long. In a cluster `max_staleness` at most.
    #[serde(serialize_with = "duration::write_or_off")]
    pub negative_time_to_live: Option<Duration>,
    /// Whether it is stored in the backend too that a loader found nothing, so that no other instance loads until that
    /// expires or the key is written or deleted. Takes a local tier and a codec that can say it, such as `Sealed`.
    /// Default false.
    pub share_absence: bool,
    /// Whether reads extend the life of what they find, to `time_to_live` from then on: a share of it, above 0 and up
    /// to
    /// 0.5, after which the next read does so, in the background; 0 is not at all. Extended at most once for each such
    /// share, by one command that drops no copy here, and one at most in each other instance. Takes a `time_to_live` of
    /// up to 10 days. Default 0.
    pub sliding: f64,
    /// By how much `time_to_live` is shortened at random, as a share between 0 and 1, so that values written together
    /// do not expire together. A time to live given with one write is taken as it is. Default 0.
    pub ttl_jitter: f64,
    /// How local copies are kept coherent; left out, the best the backend has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coherence: Option<Coherence>,
    /// The longest a hit may be stale, between 50 ms and 1 h. Default 2 s.
    #[serde(serialize_with = "duration::write")]
    pub max_staleness: Duration,
    /// The longest one call waits for the backend; for a batch, the longest it waits for the next of its answers.
    /// Default 500 ms.
    #[serde(serialize_with = "duration::write")]
    pub op_timeout: Duration,
    /// The longest one run of a loader may take; then it is dropped, and the call is an error. Default 30 s.
    #[serde(serialize_with = "duration::write")]
    pub load_timeout: Duration,
    /// The longest a call waits for somebody else's loader before it runs its own. Default 2 s.
    #[serde(serialize_with = "duration::write")]
    pub load_wait: Duration,
    /// How many keys wait to be invalidated while the backend is away, at most 10 000 000; where more come to wait the
    /// namespace is cleared instead. 0 is none: an invalidation that cannot be made is an error. Default 0.
    pub queue_invalidations: usize,
    /// How many loaders run at a time while the backend does not answer, between 1 and 1 000 000; whoever waits for a
    /// place longer than `load_wait` gets an error. Default 16.
    pub outage_loads: usize,
    /// How long a value is kept locally that was loaded while the backend did not answer, from before the load began;
    /// `"0s"` is not at all. Left out: `max_staleness`, within which it is as fresh as any hit.
    #[serde(serialize_with = "duration::write_or_off", skip_serializing_if = "Option::is_none")]
    pub outage_time_to_live: Option<Duration>,
    /// The longest that a local copy may have been stale when it stands in for a backend that does not answer, up to 7
    /// days; `"off"` is not at all. A copy is kept for so much longer than it is served as a hit, but never past its
    /// time to live in the backend. Default off.
    #[serde(serialize_with = "duration::write_or_off")]
    pub stale_if_error: Option<Duration>,
    /// How long a read waits for the backend before such a copy is returned, while the read goes on; `"0s"` is not at
    /// all. Takes `stale_if_error`. Left out: until the backend has failed or `op_timeout` has passed.
    #[serde(serialize_with = "duration::write_or_off", skip_serializing_if = "Option::is_none")]
    pub soft_timeout: Option<Duration>,
    /// How many local copies, the hottest first, are read again when a link that was lost is back, so that they are
    /// hits again before they are asked for; 0 is none. Left out: half of `max_entries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revalidate: Option<usize>,
    /// Whether a key whose local copy ends by a report is read again at once, in the background, so that a popular key
    /// that others write often stays a hit. Default false.
    pub refresh_reported: bool,
    /// The largest encoded value that is written or kept, in bytes. Default 16 MiB. A larger one in Redis is an error
    /// of its own key; from 64 KiB on it takes no memory.
    pub max_value_bytes: usize,
    /// What bytes in the backend that do not decode are to a read: `error`, or `miss`, an absent key, which loads and
    /// updates replace. Default `error`.
    pub on_undecodable: OnUndecodable,
    /// Whether each encoding is decoded and compared before it is written, so that a value that would not be read back
    /// equal is an error and changes nothing. Costs a decoding for each write. Default true where debug assertions are
    /// on, else false.
    pub verify_writes: bool,
    /// The most keys that are under way to the backend at once, between 1 and 1 000 000. Default 4096: more than a
    /// network of 40 ms needs to keep a server busy that answers 100 000 keys a second.
    pub max_in_flight: usize,
    /// The most calls that wait while so many keys are under way; one more is refused as overloaded. Default 65 536:
    /// about as many as a server answers within the default `op_timeout`, so that more would only wait for their
    /// timeout.
    pub max_waiting: usize,
    /// After how many calls in a row that got no answer the breaker opens, so that the next ones fail at once instead
    /// of waiting; 0 is no breaker. Default 3.
    pub breaker_failures: u32,
    /// How long without an answer opens the breaker before that, though not because of one call alone. Default 1 s.
    #[serde(serialize_with = "duration::write")]
    pub breaker_silence: Duration,
    /// The longest pause before another call is tried while the breaker is open. Default 2 s.
    #[serde(serialize_with = "duration::write")]
    pub breaker_pause: Duration,
    /// Whether `stats().advice()` says what other sizes of the local tier would bring. Default false: it takes up to
    /// 0.4 MB, and a microsecond or two of each miss.
    pub size_advice: bool,
    /// How many local hits a second are audited, at most: read again from the backend, to see that the copy was what it
    /// holds. Each costs one read, and no call waits for it. Up to 1000, fractions allowed; 0 is none. Default 0.
    pub audit: f64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            namespace: "twotier".to_owned(),
            local_enabled: true,
            max_entries: 500,
            max_bytes: None,
            eviction: Eviction::Lru,
            time_to_live: None,
            local_time_to_live: None,
            negative_time_to_live: Some(Duration::from_secs(5)),
            share_absence: false,
            sliding: 0.0,
            ttl_jitter: 0.0,
            coherence: None,
            max_staleness: Duration::from_secs(2),
            op_timeout: Duration::from_millis(500),
            load_timeout: Duration::from_secs(30),
            load_wait: Duration::from_secs(2),
            queue_invalidations: 0,
            outage_loads: 16,
            outage_time_to_live: None,
            stale_if_error: None,
            soft_timeout: None,
            revalidate: None,
            refresh_reported: false,
            max_value_bytes: 16 * 1024 * 1024,
            on_undecodable: OnUndecodable::Error,
            verify_writes: cfg!(debug_assertions),
            max_in_flight: 4096,
            max_waiting: 65_536,
            breaker_failures: 3,
            breaker_silence: Duration::from_secs(1),
            breaker_pause: Duration::from_secs(2),
            size_advice: false,
            audit: 0.0,
        }
    }
}

impl CacheConfig {
    /// Makes a configuration with this namespace and every default.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..Self::default() }
    }

    /// Reads and validates a configuration from JSON, over the defaults.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::default().with_json(text)
    }

    /// Reads and validates a configuration from TOML, over the defaults.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the unknown, malformed or out-of-range field.
    #[cfg(feature = "toml")]
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        Self::default().with_toml(text)
    }

    /// Reads and validates a configuration from the environment, over the defaults: `TWOTIER_` and the field's name in
    /// capitals, such as `TWOTIER_MAX_ENTRIES=10000`. [`with_env`](Self::with_env) takes another prefix.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the unknown, malformed or out-of-range variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(std::env::vars_os())
    }

    /// Does what [`from_env`](Self::from_env) does with variables given by the caller.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_vars(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        Self::default().with_vars(env::PREFIX, vars)
    }

    /// Sets [`local_enabled`](#structfield.local_enabled).
    #[must_use]
    pub fn local_enabled(mut self, local_enabled: bool) -> Self {
        self.local_enabled = local_enabled;
        self
    }

    /// Sets [`max_entries`](#structfield.max_entries).
    #[must_use]
    pub fn max_entries(mut self, max_entries: usize) -> Self {
        self.max_entries = max_entries;
        self
    }

    /// Sets [`max_bytes`](#structfield.max_bytes).
    #[must_use]
    pub fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = Some(max_bytes);
        self
    }

    /// Sets [`eviction`](#structfield.eviction).
    #[must_use]
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Sets [`time_to_live`](#structfield.time_to_live); `None` is "off".
    #[must_use]
    pub fn time_to_live(mut self, time_to_live: impl Into<Option<Duration>>) -> Self {
        self.time_to_live = time_to_live.into();
        self
    }

    /// Sets [`local_time_to_live`](#structfield.local_time_to_live).
    #[must_use]
    pub fn local_time_to_live(mut self, local_time_to_live: Duration) -> Self {
        self.local_time_to_live = Some(local_time_to_live);
        self
    }

    /// Sets [`negative_time_to_live`](#structfield.negative_time_to_live); `None` is "off".
    #[must_use]
    pub fn negative_time_to_live(mut self, negative_time_to_live: impl Into<Option<Duration>>) -> Self {
        self.negative_time_to_live = negative_time_to_live.into();
        self
    }

    /// Sets [`share_absence`](#structfield.share_absence).
    #[must_use]
    pub fn share_absence(mut self, share: bool) -> Self {
        self.share_absence = share;
        self
    }

    /// Sets [`sliding`](#structfield.sliding).
    #[must_use]
    pub fn sliding(mut self, share: f64) -> Self {
        self.sliding = share;
        self
    }

    /// Sets [`ttl_jitter`](#structfield.ttl_jitter).
    #[must_use]
    pub fn ttl_jitter(mut self, ttl_jitter: f64) -> Self {
        self.ttl_jitter = ttl_jitter;
        self
    }

    /// Sets [`coherence`](#structfield.coherence).
    #[must_use]
    pub fn coherence(mut self, coherence: Coherence) -> Self {
        self.coherence = Some(coherence);
        self
    }

    /// Sets [`max_staleness`](#structfield.max_staleness).
    #[must_use]
    pub fn max_staleness(mut self, max_staleness: Duration) -> Self {
        self.max_staleness = max_staleness;
        self
    }

    /// Sets [`op_timeout`](#structfield.op_timeout).
    #[must_use]
    pub fn op_timeout(mut self, op_timeout: Duration) -> Self {
        self.op_timeout = op_timeout;
        self
    }

    /// Sets [`load_timeout`](#structfield.load_timeout).
    #[must_use]
    pub fn load_timeout(mut self, load_timeout: Duration) -> Self {
        self.load_timeout = load_timeout;
        self
    }

    /// Sets [`load_wait`](#structfield.load_wait).
    #[must_use]
    pub fn load_wait(mut self, load_wait: Duration) -> Self {
        self.load_wait = load_wait;
        self
    }

    /// Sets [`max_value_bytes`](#structfield.max_value_bytes).
    #[must_use]
    pub fn max_value_bytes(mut self, max_value_bytes: usize) -> Self {
        self.max_value_bytes = max_value_bytes;
        self
    }

    /// Sets [`on_undecodable`](#structfield.on_undecodable).
    #[must_use]
    pub fn on_undecodable(mut self, reaction: OnUndecodable) -> Self {
        self.on_undecodable = reaction;
        self
    }

    /// Sets [`verify_writes`](#structfield.verify_writes).
    #[must_use]
    pub fn verify_writes(mut self, verify_writes: bool) -> Self {
        self.verify_writes = verify_writes;
        self
    }

    /// Sets [`max_in_flight`](#structfield.max_in_flight).
    #[must_use]
    pub fn max_in_flight(mut self, max_in_flight: usize) -> Self {
        self.max_in_flight = max_in_flight;
        self
    }

    /// Sets [`max_waiting`](#structfield.max_waiting).
    #[must_use]
    pub fn max_waiting(mut self, max_waiting: usize) -> Self {
        self.max_waiting = max_waiting;
        self
    }

    /// Sets [`size_advice`](#structfield.size_advice).
    #[must_use]
    pub fn size_advice(mut self, advice: bool) -> Self {
        self.size_advice = advice;
        self
    }

    /// Sets [`queue_invalidations`](#structfield.queue_invalidations).
    #[must_use]
    pub fn queue_invalidations(mut self, queue_invalidations: usize) -> Self {
        self.queue_invalidations = queue_invalidations;
        self
    }

    /// Sets [`outage_loads`](#structfield.outage_loads).
    #[must_use]
    pub fn outage_loads(mut self, outage_loads: usize) -> Self {
        self.outage_loads = outage_loads;
        self
    }

    /// Sets [`outage_time_to_live`](#structfield.outage_time_to_live).
    #[must_use]
    pub fn outage_time_to_live(mut self, outage_time_to_live: Duration) -> Self {
        self.outage_time_to_live = Some(outage_time_to_live);
        self
    }

    /// Sets [`stale_if_error`](#structfield.stale_if_error); `None` is "off".
    #[must_use]
    pub fn stale_if_error(mut self, longest: impl Into<Option<Duration>>) -> Self {
        self.stale_if_error = longest.into();
        self
    }

    /// Sets [`soft_timeout`](#structfield.soft_timeout).
    #[must_use]
    pub fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = Some(timeout);
        self
    }

    /// Sets [`revalidate`](#structfield.revalidate).
    #[must_use]
    pub fn revalidate(mut self, copies: usize) -> Self {
        self.revalidate = Some(copies);
        self
    }

    /// Sets [`refresh_reported`](#structfield.refresh_reported).
    #[must_use]
    pub fn refresh_reported(mut self, refresh: bool) -> Self {
        self.refresh_reported = refresh;
        self
    }

    /// Sets [`breaker_failures`](#structfield.breaker_failures).
    #[must_use]
    pub fn breaker_failures(mut self, breaker_failures: u32) -> Self {
        self.breaker_failures = breaker_failures;
        self
    }

    /// Sets [`breaker_silence`](#structfield.breaker_silence).
    #[must_use]
    pub fn breaker_silence(mut self, breaker_silence: Duration) -> Self {
        self.breaker_silence = breaker_silence;
        self
    }

    /// Sets [`breaker_pause`](#structfield.breaker_pause).
    #[must_use]
    pub fn breaker_pause(mut self, breaker_pause: Duration) -> Self {
        self.breaker_pause = breaker_pause;
        self
    }

    /// Sets [`audit`](#structfield.audit).
    #[must_use]
    pub fn audit(mut self, hits_per_second: f64) -> Self {
        self.audit = hits_per_second;
        self
    }

    /// Returns how many copies are read again when a link is back, chosen from `max_entries` when `revalidate` was left
    /// out.
    #[must_use]
    pub fn revalidated(&self) -> usize {
        self.revalidate.unwrap_or(self.max_entries / 2)
    }

    /// Returns the bound on the bytes of the local tier, chosen from `max_entries` when `max_bytes` was left out.
    #[must_use]
    pub fn local_bytes(&self) -> usize {
        self.max_bytes.unwrap_or_else(|| self.max_entries.saturating_mul(BYTES_PER_ENTRY))
    }

    /// Checks every field and returns the namespace.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] that names the first field that is out of range.
    pub fn validate(&self) -> Result<Namespace, ConfigError> {
        let namespace = Namespace::new(&self.namespace)?;
        if self.max_entries == 0 {
            let reason = "must be at least 1; to run without a local tier set `local_enabled` to false";
            return Err(ConfigError::new("max_entries", reason));
        }
        if self.max_bytes == Some(0) {
            let reason = "must be at least 1; to run without a local tier set `local_enabled` to false";
            return Err(ConfigError::new("max_bytes", reason));
        }
        if let Some(ttl) = self.time_to_live {
            check_time_to_live("time_to_live", ttl)?;
        }
        if let Some(ttl) = self.local_time_to_live {
            check_time_to_live("local_time_to_live", ttl)?;
        }
        if let Some(ttl) = self.negative_time_to_live {
            check_time_to_live("negative_time_to_live", ttl)?;
        }
        if self.share_absence && !self.local_enabled {
            return Err(ConfigError::new("share_absence", "takes a local tier, which remembers what was shared"));
        }
        if !(0.0..=0.5).contains(&self.sliding) {
            return Err(ConfigError::new("sliding", "must be a share of `time_to_live` from 0, for none, to 0.5"));
        }
        let longest_sliding = Duration::from_secs(10 * 24 * 60 * 60);
        if self.sliding > 0.0 && self.time_to_live.is_none_or(|ttl| ttl > longest_sliding) {
            return Err(ConfigError::new("sliding", "takes a `time_to_live`, of up to 10 days"));
        }
        if !(0.0..1.0).contains(&self.ttl_jitter) {
            return Err(ConfigError::new("ttl_jitter", "must be a share from 0 up to, but not including, 1"));
        }
        let (shortest, longest) = (Duration::from_millis(50), Duration::from_secs(3600));
        if self.max_staleness < shortest || self.max_staleness > longest {
            return Err(ConfigError::new("max_staleness", "must be between 50 ms and 1 h"));
        }
        for (field, timeout) in [
            ("op_timeout", self.op_timeout),
            ("load_timeout", self.load_timeout),
            ("load_wait", self.load_wait),
            ("breaker_silence", self.breaker_silence),
            ("breaker_pause", self.breaker_pause),
        ] {
            if timeout < Duration::from_millis(1) || timeout > longest {
                return Err(ConfigError::new(field, "must be between 1 ms and 1 h"));
            }
        }
        if self.max_value_bytes == 0 {
            return Err(ConfigError::new("max_value_bytes", "must be at least 1"));
        }
        if self.queue_invalidations > 10_000_000 {
            return Err(ConfigError::new("queue_invalidations", "must be at most 10000000"));
        }
        if !(1..=1_000_000).contains(&self.outage_loads) {
            return Err(ConfigError::new("outage_loads", "must be between 1 and 1000000"));
        }
        if self.outage_time_to_live.is_some_and(|ttl| ttl > longest) {
            return Err(ConfigError::new("outage_time_to_live", "must be at most 1 h"));
        }
        if self.stale_if_error.is_some_and(|stale| stale.is_zero() || stale > Duration::from_secs(7 * 24 * 60 * 60)) {
            return Err(ConfigError::new("stale_if_error", "must be above 0 and at most 7 days"));
        }
        if self.stale_if_error.is_some() && !self.local_enabled {
            return Err(ConfigError::new("stale_if_error", "takes a local tier, which has the copies"));
        }
        if self.soft_timeout.is_some_and(|timeout| timeout > longest) {
            return Err(ConfigError::new("soft_timeout", "must be at most 1 h"));
        }
        if self.soft_timeout.is_some() && self.stale_if_error.is_none() {
            return Err(ConfigError::new("soft_timeout", "takes `stale_if_error`, which says how stale a copy may be"));
        }
        if !(1..=1_000_000).contains(&self.max_in_flight) {
            return Err(ConfigError::new("max_in_flight", "must be between 1 and 1000000"));
        }
        if !(0.0..=1000.0).contains(&self.audit) {
            return Err(ConfigError::new("audit", "must be a number of hits a second between 0 and 1000"));
        }
        Ok(namespace)
    }
}

layered! {
    /// What one source says of a [`CacheConfig`]: the fields that it names. [`CacheConfig::with`] lays it over what
    /// others said.
    ///
    /// A part of your own configuration, where that is a struct for serde.
    // Variables that go on with `REDIS_` belong to `RedisConfig`.
    CacheLayer over CacheConfig, beside env::REDIS;
    namespace: String, "layer::named";
    #[serde(alias = "local_cache_enabled")]
    local_enabled: bool, "layer::named";
    #[serde(alias = "local_cache_size")]
    max_entries: usize, "layer::named";
    max_bytes: Option<usize>, "layer::chosen";
    eviction: Eviction, "layer::named";
    time_to_live: Option<Duration>, "duration::named_or_off";
    local_time_to_live: Option<Duration>, "duration::chosen";
    negative_time_to_live: Option<Duration>, "duration::named_or_off";
    share_absence: bool, "layer::named";
    sliding: f64, "layer::named";
    ttl_jitter: f64, "layer::named";
    coherence: Option<Coherence>, "layer::chosen";
    max_staleness: Duration, "duration::named";
    op_timeout: Duration, "duration::named";
    load_timeout: Duration, "duration::named";
    load_wait: Duration, "duration::named";
    queue_invalidations: usize, "layer::named";
    outage_loads: usize, "layer::named";
    outage_time_to_live: Option<Duration>, "duration::chosen";
    stale_if_error: Option<Duration>, "duration::named_or_off";
    soft_timeout: Option<Duration>, "duration::chosen";
    revalidate: Option<usize>, "layer::chosen";
    refresh_reported: bool, "layer::named";
    max_value_bytes: usize, "layer::named";
    on_undecodable: OnUndecodable, "layer::named";
    verify_writes: bool, "layer::named";
    max_in_flight: usize, "layer::named";
    max_waiting: usize, "layer::named";
    breaker_failures: u32, "layer::named";
    breaker_silence: Duration, "duration::named";
    breaker_pause: Duration, "duration::named";
    size_advice: bool, "layer::named";
    audit: f64, "layer::named";
}

impl From<CacheLayer> for CacheConfig {
    /// Lays the layer over the defaults. Nothing is validated.
    fn from(layer: CacheLayer) -> Self {
        Self::default().with(layer)
    }
}

#[cfg(test)]
mod tests;
