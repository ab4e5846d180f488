//! What the crate `redis` reports, as a [`BackendError`] that repeats nothing of what was sent.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, ServerError, Value};
use twotier_core::{BackendError, BackendErrorKind};

/// Server codes whose explanation the server makes up itself. Others may quote arguments, such as
/// `ERR unknown command 'x', with args beginning with: …`.
const EXPLAINED: [&str; 12] = [
    "WRONGTYPE",
    "NOAUTH",
    "WRONGPASS",
    "OOM",
    "READONLY",
    "LOADING",
    "MISCONF",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "BUSY",
    "NOREPLICAS",
    "EXECABORT",
];

/// Turns a failure of the connection or of one command into an error.
pub(super) fn from_redis(error: &RedisError) -> BackendError {
    match error.kind() {
        ErrorKind::Io if error.is_timeout() => {
            BackendError::new(BackendErrorKind::Unavailable, "the connection timed out")
        }
        ErrorKind::Io => BackendError::new(BackendErrorKind::Unavailable, io_message(error)),
        ErrorKind::RESP3NotSupported => BackendError::new(
            BackendErrorKind::Unsupported,
            "the server does not speak RESP3; Redis 6.0 or Valkey is needed",
        ),
        ErrorKind::AuthenticationFailed => {
            BackendError::new(BackendErrorKind::Denied, "the server refused the credentials")
        }
        ErrorKind::Parse => BackendError::new(BackendErrorKind::Protocol, "the server sent something that is not RESP"),
        _ => match error.code() {
            Some(code) => from_code(code, error.detail()),
            None => BackendError::new(BackendErrorKind::Rejected, error.category().to_owned()),
        },
    }
}

/// Turns the reply to one command of a pipeline into an error.
pub(super) fn from_server(error: &ServerError) -> BackendError {
    from_code(error.code(), error.details())
}

/// A reply of a shape the command reference does not allow.
pub(super) fn unexpected(command: &'static str) -> BackendError {
    BackendError::new(BackendErrorKind::Protocol, format!("unexpected reply to {command}"))
}

/// A reply that is not what the command returns: a refusal, or of a shape the command reference does not allow.
pub(super) fn refusal(reply: &Value, command: &'static str) -> BackendError {
    match reply {
        Value::ServerError(refused) => from_server(refused),
        _ => unexpected(command),
    }
}

fn from_code(code: &str, detail: Option<&str>) -> BackendError {
    let kind = match code {
        "WRONGTYPE" => BackendErrorKind::WrongType,
        "NOAUTH" | "WRONGPASS" | "NOPERM" => BackendErrorKind::Denied,
        "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" => BackendErrorKind::Unavailable,
        _ => BackendErrorKind::Rejected,
    };
    let detail = detail.filter(|_| EXPLAINED.contains(&code));
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let message = match (code.as_str(), detail) {
        ("NOPERM", _) => "the user lacks a permission (NOPERM)".to_owned(),
        (code, Some(detail)) => format!("the server answered {code} {}", detail.trim_end_matches('.')),
        (code, None) => format!("the server answered {code}"),
    };
    BackendError::new(kind, message)
}

/// What the operating system or TLS said; these messages hold no credentials.
fn io_message(error: &RedisError) -> String {
    use std::error::Error as _;

    // The crate hands out the `Arc` around its source.
    let source = error.source().and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>());
    let source = source.and_then(|source| source.downcast_ref::<std::io::Error>());
    match source {
        Some(io) if is_tls(io) => format!("the TLS handshake failed: {io}"),
        Some(io) => match io.raw_os_error() {
            Some(code) => std::io::Error::from_raw_os_error(code).to_string().to_lowercase(),
            None => io.kind().to_string(),
        },
        None => "the connection was lost".to_owned(),
    }
}

#[cfg(feature = "tls")]
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}

#[cfg(not(feature = "tls"))]
fn is_tls(_error: &std::io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_message_that_may_quote_arguments_is_cut_to_its_code() {
        let error = from_code("ERR", Some("unknown command 'SETT', with args beginning with: 'key' 'sekret'"));
        assert_eq!(error.to_string(), "the server answered ERR");
        assert_eq!(error.kind(), BackendErrorKind::Rejected);
    }

    #[test]
    fn a_key_of_another_type_keeps_the_server_s_own_words() {
        let error = from_code("WRONGTYPE", Some("Operation against a key holding the wrong kind of value"));
        assert_eq!(error.kind(), BackendErrorKind::WrongType);
        assert!(error.to_string().contains("wrong kind of value"));
    }
}
