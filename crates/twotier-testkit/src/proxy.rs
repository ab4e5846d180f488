//! A TCP proxy between a client and a server, with every way a network can fail.

mod gate;
mod relay;
mod timer;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{net::TcpListener, sync::oneshot};

use self::gate::{Cut, Gate};

/// A proxy in front of a server, which delays, stops, cuts, splits or corrupts what passes through.
///
/// It runs on a thread of its own, so any kind of test can use it, and ends when it is dropped.
/// Faults can be switched at any time and hold from the moment the method returns.
///
/// ```no_run
/// use std::time::Duration;
/// use twotier_testkit::{Proxy, RedisServer};
///
/// let server = RedisServer::start();
/// let proxy = Proxy::start(server.addr());
/// proxy.set_round_trip(Duration::from_millis(37));
/// // … the code under test, with `proxy.url()` …
/// proxy.cut();
/// ```
pub struct Proxy {
    addr: SocketAddr,
    gate: Arc<Gate>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of a server, with no fault.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        // Bound without the runtime: the caller may be inside one of its own.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let addr = listener.local_addr().expect("it is bound");
        let gate = Arc::new(Gate::default());
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&gate);
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("it is non-blocking");
                tokio::select! {
                    () = relay::accept(listener, upstream, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { addr, gate, stop: Some(stop), thread: Some(thread.expect("a thread starts")) }
    }

    /// Returns where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns `redis://127.0.0.1:<port>`. For a server with a password use
    /// [`RedisServer::url_at`](crate::RedisServer::url_at).
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Delivers everything later, by half of this each way.
    ///
    /// This is a delay line: any amount may be under way at once, so latency grows and throughput does not shrink.
    /// The error is well under a millisecond and never negative. Making a connection takes no longer than without.
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.gate.change(|faults| faults.delay = round_trip / 2);
    }

    /// Lets no more than so many bytes of replies pass in a second, all connections taken together, which share evenly;
    /// `None` is as many as there are.
    pub fn set_bandwidth(&self, bytes_a_second: impl Into<Option<u32>>) {
        let bytes_a_second = bytes_a_second.into();
        assert_ne!(bytes_a_second, Some(0), "something passes");
        self.gate.change(|faults| faults.replies.bandwidth = bytes_a_second);
    }

    /// Lets no more than so many bytes of requests pass in a second, as [`set_bandwidth`](Self::set_bandwidth) does for
    /// replies.
    pub fn set_request_bandwidth(&self, bytes_a_second: impl Into<Option<u32>>) {
        let bytes_a_second = bytes_a_second.into();
        assert_ne!(bytes_a_second, Some(0), "something passes");
        self.gate.change(|faults| faults.requests.bandwidth = bytes_a_second);
    }

    /// Lets nothing through, either way, and keeps all connections: a half-open link. New ones are taken too.
    pub fn pause(&self) {
        self.gate.change(|faults| (faults.requests_stopped, faults.replies_stopped) = (true, true));
    }

    /// Lets requests through but no replies: commands take effect, and their senders never receive a reply.
    pub fn pause_replies(&self) {
        self.gate.change(|faults| faults.replies_stopped = true);
    }

    /// Lets everything through again that was held by a pause, and what comes after.
    pub fn resume(&self) {
        self.gate.change(|faults| (faults.requests_stopped, faults.replies_stopped) = (false, false));
    }

    /// Resets every connection (RST) on both sides. They are gone when this returns; new ones are welcome.
    pub fn cut(&self) {
        self.gate.cut(Cut::Reset);
    }

    /// Ends every connection in good order (FIN) on both sides. They are gone when this returns.
    pub fn hang_up(&self) {
        self.gate.cut(Cut::Finish);
    }

    /// Takes new connections and ends them at once, or no longer does. Those that are open stay.
    pub fn refuse(&self, refuse: bool) {
        self.gate.change(|faults| faults.refuse = refuse);
    }

    /// Forwards in pieces of a random length up to so many bytes, both ways; `None` is as they come.
    pub fn split(&self, max_bytes: impl Into<Option<usize>>) {
        let max_bytes = max_bytes.into();
        assert_ne!(max_bytes, Some(0), "a piece has at least one byte");
        self.gate.change(|faults| faults.max_piece = max_bytes);
    }

    /// Inverts the first byte of the next piece of a reply, once.
    pub fn corrupt_next(&self) {
        self.gate.change(|faults| faults.corrupt_next = true);
    }

    /// Returns how many connections were ever taken, refused ones included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.gate.traffic.connections.load(Ordering::SeqCst)
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.gate.open_connections()
    }

    /// Returns how many bytes came from clients.
    #[must_use]
    pub fn request_bytes(&self) -> u64 {
        self.gate.traffic.request_bytes.load(Ordering::SeqCst)
    }

    /// Returns how many bytes came from the server.
    #[must_use]
    pub fn reply_bytes(&self) -> u64 {
        self.gate.traffic.reply_bytes.load(Ordering::SeqCst)
    }

    /// Returns how many bursts of requests there were: how often, over all connections, a request was the first one
    /// after the start or after a reply. That is the number of round trips as long as requests do not overlap and the
    /// server pushes nothing.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.gate.traffic.round_trips.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A second panic while a test is failing would only hide the first.
            assert!(ended.is_ok() || thread::panicking(), "the proxy failed");
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("addr", &self.addr).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
