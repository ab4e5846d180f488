//! What goes wrong, as a [`BackendError`] that repeats nothing of what was sent.

use std::io;

use redis::ServerError;
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

/// Reports that the server refused this command of ours.
pub(in crate::redis) fn from_server(command: &str, error: &ServerError) -> BackendError {
    from_code(command, error.code(), error.details())
}

/// A reply of a shape that the command reference does not allow: replies and requests are out of step.
pub(in crate::redis) fn out_of_step(command: &str) -> BackendError {
    BackendError::new(BackendErrorKind::Protocol, format!("unexpected reply to {command}"))
}

/// The cause that the operating system gave, or TLS; their messages hold no credentials.
pub(super) fn from_io(error: &io::Error) -> BackendError {
    #[cfg(feature = "tls")]
    if let Some(refused) = super::alert::refused(error) {
        return refused;
    }
    let message = match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code).to_string().to_lowercase(),
        None => error.kind().to_string(),
    };
    BackendError::new(BackendErrorKind::Unavailable, message)
}

pub(in crate::redis) fn not_resp() -> BackendError {
    BackendError::new(BackendErrorKind::Protocol, "the server sent something that is not RESP")
}

pub(super) fn closed_by_server() -> BackendError {
    BackendError::new(BackendErrorKind::Unavailable, "the server closed the connection")
}

fn from_code(command: &str, code: &str, detail: Option<&str>) -> BackendError {
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(32).collect();
    let kind = match code.as_str() {
        "WRONGTYPE" => BackendErrorKind::WrongType,
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => BackendErrorKind::Denied,
        "BUSY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => BackendErrorKind::Busy,
        "READONLY" => BackendErrorKind::Unavailable,
        _ => BackendErrorKind::Rejected,
    };
    // The framing puts this in the place of a value that is too large; no server has such a code.
    if let Ok(size) = code.parse() {
        let message = format!("{command} found a value of {size} bytes, which is more than is read");
        return BackendError::new(BackendErrorKind::ValueTooLarge { size }, message);
    }
    let message = match detail.filter(|_| EXPLAINED.contains(&code.as_str())) {
        Some(detail) => format!("{command} was refused: {code} {}", detail.trim_end_matches('.')),
        None => format!("{command} was refused: {code}"),
    };
    // A refused command was not executed, whatever the kind.
    BackendError::new(kind, message).with_code(code).not_sent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_message_that_may_quote_arguments_is_cut_to_its_code() {
        let error = from_code("SET", "ERR", Some("unknown command 'SETT', with args beginning with: 'key' 'sekret'"));
        assert_eq!(error.to_string(), "SET was refused: ERR");
        assert_eq!((error.kind(), error.code()), (BackendErrorKind::Rejected, Some("ERR")));
    }

    #[test]
    fn a_key_of_another_type_keeps_the_server_s_own_words() {
        let error = from_code("GET", "WRONGTYPE", Some("Operation against a key holding the wrong kind of value"));
        assert_eq!(error.kind(), BackendErrorKind::WrongType);
        assert!(error.to_string().contains("wrong kind of value"));
    }

    #[test]
    fn a_passing_state_is_busy_and_a_refusal_was_never_executed() {
        for (code, kind) in [
            ("BUSY", BackendErrorKind::Busy),
            ("LOADING", BackendErrorKind::Busy),
            ("MASTERDOWN", BackendErrorKind::Busy),
            ("CLUSTERDOWN", BackendErrorKind::Busy),
            ("TRYAGAIN", BackendErrorKind::Busy),
            ("MISCONF", BackendErrorKind::Rejected),
            ("OOM", BackendErrorKind::Rejected),
            ("NOPERM", BackendErrorKind::Denied),
            ("READONLY", BackendErrorKind::Unavailable),
        ] {
            let error = from_code("SET", code, None);
            assert_eq!((error.kind(), error.code(), error.may_have_executed()), (kind, Some(code), false));
        }
    }
}
