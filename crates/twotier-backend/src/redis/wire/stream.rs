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
    framing::{Broken, Framing, Requests, ValueLimit},
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
    requests: Requests,
    /// What arrived and is to be followed again with what arrives next: a line that is not whole.
    again: Vec<u8>,
    /// What was followed and did not fit into its reader's buffer.
    followed: Vec<u8>,
    traffic: Arc<Traffic>,
    loss: Arc<Loss>,
    greeting: Option<Greeting>,
    /// Whether the last write found no room.
    full: bool,
}

impl Watched {
    pub(super) fn new(
        inner: Box<dyn Stream>,
        traffic: Arc<Traffic>,
        loss: Arc<Loss>,
        greeting: Greeting,
        limit: ValueLimit,
    ) -> Self {
        let (framing, requests) = (Framing::new(limit), Requests::default());
        let (again, followed) = (Vec::new(), Vec::new());
        Self { inner, framing, requests, again, followed, traffic, loss, greeting: Some(greeting), full: false }
    }

    /// Follows what arrived, of which the last so many bytes are new; returns how much of it is for the reader.
    fn arrived(&mut self, bytes: &mut [u8], new: usize) -> io::Result<usize> {
        self.traffic.sign(new);
        let cause = match self.framing.follow(bytes) {
            Ok(followed) if self.traffic.has_asked(self.framing.replies()) => {
                let (kept, rest) = bytes.split_at(followed.kept);
                self.again.clear();
                self.again.extend_from_slice(&rest[..followed.again]);
                self.record(kept);
                return Ok(followed.kept);
            }
            Ok(_) => BackendError::new(BackendErrorKind::Protocol, "the server sent a reply that nobody asked for"),
            Err(broken) => broken_stream(broken),
        };
        self.loss.declare(cause);
        Err(io::ErrorKind::InvalidData.into())
    }

    fn record(&mut self, bytes: &[u8]) {
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
    }

    /// Reads once. `None` when nothing of what arrived is for the reader: it is the reader that knows 0 bytes for the
    /// end.
    fn read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<Option<()>>> {
        if !self.followed.is_empty() {
            let fits = self.followed.len().min(into.remaining());
            into.put_slice(&self.followed[..fits]);
            self.followed.drain(..fits);
            return Poll::Ready(Ok(Some(())));
        }
        let before = into.filled().len();
        if self.again.is_empty() {
            ready!(self.read_inner(context, into))?;
            let new = into.filled().len() - before;
            if new == 0 {
                return Poll::Ready(Ok(Some(())));
            }
            let kept = self.arrived(&mut into.filled_mut()[before..], new)?;
            into.set_filled(before + kept);
            return Poll::Ready(Ok((kept > 0).then_some(())));
        }
        // Beside the reader's buffer, which may have no room for the line.
        let mut room = [0; 1024];
        let mut beside = ReadBuf::new(&mut room);
        beside.put_slice(&self.again);
        let again = beside.filled().len();
        ready!(self.read_inner(context, &mut beside))?;
        let new = beside.filled().len() - again;
        if new > 0 {
            let kept = self.arrived(beside.filled_mut(), new)?;
            self.followed.extend_from_slice(&beside.filled()[..kept]);
            return Poll::Ready(Ok(None));
        }
        Poll::Ready(Ok(Some(())))
    }

    fn read_inner(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        match ready!(Pin::new(&mut *self.inner).poll_read(context, into)) {
            Ok(()) => {
                if into.filled().len() == before {
                    self.loss.declare(error::closed_by_server());
                }
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.failed(error))),
        }
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
        // Ends where the stream has nothing more for the moment, and at the latest where the runtime's budget does.
        while ready!(self.read(context, into))?.is_none() {}
        Poll::Ready(Ok(()))
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
                let requests = self.requests.follow(&bytes[..written]);
                self.traffic.asked(requests);
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
