//! From settings to a cache: everything is checked, made and attached.

use std::{
    panic::catch_unwind,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::Duration,
};

use tokio::runtime::Handle;
use twotier_backend::{Backend, Watch};
use twotier_core::{ConfigError, Error, LinkId, LinkStatus, Namespace, Operation};
use twotier_local::{LocalOptions, LocalTier, Route};

use super::CacheBuilder;
use crate::{
    Cache, Codec, Result,
    attach::{Attaching, Mode, PutInForce, attach},
    audit::Auditor,
    bulkhead::Bulkhead,
    codec::Place,
    events::{Announced, EventSender, Removals},
    log::Occasional,
    meter::Meter,
    refreshed::Refreshed,
    remote::{
        Admission, BreakerOptions, Breakers, Gatherer, Home, Invalidations, Remote, Settings, SlideSender, Sliding,
        StaleOptions, WriteQueue,
    },
    revalidation::{Again, Revalidation},
    sliding::Slider,
    tiers::Tiers,
    turns::Turns,
};

impl<V: Send + Sync + 'static, C> CacheBuilder<V, C> {
    /// Builds the cache over a backend, and connects it: a few round trips.
    ///
    /// Must be called within a tokio runtime, which also runs the writes of this cache to their end.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the field that is out of range, before anything is connected.
    /// [`Error::Backend`] when the backend cannot be reached, refuses the credentials, or cannot do the coherence mode
    /// that was asked for.
    pub async fn build(self, backend: impl Backend) -> Result<Cache<V>>
    where
        C: Codec<V>,
    {
        let Parts { tiers, watch, local } = self.parts(Arc::new(backend))?;
        let Tiers { remote, .. } = &tiers;
        let namespace = &remote.namespace;
        let mode = put_in_force(&tiers);
        let attached = remote.runtime.entered(attach(&*remote.backend, watch, &mode)).await;
        let coherence = attached.map_err(|source| {
            let namespace = namespace.clone();
            Error::Backend { operation: Operation::Build, namespace, source }
        })?;
        tracing::info!(%namespace, %coherence, local, "cache built");
        Ok(Cache::from_tiers(tiers))
    }

    /// Builds the cache over a backend without waiting for it: the link is made in the background, for as long as it
    /// takes, and with growing pauses. For a service that has to start while its backend is away.
    ///
    /// Until the first link is up nothing is served from local copies or kept, writes are errors,
    /// [`get_or_load`](Cache::get_or_load) loads, and [`health`](Cache::health) returns why there is no link.
    /// Must be called within a tokio runtime, as [`build`](Self::build).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] names the field that is out of range. What the backend refuses is in
    /// [`health`](Cache::health), and logged.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use twotier::{Cache, RedisBackend};
    /// # async fn start() -> Result<(), twotier::Error> {
    /// let users: Cache<String> =
    ///     Cache::builder().namespace("users").build_lazy(RedisBackend::new("redis://not-there-yet")?)?;
    /// let user = users.get_or_load(42, async |id: u64| Ok::<_, std::io::Error>(format!("user {id}"))).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn build_lazy(self, backend: impl Backend) -> Result<Cache<V>>
    where
        C: Codec<V>,
    {
        let Parts { mut tiers, watch, .. } = self.parts(Arc::new(backend))?;
        let Remote { runtime, backend, .. } = &*tiers.remote;
        let attaching = Attaching::begin(runtime, Arc::clone(backend), watch.patient(), put_in_force(&tiers));
        tiers.attaching = attaching;
        Ok(Cache::from_tiers(tiers))
    }

    fn parts(self, backend: Arc<dyn Backend>) -> Result<Parts<V>>
    where
        C: Codec<V>,
    {
        let config = self.defaults.with(self.set);
        let namespace = config.validate()?;
        let namespace = match backend.key_prefix() {
            Some(prefix) => namespace.under(prefix)?,
            None => namespace,
        };
        if config.share_absence {
            let anywhere = Place::new(namespace.as_str(), "k", config.max_value_bytes);
            if self.codec.encode_absence_at(anywhere).is_none() {
                let reason = "takes a codec that can say that there is nothing, such as `codec::Sealed`";
                return Err(ConfigError::new("share_absence", reason).into());
            }
        }
        let runtime = Handle::try_current().map_err(|_no_runtime| Error::Usage {
            operation: Operation::Build,
            hint: "call it within a tokio runtime, or use twotier::blocking",
        })?;
        check_timers()?;
        let options = if config.local_enabled {
            LocalOptions::new(config.max_entries, config.local_bytes(), config.max_staleness).eviction(config.eviction)
        } else {
            LocalOptions::keep_nothing(config.max_staleness)
        };
        // A read that took longer than a caller waits is not joined: what it brings is older than any other answer.
        let options = options.joinable(config.op_timeout).size_advice(config.size_advice);
        let revalidated = if config.local_enabled { config.revalidated() } else { 0 };
        let options = options.keep_lost(config.stale_if_error.is_some() || revalidated > 0);
        let events = EventSender::new();
        let removals = Removals::new(events.clone(), self.on_removal, &runtime);
        let local = LocalTier::with_listener(
            namespace.clone(),
            options,
            self.clock,
            Box::new(removals),
            route(&backend, namespace.clone()),
        );
        let breaker = BreakerOptions {
            failures: config.breaker_failures,
            silence: config.breaker_silence,
            longest_pause: config.breaker_pause,
            patience: config.op_timeout,
        };
        let invalidations = Arc::new(Invalidations::new(config.queue_invalidations));
        let answers_again = {
            let (local, invalidations) = (local.clone(), Arc::clone(&invalidations));
            move || {
                local.end_outage();
                invalidations.retry.notify_one();
            }
        };
        let hooks = (links_now(&backend), Box::new(answers_again) as Box<_>);
        let breakers = Breakers::new(breaker, namespace.clone(), events.clone(), hooks);
        let (again, wanted) = Again::new(config.local_enabled && config.refresh_reported);
        let listener = Announced {
            local: local.clone(),
            again,
            breakers: Arc::clone(&breakers),
            invalidations: Arc::clone(&invalidations),
            events: events.clone(),
        };
        let watch = Watch::new(namespace.clone(), Arc::new(listener))
            .max_staleness(config.max_staleness)
            .coherence(config.coherence)
            .max_value_bytes(config.max_value_bytes);
        let settings = Settings {
            time_to_live: config.time_to_live,
            local_time_to_live: config.local_time_to_live,
            negative_time_to_live: config.negative_time_to_live,
            share_absence: config.share_absence,
            sliding: Sliding::of(&config),
            ttl_jitter: config.ttl_jitter,
            op_timeout: config.op_timeout,
            load_timeout: config.load_timeout,
            load_wait: config.load_wait,
            outage_time_to_live: config.outage_time_to_live,
            stale: StaleOptions::of(&config),
            max_value_bytes: config.max_value_bytes,
            on_undecodable: config.on_undecodable,
            verify_writes: config.verify_writes,
            mode: Mode::default(),
            coherence_asked: config.coherence,
            max_staleness: config.max_staleness,
            local_enabled: config.local_enabled,
        };
        let slides = settings.sliding.is_some().then(SlideSender::new);
        let gatherer = Gatherer::new(backend.reads_together());
        let remote = Arc::new(Remote {
            namespace,
            backend,
            codec: Arc::new(self.codec),
            weigher: self.weigher,
            settings,
            admission: Admission::new(config.max_in_flight, config.max_waiting),
            gatherer,
            writes: WriteQueue::default(),
            breakers,
            invalidations,
            meter: Meter::default(),
            unstored: Occasional::default(),
            slides: slides.as_ref().map(|(wanted, _)| wanted.clone()),
            runtime: Home::new(runtime),
            closed: AtomicBool::new(false),
        });
        let audited = config.local_enabled && config.audit > 0.0;
        let auditor = audited.then(|| Auditor::begin(config.audit, &local, &remote, &events));
        let slider = slides.map(|(wanted, keys)| Slider::begin(wanted, keys, &local, &remote));
        let revalidation = Revalidation::begin(revalidated, wanted, &local, &remote);
        let tiers = Tiers {
            local,
            remote,
            bulkhead: Bulkhead::new(config.outage_loads),
            events,
            attaching: None,
            auditor,
            slider,
            refreshed: Refreshed::default(),
            _revalidation: revalidation,
            updates: Turns::default(),
            counts: OnceLock::new(),
        };
        Ok(Parts { tiers, watch, local: config.local_enabled })
    }
}

/// A cache that is not attached yet.
struct Parts<V> {
    tiers: Tiers<V>,
    watch: Watch,
    local: bool,
}

/// Returns what puts the mode in force that the backend has: it decides how long copies are served.
fn put_in_force<V: Send + Sync + 'static>(tiers: &Tiers<V>) -> PutInForce {
    let (local, remote) = (tiers.local.clone(), Arc::downgrade(&tiers.remote));
    Box::new(move |coherence| {
        let Some(remote) = remote.upgrade() else { return };
        let Settings { mode, stale, .. } = &remote.settings;
        let _ = mode.set(coherence);
        if stale.is_some() {
            local.set_soft_life(remote.settings.longest_local_ttl());
        }
    })
}

/// Returns what asks the backend over which link a key lies. The backend holds the tier, so it is not held by it.
fn route(backend: &Arc<dyn Backend>, namespace: Namespace) -> Box<Route> {
    let backend = Arc::downgrade(backend);
    Box::new(move |key| match backend.upgrade() {
        Some(backend) => backend.route(&namespace.qualify(key)),
        None => LinkId::ONLY,
    })
}

/// Returns what asks the backend for its links. As with [`route`], the backend is not held.
fn links_now(backend: &Arc<dyn Backend>) -> Box<dyn Fn() -> Vec<LinkStatus> + Send + Sync> {
    let backend = Arc::downgrade(backend);
    Box::new(move || backend.upgrade().map(|backend| backend.links()).unwrap_or_default())
}

/// Every deadline needs the runtime's timers, and tokio says that there are none by a panic only.
fn check_timers() -> Result<()> {
    let timers = catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO)));
    timers.map_err(|_no_timers| Error::Usage {
        operation: Operation::Build,
        hint: "the runtime has no timers; build it with `enable_all` or `enable_time`",
    })
}
