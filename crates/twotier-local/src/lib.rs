//! The local tier of [twotier](https://docs.rs/twotier): an exact LRU in process memory that never serves a copy it
//! cannot vouch for.
//!
//! Applications use the facade crate `twotier`; this crate is for those who build on the tier itself.
//!
//! # What is kept, and what is let go
//!
//! [`LocalTier`] keeps values already decoded, under at most so many entries *and* so many bytes
//! ([`LocalOptions`]). When it is full the least recently used entry goes, exactly: small tiers are one list, large
//! ones are split into shards and the order is exact within each. Looking up, overwriting and evicting are O(1).
//!
//! Exactness has its price, and it is stated here: a hit moves an entry to the end of a list, so a hit writes, so a hit
//! takes its shard's lock. Policies that only mark an entry on a hit are faster (about 1.3 times on one thread) and on
//! many workloads keep better entries. Exact LRU is the default all the same because a user can predict it: after
//! `a, b, c, read a, d` in a tier of three, `b` is gone, and no other outcome needs explaining.
//!
//! # Why an insertion needs a ticket
//!
//! The obvious cache inserts what it read. That is wrong as soon as somebody else may write: the read can cross the
//! news of the write, and the stale value is then kept for good. So nothing is inserted here but through a ticket that
//! was taken *before* the command was sent, and that any news about the key destroys:
//!
//! - [`LocalTier::read`] hands out a [`FillTicket`] to the one who should read the backend, and a [`Joiner`] to
//!   everybody else who asks for the key meanwhile.
//! - [`LocalTier::begin_write`] removes the entry at once and hands out a [`WriteTicket`].
//! - The tier is a [`ChangeListener`](twotier_core::ChangeListener): a change, a flush or a lost link makes tickets and
//!   entries worthless; [proof of life](twotier_core::ChangeListener::proof_of_life) extends the time for which entries
//!   may be served.
//!
//! A refused ticket costs one more read later. That is the whole price: the tier errs towards asking again, and never
//! towards serving what may have changed.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use twotier_core::{ChangeListener, Lease, ManualClock, Namespace};
//! use twotier_local::{Digest, LocalOptions, LocalTier, Read};
//!
//! let options = LocalOptions::new(500, 1_000_000, Duration::from_secs(2));
//! let tier: LocalTier<Arc<str>, String> =
//!     LocalTier::new(Namespace::new("users")?, options, Arc::new(ManualClock::new()));
//! tier.link_up(Lease::Unlimited);
//!
//! assert_eq!(tier.get("42"), None);
//! let Read::Lead(ticket) = tier.read("42") else { panic!("nobody else reads this key") };
//! // ... the backend is read here, and its answer is put in:
//! let (value, bytes) = (Arc::from("Ada"), b"Ada");
//! assert!(ticket.fill(value, Digest::of(bytes), bytes.len(), Some(Duration::from_secs(60))));
//! assert_eq!(tier.get("42").as_deref(), Some("Ada"));
//!
//! // Another client writes the key: the backend says so, and the copy is gone.
//! tier.changed(b"users:42");
//! assert_eq!(tier.get("42"), None);
//! # Ok::<(), twotier_core::ConfigError>(())
//! ```
//!
//! # What is deliberately absent
//!
//! No background thread: expired and outdated entries go when they are looked up or when they are the least recently
//! used. No unsafe code. No user code under a lock: values are dropped after the lock is released, and never inside a
//! [`ChangeListener`](twotier_core::ChangeListener) call, which may come from a connection's reader.

mod counters;
mod digest;
mod entry;
mod flight;
mod link;
mod options;
mod policy;
mod shard;
mod sync;
mod ticket;
mod tier;

/// Named here and not in `link`, which is also built with the primitives of checkers (see `sync`): those exist only
/// inside a run of theirs.
#[cfg(test)]
#[path = "link/tests.rs"]
mod link_tests;

pub use counters::CoherenceCounters;
pub use digest::Digest;
pub use flight::{Joined, Joiner};
pub use options::{ENTRY_OVERHEAD, LocalOptions, entry_overhead};
pub use ticket::{FillTicket, WriteTicket};
pub use tier::{Clearing, LocalTier, Read};
