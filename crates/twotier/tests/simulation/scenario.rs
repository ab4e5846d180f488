//! What a run is like: drawn from its seed.

use std::time::Duration;

use fastrand::Rng;
use twotier_testkit::simulation::{Cycles, Weather};

use crate::origin::Following;

/// The families of runs. A seed belongs to the family of its remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// One writing party for each key, a server that replies at the end of its cycle, an exact clock.
    Plain,
    /// A server whose replies may leave before the pushes of the same cycle.
    EarlyReplies,
    /// A clock that lags.
    CoarseClock,
    /// A staleness bound of the order of the network's delays.
    SmallBound,
    /// Several writing parties for each key.
    ManyWriters,
    /// A server so far away that there are always reports on their way when a link hangs, and much to be seen just
    /// then.
    Distant,
    /// What was sent over a connection that was given up arrives once the next one is in use.
    LateDelivery,
    /// An origin whose rows are loaded slowly, and written before their keys.
    Origin,
    /// A cluster, whose slots move and whose primaries are replaced.
    Cluster,
}

/// From here on seeds are of clusters.
pub(crate) const CLUSTERS: u64 = 1_000_000_000;

impl Family {
    /// Those of one server.
    const OF_ONE: [Self; 8] = [
        Self::Plain,
        Self::EarlyReplies,
        Self::CoarseClock,
        Self::SmallBound,
        Self::ManyWriters,
        Self::Distant,
        Self::LateDelivery,
        Self::Origin,
    ];

    pub(crate) fn of(seed: u64) -> Self {
        if seed >= CLUSTERS { Self::Cluster } else { Self::OF_ONE[usize::try_from(seed % 8).unwrap()] }
    }
}

/// What a cluster is like.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    pub(crate) node_timeout: Duration,
    /// The longest pause between two messages of the nodes, in milliseconds.
    pub(crate) gossip: u64,
    /// The longest pause between two changes of who owns what, in milliseconds.
    pub(crate) calm: u64,
    /// Whether keys are reported that vanish because their slot went without them.
    pub(crate) reports_vanished: bool,
}

/// Everything that is fixed before a run begins.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) caches: usize,
    pub(crate) keys: usize,
    pub(crate) tasks: usize,
    pub(crate) operations: usize,
    pub(crate) max_entries: usize,
    pub(crate) max_staleness: Duration,
    pub(crate) op_timeout: Duration,
    pub(crate) local_ttl: Duration,
    pub(crate) negative_ttl: Option<Duration>,
    pub(crate) resolution: Duration,
    pub(crate) dead_after: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_backoff: Duration,
    pub(crate) cycles: Cycles,
    pub(crate) weather: Weather,
    /// Whether anybody may write any key; else each key has one writing party.
    pub(crate) many_writers: bool,
    /// Whether the caches only read.
    pub(crate) only_foreign_writers: bool,
    /// Whether the only fault is that nothing comes back over a link for twice the staleness bound.
    pub(crate) only_long_holds: bool,
    /// Whether the only fault is that connections stall for longer than the caches keep them, and then deliver.
    pub(crate) only_late_delivery: bool,
    /// Whether there is an origin, and what follows the changes of its rows.
    pub(crate) origin: Option<Following>,
    /// Whether the server reports nothing, so that only the local time to live bounds what is kept.
    pub(crate) unreported: bool,
    /// Whether nothing is kept locally.
    pub(crate) without_local: bool,
    /// The longest pause between two operations of a task, in milliseconds.
    pub(crate) think: u64,
    /// The longest pause between two faults, in milliseconds; `None` for no faults.
    pub(crate) calm: Option<u64>,
    /// The longest pause between two foreign writes, in milliseconds.
    pub(crate) foreign_think: u64,
    /// Whether values are given times to live.
    pub(crate) expiring: bool,
    /// One operation in so many is dropped half-way.
    pub(crate) dropped: u8,
    /// The slots, where there is a cluster.
    pub(crate) slots: Option<Slots>,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let family = Family::of(seed);
        let millis = Duration::from_millis;
        let max_staleness = millis(match family {
            Family::SmallBound => *pick(&mut rng, &[50, 60, 80]),
            _ => *pick(&mut rng, &[100, 200, 500, 2000]),
        });
        let delay = *pick(&mut rng, &[0, 1, 3, 8]);
        let usual = Self {
            caches: rng.usize(1..=3),
            keys: rng.usize(1..=4),
            tasks: rng.usize(1..=4),
            operations: rng.usize(10..=25),
            max_entries: *pick(&mut rng, &[1, 100, 100, 100]),
            max_staleness,
            op_timeout: millis(*pick(&mut rng, &[30, 100, 500])),
            local_ttl: millis(*pick(&mut rng, &[40, 1000, 60_000, 60_000])),
            negative_ttl: *pick(&mut rng, &[None, Some(millis(30)), Some(millis(5000))]),
            resolution: if family == Family::CoarseClock { millis(rng.u64(2..=10)) } else { Duration::ZERO },
            dead_after: millis(*pick(&mut rng, &[150, 400, 1500])),
            connect_timeout: millis(*pick(&mut rng, &[150, 600])),
            max_backoff: millis(*pick(&mut rng, &[20, 200])),
            cycles: Cycles {
                early_replies: family == Family::EarlyReplies,
                pause: if family == Family::EarlyReplies { rng.u64(1..=12) } else { *pick(&mut rng, &[0, 0, 3]) },
                expiry_at_once: rng.bool(),
            },
            weather: Weather {
                least: 0,
                delay,
                spike: *pick(&mut rng, &[delay, 20, 60]),
                pieces: *pick(&mut rng, &[1, 2, 6]),
            },
            many_writers: family == Family::ManyWriters || rng.u8(..4) == 0,
            only_foreign_writers: false,
            only_long_holds: false,
            only_late_delivery: false,
            origin: None,
            unreported: false,
            without_local: false,
            think: *pick(&mut rng, &[0, 3, 12, 60]),
            calm: *pick(&mut rng, &[None, Some(60), Some(400)]),
            foreign_think: *pick(&mut rng, &[4, 20, 100]),
            expiring: rng.u8(..3) == 0,
            dropped: *pick(&mut rng, &[0, 4, 12]),
            slots: None,
        };
        match family {
            Family::Cluster => usual.clustered(&mut rng),
            Family::Distant => usual.distant(rng.bool()),
            Family::LateDelivery => usual.with_late_delivery(),
            Family::Origin => {
                let origin = usual.with_origin(*pick(&mut rng, &[Following::Sets, Following::OwnDeletions]));
                match rng.u8(..6) {
                    0 => origin.unreported(),
                    1 => Self { without_local: true, ..origin },
                    _ => origin,
                }
            }
            _ => usual,
        }
    }

    fn clustered(self, rng: &mut Rng) -> Self {
        let millis = Duration::from_millis;
        let slots = Slots {
            node_timeout: millis(*pick(rng, &[700, 1500])),
            gossip: *pick(rng, &[4, 20, 60]),
            calm: *pick(rng, &[50, 200, 800]),
            reports_vanished: rng.bool(),
        };
        Self {
            caches: rng.usize(1..=2),
            keys: rng.usize(2..=5),
            tasks: rng.usize(2..=4),
            operations: 100,
            max_entries: 100,
            max_staleness: millis(*pick(rng, &[80, 100, 200, 400])),
            op_timeout: millis(*pick(rng, &[50, 100, 300])),
            dead_after: millis(*pick(rng, &[150, 400])),
            connect_timeout: millis(150),
            max_backoff: millis(20),
            cycles: Cycles { early_replies: false, pause: 0, ..self.cycles },
            think: *pick(rng, &[3, 8, 20]),
            calm: *pick(rng, &[None, Some(100), Some(400)]),
            foreign_think: *pick(rng, &[20, 60, 200]),
            only_foreign_writers: rng.u8(..3) != 0,
            slots: Some(slots),
            ..self
        }
    }

    fn distant(self, early_replies: bool) -> Self {
        let millis = Duration::from_millis;
        Self {
            keys: 4,
            tasks: 4,
            operations: 100,
            max_entries: 100,
            max_staleness: millis(250),
            op_timeout: millis(70),
            local_ttl: millis(60_000),
            dead_after: millis(1500),
            connect_timeout: millis(3000),
            cycles: Cycles { early_replies, pause: if early_replies { 12 } else { 0 }, expiry_at_once: false },
            weather: Weather { least: 20, delay: 2, spike: 2, pieces: 1 },
            many_writers: false,
            only_foreign_writers: true,
            only_long_holds: true,
            think: 12,
            calm: Some(300),
            foreign_think: 30,
            expiring: false,
            dropped: 0,
            ..self
        }
    }

    fn with_late_delivery(self) -> Self {
        let millis = Duration::from_millis;
        Self {
            operations: 60,
            op_timeout: millis(30),
            dead_after: millis(150),
            max_backoff: millis(20),
            connect_timeout: millis(150),
            many_writers: false,
            only_late_delivery: true,
            think: 12,
            calm: Some(60),
            expiring: false,
            ..self
        }
    }

    fn with_origin(self, following: Following) -> Self {
        Self {
            keys: match following {
                // A key is loaded only until it is there.
                Following::Sets => 8,
                Following::OwnDeletions => self.keys,
            },
            operations: 40,
            many_writers: false,
            origin: Some(following),
            think: self.think.min(12),
            expiring: false,
            ..self
        }
    }

    /// Without faults: where nothing is reported no lost link need be noticed either.
    fn unreported(self) -> Self {
        let bound = self.max_staleness.min(Duration::from_millis(500));
        let negative_ttl = self.negative_ttl.map(|ttl| ttl.min(bound));
        Self { unreported: true, max_staleness: bound, local_ttl: bound, negative_ttl, calm: None, ..self }
    }

    /// Returns whether a party may write a key: the caches are the first parties, the foreign clients the last.
    pub(crate) fn may_write(&self, party: usize, key: usize) -> bool {
        if self.only_foreign_writers {
            return party == self.caches;
        }
        if self.origin == Some(Following::OwnDeletions) {
            return key % self.caches == party;
        }
        self.many_writers || (key + self.keys) % (self.caches + 1) == party
    }

    /// Returns how long it takes until everything has settled once everything was healed.
    pub(crate) fn rest(&self) -> Duration {
        2 * self.max_staleness
            + 2 * (self.dead_after + self.connect_timeout + self.max_backoff + self.op_timeout)
            + Duration::from_secs(1)
    }
}

pub(crate) fn pick<'c, T>(rng: &mut Rng, choices: &'c [T]) -> &'c T {
    &choices[rng.usize(..choices.len())]
}

/// The name of a key in the caches.
pub(crate) fn key(index: usize) -> String {
    format!("k{index}")
}
