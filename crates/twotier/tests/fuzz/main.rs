//! What lies in the backend may be anything: bytes nobody meant for us, and bytes somebody meant to look like ours.
//!
//! Property tests of envelopes and codecs, and of configuration, which anybody may have written too. `PROPTEST_CASES`
//! says how many cases there are; without it few enough for every run.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]

mod codecs;
mod configuration;
mod envelopes;

use proptest::test_runner::Config;

/// What decoding may allocate beside the value itself.
const SLACK: u64 = 4096;

/// So many cases, unless the environment asks for more.
fn cases(few: u32) -> Config {
    match std::env::var("PROPTEST_CASES") {
        Ok(_) => Config::default(),
        Err(_) => Config::with_cases(few),
    }
}
