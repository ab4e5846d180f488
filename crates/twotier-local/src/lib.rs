//! The local tier of [twotier](https://docs.rs/twotier): a bounded map in process memory, exact LRU by default, that
//! never serves a copy it cannot vouch for.
//!
//! Applications use the facade crate `twotier`; this crate is for those who build on the tier itself.
//!
//! # What is kept, and what is let go
//!
//! [`LocalTier`] keeps values already decoded, under at most so many entries *and* so many bytes
//! ([`LocalOptions`]). Small tiers are one queue; large ones are split into shards by the hash of the key, and each
//! shard decides for itself. Which entry goes when a shard is full is one word of the options,
//! [`Eviction`](twotier_core::Eviction). Looking up and overwriting are O(1) by every policy, and so is evicting, for
//! S3-FIFO and W-TinyLFU on average: a hit pays for at most one later step past its entry.
//!
//! | policy | a hit | an eviction |
//! |---|---|---|
//! | `Lru` | moves the entry to the end of the queue | takes the front |
//! | `Fifo` | does nothing | takes the front |
//! | `Lfu` | moves the entry to the next level of a list of levels | takes the head of the lowest |
//! | `Random` | does nothing | takes a place in a row by a seeded generator |
//! | `S3Fifo` | marks the entry | takes from a small queue of new keys, or the first unmarked of the main queue |
//! | `WTinyLfu` | marks the entry and counts in a sketch | takes the oldest new or the first unmarked key, by count |
//!
//! Exact LRU is the default because a user can predict it: after `a, b, c, read a, d` in a tier of three, `b` is gone,
//! and no other outcome needs explaining. That has its price: on real traces it misses more than S3-FIFO does (mean hit
//! ratio over forty cells 48.2 % to 52.4 %), and a hit writes to its neighbours in the queue. Both policies that only
//! mark an entry keep two queues, of which the small one holds a tenth: new keys must be hit there, or be known from
//! before, to stay. They differ in how they know: S3-FIFO by a list of those that went lately, W-TinyLFU by counts of
//! all keys, which hold where a list is flooded, as by a loop longer than the cache.
//!
//! Sharding costs some hit ratio, since shards fill unevenly: at most 0.6 points with 32 entries a shard on the traces
//! of the tests. Tiers are split from 2048 entries on, with at least 128 entries a shard.
//!
//! A shard's lock is held for some dozens of nanoseconds, so who finds it taken spins, and yields when that takes
//! longer than a hit should. Threads of real-time priority on fewer processors than threads are better off without this
//! crate.
//!
//! # Why an insertion needs a ticket
//!
//! The obvious cache inserts what it read. That is wrong as soon as somebody else may write: the read can cross the
//! news of the write, and the stale value is then kept for good. So nothing is inserted here but through a ticket that
//! was taken *before* the command was sent, and that any news about the key destroys:
//!
//! - [`LocalTier::read`] hands out a [`FillTicket`] to the one who should read the backend, and a [`Joiner`] to
//!   everybody who asks for the key meanwhile.
//! - [`LocalTier::begin_write`] removes the entry at once and hands out a [`WriteTicket`].
//! - [`LocalTier::load`] hands out a [`LoadTicket`] to the one who should ask the origin, and a [`LoadJoiner`] to
//!   everybody else: what was loaded is written to the backend only while the ticket is live.
//! - The tier is a [`ChangeListener`](twotier_core::ChangeListener): a change, a flush or a lost link makes tickets and
//!   every entry dead; [proof of life](twotier_core::ChangeListener::proof_of_life) extends the time for which entries
//!   may be served.
//!
//! A refused ticket costs one more read later. That is the whole price: the tier errs towards asking again, and never
//! towards serving what may have changed.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//!
//! use twotier_core::{ChangeListener, Lease, LinkId, ManualClock, Namespace};
//! use twotier_local::{Digest, LocalOptions, LocalTier, Read};
//!
//! let options = LocalOptions::new(500, 1_000_000, Duration::from_secs(2));
//! let tier: LocalTier<Arc<str>, String> =
//!     LocalTier::new(Namespace::new("users")?, options, Arc::new(ManualClock::new()));
//! tier.link_up(LinkId::ONLY, Lease::Unlimited);
//!
//! assert_eq!(tier.get("42"), None);
//! let Read::Lead(ticket, _joiner) = tier.read("42") else { panic!("nobody else reads this key") };
//! // ... the backend is read here, and its answer is put in:
//! let (value, bytes) = (Arc::from("Ada"), b"Ada");
//! assert!(ticket.fill(value, Digest::of(bytes), bytes.len(), Some(Duration::from_secs(60))));
//! assert_eq!(tier.get("42").as_deref(), Some("Ada"));
//!
//! // Another client writes the key: the backend reports it, and the copy is gone.
//! tier.changed(b"users:42");
//! assert_eq!(tier.get("42"), None);
//! # Ok::<(), twotier_core::ConfigError>(())
//! ```
//!
//! # What is deliberately absent
//!
//! No background thread: expired and outdated entries go when they are looked up or evicted. No unsafe code. No user
//! code under a lock, but for the closure of [`LocalTier::get_with`]: values are dropped after the lock is released.

mod advisor;
mod budget;
mod clearing;
mod completion;
mod copy;
mod counters;
mod digest;
mod entry;
mod fates;
mod flight;
mod hash;
mod inner;
mod link;
mod load;
mod loads;
mod lost;
mod options;
mod policy;
mod register;
mod removal;
mod room;
mod shard;
mod sync;
mod ticket;
mod tier;
mod touch;
mod touches;

/// Named here and not in `link`, which is also built with the primitives of checkers (see `sync`): those exist only
/// inside a run of theirs.
#[cfg(test)]
#[path = "link/tests.rs"]
mod link_tests;

pub use clearing::{Cleared, Clearing};
pub use copy::CopyId;
pub use counters::CoherenceCounters;
pub use digest::Digest;
pub use flight::{Arrival, Joined, Joiner};
pub use inner::Route;
pub use load::{Load, LoadJoiner, LoadTicket, Loaded};
pub use options::{ENTRY_OVERHEAD, LocalOptions, entry_overhead};
pub use removal::RemovalListener;
pub use ticket::{FillTicket, WriteTicket};
pub use tier::{LocalCopy, LocalTier, Read, StaleCopy};
pub use touch::TouchTicket;
