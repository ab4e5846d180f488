//! A future that runs where it is woken, without a task of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use parking_lot::Mutex;
use tokio::task::unconstrained;

/// Nobody polls it.
const IDLE: u8 = 0;
/// Somebody polls it.
const POLLED: u8 = 1;
/// It was woken while somebody polled it, and is polled again.
const WOKEN: u8 = 2;
/// It has ended.
const ENDED: u8 = 3;

/// A future that whoever wakes it polls, on their own stack: here the reader of a connection, as a reply arrives.
///
/// A task would take two more switches for each reply, and on several threads the time of waking one of them. In return
/// the future must do little between two waits, and nothing that blocks.
pub(super) struct Inline {
    state: AtomicU8,
    /// Never contended: only the one who has brought `state` to [`POLLED`] locks it.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Inline {
    /// Polls a future for the first time, and goes on with it whenever it is woken.
    pub(super) fn run(future: impl Future<Output = ()> + Send + 'static) {
        let inline = Self { state: AtomicU8::new(IDLE), future: Mutex::new(Some(Box::pin(future))) };
        Arc::new(inline).go_on();
    }

    fn go_on(self: Arc<Self>) {
        // Leaves the polling to whoever is at it.
        let woken = |state| match state {
            IDLE => Some(POLLED),
            POLLED => Some(WOKEN),
            _ => None,
        };
        if self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, woken) != Ok(IDLE) {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        while self.poll(&mut Context::from_waker(&waker)).is_pending() {
            let left = self.state.compare_exchange(POLLED, IDLE, Ordering::AcqRel, Ordering::Acquire);
            if left.is_ok() {
                return;
            }
            self.state.store(POLLED, Ordering::Release);
        }
        self.state.store(ENDED, Ordering::Release);
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut held = self.future.lock();
        let Some(future) = held.as_mut() else { return Poll::Ready(()) };
        // Not put off for the sake of other tasks: whoever woke it would be asked to wake it again, for ever.
        let polled = catch_unwind(AssertUnwindSafe(|| pin!(unconstrained(future.as_mut())).as_mut().poll(context)));
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            // Dropped after a panic too, which notifies whoever waits.
            Ok(Poll::Ready(())) | Err(_) => {
                let ended = held.take();
                drop(held);
                drop(ended);
                Poll::Ready(())
            }
        }
    }
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.go_on();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn it_runs_to_its_end_on_the_stack_of_whoever_wakes_it() {
        let (sender, receiver) = oneshot::channel::<u32>();
        let ended = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&ended);
        Inline::run(async move {
            seen.store(receiver.await.unwrap() as usize, Ordering::SeqCst);
        });
        assert_eq!(ended.load(Ordering::SeqCst), 0);
        sender.send(7).unwrap();
        assert_eq!(ended.load(Ordering::SeqCst), 7);
    }

    #[test]
    fn one_that_wakes_itself_goes_on_and_one_that_panics_is_dropped() {
        struct Dropped(Arc<AtomicUsize>);
        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicUsize::new(0));
        let guard = Dropped(Arc::clone(&dropped));
        let mut left = 3;
        Inline::run(async move {
            let _guard = guard;
            std::future::poll_fn(move |context| {
                left -= 1;
                context.waker().wake_by_ref();
                if left == 0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        });
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
        let guard = Dropped(Arc::clone(&dropped));
        Inline::run(async move {
            let _guard = guard;
            std::panic::resume_unwind(Box::new(()));
        });
        assert_eq!(dropped.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn woken_from_many_threads_at_once_it_is_polled_by_one_at_a_time_and_misses_none() {
        for _ in 0..200 {
            let (senders, receivers): (Vec<_>, Vec<_>) = (0..4).map(|_| oneshot::channel::<()>()).unzip();
            let (ended, end) = std::sync::mpsc::channel();
            Inline::run(async move {
                for receiver in receivers {
                    receiver.await.unwrap();
                }
                ended.send(()).unwrap();
            });
            let threads: Vec<_> =
                senders.into_iter().rev().map(|sender| std::thread::spawn(move || sender.send(()))).collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
            end.recv_timeout(std::time::Duration::from_secs(20)).expect("it ends");
        }
    }
}
