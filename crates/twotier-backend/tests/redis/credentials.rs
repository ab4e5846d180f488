//! Who we are: from a file, from a provider; followed when it changes, renewed before it expires.

mod live {
    use std::{
        error::Error,
        fs,
        path::PathBuf,
        sync::{
            Arc, Mutex,
            atomic::{AtomicU64, Ordering::SeqCst},
        },
        time::Duration,
    };

    use tokio::time::Instant;
    use twotier_backend::{Backend, CredentialsProvider, RedisBackend, RedisCredentials, async_trait};
    use twotier_core::{BackendError, BackendErrorKind, LinkState, RedisConfig};
    use twotier_testkit::RedisServer;

    use crate::support::{Counter, eventually, watch};

    const BOUND: Duration = Duration::from_secs(2);

    /// A file, removed in the end.
    struct Secret(PathBuf);

    impl Secret {
        fn new(text: &str) -> Self {
            let name = format!("twotier-password-{}-{}", std::process::id(), fastrand::u64(..));
            let secret = Self(std::env::temp_dir().join(name));
            secret.write(text);
            secret
        }

        fn write(&self, text: &str) {
            fs::write(&self.0, text).unwrap();
        }
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            // What is left behind in the temporary directory harms nobody.
            let _ = fs::remove_file(&self.0);
        }
    }

    /// What a provider does when it is asked.
    #[derive(Clone)]
    enum Behaviour {
        Give(RedisCredentials),
        Fail,
        Panic,
        Hang,
    }

    /// A provider that does what it was last set to, and counts.
    #[derive(Clone)]
    struct Scripted(Arc<(Mutex<Behaviour>, AtomicU64)>);

    impl Scripted {
        fn new(behaviour: Behaviour) -> Self {
            Self(Arc::new((Mutex::new(behaviour), AtomicU64::new(0))))
        }

        fn set(&self, behaviour: Behaviour) {
            *self.0.0.lock().unwrap() = behaviour;
        }

        fn asked(&self) -> u64 {
            self.0.1.load(SeqCst)
        }
    }

    #[async_trait]
    impl CredentialsProvider for Scripted {
        async fn credentials(&self) -> Result<RedisCredentials, Box<dyn Error + Send + Sync>> {
            self.0.1.fetch_add(1, SeqCst);
            let answer = self.0.0.lock().unwrap().clone();
            match answer {
                Behaviour::Give(credentials) => Ok(credentials),
                Behaviour::Fail => Err("the vault is sealed".into()),
                Behaviour::Panic => panic!("the provider of a test panics"),
                Behaviour::Hang => std::future::pending().await,
            }
        }
    }

    fn with_users(users: &[(&str, &str)]) -> RedisServer {
        let server = RedisServer::builder();
        users
            .iter()
            .fold(server, |server, (user, password)| server.acl_user(&format!("{user} on >{password} ~* &* +@all")))
            .start()
    }

    /// How many connections the server has as this user.
    fn connections(server: &RedisServer, user: &str) -> usize {
        let list = server.command(&["CLIENT", "LIST"]);
        list.as_str().lines().filter(|line| line.contains(&format!(" user={user} "))).count()
    }

    fn at(server: &RedisServer) -> RedisConfig {
        RedisConfig::new(format!("redis://{}", server.addr()))
    }

    fn cause(error: &BackendError) -> &BackendError {
        error.source().and_then(|cause| cause.downcast_ref()).unwrap_or(error)
    }

    #[tokio::test]
    async fn a_rotated_password_is_followed_without_a_restart_and_no_call_fails_for_longer_than_a_new_link_takes() {
        let server = with_users(&[("app", "old")]);
        let secret = Secret::new("old\n");
        let config = at(&server).user("app").password_file(&secret.0);
        let (backend, counter) = (RedisBackend::with_config(&config).unwrap(), Arc::new(Counter::default()));
        backend.attach(watch(&counter, BOUND, None)).await.unwrap();
        backend.set(b"n:k", "v".into(), None).await.unwrap();
        for (number, password) in ["new\r\n", "newer"].into_iter().enumerate() {
            secret.write(password);
            assert!(
                server.command(&["ACL", "SETUSER", "app", "resetpass", &format!(">{}", password.trim_end())]).is_ok()
            );
            assert_eq!(connections(&server, "app"), 2);
            server.command(&["CLIENT", "KILL", "USER", "app"]);
            let killed = Instant::now();
            let ups = number as u64 + 2;
            eventually("a new link", || Counter::of(&counter.ups) == ups).await;
            // The calls go on at once: the first that is made now has an answer.
            assert_eq!(backend.get(b"n:k").await.unwrap().unwrap().value, "v");
            eprintln!("a new link with the new password after {:?}", killed.elapsed());
        }
        secret.write("wrong");
        server.command(&["CLIENT", "KILL", "USER", "app"]);
        let refused =
            || matches!(backend.link(), LinkState::Down { cause, .. } if cause.to_string().contains("`password_file`"));
        eventually("the refusal names the field", refused).await;
        secret.write("");
        let empty =
            || matches!(backend.link(), LinkState::Down { cause, .. } if cause.to_string().contains("is empty"));
        eventually("the empty file is named", empty).await;
        fs::remove_file(&secret.0).unwrap();
        let gone =
            || matches!(backend.link(), LinkState::Down { cause, .. } if cause.to_string().contains("cannot be read"));
        eventually("the missing file is named", gone).await;
        secret.write("newer");
        eventually("a new link", || Counter::of(&counter.ups) == 4).await;
    }

    #[tokio::test]
    async fn a_provider_is_asked_at_every_connection_and_what_it_gives_is_used() {
        let server = with_users(&[("one", "p1"), ("two", "p2")]);
        let provider = Scripted::new(Behaviour::Give(RedisCredentials::user("one", "p1")));
        let backend = RedisBackend::with_credentials(&at(&server), provider.clone()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, BOUND, None)).await.unwrap();
        assert_eq!((provider.asked(), connections(&server, "one")), (2, 2));
        provider.set(Behaviour::Give(RedisCredentials::user("two", "p2")));
        server.command(&["CLIENT", "KILL", "USER", "one"]);
        eventually("a new link", || Counter::of(&counter.ups) == 2).await;
        assert_eq!((provider.asked(), connections(&server, "one"), connections(&server, "two")), (4, 0, 2));
        assert_eq!(server.calls(&["auth"]), 0, "what does not expire is not renewed");
    }

    #[tokio::test]
    async fn credentials_that_expire_are_renewed_on_every_live_connection() {
        let server = with_users(&[("one", "p1"), ("two", "p2")]);
        let lifetime = Duration::from_millis(400);
        let provider = Scripted::new(Behaviour::Give(RedisCredentials::user("one", "p1").valid_for(lifetime)));
        let backend = RedisBackend::with_credentials(&at(&server), provider.clone()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, BOUND, None)).await.unwrap();
        // As the server sees it: the same two connections are another user's now.
        provider.set(Behaviour::Give(RedisCredentials::user("two", "p2").valid_for(lifetime)));
        eventually("both are renewed", || connections(&server, "two") == 2 && connections(&server, "one") == 0).await;
        eventually("they are renewed again", || server.calls(&["auth"]) >= 6).await;
        assert_eq!((Counter::of(&counter.ups), Counter::of(&counter.downs)), (1, 0));
        // Reports still arrive on the connection that was authenticated anew.
        server.command(&["SET", "n:k", "v"]);
        eventually("the report", || Counter::of(&counter.changed) >= 1).await;
        drop(backend);
        eventually("both are closed", || connections(&server, "two") == 0).await;
        let asked = provider.asked();
        tokio::time::sleep(lifetime).await;
        assert_eq!(provider.asked(), asked, "nobody asks for connections that are gone");
    }

    #[tokio::test]
    async fn a_renewal_that_fails_leaves_the_link_as_it_is_and_is_tried_again() {
        let server = with_users(&[("one", "p1"), ("two", "p2")]);
        let lifetime = Duration::from_millis(200);
        let provider = Scripted::new(Behaviour::Give(RedisCredentials::user("one", "p1").valid_for(lifetime)));
        let config = at(&server).connect_timeout(Duration::from_millis(200));
        let backend = RedisBackend::with_credentials(&config, provider.clone()).unwrap();
        let counter = Arc::new(Counter::default());
        backend.attach(watch(&counter, BOUND, None)).await.unwrap();
        let answers =
            [Behaviour::Give(RedisCredentials::user("one", "no")), Behaviour::Fail, Behaviour::Panic, Behaviour::Hang];
        for (answer, user) in answers.into_iter().zip(["two", "one", "two", "one"]) {
            let asked = provider.asked();
            provider.set(answer);
            eventually("it was asked again after it failed", || provider.asked() >= asked + 3).await;
            backend.get(b"n:k").await.unwrap();
            let password = if user == "one" { "p1" } else { "p2" };
            provider.set(Behaviour::Give(RedisCredentials::user(user, password).valid_for(lifetime)));
            eventually("both are renewed", || connections(&server, user) == 2).await;
        }
        assert_eq!((Counter::of(&counter.ups), Counter::of(&counter.downs)), (1, 0));
    }

    #[tokio::test]
    async fn a_provider_that_fails_panics_or_never_answers_is_the_error_of_that_attempt() {
        let server = with_users(&[("one", "p1")]);
        let provider = Scripted::new(Behaviour::Fail);
        let config = at(&server).connect_timeout(Duration::from_millis(200));
        let backend = RedisBackend::with_credentials(&config, provider.clone()).unwrap();
        for (answer, words) in [
            (Behaviour::Fail, "provider of credentials failed"),
            (Behaviour::Panic, "provider of credentials panicked"),
            (Behaviour::Hang, "the request for credentials was not answered for 200 ms"),
        ] {
            provider.set(answer);
            let counter = Arc::new(Counter::default());
            let began = Instant::now();
            let error = backend.attach(watch(&counter, BOUND, None)).await.unwrap_err();
            assert_eq!(cause(&error).kind(), BackendErrorKind::Unavailable);
            assert!(cause(&error).to_string().contains(words), "{error}");
            assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        }
        let counter = Arc::new(Counter::default());
        provider.set(Behaviour::Give(RedisCredentials::user("one", "wrong")));
        let error = backend.attach(watch(&counter, BOUND, None)).await.unwrap_err();
        assert!(error.kind() == BackendErrorKind::Denied && error.to_string().contains("of the provider"), "{error}");
        provider.set(Behaviour::Give(RedisCredentials::user("one", "p1")));
        backend.attach(watch(&counter, BOUND, None)).await.unwrap();
    }
}
