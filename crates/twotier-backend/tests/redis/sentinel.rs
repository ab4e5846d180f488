//! Sentinels: a majority says where the primary is, and whether it still is.

mod live {
    use std::{io, net::Ipv4Addr, sync::Arc, time::Duration};

    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{TcpListener, TcpStream},
        sync::watch::{Receiver, Sender},
        time::Instant,
    };
    use twotier_backend::{Backend, RedisBackend};
    use twotier_core::{BackendErrorKind, RedisConfig};
    use twotier_testkit::{RedisServer, SentinelGroup};

    use crate::support::{Counter, eventually, watch};

    const BOUND: Duration = Duration::from_secs(2);
    /// What the scripted sentinels say they take to find a server dead: this, or so long that they are asked seldom.
    const DOWN_AFTER: Duration = Duration::from_millis(600);
    const LONG: Duration = Duration::from_secs(30);

    /// What a scripted sentinel does.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Script {
        Names(u16),
        FindsDead(u16),
        KnowsNone,
        Silent,
    }

    /// A sentinel that says what the test wants.
    struct Scripted {
        port: u16,
        script: Sender<Script>,
        /// Counts what it published.
        published: Sender<u64>,
    }

    impl Scripted {
        async fn start(script: Script, down_after: Duration) -> Self {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let (script, published) = (Sender::new(script), Sender::new(0));
            let (said, publishes) = (script.subscribe(), published.subscribe());
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(serve(stream, down_after, said.clone(), publishes.clone()));
                }
            });
            Self { port, script, published }
        }

        fn says(&self, script: Script) {
            self.script.send_replace(script);
        }

        fn publishes(&self) {
            self.published.send_modify(|published| *published += 1);
        }
    }

    async fn serve(
        stream: TcpStream,
        down_after: Duration,
        mut script: Receiver<Script>,
        mut published: Receiver<u64>,
    ) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        loop {
            let words = tokio::select! {
                words = request(&mut reader) => words?,
                _ = published.changed() => {
                    writer.write_all(b">3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$1\r\nx\r\n").await?;
                    continue;
                }
            };
            let Ok(said) = script.wait_for(|script| *script != Script::Silent).await.map(|script| *script) else {
                // The test is over.
                return Ok(());
            };
            let reply = match words[0].to_ascii_uppercase().as_str() {
                "HELLO" => "%3\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$8\r\nsentinel\r\n".to_owned(),
                "SUBSCRIBE" => ">3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n".to_owned(),
                "SENTINEL" => {
                    let (port, flags) = match said {
                        Script::FindsDead(port) => (port, "master,s_down"),
                        Script::Names(port) => (port, "master"),
                        Script::KnowsNone | Script::Silent => (0, ""),
                    };
                    let down_after = down_after.as_millis().to_string();
                    let port = port.to_string();
                    let fields =
                        ["ip", "127.0.0.1", "port", &port, "flags", flags, "down-after-milliseconds", &down_after];
                    match said {
                        Script::KnowsNone => "-ERR No such master with that name\r\n".to_owned(),
                        _ => fields.iter().fold("%4\r\n".to_owned(), |reply, field| {
                            format!("{reply}${}\r\n{field}\r\n", field.len())
                        }),
                    }
                }
                _ => "+OK\r\n".to_owned(),
            };
            writer.write_all(reply.as_bytes()).await?;
        }
    }

    /// Reads one request. Dropped between two lines only, since clients send requests whole.
    async fn request(reader: &mut BufReader<tokio::net::tcp::OwnedReadHalf>) -> io::Result<Vec<String>> {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let number = |line: &str| line[1..].trim().parse::<usize>().unwrap();
        let mut words = Vec::new();
        for _ in 0..number(&line) {
            let mut length = String::new();
            reader.read_line(&mut length).await?;
            let mut word = vec![0; number(&length) + 2];
            reader.read_exact(&mut word).await?;
            words.push(String::from_utf8_lossy(&word[..word.len() - 2]).into_owned());
        }
        Ok(words)
    }

    async fn three(scripts: [Script; 3], down_after: Duration) -> ([Scripted; 3], RedisConfig) {
        let [a, b, c] = scripts;
        let start = |script| Scripted::start(script, down_after);
        let sentinels = [start(a).await, start(b).await, start(c).await];
        let hosts: Vec<String> = sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        let config = RedisConfig::new(format!("redis+sentinel://{}/shop", hosts.join(",")));
        (sentinels, config.connect_timeout(Duration::from_millis(300)))
    }

    #[tokio::test]
    async fn the_primary_is_where_a_majority_of_the_sentinels_says_and_nowhere_without_one() {
        let (one, other) = (RedisServer::start(), RedisServer::start());
        let (here, there) = (Script::Names(one.port()), Script::Names(other.port()));
        for (scripts, server) in [
            ([here, here, here], Some(&one)),
            ([here, there, there], Some(&other)),
            ([Script::Silent, there, there], Some(&other)),
            ([here, Script::KnowsNone, here], Some(&one)),
            ([here, there, Script::Silent], None),
            ([here, Script::KnowsNone, Script::KnowsNone], None),
        ] {
            let (_sentinels, config) = three(scripts, LONG).await;
            let (backend, counter) = (RedisBackend::with_config(&config).unwrap(), Arc::new(Counter::default()));
            let began = Instant::now();
            let attached = backend.attach(watch(&counter, BOUND, None)).await;
            match server {
                Some(server) => {
                    attached.unwrap();
                    backend.set(b"n:k", "v".into(), None).await.unwrap();
                    assert_eq!(server.command(&["GETDEL", "n:k"]).as_str(), "v", "{scripts:?}");
                }
                None => {
                    let error = attached.unwrap_err();
                    assert_eq!(error.kind(), BackendErrorKind::Unavailable);
                    assert!(error.to_string().contains("sentinels say where the primary is"), "{error}");
                }
            }
            assert!(began.elapsed() < BOUND, "a sentinel that is silent holds nobody up: {:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn a_majority_that_names_another_primary_ends_the_link_and_a_hint_makes_it_end_at_once() {
        let (one, other) = (RedisServer::start(), RedisServer::start());
        let (sentinels, config) = three([Script::Names(one.port()); 3], LONG).await;
        let (backend, counter) = (RedisBackend::with_config(&config).unwrap(), Arc::new(Counter::default()));
        backend.attach(watch(&counter, BOUND / 10, None)).await.unwrap();
        let mut took = Vec::new();
        for (round, server) in [&other, &one, &other, &one, &other].into_iter().enumerate() {
            sentinels[0].says(Script::Names(server.port()));
            let ups = Counter::of(&counter.ups);
            // One of three decides nothing, however often it is asked.
            sentinels[0].publishes();
            let proofs = Counter::of(&counter.proofs);
            // After so many the link has lived for long enough to be a good one, after which pauses start over.
            eventually("three proofs of life", || Counter::of(&counter.proofs) > proofs + 2).await;
            assert_eq!(Counter::of(&counter.ups), ups);
            sentinels[1].says(Script::Names(server.port()));
            let began = Instant::now();
            sentinels[1].publishes();
            eventually("the link to the other", || Counter::of(&counter.ups) > ups).await;
            took.push(began.elapsed());
            backend.set(b"n:k", format!("{round}").into(), None).await.unwrap();
            assert_eq!(server.command(&["GETDEL", "n:k"]).as_str(), format!("{round}"));
            sentinels[2].says(Script::Names(server.port()));
        }
        took.sort();
        // By itself each is asked every 500 ms; new links take some milliseconds, and pauses less than that.
        assert!(took[2] < Duration::from_millis(100), "{took:?}");
        eprintln!("from the second sentinel's word to the next link: {took:?}");
    }

    #[tokio::test]
    async fn without_a_majority_that_vouches_no_lease_is_renewed_for_longer_than_sentinels_take_to_find_a_server_dead()
    {
        let server = RedisServer::start();
        let here = Script::Names(server.port());
        for without in [Script::Silent, Script::FindsDead(server.port())] {
            let (sentinels, config) = three([here; 3], DOWN_AFTER).await;
            let config = config.connect_timeout(Duration::from_secs(20));
            let (backend, counter) = (RedisBackend::with_config(&config).unwrap(), Arc::new(Counter::default()));
            backend.attach(watch(&counter, Duration::from_millis(400), None)).await.unwrap();
            let proofs = || Counter::of(&counter.proofs);
            sentinels[0].says(without);
            let before = proofs();
            eventually("two of three are a majority", || proofs() > before + 8).await;
            sentinels[1].says(without);
            let began = Instant::now();
            // Heartbeats come every 100 ms: seven of them without a proof are no accident.
            let mut last = (proofs(), Instant::now());
            while last.1.elapsed() < Duration::from_millis(700) {
                assert!(began.elapsed() < BOUND * 3, "proofs go on");
                tokio::time::sleep(Duration::from_millis(5)).await;
                if proofs() > last.0 {
                    last = (proofs(), Instant::now());
                }
            }
            let lasted = last.1 - began;
            assert!(lasted < DOWN_AFTER + Duration::from_millis(500), "{lasted:?}");
            let heartbeats = server.calls(&["hello"]);
            eventually("heartbeats go on", || server.calls(&["hello"]) > heartbeats).await;
            backend.get(b"n:k").await.unwrap();
            sentinels[1].says(here);
            let before = proofs();
            eventually("with a majority the lease is renewed", || proofs() > before).await;
            assert_eq!((Counter::of(&counter.ups), Counter::of(&counter.downs)), (1, 0), "the link stayed up");
            eprintln!("{without:?}: the last proof came {lasted:?} after the majority was lost");
        }
    }

    #[tokio::test]
    async fn real_sentinels_with_users_of_their_own_are_asked_and_one_that_is_lost_is_not_missed() {
        let group = SentinelGroup::start(0, Duration::from_millis(1000));
        for sentinel in group.sentinels() {
            for words in [
                [
                    "ACL",
                    "SETUSER",
                    "watcher",
                    "on",
                    ">sekret",
                    "+sentinel|master",
                    "+subscribe",
                    "+hello",
                    "+ping",
                    "+client",
                    "&*",
                ]
                .as_slice(),
                &["ACL", "SETUSER", "default", "off"],
            ] {
                assert!(sentinel.command(words).unwrap().is_ok(), "{words:?}");
            }
        }
        let refused = RedisBackend::new(group.url()).unwrap().ready().await.unwrap_err();
        let refused = format!("{refused:?}");
        assert!(refused.contains("0 of 3 sentinels"), "{refused}");
        let url = format!("{}?sentinel_user=watcher&sentinel_pass=sekret", group.url());
        let (backend, counter) = (RedisBackend::new(url).unwrap(), Arc::new(Counter::default()));
        backend.attach(watch(&counter, BOUND / 5, None)).await.unwrap();
        group.sentinels()[0].kill();
        let proofs = Counter::of(&counter.proofs);
        eventually("for longer than its word lasts", || Counter::of(&counter.proofs) > proofs + 12).await;
        group.servers()[0].command(&["CLIENT", "KILL", "TYPE", "normal"]);
        eventually("a new link", || Counter::of(&counter.ups) == 2).await;
        backend.get(b"n:k").await.unwrap();
    }
}
