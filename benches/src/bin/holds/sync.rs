//! What `src/sync.rs` of the tier names, with a mutex that measures how long it is held.

use std::{
    cell::Cell,
    ops::{Deref, DerefMut},
    time::Duration,
};

use twotier_benches::cpu::cpu_time;

pub(crate) use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

pub(crate) use tokio::sync::Notify;

thread_local! {
    static LONGEST: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Returns how long this thread held any mutex at the most since the last call.
pub(crate) fn longest() -> Duration {
    LONGEST.take()
}

#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(parking_lot::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        let held = self.0.lock();
        MutexGuard { since: cpu_time(), held }
    }
}

#[derive(Debug)]
pub(crate) struct MutexGuard<'m, T> {
    since: Duration,
    held: parking_lot::MutexGuard<'m, T>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.held
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        LONGEST.set(LONGEST.get().max(cpu_time().saturating_sub(self.since)));
    }
}
