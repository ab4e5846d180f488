//! What the function of `update` decides.

use std::{sync::Arc, time::Duration};

use crate::{IntoValue, SetOptions};

/// What is to become of a value: returned by the function of [`Cache::update`](crate::Cache::update), where an
/// `Option` does not say it.
///
/// # Examples
///
/// ```
/// use twotier::{Cache, Change, MemoryBackend};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), twotier::Error> {
/// # let stock: Cache<u32> = Cache::builder().build(MemoryBackend::new()).await?;
/// stock.set("book", 1).await?;
/// let take = |held: Option<&u32>| match held {
///     Some(0) | None => Change::none(),
///     Some(left) => Change::set(left - 1).keep_time_to_live(),
/// };
/// assert_eq!(stock.update("book", take).await?.as_deref(), Some(&0));
/// assert_eq!(stock.update("book", take).await?.as_deref(), Some(&0)); // nothing was written
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the function of `update` returns it"]
pub struct Change<V> {
    pub(crate) action: Action<V>,
}

#[derive(Debug)]
pub(crate) enum Action<V> {
    Set { value: Arc<V>, options: SetOptions, keeps_life: bool },
    Remove,
    Nothing,
}

impl<V> Change<V> {
    /// Writes a value, which lives for the cache's time to live.
    pub fn set(value: impl IntoValue<V>) -> Self {
        Self { action: Action::Set { value: value.into_value(), options: SetOptions::new(), keeps_life: false } }
    }

    /// Removes the key.
    pub fn remove() -> Self {
        Self { action: Action::Remove }
    }

    /// Leaves the key as it is: nothing is written.
    pub fn none() -> Self {
        Self { action: Action::Nothing }
    }

    /// Sets how long the value lives in the backend, exactly, at least 1 ms; `None` is for ever.
    pub fn time_to_live(mut self, ttl: impl Into<Option<Duration>>) -> Self {
        if let Action::Set { options, .. } = &mut self.action {
            *options = options.time_to_live(ttl);
        }
        self
    }

    /// Has the value live for as long as the one that it replaces would have. Where there is none, it lives for as long
    /// as it would without this.
    pub fn keep_time_to_live(mut self) -> Self {
        if let Action::Set { keeps_life, .. } = &mut self.action {
            *keeps_life = true;
        }
        self
    }
}

/// What the function of [`Cache::update`](crate::Cache::update) may return for a `Cache<V>`.
///
/// | it returns | the key |
/// |---|---|
/// | `Some` of `V`, `Arc<V>` or what [becomes](IntoValue) one | holds this value, for the cache's time to live |
/// | `None` | is removed |
/// | [`Change<V>`] | holds a value, is removed, or stays as it is |
#[diagnostic::on_unimplemented(
    message = "the function of `update` of a `Cache<{V}>` does not return `{Self}`",
    label = "expected `Option<{V}>`",
    note = "it returns `Some` of a value, `None` to remove the key, or a `Change<{V}>`"
)]
pub trait IntoChange<V> {
    /// Returns what is to become of the value.
    fn into_change(self) -> Change<V>;
}

impl<V> IntoChange<V> for Change<V> {
    fn into_change(self) -> Self {
        self
    }
}

impl<V, T: IntoValue<V>> IntoChange<V> for Option<T> {
    fn into_change(self) -> Change<V> {
        self.map_or_else(Change::remove, Change::set)
    }
}
