//! Who we are to a server: asked of whoever knows, at each connection.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    task::Poll,
};

use redis::{RedisConnectionInfo, ServerError};
use twotier_core::{BackendError, BackendErrorKind, ConfigError};

use crate::BackendResult;

use super::{
    credentials::{CredentialsProvider, RedisCredentials},
    error, files,
};

/// Where credentials come from. `Debug` is not derived, so that none can print any.
#[derive(Clone)]
pub(super) enum Identity {
    Nobody,
    Url(RedisCredentials),
    /// The field that names the file stands beside it.
    File {
        field: &'static str,
        path: PathBuf,
        user: Option<String>,
    },
    Provider(Arc<dyn CredentialsProvider>),
}

impl Identity {
    /// Returns the credentials of a connection that is made now.
    pub(super) async fn credentials(&self) -> BackendResult<Option<RedisCredentials>> {
        match self {
            Self::Nobody => Ok(None),
            Self::Url(credentials) => Ok(Some(credentials.clone())),
            Self::File { field, path, user } => {
                let text = files::read(field, path).await.map_err(files::unavailable)?;
                let unusable = |reason| files::unavailable(ConfigError::new(*field, reason));
                let text = String::from_utf8(text).map_err(|_secret| unusable("is not UTF-8"))?;
                let password = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
                if password.is_empty() {
                    return Err(unusable("is empty"));
                }
                Ok(Some(RedisCredentials { user: user.clone(), ..RedisCredentials::password(password) }))
            }
            Self::Provider(provider) => ask(&**provider).await.map(Some),
        }
    }

    /// Describes why a server does not let us in.
    pub(super) fn refused(&self, command: &str, refused: &ServerError) -> BackendError {
        let denied = |message: String| BackendError::new(BackendErrorKind::Denied, message);
        match (refused.code(), self) {
            ("NOAUTH", _) => denied(
                "the server asks for a password; put it into the URL, as in redis://:password@host, or name a \
                 `password_file`"
                    .to_owned(),
            ),
            ("WRONGPASS", Self::File { field, .. }) => {
                denied(format!("the server refused the credentials of `{field}`"))
            }
            ("WRONGPASS", Self::Provider(_)) => denied("the server refused the credentials of the provider".to_owned()),
            ("WRONGPASS", Self::Url(_) | Self::Nobody) => {
                denied("the server refused the credentials of the URL".to_owned())
            }
            _ => return error::from_server(command, refused),
        }
        .with_code(refused.code())
        .not_sent()
    }
}

/// Puts credentials into what a connection begins with.
pub(super) fn signed(settings: RedisConnectionInfo, credentials: Option<RedisCredentials>) -> RedisConnectionInfo {
    let Some(RedisCredentials { user, password, .. }) = credentials else { return settings };
    let settings = settings.set_password(password);
    match user {
        Some(user) => settings.set_username(user),
        None => settings,
    }
}

/// Asks somebody else's code, whose panic is an error.
async fn ask(provider: &dyn CredentialsProvider) -> BackendResult<RedisCredentials> {
    let mut asked = None;
    let answer = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            asked.get_or_insert_with(|| provider.credentials()).as_mut().poll(context)
        }));
        polled.map_or(Poll::Ready(None), |answer| answer.map(Some))
    });
    let failed = |message| BackendError::new(BackendErrorKind::Unavailable, message).not_sent();
    match answer.await {
        Some(Ok(credentials)) => Ok(credentials),
        Some(Err(cause)) => Err(failed("the provider of credentials failed").with_source(Foreign(cause))),
        None => Err(failed("the provider of credentials panicked")),
    }
}

/// An error of somebody else's as the source of one of ours.
#[derive(Debug)]
struct Foreign(Box<dyn Error + Send + Sync>);

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Foreign {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}
