//! The Redis backend by itself: connection, tracking, TLS, roles, errors.

#![cfg(feature = "redis")]

mod commands;
mod link;
mod tls;
