//! What the servers really do: the facts that the coherence of local copies rests on, each in a test of its own, so
//! that a server that behaves otherwise is noticed.
//!
//! Nothing of this library is under test here, only the server, spoken to byte by byte.

#![allow(clippy::unwrap_used, reason = "a panic with a message is how a test fails")]
#![allow(clippy::disallowed_methods, reason = "real servers run on real time")]

mod resp3;

mod live {
    //! Every test needs a server.

    mod cluster;
    mod commands;
    mod expiry;
    mod link;
    mod noloop;
    mod order;
    mod roles;
}
