//! Keys: what users name values by, and the text under which these lie in the backend.

use std::{borrow::Cow, fmt, num, sync::Arc};

use arrayvec::ArrayString;
use smol_str::SmolStr;

/// The longest text that needs no allocation, in bytes.
const INLINE: usize = 128;

/// What a value is stored under: a string, an integer, a `Uuid` (feature `uuid`), a tuple of these, or a type of yours.
///
/// The key in the backend is `<namespace>:<text>`, where the text is what [`write`](Self::write) writes: a string is
/// its own text, an integer is written in decimal, a `Uuid` with hyphens in lower case. Those of a tuple stand in a row
/// with `:` between them; inside a tuple a string's own `:` is written as `%3A` and its `%` as `%25`, so that no two
/// tuples of one type have the same text. Values of different types may: `42`, `"42"` and `Id(42)` name the same value.
///
/// A hit allocates nothing for a text of up to 128 bytes.
///
/// # Examples
///
/// A key of your own:
///
/// ```
/// use twotier::{Cache, Key, KeyText, MemoryBackend};
///
/// #[derive(Clone, Copy)]
/// struct UserId(u64);
///
/// impl Key for UserId {
///     fn write(&self, text: &mut KeyText) {
///         self.0.write(text);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// let names: Cache<String> = Cache::builder().namespace("names").build(MemoryBackend::new()).await?;
/// names.set(UserId(42), "Ada").await?;
/// assert_eq!(names.get(UserId(42)).await?.as_deref(), Some(&"Ada".to_owned()));
/// assert!(names.get(("team", 7)).await?.is_none()); // under `names:team:7`
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a key of a cache",
    label = "not a key",
    note = "keys are strings, integers, `Uuid` (feature `uuid`), and tuples of up to 4 of these",
    note = "for a type of your own, implement `twotier::Key`: `fn write(&self, text: &mut KeyText)`"
)]
pub trait Key {
    /// Writes the text of the key. Equal keys must write equal texts.
    fn write(&self, text: &mut KeyText);

    /// Calls `read` with the text of the key. Provided; strings do without a copy.
    #[inline]
    fn with_text<R>(&self, read: impl FnOnce(&str) -> R) -> R {
        let mut text = KeyText::new();
        self.write(&mut text);
        read(text.as_str())
    }
}

/// Takes the text of a [`Key`]: what is pushed or formatted into it, in this order.
pub struct KeyText {
    inline: ArrayString<INLINE>,
    /// The whole text, once it is too long.
    long: String,
    in_tuple: bool,
}

impl KeyText {
    #[inline]
    fn new() -> Self {
        Self { inline: ArrayString::new(), long: String::new(), in_tuple: false }
    }

    /// Appends a text. Inside a tuple its `:` and `%` are escaped.
    #[inline]
    pub fn push_str(&mut self, text: &str) {
        if self.in_tuple { self.push_escaped(text) } else { self.push(text) }
    }

    fn push_escaped(&mut self, text: &str) {
        for part in text.split_inclusive([':', '%']) {
            match part.as_bytes().last() {
                Some(b':') => {
                    self.push(&part[..part.len() - 1]);
                    self.push("%3A");
                }
                Some(b'%') => {
                    self.push(part);
                    self.push("25");
                }
                _ => self.push(part),
            }
        }
    }

    #[inline]
    fn push(&mut self, text: &str) {
        if !self.long.is_empty() {
            self.long.push_str(text);
        } else if self.inline.try_push_str(text).is_err() {
            self.long.reserve(self.inline.len() + text.len());
            self.long.push_str(&self.inline);
            self.long.push_str(text);
        }
    }

    #[inline]
    fn as_str(&self) -> &str {
        if self.long.is_empty() { &self.inline } else { &self.long }
    }
}

impl fmt::Write for KeyText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text);
        Ok(())
    }
}

impl fmt::Debug for KeyText {
    /// Prints how long it is, not what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyText").field("bytes", &self.as_str().len()).finish()
    }
}

impl Key for str {
    #[inline]
    fn write(&self, text: &mut KeyText) {
        text.push_str(self);
    }

    #[inline]
    fn with_text<R>(&self, read: impl FnOnce(&Self) -> R) -> R {
        read(self)
    }
}

/// Keys that are written as what they dereference to.
macro_rules! as_target {
    ($([$($generics:tt)*] $key:ty),+ $(,)?) => {$(
        impl<$($generics)*> Key for $key {
            #[inline]
            fn write(&self, text: &mut KeyText) {
                (**self).write(text);
            }

            #[inline]
            fn with_text<R>(&self, read: impl FnOnce(&str) -> R) -> R {
                (**self).with_text(read)
            }
        }
    )+};
}

as_target!([] String, [K: Key + ?Sized] &K, [K: Key + ?Sized] Box<K>, [K: Key + ?Sized] Arc<K>);
as_target!([K: Key + ToOwned + ?Sized] Cow<'_, K>);

macro_rules! integers {
    ($($integer:ident),+) => {$(
        impl Key for $integer {
            #[inline]
            fn write(&self, text: &mut KeyText) {
                text.push(itoa::Buffer::new().format(*self));
            }
        }

        impl Key for num::NonZero<$integer> {
            #[inline]
            fn write(&self, text: &mut KeyText) {
                self.get().write(text);
            }
        }
    )+};
}

integers!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

#[cfg(feature = "uuid")]
impl Key for uuid::Uuid {
    #[inline]
    fn write(&self, text: &mut KeyText) {
        text.push(self.hyphenated().encode_lower(&mut Self::encode_buffer()));
    }
}

macro_rules! tuples {
    ($(($first:ident $(, $more:ident)+)),+) => {$(
        impl<$first: Key, $($more: Key),+> Key for ($first, $($more),+) {
            #[inline]
            #[allow(non_snake_case, reason = "a value is named after its type here")]
            fn write(&self, text: &mut KeyText) {
                let ($first, $($more),+) = self;
                let outer = std::mem::replace(&mut text.in_tuple, true);
                $first.write(text);
                $(
                    text.push(":");
                    $more.write(text);
                )+
                text.in_tuple = outer;
            }
        }
    )+};
}

tuples!((A, B), (A, B, C), (A, B, C, D));

/// Returns the text of a key: without an allocation up to 23 bytes.
pub(crate) fn text_of(key: &(impl Key + ?Sized)) -> SmolStr {
    key.with_text(|text| SmolStr::new(text))
}

/// The texts of many keys, one behind the other.
pub(crate) struct KeyTexts {
    all: String,
    ends: Vec<usize>,
}

impl KeyTexts {
    pub(crate) fn of<K: Key>(keys: &[K]) -> Self {
        let (mut all, mut ends) = (String::new(), Vec::with_capacity(keys.len()));
        for key in keys {
            key.with_text(|text| all.push_str(text));
            ends.push(all.len());
        }
        Self { all, ends }
    }

    /// Returns the text of each key, in their order.
    pub(crate) fn to_vec(&self) -> Vec<&str> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| &self.all[begin..end]).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn text(key: impl Key) -> String {
        key.with_text(str::to_owned)
    }

    #[test]
    fn a_key_is_written_as_users_would_expect() {
        assert_eq!(text("a:b%"), "a:b%");
        assert_eq!(text(String::from("é")), "é");
        assert_eq!(text(Cow::Borrowed("x")), "x");
        assert_eq!(text(Arc::<str>::from("x")), "x");
        assert_eq!(text(42_u8), "42");
        assert_eq!(text(i128::MIN), i128::MIN.to_string());
        assert_eq!(text(u128::MAX), u128::MAX.to_string());
        assert_eq!(text(num::NonZero::new(7_u32).unwrap()), "7");
        assert_eq!(text(("team", -7)), "team:-7");
        assert_eq!(text((1, "b", 3_u64, "d")), "1:b:3:d");
    }

    #[test]
    fn a_type_of_ones_own_is_written_by_formatting_and_escaped_in_a_tuple() {
        struct Pair;
        impl Key for Pair {
            fn write(&self, text: &mut KeyText) {
                let _ = write!(text, "{}:{}", 1, 2);
            }
        }
        assert_eq!(text(Pair), "1:2");
        assert_eq!(text((Pair, "x")), "1%3A2:x");
    }

    #[test]
    fn a_long_text_is_as_good_as_a_short_one() {
        for length in [INLINE - 1, INLINE, INLINE + 1, 5000] {
            let long = "é".repeat(length);
            assert_eq!(text((&*long, 1, &*long)), format!("{long}:1:{long}"));
        }
    }

    #[cfg(feature = "uuid")]
    #[test]
    fn a_uuid_is_written_with_hyphens_in_lower_case() {
        let id = uuid::Uuid::from_u128(0xA1B2_C3D4_E5F6_0718_293A_4B5C_6D7E_8F90);
        assert_eq!(text(id), "a1b2c3d4-e5f6-0718-293a-4b5c6d7e8f90");
    }

    proptest! {
        #[test]
        fn no_two_tuples_of_one_type_share_a_text(a in "[ab:%3A25]{0,6}", b in "[ab:%3A25]{0,6}",
                                                  c in "[ab:%3A25]{0,6}", d in "[ab:%3A25]{0,6}") {
            prop_assert_eq!(text((&*a, &*b)) == text((&*c, &*d)), (&a, &b) == (&c, &d));
            let (one, two) = (text(((&*a, &*b), 1, &*c)), text(((&*b, &*a), 1, &*d)));
            prop_assert_eq!(one == two, (&a, &b, &c) == (&b, &a, &d));
        }

        #[test]
        fn the_texts_of_many_keys_are_those_of_each(keys in prop::collection::vec("\\PC{0,9}", 0..20)) {
            let texts = KeyTexts::of(&keys);
            prop_assert_eq!(texts.to_vec(), keys);
        }
    }
}
