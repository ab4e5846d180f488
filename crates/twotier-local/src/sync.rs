//! What threads meet at: the locks, atomics and wake-ups of this crate, each named in this one place.
//!
//! The sources take them from here and not from where they come from, so that `tests/exhaustive` and `tests/schedules`
//! can build the very same files with a `sync` of their own, in which a checker decides who runs next. Hence only what
//! those can replace belongs here. `Arc` does not: what it does is not in question.

use std::{cell::Cell, hint, thread};

pub(crate) use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

pub(crate) use tokio::sync::Notify;

/// A mutex for what takes some dozens of nanoseconds: one atomic step takes it and one store gives it back, where a
/// blocking one needs two steps in case somebody sleeps.
///
/// Who finds it taken spins for a moment, then lets others run between looks: the holder may have lost its processor,
/// and will not get it back from one that spins. It is never poisoned: a panic under it gives it back.
pub(crate) type Mutex<T> = spin::mutex::SpinMutex<T, Yielding>;
pub(crate) type MutexGuard<'m, T> = spin::mutex::SpinMutexGuard<'m, T, Yielding>;

/// How to wait for a [`Mutex`].
#[derive(Debug)]
pub(crate) struct Yielding;

/// After so many looks at a mutex that is taken the thread yields: about ten times as long as it is held.
const LOOKS: u32 = 16;

thread_local! {
    static LOOKED: Cell<u32> = const { Cell::new(0) };
}

impl spin::RelaxStrategy for Yielding {
    fn relax() {
        let looked = LOOKED.get();
        LOOKED.set(looked.wrapping_add(1));
        if looked % LOOKS == LOOKS - 1 {
            thread::yield_now();
        } else {
            hint::spin_loop();
        }
    }
}
