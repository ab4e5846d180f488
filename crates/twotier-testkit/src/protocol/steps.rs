//! The actions: what may happen next, and what it does.

use std::fmt;

use super::{
    ablation::Rule,
    check, client,
    config::{Config, WRITES, Write},
    gets,
    promise::Promise,
    queue::Item,
    server::{self, Origin},
    state::{Beat, Conn, Foreign, Get, Getter, Put, State, Writer},
    writes,
};

/// One step of somebody. Numbers are those of getters and writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A get is served from the entry.
    Hit,
    BeginGet(usize),
    LookAgain(usize),
    QueueGet(usize),
    /// On a second connection, where nothing orders it with the first.
    ReadElsewhere(usize),
    EndGet(usize),
    FailGet(usize),
    DropGet(usize),
    LosePatience(usize),
    BeginWrite(usize),
    QueueWrite(usize),
    EndWrite(usize),
    FailWrite(usize),
    DropWrite(usize),
    /// The row of an own write is changed.
    OwnRow(usize),
    /// The deadline of a write passes before it is queued.
    MissDeadline(usize),
    /// Only where what was not sent may be sent late.
    QueueLate(usize),
    Load(usize),
    /// A loader runs although the backend cannot be asked.
    LoadUnreached(usize),
    EndLoad(usize),
    Execute,
    ZombieLands(usize),
    ForeignRow(Foreign),
    FollowRow(Foreign),
    ForeignSet,
    Removal,
    FlushAll,
    EndCycle,
    Deliver,
    StartBeat,
    LeaseLapses,
    EvictLocally,
    Break,
    LinkDown,
    Connect,
    /// Only where tracking may come late: the connection is published at once.
    ConnectUntracked,
    TrackLate,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit => f.write_str("a get returns the local entry"),
            Self::BeginGet(getter) => write!(f, "get {getter} misses; it registers a read, or joins one"),
            Self::LookAgain(getter) => write!(f, "get {getter} was woken and looks again"),
            Self::QueueGet(getter) => write!(f, "get {getter} queues its command"),
            Self::ReadElsewhere(getter) => write!(f, "get {getter} is answered on the second connection"),
            Self::EndGet(getter) => write!(f, "get {getter} acts on its reply and returns"),
            Self::FailGet(getter) => write!(f, "get {getter} learns that its connection is lost"),
            Self::DropGet(getter) => write!(f, "get {getter} is dropped"),
            Self::LosePatience(getter) => write!(f, "get {getter} has waited long enough and takes the flight down"),
            Self::BeginWrite(writer) => write!(f, "write {writer} is registered"),
            Self::QueueWrite(writer) => write!(f, "write {writer} queues its command"),
            Self::EndWrite(writer) => write!(f, "write {writer} acts on its reply and is acknowledged"),
            Self::FailWrite(writer) => write!(f, "write {writer} ends with an error"),
            Self::DropWrite(writer) => write!(f, "write {writer} is dropped"),
            Self::OwnRow(writer) => write!(f, "write {writer} changes its row"),
            Self::MissDeadline(writer) => write!(f, "write {writer} misses its deadline before it is queued"),
            Self::QueueLate(writer) => {
                write!(f, "write {writer} is queued after its caller received that it was not sent")
            }
            Self::Load(getter) => write!(f, "the loader of get {getter} reads the row"),
            Self::LoadUnreached(getter) => write!(f, "get {getter} cannot ask the backend and runs its loader"),
            Self::EndLoad(getter) => write!(f, "the loader of get {getter} returns; a store begins, or none"),
            Self::ForeignRow(_) => f.write_str("somebody else changes the row"),
            Self::FollowRow(Foreign::Set) => f.write_str("somebody else writes the new row under the key"),
            Self::FollowRow(Foreign::Delete) => f.write_str("somebody else deletes the key, having changed the row"),
            Self::Execute => f.write_str("the server executes the next request"),
            Self::ZombieLands(writer) => write!(f, "the command of write {writer} lands from the old connection"),
            Self::ForeignSet => f.write_str("somebody else writes the key"),
            Self::Removal => f.write_str("the key is removed by somebody else, or evicted"),
            Self::FlushAll => f.write_str("somebody else flushes the server"),
            Self::EndCycle => f.write_str("the event-loop cycle ends"),
            Self::Deliver => f.write_str("the reader takes the next message"),
            Self::StartBeat => f.write_str("the supervisor takes a mark and sends HELLO"),
            Self::LeaseLapses => f.write_str("the lease runs out"),
            Self::EvictLocally => f.write_str("the local tier evicts the entry"),
            Self::Break => f.write_str("the connection is lost, and those who wait on it are notified"),
            Self::LinkDown => f.write_str("the supervisor takes the epoch down"),
            Self::Connect => f.write_str("a new connection is made and tracked"),
            Self::ConnectUntracked => f.write_str("a new connection is made and published before tracking is on"),
            Self::TrackLate => f.write_str("tracking is turned on"),
        }
    }
}

/// A state reached, or the promise that getting there broke.
pub(super) type Step = Result<State, Promise>;

/// Calls back with everything that may happen in a state.
pub(super) fn successors(state: &State, config: &Config, mut each: impl FnMut(Action, Step)) {
    actions(state, config, |action| {
        let mut next = *state;
        let step = apply(&mut next, config, action).and_then(|()| check::state(&next, config));
        each(action, step.map(|()| next));
    });
}

fn actions(state: &State, config: &Config, mut each: impl FnMut(Action)) {
    let mut when = |possible: bool, action: Action| {
        if possible {
            each(action);
        }
    };
    let left = state.left;
    let present = !state.is_absent(state.version);
    let published = state.conn == Conn::Up;

    when(state.served().is_some_and(|version| version > state.seen), Action::Hit);
    let may_load = left.loads > 0 || state.load.is_some();
    for getter in 0..config.getters {
        let Getter { get, leads, .. } = state.getters[getter];
        let begins = if getter < config.loaders {
            may_load && state.served().is_none_or(|version| state.is_absent(version))
        } else {
            state.served().is_none()
        };
        when(get == Get::Idle && begins, Action::BeginGet(getter));
        when(get == Get::Loading, Action::Load(getter));
        when(get == Get::Loaded, Action::EndLoad(getter));
        when(leads && get == Get::Registered && state.conn == Conn::Down, Action::LoadUnreached(getter));
        when(get == Get::Woken, Action::LookAgain(getter));
        when(get == Get::Registered && published && !config.split_reads, Action::QueueGet(getter));
        when(get == Get::Registered && config.split_reads, Action::ReadElsewhere(getter));
        when(get == Get::Replied, Action::EndGet(getter));
        when(get == Get::Lost, Action::FailGet(getter));
        when(config.cancel && get != Get::Idle, Action::DropGet(getter));
        when(config.patience && get == Get::Joined, Action::LosePatience(getter));
    }
    // With an origin there is one writing party: it changes the row and then the key, and then the next row.
    let writing = |put| !matches!(put, Put::Unused | Put::Acknowledged | Put::Failed);
    let own_writing = state.writers.iter().take(config.writes.len()).any(|writer| writing(writer.put));
    let row_is_free = config.has_origin() && !own_writing && state.foreign.is_none();
    for (writer, slot) in state.writers.iter().enumerate() {
        let put = slot.put;
        let may_queue = !config.ordered || !config.keeps(Rule::QueuedInCallOrder) || {
            let before = |other: usize| slot.behind >> other & 1 == 1;
            !(0..WRITES).any(|other| before(other) && state.writers[other].put == Put::Registered)
        };
        if writer < config.writes.len() {
            let first = if config.has_origin() && !config.late_rows { Put::RowWritten } else { Put::Unused };
            when(put == Put::Unused && row_is_free && !config.late_rows, Action::OwnRow(writer));
            when(config.late_rows && writing(put) && slot.row == 0, Action::OwnRow(writer));
            when(put == first && (row_is_free || !config.late_rows), Action::BeginWrite(writer));
            when(config.deadlines && put == Put::Registered, Action::MissDeadline(writer));
            let late = state.unsent >> writer & 1 == 1 && !config.keeps(Rule::UnsentStaysUnsent);
            when(late && published, Action::QueueLate(writer));
        }
        when(put == Put::Registered && published && may_queue, Action::QueueWrite(writer));
        let row_is_late = config.late_rows && writer < config.writes.len() && slot.row == 0;
        when(put == Put::Replied && !row_is_late, Action::EndWrite(writer));
        when(put == Put::Lost || put == Put::Registered && state.conn == Conn::Down, Action::FailWrite(writer));
        let under_way = matches!(put, Put::Registered | Put::Queued | Put::Executed | Put::Replied | Put::Lost);
        when(config.attached_writes && under_way, Action::DropWrite(writer));
        when(state.zombies >> writer & 1 == 1, Action::ZombieLands(writer));
    }
    when(state.requests.len() > u32::from(state.later), Action::Execute);
    when(left.foreign_sets > 0 && !config.has_origin(), Action::ForeignSet);
    when(left.foreign_sets > 0 && row_is_free, Action::ForeignRow(Foreign::Set));
    when(left.foreign_deletes > 0 && row_is_free, Action::ForeignRow(Foreign::Delete));
    if let Some(foreign) = state.foreign {
        when(true, Action::FollowRow(foreign));
    }
    when(left.removals > 0 && present, Action::Removal);
    when(left.flushes > 0, Action::FlushAll);
    when(server::cycle_is_open(state), Action::EndCycle);
    when(!state.stream.is_empty() && (state.sealed > 0 || config.early_replies), Action::Deliver);
    let beats = published && left.beats > 0 || state.conn == Conn::Handshake;
    when(state.beat == Beat::None && beats, Action::StartBeat);
    when(left.lapses > 0 && state.lease, Action::LeaseLapses);
    when(config.evictions && state.entry.is_some(), Action::EvictLocally);
    when(published && left.breaks > 0 || state.conn == Conn::Closing, Action::Break);
    when(published && left.breaks > 0 || state.conn == Conn::Lost, Action::LinkDown);
    let late = config.without.has(Rule::TrackingBeforeEpoch);
    when(state.conn == Conn::Down, if late { Action::ConnectUntracked } else { Action::Connect });
    when(late && published && !state.tracking, Action::TrackLate);
}

fn apply(state: &mut State, config: &Config, action: Action) -> Result<(), Promise> {
    match action {
        // That it is not too old was checked when the state was reached.
        Action::Hit => {
            let Some(version) = state.served() else { return Ok(()) };
            state.seen = state.seen.max(version);
            state.seen_row = state.seen_row.max(state.row(version));
        }
        Action::BeginGet(getter) => {
            state.getters[getter].floor = state.seen;
            state.getters[getter].row_floor = state.seen_row;
            return gets::begin(state, config, getter);
        }
        Action::LookAgain(getter) => return gets::begin(state, config, getter),
        Action::QueueGet(getter) => {
            state.getters[getter].get = Get::Queued;
            state.send(Item::Read(getter));
        }
        Action::ReadElsewhere(getter) => {
            state.getters[getter].get = Get::Replied;
            state.getters[getter].value = state.version;
        }
        Action::EndGet(getter) => return gets::end_get(state, config, getter),
        Action::FailGet(getter) => {
            let joiners = client::joiners(state, getter);
            if client::abandon_fill(state, getter) {
                // They are given the error.
                for joiner in joiners {
                    client::abandon_load(state, joiner);
                    state.getters[joiner] = Getter::IDLE;
                }
            }
            client::abandon_load(state, getter);
            state.getters[getter] = Getter::IDLE;
        }
        Action::DropGet(getter) => {
            state.unsend(Item::Read(getter));
            if !config.without.has(Rule::DropGuard) {
                client::abandon_fill(state, getter);
                client::abandon_load(state, getter);
            }
            state.getters[getter] = Getter::IDLE;
        }
        Action::Load(getter) => {
            state.getters[getter].get = Get::Loaded;
            state.getters[getter].value = state.origin;
        }
        Action::LoadUnreached(getter) => {
            client::abandon_fill(state, getter);
            // What it reads from the origin is as old as an absence: a read that brings a value is newer.
            if client::is_live_load(state, config, getter) {
                client::bind_load(state, config, 0);
            }
            state.getters[getter].get = Get::Loading;
            state.getters[getter].unreached = true;
        }
        Action::EndLoad(getter) => return gets::end_loader(state, config, getter),
        Action::LosePatience(getter) => {
            client::lose_patience(state, config, getter);
        }
        Action::OwnRow(writer) => {
            state.origin += 1;
            if !config.late_rows {
                state.writers[writer].put = Put::RowWritten;
            }
            state.writers[writer].row = state.origin;
        }
        Action::BeginWrite(writer) => {
            writes::register(state, config, writer);
            match config.writes[writer] {
                Write::Set | Write::Delete | Write::Script => client::begin_write(state, config, writer),
                Write::Clear => client::begin_clear(state, config, writer),
            }
        }
        Action::QueueWrite(writer) => {
            state.writers[writer].put = Put::Queued;
            state.send(Item::Write(writer));
        }
        Action::EndWrite(slot) if config.loader_of(slot).is_some() => {
            if state.writers[slot].version > 0 {
                client::end_store(state, config, slot);
            } else {
                client::abandon_store(state, config, slot);
            }
            return gets::end_store(state, config, slot);
        }
        Action::FailWrite(slot) if config.loader_of(slot).is_some() => {
            client::abandon_store(state, config, slot);
            return gets::end_store(state, config, slot);
        }
        Action::EndWrite(writer) => {
            match config.writes[writer] {
                Write::Set | Write::Delete => client::end_write(state, config, writer),
                Write::Script => client::abandon_write(state, config, writer),
                Write::Clear => client::end_clear(state, config, writer),
            }
            let Writer { version, row, after, .. } = state.writers[writer];
            check::own_row_stands(state, config, row)?;
            state.done_row = state.done_row.max(row);
            state.seen = state.seen.max(version);
            state.seen_row = state.seen_row.max(row);
            state.own_row = state.own_row.max(row);
            state.over |= after;
            writes::end(state, writer, Put::Acknowledged);
        }
        Action::FailWrite(writer) => {
            writes::abandon(state, config, writer);
            writes::end(state, writer, Put::Failed);
        }
        Action::MissDeadline(writer) => {
            writes::abandon(state, config, writer);
            writes::end(state, writer, Put::Failed);
            state.unsent |= 1 << writer;
        }
        Action::QueueLate(writer) => state.send(Item::Write(writer)),
        Action::DropWrite(writer) => writes::drop_attached(state, config, writer),
        Action::Execute => {
            if let Some(Item::Write(writer)) = state.requests.first() {
                check::takes_effect(state, config, writer)?;
            }
            server::execute(state, config);
        }
        Action::ZombieLands(writer) => {
            check::takes_effect(state, config, writer)?;
            state.zombies &= !(1 << writer);
            state.outlived &= !(1 << writer);
            let own = config.without.has(Rule::ZombieIsForeign);
            server::run_write(state, config, writer, if own { Origin::Own } else { Origin::Foreign });
        }
        Action::ForeignRow(foreign) => {
            match foreign {
                Foreign::Set => state.left.foreign_sets -= 1,
                Foreign::Delete => state.left.foreign_deletes -= 1,
            }
            state.origin += 1;
            state.foreign = Some(foreign);
        }
        Action::FollowRow(foreign) => {
            state.foreign = None;
            server::follow_row(state, config, foreign);
        }
        Action::ForeignSet => {
            state.left.foreign_sets -= 1;
            server::change(state, config, Origin::Foreign, false);
        }
        Action::Removal => {
            state.left.removals -= 1;
            server::change(state, config, Origin::Foreign, true);
        }
        Action::FlushAll => {
            state.left.flushes -= 1;
            server::flush(state, config);
        }
        Action::EndCycle => server::end_cycle(state),
        Action::Deliver => deliver(state, config),
        Action::StartBeat => {
            if state.conn == Conn::Up {
                state.left.beats -= 1;
            }
            state.beat = Beat::Hello;
            state.beat_mark = state.acked;
            state.beat_row = state.acked_row;
            state.beat_epoch = state.epoch;
            state.send(Item::Beat);
        }
        Action::LeaseLapses => {
            state.left.lapses -= 1;
            state.lease = false;
        }
        Action::EvictLocally => state.entry = None,
        Action::Break => lose_connection(state),
        Action::LinkDown => {
            // Of a connection that seems alive: the heartbeat was not answered in time.
            state.left.breaks -= u8::from(state.conn == Conn::Up);
            client::link_down(state);
        }
        Action::Connect => {
            state.tracking = true;
            state.conn = Conn::Handshake;
        }
        Action::ConnectUntracked => client::link_up(state, config, state.acked, state.acked_row),
        Action::TrackLate => state.tracking = true,
    }
    Ok(())
}

/// The client's reader takes the next message off the wire: pushes are applied, replies handed to their tasks.
fn deliver(state: &mut State, config: &Config) {
    let of_this_cycle = state.sealed == 0;
    state.sealed = state.sealed.saturating_sub(1);
    let Some(message) = state.stream.pop() else { return };
    // A request sent from now on is read from its socket in a later cycle than the one that sent this reply.
    state.hot |= of_this_cycle;
    match message {
        Item::Read(getter) => state.getters[getter].get = Get::Replied,
        Item::Write(writer) => state.writers[writer].put = Put::Replied,
        Item::Push => client::changed(state, config),
        Item::Null => client::flushed(state),
        Item::Beat => beat_answered(state, config),
    }
}

fn beat_answered(state: &mut State, config: &Config) {
    let handshake = state.conn == Conn::Handshake;
    if state.beat == Beat::Hello && !config.without.has(Rule::LeaseNeedsSecondReply) {
        state.beat = Beat::Ping;
        state.send(Item::Beat);
        return;
    }
    let late = config.without.has(Rule::LeaseFromMark);
    let (mark, row_mark) = if late { (state.acked, state.acked_row) } else { (state.beat_mark, state.beat_row) };
    if handshake {
        client::link_up(state, config, mark, row_mark);
    } else {
        client::proof(state, mark, row_mark, state.beat_epoch);
    }
    end_beat(state);
}

fn end_beat(state: &mut State) {
    (state.beat, state.beat_mark, state.beat_row, state.beat_epoch) = (Beat::None, 0, 0, 0);
}

/// Whoever waits for a reply of the connection will learn that none comes.
fn lose_connection(state: &mut State) {
    state.left.breaks -= u8::from(state.conn == Conn::Up);
    server::break_connection(state);
    for getter in &mut state.getters {
        if matches!(getter.get, Get::Queued | Get::Executed) {
            getter.get = Get::Lost;
            getter.value = 0;
        }
    }
    for writer in &mut state.writers {
        if matches!(writer.put, Put::Queued | Put::Executed) {
            writer.put = Put::Lost;
        }
    }
    end_beat(state);
}
