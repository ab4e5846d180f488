//! Envelopes: whole, mutated, forged, and none at all.

use bytes::Bytes;
use proptest::{prelude::*, sample::Index};
use twotier::{
    Codec,
    codec::{Place, Raw, Sealed},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{SLACK, cases};

const HEADER: usize = 21;
const CAP: usize = 10_000;

/// Opens an envelope, and fails if that panics, is an error, or allocates more than the cap.
fn open(codec: &Sealed<Raw>, place: Place<'_>, bytes: &Bytes) -> Option<Bytes> {
    let mut opened = None;
    let counted = allocation_counter::measure(|| opened = Some(codec.decode_at(place, bytes)));
    assert!(counted.bytes_max <= CAP as u64 + SLACK, "{counted:?}");
    opened.unwrap().expect("an envelope is never an error")
}

fn codec(compress: bool) -> Sealed<Raw> {
    let codec = Sealed::new(Raw).schema(3);
    if compress { codec.compress_from(0) } else { codec }
}

fn seal(codec: &Sealed<Raw>, place: Place<'_>, value: &Bytes) -> Bytes {
    codec.encode_at(place, value).unwrap()
}

/// An envelope with the right checksum for whatever is in its header: what only somebody who means harm would write.
fn forge(place: Place<'_>, compression: u8, size: u32, payload: &[u8]) -> Bytes {
    let mut sealed = b"\xFF2T\x01\x03\x00\x03\x00".to_vec();
    sealed.push(compression);
    sealed.extend(size.to_le_bytes());
    let key = place.key.as_bytes();
    let length = u32::try_from(key.len()).unwrap().to_le_bytes();
    let summed = [&sealed, place.namespace.as_bytes(), b":", &length, key, payload].concat();
    sealed.extend(xxh3_64(&summed).to_le_bytes());
    sealed.extend_from_slice(payload);
    sealed.into()
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c:]{1,4}", ".{1,20}"]
}

/// Values that shrink when compressed, and values that do not.
fn value() -> impl Strategy<Value = Bytes> {
    let noise = prop::collection::vec(any::<u8>(), 0..600);
    let runs = prop::collection::vec((any::<u8>(), 1..700_usize), 0..14).prop_map(|runs| {
        runs.into_iter().flat_map(|(byte, times)| std::iter::repeat_n(byte, times)).collect::<Vec<_>>()
    });
    prop_oneof![noise, runs].prop_map(Bytes::from)
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index),
    Append(Vec<u8>),
    Insert(Index, u8),
    Remove(Index),
    Splice(Index, Vec<u8>),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..20);
    prop_oneof![
        4 => (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip(at, bit)),
        1 => any::<Index>().prop_map(Mutation::Cut),
        1 => bytes().prop_map(Mutation::Append),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        1 => any::<Index>().prop_map(Mutation::Remove),
        1 => (any::<Index>(), bytes()).prop_map(|(at, bytes)| Mutation::Splice(at, bytes)),
    ]
}

impl Mutation {
    fn apply(&self, sealed: &mut Vec<u8>) {
        let at = |index: &Index| index.index(sealed.len().max(1)).min(sealed.len().saturating_sub(1));
        match self {
            Self::Append(bytes) => sealed.extend(bytes),
            _ if sealed.is_empty() => {}
            Self::Flip(index, bit) => {
                let at = at(index);
                sealed[at] ^= 1 << bit;
            }
            Self::Cut(index) => sealed.truncate(at(index)),
            Self::Insert(index, byte) => sealed.insert(at(index), *byte),
            Self::Remove(index) => {
                sealed.remove(at(index));
            }
            Self::Splice(index, bytes) => {
                let at = at(index);
                let end = (at + bytes.len()).min(sealed.len());
                sealed.splice(at..end, bytes.iter().copied());
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn what_was_sealed_is_opened_at_its_own_place_and_nowhere_else(
        key in key(), other in key(), value in value(), compress: bool,
    ) {
        let codec = codec(compress);
        let place = Place::new("n", &key, CAP);
        let sealed = seal(&codec, place, &value);
        prop_assert!(sealed.len() <= HEADER + value.len());
        prop_assert_eq!(open(&codec, place, &sealed), Some(value.clone()));
        prop_assert_eq!(Codec::<Bytes>::weight(&codec, &sealed), value.len());
        prop_assert_eq!(open(&codec, Place::new("m", &key, CAP), &sealed), None);
        prop_assert_eq!(open(&codec.schema(4), place, &sealed), None);
        if other != key {
            prop_assert_eq!(open(&codec, Place::new("n", &other, CAP), &sealed), None);
        }
        if let Some(less) = value.len().checked_sub(1) {
            prop_assert_eq!(open(&codec, Place::new("n", &key, less), &sealed), None);
        }
    }

    #[test]
    fn bytes_that_are_no_envelope_are_a_miss(
        bytes in prop::collection::vec(any::<u8>(), 0..200), magic: bool, key in key(),
    ) {
        let mut bytes = bytes;
        if magic {
            bytes.splice(0..8.min(bytes.len()), *b"\xFF2T\x01\x03\x00\x03\x00");
        }
        prop_assert_eq!(open(&codec(true), Place::new("n", &key, CAP), &bytes.into()), None);
    }

    #[test]
    fn a_mutated_envelope_is_a_miss_unless_it_is_what_it_was(
        key in key(), value in value(), compress: bool, mutations in prop::collection::vec(mutation(), 1..4),
    ) {
        let codec = codec(compress);
        let place = Place::new("n", &key, CAP);
        let sealed = seal(&codec, place, &value);
        let mut mutated = sealed.to_vec();
        mutations.iter().for_each(|mutation| mutation.apply(&mut mutated));
        let expected = (mutated == sealed).then_some(value);
        prop_assert_eq!(open(&codec, place, &mutated.into()), expected);
    }

    #[test]
    fn a_forged_envelope_is_a_miss_or_exactly_what_it_says_and_never_takes_more_room_than_the_cap(
        key in key(), payload in prop::collection::vec(any::<u8>(), 0..300), compression in 0..4_u8,
        size in prop_oneof![Just(0), 0..400_u32, 9_000..11_000_u32, any::<u32>(), Just(u32::MAX)],
    ) {
        let place = Place::new("n", &key, CAP);
        let opened = open(&codec(true), place, &forge(place, compression, size, &payload));
        match compression {
            0 if payload.len() == size as usize => prop_assert_eq!(opened.as_deref(), Some(&payload[..])),
            1 => prop_assert!(opened.is_none_or(|opened| opened.len() == size as usize && opened.len() <= CAP)),
            _ => prop_assert_eq!(opened, None),
        }
    }

    #[test]
    fn a_compressed_payload_that_is_mutated_and_summed_again_takes_no_more_room_than_it_says(
        value in value(), mutations in prop::collection::vec(mutation(), 0..4),
        lie in prop_oneof![3 => Just(0_i64), 1 => -300..300_i64],
    ) {
        let place = Place::new("n", "k", CAP);
        let mut payload = vec![0; lz4_flex::block::get_maximum_output_size(value.len())];
        let length = lz4_flex::block::compress_into(&value, &mut payload).unwrap();
        payload.truncate(length);
        mutations.iter().for_each(|mutation| mutation.apply(&mut payload));
        let size = u32::try_from((i64::try_from(value.len()).unwrap() + lie).max(0)).unwrap();
        let opened = open(&codec(true), place, &forge(place, 1, size, &payload));
        prop_assert!(opened.as_ref().is_none_or(|opened| opened.len() == size as usize));
        if mutations.is_empty() && lie == 0 {
            prop_assert_eq!(opened, Some(value));
        } else if mutations.is_empty() && size as usize != value.len() {
            prop_assert_eq!(opened, None, "a lying size");
        }
    }
}
