//! The envelope of `Sealed`: what stands before an encoding and vouches for it.
//!
//! ```text
//! offset  bytes  what
//!      0      3  FF '2' 'T': no UTF-8 and no JSON begins like this
//!      3      1  version of this layout: 1
//!      4      2  codec that made the encoding     (all numbers little endian)
//!      6      2  version of the type, by its owner
//!      8      1  compression: 0 none, 1 LZ4 block; 2 for no encoding at all: the origin has no value
//!      9      4  size of the encoding before compression
//!     13      8  XXH3-64 of bytes 0 to 12, `<namespace>:`, the key's length in 4 bytes, the key, and what follows
//!     21         the encoding
//! ```
//!
//! The checksum is there for accidents: bytes cut short, flipped, or copied under another key. It is no signature.

use bytes::Bytes;
use xxhash_rust::xxh3::Xxh3;

use super::Place;

const MAGIC: [u8; 3] = *b"\xFF2T";
const VERSION: u8 = 1;
/// What comes before the checksum.
const PREFIX: usize = 13;
pub(super) const HEADER: usize = PREFIX + 8;

const PLAIN: u8 = 0;
/// There is nothing at the origin, and no encoding.
const ABSENT: u8 = 2;
#[cfg(feature = "compression")]
const LZ4: u8 = 1;
/// One byte of an LZ4 block stands for at most this many, beside the last few of a block.
#[cfg(feature = "compression")]
const LZ4_MOST: usize = 255;

/// Whose encoding is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) codec: u16,
    pub(super) schema: u16,
}

/// Puts an encoding into an envelope; `None` when its size has no room in the header.
///
/// An encoding over the limit is not compressed, so that it is refused for its size as it would be without an envelope.
pub(super) fn seal(place: Place<'_>, kind: Kind, plain: &[u8], compress_from: Option<usize>) -> Option<Bytes> {
    let size = u32::try_from(plain.len()).ok()?;
    let worth_it = compress_from.is_some_and(|from| plain.len() >= from) && plain.len() <= place.max_bytes;
    let compressed = if worth_it { compressed(plain) } else { None };
    let (compression, mut sealed) = match compressed {
        Some((compression, sealed)) => (compression, sealed),
        None => {
            let mut sealed = Vec::with_capacity(HEADER + plain.len());
            sealed.resize(HEADER, 0);
            sealed.extend_from_slice(plain);
            (PLAIN, sealed)
        }
    };
    let (room, payload) = sealed.split_first_chunk_mut::<HEADER>()?;
    *room = header(place, kind, compression, size, payload);
    Some(sealed.into())
}

/// Makes the envelope that says that the origin has nothing: one for each place.
pub(super) fn seal_absence(place: Place<'_>, kind: Kind) -> Bytes {
    Bytes::copy_from_slice(&header(place, kind, ABSENT, 0, &[]))
}

fn header(place: Place<'_>, kind: Kind, compression: u8, size: u32, payload: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..3].copy_from_slice(&MAGIC);
    header[3] = VERSION;
    header[4..6].copy_from_slice(&kind.codec.to_le_bytes());
    header[6..8].copy_from_slice(&kind.schema.to_le_bytes());
    header[8] = compression;
    header[9..PREFIX].copy_from_slice(&size.to_le_bytes());
    let checksum = checksum(place, &header[..PREFIX], payload);
    header[PREFIX..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Takes the encoding out of an envelope that is whole, of this kind and of this place; `None` for anything else.
///
/// Allocates nothing for an encoding that is not compressed, else exactly its size, which is within the limit.
pub(super) fn open(place: Place<'_>, kind: Kind, sealed: &Bytes) -> Option<Bytes> {
    let (header, payload) = sealed.split_first_chunk::<HEADER>()?;
    let (prefix, sum) = header.split_first_chunk::<PREFIX>()?;
    let known = prefix[..3] == MAGIC && prefix[3] == VERSION;
    let ours = prefix[4..6] == kind.codec.to_le_bytes() && prefix[6..8] == kind.schema.to_le_bytes();
    let size = plain_size(sealed)?;
    let fits = size <= place.max_bytes && payload.len() <= place.max_bytes;
    if !(known && ours && fits) || *sum != checksum(place, prefix, payload).to_le_bytes() {
        return None;
    }
    match prefix[8] {
        PLAIN if payload.len() == size => Some(sealed.slice(HEADER..)),
        #[cfg(feature = "compression")]
        LZ4 => decompressed(payload, size),
        _ => None,
    }
}

/// Returns the size of the encoding before compression, as the header has it.
pub(super) fn plain_size(sealed: &[u8]) -> Option<usize> {
    let size = sealed.get(9..PREFIX)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(size)).ok()
}

fn checksum(place: Place<'_>, prefix: &[u8], payload: &[u8]) -> u64 {
    let mut sum = Xxh3::new();
    sum.update(prefix);
    sum.update(place.namespace.as_bytes());
    // Without the length one key's end could be another's encoding's beginning.
    sum.update(b":");
    sum.update(&u32::try_from(place.key.len()).unwrap_or(u32::MAX).to_le_bytes());
    sum.update(place.key.as_bytes());
    sum.update(payload);
    sum.digest()
}

/// Compresses behind room for a header; `None` when that gains nothing.
#[cfg(feature = "compression")]
fn compressed(plain: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut sealed = vec![0; HEADER + lz4_flex::block::get_maximum_output_size(plain.len())];
    let size = lz4_flex::block::compress_into(plain, &mut sealed[HEADER..]).ok()?;
    if size >= plain.len() {
        return None;
    }
    sealed.truncate(HEADER + size);
    sealed.shrink_to_fit();
    Some((LZ4, sealed))
}

#[cfg(not(feature = "compression"))]
fn compressed(_plain: &[u8]) -> Option<(u8, Vec<u8>)> {
    None
}

/// Decompresses to exactly `size` bytes. A size that the payload cannot have is refused before anything is allocated.
#[cfg(feature = "compression")]
fn decompressed(payload: &[u8], size: usize) -> Option<Bytes> {
    if size / LZ4_MOST > payload.len() {
        return None;
    }
    let mut plain = vec![0; size];
    let written = lz4_flex::block::decompress_into(payload, &mut plain).ok()?;
    (written == size).then(|| plain.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind { codec: 1, schema: 0 };

    fn place(key: &str) -> Place<'_> {
        Place::new("users", key, 1 << 20)
    }

    #[test]
    fn the_layout_never_changes() {
        let sealed = seal(place("42"), KIND, b"{}", None).unwrap();
        let expected = b"\xFF2T\x01\x01\x00\x00\x00\x00\x02\x00\x00\x00";
        assert_eq!(&sealed[..PREFIX], expected);
        // By the reference implementation: XXH3_64bits(expected + "users:" + 2 in four bytes + "42" + "{}").
        assert_eq!(u64::from_le_bytes(sealed[PREFIX..HEADER].try_into().unwrap()), 17_473_454_925_697_830_010);
        assert_eq!(&sealed[HEADER..], b"{}");
    }

    #[test]
    fn every_place_and_kind_but_its_own_is_refused() {
        let sealed = seal(place("42"), KIND, b"{}", None).unwrap();
        assert_eq!(open(place("42"), KIND, &sealed).as_deref(), Some(&b"{}"[..]));
        for other in ["4", "421", "", "42{"] {
            assert_eq!(open(place(other), KIND, &sealed), None, "{other}");
        }
        assert_eq!(open(Place::new("user", "42", 1 << 20), KIND, &sealed), None);
        // The same name in the backend, as another cache reads it.
        let inner = seal(Place::new("app:users", "42", 1 << 20), KIND, b"{}", None).unwrap();
        assert_eq!(open(Place::new("app", "users:42", 1 << 20), KIND, &inner), None);
        assert!(open(Place::new("app:users", "42", 1 << 20), KIND, &inner).is_some());
        assert_eq!(open(place("42"), Kind { codec: 2, ..KIND }, &sealed), None);
        assert_eq!(open(place("42"), Kind { schema: 1, ..KIND }, &sealed), None);
        assert_eq!(open(Place { max_bytes: 1, ..place("42") }, KIND, &sealed), None, "over the limit");
    }

    #[test]
    fn a_bit_flipped_anywhere_is_refused_and_so_is_every_shorter_or_longer_one() {
        let sealed = seal(place("42"), KIND, b"[1, 2, 3]", None).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(place("42"), KIND, &flipped.into()), None, "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(open(place("42"), KIND, &sealed.slice(..length)), None, "cut to {length}");
        }
        assert_eq!(open(place("42"), KIND, &[&sealed[..], b"x"].concat().into()), None);
    }

    #[cfg(feature = "compression")]
    #[test]
    fn a_size_that_lies_is_refused_though_the_checksum_is_right() {
        let plain = vec![b'a'; 10_000];
        let sealed = seal(place("42"), KIND, &plain, Some(0)).unwrap();
        assert!(sealed.len() < 200, "{}", sealed.len());
        assert_eq!(open(place("42"), KIND, &sealed).as_deref(), Some(&plain[..]));
        for size in [0, 9_999, 10_001, 1 << 20] {
            let mut lying = sealed.to_vec();
            lying[9..PREFIX].copy_from_slice(&u32::to_le_bytes(size));
            let sum = checksum(place("42"), &lying[..PREFIX], &lying[HEADER..]);
            lying[PREFIX..HEADER].copy_from_slice(&sum.to_le_bytes());
            let lying = lying.into();
            let counted = allocation_counter::measure(|| assert_eq!(open(place("42"), KIND, &lying), None));
            assert!(counted.bytes_max <= 10_001, "{size}: {counted:?}");
        }
    }

    #[cfg(feature = "compression")]
    #[test]
    fn what_does_not_shrink_or_is_over_the_limit_is_not_compressed() {
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(1000).collect();
        assert_eq!(seal(place("k"), KIND, &noise, Some(0)).unwrap().len(), HEADER + noise.len());
        let small = Place { max_bytes: 999, ..place("k") };
        assert_eq!(seal(small, KIND, &[0; 1000], Some(0)).unwrap().len(), HEADER + 1000);
        assert_eq!(seal(place("k"), KIND, &[0; 1000], Some(1001)).unwrap().len(), HEADER + 1000);
    }
}
