//! One server and the caches over it.

use std::{
    sync::Arc,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use twotier::{AuditStats, Cache, RedisBackend, RedisConfig};
use twotier_testkit::{
    Proxy, RedisServer,
    history::{History, HistoryTime},
};

use crate::{
    fault::Fault,
    settings::Settings,
    value::{Value, Versioned},
};

/// All keys: those that are only cached come first, then those whose rows are in the origin.
pub(crate) const KEYS: usize = CACHED_KEYS + ROW_KEYS;
pub(crate) const CACHED_KEYS: usize = 64;
/// How many keys have an origin, each read through every cache, but written and loaded through one alone: what others
/// load after a deletion is for a lease at the server to order.
pub(crate) const ROW_KEYS: usize = 16;
const NAMESPACE: &str = "t";
/// How many hits of each cache are audited in a second.
const AUDITED: f64 = 50.0;
/// How many keys the foreign clients write, the last of those that are only cached.
pub(crate) const FOREIGN_KEYS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Lossy,
    Durable,
}

/// A server, its stand-in, and caches that share a namespace.
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) history: Arc<History>,
    /// The origin: the version of the row of each key that has one, zero before the first.
    pub(crate) rows: Box<[AtomicU64]>,
    pub(crate) server: RedisServer,
    /// A replica in the durable group, an empty primary in the lossy one.
    pub(crate) stand_in: RedisServer,
    /// Whether the stand-in is the primary now.
    pub(crate) failed_over: AtomicBool,
    pub(crate) instances: Vec<Instance>,
    /// The names of the keys, as the caches know them.
    pub(crate) keys: Vec<String>,
    pub(crate) stop: AtomicBool,
    /// Whether faults may still come, and must be recovered from.
    pub(crate) under_attack: AtomicBool,
    pub(crate) counts: Counts,
    pub(crate) injected: Mutex<Vec<Fault>>,
    /// How long each instance took to work again after each fault.
    pub(crate) recoveries: Mutex<Vec<(Fault, Duration)>>,
    pub(crate) longest_bound: Duration,
    /// Whether the history is only printed, so that the auditors have to find out by themselves.
    auditors_alone: bool,
}

/// What was done, over all parties.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) operations: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// Writes that failed before they were sent.
    pub(crate) not_sent: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) foreign: AtomicU64,
    /// Reads of single keys that were checked.
    pub(crate) checked: AtomicU64,
    /// Rows that were loaded from the origin.
    pub(crate) loads: AtomicU64,
    pub(crate) rests: AtomicUsize,
}

/// One cache and its link.
pub(crate) struct Instance {
    pub(crate) proxy: Proxy,
    pub(crate) cache: Cache<Value>,
    /// Every write through this cache that had failed by this moment has taken effect or never will.
    pub(crate) settled: AtomicU64,
    /// Faults that were healed and after which nothing has succeeded yet.
    pub(crate) healed: Mutex<Vec<(HistoryTime, Fault)>>,
    pub(crate) always_split: Option<usize>,
    /// Whether a known absence may be forgotten between two calls.
    pub(crate) forgets_absences: bool,
}

impl Group {
    pub(crate) async fn start(kind: Kind, settings: &Settings) -> Self {
        let builder = RedisServer::builder().arg("repl-diskless-sync-delay", "0");
        let (server, stand_in) = match kind {
            Kind::Lossy => (builder.clone().start(), builder.start()),
            Kind::Durable => {
                let builder = builder.arg("appendonly", "yes").arg("appendfsync", "always");
                let server = builder.clone().start();
                let source = format!("127.0.0.1 {}", server.port());
                let stand_in = builder.arg("replicaof", &source).start();
                (server, stand_in)
            }
        };
        let bounds = settings.bounds();
        let mut instances = Vec::new();
        for (number, bound) in bounds.into_iter().enumerate() {
            instances.push(Instance::start(&server, number, bound).await);
        }
        let foreign = CACHED_KEYS - FOREIGN_KEYS..CACHED_KEYS;
        let owners: Vec<_> = (0..KEYS).map(|key| (!foreign.contains(&key)).then_some(key % instances.len())).collect();
        let history = (CACHED_KEYS..KEYS).fold(History::new(&owners, &bounds), History::with_origin);
        Self {
            kind,
            history: Arc::new(history),
            rows: (0..ROW_KEYS).map(|_| AtomicU64::new(0)).collect(),
            server,
            stand_in,
            failed_over: AtomicBool::new(false),
            instances,
            keys: (0..KEYS).map(|key| format!("k{key}")).collect(),
            stop: AtomicBool::new(true),
            under_attack: AtomicBool::new(false),
            counts: Counts::default(),
            injected: Mutex::default(),
            recoveries: Mutex::default(),
            longest_bound: bounds.into_iter().max().unwrap(),
            auditors_alone: settings.auditors_alone,
        }
    }

    pub(crate) fn goes_on(&self) -> bool {
        !self.stop.load(SeqCst) && !self.is_broken()
    }

    /// Whether a promise was broken, as far as this run looks.
    pub(crate) fn is_broken(&self) -> bool {
        self.audit().violations > 0 || !self.auditors_alone && self.history.is_broken()
    }

    /// Returns what the auditors of all caches found, together.
    pub(crate) fn audit(&self) -> AuditStats {
        let mut sum = AuditStats::default();
        for audit in self.instances.iter().map(|instance| instance.cache.stats().audit) {
            sum.enabled |= audit.enabled;
            sum.sampled += audit.sampled;
            sum.confirmed += audit.confirmed;
            sum.inconclusive += audit.inconclusive;
            sum.violations += audit.violations;
        }
        sum
    }

    /// Returns the keys that this part of a cache's writers writes.
    pub(crate) fn keys_of(&self, instance: usize, part: usize) -> Vec<usize> {
        (0..CACHED_KEYS - FOREIGN_KEYS)
            .filter(|key| key % self.instances.len() == instance && key / self.instances.len() % 2 == part)
            .collect()
    }

    /// Returns the keys with an origin that this cache writes and loads.
    pub(crate) fn row_keys_of(&self, instance: usize) -> Vec<usize> {
        (CACHED_KEYS..KEYS).filter(|key| key % self.instances.len() == instance).collect()
    }

    /// Returns the row of a key.
    pub(crate) fn row(&self, key: usize) -> &AtomicU64 {
        &self.rows[key - CACHED_KEYS]
    }

    /// Returns a key's name in the server.
    pub(crate) fn qualified(&self, key: usize) -> String {
        format!("{NAMESPACE}:{}", self.keys[key])
    }

    /// Returns the server that takes writes.
    pub(crate) fn primary(&self) -> &RedisServer {
        if self.failed_over.load(SeqCst) { &self.stand_in } else { &self.server }
    }

    /// Returns what the server holds of a key.
    pub(crate) fn held(&self, key: usize) -> Option<Value> {
        let reply = self.server.command(&["GET", &self.qualified(key)]);
        (!reply.is_nil()).then(|| Value::parse(reply.as_bytes()).expect("only versions are written"))
    }
}

impl Instance {
    /// Starts a cache. Each has a habit of its own.
    async fn start(server: &RedisServer, number: usize, bound: Duration) -> Self {
        let proxy = Proxy::start(server.addr());
        let mut config = RedisConfig::new(proxy.url());
        // The history is that of the server: what is served of a load that it never had is in none.
        let mut builder = Cache::builder()
            .namespace(NAMESPACE)
            .max_staleness(bound)
            .audit(AUDITED)
            .outage_time_to_live(Duration::ZERO);
        let (mut always_split, mut forgets_absences) = (None, false);
        match number {
            // Everything arrives in tiny pieces.
            0 => always_split = Some(40),
            // Gives up a silent link soon.
            1 => config.dead_after = Duration::from_secs(1),
            // Holds fewer entries than there are keys.
            2 => builder = builder.max_entries(40),
            // Forgets absent keys soon, and waits for nothing for long.
            _ => {
                forgets_absences = true;
                builder = builder.negative_time_to_live(Duration::from_millis(50));
                builder = builder.op_timeout(Duration::from_millis(150));
            }
        }
        proxy.split(always_split);
        let backend = RedisBackend::with_config(&config).expect("the address is right");
        let cache = builder.codec(Versioned).build(backend).await.expect("the server is there");
        Self { proxy, cache, settled: AtomicU64::new(0), healed: Mutex::default(), always_split, forgets_absences }
    }

    pub(crate) fn settled(&self) -> HistoryTime {
        HistoryTime::from_nanos(self.settled.load(SeqCst))
    }
}
