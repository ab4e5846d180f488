//! The connections of a link, and what goes over which.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::runtime::Handle;
use twotier_core::Coherence;

use crate::redis::{
    listeners::Listeners,
    wire::{Connection, Loss},
};

use super::{channel::Channels, order::WriteOrder, sizes::Sizes};

/// The connections of a link. They are made together and end together.
///
/// - The *tracked* one is where changes are reported. It carries heartbeats and, where the server reports every write
///   but those of the connection itself, small writes.
/// - The *data* one carries everything else, so that reports and heartbeats do not wait behind it.
///
/// Where nothing is reported one connection is both.
#[derive(Clone)]
pub(in crate::redis) struct Connections(Arc<Parts>);

struct Parts {
    tracked: Connection,
    data: Connection,
    reporting: Reporting,
    listeners: Arc<Listeners>,
    order: Arc<WriteOrder>,
    sizes: Sizes,
    /// Whether the user may run `MGET`.
    may_mget: AtomicBool,
    /// How many large writes are under way over the data connection.
    large_writes: AtomicUsize,
}

/// How changes under the namespace come to this link.
#[derive(Clone)]
pub(in crate::redis) enum Reporting {
    /// Not at all.
    None,
    /// The server pushes every change, in the order of its execution.
    Broadcast,
    /// Writers publish their writes on a channel: so do we, with each write.
    Channel(Arc<Channels>),
}

impl Reporting {
    /// The mode that this is to users.
    pub(in crate::redis) fn mode(&self) -> Coherence {
        match self {
            Self::None => Coherence::None,
            Self::Broadcast => Coherence::Broadcast,
            Self::Channel(_) => Coherence::PubSub,
        }
    }
}

impl Connections {
    pub(in crate::redis) fn new(
        tracked: Connection,
        data: Connection,
        reporting: Reporting,
        listeners: Arc<Listeners>,
        may_mget: bool,
    ) -> Self {
        let (order, sizes, large_writes) = (Arc::default(), Sizes::default(), AtomicUsize::new(0));
        let may_mget = AtomicBool::new(may_mget);
        Self(Arc::new(Parts { tracked, data, reporting, listeners, order, sizes, may_mget, large_writes }))
    }

    pub(in crate::redis) fn tracked(&self) -> &Connection {
        &self.0.tracked
    }

    pub(in crate::redis) fn data(&self) -> &Connection {
        &self.0.data
    }

    pub(in crate::redis) fn reporting(&self) -> &Reporting {
        &self.0.reporting
    }

    /// The end of both.
    pub(in crate::redis) fn loss(&self) -> &Loss {
        self.0.data.loss()
    }

    /// Returns whether the value of a key and its time to live must be read in one step: where the server reports every
    /// write one between the two is reported, and the reader keeps nothing.
    pub(super) fn reads_at_once(&self, key: &[u8]) -> bool {
        match self.0.reporting {
            Reporting::Broadcast => self.0.listeners.is_unreported(key),
            Reporting::None | Reporting::Channel(_) => true,
        }
    }

    /// Returns whether no command has several keys: they lie in slots of a cluster.
    pub(super) fn are_in_slots(&self) -> bool {
        self.0.listeners.place().is_in_slots()
    }

    /// Returns whether one command reads many keys.
    pub(super) fn reads_with_mget(&self) -> bool {
        self.0.may_mget.load(Ordering::Relaxed) && !self.are_in_slots()
    }

    /// The user may not run `MGET`, and nobody tries again.
    pub(super) fn mget_is_refused(&self) {
        self.0.may_mget.store(false, Ordering::Relaxed);
    }

    /// The connection for reads: the data connection, unless a large write occupies it.
    ///
    /// A read over either needs no order with reports: only the registered ticket of its key keeps it, a report kills
    /// the ticket whichever comes first, and while an own write is pending nothing is kept.
    pub(super) fn reading(&self) -> &Connection {
        match self.0.reporting {
            Reporting::Broadcast if self.0.large_writes.load(Ordering::Relaxed) > 0 => &self.0.tracked,
            _ => &self.0.data,
        }
    }

    /// The connection for small writes: the one whose own writes the server does not report back.
    pub(super) fn writing(&self) -> &Connection {
        match self.0.reporting {
            Reporting::Broadcast => &self.0.tracked,
            Reporting::None | Reporting::Channel(_) => &self.0.data,
        }
    }

    /// Counts a large write over the data connection, until what is returned is dropped.
    pub(super) fn large_write(&self) -> impl Drop + use<> {
        struct Counted(Connections);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.0.large_writes.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.0.large_writes.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(super) fn order(&self) -> &Arc<WriteOrder> {
        &self.0.order
    }

    pub(super) fn sizes(&self) -> &Sizes {
        &self.0.sizes
    }

    /// Where the link runs: without it nothing here comes to an end.
    pub(in crate::redis) fn runtime(&self) -> &Handle {
        self.0.data.runtime()
    }
}
