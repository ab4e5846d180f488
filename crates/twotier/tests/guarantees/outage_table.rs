//! What each call does while the server is not well: the table of `docs/outages.md`, printed.

#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

mod live {
    use std::{
        collections::BTreeMap,
        fmt, io,
        sync::Arc,
        thread,
        time::{Duration, Instant},
    };

    use twotier::{Cache, CacheBuilder, Error, RedisBackend, codec::Text};
    use twotier_testkit::{Proxy, RedisServer};

    use crate::support::text;

    /// For how long calls are made in each state: long enough for the breaker to open.
    /// `TWOTIER_TEST_OUTAGE_SECONDS=3` takes its time, as for the table of the documentation.
    fn window() -> Duration {
        let seconds = std::env::var("TWOTIER_TEST_OUTAGE_SECONDS").ok();
        Duration::from_secs_f64(seconds.map_or(1.2, |seconds| seconds.parse().expect("a number")))
    }

    /// No call waits longer than its deadline of 500 ms; what is beyond is for a busy machine.
    const LONGEST: Duration = Duration::from_secs(3);

    /// A server, and what stands before it.
    struct Place {
        server: Arc<RedisServer>,
        proxy: Proxy,
    }

    /// How calls of one kind ended, and how long they took.
    #[derive(Default)]
    struct Calls {
        ended: BTreeMap<&'static str, usize>,
        took: Vec<Duration>,
    }

    impl Calls {
        async fn make<T>(&mut self, call: impl Future<Output = Result<T, Error>>) {
            let started = Instant::now();
            let ended = call.await;
            self.took.push(started.elapsed());
            *self.ended.entry(ended.map_or_else(|error| error.kind().name(), |_| "ok")).or_default() += 1;
        }
    }

    impl fmt::Display for Calls {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut took = self.took.clone();
            took.sort_unstable();
            let millis = |time: Duration| time.as_secs_f64() * 1e3;
            for (index, (ended, calls)) in self.ended.iter().enumerate() {
                let share = 100.0 * *calls as f64 / took.len() as f64;
                write!(f, "{}{ended} {share:.0} %", if index == 0 { "" } else { ", " })?;
            }
            let (middle, worst) = (took[took.len() / 2], took[took.len() - 1]);
            write!(f, "; {:.1} / {:.0} ms", millis(middle), millis(worst))
        }
    }

    /// Makes calls of every kind for a while, and prints a line of the table.
    async fn line(state: &str, cache: &Cache<String>, mut meanwhile: impl FnMut(Duration)) {
        let [mut hit, mut miss, mut load, mut set, mut delete, mut many] = [(); 6].map(|()| Calls::default());
        let row = async |_: String| Ok::<_, io::Error>("row".to_owned());
        let (started, before, window) = (Instant::now(), cache.stats().backend.loads, window());
        for round in 0_u64.. {
            if started.elapsed() > window {
                break;
            }
            meanwhile(started.elapsed());
            hit.make(cache.get("hot")).await;
            miss.make(cache.get(format!("cold {round}"))).await;
            load.make(cache.get_or_load(format!("loaded {}", round % 20), row)).await;
            set.make(cache.set(format!("set {round}"), "v")).await;
            delete.make(cache.delete(format!("set {round}"))).await;
            many.make(cache.get_many(&[format!("cold {round}"), "other".to_owned()])).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let calls = [hit, miss, load, set, delete, many];
        let cells = calls.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ");
        println!("| {state} | {cells} | {} |", cache.stats().backend.loads - before);
        for calls in &calls {
            assert!(calls.took.iter().all(|took| *took < LONGEST), "{state}: {calls}");
        }
        let [_, _, load, ..] = &calls;
        assert_eq!(load.ended.keys().collect::<Vec<_>>(), [&"ok"], "{state}: the origin is there");
    }

    async fn place() -> (Place, Cache<String>) {
        at(RedisServer::start(), text()).await
    }

    /// The same, whose copies may be stale.
    async fn kept(stale: Duration) -> (Place, Cache<String>) {
        at(RedisServer::start(), text().stale_if_error(stale)).await
    }

    /// The same, whose server takes its time to load its data.
    async fn loading() -> (Place, Cache<String>) {
        let builder = RedisServer::builder().arg("key-load-delay", "1000");
        let server = builder.arg("loading-process-events-interval-bytes", "1024").start();
        server.command(&["EVAL", "for key = 1, 6000 do redis.call('SET', key, 'v') end", "0"]);
        server.command(&["SAVE"]);
        at(server, text()).await
    }

    async fn at(server: RedisServer, builder: CacheBuilder<String, Text>) -> (Place, Cache<String>) {
        let proxy = Proxy::start(server.addr());
        let cache = builder.build(RedisBackend::new(proxy.url()).unwrap()).await.unwrap();
        cache.set("hot", "v").await.unwrap();
        (Place { server: Arc::new(server), proxy }, cache)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whatever_is_wrong_with_the_server_no_call_waits_past_its_deadline_and_loads_go_on() {
        println!("| state | get hit | get miss | get_or_load | set | delete | get_many | loads |");
        println!("|---|---|---|---|---|---|---|---|");
        let (_healthy, cache) = place().await;
        line("healthy", &cache, |_| {}).await;

        let server = RedisServer::start();
        server.kill();
        let cache = text().build_lazy(RedisBackend::new(server.url()).unwrap()).unwrap();
        line("down before the start (`build_lazy`)", &cache, |_| {}).await;

        let (killed, cache) = place().await;
        killed.server.kill();
        line("killed", &cache, |_| {}).await;

        let (hung, cache) = place().await;
        hung.server.pause();
        line("hung (SIGSTOP)", &cache, |_| {}).await;
        hung.server.resume();

        let (half_open, cache) = place().await;
        half_open.proxy.pause();
        line("half-open: nothing arrives, nothing is closed", &cache, |_| {}).await;

        let (slow, cache) = place().await;
        slow.proxy.set_round_trip(Duration::from_millis(600));
        line("slow: 300 ms more each way", &cache, |_| {}).await;

        let (flapping, cache) = place().await;
        let mut cuts = 0;
        line("flapping: cut each 500 ms", &cache, |passed| {
            if passed.as_millis() / 500 > cuts {
                cuts = passed.as_millis() / 500;
                flapping.proxy.cut();
            }
        })
        .await;

        let (full, cache) = place().await;
        full.server.command(&["config", "set", "maxmemory", "1"]);
        line("OOM", &cache, |_| {}).await;

        let (replica, cache) = place().await;
        replica.server.command(&["replicaof", "127.0.0.1", "1"]);
        line("a replica by now (READONLY)", &cache, |_| {}).await;

        let (loading, cache) = loading().await;
        loading.server.kill();
        let restarted = Arc::clone(&loading.server);
        let restart = thread::spawn(move || restarted.restart());
        line("LOADING its data after a restart", &cache, |_| {}).await;
        restart.join().unwrap();

        let (crowded, cache) = place().await;
        let others: Vec<_> = (0..4).map(|_| crowded.server.client()).collect();
        crowded.server.command(&["config", "set", "maxclients", "5"]);
        crowded.proxy.cut();
        line("maxclients: no room for a connection", &cache, |_| {}).await;
        drop(others);

        let (killed, cache) = kept(Duration::from_secs(60)).await;
        killed.server.kill();
        line("killed, with `stale_if_error` of a minute", &cache, |_| {}).await;

        let (rotated, cache) = place().await;
        rotated.server.command(&["config", "set", "requirepass", "another"]);
        rotated.proxy.cut();
        line("password rotated", &cache, |_| {}).await;
    }
}
