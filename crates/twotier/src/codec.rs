//! Codecs: how values become the bytes in the backend.
//!
//! The codec is part of what other programs see: with [`Json`], `redis-cli GET users:42` shows plain JSON.
//! A codec of your own is one implementation of [`Codec`].

mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
mod plain;
#[cfg(feature = "postcard")]
mod postcard;

use bytes::Bytes;

pub use twotier_core::CodecError;

pub use self::json::Json;
#[cfg(feature = "messagepack")]
pub use self::messagepack::MessagePack;
pub use self::plain::{Raw, Text};
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;

/// Turns values into bytes and back.
///
/// # Contract
///
/// - `decode(encode(v))` is equal to `v`.
/// - Bytes that are no encoding of a value are an error, never a panic: other programs write to the same backend.
/// - Errors hold no part of the value.
/// - Neither method is called under a lock of the cache, and a panic in one leaves nothing behind.
pub trait Codec<V>: Send + Sync + 'static {
    /// Encodes a value.
    ///
    /// # Errors
    ///
    /// When the value has no encoding.
    fn encode(&self, value: &V) -> Result<Bytes, CodecError>;

    /// Decodes a value.
    ///
    /// # Errors
    ///
    /// When the bytes are not the encoding of a value.
    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError>;
}
