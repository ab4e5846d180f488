//! How a stream to the server is made.

use std::{io, time::Duration};

#[cfg(unix)]
use std::path::PathBuf;
#[cfg(feature = "simulation")]
use std::{pin::Pin, sync::Arc};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};
use twotier_core::{BackendError, BackendErrorKind};

use crate::BackendResult;

use super::{error, progress::Progress, stream::Stream};

/// How long an idle connection rests between two signs of life of the operating system's.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How much of what is written may wait to be sent. What waits in the operating system holds up whatever is written
/// after it, and hides from us whether the peer takes anything.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 128 * 1024;

/// The way to a server.
#[derive(Clone)]
pub(super) enum Route {
    Tcp {
        host: String,
        port: u16,
    },
    #[cfg(feature = "tls")]
    Tls {
        host: String,
        port: u16,
        tls: super::tls::Tls,
    },
    #[cfg(unix)]
    Unix(PathBuf),
    /// Over streams that the caller makes.
    #[cfg(feature = "simulation")]
    Streams {
        host: String,
        port: u16,
        dial: Dialer,
    },
}

#[cfg(feature = "simulation")]
type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;
#[cfg(feature = "simulation")]
pub(in crate::redis) type Dialer = Arc<dyn Fn(String, u16) -> Dialing + Send + Sync>;

/// Forgets the types of a function that makes streams to an address.
#[cfg(feature = "simulation")]
pub(in crate::redis) fn dialer<F, Fut, S>(dial: F) -> Dialer
where
    F: Fn(String, u16) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = io::Result<S>> + Send + 'static,
    S: Stream + 'static,
{
    Arc::new(move |host, port| {
        let dialing = dial(host, port);
        Box::pin(async move { Ok(Box::new(dialing.await?) as Box<dyn Stream>) })
    })
}

impl Route {
    /// Returns the way to another server, in the manner of this one.
    pub(super) fn at(&self, host: &str, port: u16) -> Self {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls { tls, .. } => Self::Tls { host: host.to_owned(), port, tls: tls.clone() },
            #[cfg(feature = "simulation")]
            Self::Streams { dial, .. } => Self::Streams { host: host.to_owned(), port, dial: Arc::clone(dial) },
            _ => Self::Tcp { host: host.to_owned(), port },
        }
    }

    /// Returns the host of the server, empty where it has none.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Tcp { host, .. } => host,
            #[cfg(feature = "tls")]
            Self::Tls { host, .. } => host,
            #[cfg(feature = "simulation")]
            Self::Streams { host, .. } => host,
            _ => "",
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Self::Tls { .. } => true,
            _ => false,
        }
    }

    /// Returns the way to the same server over streams that the caller makes.
    #[cfg(feature = "simulation")]
    pub(super) fn over(&self, dial: &Dialer) -> Self {
        match self {
            Self::Tcp { host, port } => Self::Streams { host: host.clone(), port: *port, dial: Arc::clone(dial) },
            other => other.clone(),
        }
    }

    /// Makes a stream. Each step is a sign of life.
    pub(super) async fn dial(&self, progress: &Progress) -> BackendResult<Box<dyn Stream>> {
        match self {
            Self::Tcp { host, port } => Ok(Box::new(tcp(host, *port, progress).await?)),
            #[cfg(feature = "tls")]
            Self::Tls { host, port, tls } => {
                let stream = tcp(host, *port, progress).await?;
                progress.begin("the TLS handshake");
                Ok(Box::new(tls.handshake(host, stream).await?))
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let connected = tokio::net::UnixStream::connect(path).await;
                Ok(Box::new(connected.map_err(|failed| error::from_io(&failed))?))
            }
            #[cfg(feature = "simulation")]
            Self::Streams { host, port, dial } => {
                dial(host.clone(), *port).await.map_err(|failed| error::from_io(&failed))
            }
        }
    }
}

/// Connects to the first address that answers.
async fn tcp(host: &str, port: u16, progress: &Progress) -> BackendResult<TcpStream> {
    progress.begin("the name service");
    let addresses = lookup_host((host, port)).await.map_err(|failed| {
        BackendError::new(BackendErrorKind::Unavailable, "the host name of the server cannot be resolved")
            .with_source(failed)
    })?;
    let mut last = BackendError::new(BackendErrorKind::Unavailable, "the host name of the server has no address");
    for address in addresses {
        progress.begin("the TCP handshake");
        match TcpStream::connect(address).await {
            Ok(stream) => return set_up(stream).map_err(|failed| error::from_io(&failed)),
            Err(failed) => last = error::from_io(&failed),
        }
    }
    Err(last)
}

/// Nothing waits for company; a dead peer is noticed; and closing takes back what was not sent yet: a write that failed
/// must not arrive later.
fn set_up(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_zero_linger()?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(stream)
}
