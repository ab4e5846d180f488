//! Log lines of what may happen thousands of times a second: one now and then, which counts the others.

use std::time::Duration;

use parking_lot::Mutex;

use tokio::time::Instant;

/// At most one line is written in so long.
const PERIOD: Duration = Duration::from_secs(10);

/// One kind of event.
#[derive(Debug, Default)]
pub(crate) struct Occasional {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    unwritten: u64,
}

impl Occasional {
    /// Counts an event, and returns how many there were since the last line, this one included, when a line is due.
    pub(crate) fn due(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.unwritten += 1;
        if state.last.is_some_and(|last| now.duration_since(last) < PERIOD) {
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unwritten))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_is_due_at_once_and_then_once_in_a_while_and_counts_what_was_left_out() {
        let events = Occasional::default();
        assert_eq!(events.due(), Some(1));
        for _ in 0..999 {
            assert_eq!(events.due(), None);
        }
        tokio::time::advance(PERIOD).await;
        assert_eq!(events.due(), Some(1000));
    }
}
