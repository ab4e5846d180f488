//! Relays in front of the nodes of a cluster, by which it is parted: to them nodes are known by the addresses that they
//! connect from.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

/// Who is cut off from whom.
#[derive(Debug, Default)]
pub(super) struct Partition {
    parted: Mutex<Parted>,
    ends: AtomicBool,
}

#[derive(Debug, Default)]
struct Parted {
    isolated: BTreeSet<usize>,
    /// Whether clients are beside the nodes that are isolated.
    clients: bool,
    connections: Vec<(Ends, [TcpStream; 2])>,
}

/// From where to where a connection goes.
#[derive(Clone, Copy, Debug)]
struct Ends {
    /// `None` is a client.
    from: Option<usize>,
    to: usize,
}

impl Parted {
    fn allows(&self, Ends { from, to }: Ends) -> bool {
        let there = self.isolated.contains(&to);
        match from {
            Some(node) => self.isolated.contains(&node) == there,
            None => !self.clients || there,
        }
    }
}

/// The address that a node connects from.
pub(super) fn source(node: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(node + 1).expect("there are few"))
}

impl Partition {
    /// Starts a relay to a port of a node, and returns its own port.
    pub(super) fn relay(self: &Arc<Self>, node: usize, upstream: u16) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let partition = Arc::clone(self);
        thread::spawn(move || {
            for client in listener.incoming() {
                if partition.ends.load(SeqCst) {
                    return;
                }
                if let Ok(client) = client {
                    partition.serve(client, node, upstream);
                }
            }
        });
        port
    }

    fn serve(&self, client: TcpStream, to: usize, upstream: u16) {
        let from = match client.peer_addr().map(|address| address.ip()) {
            Ok(IpAddr::V4(address)) if address != Ipv4Addr::LOCALHOST => Some(usize::from(address.octets()[3]) - 1),
            _ => None,
        };
        let ends = Ends { from, to };
        let mut parted = self.parted.lock().unwrap();
        let server = if parted.allows(ends) { TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).ok() } else { None };
        let Some(server) = server else { return };
        let copy = |stream: &TcpStream| stream.try_clone().expect("a socket can be shared");
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        for (mut read, mut write) in [(copy(&client), copy(&server)), (copy(&server), copy(&client))] {
            thread::spawn(move || {
                let mut bytes = [0; 16 * 1024];
                while let Ok(length @ 1..) = read.read(&mut bytes) {
                    if write.write_all(&bytes[..length]).is_err() {
                        break;
                    }
                }
                let _ = (read.shutdown(Shutdown::Both), write.shutdown(Shutdown::Both));
            });
        }
        parted.connections.push((ends, [client, server]));
    }

    /// Cuts these nodes off from the others, and clients from all but these if they are beside them.
    pub(super) fn isolate(&self, nodes: &[usize], with_clients: bool) {
        let mut parted = self.parted.lock().unwrap();
        parted.isolated = nodes.iter().copied().collect();
        parted.clients = with_clients;
        let connections = std::mem::take(&mut parted.connections);
        let (kept, cut): (Vec<_>, Vec<_>) = connections.into_iter().partition(|(ends, _)| parted.allows(*ends));
        parted.connections = kept;
        for stream in cut.iter().flat_map(|(_, streams)| streams) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Has every relay end with its next connection.
    pub(super) fn end(&self) {
        self.ends.store(true, SeqCst);
        self.parted.lock().unwrap().connections.clear();
    }
}
