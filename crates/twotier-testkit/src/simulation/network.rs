//! The network between the caches and the server, and all the ways in which it fails.

use std::{
    collections::BTreeMap,
    fmt, io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{
    journal::Journal,
    pipe::{Arrived, Pipe},
};

/// How the network treats what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// How long everything takes at least, in milliseconds: the distance.
    pub least: u64,
    /// The longest usual delay beyond that, in milliseconds.
    pub delay: u64,
    /// The longest unusual delay beyond that, in milliseconds: for one frame in 32.
    pub spike: u64,
    /// The most pieces into which a frame is split.
    pub pieces: usize,
}

/// Which way nothing gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the cache.
    Down,
    /// From the cache to the server.
    Up,
    /// Neither way.
    Both,
}

impl Weather {
    /// Everything arrives at once and in one piece.
    pub const CALM: Self = Self { least: 0, delay: 0, spike: 0, pieces: 1 };
}

impl Direction {
    fn is_up(self) -> bool {
        matches!(self, Self::Up | Self::Both)
    }

    fn is_down(self) -> bool {
        matches!(self, Self::Down | Self::Both)
    }
}

/// Carries connections over a fixed number of links, numbered from 0. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    shared: Arc<NetworkInner>,
}

struct NetworkInner {
    state: Mutex<State>,
    /// Wakes the server.
    work: Notify,
    /// Wakes those who wait for a link to be healed.
    healed: Notify,
    journal: Journal,
}

struct State {
    rng: Rng,
    weather: Weather,
    links: Vec<Link>,
    wires: BTreeMap<u64, Wire>,
    next_wire: u64,
    listening: bool,
}

#[derive(Clone, Copy, Default)]
struct Link {
    held: Option<Direction>,
    refused: bool,
}

/// One connection.
struct Wire {
    link: usize,
    up: Pipe,
    down: Pipe,
    /// Whether the cache has closed its end.
    cache_left: bool,
    /// Whether the server has closed its end, or seen the end of the other.
    server_left: bool,
}

impl Wire {
    /// Returns when something arrives at the server next. At an end that was closed nothing arrives.
    fn due_at_server(&self) -> Option<Instant> {
        if self.server_left { None } else { self.up.due() }
    }
}

impl Network {
    /// Lays this many links. Nobody listens yet.
    #[must_use]
    pub fn new(seed: u64, links: usize, weather: Weather, journal: Journal) -> Self {
        let state = State {
            rng: Rng::with_seed(seed),
            weather,
            links: vec![Link::default(); links],
            wires: BTreeMap::new(),
            next_wire: 0,
            listening: false,
        };
        let shared = NetworkInner { state: Mutex::new(state), work: Notify::new(), healed: Notify::new(), journal };
        Self { shared: Arc::new(shared) }
    }

    /// Connects to the server over a link.
    ///
    /// # Errors
    ///
    /// When nobody listens or the link refuses. A held link answers only once it is healed.
    pub async fn dial(&self, link: usize) -> io::Result<Stream> {
        let delay = self.with(|state| state.delay());
        sleep(delay).await;
        loop {
            let healed = self.shared.healed.notified();
            if self.with(|state| state.links[link].held.is_none()) {
                break;
            }
            healed.await;
        }
        let dialed = self.with(|state| {
            if !state.listening || state.links[link].refused {
                return None;
            }
            let id = state.next_wire;
            state.next_wire += 1;
            let (up, down) = (Pipe::default(), Pipe::default());
            state.wires.insert(id, Wire { link, up, down, cache_left: false, server_left: false });
            Some(id)
        });
        let Some(id) = dialed else {
            self.shared.journal.note("network", || format!("link {link}: a connection is refused"));
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        self.shared.journal.note("network", || format!("link {link}: connection {id} is made"));
        Ok(Stream { network: self.clone(), id, timer: Box::pin(sleep(Duration::ZERO)) })
    }

    /// Resets every connection of a link. What is on its way to the server may still arrive there.
    pub fn cut(&self, link: usize) {
        self.shared.journal.note("network", || format!("link {link}: cut"));
        self.with(|state| {
            let now = Instant::now();
            let State { wires, rng, .. } = state;
            for wire in wires.values_mut().filter(|wire| wire.link == link) {
                wire.down.reset(now, rng.u8(..4) == 0);
                wire.up.reset(now, rng.bool());
            }
        });
        self.shared.work.notify_one();
    }

    /// Lets nothing through on a link, connections to be made included, until it is healed.
    pub fn hold(&self, link: usize, direction: Direction) {
        self.shared.journal.note("network", || format!("link {link}: held, {direction:?}"));
        self.with(|state| {
            state.links[link].held = Some(direction);
            state.hold_wires(link, direction);
        });
    }

    /// Lets nothing through on the connections there are, as a middlebox does that forgot them; new ones can be made.
    pub fn stall(&self, link: usize, direction: Direction) {
        self.shared.journal.note("network", || format!("link {link}: its connections stall, {direction:?}"));
        self.with(|state| state.hold_wires(link, direction));
    }

    /// Refuses connections on a link, or accepts them again.
    pub fn refuse(&self, link: usize, refused: bool) {
        self.shared.journal.note("network", || format!("link {link}: refused = {refused}"));
        self.with(|state| state.links[link].refused = refused);
    }

    /// Lets everything through again. What was held arrives now, however old it is.
    pub fn heal(&self, link: usize) {
        self.shared.journal.note("network", || format!("link {link}: healed"));
        self.with(|state| {
            state.links[link] = Link::default();
            for wire in state.wires.values_mut().filter(|wire| wire.link == link) {
                wire.up.held = false;
                wire.down.held = false;
                wire.down.wake();
            }
        });
        self.shared.healed.notify_waiters();
        self.shared.work.notify_one();
    }

    /// Changes how the network treats what is sent from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.with(|state| state.weather = weather);
    }

    /// Returns how many connections the server has not seen the end of.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.with(|state| state.wires.len())
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.shared.state.lock().unwrap())
    }
}

/// What the server does with it.
impl Network {
    /// Starts or stops listening. Stopping resets every connection.
    pub(super) fn listen(&self, listening: bool) {
        self.with(|state| {
            state.listening = listening;
            if !listening {
                let now = Instant::now();
                for wire in state.wires.values_mut() {
                    wire.down.reset(now, true);
                    wire.up = Pipe::default();
                    wire.server_left = true;
                }
                state.wires.retain(|_, wire| !wire.cache_left);
            }
        });
        self.shared.work.notify_one();
    }

    /// Waits until something may have come in, or somebody called [`rouse`](Self::rouse).
    pub(super) async fn work(&self) {
        let due = self.with(|state| state.wires.values().filter_map(Wire::due_at_server).min());
        match due {
            None => self.shared.work.notified().await,
            Some(due) => tokio::select! {
                biased;
                () = self.shared.work.notified() => {}
                () = sleep_until(due) => {}
            },
        }
    }

    /// Waits until somebody calls [`rouse`](Self::rouse), or something is sent.
    pub(super) async fn roused(&self) {
        self.shared.work.notified().await;
    }

    pub(super) fn rouse(&self) {
        self.shared.work.notify_one();
    }

    /// Returns the connections on which something has arrived at the server.
    pub(super) fn ready(&self) -> Vec<u64> {
        let now = Instant::now();
        self.with(|state| {
            let due = |wire: &Wire| wire.due_at_server().is_some_and(|due| due <= now);
            state.wires.iter().filter(|(_, wire)| due(wire)).map(|(id, _)| *id).collect()
        })
    }

    /// Reads what has arrived, and returns whether the connection goes on. One that does not is forgotten.
    pub(super) fn receive(&self, id: u64, into: &mut Vec<u8>) -> bool {
        let now = Instant::now();
        self.with(|state| {
            let Some(wire) = state.wires.get_mut(&id) else { return false };
            loop {
                match wire.up.read(now, usize::MAX, |bytes| into.extend_from_slice(bytes)) {
                    Arrived::Bytes(_) => {}
                    Arrived::Later(_) | Arrived::Nothing => return true,
                    Arrived::End | Arrived::Reset => {
                        wire.up = Pipe::default();
                        wire.server_left = true;
                        if wire.cache_left {
                            state.wires.remove(&id);
                        }
                        return false;
                    }
                }
            }
        })
    }

    /// Closes the server's end of a connection: what is on its way from the cache is thrown away.
    pub(super) fn close(&self, id: u64) {
        self.with(|state| {
            let Some(wire) = state.wires.get_mut(&id) else { return };
            wire.down.reset(Instant::now(), true);
            wire.up = Pipe::default();
            wire.server_left = true;
            if wire.cache_left {
                state.wires.remove(&id);
            }
        });
    }

    /// Sends to a cache.
    pub(super) fn send(&self, id: u64, bytes: &[u8]) {
        self.with(|state| state.transmit(id, bytes, |wire| &mut wire.down));
    }

    /// Returns the link of a connection whose end at the server is open.
    pub(super) fn link(&self, id: u64) -> Option<usize> {
        self.with(|state| state.wires.get(&id).filter(|wire| !wire.server_left).map(|wire| wire.link))
    }
}

impl State {
    fn delay(&mut self) -> Duration {
        let Weather { least, delay, spike, .. } = self.weather;
        let longest = if self.rng.u8(..32) == 0 { spike } else { delay };
        Duration::from_millis(least + self.rng.u64(0..=longest))
    }

    fn transmit(&mut self, id: u64, bytes: &[u8], pipe: impl Fn(&mut Wire) -> &mut Pipe) {
        // What is sent to an end that was closed is lost.
        if self.wires.get(&id).is_none_or(|wire| wire.server_left) {
            return;
        }
        let pieces = self.rng.usize(1..=self.weather.pieces);
        let mut rest = bytes;
        for piece in (0..pieces).rev() {
            let length = if piece == 0 { rest.len() } else { self.rng.usize(0..=rest.len()) };
            if length == 0 {
                continue;
            }
            let due = Instant::now() + self.delay();
            let (now, later) = rest.split_at(length);
            rest = later;
            if let Some(wire) = self.wires.get_mut(&id) {
                pipe(wire).send(now.to_vec(), due);
            }
        }
    }

    fn hold_wires(&mut self, link: usize, direction: Direction) {
        for wire in self.wires.values_mut().filter(|wire| wire.link == link) {
            wire.up.held |= direction.is_up();
            wire.down.held |= direction.is_down();
        }
    }
}

/// A cache's end of a connection.
pub struct Stream {
    network: Network,
    id: u64,
    timer: Pin<Box<Sleep>>,
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let limit = into.remaining();
            let arrived = self.network.with(|state| {
                let Some(wire) = state.wires.get_mut(&self.id) else { return Arrived::Reset };
                let arrived = wire.down.read(Instant::now(), limit, |bytes| into.put_slice(bytes));
                if matches!(arrived, Arrived::Later(_) | Arrived::Nothing) {
                    wire.down.wake_by(context);
                }
                arrived
            });
            match arrived {
                Arrived::Bytes(_) | Arrived::End => return Poll::Ready(Ok(())),
                Arrived::Reset => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Arrived::Nothing => return Poll::Pending,
                Arrived::Later(due) => {
                    self.timer.as_mut().reset(due);
                    if self.timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.network.with(|state| state.transmit(self.id, bytes, |wire| &mut wire.up));
        self.network.shared.work.notify_one();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let id = self.id;
        self.network.shared.journal.note("network", || format!("connection {id} is closed by the cache"));
        self.network.with(|state| {
            let delay = state.delay();
            let Some(wire) = state.wires.get_mut(&id) else { return };
            wire.cache_left = true;
            if wire.server_left {
                state.wires.remove(&id);
            } else {
                wire.up.end(Instant::now() + delay);
            }
        });
        self.network.shared.work.notify_one();
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id).finish_non_exhaustive()
    }
}
