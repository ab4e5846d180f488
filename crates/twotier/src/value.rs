//! What a value may be given as.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;

/// What becomes a value of a `Cache<V>`: `V` itself or an `Arc<V>`; also what a string or bytes are commonly given as.
///
/// An `Arc` is shared with the local tier; anything else is moved into a new one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a value of a `Cache<{V}>`",
    label = "expected `{V}` or `Arc<{V}>`",
    note = "a value is given as it is or in an `Arc`, and never by reference: call `.clone()`, or keep it in an `Arc`"
)]
pub trait IntoValue<V> {
    /// Returns the value.
    fn into_value(self) -> Arc<V>;
}

impl<V> IntoValue<V> for V {
    #[inline]
    fn into_value(self) -> Arc<V> {
        Arc::new(self)
    }
}

impl<V> IntoValue<V> for Arc<V> {
    #[inline]
    fn into_value(self) -> Self {
        self
    }
}

macro_rules! given_as {
    ($($value:ty: $($given:ty),+;)+) => {$($(
        impl IntoValue<$value> for $given {
            #[inline]
            fn into_value(self) -> Arc<$value> {
                Arc::new(self.into())
            }
        }
    )+)+};
}

given_as! {
    String: &str, Box<str>, Cow<'_, str>;
    Vec<u8>: &[u8], &str, Bytes;
    Bytes: &'static [u8], &'static str, Vec<u8>, String;
}
