//! One direction of one connection.

use std::{
    collections::VecDeque,
    task::{Context, Waker},
};

use tokio::time::Instant;

/// What travels.
#[derive(Debug)]
enum Parcel {
    Bytes(Vec<u8>),
    /// The writer closed its end.
    End,
    /// The connection was reset.
    Reset,
}

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    Bytes(usize),
    End,
    Reset,
    /// Something is on its way and will be here then.
    Later(Instant),
    /// Nothing is on its way, or it does not get through.
    Nothing,
}

/// Bytes on their way, in order.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    parcels: VecDeque<(Instant, Parcel)>,
    /// Whether nothing gets through.
    pub(super) held: bool,
    reader: Option<Waker>,
}

impl Pipe {
    /// Sends bytes, to arrive at `due` but never before what was sent earlier.
    pub(super) fn send(&mut self, bytes: Vec<u8>, due: Instant) {
        self.push(Parcel::Bytes(bytes), due);
    }

    pub(super) fn end(&mut self, due: Instant) {
        self.push(Parcel::End, due);
    }

    /// Resets the connection; what is on its way still arrives if `delivered`.
    pub(super) fn reset(&mut self, due: Instant, delivered: bool) {
        if !delivered {
            self.parcels.clear();
        }
        self.push(Parcel::Reset, due);
    }

    fn push(&mut self, parcel: Parcel, due: Instant) {
        let due = self.parcels.back().map_or(due, |(last, _)| due.max(*last));
        self.parcels.push_back((due, parcel));
        self.wake();
    }

    pub(super) fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    pub(super) fn wake_by(&mut self, context: &Context<'_>) {
        self.reader = Some(context.waker().clone());
    }

    /// Returns when the next parcel arrives, `None` when none does.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.held { None } else { self.parcels.front().map(|(due, _)| *due) }
    }

    /// Reads at most `limit` of the bytes that have arrived. An end or a reset stays and is found again.
    pub(super) fn read(&mut self, now: Instant, limit: usize, mut into: impl FnMut(&[u8])) -> Arrived {
        match self.due() {
            None => return Arrived::Nothing,
            Some(due) if due > now => return Arrived::Later(due),
            Some(_here) => {}
        }
        match self.parcels.front_mut() {
            Some((_, Parcel::Bytes(bytes))) => {
                let count = bytes.len().min(limit);
                into(&bytes[..count]);
                if count == bytes.len() {
                    self.parcels.pop_front();
                } else {
                    bytes.drain(..count);
                }
                Arrived::Bytes(count)
            }
            Some((_, Parcel::End)) => Arrived::End,
            Some((_, Parcel::Reset)) => Arrived::Reset,
            None => Arrived::Nothing,
        }
    }
}
