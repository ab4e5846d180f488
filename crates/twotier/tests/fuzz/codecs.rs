//! The codecs themselves, on bytes of anybody's.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use twotier::{
    Codec,
    codec::{Json, MessagePack, Place, Postcard, Raw, Sealed, Text},
};

use crate::{SLACK, cases};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Value {
    name: String,
    tags: Vec<String>,
    counts: BTreeMap<String, i64>,
    parent: Option<Box<Self>>,
    share: Option<u8>,
}

fn values() -> impl Strategy<Value = Value> {
    let leaf =
        (".{0,12}", prop::collection::vec(".{0,5}", 0..4), prop::collection::btree_map(".{0,4}", any::<i64>(), 0..4));
    let leaf = (leaf, any::<Option<u8>>()).prop_map(|((name, tags, counts), share)| Value {
        name,
        tags,
        counts,
        parent: None,
        share,
    });
    leaf.prop_recursive(3, 4, 1, |inner| {
        (inner.clone(), inner).prop_map(|(parent, value)| Value { parent: Some(Box::new(parent)), ..value })
    })
}

/// Decodes, and fails if that panics.
fn survives<V>(codec: &impl Codec<V>, bytes: &Bytes) -> Option<V> {
    codec.decode(bytes).ok()
}

/// The most bytes that are held at a time while a value is decoded.
fn room<V: PartialEq + std::fmt::Debug>(codec: &impl Codec<V>, value: &V) -> u64 {
    let bytes = codec.encode(value).unwrap();
    allocation_counter::measure(|| drop(codec.decode(&bytes))).bytes_max
}

fn round_trip<V: PartialEq + std::fmt::Debug>(codec: &impl Codec<V>, value: &V) -> Bytes {
    let bytes = codec.encode(value).unwrap();
    assert_eq!(&codec.decode(&bytes).unwrap(), value);
    let place = Place::new("n", "k", usize::MAX);
    let bytes = codec.encode_at(place, value).unwrap();
    assert_eq!(codec.decode_at(place, &bytes).unwrap().as_ref(), Some(value));
    bytes
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn every_value_survives_every_codec_sealed_or_not(value in values(), bytes: Vec<u8>) {
        round_trip(&Json, &value);
        round_trip(&MessagePack, &value);
        round_trip(&Postcard, &value);
        round_trip(&Text, &value.name);
        round_trip(&Raw, &bytes);
        round_trip(&Sealed::new(Json).compress_from(10), &value);
        round_trip(&Sealed::new(MessagePack), &value);
        round_trip(&Sealed::new(Postcard).schema(7).compress_from(10), &value);
        round_trip(&Sealed::new(Sealed::new(Text)), &value.name);
    }

    #[test]
    fn bytes_of_anybody_s_are_an_error_or_a_value_and_never_a_panic(bytes: Vec<u8>) {
        let bytes = Bytes::from(bytes);
        survives::<Value>(&Json, &bytes);
        survives::<Value>(&MessagePack, &bytes);
        survives::<Value>(&Postcard, &bytes);
        survives::<Vec<Vec<u64>>>(&MessagePack, &bytes);
        survives::<Vec<Vec<u64>>>(&Postcard, &bytes);
        survives::<serde_json::Value>(&Json, &bytes);
        prop_assert!(survives::<String>(&Text, &bytes).is_none_or(|text| text.as_bytes() == bytes));
        prop_assert_eq!(survives::<Bytes>(&Raw, &bytes), Some(bytes));
    }

    #[test]
    fn an_encoding_that_is_mutated_is_an_error_or_a_value_and_never_a_panic(
        value in values(), at: prop::sample::Index, byte: u8, cut: prop::sample::Index,
    ) {
        let mutated = |bytes: Bytes| {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len() * 2).max(1));
            Bytes::from(bytes)
        };
        survives::<Value>(&Json, &mutated(Json.encode(&value).unwrap()));
        survives::<Value>(&MessagePack, &mutated(MessagePack.encode(&value).unwrap()));
        survives::<Value>(&Postcard, &mutated(Postcard.encode(&value).unwrap()));
    }

    #[test]
    fn text_and_json_take_no_more_room_than_the_bytes_have(text in ".{0,300}", bytes: Vec<u8>) {
        for bytes in [Bytes::from(text.clone()), Bytes::from(serde_json::to_vec(&text).unwrap()), Bytes::from(bytes)] {
            let counted = allocation_counter::measure(|| {
                survives::<String>(&Text, &bytes);
                survives::<String>(&Json, &bytes);
            });
            prop_assert!(counted.bytes_max <= 3 * bytes.len() as u64 + SLACK, "{:?}", counted);
        }
    }

    #[test]
    fn an_announced_length_that_is_not_there_takes_no_room(
        head in prop::sample::select(vec![0xdc_u8, 0xdd, 0xde, 0xdf, 0xc4, 0xc5, 0xc6, 0xd9, 0xda, 0xdb, 0xff]),
        length in prop::collection::vec(prop_oneof![Just(0xff_u8), any::<u8>()], 0..10),
        nested in 0..4_usize,
    ) {
        // Arrays and maps within each other, and last the lie.
        let mut bytes = vec![0x91_u8; nested];
        bytes.push(head);
        bytes.extend(&length);
        let bytes = Bytes::from(bytes);
        let counted = allocation_counter::measure(|| {
            survives::<Vec<Vec<u64>>>(&MessagePack, &bytes);
            survives::<Vec<HashMap<u64, [u64; 4]>>>(&MessagePack, &bytes);
            survives::<HashMap<u64, Vec<Value>>>(&MessagePack, &bytes);
            survives::<Value>(&MessagePack, &bytes);
            survives::<Vec<Vec<u64>>>(&Postcard, &bytes);
            survives::<Vec<Vec<Value>>>(&Postcard, &bytes);
            survives::<BTreeMap<u64, Vec<String>>>(&Postcard, &bytes);
            survives::<Value>(&Postcard, &bytes);
        });
        prop_assert!(counted.bytes_max <= SLACK, "{:?} for {:?}", counted, bytes);
    }

    #[test]
    fn a_value_takes_room_in_proportion_to_its_bytes(values in prop::collection::vec(values(), 0..20)) {
        let honest = allocation_counter::measure(|| drop(values.clone()));
        for counted in [room(&Json, &values), room(&MessagePack, &values), room(&Postcard, &values)] {
            // Vectors grow by doubling where their length is not known beforehand.
            prop_assert!(counted <= 3 * honest.bytes_max + SLACK, "{} for {:?}", counted, honest);
        }
    }
}

/// What the documentation of `Postcard` says it does not bound.
#[test]
fn a_postcard_map_takes_a_few_megabytes_for_a_length_that_is_not_there() {
    let lie = Bytes::from_static(b"\xff\xff\xff\xff\x0f");
    let counted = allocation_counter::measure(|| drop(survives::<HashMap<u64, [u64; 4]>>(&Postcard, &lie)));
    assert!((1 << 20..4 << 20).contains(&counted.bytes_max), "{counted:?}");
}
