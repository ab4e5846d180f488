//! By whose word a server is the primary of a link: that of sentinels, of the other nodes of a cluster, or its own.

use std::{future::pending, sync::Arc, time::Duration};

use redis::cmd;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};
use twotier_core::BackendError;

use crate::BackendResult;

use super::{
    census::Voter,
    sentinel::{self, Sentinels},
    wire::{Connection, Target},
};

/// Says where the server of a link is.
pub(super) enum Authority {
    /// Sentinels, or nobody where there are none.
    Sentinels(Arc<Sentinels>),
    /// The node is given; who owns slots is decided by all of them.
    Census(Voter),
}

/// Says whether the server of a link still is the primary it was when the link was made.
#[derive(Clone)]
pub(super) enum Vouch {
    Sentinels(sentinel::Vouch),
    Census(Voter),
}

impl Authority {
    /// Starts to ask whoever has to be asked again and again, until what is returned is dropped.
    pub(super) fn ask(&self) -> JoinSet<()> {
        match self {
            Self::Sentinels(sentinels) => sentinels.ask(),
            Self::Census(_) => JoinSet::new(),
        }
    }

    /// Returns where the server is now.
    pub(super) async fn locate(&self, target: &Arc<Target>) -> BackendResult<(Arc<Target>, Vouch)> {
        match self {
            Self::Sentinels(sentinels) => {
                let (server, vouch) = sentinels.locate(target).await?;
                Ok((server, Vouch::Sentinels(vouch)))
            }
            Self::Census(voter) => Ok((Arc::clone(target), Vouch::Census(voter.clone()))),
        }
    }

    /// Waits for so long, or until there is a reason to look at once.
    pub(super) async fn pause(&self, pause: Duration) {
        match self {
            Self::Sentinels(sentinels) => sentinels.pause(pause).await,
            Self::Census(_) => sleep(pause).await,
        }
    }

    /// The link is lost.
    pub(super) fn lost(&self) {
        if let Self::Census(voter) = self {
            voter.leave();
        }
    }
}

impl Vouch {
    /// Asks the server of a new link for what its heartbeats ask it from then on, where others decide by it.
    pub(super) async fn begin(&self, tracked: &Connection) -> BackendResult<()> {
        match self {
            Self::Sentinels(_) => Ok(()),
            Self::Census(voter) => voter.ask(tracked).await,
        }
    }

    /// Waits until the next heartbeat is due: for so long, or until there is a reason for it.
    pub(super) async fn rest(&self, pause: Duration) {
        match self {
            Self::Sentinels(_) => sleep(pause).await,
            Self::Census(voter) => voter.rest(pause).await,
        }
    }

    /// Asks the server whether it still is a primary. A refusal is a reply like any other: it says nothing about the
    /// role, and nothing about the stream but that it lives.
    pub(super) async fn inquire(&self, tracked: &Connection) -> BackendResult<()> {
        match self {
            Self::Sentinels(_) => match tracked.one(cmd("HELLO").arg(3).to_owned()).await?.hello()? {
                Some(hello) => hello.primary(),
                None => Ok(()),
            },
            Self::Census(voter) => voter.ask(tracked).await,
        }
    }

    /// Returns as of when a lease may be renewed, not later than the mark. A server that lost its rank to another knows
    /// it last.
    pub(super) fn as_of(&self, mark: Instant) -> Option<Instant> {
        match self {
            Self::Sentinels(vouch) => vouch.holds(mark).then_some(mark),
            Self::Census(voter) => voter.vouches(mark),
        }
    }

    /// Waits until another server is the primary.
    pub(super) async fn withdrawn(&self) -> BackendError {
        match self {
            Self::Sentinels(vouch) => vouch.withdrawn().await,
            // Whoever keeps the map ends the link.
            Self::Census(_) => pending().await,
        }
    }
}
