//! What a loader brings.

use std::{error::Error, sync::Arc, time::Duration};

use crate::{IntoValue, SetOptions};

/// What a loader brings, where a value alone does not say it: a value with a time to live of its own, or its absence.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use twotier::{Cache, Loaded, MemoryBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// # let names: Cache<String> = Cache::builder().build(MemoryBackend::new()).await?;
/// let load = async |id: u64| match id {
///     42 => Ok::<_, std::io::Error>(Loaded::new("Ada").time_to_live(Duration::from_secs(60))),
///     _ => Ok(Loaded::absent()),
/// };
/// assert_eq!(names.get_or_load(42, load).await?.as_deref(), Some(&"Ada".to_owned()));
/// assert_eq!(names.get_or_load(43, load).await?, None);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a loader returns it"]
pub struct Loaded<V> {
    pub(crate) value: Option<Arc<V>>,
    pub(crate) options: SetOptions,
    /// Whether the value is that which was there before.
    pub(crate) not_modified: bool,
}

impl<V> Loaded<V> {
    /// Brings a value, which lives for the cache's time to live.
    pub fn new(value: impl IntoValue<V>) -> Self {
        Self { value: Some(value.into_value()), options: SetOptions::new(), not_modified: false }
    }

    /// Says that there is no value. That is remembered for the negative time to live of the cache, or for the time to
    /// live that is set here, in the local tier, and in the backend where it is
    /// [shared](crate::CacheBuilder::share_absence).
    ///
    /// A report, an own write, a flush and a lost link end it. Where it is not shared, the *deletion* of a key by
    /// somebody else is no news of a key that the backend does not have: after a row was made, write the key.
    pub fn absent() -> Self {
        Self { value: None, options: SetOptions::new(), not_modified: false }
    }

    /// Says that the value that is there is still right: the [`Prior`](crate::Prior) of
    /// [`Entry::load_with`](crate::Entry::load_with). Its life is extended to the time to live, and nothing is written.
    pub fn not_modified() -> Self {
        Self { value: None, options: SetOptions::new(), not_modified: true }
    }

    /// Sets how long the value lives in the backend, exactly, at least 1 ms; `None` is for ever. An absence is
    /// remembered for that long, for a day at most.
    pub fn time_to_live(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        self.options = self.options.time_to_live(ttl);
        self
    }
}

/// What a loader may return for a `Cache<V>`, and what `get_or_load` returns then.
///
/// | the loader returns | `get_or_load` returns |
/// |---|---|
/// | `V`, `Arc<V>` | `Arc<V>` |
/// | `(V, Duration)`: a value and how long it lives in the backend | `Arc<V>` |
/// | `Option<V>`, `Option<Arc<V>>` | `Option<Arc<V>>` |
/// | [`Loaded<V>`] | `Option<Arc<V>>` |
#[diagnostic::on_unimplemented(
    message = "a loader of a `Cache<{V}>` does not return `{Self}`",
    label = "expected `{V}`",
    note = "a loader returns `Ok` of `{V}`, `Arc<{V}>`, `({V}, Duration)`, `Option<{V}>` or `Loaded<{V}>`"
)]
pub trait LoaderOutput<V> {
    /// What the call returns.
    type Found;

    /// Returns what was loaded.
    fn into_loaded(self) -> Loaded<V>;

    /// Returns what the call returns for a value.
    fn found(value: Arc<V>) -> Self::Found;

    /// Returns what the call returns for an absent value, if it can return that. Else somebody else's absence is none
    /// for this caller, whose own loader runs.
    fn absent() -> Option<Self::Found>;
}

/// What a loader may fail with: an error of any type. It comes back by that type, see [`Error::loader_error`].
///
/// Implemented for everything that becomes a boxed error: types that implement [`std::error::Error`], strings, and
/// `anyhow::Error`, for which the feature `anyhow` gives back what was put into it.
///
/// [`Error::loader_error`]: crate::Error::loader_error
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a loader",
    label = "not an error that can be shared",
    note = "an error implements `std::error::Error + Send + Sync + 'static`, or is an `anyhow::Error` or a string"
)]
pub trait LoaderError: Into<Box<dyn Error + Send + Sync>> + 'static {}

impl<E: Into<Box<dyn Error + Send + Sync>> + 'static> LoaderError for E {}

macro_rules! always {
    ($($output:ty: |$it:pat_param| $loaded:expr;)+) => {$(
        impl<V> LoaderOutput<V> for $output {
            type Found = Arc<V>;

            fn into_loaded(self) -> Loaded<V> {
                let $it = self;
                $loaded
            }

            fn found(value: Arc<V>) -> Self::Found {
                value
            }

            fn absent() -> Option<Self::Found> {
                None
            }
        }
    )+};
}

always! {
    V: |value| Loaded::new(value);
    Arc<V>: |value| Loaded::new(value);
    (V, Duration): |(value, ttl)| Loaded::new(value).time_to_live(ttl);
    (Arc<V>, Duration): |(value, ttl)| Loaded::new(value).time_to_live(ttl);
}

macro_rules! perhaps {
    ($($output:ty: |$it:ident| $loaded:expr;)+) => {$(
        impl<V> LoaderOutput<V> for $output {
            type Found = Option<Arc<V>>;

            fn into_loaded(self) -> Loaded<V> {
                let $it = self;
                $loaded
            }

            fn found(value: Arc<V>) -> Self::Found {
                Some(value)
            }

            fn absent() -> Option<Self::Found> {
                Some(None)
            }
        }
    )+};
}

perhaps! {
    Option<V>: |value| value.map_or_else(Loaded::absent, Loaded::new);
    Option<Arc<V>>: |value| value.map_or_else(Loaded::absent, Loaded::new);
    Loaded<V>: |loaded| loaded;
}
