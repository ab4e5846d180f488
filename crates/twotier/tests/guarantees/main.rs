//! What the cache promises, one file for each group of promises, one test for each promise.
//!
//! Tests that need a server are in modules named `live`; each starts a private one. They count commands at the server.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]

mod absence;
mod auditing;
mod bad_input;
mod batch_loading;
mod batches;
mod blocking_calls;
mod breaker;
mod cancellation;
mod clearing;
mod closing;
mod coherence;
mod configuration;
mod counters;
mod deleting;
mod documentation;
mod entries;
mod events;
mod eviction;
mod expiry;
mod far_away;
mod faults;
mod gathering;
mod health;
mod large_values;
mod loading;
mod loads_and_writes;
mod loads_end;
mod mocking;
mod namespaces;
mod nesting;
mod one_link;
mod outage_table;
mod outages;
mod outside_a_runtime;
mod overload;
mod own_backend;
mod progress;
mod queued_invalidations;
mod read_back;
mod reading;
mod refusals;
mod remaining_life;
mod revalidation;
mod scripted_links;
mod sealing;
#[cfg(all(feature = "anyhow", feature = "uuid"))]
mod shapes;
mod shop;
mod short_term;
mod single_flight;
mod sliding;
mod slow_consumers;
mod stale;
mod starting;
mod statistics;
mod support;
mod switching_off;
mod threads_without_runtime;
mod topology;
mod undecodable;
mod unsent_writes;
mod updating;
mod values;
mod warming;
mod writing;
