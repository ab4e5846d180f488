//! Every version that a key ever had, and every deletion.

use std::time::Duration;

/// Who made a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Writer {
    /// The party behind this link of the network.
    Link(usize),
    /// A client that is not connected over the network.
    Foreign,
    /// The server itself: it evicted, expired or lost the key.
    Server,
}

/// One version of a key, in the server's own order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The value; `None` when the key was absent.
    pub value: Option<String>,
    /// When the server executed the command that made it.
    pub at: Duration,
    /// When the reply to that command left the server, if it did. Expiry is acknowledged to nobody.
    pub acknowledged: Option<Duration>,
    /// From when on the key is absent by itself.
    pub expires: Option<Duration>,
    /// Who made it.
    pub by: Writer,
    /// Since when the node that made it had lost the key to another one without knowing it: the cluster drops it.
    pub lost: Option<Duration>,
    /// When a majority of a cluster knew that the slot had been moved by hand, where this version is what came of that:
    /// nobody votes on such a move, and nobody who asks can know of it before.
    pub moved: Option<Duration>,
}

/// A deletion by somebody connected over the network, whether or not the key was there.
#[derive(Clone, Debug)]
pub struct Deletion {
    /// The key.
    pub key: String,
    /// The link it came over.
    pub link: usize,
    /// When it was executed.
    pub at: Duration,
    /// The version that was the present one afterwards: absent.
    pub index: usize,
    /// Whether the node that executed it had lost the key to another one.
    pub is_lost: bool,
}

impl Version {
    /// What every key begins as.
    pub(super) fn absent_from_the_start() -> Self {
        Self { acknowledged: Some(Duration::ZERO), ..Self::by_itself(None, Duration::ZERO) }
    }

    /// What a server makes of a key by itself, for ever and to be acknowledged to nobody.
    pub(super) fn by_itself(value: Option<String>, at: Duration) -> Self {
        Self { value, at, acknowledged: None, expires: None, by: Writer::Server, lost: None, moved: None }
    }

    /// Returns whether a key of this version is absent by itself at this time.
    #[must_use]
    pub fn is_expired(&self, now: Duration) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }
}
