//! What a user and a password are given as, and by whom.

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;

/// A user of the server and its password, perhaps for a while only. `Debug` prints neither.
///
/// ```
/// # use twotier_backend as twotier;
/// use std::time::Duration;
/// use twotier::RedisCredentials;
///
/// let token = String::from("…");
/// let credentials = RedisCredentials::user("app", token).valid_for(Duration::from_secs(900));
/// assert_eq!(format!("{credentials:?}"), "RedisCredentials { lifetime: Some(900s), .. }");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RedisCredentials {
    pub(super) user: Option<String>,
    pub(super) password: String,
    pub(super) lifetime: Option<Duration>,
}

impl RedisCredentials {
    /// Names a user and its password, which may be empty.
    pub fn user(user: impl Into<String>, password: impl Into<String>) -> Self {
        Self { user: Some(user.into()), ..Self::password(password) }
    }

    /// Gives the password of the server's own user, `default`.
    pub fn password(password: impl Into<String>) -> Self {
        Self { user: None, password: password.into(), lifetime: None }
    }

    /// Sets for how long the server takes them, counted from now.
    ///
    /// The provider is asked again when about three quarters of that have passed, and every connection that is up is
    /// then authenticated anew (`AUTH`), so that none expires.
    #[must_use]
    pub fn valid_for(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }
}

impl fmt::Debug for RedisCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCredentials").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

/// Gives the credentials of each connection: from a vault, as the token of a cloud, however they are had.
///
/// It is asked at every connection, two of which make a link, at the same time. Where what it gave has a
/// [lifetime](RedisCredentials::valid_for) it is asked again before that ends, once for each connection that is up;
/// one that is expensive to ask keeps what it gave last.
///
/// It has as long as a server has to answer (`RedisConfig::connect_timeout`). An error, a panic and a longer silence
/// fail the attempt to connect, which is made again as after any other failure. While a link is up they leave it as it
/// is, and it is tried again.
///
/// ```
/// # mod twotier { pub use twotier_backend::*; pub use twotier_core::*; }
/// use std::{error::Error, time::Duration};
/// use twotier::{CredentialsProvider, RedisBackend, RedisConfig, RedisCredentials, async_trait};
///
/// struct Vault;
///
/// #[async_trait]
/// impl CredentialsProvider for Vault {
///     async fn credentials(&self) -> Result<RedisCredentials, Box<dyn Error + Send + Sync>> {
///         let token = fetch_token().await?;
///         Ok(RedisCredentials::user("app", token).valid_for(Duration::from_secs(900)))
///     }
/// }
/// # async fn fetch_token() -> std::io::Result<String> { Ok(String::new()) }
///
/// let backend = RedisBackend::with_credentials(&RedisConfig::new("rediss://cache.example"), Vault)?;
/// # Ok::<(), twotier::ConfigError>(())
/// ```
#[async_trait]
pub trait CredentialsProvider: Send + Sync + 'static {
    /// Returns the credentials for a connection that is made now.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from doing so. The error becomes the source of the [`BackendError`] of the attempt: keep
    /// secrets out of it.
    ///
    /// [`BackendError`]: twotier_core::BackendError
    async fn credentials(&self) -> Result<RedisCredentials, Box<dyn Error + Send + Sync>>;
}
