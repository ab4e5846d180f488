//! `rediss://`: certificates are checked.

#[cfg(feature = "tls")]
mod live {
    use std::{
        fs,
        net::{Ipv4Addr, TcpListener},
        path::PathBuf,
    };

    use bytes::Bytes;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{BackendError, BackendErrorKind, RedisConfig};
    use twotier_testkit::RedisServer;

    /// A directory of certificates, removed in the end.
    struct Certificates(PathBuf);

    impl Certificates {
        /// Makes an authority, and a certificate of its for `localhost`.
        fn new() -> Self {
            let directory =
                std::env::temp_dir().join(format!("twotier-tls-{}-{}", std::process::id(), fastrand::u64(..)));
            fs::create_dir_all(&directory).unwrap();
            let mut authority = CertificateParams::new(Vec::new()).unwrap();
            authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let authority_key = KeyPair::generate().unwrap();
            let authority_certificate = authority.self_signed(&authority_key).unwrap();
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &Issuer::new(authority, authority_key)).unwrap();
            fs::write(directory.join("ca.crt"), authority_certificate.pem()).unwrap();
            fs::write(directory.join("redis.crt"), certificate.pem()).unwrap();
            fs::write(directory.join("redis.key"), key.serialize_pem()).unwrap();
            Self(directory)
        }

        fn path(&self, file: &str) -> PathBuf {
            self.0.join(file)
        }

        fn text(&self, file: &str) -> String {
            self.path(file).display().to_string()
        }
    }

    impl Drop for Certificates {
        fn drop(&mut self) {
            // What is left behind in the temporary directory harms nobody.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[tokio::test]
    async fn a_server_is_believed_only_with_a_certificate_of_a_trusted_authority_for_its_name() {
        let certificates = Certificates::new();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = RedisServer::builder()
            .arg("tls-port", &port.to_string())
            .arg("tls-cert-file", &certificates.text("redis.crt"))
            .arg("tls-key-file", &certificates.text("redis.key"))
            .arg("tls-ca-cert-file", &certificates.text("ca.crt"))
            .arg("tls-auth-clients", "no")
            .start();
        let backend = |host: &str, trusted: bool| {
            let mut config = RedisConfig::new(format!("rediss://{host}:{port}"));
            config.tls_ca_file = trusted.then(|| certificates.path("ca.crt"));
            RedisBackend::with_config(&config).unwrap()
        };
        let trusted = backend("localhost", true);
        trusted.ready().await.unwrap();
        trusted.set(b"n:k", Bytes::from_static(b"v"), None).await.unwrap();
        assert_eq!(server.command(&["GET", "n:k"]).as_str(), "v");

        let plain = RedisBackend::new(format!("redis://localhost:{port}")).unwrap();
        let plain = plain.ready().await.unwrap_err();
        assert!(std::error::Error::source(&plain).unwrap().to_string().contains("rediss://"), "{plain:?}");

        let unknown_authority = backend("localhost", false).get(b"n:k").await.unwrap_err();
        assert_eq!(unknown_authority.kind(), BackendErrorKind::Unavailable, "{unknown_authority}");
        let cause = |error: &BackendError| std::error::Error::source(error).expect("it has a cause").to_string();
        assert!(cause(&unknown_authority).contains("certificate"), "{unknown_authority}");
        let another_name = backend("127.0.0.1", true).get(b"n:k").await.unwrap_err();
        assert!(cause(&another_name).contains("certificate"), "{another_name}");
    }

    #[test]
    fn a_file_without_certificates_is_an_error_that_names_the_field() {
        let mut config = RedisConfig::new("rediss://localhost");
        config.tls_ca_file = Some("/nowhere/ca.crt".into());
        assert_eq!(RedisBackend::with_config(&config).unwrap_err().field(), "tls_ca_file");
        let certificates = Certificates::new();
        config.tls_ca_file = Some(certificates.path("redis.key"));
        let error = RedisBackend::with_config(&config).unwrap_err();
        assert!(error.field() == "tls_ca_file" && error.to_string().contains("no certificate"), "{error}");
        config.url = twotier_core::RedisUrl::new("redis://localhost");
        assert_eq!(RedisBackend::with_config(&config).unwrap_err().field(), "tls_ca_file");
    }
}
