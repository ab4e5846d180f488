//! The coherence protocol keeps its promises in every state the model can reach, and breaks one whenever a rule is left
//! out.
//!
//! `TWOTIER_TEST_MODEL_STATES=large cargo test --release -p twotier-testkit --test protocol -- --nocapture` explores
//! the large configurations too, which takes minutes and about a gigabyte.
#![allow(clippy::print_stdout, reason = "the number of states explored is a result")]

mod failed_writes;
mod loads;
mod promises;
mod rules;
mod support;
