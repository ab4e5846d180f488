//! Which keys the running loaders of a task load: a loader that asks for its own key would wait for itself.

use std::sync::Arc;

use tokio::task_local;
use twotier_core::{Error, Operation};

use crate::{Result, remote::Remote};

task_local! {
    /// The innermost loader that runs in this task.
    static INNERMOST: Arc<Frame>;
}

/// The keys of one load, and the load whose loader asked for them.
struct Frame {
    /// Tells caches apart: the address of what all clones of one share.
    cache: usize,
    keys: Vec<Box<str>>,
    outer: Option<Arc<Self>>,
}

/// A load that is about to begin.
pub(super) struct Loading(Arc<Frame>);

impl Loading {
    /// Notes the keys of a load.
    ///
    /// # Errors
    ///
    /// When a loader that runs in this task is loading one of them. A loader that asks from a task that it spawned is
    /// not seen here; it waits for as long as anybody waits for a load.
    pub(super) fn enter<'k, V>(
        remote: &Arc<Remote<V>>,
        operation: Operation,
        keys: impl IntoIterator<Item = &'k str>,
    ) -> Result<Self> {
        let cache = Arc::as_ptr(remote).addr();
        let keys: Vec<Box<str>> = keys.into_iter().map(Into::into).collect();
        let outer = INNERMOST.try_with(Arc::clone).ok();
        let mut frame = outer.as_ref();
        while let Some(running) = frame {
            if running.cache == cache && keys.iter().any(|key| running.keys.contains(key)) {
                return Err(Error::Usage { operation, hint: "a loader must not ask for the key that it loads" });
            }
            frame = running.outer.as_ref();
        }
        Ok(Self(Arc::new(Frame { cache, keys, outer })))
    }

    #[cfg(feature = "spans")]
    pub(super) fn keys(&self) -> usize {
        self.0.keys.len()
    }

    /// Runs a loader as the innermost one.
    pub(super) async fn run<F: Future>(&self, loader: F) -> F::Output {
        INNERMOST.scope(Arc::clone(&self.0), loader).await
    }
}
