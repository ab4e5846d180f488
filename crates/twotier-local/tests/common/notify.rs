//! `tokio::sync::Notify` over the locks of a checker.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use crate::sync::Mutex;

/// What `tokio::sync::Notify` promises those who wait for all at once: whoever called `notified` before
/// `notify_waiters` is woken by it, polled or not.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    state: Mutex<(u64, Vec<Waker>)>,
}

impl Notify {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn notify_waiters(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.0 += 1;
            mem::take(&mut state.1)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified { of: self, since: self.state.lock().0 }
    }
}

#[derive(Debug)]
pub(crate) struct Notified<'n> {
    of: &'n Notify,
    since: u64,
}

impl Notified<'_> {
    pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
        self.of.state.lock().0 != self.since
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.of.state.lock();
        if state.0 != self.since {
            return Poll::Ready(());
        }
        state.1.push(context.waker().clone());
        Poll::Pending
    }
}
