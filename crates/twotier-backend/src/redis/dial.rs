//! How a stream to the server is made.

use redis::{AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection};

/// Makes one connection after the other to the same server.
pub(super) enum Dial {
    /// Over TCP, TLS or a unix socket, as the URL said.
    Client(Box<Client>),
    /// Over streams that the caller makes.
    #[cfg(feature = "simulation")]
    Streams(streams::Dialer),
}

/// A connection and what keeps its reader going.
pub(super) struct Dialed {
    pub(super) commands: MultiplexedConnection,
    /// Ends the task that reads the stream, when the last clone of the connection is gone. The crate does that by itself
    /// for streams that it made.
    pub(super) reader: Option<std::sync::Arc<Reader>>,
}

/// A task that ends when this is dropped.
pub(super) struct Reader(tokio::task::AbortHandle);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Dial {
    pub(super) async fn dial(&self, config: AsyncConnectionConfig) -> RedisResult<Dialed> {
        match self {
            Self::Client(client) => {
                let commands = client.get_multiplexed_async_connection_with_config(&config).await?;
                Ok(Dialed { commands, reader: None })
            }
            #[cfg(feature = "simulation")]
            Self::Streams(dialer) => streams::dial(dialer, config).await,
        }
    }
}

#[cfg(feature = "simulation")]
pub(super) mod streams {
    use std::{io, pin::Pin, sync::Arc};

    use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, RedisResult, aio::MultiplexedConnection};
    use tokio::io::{AsyncRead, AsyncWrite};

    use super::{Dialed, Reader};

    /// What a connection runs over.
    pub(in crate::redis) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

    impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

    type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;
    pub(in crate::redis) type Dialer = Arc<dyn Fn() -> Dialing + Send + Sync>;

    /// Forgets the types of a function that makes streams.
    pub(in crate::redis) fn dialer<F, Fut, S>(dial: F) -> Dialer
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Arc::new(move || {
            let dialing = dial();
            Box::pin(async move { Ok(Box::new(dialing.await?) as Box<dyn Stream>) })
        })
    }

    pub(super) async fn dial(dialer: &Dialer, config: AsyncConnectionConfig) -> RedisResult<Dialed> {
        let stream = dialer().await?;
        let settings = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
        let (commands, reader) = MultiplexedConnection::new_with_config(&settings, stream, config).await?;
        let reader = Reader(tokio::spawn(reader).abort_handle());
        Ok(Dialed { commands, reader: Some(Arc::new(reader)) })
    }
}
