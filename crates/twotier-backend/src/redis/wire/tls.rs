//! TLS, with a configuration of our own: nothing is installed for the whole process.

use std::{path::Path, sync::Arc};

use rustls::{
    AlertDescription, ClientConfig, InvalidMessage, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use twotier_core::{BackendError, BackendErrorKind, ConfigError};

use crate::BackendResult;

use super::error;

/// Whose certificates are believed.
#[derive(Clone)]
pub(super) struct Trust(TlsConnector);

impl Trust {
    /// Trusts whom the system trusts.
    pub(super) fn system() -> Result<Self, ConfigError> {
        let mut roots = RootCertStore::empty();
        // A system without certificates believes nobody, which the handshake says.
        let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Self::roots(roots)
    }

    /// Trusts the authorities in this file, and nobody else.
    pub(super) fn file(path: &Path) -> Result<Self, ConfigError> {
        let refused = |reason: String| ConfigError::new("tls_ca_file", reason);
        let pem = std::fs::read(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.map_err(|error| refused(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| refused(format!("holds an unusable certificate: {error}")))?;
        }
        if roots.is_empty() {
            return Err(refused("holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)".to_owned()));
        }
        Self::roots(roots)
    }

    fn roots(roots: RootCertStore) -> Result<Self, ConfigError> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new("url", format!("asks for TLS, which cannot be had: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> BackendResult<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            BackendError::new(BackendErrorKind::Unavailable, "the host name cannot be in a certificate")
                .with_source(error)
        })?;
        self.0.connect(name, stream).await.map_err(|failed| refused(&failed))
    }
}

fn refused(failed: &std::io::Error) -> BackendError {
    let tls = failed.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let message = match tls {
        None if failed.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the server closed the connection during the TLS handshake; does it speak TLS on this port?".to_owned()
        }
        None => return error::from_io(failed),
        Some(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the server does not speak TLS on this port; use a redis:// URL or its TLS port".to_owned()
        }
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        )) => "the TLS handshake failed: the server asks for a client certificate, or shares no protocol".to_owned(),
        Some(other) => format!("the TLS handshake failed: {other}"),
    };
    BackendError::new(BackendErrorKind::Unavailable, message)
}
