//! What `src/sync.rs` names, as shuttle has it.

pub(crate) use shuttle::sync::{
    MutexGuard,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

pub(crate) use crate::notify::Notify;

/// A mutex that is never poisoned.
#[derive(Debug, Default)]
pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the exploration")
    }
}

/// A cell that is set once: the standard one, with a point before each access at which another thread may run.
#[derive(Debug)]
pub(crate) struct OnceLock<T> {
    turn: AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { turn: AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.turn.store(true, Ordering::SeqCst);
        self.value.set(value)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        let _turn = self.turn.load(Ordering::SeqCst);
        self.value.get()
    }
}
