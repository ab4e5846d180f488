//! `rediss://`: certificates are checked.

#[cfg(feature = "tls")]
mod live {
    use std::{
        fs,
        net::{Ipv4Addr, TcpListener},
        path::PathBuf,
        sync::Arc,
        time::Duration,
    };

    use bytes::Bytes;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{BackendError, BackendErrorKind, LinkState, RedisConfig};
    use twotier_testkit::{RedisCluster, RedisServer};

    use crate::support::{Counter, eventually, watch};

    /// A directory of certificates, removed in the end.
    struct Certificates(PathBuf);

    /// An authority, and its own certificate.
    struct Authority {
        issuer: Issuer<'static, KeyPair>,
        pem: String,
    }

    impl Authority {
        fn new(name: &str) -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let pem = params.self_signed(&key).unwrap().pem();
            Self { issuer: Issuer::new(params, key), pem }
        }

        /// Makes a certificate and its key, valid until this year.
        fn certify(&self, name: &str, year: i32) -> (String, String) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.distinguished_name.push(DnType::CommonName, name);
            params.not_after = date_time_ymd(year, 1, 1);
            let certificate = params.signed_by(&key, &self.issuer).unwrap();
            (certificate.pem(), key.serialize_pem())
        }
    }

    impl Certificates {
        /// Makes an authority, a certificate of its for `localhost`, and certificates of clients: one, one that has
        /// expired, and one of an authority that nobody knows.
        fn new() -> Self {
            let directory =
                std::env::temp_dir().join(format!("twotier-tls-{}-{}", std::process::id(), fastrand::u64(..)));
            fs::create_dir_all(&directory).unwrap();
            let certificates = Self(directory);
            let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
            fs::write(certificates.path("ca.crt"), &authority.pem).unwrap();
            certificates.put("redis", authority.certify("localhost", 4000));
            certificates.put("client", authority.certify("client", 4000));
            certificates.put("expired", authority.certify("client", 2001));
            certificates.put("stranger", stranger.certify("client", 4000));
            certificates
        }

        fn put(&self, name: &str, (certificate, key): (String, String)) {
            fs::write(self.path(&format!("{name}.crt")), certificate).unwrap();
            fs::write(self.path(&format!("{name}.key")), key).unwrap();
        }

        /// Starts a server, and returns its port for TLS.
        fn serve(&self, clients: &str) -> (RedisServer, u16) {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
            let server = RedisServer::builder()
                .arg("tls-port", &port.to_string())
                .arg("tls-cert-file", &self.text("redis.crt"))
                .arg("tls-key-file", &self.text("redis.key"))
                .arg("tls-ca-cert-file", &self.text("ca.crt"))
                .arg("tls-auth-clients", clients)
                .start();
            (server, port)
        }

        /// A configuration with the certificate of a client.
        fn config(&self, port: u16, name: &str) -> RedisConfig {
            RedisConfig::new(format!("rediss://localhost:{port}"))
                .tls_ca_file(self.path("ca.crt"))
                .tls_cert_file(self.path(&format!("{name}.crt")))
                .tls_key_file(self.path(&format!("{name}.key")))
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
        let (server, port) = certificates.serve("no");
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

    #[tokio::test]
    async fn a_server_that_asks_for_a_certificate_lets_in_those_who_have_one_and_an_error_names_the_field() {
        let certificates = Certificates::new();
        let (server, port) = certificates.serve("yes");
        let (mut config, counter) = (certificates.config(port, "client"), Arc::new(Counter::default()));
        let backend = RedisBackend::with_config(&config).unwrap();
        backend.attach(watch(&counter, Duration::from_secs(2), None)).await.unwrap();
        backend.set(b"n:k", Bytes::from_static(b"v"), None).await.unwrap();
        assert_eq!(server.command(&["GET", "n:k"]).as_str(), "v");

        for client in ["expired", "stranger"] {
            let refused = RedisBackend::with_config(&certificates.config(port, client)).unwrap();
            let error = refused.attach(watch(&counter, Duration::from_secs(2), None)).await.unwrap_err();
            assert!(error.to_string().contains("`tls_cert_file`"), "{client}: {error}");
        }
        (config.tls_cert_file, config.tls_key_file) = (None, None);
        let refused = RedisBackend::with_config(&config).unwrap();
        let error = refused.attach(watch(&counter, Duration::from_secs(2), None)).await.unwrap_err();
        assert!(error.to_string().contains("client certificate"), "{error}");
        assert!(error.to_string().contains("`tls_cert_file`"), "{error}");
        eprintln!("without a certificate: {error}");
    }

    #[tokio::test]
    async fn a_certificate_that_is_replaced_is_used_by_the_next_connection() {
        let certificates = Certificates::new();
        let (server, port) = certificates.serve("yes");
        let own = |name: &str| {
            for part in ["crt", "key"] {
                fs::copy(certificates.path(&format!("{name}.{part}")), certificates.path(&format!("own.{part}")))
                    .unwrap();
            }
        };
        own("client");
        let backend = RedisBackend::with_config(&certificates.config(port, "own")).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_secs(2), None)).await.unwrap();
        let says = |words: &'static str| {
            let link = backend.link();
            matches!(link, LinkState::Down { cause, .. } if cause.to_string().contains(words))
        };
        own("expired");
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        eventually("the expired certificate is refused", || says("`tls_cert_file`")).await;
        fs::remove_file(certificates.path("own.key")).unwrap();
        eventually("the missing key is named", || says("`tls_key_file` cannot be read")).await;
        own("client");
        eventually("a new link", || Counter::of(&counter.ups) == 2).await;
    }

    #[test]
    fn a_certificate_or_key_that_cannot_be_used_is_an_error_that_names_the_field() {
        let certificates = Certificates::new();
        let field = |certificate: &str, key: &str| {
            let config = RedisConfig::new("rediss://localhost")
                .tls_cert_file(certificates.path(certificate))
                .tls_key_file(certificates.path(key));
            let error = RedisBackend::with_config(&config).unwrap_err();
            (error.field().to_owned(), error.to_string())
        };
        for (certificate, key, expected, words) in [
            ("nowhere.crt", "client.key", "tls_cert_file", "cannot be read"),
            ("client.crt", "nowhere.key", "tls_key_file", "cannot be read"),
            ("client.key", "client.key", "tls_cert_file", "no certificate"),
            ("client.crt", "client.crt", "tls_key_file", "no private key"),
            ("client.crt", "redis.key", "tls_key_file", "is not the key of"),
        ] {
            let (field, error) = field(certificate, key);
            assert!(field == expected && error.contains(words), "{certificate} {key}: {error}");
        }
    }

    #[tokio::test]
    async fn the_nodes_of_a_cluster_are_known_by_the_names_that_they_announce() {
        if RedisServer::start().version() < (7, 0, 0) {
            println!("nodes before 7.0 announce no names");
            return;
        }
        let certificates = Certificates::new();
        let [certificate, key, authority] = ["redis.crt", "redis.key", "ca.crt"].map(|name| certificates.text(name));
        let directives = [
            ("tls-cert-file", &*certificate),
            ("tls-key-file", &*key),
            ("tls-ca-cert-file", &*authority),
            ("tls-auth-clients", "no"),
        ];
        let cluster = RedisCluster::over_tls(3, Duration::from_secs(2), &directives);
        let config = RedisConfig::new(cluster.url()).tls_ca_file(certificates.path("ca.crt"));
        let backend = RedisBackend::with_config(&config).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, Duration::from_secs(1), None)).await.unwrap();
        // The certificate is for the name and for no address.
        let keys: Vec<Bytes> = (0..60).map(|number| format!("n:{number}").into()).collect();
        for key in &keys {
            backend.set(key, key.clone(), None).await.unwrap();
        }
        for (key, found) in keys.iter().zip(backend.get_many(&keys).await) {
            assert_eq!(found.unwrap().unwrap().value, key);
        }
        let mut names = (0..).map(|number| format!("n:{number}"));
        let key = names.find(|key| cluster.owner(cluster.slot(key)) == Some(0)).unwrap();
        let (from, slot) = (backend.route(key.as_bytes()), cluster.slot(&key));
        cluster.begin_migration(slot, 0, 1);
        cluster.set_owner(slot, 0, 1);
        eventually("a redirection is followed to a name", || backend.route(key.as_bytes()) != from).await;
        assert_eq!(backend.get(key.as_bytes()).await.unwrap(), None);
        eventually("leases are renewed", || Counter::of(&counter.proofs) > 6).await;
    }
}
