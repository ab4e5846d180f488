//! What `src/sync.rs` names, as loom has it.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, Waker},
};

pub(crate) use loom::sync::{
    MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// A mutex that is never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the exploration")
    }
}

/// A cell that is set once: the standard one, behind a flag whose loads may be late, as far as its ordering allows.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    set: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { set: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        // Who sets second has waited for the first, so what that one did is visible to it: hence a step that acquires.
        if self.set.swap(true, Ordering::AcqRel) {
            return Err(value);
        }
        self.value.set(value)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if self.set.load(Ordering::Acquire) { self.value.get() } else { None }
    }
}

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
