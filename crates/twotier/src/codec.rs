//! Codecs: how values become the bytes in the backend.
//!
//! The codec is part of what other programs see: with [`Json`], `redis-cli GET users:42` shows plain JSON.
//! What they write they read back equal, or refuse to write; [`verify_writes`](crate::CacheBuilder::verify_writes)
//! extends that to types whose `Serialize` and `Deserialize` disagree. None of them nests deeper than 127 levels
//! (arrays, maps, structs, variants; and as many `Some`s and newtypes), so that no bytes of anybody's exhaust the
//! stack.
//! [`OnUndecodable`](crate::OnUndecodable) decides what bytes are that do not decode.
//!
//! A codec of your own is one implementation of [`Codec`]. [`Sealed`] puts another codec's bytes into an envelope, for
//! namespaces where something else may come to lie under our keys.

mod envelope;
mod fingerprint;
mod guard;
pub(crate) mod json;
#[cfg(feature = "messagepack")]
mod messagepack;
mod plain;
#[cfg(feature = "postcard")]
mod postcard;
mod sealed;

use bytes::Bytes;

pub use twotier_core::CodecError;

pub use self::json::Json;
#[cfg(feature = "messagepack")]
pub use self::messagepack::MessagePack;
pub use self::plain::{Raw, Text};
#[cfg(feature = "postcard")]
pub use self::postcard::Postcard;
pub use self::sealed::Sealed;

/// Turns values into bytes and back.
///
/// # Contract
///
/// - `decode(encode(v))` is equal to `v`, or `encode(v)` is an error. The codecs of this crate refuse what is nested
///   deeper than 127 levels on both ways; what a type's own `Serialize` and `Deserialize` disagree about is found by
///   [`verify_at`](Self::verify_at).
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

    /// Encodes a value for the place where it will be kept. This is what the cache calls; provided as
    /// [`encode`](Self::encode), wherever that is.
    ///
    /// # Errors
    ///
    /// As [`encode`](Self::encode).
    fn encode_at(&self, _place: Place<'_>, value: &V) -> Result<Bytes, CodecError> {
        self.encode(value)
    }

    /// Decodes a value found at a place, or returns `None` when these bytes are not this codec's: the key is then read
    /// as absent, and counted in `stats().backend.foreign`. This is what the cache calls; provided as
    /// [`decode`](Self::decode), wherever that is.
    ///
    /// # Errors
    ///
    /// As [`decode`](Self::decode).
    fn decode_at(&self, _place: Place<'_>, bytes: &Bytes) -> Result<Option<V>, CodecError> {
        self.decode(bytes).map(Some)
    }

    /// Refuses an encoding that does not read back as its value. The cache calls it before it writes, where
    /// [`verify_writes`](crate::CacheBuilder::verify_writes) is set. Provided as a decoding that must not fail; the
    /// codecs by serde compare both values in what they serialize to, in whatever order their items come.
    ///
    /// # Errors
    ///
    /// When the bytes cannot be read, or are another value.
    fn verify_at(&self, place: Place<'_>, _value: &V, bytes: &Bytes) -> Result<(), CodecError> {
        match self.decode_at(place, bytes)? {
            Some(_) => Ok(()),
            None => Err(CodecError::encoding("bytes", "the codec does not recognise them as its own")),
        }
    }

    /// Returns the bytes by which a cache tells others that the origin has nothing under this key, see
    /// [`share_absence`](crate::CacheBuilder::share_absence); no value has them for its encoding, and
    /// [`decode_at`](Self::decode_at) returns `None` for them. Provided as "there are none".
    fn encode_absence_at(&self, _place: Place<'_>) -> Option<Bytes> {
        None
    }

    /// Returns whether these bytes, for which [`decode_at`](Self::decode_at) returned `None`, are those of
    /// [`encode_absence_at`](Self::encode_absence_at). Provided as "they are not".
    fn is_absence_at(&self, _place: Place<'_>, _bytes: &Bytes) -> bool {
        false
    }

    /// Returns what a value weighs in the local tier where there is no weigher, derived from its valid encoding, in
    /// bytes. Provided as the length of the encoding; a codec that compresses says what it was before.
    fn weight(&self, bytes: &Bytes) -> usize {
        bytes.len()
    }

    /// Returns a number by which an envelope distinguishes the bytes of one codec from those of another. Those up to
    /// 255 belong to this crate; provided as 0, which distinguishes nothing.
    fn id(&self) -> u16 {
        0
    }
}

/// Where an encoded value is kept, and how large it may be: for codecs whose encoding depends on it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Place<'a> {
    /// The namespace of the cache. It may hold `:`, so that the same name in the backend may be another place.
    pub namespace: &'a str,
    /// The key within the namespace.
    pub key: &'a str,
    /// The most bytes that a value may have, encoded and however else it comes (`max_value_bytes`).
    pub max_bytes: usize,
}

impl<'a> Place<'a> {
    /// Puts the three together.
    #[must_use]
    pub fn new(namespace: &'a str, key: &'a str, max_bytes: usize) -> Self {
        Self { namespace, key, max_bytes }
    }
}
