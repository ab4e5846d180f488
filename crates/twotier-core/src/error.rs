//! Errors: what failed, in which namespace, and why. Never a value, a key or a credential.

use std::{borrow::Cow, error::Error as StdError, fmt, ops::Deref, sync::Arc, time::Duration};

use crate::{AccessTier, ConfigError, KeyError, Namespace};

/// The operation of a cache that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Building the cache.
    Build,
    /// `get`, `lookup` and `get_if_local`; `retrieve` of a short-term memory.
    Get,
    /// `get_many` and `get_each`; `retrieve_many` of a short-term memory.
    GetMany,
    /// `get_or_load`.
    GetOrLoad,
    /// `get_many_or_load`.
    GetManyOrLoad,
    /// `set` and `set_with`; `stash` of a short-term memory.
    Set,
    /// `set_many` and `set_each`; `stash_many` of a short-term memory.
    SetMany,
    /// `delete`; `forget` of a short-term memory.
    Delete,
    /// `delete_many` and `delete_each`.
    DeleteMany,
    /// `invalidate_local` and `clear_local`.
    Invalidate,
    /// `clear`.
    Clear,
    /// `update`.
    Update,
    /// `increment` and `increment_with`.
    Increment,
    /// `touch`, and what a sliding cache does by itself.
    Touch,
    /// `warm` and `warm_paced`.
    Warm,
    /// `close`.
    Close,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Build => "build",
            Self::Get => "get",
            Self::GetMany => "get_many",
            Self::GetOrLoad => "get_or_load",
            Self::GetManyOrLoad => "get_many_or_load",
            Self::Set => "set",
            Self::SetMany => "set_many",
            Self::Delete => "delete",
            Self::DeleteMany => "delete_many",
            Self::Invalidate => "invalidate",
            Self::Clear => "clear",
            Self::Update => "update",
            Self::Increment => "increment",
            Self::Touch => "touch",
            Self::Warm => "warm",
            Self::Close => "close",
        })
    }
}

/// An operation of a cache failed.
///
/// The message names operation and namespace; the cause is behind [`source`](StdError::source).
/// Cloning is cheap, so one failure can reach every caller that waited for the same read or load.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration was refused; nothing was built.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A key was refused; nothing was read or written.
    #[error("{operation} in namespace `{namespace}`: invalid key")]
    InvalidKey {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// The time to live of one write, or the agent that was named in a call, was refused; nothing was sent.
    #[error("{operation} in namespace `{namespace}`: invalid option")]
    InvalidOption {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The option and what is wrong with it.
        source: ConfigError,
    },
    /// The credentials of the caller do not permit the operation; nothing was read or sent.
    #[error("{operation} in namespace `{namespace}`: the access tier is {held}, and it takes {needed}")]
    Forbidden {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The tier of the caller.
        held: AccessTier,
        /// The lowest tier that may do this.
        needed: AccessTier,
    },
    /// The backend failed or refused the operation.
    #[error("{operation} in namespace `{namespace}`: {}", .source.kind())]
    Backend {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The cause that the backend gave.
        source: BackendError,
    },
    /// The operation did not end within its deadline. A write that was sent may still take effect; one that was not
    /// sent never does.
    #[error(
        "{operation} in namespace `{namespace}`: {} within {} ms",
        if *.sent { "no answer" } else { "not sent" },
        .after.as_millis()
    )]
    Timeout {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The deadline.
        after: Duration,
        /// Whether a command was handed to the backend before the deadline; if not, it never will be.
        sent: bool,
    },
    /// Too many calls wait for the backend already; this one was not sent.
    #[error("{operation} in namespace `{namespace}`: {waiting} calls wait for the backend already")]
    Overloaded {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// How many may wait (`max_waiting`).
        waiting: usize,
    },
    /// A value could not be encoded or decoded. The value in the backend is left as it is.
    #[error("{operation} in namespace `{namespace}`: the codec failed")]
    Codec {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The cause that the codec gave.
        source: CodecError,
    },
    /// An encoded value is over the limit; nothing was written, or nothing was kept.
    #[error("{operation} in namespace `{namespace}`: the value has {size} bytes, at most {limit} are allowed")]
    ValueTooLarge {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The size of the encoded value in bytes.
        size: usize,
        /// The configured limit in bytes (`max_value_bytes`).
        limit: usize,
    },
    /// The caller's loader failed; its own error is the source, and can be had back by type: [`Error::loader_error`].
    #[error("{operation} in namespace `{namespace}`: the loader failed")]
    Load {
        /// What the loader was run for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
        /// The loader's error.
        source: SharedError,
    },
    /// The cache was closed.
    #[error("{operation} in namespace `{namespace}`: the cache is closed")]
    Closed {
        /// What was asked for.
        operation: Operation,
        /// Where.
        namespace: Namespace,
    },
    /// The call cannot work from where it was made; the message says what to call instead.
    #[error("{operation}: {hint}")]
    Usage {
        /// What was asked for.
        operation: Operation,
        /// What to do instead.
        hint: &'static str,
    },
}

/// An error of somebody else's type that reaches many callers.
///
/// It dereferences to the error itself. It is not an error of its own, so that [`Error::source`](StdError::source) is
/// the error that was put in, and `downcast_ref` finds its type.
#[derive(Clone, Debug)]
pub struct SharedError(Shared);

#[derive(Clone, Debug)]
enum Shared {
    Error(Arc<dyn StdError + Send + Sync>),
    /// As a `dyn StdError` it would no longer give back what was put into it.
    #[cfg(feature = "anyhow")]
    Anyhow(Arc<anyhow::Error>),
}

impl SharedError {
    /// Wraps an error. An `anyhow::Error` is kept as it is (feature `anyhow`).
    #[allow(clippy::missing_panics_doc, reason = "it takes out what it put in")]
    pub fn new<E: Into<Box<dyn StdError + Send + Sync>> + 'static>(error: E) -> Self {
        #[cfg(feature = "anyhow")]
        let error = {
            let mut error = Some(error);
            if let Some(error) = (&mut error as &mut dyn std::any::Any).downcast_mut::<Option<anyhow::Error>>() {
                return Self(Shared::Anyhow(Arc::new(error.take().expect("it was put in above"))));
            }
            error.expect("it is of another type, and was not taken out")
        };
        Self(Shared::Error(Arc::from(error.into())))
    }

    /// Returns the error of this type that is in here or behind it, as a cause.
    #[must_use]
    pub fn find<E: StdError + Send + Sync + 'static>(&self) -> Option<&E> {
        #[cfg(feature = "anyhow")]
        if let Shared::Anyhow(error) = &self.0
            && let Some(found) = error.downcast_ref()
        {
            return Some(found);
        }
        let error: &(dyn StdError + 'static) = &**self;
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
    }
}

impl Deref for SharedError {
    type Target = dyn StdError + Send + Sync;

    fn deref(&self) -> &Self::Target {
        match &self.0 {
            Shared::Error(error) => &**error,
            #[cfg(feature = "anyhow")]
            Shared::Anyhow(error) => &***error,
        }
    }
}

/// What kind of failure an [`Error`] is, for code that acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Fix the configuration or the call.
    Invalid,
    /// The caller's own credentials do not permit the operation; nothing was sent.
    Forbidden,
    /// The backend cannot be reached, or is busy; trying later may help.
    Unavailable,
    /// The deadline passed. Whether a write may still take effect says [`Error::may_have_executed`].
    Timeout,
    /// Too many calls wait for the backend already; nothing was sent. Trying at once again makes it worse.
    Overloaded,
    /// The backend refused the operation: credentials, permissions, memory, a key of another type.
    Rejected,
    /// The value could not be encoded or decoded.
    Codec,
    /// The value is over the limit.
    ValueTooLarge,
    /// The loader failed.
    Load,
    /// The cache was closed.
    Closed,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 10] = [
        Self::Invalid,
        Self::Forbidden,
        Self::Unavailable,
        Self::Timeout,
        Self::Overloaded,
        Self::Rejected,
        Self::Codec,
        Self::ValueTooLarge,
        Self::Load,
        Self::Closed,
    ];

    /// Returns its place in [`ALL`](Self::ALL).
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns its name as metrics have it, such as `value_too_large`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Forbidden => "forbidden",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Overloaded => "overloaded",
            Self::Rejected => "rejected",
            Self::Codec => "codec",
            Self::ValueTooLarge => "value_too_large",
            Self::Load => "load",
            Self::Closed => "closed",
        }
    }
}

impl From<BackendErrorKind> for ErrorKind {
    fn from(kind: BackendErrorKind) -> Self {
        match kind {
            BackendErrorKind::Unavailable | BackendErrorKind::Busy => Self::Unavailable,
            BackendErrorKind::Timeout => Self::Timeout,
            BackendErrorKind::Closed => Self::Closed,
            BackendErrorKind::Rejected
            | BackendErrorKind::WrongType
            | BackendErrorKind::Denied
            | BackendErrorKind::Unsupported
            | BackendErrorKind::Protocol => Self::Rejected,
            BackendErrorKind::ValueTooLarge { .. } => Self::ValueTooLarge,
        }
    }
}

impl Error {
    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::InvalidKey { .. } | Self::InvalidOption { .. } | Self::Usage { .. } => {
                ErrorKind::Invalid
            }
            Self::Forbidden { .. } => ErrorKind::Forbidden,
            Self::Backend { source, .. } => source.kind().into(),
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Overloaded { .. } => ErrorKind::Overloaded,
            Self::Codec { .. } => ErrorKind::Codec,
            Self::ValueTooLarge { .. } => ErrorKind::ValueTooLarge,
            Self::Load { .. } => ErrorKind::Load,
            Self::Closed { .. } => ErrorKind::Closed,
        }
    }

    /// Returns the loader's own error, or a cause of it, by its type.
    ///
    /// # Examples
    ///
    /// ```
    /// # extern crate twotier_core as twotier;
    /// # use twotier::{Error, Namespace, Operation, SharedError};
    /// # let source = SharedError::new(std::io::Error::from(std::io::ErrorKind::NotFound));
    /// # let error = Error::Load { operation: Operation::GetOrLoad, namespace: Namespace::new("n")?, source };
    /// if let Some(error) = error.loader_error::<std::io::Error>() {
    ///     assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// }
    /// # Ok::<(), twotier::ConfigError>(())
    /// ```
    #[must_use]
    pub fn loader_error<E: StdError + Send + Sync + 'static>(&self) -> Option<&E> {
        match self {
            Self::Load { source, .. } => source.find(),
            _ => None,
        }
    }

    /// Returns whether the operation may have changed something although it failed.
    ///
    /// False is certain: nothing was sent, or the backend refused. True means that nobody knows: the write was sent,
    /// and its answer did not come. It takes effect before the next link of this cache is up, or never. Reads change
    /// nothing and are never true.
    #[must_use]
    pub fn may_have_executed(&self) -> bool {
        match self {
            Self::Backend { operation, source, .. } => operation.writes() && source.may_have_executed(),
            Self::Timeout { operation, sent, .. } => operation.writes() && *sent,
            _ => false,
        }
    }
}

impl Operation {
    /// Returns whether the operation changes what the backend holds. A load only ever adds what is absent.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::Set
                | Self::SetMany
                | Self::Delete
                | Self::DeleteMany
                | Self::Clear
                | Self::Update
                | Self::Increment
                | Self::Touch
        )
    }
}

/// What kind of failure a [`BackendError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// The backend cannot be reached, or the connection was lost on the way.
    Unavailable,
    /// No answer within the backend's own deadline.
    Timeout,
    /// The backend was closed by its owner.
    Closed,
    /// The backend answers, but cannot serve for the moment (`BUSY`, `LOADING`, `MASTERDOWN`, `CLUSTERDOWN`,
    /// `TRYAGAIN`). The link is as good as ever.
    Busy,
    /// The backend refused this one command (`MISCONF`, `OOM`, …).
    Rejected,
    /// The key holds something that is not a plain value (`WRONGTYPE`).
    WrongType,
    /// Wrong credentials or missing permissions.
    Denied,
    /// The backend lacks something the cache needs.
    Unsupported,
    /// The backend holds a larger value than it was asked to read ([`CacheConfig::max_value_bytes`]), and read none of
    /// it into memory.
    ///
    /// [`CacheConfig::max_value_bytes`]: crate::CacheConfig::max_value_bytes
    ValueTooLarge {
        /// The length of the value in bytes.
        size: usize,
    },
    /// The backend answered in a way the protocol does not allow.
    Protocol,
}

impl fmt::Display for BackendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the backend is unavailable",
            Self::Timeout => "the backend did not answer in time",
            Self::Closed => "the backend is closed",
            Self::Busy => "the backend is busy",
            Self::Rejected => "the backend refused",
            Self::WrongType => "the key holds another type of value",
            Self::Denied => "access denied",
            Self::Unsupported => "the backend lacks a feature",
            Self::ValueTooLarge { .. } => "the backend holds a value that is too large",
            Self::Protocol => "the backend broke the protocol",
        })
    }
}

/// A backend failed. Cheap to clone.
///
/// A backend of your own makes these with [`BackendError::new`]; keep values and credentials out of the message.
#[derive(Clone, Debug)]
pub struct BackendError {
    kind: BackendErrorKind,
    message: Cow<'static, str>,
    /// The code of the backend's own refusal, such as `MISCONF`.
    code: Option<Box<str>>,
    executed: bool,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl BackendError {
    /// Makes an error from its kind and a message in lower case without a full stop.
    pub fn new(kind: BackendErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let executed = match kind {
            BackendErrorKind::Unavailable
            | BackendErrorKind::Timeout
            | BackendErrorKind::Closed
            | BackendErrorKind::Protocol => true,
            BackendErrorKind::Busy
            | BackendErrorKind::Rejected
            | BackendErrorKind::WrongType
            | BackendErrorKind::Denied
            | BackendErrorKind::Unsupported
            | BackendErrorKind::ValueTooLarge { .. } => false,
        };
        Self { kind, message: message.into(), code: None, executed, source: None }
    }

    /// Adds the underlying error as the source.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Adds the code of the backend's own refusal, such as `MISCONF`.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Box<str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Records that nothing was sent, and never will be: the command that failed has had no effect.
    #[must_use]
    pub fn not_sent(mut self) -> Self {
        self.executed = false;
        self
    }

    /// Records that the command may have been executed, whatever kind of failure this is: what was refused was
    /// something that belongs to it.
    #[must_use]
    pub fn maybe_executed(mut self) -> Self {
        self.executed = true;
        self
    }

    /// Returns what kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Returns the code of the backend's own refusal, such as `MISCONF`, when it gave one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// Returns whether the command may have been executed although it failed. A refusal has not been, nor has what was
    /// [not sent](Self::not_sent); of a lost connection or a passed deadline nobody knows.
    #[must_use]
    pub fn may_have_executed(&self) -> bool {
        self.executed
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for BackendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

/// A value could not be encoded or decoded. The message holds no part of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be {} as {codec}: {reason}", if *.decoding { "decoded" } else { "encoded" })]
pub struct CodecError {
    codec: &'static str,
    decoding: bool,
    reason: Cow<'static, str>,
}

impl CodecError {
    /// Reports that a value could not be encoded.
    pub fn encoding(codec: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { codec, decoding: false, reason: reason.into() }
    }

    /// Reports that bytes from the backend could not be decoded.
    pub fn decoding(codec: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { codec, decoding: true, reason: reason.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_own_place_and_name() {
        for (index, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(
                (kind.index(), ErrorKind::ALL.iter().filter(|other| other.name() == kind.name()).count()),
                (index, 1)
            );
        }
    }

    #[test]
    fn an_error_names_operation_namespace_and_cause() {
        let error = Error::Backend {
            operation: Operation::Get,
            namespace: Namespace::new("users").unwrap(),
            source: BackendError::new(BackendErrorKind::Unavailable, "connection refused"),
        };
        assert_eq!(error.to_string(), "get in namespace `users`: the backend is unavailable");
        assert_eq!(error.source().unwrap().to_string(), "connection refused");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn a_refusal_names_operation_and_both_tiers_and_was_not_sent() {
        let error = Error::Forbidden {
            operation: Operation::Set,
            namespace: Namespace::new("memory").unwrap(),
            held: AccessTier::Observer,
            needed: AccessTier::Contributor,
        };
        let text = "set in namespace `memory`: the access tier is observer, and it takes contributor";
        assert_eq!(error.to_string(), text);
        assert_eq!((error.kind(), error.may_have_executed()), (ErrorKind::Forbidden, false));
    }

    #[test]
    fn a_codec_error_says_which_way_it_failed() {
        let error = CodecError::decoding("json", "expected a number at column 3");
        assert_eq!(error.to_string(), "the value cannot be decoded as json: expected a number at column 3");
    }
}
