//! A model of the coherence protocol, explored state by state.
//!
//! The protocol is that of the design's `coherence.md`: §3 names the races, §4 the rules, §5 what is to be checked. The
//! model takes every step that somebody could take in every state that can be reached, so what it finds is a proof for
//! the configuration at hand, and what it does not find within it is not there.
//!
//! # What is modelled
//!
//! One key, because every rule is about one key or about all of them alike.
//!
//! - *The server*: commands of our connection in order, between which others may write, remove, evict or flush; an
//!   event-loop cycle at whose end pushes leave, by the last writer of the key in the cycle (`NOLOOP`); optionally
//!   replies that leave before that, as with the I/O threads of Redis 8, where a request sent after such a reply waits
//!   for the next cycle. As an ablation the default tracking mode.
//! - *The wire*: replies and pushes in one stream, taken by the reader one by one; a break, after which queued writes
//!   may still land, in any order or never, until the next link ends that connection at the server; the supervisor that
//!   notices before or after the others, reconnects, tracks, fences and publishes.
//! - *The local tier*: entry, registered read, pending writes, epoch and lease, one function for each step of the real
//!   `shard.rs`, `link.rs` and `push.rs`, under its name.
//! - *The tasks*: gets that lead, join, wait for a connection, act on a reply whenever they run, lose patience, are
//!   dropped at any await; own writes (set, delete, script, clear) that overlap in any way. Registering, queueing,
//!   executing, delivering and acting are five steps, with anything in between.
//!
//! - *Failed writes*: one that misses its deadline before it is queued, and one that was queued when its link was lost.
//! - *The origin*, where a configuration has one: a row that every write changes first, and loaders that read it at
//!   some time after they found the key absent, store it if it still is, and install it by a ticket of the local tier.
//!   The key has one writing party, which writes one row after the other: who writes rows and keys in different orders
//!   needs no cache to get them wrong. Own deletions may also change their row as late as just before they are
//!   acknowledged.
//!
//! An older row may be stored after a row that somebody else wrote and that was deleted, evicted or flushed again
//! before the report of any of it was applied here: only a lease at the server closes that. The model finds those
//! states and asks nothing of the row of that version; it asks the more of all others.
//!
//! Whoever joined a read is given its answer, whatever happened to the read since: what a get may not go back behind is
//! what was returned, acknowledged or announced before it began, and nobody joins a read of which that is not known to
//! hold. A read that is bound by a refused answer hands those bytes on to who joins it then, or nothing.
//!
//! A lease is an order, not a duration: its mark notes what had been acknowledged when it was taken, and no copy that
//! is served may be older. A drop stands for a timeout too. A detached write has no drop: its caller's going away asks
//! for less and changes nothing.
//!
//! # What is not
//!
//! Times to live; more keys, so no batches; two sets of the same bytes (all absences are the same, though, and all
//! copies of one row); failing replies; the pub/sub fallback; replicas and failover; memory orderings, which are for a
//! checker of the real code.
//!
//! # Where to begin
//!
//! A [`Config`] says who takes part and what may go wrong, [`explore()`] searches, a [`Violation`] prints the shortest
//! way to a broken [`Promise`]. A [`Rule`] is what can be left out.

mod ablation;
mod check;
mod client;
mod config;
mod explore;
mod gets;
mod promise;
mod queue;
mod server;
mod state;
mod steps;
mod writes;

pub use ablation::{Rule, Rules};
pub use config::{Config, GETTERS, WRITES, Write};
pub use explore::{Report, Violation, explore};
pub use promise::{Promise, Promises};
