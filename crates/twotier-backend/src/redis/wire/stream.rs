//! The stream under a connection: it notices life, and the end, before anybody reads.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use twotier_core::{BackendError, BackendErrorKind};

use super::{
    error,
    framing::{Broken, Framing},
    loss::Loss,
    progress::Traffic,
};

/// How much of what arrives first is kept, for the replies to the setup.
const GREETING: usize = 16 * 1024;

/// What a connection runs over.
pub(in crate::redis) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What arrived while a connection was being set up, `None` once it is.
pub(super) type Greeting = Arc<Mutex<Option<Vec<u8>>>>;

/// A stream whose traffic is followed.
pub(super) struct Watched {
    inner: Box<dyn Stream>,
    framing: Framing,
    traffic: Arc<Traffic>,
    loss: Arc<Loss>,
    greeting: Option<Greeting>,
    /// Whether the last write found no room.
    full: bool,
}

impl Watched {
    pub(super) fn new(inner: Box<dyn Stream>, traffic: Arc<Traffic>, loss: Arc<Loss>, greeting: Greeting) -> Self {
        Self { inner, framing: Framing::default(), traffic, loss, greeting: Some(greeting), full: false }
    }

    fn arrived(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.traffic.sign(bytes.len());
        let recording = self.greeting.as_ref().is_some_and(|greeting| match &mut *greeting.lock() {
            Some(kept) => {
                kept.extend_from_slice(bytes.get(..GREETING - kept.len().min(GREETING)).unwrap_or(bytes));
                true
            }
            None => false,
        });
        if !recording {
            self.greeting = None;
        }
        let followed = self.framing.follow(bytes);
        let cause = match followed {
            Ok(()) if self.traffic.arrived(self.framing.replies()) => return Ok(()),
            Ok(()) => BackendError::new(BackendErrorKind::Protocol, "the server sent a reply that nobody asked for"),
            Err(broken) => broken_stream(broken),
        };
        self.loss.declare(cause);
        Err(io::ErrorKind::InvalidData.into())
    }

    fn failed(&self, error: io::Error) -> io::Error {
        self.loss.declare(error::from_io(&error));
        error
    }
}

fn broken_stream(broken: Broken) -> BackendError {
    let message = match broken {
        Broken::TooLarge => "the server announced a value of more than 512 MB",
        Broken::Tls => "the server speaks TLS on this port; use a rediss:// URL",
        Broken::NotResp => return error::not_resp(),
    };
    BackendError::new(BackendErrorKind::Protocol, message)
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        match ready!(Pin::new(&mut *self.inner).poll_read(context, into)) {
            Ok(()) if into.filled().len() == before => {
                self.loss.declare(error::closed_by_server());
                Poll::Ready(Ok(()))
            }
            Ok(()) => Poll::Ready(self.arrived(&mut into.filled_mut()[before..])),
            Err(error) => Poll::Ready(Err(self.failed(error))),
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut *self.inner).poll_write(context, bytes) {
            Poll::Pending => {
                self.full = true;
                Poll::Pending
            }
            Poll::Ready(Ok(written)) => {
                if std::mem::take(&mut self.full) {
                    self.traffic.sign(written);
                }
                Poll::Ready(Ok(written))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.failed(error))),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut *self.inner).poll_flush(context));
        Poll::Ready(flushed.map_err(|error| self.failed(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(context)
    }
}
