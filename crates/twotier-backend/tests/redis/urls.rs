//! A URL connects as the user and to the database that it names, or not at all.

mod live {
    use std::{collections::BTreeSet, sync::Arc, time::Duration};

    use twotier_backend::{Backend, BackendResult, RedisBackend};
    use twotier_core::BackendErrorKind;
    use twotier_testkit::RedisServer;

    use crate::support::{Counter, watch};

    /// Attaches by a URL, and returns as whom and where the server sees the connections.
    async fn seen(server: &RedisServer, url: &str) -> BackendResult<BTreeSet<String>> {
        let backend = RedisBackend::new(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        backend.attach(watch(&Arc::new(Counter::default()), Duration::from_secs(2), None)).await?;
        let clients = server.command(&["CLIENT", "LIST"]);
        // RESP3 is spoken by us, and not by the test's own connection.
        let ours = clients.as_str().lines().filter(|client| client.contains("flags=t") || client.contains("resp=3"));
        let field = |client: &str, name: &str| {
            client.split(' ').find_map(|field| field.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        Ok(ours.map(|client| format!("{} {}", field(client, "user="), field(client, "db="))).collect())
    }

    fn server() -> RedisServer {
        RedisServer::builder()
            .acl_user("app on >a+b%@: ~* &* +@all")
            .acl_user("open on nopass ~* &* +@all")
            .acl_user("a+b on >p ~* &* +@all")
            .start()
    }

    #[tokio::test]
    async fn every_honoured_form_of_url_connects_as_whom_and_where_it_says() {
        let server = server();
        let (at, socket) = (server.addr(), server.socket().display().to_string());
        for (url, expected) in [
            (format!("redis://{at}"), "default 0"),
            (format!("REDIS://{at}/7"), "default 7"),
            (format!("valkey://app:a+b%25%40%3A@{at}/3"), "app 3"),
            (format!("redis://app:a+b%25@:@{at}"), "app 0"),
            (format!("redis://a+b:p@{at}"), "a+b 0"),
            (format!("redis://open:@{at}"), "open 0"),
            (format!("redis://open:anything@{at}"), "open 0"),
            (format!("unix://{socket}"), "default 0"),
            (format!("unix://{socket}?user=app&pass=a+b%25@:&db=2"), "app 2"),
            (format!("redis+unix://{socket}?user=a%2Bb&pass=p"), "a+b 0"),
            (format!("unix://{socket}?user=open&pass="), "open 0"),
        ] {
            assert_eq!(seen(&server, &url).await.unwrap(), [expected.to_owned()].into(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_user_that_is_not_let_in_by_its_url_is_not_let_in_as_another() {
        let server = server();
        for credentials in ["app:", "app:a%20b%25@:", "nobody:p", "nobody:"] {
            let error = seen(&server, &format!("redis://{credentials}@{}", server.addr())).await.unwrap_err();
            assert_eq!(error.kind(), BackendErrorKind::Denied, "{credentials}: {error}");
        }
    }
}
