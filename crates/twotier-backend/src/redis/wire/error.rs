//! What goes wrong, as a [`BackendError`] that repeats nothing of what was sent.

use std::{error::Error, fmt, io};

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

/// Where a node of a cluster says that a slot lies. It is the source of the error that the refusal is.
#[derive(Debug)]
pub(in crate::redis) struct Redirect {
    /// The address; without a host it is that of the node that was asked.
    pub(in crate::redis) host: Box<str>,
    pub(in crate::redis) port: u16,
    /// For this command only, which has to say that it was redirected.
    pub(in crate::redis) is_asking: bool,
}

impl Redirect {
    /// Returns where a command that failed has to go, and was not executed.
    pub(in crate::redis) fn of(error: &BackendError) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    /// Reads `<slot> <host>:<port>`.
    fn read(code: &str, detail: &str) -> Option<Self> {
        let (_slot, address) = detail.trim().split_once(' ')?;
        let (host, port) = address.rsplit_once(':')?;
        // A node that knows no address of the other one.
        let host = if host == "?" { "" } else { host };
        Some(Self { host: host.into(), port: port.parse().ok()?, is_asking: code == "ASK" })
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the slot of the key lies at another node of the cluster")
    }
}

impl Error for Redirect {}

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
        "READONLY" | "MOVED" | "ASK" => BackendErrorKind::Unavailable,
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
    let redirect = detail.filter(|_| matches!(code.as_str(), "MOVED" | "ASK"));
    let redirect = redirect.and_then(|detail| Redirect::read(&code, detail));
    // A refused command was not executed, whatever the kind.
    let refused = BackendError::new(kind, message).with_code(code).not_sent();
    match redirect {
        Some(redirect) => refused.with_source(redirect),
        None => refused,
    }
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
    fn a_redirection_says_where_to_go_and_prints_no_address() {
        for (code, detail, expected) in [
            ("MOVED", "3999 10.0.0.7:6381", Some(("10.0.0.7", 6381, false))),
            ("ASK", "0 node.example:7000", Some(("node.example", 7000, true))),
            ("MOVED", "1 :6381", Some(("", 6381, false))),
            ("MOVED", "1 ?:6381", Some(("", 6381, false))),
            ("MOVED", "1 fd00::7:6381", Some(("fd00::7", 6381, false))),
            ("MOVED", "3999", None),
            ("MOVED", "1 h:x", None),
            ("ERR", "1 h:1", None),
        ] {
            let error = from_code("GET", code, Some(detail));
            let read = Redirect::of(&error).map(|to| (&*to.host, to.port, to.is_asking));
            assert_eq!(read, expected, "{code} {detail}");
            assert!(!error.may_have_executed());
            assert!(!format!("{error} {}", error.source().map_or(String::new(), ToString::to_string)).contains("10.0"));
        }
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
