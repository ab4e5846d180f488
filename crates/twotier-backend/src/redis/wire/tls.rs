//! TLS, with a configuration of our own: nothing is installed for the whole process.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, Error, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem, pem::PemObject},
};
use tokio::{net::TcpStream, task::spawn_blocking};
use tokio_rustls::{TlsConnector, client::TlsStream};
use twotier_core::{BackendError, BackendErrorKind, ConfigError, RedisConfig};

use crate::BackendResult;

use super::{error, files};

/// Whose certificates are believed, and which one is ours.
#[derive(Clone)]
pub(super) struct Tls {
    authorities: Authorities,
    /// The files of our certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone)]
enum Authorities {
    /// Those of the system, read once: it is some hundreds of files.
    System(Arc<RootCertStore>),
    /// Those in this file, and nobody else.
    File(PathBuf),
}

impl Tls {
    /// Reads every file once, so that what is wrong with one is an error of the configuration.
    pub(super) fn new(config: &RedisConfig) -> Result<Self, ConfigError> {
        let authorities = match &config.tls_ca_file {
            Some(path) => Authorities::File(path.clone()),
            None => {
                let mut roots = RootCertStore::empty();
                // A system without certificates believes nobody, which the handshake says.
                let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                Authorities::System(Arc::new(roots))
            }
        };
        let own = config.tls_cert_file.clone().zip(config.tls_key_file.clone());
        let tls = Self { authorities, own };
        tls.connector()?;
        Ok(tls)
    }

    /// Reads the files as they are now. Every connection makes its own handshake: none goes on with the session of an
    /// earlier one, whose certificate may have been replaced since.
    fn connector(&self) -> Result<TlsConnector, ConfigError> {
        let roots = match &self.authorities {
            Authorities::System(roots) => Arc::clone(roots),
            Authorities::File(path) => Arc::new(authorities(path)?),
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ConfigError::new("url", format!("asks for TLS, which cannot be had: {error}")))?
            .with_root_certificates(roots);
        let config = match &self.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let (certificates, key) = (certificates("tls_cert_file", certificate)?, private_key(key)?);
                config.with_client_auth_cert(certificates, key).map_err(|error| match error {
                    Error::InconsistentKeys(_) => {
                        ConfigError::new("tls_key_file", "is not the key of the certificate in `tls_cert_file`")
                    }
                    Error::InvalidCertificate(_) => {
                        ConfigError::new("tls_cert_file", format!("holds an unusable certificate: {error}"))
                    }
                    _ => ConfigError::new("tls_key_file", format!("holds an unusable key: {error}")),
                })?
            }
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    pub(super) async fn handshake(&self, host: &str, stream: TcpStream) -> BackendResult<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(|error| {
            BackendError::new(BackendErrorKind::Unavailable, "the host name cannot be in a certificate")
                .with_source(error)
        })?;
        let tls = self.clone();
        let connector = spawn_blocking(move || tls.connector())
            .await
            .map_err(|_ended| BackendError::new(BackendErrorKind::Unavailable, "the runtime has ended").not_sent())?;
        let connected = connector.map_err(files::unavailable)?.connect(name, stream).await;
        connected.map_err(|failed| error::from_io(&failed))
    }
}

fn authorities(path: &Path) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls_ca_file", path)? {
        roots
            .add(certificate)
            .map_err(|error| ConfigError::new("tls_ca_file", format!("holds an unusable certificate: {error}")))?;
    }
    Ok(roots)
}

fn certificates(field: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let text = files::read_now(field, path)?;
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| ConfigError::new(field, format!("is not PEM: {error}")))?;
    if certificates.is_empty() {
        return Err(ConfigError::new(field, "holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(certificates)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, ConfigError> {
    let field = "tls_key_file";
    // What is wrong with a key is not quoted.
    PrivateKeyDer::from_pem_slice(&files::read_now(field, path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => ConfigError::new(
            field,
            "holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); one that is encrypted is not read",
        ),
        _ => ConfigError::new(field, "is not PEM"),
    })
}
