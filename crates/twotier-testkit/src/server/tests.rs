use super::*;

#[test]
fn credentials_cannot_break_out_of_a_url() {
    assert_eq!(percent_encoded("p@ss:w/rd é"), "p%40ss%3Aw%2Frd%20%C3%A9");
}

mod live {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_server_answers_on_both_its_doors() {
        let server = RedisServer::start();
        assert!(server.command(&["SET", "k", "v"]).is_ok());
        let mut other = Client::tcp(server.addr()).unwrap();
        assert_eq!(other.command(&["GET", "k"]).as_str(), "v");
        assert!(other.command(&["GET", "absent"]).is_nil());
        assert_eq!(other.command(&[b"SET".as_slice(), b"\0\r\n", b"\xff"]).as_str(), "OK");
        assert_eq!(server.command(&[b"GET".as_slice(), b"\0\r\n"]).as_bytes(), b"\xff");
        assert!(server.command(&["LPUSH", "k", "x"]).is_error());
        assert!(server.version() >= (6, 0, 0));
    }

    #[test]
    fn a_server_ends_with_its_handle() {
        let server = RedisServer::start();
        let (addr, folder) = (server.addr(), server.socket().parent().unwrap().to_owned());
        assert!(TcpStream::connect(addr).is_ok());
        drop(server);
        assert!(TcpStream::connect(addr).is_err());
        assert!(!folder.exists());
    }

    #[test]
    fn a_paused_server_ends_with_its_handle_too() {
        let server = RedisServer::start();
        let addr = server.addr();
        server.pause();
        drop(server);
        assert!(TcpStream::connect(addr).is_err());
    }

    #[test]
    fn commands_are_counted_by_the_server() {
        let server = RedisServer::start();
        server.command(&["SET", "k", "v"]);
        server.reset_stats();
        assert_eq!(server.calls(&["get", "set"]), 0);
        for _ in 0..3 {
            server.command(&["GET", "k"]);
        }
        server.command(&["MGET", "k", "l"]);
        assert_eq!(server.calls(&["get"]), 3);
        assert_eq!(server.calls(&["get", "mget", "set"]), 4);
        assert_eq!(server.commandstats().get("config|resetstat"), Some(&1));
    }

    #[test]
    fn a_killed_server_is_gone_and_a_restarted_one_is_empty() {
        let server = RedisServer::start();
        let addr = server.addr();
        server.command(&["SET", "k", "v"]);
        server.kill();
        assert!(server.try_command(&["PING"]).is_err());
        assert!(TcpStream::connect(addr).is_err());
        server.restart();
        assert_eq!(server.addr(), addr);
        assert!(server.command(&["GET", "k"]).is_nil());
    }

    #[test]
    fn a_paused_server_says_nothing_until_it_is_resumed() {
        let server = RedisServer::start();
        let mut client = server.client();
        server.pause();
        client.send(&["PING"]).unwrap();
        let (done, answer) = std::sync::mpsc::channel();
        let reader = thread::spawn(move || done.send(client.receive().unwrap()));
        let quiet = Duration::from_millis(50);
        assert!(answer.recv_timeout(quiet).is_err());
        server.resume();
        assert_eq!(answer.recv().unwrap().as_str(), "PONG");
        reader.join().unwrap().unwrap();
    }

    #[test]
    fn passwords_and_users_are_asked_for() {
        let server = RedisServer::builder()
            .password("s3cret")
            .acl_user("app on >pw ~app:* +get +set +client|tracking -@dangerous")
            .arg("maxmemory", "8mb")
            .start();
        assert_eq!(server.url(), format!("redis://:s3cret@127.0.0.1:{}", server.port()));
        assert_eq!(server.command(&["CONFIG", "GET", "maxmemory"]).as_array()[1].as_str(), "8388608");

        let mut stranger = Client::tcp(server.addr()).unwrap();
        assert!(stranger.command(&["GET", "app:k"]).is_error());
        assert!(stranger.command(&["AUTH", "app", "pw"]).is_ok());
        assert!(stranger.command(&["GET", "app:k"]).is_nil());
        assert!(stranger.command(&["GET", "other:k"]).is_error());
    }

    #[test]
    fn a_server_may_have_no_port_at_all() {
        let server = RedisServer::builder().unix_only().start();
        assert_eq!(server.command(&["PING"]).as_str(), "PONG");
        assert!(server.unix_url().starts_with("unix:///"));
        assert_eq!(server.command(&["CONFIG", "GET", "port"]).as_array()[1].as_str(), "0");
    }

    #[test]
    fn a_server_that_cannot_start_says_why() {
        let started = std::panic::catch_unwind(|| RedisServer::builder().arg("no-such-directive", "1").start());
        let message = *started.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("no-such-directive"), "{message}");
    }
}
