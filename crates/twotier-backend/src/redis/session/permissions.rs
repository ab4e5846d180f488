//! What a user may do under a namespace, and what to allow where that is too little.

use redis::Pipeline;
use twotier_core::{BackendError, BackendErrorKind, Namespace};

use crate::{BackendResult, redis::wire::Reply};

/// The codes of refusals that a server without room gives to writes. It reads as ever.
const NO_ROOM: [&str; 3] = ["MISCONF", "OOM", "NOREPLICAS"];
/// How many replies the commands of [`add_reads`] have.
pub(super) const READS: usize = 3;
/// How many replies the commands of [`add_write`] have.
pub(super) const WRITES: usize = 2;

/// Adds the commands by which values are read.
pub(super) fn add_reads(commands: &mut Pipeline, key: &[u8]) {
    for command in ["GET", "PTTL", "MGET"] {
        commands.cmd(command).arg(key);
    }
}

/// Adds a change, and what takes it back.
pub(super) fn add_write(commands: &mut Pipeline, key: &[u8]) {
    commands.cmd("SET").arg(key).arg("").arg("PX").arg(1000);
    commands.cmd("UNLINK").arg(key);
}

/// Reads whether a user may do what reads need, and returns whether `MGET` is part of that. Takes every reply, whatever
/// the first ones are.
pub(super) fn may_read(replies: &mut Reply, namespace: &Namespace) -> BackendResult<bool> {
    let value = replies.bulk("GET").map_err(|cause| with_cure(cause, "GET", namespace));
    let time = replies.integer("PTTL").map_err(|cause| with_cure(cause, "PTTL", namespace));
    let values = replies.array("MGET");
    value?;
    time?;
    match values {
        Ok(_nothing) => Ok(true),
        // Keys are then read one by one.
        Err(cause) if matches!(cause.code(), Some("NOPERM" | "ERR")) => Ok(false),
        Err(cause) => Err(cause),
    }
}

/// Reads whether a user may write, and has room to. Takes every reply, whatever the first one is.
pub(super) fn may_write(replies: &mut Reply, namespace: &Namespace) -> BackendResult<()> {
    let set = replies.okay("SET").map_err(|cause| with_cure(cause, "SET", namespace));
    let removed = replies.integer("UNLINK").map(drop).map_err(|cause| with_cure(cause, "UNLINK", namespace));
    match (set, removed) {
        // What the user may never do is the graver one.
        (Err(cause), Err(graver)) if is_without_room(&cause) => Err(graver),
        (set, removed) => set.and(removed),
    }
}

/// Returns whether a server refuses a write for want of room, for the moment.
pub(super) fn is_without_room(refusal: &BackendError) -> bool {
    refusal.code().is_some_and(|code| NO_ROOM.contains(&code))
}

/// Describes what a user lacks.
pub(super) fn with_cure(cause: BackendError, command: &str, namespace: &Namespace) -> BackendError {
    if cause.code() != Some("NOPERM") {
        return cause;
    }
    let (word, prefix) = (command.to_lowercase(), namespace.prefix());
    let scope = match command {
        "PUBLISH" | "SUBSCRIBE" => format!("+{word} &{prefix}*"),
        "MULTI" | "EXEC" => format!("+{word}"),
        _ => format!("+{word} ~{prefix}*"),
    };
    let message = format!("the user may not run {command} for namespace `{namespace}`: allow it with `{scope}`");
    BackendError::new(BackendErrorKind::Denied, message).with_code("NOPERM").not_sent()
}
