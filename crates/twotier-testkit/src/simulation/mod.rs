//! A server, a network and a clock inside the process, in tokio's paused time: every run is a function of its seed.
//!
//! - [`Server`]: speaks RESP3 and does what a real server does with `CLIENT TRACKING`, one event-loop cycle after the
//!   other. It remembers every version that every key ever had, so that a checker needs no guesses.
//! - [`Cluster`]: several such servers with the slots of a cluster, which move, and with replicas that are promoted.
//! - [`Network`]: delays and splits what passes, and fails in every way a network can.
//! - [`VirtualClock`]: tokio's time as a [`Clock`](twotier_core::Clock), as coarse as one likes.
//! - [`Journal`]: what happened, when and to whom; kept only where somebody asks for it.
//!
//! To be run in a current-thread runtime whose time is paused. Nothing here reads another clock, the environment, or a
//! generator of random numbers that was not seeded.

mod bus;
mod clock;
mod cluster;
mod command;
mod history;
mod journal;
mod network;
mod pipe;
mod resp;
mod script;
mod server;
mod slot;
mod state;
mod store;
mod tracking;
mod transaction;

pub use clock::VirtualClock;
pub use cluster::{Cluster, Setup};
pub use history::{Deletion, Version, Writer};
pub use journal::{Event, Journal};
pub use network::{Direction, Network, Stream, Weather};
pub use server::{Cycles, Loss, Server};
pub use state::Foreign;
pub use store::Histories;
