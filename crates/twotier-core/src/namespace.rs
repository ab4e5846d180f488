//! Namespaces and keys: what may be written to the backend under which name.

use std::{fmt, sync::Arc};

use crate::ConfigError;

/// The longest namespace, in bytes.
pub const MAX_NAMESPACE_BYTES: usize = 128;
/// The longest key, in bytes, without its namespace.
pub const MAX_KEY_BYTES: usize = 1024;

/// The prefix under which a cache keeps its keys: `<namespace>:<key>` in the backend, nothing else.
///
/// A namespace is made of segments that are not empty, with `:` between them: `users`, `app:users`. Keys may hold `:`
/// too, so the key `users:42` of the namespace `app` has the same name in the backend as `42` of `app:users`. Two
/// namespaces of which one lies under the other therefore [overlap](Self::overlaps), and a link, or a store in memory,
/// refuses the second of two that do: what lives under a namespace is that namespace's.
///
/// Across links nobody sees both: two processes whose namespaces overlap read, overwrite and clear each other's keys,
/// as two with the same one do; where the server reports changes they are notified of each other's all the same.
///
/// Cloning is one reference count.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Namespace {
    /// The namespace with its `:`.
    prefix: Arc<str>,
}

impl Namespace {
    /// Validates a namespace.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the field `namespace` when it is empty, longer than [`MAX_NAMESPACE_BYTES`], has an empty
    /// segment, or contains a control character.
    pub fn new(name: &str) -> Result<Self, ConfigError> {
        let refuse = |reason: String| Err(ConfigError::new("namespace", reason));
        if name.is_empty() {
            return refuse("must not be empty: every key lives under it as `<namespace>:<key>`".to_owned());
        }
        if name.len() > MAX_NAMESPACE_BYTES {
            return refuse(format!("is {} bytes long, at most {MAX_NAMESPACE_BYTES} are allowed", name.len()));
        }
        if name.split(':').any(str::is_empty) {
            return refuse("must not begin or end with `:`, nor hold two in a row".to_owned());
        }
        if name.chars().any(char::is_control) {
            return refuse("must not contain control characters".to_owned());
        }
        Ok(Self { prefix: format!("{name}:").into() })
    }

    /// Returns the namespace of this name under another one: `shop:users` of `users` under `shop`.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] for the field `namespace` when the two together are longer than [`MAX_NAMESPACE_BYTES`].
    pub fn under(&self, outer: &Self) -> Result<Self, ConfigError> {
        Self::new(&format!("{outer}:{self}"))
    }

    /// Returns whether one of two different namespaces lies under the other, as `app:users` does under `app`. A
    /// namespace does not overlap itself: it is one, of several instances.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (one, other) = (self.prefix(), other.prefix());
        one != other && (one.starts_with(other) || other.starts_with(one))
    }

    /// Returns the namespace as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.prefix[..self.prefix.len() - 1]
    }

    /// Returns the prefix of every key in the backend: the namespace and a `:`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns the key's name in the backend: `<namespace>:<key>`.
    #[must_use]
    pub fn qualify(&self, key: &str) -> Vec<u8> {
        let mut qualified = Vec::with_capacity(self.prefix.len() + key.len());
        qualified.extend_from_slice(self.prefix.as_bytes());
        qualified.extend_from_slice(key.as_bytes());
        qualified
    }

    /// Returns the key of a name in the backend, or `None` when that name does not lie under this namespace. What lies
    /// under a namespace that [overlaps](Self::overlaps) this one may be a key of both.
    #[must_use]
    pub fn strip<'k>(&self, qualified: &'k [u8]) -> Option<&'k [u8]> {
        qualified.strip_prefix(self.prefix.as_bytes())
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({:?})", self.as_str())
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a key was refused. The key itself is not printed: keys may identify people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The key was the empty string.
    #[error("the key is empty")]
    Empty,
    /// The key was longer than [`MAX_KEY_BYTES`].
    #[error("the key is {length} bytes long, at most {MAX_KEY_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
}

/// Checks a key before anything is done with it.
///
/// # Errors
///
/// A [`KeyError`] when the key is empty or longer than [`MAX_KEY_BYTES`].
#[inline]
pub fn check_key(key: &str) -> Result<(), KeyError> {
    match key.len() {
        0 => Err(KeyError::Empty),
        1..=MAX_KEY_BYTES => Ok(()),
        length => Err(KeyError::TooLong { length }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_without_a_name_or_with_an_empty_segment_is_refused() {
        for bad in ["", ":", "a:", ":a", "a::b", "a:b:", "line\nbreak", "a:\u{1}", &"n".repeat(MAX_NAMESPACE_BYTES + 1)]
        {
            let error = Namespace::new(bad).unwrap_err();
            assert_eq!(error.field(), "namespace", "{bad:?}");
        }
        for good in ["a", "a:b", "a:b:c", "a*[b]:ü", &"n".repeat(MAX_NAMESPACE_BYTES)] {
            assert_eq!(Namespace::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn namespaces_overlap_where_one_key_can_have_two_owners_and_nowhere_else() {
        for (one, other, overlap) in [
            ("app", "app:users", true),
            ("app", "app:users:old", true),
            ("app:users", "app:users:old", true),
            ("app", "app", false),
            ("app", "apps", false),
            ("app", "apps:users", false),
            ("app:users", "app:pages", false),
            ("app:users", "app:users2", false),
            ("users", "app:users", false),
        ] {
            let [one, other] = [one, other].map(|name| Namespace::new(name).unwrap());
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlap, overlap), "{one} and {other}");
            let shared = other.qualify("k");
            assert_eq!(one != other && one.strip(&shared).is_some(), overlap, "{one} and {other}");
        }
    }

    #[test]
    fn a_name_in_the_backend_is_stripped_by_the_namespaces_it_lies_under() {
        let a = Namespace::new("a").unwrap();
        let ab = Namespace::new("ab").unwrap();
        assert_eq!(a.qualify("b:c"), b"a:b:c");
        assert_eq!(a.strip(b"a:b:c"), Some(&b"b:c"[..]));
        assert_eq!(ab.strip(b"a:b:c"), None);
        assert_eq!(a.strip(b"ab:c"), None);
        let inner = Namespace::new("a:b").unwrap();
        assert_eq!((inner.qualify("c"), inner.strip(b"a:b:c")), (b"a:b:c".to_vec(), Some(&b"c"[..])));
        assert_eq!(inner.strip(b"a:bc"), None);
    }

    #[test]
    fn keys_are_bounded_on_both_sides() {
        assert_eq!(check_key(""), Err(KeyError::Empty));
        assert_eq!(check_key("k"), Ok(()));
        assert_eq!(check_key(&"k".repeat(MAX_KEY_BYTES)), Ok(()));
        let length = MAX_KEY_BYTES + 1;
        assert_eq!(check_key(&"k".repeat(length)), Err(KeyError::TooLong { length }));
    }
}
