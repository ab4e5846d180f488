//! No password in what is logged, printed or returned, at any level.

mod live {
    use std::{
        error::Error,
        fmt::{Debug, Write as _},
        fs,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tracing::Level;
    use twotier::{CredentialsProvider, RedisBackend, RedisConfig, RedisCredentials, async_trait};
    use twotier_testkit::RedisServer;

    use crate::{
        ALONE,
        lines::Lines,
        support::{eventually, text},
    };

    const RIGHT: &str = "sekret-right";
    const WRONG: &str = "sekret-wrong";

    /// Gives this password, for a while only.
    #[derive(Clone)]
    struct Vault(Arc<Mutex<&'static str>>);

    #[async_trait]
    impl CredentialsProvider for Vault {
        async fn credentials(&self) -> Result<RedisCredentials, Box<dyn Error + Send + Sync>> {
            let password = *self.0.lock().unwrap();
            Ok(RedisCredentials::user("app", password).valid_for(Duration::from_millis(100)))
        }
    }

    /// An error and what is behind it, in every form.
    fn spelled(error: &(dyn Error + 'static)) -> String {
        let chain = std::iter::successors(Some(error), |&error| error.source());
        chain.fold(String::new(), |mut text, error| {
            write!(text, "{error} {error:?} {error:#?} ").unwrap();
            text
        })
    }

    #[tokio::test]
    async fn no_password_is_in_a_line_at_trace_an_error_or_what_debug_prints() {
        let _alone = ALONE.lock().await;
        let (lines, mut printed) = (Lines::default(), String::new());
        // Everything runs on this thread.
        let _logged = lines.take(Level::TRACE);
        let server = RedisServer::builder().acl_user(&format!("app on >{RIGHT} ~* &* +@all")).start();
        let plain = RedisConfig::new(format!("redis://{}", server.addr()));
        let file = std::env::temp_dir().join(format!("twotier-{}-{}", std::process::id(), fastrand::u64(..)));
        let vault = Vault(Arc::new(Mutex::new(RIGHT)));
        let mut show = |thing: &dyn Debug| write!(printed, "{thing:?} {thing:#?}").unwrap();
        for (number, password) in [RIGHT, WRONG].into_iter().enumerate() {
            fs::write(&file, password).unwrap();
            *vault.0.lock().unwrap() = password;
            let in_url = RedisConfig::new(server.url_as("app", password));
            let in_file = plain.clone().user("app").password_file(&file);
            for config in [&in_url, &in_file] {
                show(config);
            }
            let backends = [
                RedisBackend::with_config(&in_url).unwrap(),
                RedisBackend::with_config(&in_file).unwrap(),
                RedisBackend::with_credentials(&plain, vault.clone()).unwrap(),
            ];
            let twice = RedisBackend::with_credentials(&in_url, vault.clone()).unwrap_err();
            show(&spelled(&twice));
            for (kind, backend) in backends.into_iter().enumerate() {
                show(&backend);
                let cache = text().namespace(format!("n{number}{kind}")).build_lazy(backend).unwrap();
                let link = || cache.health().link;
                if password == RIGHT {
                    eventually("the link is up", async || link().is_up()).await;
                    cache.set("k", "v".to_owned()).await.unwrap();
                    if kind == 2 {
                        // The next renewal is refused, and then the next link.
                        *vault.0.lock().unwrap() = WRONG;
                        eventually("a refused renewal", async || lines.text().contains("not renewed")).await;
                        server.command(&["CLIENT", "KILL", "USER", "app"]);
                    }
                }
                if password == WRONG || kind == 2 {
                    eventually("it is refused", async || format!("{:?}", link()).contains("refused the cred")).await;
                    show(&spelled(&cache.get("k").await.unwrap_err()));
                }
                show(&cache.health());
                show(&cache);
                show(&cache.stats());
            }
        }
        fs::remove_file(&file).unwrap();
        let logged = lines.text();
        assert!(logged.contains("DEBUG") && logged.contains("link"), "it was logged: {logged}");
        for text in [logged, printed] {
            assert!(!text.contains("sekret"), "{text}");
        }
        eprintln!("{} lines were searched", lines.text().lines().count());
    }
}
