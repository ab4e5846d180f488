//! How many lines all links of one backend write about what is wrong: fifty caches that lose one server have one thing
//! to say.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The most lines in a period.
const MOST: u32 = 8;
const PERIOD: Duration = Duration::from_secs(60);

/// The lines at WARN of one backend. What is beyond is written at DEBUG.
#[derive(Debug, Default)]
pub(in crate::redis) struct Lines(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Lines {
    /// Returns how many lines were left out before this one, or `None` when this one is to be left out too.
    pub(in crate::redis) fn due(&self) -> Option<u64> {
        let now = Instant::now();
        let mut state = self.0.lock();
        if state.since.is_none_or(|since| now - since >= PERIOD) {
            (state.since, state.written) = (Some(now), 0);
        }
        if state.written == MOST {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_period_has_so_many_lines_and_the_next_one_says_how_many_were_left_out() {
        let lines = Lines::default();
        assert!((0..MOST).all(|_| lines.due() == Some(0)));
        assert!((0..42).all(|_| lines.due().is_none()));
        tokio::time::advance(PERIOD).await;
        assert_eq!((lines.due(), lines.due()), (Some(42), Some(0)));
    }
}
