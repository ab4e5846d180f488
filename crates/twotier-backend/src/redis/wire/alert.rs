//! What TLS, or the server by it, refuses.

use std::io;

use rustls::{AlertDescription, Error, InvalidMessage};
use twotier_core::{BackendError, BackendErrorKind};

/// What rustls says of the end of a stream, `None` when that is somebody else's error. With TLS 1.3 a server refuses
/// our certificate only after the handshake, instead of its first reply.
pub(super) fn refused(failed: &io::Error) -> Option<BackendError> {
    let tls = failed.get_ref()?.downcast_ref::<Error>()?;
    let (kind, message) = match tls {
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => (
            BackendErrorKind::Unavailable,
            "the server does not speak TLS on this port; use a redis:// URL or its TLS port".to_owned(),
        ),
        Error::AlertReceived(AlertDescription::CertificateRequired) => (
            BackendErrorKind::Denied,
            "the server asks for a client certificate: set `tls_cert_file` and `tls_key_file`".to_owned(),
        ),
        // What servers say of a missing certificate with TLS 1.2.
        Error::AlertReceived(AlertDescription::HandshakeFailure) => (
            BackendErrorKind::Unavailable,
            "the TLS handshake failed: the server asks for a client certificate (`tls_cert_file`), or shares no \
             protocol"
                .to_owned(),
        ),
        Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError),
        ) => (
            BackendErrorKind::Denied,
            format!("the server refused the client certificate of `tls_cert_file`: {alert:?}"),
        ),
        other => (BackendErrorKind::Unavailable, format!("the TLS handshake failed: {other}")),
    };
    Some(BackendError::new(kind, message))
}
