//! The state of everything: server, wire, local tier and tasks.

use super::{
    config::{Config, GETTERS, WRITES},
    queue::{Item, Queue},
};

/// What a key held: versions count the changes in the order in which the server executed them.
pub(super) type Version = u8;

/// What the origin held: rows count its changes. 0 where there is no origin, and for the absence of the key.
pub(super) type Row = u8;

/// How many versions there can be: their removals are bits of one word.
pub(super) const VERSIONS: u8 = 16;

/// The connection, as the client's supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Conn {
    /// Published: operations go to it.
    Up,
    /// Given up by the supervisor, the epoch down: it still delivers, and those who wait on it do not know yet.
    Closing,
    /// Lost, and known to be to those who wait on it; the supervisor has not acted yet.
    Lost,
    /// The epoch has gone down; there is none.
    Down,
    /// Made, and tracked; not published yet.
    Handshake,
}

/// What the server will push for the key at the end of the cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Dirty {
    No,
    /// The last change in this cycle was our connection's: nothing.
    Own,
    /// It was somebody else's.
    Foreign,
}

/// Where a get is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Get {
    Idle,
    /// Was woken and will look again.
    Woken,
    /// Has a ticket and waits for its command to be queued. An even epoch says that the link was down: a bypass.
    Registered,
    Queued,
    Executed,
    /// The reply was handed to the task, which acts on it whenever it runs.
    Replied,
    /// Waits for the read of another; `value` says whose.
    Joined,
    /// Its connection was lost.
    Lost,
    /// Found nothing, and has called its loader.
    Loading,
    /// The loader has read the row, `value`, and returns it whenever it runs.
    Loaded,
    /// The row is being stored.
    Storing,
    /// Waits for the load of another; `value` says whose.
    JoinedLoad,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Getter {
    pub(super) get: Get,
    /// Of the ticket.
    pub(super) epoch: u8,
    /// The version read, or the getter joined.
    pub(super) value: u8,
    /// What the handle had seen when the get began: nothing older may be returned.
    pub(super) floor: Version,
    /// The lease held when the get began and joined: what had been acknowledged before its mark.
    pub(super) proven: Version,
    /// Of one who waits: the read that is registered was registered since the get began.
    pub(super) fresh: bool,
    /// Of a joiner: the only bytes it may be given.
    pub(super) only: Option<Version>,
    /// How many reads it waited for in vain, though they were answered.
    pub(super) in_vain: u8,
    /// Of a loader: the row that the handle had seen when the call began.
    pub(super) row_floor: Row,
    /// It leads a load, which need not be registered any more.
    pub(super) leads: bool,
    /// Of one that leads: the backend could not be asked, so that nothing is stored.
    pub(super) unreached: bool,
}

impl Getter {
    pub(super) const IDLE: Self = Self {
        get: Get::Idle,
        epoch: 0,
        value: 0,
        floor: 0,
        proven: 0,
        fresh: false,
        only: None,
        in_vain: 0,
        row_floor: 0,
        leads: false,
        unreached: false,
    };

    fn bits(self) -> u64 {
        self.get as u64 | u64::from(self.epoch) << 4 | u64::from(self.value) << 8 | u64::from(self.floor) << 12
    }

    fn more_bits(self) -> u64 {
        let only = self.only.map_or(0, |only| 1 | u64::from(only) << 1);
        let load = u64::from(self.row_floor) | u64::from(self.leads) << 4 | u64::from(self.unreached) << 5;
        u64::from(self.proven) | only << 4 | u64::from(self.fresh) << 9 | u64::from(self.in_vain) << 10 | load << 12
    }

    /// Began, and waits for somebody else's read or to look again.
    pub(super) fn waits(self) -> bool {
        matches!(self.get, Get::Joined | Get::Woken)
    }
}

/// Where an own write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Put {
    Unused,
    /// The row is written; the key comes next.
    RowWritten,
    Registered,
    Queued,
    Executed,
    Replied,
    Lost,
    /// Ended and acknowledged to its caller.
    Acknowledged,
    /// Ended in another way. Its command may still be queued.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Writer {
    pub(super) put: Put,
    pub(super) epoch: u8,
    /// What the server made of it; 0, which no write can be, until it is executed, or when it changed nothing.
    pub(super) version: Version,
    /// The row it brings.
    pub(super) row: Row,
    /// Those that had failed when it was registered, one bit each: they are over once it is acknowledged.
    pub(super) after: u8,
    /// Those that were registered before it and had not taken effect, one bit each. 0 where writes are not ordered.
    pub(super) behind: u8,
}

impl Writer {
    pub(super) const UNUSED: Self = Self { put: Put::Unused, epoch: 0, version: 0, row: 0, after: 0, behind: 0 };

    fn bits(self) -> u64 {
        self.put as u64
            | u64::from(self.epoch) << 4
            | u64::from(self.version) << 8
            | u64::from(self.row) << 12
            | u64::from(self.after) << 16
    }
}

/// Where the heartbeat is: a `HELLO`, and a `PING` after its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Beat {
    None,
    Hello,
    Ping,
}

/// A registered read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) getter: usize,
    pub(super) epoch: u8,
    /// A refused answer while this read was under way: it may bring the same bytes, and nothing else.
    pub(super) bound: Option<Version>,
    /// What had been acknowledged when it was registered: its age. 0 where ages are not kept.
    pub(super) since: Version,
    /// Only ever set when dead reads may be joined; else a dead one is removed.
    pub(super) dead: bool,
}

/// A registered load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) getter: usize,
    pub(super) epoch: u8,
    /// The first bytes that any read has brought since it was registered.
    pub(super) saw: Option<Version>,
    /// Only ever set when dead loads may be joined; else a dead one is removed.
    pub(super) dead: bool,
}

/// How somebody else changes the key, once the row is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Foreign {
    Set = 1,
    Delete,
}

/// A copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: Version,
    pub(super) epoch: u8,
}

/// What is left of the configuration's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) foreign_sets: u8,
    pub(super) removals: u8,
    pub(super) flushes: u8,
    pub(super) breaks: u8,
    pub(super) beats: u8,
    pub(super) lapses: u8,
    pub(super) loads: u8,
    pub(super) foreign_deletes: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    // The origin.
    pub(super) origin: Row,
    /// What somebody else is about to do to the key, having changed the row.
    pub(super) foreign: Option<Foreign>,
    /// The row of each version, four bits each.
    pub(super) rows: u64,
    /// The newest row whose write has reached the server.
    pub(super) done_row: Row,
    /// Of those whose write changed the key, so that it is reported, the newest that was acknowledged to its writer.
    pub(super) acked_row: Row,
    /// The newest row that was executed and is to be acknowledged.
    pub(super) reported_row: Row,
    /// What was acknowledged before the mark of the lease, and before that of the heartbeat under way.
    pub(super) proven_row: Row,
    pub(super) beat_row: Row,
    /// The newest row of an own write that was acknowledged.
    pub(super) own_row: Row,
    /// The newest row that the handle has seen.
    pub(super) seen_row: Row,
    /// One bit for each version that is an older row, stored after a change that was not announced in time: what a
    /// lease at the server is for. No row is promised to whoever reads these.
    pub(super) excused: u16,
    // The server.
    pub(super) version: Version,
    /// One bit for each version that is the absence of the key.
    pub(super) absent: u16,
    pub(super) dirty: Dirty,
    /// A flush in this cycle has not been pushed yet.
    pub(super) null_due: bool,
    /// Pushes go to the current connection.
    pub(super) tracking: bool,
    /// In the default tracking mode: the server remembers that our connection read the key.
    pub(super) remembered: bool,
    /// The newest version that was acknowledged to its writer.
    pub(super) acked: Version,
    /// Writes the old connection may still bring, one bit each.
    pub(super) zombies: u8,
    /// Of those, the ones that a new link has not ended.
    pub(super) outlived: u8,
    /// Own writes that failed before they were queued, one bit each.
    pub(super) unsent: u8,
    /// Own writes that failed before one was begun that was acknowledged since, one bit each.
    pub(super) over: u8,
    // The wire.
    pub(super) requests: Queue,
    /// How many of the last requests were sent after a reply of this cycle had arrived: they wait for the next.
    pub(super) later: u8,
    /// A reply of this cycle has arrived.
    pub(super) hot: bool,
    pub(super) stream: Queue,
    /// How many of the first messages are of cycles that have ended.
    pub(super) sealed: u8,
    // The local tier.
    pub(super) conn: Conn,
    pub(super) epoch: u8,
    pub(super) lease: bool,
    /// What was acknowledged before the mark of the lease: no copy may be older.
    pub(super) proven: Version,
    pub(super) entry: Option<Entry>,
    pub(super) flight: Option<Flight>,
    pub(super) load: Option<Load>,
    pub(super) pending: u8,
    /// Which writes may install, one bit each. At most one with every rule in force.
    pub(super) live: u8,
    /// Which write was registered last: it says what bytes are pending.
    pub(super) last_registered: u8,
    // The tasks.
    pub(super) beat: Beat,
    pub(super) beat_mark: Version,
    pub(super) beat_epoch: u8,
    /// The newest version the handle returned from a get or acknowledged as written.
    pub(super) seen: Version,
    pub(super) getters: [Getter; GETTERS],
    pub(super) writers: [Writer; WRITES],
    pub(super) left: Budget,
}

impl State {
    /// The link is up, nothing is cached, the key is there, or with an origin in the origin alone.
    pub(super) fn initial(config: &Config) -> Self {
        Self {
            origin: u8::from(config.has_origin()),
            foreign: None,
            rows: 0,
            done_row: 0,
            acked_row: 0,
            reported_row: 0,
            proven_row: 0,
            beat_row: 0,
            own_row: 0,
            seen_row: 0,
            excused: 0,
            version: 0,
            absent: u16::from(config.has_origin()),
            dirty: Dirty::No,
            null_due: false,
            tracking: !config.unreported,
            remembered: false,
            acked: 0,
            zombies: 0,
            outlived: 0,
            unsent: 0,
            over: 0,
            requests: Queue::default(),
            later: 0,
            hot: false,
            stream: Queue::default(),
            sealed: 0,
            conn: Conn::Up,
            epoch: 1,
            lease: true,
            proven: 0,
            entry: None,
            flight: None,
            load: None,
            pending: 0,
            live: 0,
            last_registered: 0,
            beat: Beat::None,
            beat_mark: 0,
            beat_epoch: 0,
            seen: 0,
            getters: [Getter::IDLE; GETTERS],
            writers: [Writer::UNUSED; WRITES],
            left: Budget {
                foreign_sets: config.foreign_sets,
                removals: config.removals,
                flushes: config.flushes,
                breaks: config.breaks,
                beats: config.beats,
                lapses: config.lapses,
                loads: config.loads,
                foreign_deletes: config.foreign_deletes,
            },
        }
    }

    pub(super) fn is_up(&self) -> bool {
        is_odd(self.epoch)
    }

    pub(super) fn is_absent(&self, version: Version) -> bool {
        self.absent >> version & 1 == 1
    }

    /// The row of a version, 0 for none.
    pub(super) fn row(&self, version: Version) -> Row {
        u8::try_from(self.rows >> (4 * version) & 15).expect("four bits fit")
    }

    /// Whether a version may be of an older row than what was seen before.
    pub(super) fn is_excused(&self, version: Version) -> bool {
        self.excused >> version & 1 == 1
    }

    pub(super) fn set_row(&mut self, version: Version, row: Row) {
        assert!(row < 16, "a configuration small enough to explore has few rows");
        self.rows |= u64::from(row) << (4 * version);
    }

    /// Whether two versions are the same bytes: what a digest tells. All absences are, and all versions of one row.
    pub(super) fn same_bytes(&self, one: Version, other: Version) -> bool {
        let same_row = self.row(one) > 0 && self.row(one) == self.row(other);
        one == other || same_row || self.is_absent(one) && self.is_absent(other)
    }

    /// The newest version that looks like this one.
    pub(super) fn as_new_as(&self, version: Version) -> Version {
        if self.is_absent(version) {
            u8::try_from(self.absent.ilog2()).expect("the logarithm of 16 bits is below 16")
        } else if self.row(version) > 0 {
            (version..=self.version).rev().find(|&newer| self.same_bytes(version, newer)).unwrap_or(version)
        } else {
            version
        }
    }

    /// The entry, if it is of this epoch and the link up; the lease may have run out.
    pub(super) fn valid(&self) -> Option<Version> {
        self.entry.filter(|entry| entry.epoch == self.epoch && self.is_up()).map(|entry| entry.version)
    }

    /// The entry, if a get would return it.
    pub(super) fn served(&self) -> Option<Version> {
        self.valid().filter(|_| self.lease)
    }

    /// Puts a request at the end of the queue.
    pub(super) fn send(&mut self, item: Item) {
        self.requests.push(item);
        self.later += u8::from(self.hot);
    }

    /// Takes the read of a getter off the wire: nobody waits for it, and reads change nothing.
    pub(super) fn unsend(&mut self, item: Item) {
        let length = self.requests.len();
        if let Some(at) = self.requests.remove(item)
            && at >= length - u32::from(self.later)
        {
            self.later -= 1;
        }
        if let Some(at) = self.stream.remove(item)
            && at < u32::from(self.sealed)
        {
            self.sealed -= 1;
        }
    }

    /// A hash of the whole state.
    pub(super) fn fingerprint(&self) -> u64 {
        let flags = [self.tracking, self.remembered, self.hot, self.lease];
        let flags = flags.iter().fold(0, |bits, &flag| bits << 1 | u64::from(flag));
        let entry = self.entry.map_or(0, |entry| 1 | u64::from(entry.version) << 1 | u64::from(entry.epoch) << 5);
        let flight = self.flight.map_or(0, |flight| {
            let bound = flight.bound.map_or(0, |bound| 1 | u64::from(bound) << 1);
            1 | (flight.getter as u64) << 1 | u64::from(flight.epoch) << 3 | u64::from(flight.dead) << 7 | bound << 8
        });
        let load = self.load.map_or(0, |load| {
            let saw = load.saw.map_or(0, |saw| 1 | u64::from(saw) << 1);
            1 | (load.getter as u64) << 1 | u64::from(load.epoch) << 3 | u64::from(load.dead) << 7 | saw << 8
        });
        let left = self.left;
        let words = [
            self.requests.bits(),
            self.stream.bits(),
            self.getters.iter().fold(0, |bits, getter| bits << 16 | getter.bits()) << 5 | flags,
            self.getters.iter().fold(0, |bits, getter| bits << 18 | getter.more_bits()),
            self.writers.iter().fold(0, |bits, writer| bits << 20 | writer.bits()),
            self.writers.iter().fold(0, |bits, writer| bits << 4 | u64::from(writer.behind)) << 48
                | u64::from(self.absent) << 32
                | load << 16
                | u64::from(self.excused),
            self.rows,
            nibbles(&[
                self.origin,
                self.foreign.map_or(0, |foreign| foreign as u8),
                self.done_row,
                self.acked_row,
                self.reported_row,
                self.proven_row,
                self.beat_row,
                self.own_row,
                self.seen_row,
                self.outlived,
                self.unsent,
                self.over,
                left.loads,
                left.foreign_deletes,
            ]),
            nibbles(&[
                self.version,
                self.dirty as u8 | u8::from(self.null_due) << 2,
                self.conn as u8,
                self.acked,
                self.zombies,
                self.later,
                self.sealed,
                self.epoch,
                self.proven,
                self.pending | (self.beat as u8) << 2,
                self.live,
                self.last_registered,
                self.beat_mark,
                self.beat_epoch,
                self.seen,
            ]),
            nibbles(&[left.foreign_sets, left.removals, left.flushes, left.breaks, left.beats, left.lapses]) << 24
                | entry << 13
                | flight
                | self.flight.map_or(0, |flight| u64::from(flight.since) << 48),
        ];
        words.iter().fold(0x243f_6a88_85a3_08d3, |hash, &word| mix(hash ^ word))
    }
}

/// Whether an epoch is one of a link that is up.
pub(super) fn is_odd(epoch: u8) -> bool {
    !epoch.is_multiple_of(2)
}

fn nibbles(values: &[u8]) -> u64 {
    values.iter().fold(0, |bits, &value| {
        debug_assert!(value < 16, "four bits are enough");
        bits << 4 | u64::from(value)
    })
}

/// A bijection, so that nothing is lost before the next word is mixed in.
fn mix(mut word: u64) -> u64 {
    // The finaliser of splitmix64 (Steele, Lea, Flood 2014).
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}
