//! Waiting on the calling thread: where a thread may wait, and how it does.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::{Condvar, Mutex};
use tokio::{
    runtime::Handle,
    task::coop::{has_budget_remaining, poll_proceed},
};
use twotier_core::{Error, Operation};

use crate::Result;

/// More steps than tokio lets any task make before it has to pause: 128.
const STEPS: usize = 256;

/// Returns an error where a thread must not wait, or cannot.
///
/// # Errors
///
/// [`Error::Usage`] within an asynchronous task, and while a thread ends.
pub(super) fn may_wait(operation: Operation) -> Result<()> {
    let hint = match Handle::try_current() {
        Err(no_runtime) if no_runtime.is_thread_local_destroyed() => {
            "the thread is ending, and its thread-local values are gone"
        }
        Ok(_) if drives_a_task() => {
            "it would block the thread of an asynchronous task; use twotier::Cache there, or tokio's spawn_blocking"
        }
        Ok(_) | Err(_) => return Ok(()),
    };
    Err(Error::Usage { operation, hint })
}

/// Returns whether this thread is polling an asynchronous task.
///
/// A current runtime does not show that: `spawn_blocking`, `block_in_place` and `Handle::enter` have one too, and may
/// wait. But tokio gives every task that it polls a budget of steps, and nothing else: where steps run out, a task is
/// polled. The budget is left as it was.
fn drives_a_task() -> bool {
    let mut context = Context::from_waker(Waker::noop());
    // A step of which it is not known that it made progress: as it is dropped, after the others, it resets the budget.
    let Poll::Ready(_reset) = poll_proceed(&mut context) else { return true };
    for _ in 0..STEPS {
        if !has_budget_remaining() {
            return true;
        }
        if let Poll::Ready(step) = poll_proceed(&mut context) {
            step.made_progress();
        }
    }
    false
}

/// Polls a future on this thread, which waits in between. No runtime is entered, driven or needed.
///
/// Calls nest, so each has a signal of its own; the token of `std::thread::park` is the caller's.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let signal = Arc::<Signal>::default();
    let waker = Waker::from(Arc::clone(&signal));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        signal.wait();
    }
}

/// Whether a future wants to be polled again.
#[derive(Default)]
struct Signal {
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn wait(&self) {
        let mut woken = self.woken.lock();
        self.changed.wait_while(&mut woken, |woken| !*woken);
        *woken = false;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.woken.lock() = true;
        self.changed.notify_one();
    }
}
