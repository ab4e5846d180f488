//! A relay that does what a network, or a server out of its mind, may do; and a listener that counts.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{broadcast, watch},
};
use twotier_backend::Watch;
use twotier_core::{ChangeListener, Coherence, Lease, LinkId, Mark, Namespace, Timestamp};

/// What becomes of one reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Drop,
    Double,
    /// This frame comes before it.
    Insert(&'static [u8]),
    /// This frame comes instead.
    Replace(&'static [u8]),
}

/// What becomes of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requests {
    Forward,
    /// They are taken and kept, also beyond the end of their connection.
    Keep,
    /// What was kept is delivered.
    Deliver,
}

struct RelayState {
    requests: watch::Sender<Requests>,
    /// In bytes a second, 0 for as many as there are.
    request_bandwidth: AtomicU32,
    /// The reply to be struck, counted from when it was armed over all connections, pushes left out.
    armed: Mutex<Option<(usize, Fault)>>,
    struck: AtomicU64,
    /// Whether what nobody asked for is kept back.
    mute: AtomicBool,
    /// What every client is sent unasked.
    injected: broadcast::Sender<&'static [u8]>,
}

/// A relay in front of a server, in the runtime of the test.
#[derive(Clone)]
pub(crate) struct Relay {
    addr: SocketAddr,
    shared: Arc<RelayState>,
}

impl Relay {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(RelayState {
            requests: watch::Sender::new(Requests::Forward),
            request_bandwidth: AtomicU32::new(0),
            armed: Mutex::default(),
            struck: AtomicU64::new(0),
            mute: AtomicBool::new(false),
            injected: broadcast::channel(1).0,
        });
        let relay = Self { addr, shared };
        let this = relay.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(upstream).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                tokio::spawn(this.clone().requests(from_client, to_server));
                tokio::spawn(this.clone().replies(from_server, to_client));
            }
        });
        relay
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@{}", self.addr)
    }

    pub(crate) fn set_requests(&self, requests: Requests) {
        self.shared.requests.send_replace(requests);
    }

    pub(crate) fn set_request_bandwidth(&self, bytes_a_second: u32) {
        self.shared.request_bandwidth.store(bytes_a_second, SeqCst);
    }

    /// Strikes the reply after so many others.
    pub(crate) fn strike(&self, after: usize, fault: Fault) {
        *self.shared.armed.lock().unwrap() = Some((after, fault));
    }

    /// Sends a frame to every client that nobody asked for.
    pub(crate) fn inject(&self, frame: &'static [u8]) {
        self.shared.injected.send(frame).unwrap();
    }

    /// Keeps pushes back, or no longer.
    pub(crate) fn mute(&self, mute: bool) {
        self.shared.mute.store(mute, SeqCst);
    }

    pub(crate) fn has_struck(&self) -> bool {
        self.shared.struck.load(SeqCst) > 0
    }

    async fn requests(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let (mut buffer, mut kept) = (vec![0; 16 * 1024], Vec::new());
        let mut mode = self.shared.requests.subscribe();
        loop {
            let read = from.read(&mut buffer).await;
            match read {
                Ok(length) if length > 0 && *mode.borrow() == Requests::Keep => {
                    kept.extend_from_slice(&buffer[..length]);
                }
                Ok(length) if length > 0 => {
                    let bandwidth = self.shared.request_bandwidth.load(SeqCst);
                    if bandwidth > 0 {
                        // The width of the link, and no time that a test waits for.
                        tokio::time::sleep(Duration::from_secs_f64(length as f64 / f64::from(bandwidth))).await;
                    }
                    to.write_all(&buffer[..length]).await?;
                }
                // The client is gone; what it had sent is still on its way.
                _ if !kept.is_empty() => {
                    mode.wait_for(|mode| *mode == Requests::Deliver).await.unwrap();
                    return to.write_all(&kept).await;
                }
                _ => return Ok(()),
            }
        }
    }

    async fn replies(self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
        let (mut pending, mut injected) = (Vec::new(), self.shared.injected.subscribe());
        loop {
            while let Some(length) = frame(&pending) {
                let frame: Vec<u8> = pending.drain(..length).collect();
                let sent = match self.fault(&frame) {
                    None => frame,
                    Some(Fault::Drop) => Vec::new(),
                    Some(Fault::Double) => [&frame[..], &frame].concat(),
                    Some(Fault::Insert(other)) => [other, &frame].concat(),
                    Some(Fault::Replace(other)) => other.to_vec(),
                };
                to.write_all(&sent).await?;
            }
            tokio::select! {
                frame = injected.recv() => to.write_all(frame.unwrap()).await?,
                read = from.read_buf(&mut pending) => {
                    if read? == 0 {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn fault(&self, frame: &[u8]) -> Option<Fault> {
        if frame[0] == b'>' && self.shared.mute.load(SeqCst) {
            return Some(Fault::Drop);
        }
        let mut armed = self.shared.armed.lock().unwrap();
        match &mut *armed {
            Some(_) if frame[0] == b'>' => None,
            Some((0, fault)) => {
                let fault = *fault;
                *armed = None;
                self.shared.struck.fetch_add(1, SeqCst);
                Some(fault)
            }
            Some((after, _)) => {
                *after -= 1;
                None
            }
            None => None,
        }
    }
}

/// Returns the length of the first frame, `None` while it is not whole.
fn frame(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let number = || std::str::from_utf8(&bytes[1..end - 2]).unwrap().parse::<i64>().unwrap();
    let elements = match bytes[0] {
        b'$' | b'=' | b'!' => {
            let length = usize::try_from(number()).map_or(0, |length| length + 2);
            return (bytes.len() >= end + length).then_some(end + length);
        }
        b'*' | b'~' | b'>' => number(),
        b'%' => 2 * number(),
        _ => 0,
    };
    (0..elements).try_fold(end, |length, _| Some(length + frame(&bytes[length..])?))
}

/// Counts what is reported to it.
#[derive(Default)]
pub(crate) struct Counter {
    pub(crate) changed: AtomicU64,
    pub(crate) flushed: AtomicU64,
    pub(crate) ups: AtomicU64,
    pub(crate) downs: AtomicU64,
    pub(crate) proofs: AtomicU64,
}

impl Counter {
    pub(crate) fn of(counter: &AtomicU64) -> u64 {
        counter.load(SeqCst)
    }
}

impl ChangeListener for Counter {
    fn mark(&self, link: LinkId) -> Mark {
        Mark::new(link, 1, Timestamp::ZERO)
    }
    fn proof_of_life(&self, _mark: Mark) {
        self.proofs.fetch_add(1, SeqCst);
    }
    fn changed(&self, _key: &[u8]) {
        self.changed.fetch_add(1, SeqCst);
    }
    fn flushed(&self, _link: LinkId) {
        self.flushed.fetch_add(1, SeqCst);
    }
    fn link_up(&self, _link: LinkId, _lease: Lease) {
        self.ups.fetch_add(1, SeqCst);
    }
    fn link_down(&self, _link: LinkId) {
        self.downs.fetch_add(1, SeqCst);
    }
}

pub(crate) fn watch(counter: &Arc<Counter>, max_staleness: Duration, coherence: Option<Coherence>) -> Watch {
    let listener: Arc<dyn ChangeListener> = Arc::<Counter>::clone(counter);
    Watch::new(Namespace::new("n").unwrap(), listener).max_staleness(max_staleness).coherence(coherence)
}

#[track_caller]
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) -> impl Future<Output = ()> {
    let what = what.to_owned();
    async move {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(20), "{what} did not happen");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
