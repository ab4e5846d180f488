//! A timer for delay lines. tokio's own counts milliseconds and rounds up, which would make 37 ms of latency 39.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

/// Wakes tasks when they asked for it, from a thread of its own that ends with this.
#[derive(Debug)]
pub(super) struct Timer {
    shared: Arc<TimerQueue>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct TimerQueue {
    sleepers: Mutex<Sleepers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Sleepers {
    next_id: u64,
    /// By time, then in the order in which they came.
    waiting: BTreeMap<(Instant, u64), oneshot::Sender<()>>,
    stopped: bool,
}

impl Timer {
    pub(super) fn start() -> Self {
        let shared = Arc::new(TimerQueue::default());
        let thread = thread::Builder::new().name("proxy-timer".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.wake_sleepers()
        });
        Self { shared, thread: Some(thread.expect("a thread starts")) }
    }

    /// Waits until then, and never less.
    pub(super) async fn until(&self, due: Instant) {
        if due <= Instant::now() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        {
            let mut sleepers = self.shared.sleepers.lock().expect("nothing panics under this lock");
            let id = sleepers.next_id;
            sleepers.next_id += 1;
            sleepers.waiting.insert((due, id), wake);
        }
        self.shared.changed.notify_one();
        woken.await.expect("the timer outlives its sleepers");
    }
}

impl TimerQueue {
    fn wake_sleepers(&self) {
        let mut sleepers = self.sleepers.lock().expect("nothing panics under this lock");
        while !sleepers.stopped {
            let pause = match sleepers.waiting.first_key_value() {
                Some(((due, _id), _wake)) => due.saturating_duration_since(Instant::now()),
                None => Duration::from_secs(3600),
            };
            if pause.is_zero() {
                if let Some((_due, wake)) = sleepers.waiting.pop_first() {
                    // Nobody listens any more when the connection was cut meanwhile.
                    let _ = wake.send(());
                }
            } else {
                let waited = self.changed.wait_timeout(sleepers, pause);
                sleepers = waited.expect("nothing panics under this lock").0;
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // Not a place for a second panic.
        if let Ok(mut sleepers) = self.shared.sleepers.lock() {
            sleepers.stopped = true;
        }
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
