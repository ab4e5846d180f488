//! One connection through the proxy: two delay lines.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use rustix::net::{Shutdown, shutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::yield_now,
};

use super::gate::{Cut, Gate, Pass, Way};

/// The most that is read at once.
const CHUNK: usize = 64 * 1024;

/// Takes connections for ever.
pub(super) async fn accept(listener: TcpListener, upstream: SocketAddr, gate: Arc<Gate>) {
    loop {
        let (client, _from) = listener.accept().await.expect("a listener on the loopback goes on");
        gate.traffic.connections.fetch_add(1, Ordering::SeqCst);
        if let Some(pass) = gate.open() {
            tokio::spawn(serve(client, upstream, pass));
        }
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr, pass: Pass) {
    let server = tokio::select! {
        biased;
        how = pass.cut() => return end(how, [&client]),
        connected = TcpStream::connect(upstream) => match connected {
            Ok(server) => server,
            // The client sees its connection end at once, as it does when a load balancer has nobody behind it.
            Err(_nobody_there) => return,
        },
    };
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("an open socket has options");
    }
    let replied = AtomicBool::new(true);
    tokio::select! {
        biased;
        how = pass.cut() => end(how, [&client, &server]),
        _ = async {
            tokio::join!(
                relay(Way::Request, &client, &server, &pass, &replied),
                relay(Way::Reply, &server, &client, &pass, &replied),
            )
        } => {}
    }
    // The sockets close before the connection counts as gone.
    drop((client, server));
    drop(pass);
}

fn end<const N: usize>(how: Cut, streams: [&TcpStream; N]) {
    if how == Cut::Reset {
        for stream in streams {
            // A socket that its peer has reset already needs no RST.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Something under way, and when it is to arrive.
type Late<T> = (Instant, T);

/// Forwards one way until its source ends.
async fn relay(way: Way, from: &TcpStream, to: &TcpStream, pass: &Pass, replied: &AtomicBool) {
    let (line, delayed) = mpsc::unbounded_channel();
    tokio::join!(read(way, from, line, pass, replied), write(way, delayed, to, pass));
}

/// Reads until the end, which dropping the line's end passes on. A reset counts as an end.
async fn read(
    way: Way,
    from: &TcpStream,
    line: mpsc::UnboundedSender<Late<Vec<u8>>>,
    pass: &Pass,
    replied: &AtomicBool,
) {
    let mut buffer = vec![0; CHUNK];
    loop {
        if from.readable().await.is_err() {
            return;
        }
        // Not read while that way is stopped: a half-open link takes no more than the kernel's buffers hold.
        let taken = pass.through(way, |faults| {
            let length = from.try_read(&mut buffer)?;
            io::Result::Ok((length, faults.occupy(way, length)))
        });
        let (length, passed) = match taken.await {
            Ok((0, _)) => return,
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(_reset) => return,
        };
        count(way, length, pass, replied);
        // Nothing more is taken meanwhile: what does not pass yet stays with its sender, as on a narrow link.
        if let Some(passed) = passed {
            pass.until(passed).await;
        }
        if line.send((Instant::now() + pass.delay(), buffer[..length].to_vec())).is_err() {
            return;
        }
    }
}

fn count(way: Way, length: usize, pass: &Pass, replied: &AtomicBool) {
    let traffic = pass.traffic();
    let bytes = match way {
        Way::Request => &traffic.request_bytes,
        Way::Reply => &traffic.reply_bytes,
    };
    bytes.fetch_add(length as u64, Ordering::SeqCst);
    if replied.swap(way == Way::Reply, Ordering::SeqCst) && way == Way::Request {
        traffic.round_trips.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes each chunk when it is due.
async fn write(way: Way, mut delayed: mpsc::UnboundedReceiver<Late<Vec<u8>>>, to: &TcpStream, pass: &Pass) {
    while let Some((due, chunk)) = delayed.recv().await {
        pass.until(due).await;
        if deliver(way, &chunk, to, pass).await.is_err() {
            return;
        }
    }
    pass.until(Instant::now() + pass.delay()).await;
    pass.through(way, |_faults| {
        // Fails only when the peer is gone, and then it needs no end.
        let _ = shutdown(to, Shutdown::Write);
    })
    .await;
}

async fn deliver(way: Way, chunk: &[u8], to: &TcpStream, pass: &Pass) -> io::Result<()> {
    let mut rest = chunk;
    while !rest.is_empty() {
        to.writable().await?;
        let written = pass
            .through(way, |faults| {
                let length = faults.max_piece.map_or(rest.len(), |max| fastrand::usize(1..=max).min(rest.len()));
                if !(faults.corrupt_next && way == Way::Reply) {
                    return to.try_write(&rest[..length]);
                }
                let mut piece = rest[..length].to_vec();
                piece[0] = !piece[0];
                let written = to.try_write(&piece);
                faults.corrupt_next = written.is_err();
                written
            })
            .await;
        match written {
            Ok(length) => rest = &rest[length..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        if !rest.is_empty() {
            // Gives the reader of this piece a chance to see it alone.
            yield_now().await;
        }
    }
    Ok(())
}
