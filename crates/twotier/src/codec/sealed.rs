//! Another codec's bytes in an envelope.

use bytes::Bytes;

use super::{
    Codec, CodecError, Place,
    envelope::{self, Kind},
};

/// Another codec's bytes in an envelope that says what they are and where they belong.
///
/// Without it the bytes in the backend are plain, and whatever lies there under our key and decodes is taken for our
/// value. With it, bytes that are not an envelope, are damaged, were written for another key or namespace, by another
/// codec or for another [`schema`](Self::schema), are **a miss**: never a wrong value and never an error. They are
/// counted in `stats().backend.foreign` and stay as they are until the next write, or `get_or_load`, replaces them.
///
/// The price is 21 bytes for each value, and that other programs have to know the envelope to read or write them.
/// Its checksum (XXH3, 64 bits) holds against accidents; against somebody who may write to the server nothing here
/// does.
///
/// # Examples
///
/// ```
/// use twotier::{Cache, MemoryBackend, codec::{Json, Sealed}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// let store = MemoryBackend::new();
/// let plain: Cache<u32> = Cache::builder().build(store.clone()).await?;
/// let sealed: Cache<u32> = Cache::builder().codec(Sealed::new(Json).schema(2)).build(store).await?;
///
/// plain.set("k", 1).await?;
/// assert_eq!(sealed.get("k").await?, None); // not ours
/// sealed.set("k", 2).await?;
/// assert_eq!(sealed.get("k").await?.as_deref(), Some(&2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Sealed<C> {
    codec: C,
    schema: u16,
    compress_from: Option<usize>,
}

impl<C> Sealed<C> {
    /// Seals what another codec makes, as schema 0 and uncompressed.
    pub fn new(codec: C) -> Self {
        Self { codec, schema: 0, compress_from: None }
    }

    /// Sets the version of the value's type. Values sealed with another one are misses: raise it when the type changes
    /// in a way that the codec does not see.
    #[must_use]
    pub fn schema(mut self, version: u16) -> Self {
        self.schema = version;
        self
    }

    /// Compresses encodings of at least so many bytes by LZ4, where that makes them smaller. Values of either kind are
    /// read in any case.
    ///
    /// `max_value_bytes` bounds a value before compression and after: a size is checked before room is made for it.
    #[cfg(feature = "compression")]
    #[must_use]
    pub fn compress_from(mut self, bytes: usize) -> Self {
        self.compress_from = Some(bytes);
        self
    }

    fn kind<V>(&self) -> Kind
    where
        C: Codec<V>,
    {
        Kind { codec: self.codec.id(), schema: self.schema }
    }
}

/// [`encode`](Codec::encode) and [`decode`](Codec::decode) know no place, and seal for the empty key, which no cache
/// has.
impl<V, C: Codec<V>> Codec<V> for Sealed<C> {
    fn encode(&self, value: &V) -> Result<Bytes, CodecError> {
        self.encode_at(nowhere(), value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<V, CodecError> {
        let found = self.decode_at(nowhere(), bytes)?;
        found.ok_or_else(|| CodecError::decoding("sealed", "the envelope is damaged or belongs to another place"))
    }

    fn encode_at(&self, place: Place<'_>, value: &V) -> Result<Bytes, CodecError> {
        let plain = self.codec.encode_at(place, value)?;
        envelope::seal(place, self.kind(), &plain, self.compress_from)
            .ok_or_else(|| CodecError::encoding("sealed", "the value has 4 GiB or more"))
    }

    fn decode_at(&self, place: Place<'_>, bytes: &Bytes) -> Result<Option<V>, CodecError> {
        let Some(plain) = envelope::open(place, self.kind(), bytes) else { return Ok(None) };
        // Whole, and yet not what the codec makes of this type now: an older program's. The reason has no taker.
        Ok(self.codec.decode_at(place, &plain).unwrap_or_default())
    }

    fn encode_absence_at(&self, place: Place<'_>) -> Option<Bytes> {
        Some(envelope::seal_absence(place, self.kind()))
    }

    fn is_absence_at(&self, place: Place<'_>, bytes: &Bytes) -> bool {
        // The envelope says it in full: there is one for each place.
        envelope::seal_absence(place, self.kind()) == bytes
    }

    fn verify_at(&self, place: Place<'_>, value: &V, bytes: &Bytes) -> Result<(), CodecError> {
        let plain = envelope::open(place, self.kind(), bytes);
        let plain = plain.ok_or_else(|| CodecError::encoding("sealed", "the envelope cannot be opened again"))?;
        self.codec.verify_at(place, value, &plain)
    }

    fn weight(&self, bytes: &Bytes) -> usize {
        envelope::plain_size(bytes).unwrap_or(bytes.len())
    }

    fn id(&self) -> u16 {
        6
    }
}

fn nowhere() -> Place<'static> {
    Place::new("", "", usize::MAX)
}
