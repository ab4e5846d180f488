//! What threads meet at: the locks, atomics and wake-ups of this crate, each named in this one place.
//!
//! The sources take them from here and not from where they come from, so that `tests/exhaustive` and `tests/schedules`
//! can build the very same files with a `sync` of their own, in which a checker decides who runs next. Hence only what
//! those can replace belongs here. `Arc` does not: what it does is not in question.

pub(crate) use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use tokio::sync::Notify;
