//! Each race between reads, writes and news of changes that the local tier has to close, by hand and in one order,
//! under every eviction policy.
//!
//! The numbers are those of the races in the design of the protocol; every test fails when the rule it is about is
//! taken out.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a panic is how a test fails, and figures go to stderr")]

#[path = "../common/mod.rs"]
mod common;

use twotier_core::Eviction;

/// Has every file of rules once for each policy.
macro_rules! under {
    ($($policy:ident: $eviction:expr,)*) => {$(
        mod $policy {
            const EVICTION: twotier_core::Eviction = $eviction;
            mod rules {
                use super::EVICTION;
                include!("rules.rs");
            }
            mod arrivals {
                use super::EVICTION;
                include!("arrivals.rs");
            }
            mod loads {
                use super::EVICTION;
                include!("loads.rs");
            }
            mod touches {
                use super::EVICTION;
                include!("touches.rs");
            }
            mod links {
                use super::EVICTION;
                include!("links.rs");
            }
        }
    )*};
}

under! {
    lru: super::Eviction::Lru,
    lfu: super::Eviction::Lfu,
    fifo: super::Eviction::Fifo,
    random: super::Eviction::Random { seed: 42 },
    s3_fifo: super::Eviction::S3Fifo,
    w_tinylfu: super::Eviction::WTinyLfu,
}
