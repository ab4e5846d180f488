//! A shop whose backend goes away for a minute: what that costs its customers, and its database.

#![allow(clippy::print_stdout, reason = "the figures are what the run is for")]

use std::{
    collections::HashSet,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::time::{Instant, sleep};
use twotier::{BackendError, BackendErrorKind, Cache, FaultyBackend, MemoryBackend, MemoryLink};
use twotier_testkit::simulation::VirtualClock;

use crate::support::text;

const PRODUCTS: usize = 10_000;
const CONNECTIONS: u64 = 32;
const OUTAGE: Duration = Duration::from_secs(60);
const BOUND: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_millis(500);
const TTL: Duration = Duration::from_secs(2400);
/// How long the database takes.
const ROW: Duration = Duration::from_millis(5);

/// What was seen of a phase.
#[derive(Default)]
struct Seen {
    requests: usize,
    failed: usize,
    /// Requests that took longer than a load does.
    slow: usize,
    worst: Duration,
    distinct: HashSet<usize>,
}

struct Shop {
    cache: Cache<String>,
    backend: Arc<FaultyBackend<MemoryBackend>>,
    link: MemoryLink,
    loads: Arc<AtomicUsize>,
    seen: Arc<Mutex<Seen>>,
}

/// Draws a rank from a Zipf distribution of exponent 1, by its continuous approximation.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is between 1 and the number of products"
)]
fn zipf(rng: &mut Rng) -> usize {
    let products = PRODUCTS as f64;
    (products.powf(rng.f64()) as usize).min(PRODUCTS) - 1
}

impl Shop {
    async fn open() -> Self {
        let clock = VirtualClock::new(Duration::from_millis(1));
        let store = MemoryBackend::with_clock(clock.clone());
        let link = store.scripted_link();
        let backend = Arc::new(FaultyBackend::new(store));
        let builder = text().clock(clock).max_entries(2 * PRODUCTS).max_staleness(BOUND).op_timeout(DEADLINE);
        // Values written together do not expire together, and of the requests of a healthy minute 1 to 2 % are loads.
        let builder = builder.time_to_live(TTL).ttl_jitter(0.99);
        let cache = builder.build(Arc::clone(&backend)).await.unwrap();
        let beating = link.clone();
        tokio::spawn(async move {
            loop {
                beating.heartbeat();
                sleep(BOUND / 5).await;
            }
        });
        let shop = Self { cache, backend, link, loads: Arc::default(), seen: Arc::default() };
        let rows: Vec<_> = (0..PRODUCTS).map(|product| (product, format!("product {product}"))).collect();
        shop.cache.set_many(rows).await.unwrap();
        shop
    }

    /// Lets customers come for so long, and returns what was seen and how many loads there were.
    async fn serve(&self, time: Duration) -> (Seen, usize) {
        let before = self.loads.load(Ordering::SeqCst);
        let over = Arc::new(AtomicBool::new(false));
        let customers: Vec<_> = (0..CONNECTIONS)
            .map(|connection| {
                let (cache, loads, seen) = (self.cache.clone(), Arc::clone(&self.loads), Arc::clone(&self.seen));
                let over = Arc::clone(&over);
                tokio::spawn(async move {
                    let mut rng = Rng::with_seed(connection);
                    while !over.load(Ordering::SeqCst) {
                        let product = zipf(&mut rng);
                        let load = async |product: usize| {
                            loads.fetch_add(1, Ordering::SeqCst);
                            sleep(ROW).await;
                            Ok::<_, io::Error>(format!("product {product}"))
                        };
                        let started = Instant::now();
                        let shown = cache.get_or_load(product, load).await;
                        let took = started.elapsed();
                        {
                            let mut seen = seen.lock().unwrap();
                            seen.requests += 1;
                            seen.failed += usize::from(shown.is_err());
                            seen.slow += usize::from(took > 10 * ROW);
                            seen.worst = seen.worst.max(took);
                            seen.distinct.insert(product);
                        }
                        sleep(Duration::from_millis(40 + rng.u64(0..20))).await;
                    }
                })
            })
            .collect();
        sleep(time).await;
        over.store(true, Ordering::SeqCst);
        for customer in customers {
            customer.await.unwrap();
        }
        (std::mem::take(&mut *self.seen.lock().unwrap()), self.loads.load(Ordering::SeqCst) - before)
    }
}

/// Plays an outage, and checks what it costs. Of a healthy minute the loads are known.
async fn outage(shop: &Shop, healthy_loads: usize, begin: impl FnOnce(&Shop)) {
    begin(shop);
    let (seen, loads) = shop.serve(OUTAGE).await;
    let turns = OUTAGE.as_secs_f64() / BOUND.as_secs_f64();
    println!(
        "outage: {} requests, {} failed, {} slow, worst {:?}, {} distinct, {loads} loads",
        seen.requests,
        seen.failed,
        seen.slow,
        seen.worst,
        seen.distinct.len(),
    );
    assert_eq!(seen.failed, 0, "the database is there");
    assert!(loads as f64 <= seen.distinct.len() as f64 * turns, "{loads} loads of {} products", seen.distinct.len());
    assert!(seen.worst <= (DEADLINE + ROW) * 11 / 10, "a customer waited for {:?}", seen.worst);
    // Those that were under way as it began, and then one try at a time.
    assert!(seen.slow as u64 <= CONNECTIONS + 3 * OUTAGE.as_secs(), "{} waited for the backend", seen.slow);
    shop.backend.faults().heal();
    shop.link.restore();
    // What a server answers first when it goes on is what it was asked before.
    shop.link.heartbeat();
    let (after, loads) = shop.serve(Duration::from_secs(10)).await;
    println!("after: {} requests, {} failed, worst {:?}, {loads} loads", after.requests, after.failed, after.worst);
    assert_eq!(after.failed, 0);
    // The values whose time to live ended during the outage are loaded together now, and no others.
    assert!(loads as f64 <= 3.0 * healthy_loads as f64 / 6.0, "{loads} loads after, {healthy_loads} a minute usually");
    assert_eq!(shop.cache.stats().backend.outage_refused, 0);
}

#[tokio::test(start_paused = true)]
async fn an_outage_costs_the_origin_a_load_of_each_key_in_a_bound_and_no_customer_an_error() {
    let shop = Shop::open().await;
    // Until about as many values are loaded as reach their time to live.
    shop.serve(Duration::from_secs(400)).await;
    let (healthy, loads) = shop.serve(Duration::from_secs(60)).await;
    println!("healthy: {} requests, {loads} loads", healthy.requests);
    assert_eq!(healthy.failed, 0);
    outage(&shop, loads, |shop| {
        let cause = BackendError::new(BackendErrorKind::Unavailable, "connection refused");
        shop.backend.faults().fail_all(Some(cause));
        shop.link.cut();
    })
    .await;
    shop.serve(Duration::from_secs(60)).await;
    outage(&shop, loads, |shop| {
        shop.backend.faults().hang(true);
        shop.link.hold();
    })
    .await;
}
