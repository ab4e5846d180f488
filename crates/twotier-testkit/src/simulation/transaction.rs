//! `MULTI` and `EXEC`.

use std::time::Duration;

use super::{
    command,
    resp::{Command, Output},
    state::State,
};

/// Executes a command that a client sent, or queues it where the client has begun a transaction.
pub(super) fn execute(state: &mut State, client: u64, command: &Command, now: Duration) {
    let mut output = Output::default();
    let name = command[0].to_ascii_uppercase();
    assert!(state.membership.is_none() || name != b"MULTI", "no transaction is simulated at a node of a cluster");
    match state.transactions.remove(&client) {
        Some(queued) if name == b"EXEC" => {
            output.array(queued.len());
            state.client(client).output.0.append(&mut output.0);
            for command in &queued {
                command::execute(state, client, command, now);
            }
            return;
        }
        Some(mut queued) => {
            queued.push(command.clone());
            state.transactions.insert(client, queued);
            output.simple("QUEUED");
        }
        None if name == b"MULTI" => {
            state.transactions.insert(client, Vec::new());
            output.okay();
        }
        None => return command::execute(state, client, command, now),
    }
    state.client(client).output.0.append(&mut output.0);
}
