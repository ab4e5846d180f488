//! The faults there are.

use crate::group::Kind;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The server ends every connection of its clients (`CLIENT KILL`).
    ClientKill,
    /// The server is killed and started again.
    Kill,
    /// The server is stopped in its tracks and goes on later.
    Stop,
    /// Some links hang in both directions.
    HalfOpen,
    /// Some links pass requests and no replies.
    Mute,
    /// Some links are reset in the middle of a frame.
    Cut,
    /// Some links end in good order.
    HangUp,
    /// Some links end and new ones are refused for a while.
    Refuse,
    /// Some links grow slow.
    Slow,
    /// Some links pass everything in tiny pieces.
    Split,
    /// `FLUSHALL`.
    Flush,
    /// Memory gets short, and the server evicts keys at random.
    Evict,
    /// The server becomes a replica of an empty one, and then a primary again.
    Demote,
    /// Another server takes over, and the roles are changed back later.
    Failover,
    /// A cache clears the namespace.
    Clear,
}

impl Fault {
    pub(crate) const ALL: [Self; 15] = [
        Self::ClientKill,
        Self::Kill,
        Self::Stop,
        Self::HalfOpen,
        Self::Mute,
        Self::Cut,
        Self::HangUp,
        Self::Refuse,
        Self::Slow,
        Self::Split,
        Self::Flush,
        Self::Evict,
        Self::Demote,
        Self::Failover,
        Self::Clear,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientKill => "client-kill",
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::HalfOpen => "half-open",
            Self::Mute => "mute",
            Self::Cut => "cut",
            Self::HangUp => "hang-up",
            Self::Refuse => "refuse",
            Self::Slow => "slow",
            Self::Split => "split",
            Self::Flush => "flush",
            Self::Evict => "evict",
            Self::Demote => "demote",
            Self::Failover => "failover",
            Self::Clear => "clear",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::ALL.into_iter().find(|fault| fault.name() == name).unwrap_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            panic!("there is no fault `{name}`; there are {}", names.join(", "))
        })
    }

    /// Whether a group of this kind can have it. Data is lost in the lossy one only.
    pub(crate) fn suits(self, kind: Kind) -> bool {
        match self {
            Self::Flush | Self::Evict | Self::Demote | Self::Clear => kind == Kind::Lossy,
            Self::Failover => kind == Kind::Durable,
            _ => true,
        }
    }

    /// How often it comes, compared with others: quick ones more often.
    pub(crate) fn weight(self) -> usize {
        match self {
            Self::ClientKill | Self::Cut | Self::HangUp | Self::Flush => 8,
            Self::Slow | Self::Split | Self::Clear => 2,
            Self::Kill | Self::Stop | Self::HalfOpen | Self::Mute | Self::Refuse | Self::Evict | Self::Failover => 2,
            Self::Demote => 1,
        }
    }
}
