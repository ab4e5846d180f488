//! What lies under the commands: streams, connections, and what can go wrong with them.

#[cfg(feature = "tls")]
mod alert;
mod connection;
mod credentials;
mod dial;
mod error;
mod files;
mod framing;
mod identity;
mod lines;
mod loss;
mod progress;
mod renewal;
mod stream;
mod target;
#[cfg(feature = "tls")]
mod tls;
mod url;

pub use self::credentials::{CredentialsProvider, RedisCredentials};
#[cfg(feature = "simulation")]
pub(super) use self::dial::dialer;
pub(super) use self::{
    connection::{Connection, Reply, nonce, text},
    error::{Redirect, not_resp},
    framing::ValueLimit,
    lines::Lines,
    loss::Loss,
    progress::Progress,
    renewal::connect,
    target::Target,
};
