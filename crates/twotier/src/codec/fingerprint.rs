//! Whether a value that was written reads back as the same one.
//!
//! Values need not be comparable, and their bytes do not tell: `Some(None)` and `None` are both `null` in JSON, and a
//! `HashSet` that reads back equal is written in another order. So both values are serialized into a number in which
//! whatever serde tells apart counts, and the order of items does not.

use serde::{
    Serialize,
    ser::{self, Serializer},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Codec, CodecError};

/// Decodes an encoding again, and refuses it when that fails or brings another value.
pub(super) fn compare<V: Serialize>(
    codec: &impl Codec<V>,
    name: &'static str,
    human_readable: bool,
    value: &V,
    bytes: &bytes::Bytes,
) -> Result<(), CodecError> {
    let again = codec.decode(bytes)?;
    let of = |value: &V| value.serialize(Fingerprint { human_readable });
    match (of(value), of(&again)) {
        (Ok(written), Ok(read)) if written == read => Ok(()),
        _ => Err(CodecError::encoding(name, "it reads back as another value")),
    }
}

/// The kinds of what serde tells apart.
#[derive(Clone, Copy)]
enum Kind {
    Bool,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Signed128,
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Unsigned128,
    Float32,
    Float64,
    Char,
    Str,
    Bytes,
    Nothing,
    Some,
    Unit,
    Newtype,
    Variant,
    Items,
    Fields,
    Entry,
}

impl Kind {
    fn of(self, bytes: &[u8]) -> u64 {
        xxh3_64_with_seed(bytes, self as u64)
    }

    fn of_parts(self, one: u64, other: u64) -> u64 {
        self.of(&[one.to_le_bytes(), other.to_le_bytes()].concat())
    }
}

#[derive(Clone, Copy)]
struct Fingerprint {
    human_readable: bool,
}

/// The number of a container: the sum of those of its items.
struct Sum {
    of: Fingerprint,
    kind: Kind,
    /// What is the container's own: its variant.
    name: u64,
    sum: u64,
    /// The key whose value comes next.
    key: u64,
}

impl Fingerprint {
    fn sum(self, kind: Kind, name: u64) -> Sum {
        Sum { of: self, kind, name, sum: 0, key: 0 }
    }

    fn variant(index: u32, variant: &str) -> u64 {
        Kind::Variant.of_parts(u64::from(index), Kind::Str.of(variant.as_bytes()))
    }
}

impl Sum {
    fn add(&mut self, item: u64) {
        self.sum = self.sum.wrapping_add(Kind::Entry.of_parts(item, 0));
    }

    fn add_named<T: ?Sized + Serialize>(&mut self, name: u64, value: &T) -> Result<(), Refused> {
        let value = value.serialize(self.of)?;
        self.sum = self.sum.wrapping_add(Kind::Entry.of_parts(name, value));
        Ok(())
    }

    fn end(self) -> u64 {
        self.kind.of_parts(self.name, self.sum)
    }
}

macro_rules! leaves {
    ($($method:ident($type:ty) $kind:ident;)*) => {
        $(fn $method(self, value: $type) -> Result<u64, Refused> {
            Ok(Kind::$kind.of(&value.to_le_bytes()))
        })*
    };
}

impl Serializer for Fingerprint {
    type Ok = u64;
    type Error = Refused;
    type SerializeSeq = Sum;
    type SerializeTuple = Sum;
    type SerializeTupleStruct = Sum;
    type SerializeTupleVariant = Sum;
    type SerializeMap = Sum;
    type SerializeStruct = Sum;
    type SerializeStructVariant = Sum;

    leaves! {
        serialize_i8(i8) Signed8;
        serialize_i16(i16) Signed16;
        serialize_i32(i32) Signed32;
        serialize_i64(i64) Signed64;
        serialize_i128(i128) Signed128;
        serialize_u8(u8) Unsigned8;
        serialize_u16(u16) Unsigned16;
        serialize_u32(u32) Unsigned32;
        serialize_u64(u64) Unsigned64;
        serialize_u128(u128) Unsigned128;
        serialize_f32(f32) Float32;
        serialize_f64(f64) Float64;
    }

    fn serialize_bool(self, value: bool) -> Result<u64, Refused> {
        Ok(Kind::Bool.of(&[u8::from(value)]))
    }

    fn serialize_char(self, value: char) -> Result<u64, Refused> {
        Ok(Kind::Char.of(&u32::from(value).to_le_bytes()))
    }

    fn serialize_str(self, value: &str) -> Result<u64, Refused> {
        Ok(Kind::Str.of(value.as_bytes()))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<u64, Refused> {
        Ok(Kind::Bytes.of(value))
    }

    fn serialize_none(self) -> Result<u64, Refused> {
        Ok(Kind::Nothing.of(&[]))
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<u64, Refused> {
        Ok(Kind::Some.of_parts(value.serialize(self)?, 0))
    }

    fn serialize_unit(self) -> Result<u64, Refused> {
        Ok(Kind::Unit.of(&[]))
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<u64, Refused> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _name: &'static str, index: u32, variant: &'static str) -> Result<u64, Refused> {
        Ok(Self::variant(index, variant))
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _name: &'static str, value: &T) -> Result<u64, Refused> {
        Ok(Kind::Newtype.of_parts(value.serialize(self)?, 0))
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<u64, Refused> {
        Ok(Kind::Newtype.of_parts(value.serialize(self)?, Self::variant(index, variant)))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Items, 0))
    }

    fn serialize_tuple(self, _len: usize) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Items, 0))
    }

    fn serialize_tuple_struct(self, _name: &'static str, _len: usize) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Items, 0))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Items, Self::variant(index, variant)))
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Fields, 0))
    }

    fn serialize_struct(self, _name: &'static str, _len: usize) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Fields, 0))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Sum, Refused> {
        Ok(self.sum(Kind::Fields, Self::variant(index, variant)))
    }

    fn is_human_readable(&self) -> bool {
        self.human_readable
    }
}

/// Items have no names; the order in which they come does not count.
macro_rules! items {
    ($($access:ident $method:ident;)*) => {
        $(impl ser::$access for Sum {
            type Ok = u64;
            type Error = Refused;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refused> {
                let item = value.serialize(self.of)?;
                self.add(item);
                Ok(())
            }

            fn end(self) -> Result<u64, Refused> {
                Ok(self.end())
            }
        })*
    };
}

macro_rules! fields {
    ($($access:ident;)*) => {
        $(impl ser::$access for Sum {
            type Ok = u64;
            type Error = Refused;

            fn serialize_field<T: ?Sized + Serialize>(&mut self, name: &'static str, value: &T) -> Result<(), Refused> {
                self.add_named(Kind::Str.of(name.as_bytes()), value)
            }

            fn end(self) -> Result<u64, Refused> {
                Ok(self.end())
            }
        })*
    };
}

items! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

fields! {
    SerializeStruct;
    SerializeStructVariant;
}

impl ser::SerializeMap for Sum {
    type Ok = u64;
    type Error = Refused;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Refused> {
        self.key = key.serialize(self.of)?;
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Refused> {
        self.add_named(self.key, value)
    }

    fn end(self) -> Result<u64, Refused> {
        Ok(self.end())
    }
}

/// The value's own `Serialize` failed. Its message may quote the value.
#[derive(Debug)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the value cannot be serialized")
    }
}

impl std::error::Error for Refused {}

impl ser::Error for Refused {
    fn custom<T: std::fmt::Display>(_message: T) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn of(value: impl Serialize) -> u64 {
        value.serialize(Fingerprint { human_readable: true }).unwrap()
    }

    #[test]
    fn what_serde_distinguishes_has_different_fingerprints() {
        let different = [
            of(None::<Option<()>>),
            of(Some(None::<()>)),
            of(Some(Some(()))),
            of(()),
            of(0.0_f64),
            of(-0.0_f64),
            of(0.0_f32),
            of(0_u8),
            of(0_u16),
            of(false),
            of(""),
            of([0; 0]),
            of([[0; 0]]),
            of([0_u8]),
            of([0_u8, 0]),
            of([1_u8, 2]),
            of([1_u8, 3]),
            of(HashMap::from([("a", 1), ("b", 2)])),
            of(HashMap::from([("a", 2), ("b", 1)])),
            of([("a", 1), ("b", 2)]),
            of(Ok::<_, ()>(1)),
            of(Err::<(), _>(1)),
        ];
        assert_eq!(HashSet::from(different).len(), different.len());
    }

    #[test]
    fn the_order_of_items_and_entries_does_not_count() {
        let numbers = || (0..100).collect::<HashSet<u32>>();
        assert_eq!(of(numbers()), of(numbers()));
        let entries = || numbers().into_iter().map(|number| (number, number + 1)).collect::<HashMap<_, _>>();
        assert_eq!(of(entries()), of(entries()));
    }
}
