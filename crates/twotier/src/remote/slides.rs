//! What a read hands over when it finds a life that is to be extended.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use smol_str::SmolStr;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many keys wait to be touched; more are left to the next read of theirs.
const WAITING: usize = 1024;

/// Takes the keys whose lives are to be extended.
#[derive(Clone)]
pub(crate) struct SlideSender {
    keys: Sender<SmolStr>,
    paused: Arc<AtomicBool>,
}

impl SlideSender {
    pub(crate) fn new() -> (Self, Receiver<SmolStr>) {
        let (keys, wanted) = channel(WAITING);
        (Self { keys, paused: Arc::default() }, wanted)
    }

    /// Has a key touched, unless it was a short while ago. Without waiting: what there is no room for is left to the
    /// next read.
    #[cold]
    #[inline(never)]
    pub(crate) fn want(&self, key: &str) {
        if !self.paused.load(Ordering::Relaxed) && self.keys.capacity() > 0 {
            let _full = self.keys.try_send(key.into());
        }
    }

    /// Leaves all keys to later reads for now.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }
}
