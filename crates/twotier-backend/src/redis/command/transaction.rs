//! Commands that are executed as one, with every reply on the way looked at.

use redis::{Pipeline, Value};
use twotier_core::{BackendError, BackendErrorKind};

use crate::{BackendResult, redis::wire::Reply};

/// Opens a transaction in a pipeline.
pub(super) fn begin(commands: &mut Pipeline) {
    commands.cmd("MULTI");
}

/// Reads the replies to a transaction of `count` commands that was closed by `EXEC`, and returns those of the commands.
///
/// `command` names each. One that was refused as it was queued is the error of all: nothing was executed then.
/// `announced` is whether the transaction tells others of itself.
pub(super) fn end(
    replies: &mut Reply,
    count: usize,
    command: impl Fn(usize) -> &'static str,
    announced: bool,
) -> BackendResult<Reply> {
    let connection = replies.connection().clone();
    if let Err(refused) = replies.okay("MULTI") {
        if connection.loss().is_declared() {
            return Err(refused);
        }
        if !announced {
            // What followed was executed one by one.
            for index in 0..=count {
                let _answered = replies.value(if index < count { command(index) } else { "EXEC" });
            }
            let message = "MULTI was refused: allow it with `+multi +exec`";
            let code = refused.code().unwrap_or_default();
            return Err(BackendError::new(refused.kind(), message).with_code(code).maybe_executed());
        }
        // What followed was executed one by one, and nobody knows what others have seen of it.
        let cause = BackendError::new(BackendErrorKind::Unavailable, "MULTI was refused").with_source(refused);
        connection.loss().declare(cause.clone());
        return Err(cause);
    }
    let mut refusal = None;
    for index in 0..count {
        if let Err(refused) = replies.queued(command(index)) {
            if connection.loss().is_declared() {
                return Err(refused);
            }
            refusal.get_or_insert(refused);
        }
    }
    match (replies.value("EXEC"), refusal) {
        (Ok(Value::Array(values)), None) if values.len() == count => Ok(Reply::within(connection, values)),
        (Err(aborted), refusal) => Err(refusal.unwrap_or(aborted)),
        (Ok(_other_shape), _) => Err(connection.out_of_step("EXEC")),
    }
}
