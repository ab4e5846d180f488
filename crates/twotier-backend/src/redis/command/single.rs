//! Reads of one key, whose results are handed over whoever polls.

use std::{
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use twotier_core::{BackendError, BackendErrorKind};

use crate::GetReply;

use super::{
    connections::Connections,
    lanes::Lanes,
    read::{self, ReadResult},
};

/// The commands of a link: its connections, and the reads that run over them by themselves.
#[derive(Clone)]
pub(in crate::redis) struct Commands(Arc<Shared>);

struct Shared {
    connections: Connections,
    reads: Lanes<Read>,
}

impl Commands {
    pub(in crate::redis) fn new(connections: Connections) -> Self {
        Self(Arc::new(Shared { connections, reads: Lanes::new() }))
    }
}

impl Deref for Commands {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.0.connections
    }
}

/// Starts the read of a key, whose result is handed over as it arrives.
pub(in crate::redis) fn start_get(commands: &Commands, key: &[u8], reply: GetReply) {
    let read = Read { connections: commands.0.connections.clone(), key: key.to_vec(), reply: Some(reply) };
    commands.0.reads.start(read, Read::run);
}

/// A read under way. Dropped early, it is an error for whoever waits.
struct Read {
    connections: Connections,
    key: Vec<u8>,
    reply: Option<GetReply>,
}

impl Read {
    async fn run(mut self) {
        let result = read::get(&self.connections, &self.key).await;
        self.answer(result);
    }

    /// Hands the result over. A panic of whoever takes it is not ours.
    fn answer(&mut self, result: ReadResult) {
        let Some(reply) = self.reply.take() else { return };
        if catch_unwind(AssertUnwindSafe(|| reply.send(result))).is_err() {
            tracing::error!("the result of a read was handed over to code that panicked");
        }
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        let message = "the read was ended by the end of the runtime";
        self.answer(Err(BackendError::new(BackendErrorKind::Unavailable, message)));
    }
}
