//! What the codecs by serde refuse beside what their formats do, on the way out and on the way in.
//!
//! Postcard bounds no recursion, and no format bounds that of types which take no bytes: to
//! `struct List(Option<Box<List>>)` every JSON but `null` is a `Some` of a `Some` of a `Some`. Bytes of anybody's would
//! end the process by a stack overflow, and so would a value that is nested too deep as it is written. So every level
//! is counted here, alike on both ways: what is too deep to be read is refused where it is written.
//!
//! JSON writes a float that is not finite as `null`, which reads back as something else or not at all.
//!
//! What serde buffers to look at it twice (`untagged`, `flatten`, internal tags) is counted as it is buffered, but not
//! as it is taken out again: there a type that takes no bytes for a level still has no bound.

mod reading;
mod writing;

use std::cell::Cell;

use serde::{Deserialize, Deserializer, Serialize};

/// The most levels of a value: arrays, maps, structs and variants with fields, each within the one before. As many as
/// `serde_json` reads. Of what takes no level in JSON, `Some` and newtypes, there may be as many again.
pub(super) const MOST_LEVELS: u8 = 127;

const TOO_DEEP: &str = "it is nested deeper than 127 levels";
const NOT_FINITE: &str = "it holds a float that is infinite or not a number, for which JSON has no word";

/// What is refused, and what was.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// Whether floats must be finite.
    finite: bool,
    refused: Cell<Option<&'static str>>,
}

impl Guard {
    /// Refuses floats that are not finite, too.
    pub(super) fn of_finite_floats() -> Self {
        Self { finite: true, ..Self::default() }
    }

    /// Returns a value as it is to be serialized.
    pub(super) fn around<T: Serialize>(&self, value: T) -> impl Serialize {
        Guarded { inner: value, guard: self, levels: Levels::default() }
    }

    /// Deserializes a value.
    pub(super) fn read<'de, V: Deserialize<'de>, D: Deserializer<'de>>(&self, bytes: D) -> Result<V, D::Error> {
        V::deserialize(Guarded { inner: bytes, guard: self, levels: Levels::default() })
    }

    /// Returns why something was refused, if that was done here: formats keep no messages, or quote values in them.
    pub(super) fn refused(&self) -> Option<&'static str> {
        self.refused.get()
    }

    fn refuse(&self, reason: &'static str) -> &'static str {
        self.refused.set(Some(reason));
        reason
    }
}

/// Something of serde's at some depth, whatever it is: a value or a serializer, a deserializer, a visitor or an access.
struct Guarded<'g, T> {
    inner: T,
    guard: &'g Guard,
    levels: Levels,
}

/// How deep within a value something is.
#[derive(Clone, Copy, Default)]
struct Levels {
    containers: u8,
    wrappers: u8,
}

impl<'g, T> Guarded<'g, T> {
    /// Returns something at the same depth.
    fn beside<U>(&self, inner: U) -> Guarded<'g, U> {
        Guarded { inner, guard: self.guard, levels: self.levels }
    }

    /// Goes into an array, a map, a struct, or a variant with a value.
    fn container(self) -> Result<Self, &'static str> {
        let Levels { containers, wrappers } = self.levels;
        self.at(Levels { containers: containers + 1, wrappers })
    }

    /// Goes into a `Some` or a newtype.
    fn wrapper(self) -> Result<Self, &'static str> {
        let Levels { containers, wrappers } = self.levels;
        self.at(Levels { containers, wrappers: wrappers + 1 })
    }

    fn at(self, levels: Levels) -> Result<Self, &'static str> {
        if levels.containers > MOST_LEVELS || levels.wrappers > MOST_LEVELS {
            return Err(self.guard.refuse(TOO_DEEP));
        }
        Ok(Self { levels, ..self })
    }
}
