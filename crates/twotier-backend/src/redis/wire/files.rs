//! Files that the configuration names: read at the start, and again at each connection.

use std::path::Path;

use tokio::task::spawn_blocking;
use twotier_core::{BackendError, BackendErrorKind, ConfigError};

/// Reads a file on a thread that may wait for it.
pub(super) async fn read(field: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let path = path.to_owned();
    let reading = spawn_blocking(move || read_now(field, &path));
    reading.await.unwrap_or_else(|_ended| Err(ConfigError::new(field, "cannot be read: the runtime has ended")))
}

pub(super) fn read_now(field: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|error| ConfigError::new(field, format!("cannot be read: {error}")))
}

/// A file that is no longer what it has to be fails one attempt: it may be just being replaced.
pub(super) fn unavailable(error: ConfigError) -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, error.to_string()).not_sent()
}
