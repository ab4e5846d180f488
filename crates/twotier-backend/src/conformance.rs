//! The suite that every backend must pass.
//!
//! Implement [`Fixture`] for your backend, then either make a test of each check with
//! [`conformance_tests!`](crate::conformance_tests), or [`run`] all of them in one.
//! A check is a function whose name is the guarantee; it panics when the guarantee is broken.
//! Checks share no keys, so one store may serve all of them, also at the same time.
//!
//! Time passes by [`Fixture::pass_time`] alone: a backend with a clock of its own is tested without any sleeping.
//! What cannot be seen from outside is not tested here: connections that break, values of other types, what a server
//! counts.
//!
//! # Examples
//!
//! ```
//! # mod twotier { pub use twotier_backend::*; pub use twotier_core::*; }
//! use std::time::Duration;
//!
//! use twotier::{Backend, Coherence, ManualClock, MemoryBackend, async_trait, conformance};
//!
//! struct InMemory {
//!     clock: ManualClock,
//!     store: MemoryBackend,
//! }
//!
//! #[async_trait]
//! impl conformance::Fixture for InMemory {
//!     async fn backend(&self) -> Box<dyn Backend> {
//!         Box::new(self.store.clone())
//!     }
//!
//!     async fn pass_time(&self, by: Duration) {
//!         self.clock.advance(by);
//!     }
//!
//!     fn coherence(&self) -> Coherence {
//!         Coherence::Broadcast
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let clock = ManualClock::new();
//! let store = MemoryBackend::with_clock(clock.clone());
//! conformance::run(&InMemory { clock, store }).await;
//! # }
//! ```

#![allow(clippy::missing_panics_doc, reason = "a panic is how a check says that a guarantee is broken")]

mod batches;
mod changes;
mod clearing;
mod closing;
mod concurrency;
mod counters;
mod expiry;
mod recorder;
mod scope;
mod touching;
mod values;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::timeout;
use twotier_core::Coherence;

use crate::Backend;

pub use batches::{
    batches_keep_length_and_order, batches_may_be_empty, batches_may_be_of_ten_thousand_keys, batches_may_repeat_keys,
};
pub use changes::{
    a_fill_that_crosses_a_change_is_reported, a_foreign_change_after_our_own_is_reported,
    a_handle_serves_one_listener_only, a_listener_that_asked_for_nothing_receives_nothing,
    a_write_from_outside_is_reported, attaching_brings_the_link_up, every_foreign_batch_is_reported,
    every_foreign_clear_is_reported, every_foreign_delete_is_reported, every_foreign_write_is_reported,
    keys_of_other_namespaces_are_not_reported,
};
pub use clearing::{
    clearing_counts_what_lived, clearing_removes_the_prefix_and_nothing_else, clearing_takes_the_prefix_as_it_is,
};
pub use closing::{
    a_closed_handle_leaves_the_others_alone, a_closed_handle_refuses_every_call, closing_takes_the_link_down,
};
pub use concurrency::{
    a_call_sees_what_earlier_calls_did, concurrent_compare_and_sets_lose_nothing, concurrent_writers_do_not_mix,
    dropped_futures_disturb_nothing,
};
pub use counters::{
    concurrent_increments_lose_nothing, incrementing_an_absent_number_makes_it_with_its_ttl,
    incrementing_keeps_the_ttl, what_is_no_integer_is_not_incremented,
};
pub use expiry::{
    an_expired_value_is_never_returned, deleting_an_expired_key_finds_nothing, each_write_of_a_batch_has_its_own_ttl,
    one_millisecond_is_a_ttl, overwriting_replaces_the_ttl, the_remaining_ttl_is_true,
    without_a_ttl_a_value_is_persistent,
};
pub use recorder::{Event, Recorder};
pub use touching::{
    a_write_that_keeps_the_ttl_replaces_the_value_alone, every_foreign_increment_and_touch_is_reported,
    touching_sets_the_ttl_and_says_whether_the_key_was_there,
};
pub use values::{
    a_large_value_is_kept_whole, a_written_value_is_read_back, an_absent_key_is_none, an_empty_value_is_a_value,
    compare_and_set_writes_only_over_what_was_expected, deleting_says_whether_the_key_was_there,
    keys_and_values_may_hold_any_bytes, overwriting_replaces_the_value,
};

/// No check takes nearly this long, on any backend: after it something hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the suite needs to know of a backend.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Makes a new handle on the store, always the same store: another client of it, which no cache has yet.
    async fn backend(&self) -> Box<dyn Backend>;

    /// Lets at least this much time pass for the store: by moving its clock, or by sleeping.
    async fn pass_time(&self, by: Duration);

    /// Returns the best the backend has. With [`Coherence::None`] the checks of reports check that it says so.
    fn coherence(&self) -> Coherence;

    /// Writes a value past the backend, as another program would.
    ///
    /// Provided as a write by another handle.
    async fn write_outside(&self, key: &[u8], value: &[u8]) {
        let outsider = self.backend().await;
        outsider.set(key, Bytes::copy_from_slice(value), None).await.expect("another handle can write");
    }

    /// Returns whether closing a handle ends its calls. Only a backend that holds nothing, and so leaves
    /// [`Backend::close`] as provided, may say no.
    fn can_close(&self) -> bool {
        true
    }
}

/// Hands the names of all checks to a macro, after arguments of its own.
#[doc(hidden)]
#[macro_export]
macro_rules! __with_conformance_checks {
    ($then:ident! $arguments:tt) => {
        $crate::$then! { $arguments
            an_absent_key_is_none
            a_written_value_is_read_back
            an_empty_value_is_a_value
            keys_and_values_may_hold_any_bytes
            overwriting_replaces_the_value
            deleting_says_whether_the_key_was_there
            compare_and_set_writes_only_over_what_was_expected
            concurrent_compare_and_sets_lose_nothing
            a_large_value_is_kept_whole
            without_a_ttl_a_value_is_persistent
            the_remaining_ttl_is_true
            an_expired_value_is_never_returned
            one_millisecond_is_a_ttl
            overwriting_replaces_the_ttl
            deleting_an_expired_key_finds_nothing
            each_write_of_a_batch_has_its_own_ttl
            incrementing_an_absent_number_makes_it_with_its_ttl
            incrementing_keeps_the_ttl
            what_is_no_integer_is_not_incremented
            concurrent_increments_lose_nothing
            touching_sets_the_ttl_and_says_whether_the_key_was_there
            a_write_that_keeps_the_ttl_replaces_the_value_alone
            every_foreign_increment_and_touch_is_reported
            batches_keep_length_and_order
            batches_may_be_empty
            batches_may_repeat_keys
            batches_may_be_of_ten_thousand_keys
            clearing_removes_the_prefix_and_nothing_else
            clearing_takes_the_prefix_as_it_is
            clearing_counts_what_lived
            a_call_sees_what_earlier_calls_did
            concurrent_writers_do_not_mix
            dropped_futures_disturb_nothing
            attaching_brings_the_link_up
            every_foreign_write_is_reported
            every_foreign_delete_is_reported
            every_foreign_clear_is_reported
            every_foreign_batch_is_reported
            a_foreign_change_after_our_own_is_reported
            a_write_from_outside_is_reported
            a_fill_that_crosses_a_change_is_reported
            keys_of_other_namespaces_are_not_reported
            a_listener_that_asked_for_nothing_receives_nothing
            a_handle_serves_one_listener_only
            closing_takes_the_link_down
            a_closed_handle_refuses_every_call
            a_closed_handle_leaves_the_others_alone
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_run {
    ($fixture:ident $($check:ident)*) => {
        $($crate::conformance::bounded(stringify!($check), $check($fixture)).await;)*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __conformance_tests {
    ({ $fixture:expr } $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let fixture = $fixture;
                let check = $crate::conformance::$check(&fixture);
                $crate::conformance::bounded(stringify!($check), check).await;
            }
        )*
    };
}

/// Makes a test of each check of the [conformance suite](crate::conformance), each with a fixture of its own.
///
/// The crate that calls it depends on tokio with the features `macros`, `rt-multi-thread` and `time`.
///
/// ```
/// # extern crate twotier_backend as twotier;
/// # use std::time::Duration;
/// # use twotier::{Backend, MemoryBackend, async_trait, conformance::Fixture};
/// # use twotier_core::Coherence;
/// # struct InMemory;
/// # impl InMemory { fn new() -> Self { Self } }
/// # #[async_trait]
/// # impl Fixture for InMemory {
/// #     async fn backend(&self) -> Box<dyn Backend> { Box::new(MemoryBackend::new()) }
/// #     async fn pass_time(&self, _by: Duration) {}
/// #     fn coherence(&self) -> Coherence { Coherence::Broadcast }
/// # }
/// mod in_memory {
///     use super::InMemory;
///
///     twotier::conformance_tests!(InMemory::new());
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($fixture:expr) => {
        $crate::__with_conformance_checks! { __conformance_tests! { $fixture } }
    };
}

/// Runs every check, one after the other.
///
/// # Panics
///
/// When the backend breaks the contract; the message says how.
pub async fn run(fixture: &dyn Fixture) {
    crate::__with_conformance_checks! { __conformance_run! fixture }
}

/// Runs a check, and fails it when it does not end.
#[doc(hidden)]
pub async fn bounded(name: &str, check: impl Future<Output = ()>) {
    assert!(timeout(DEADLINE, check).await.is_ok(), "{name}: a call did not end within {} s", DEADLINE.as_secs());
}
