//! What is logged of a link: a line for each change, and not too many of them.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use twotier_core::{BackendError, Coherence};

use crate::redis::{listeners::Listeners, wire::Target};

/// The pause between two lines about the same outage.
const STILL: Duration = Duration::from_secs(60);
/// The pause between two losses that are logged: a link that flaps does not fill the log.
const FLAPPING: Duration = Duration::from_secs(10);

/// Logs the changes of one link.
pub(super) struct Journal {
    /// Whose namespaces are named.
    listeners: Arc<Listeners>,
    /// Of whose lines these are some.
    target: Arc<Target>,
    /// Whether an attempt has ended, so that whoever asked for the link first knows how.
    started: bool,
    /// When a loss was last logged.
    lost_at: Option<Instant>,
    /// How many losses were not logged since.
    unlogged: u64,
    /// When the outage there is was last logged.
    outage: Option<Instant>,
}

impl Journal {
    pub(super) fn new(target: Arc<Target>, listeners: Arc<Listeners>) -> Self {
        Self { listeners, target, started: false, lost_at: None, unlogged: 0, outage: None }
    }

    pub(super) fn up(&mut self, mode: Coherence, fenced: bool) {
        let namespace = self.listeners.names();
        if self.outage.take().is_some() {
            tracing::info!(%namespace, coherence = %mode, fenced, "link up again");
        } else {
            tracing::debug!(%namespace, coherence = %mode, fenced, "link up");
        }
        self.started = true;
    }

    pub(super) fn lost(&mut self, cause: &BackendError) {
        let now = Instant::now();
        if self.lost_at.is_some_and(|last| now - last < FLAPPING) {
            self.unlogged += 1;
            return;
        }
        match self.target.lines.due() {
            Some(others) => {
                tracing::warn!(namespace = %self.listeners.names(), %cause, unlogged = self.unlogged, others, "link lost");
            }
            None => tracing::debug!(namespace = %self.listeners.names(), %cause, unlogged = self.unlogged, "link lost"),
        }
        (self.lost_at, self.unlogged, self.outage) = (Some(now), 0, Some(now));
    }

    /// An attempt failed. The first one ever is an error to whoever asked for the link.
    pub(super) fn still_down(&mut self, cause: &BackendError) {
        let now = Instant::now();
        let logged = self.outage.is_some_and(|last| now - last < STILL);
        if logged || !self.started {
            tracing::debug!(namespace = %self.listeners.names(), %cause, "no link");
            self.started = true;
            self.outage.get_or_insert(now);
            return;
        }
        match self.target.lines.due() {
            Some(others) => tracing::warn!(namespace = %self.listeners.names(), %cause, others, "link still down"),
            None => tracing::debug!(namespace = %self.listeners.names(), %cause, "link still down"),
        }
        self.outage = Some(now);
    }
}
