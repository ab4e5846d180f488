//! `MULTI` and `EXEC`.

use std::time::Duration;

use super::{
    command::execute,
    resp::{Command, Output},
    server::State,
};

/// Begins or ends a transaction, or queues a command of one. Returns whether the command was one of these.
pub(super) fn takes(state: &mut State, client: u64, command: &Command, now: Duration) -> bool {
    let mut output = Output::default();
    let name = command[0].to_ascii_uppercase();
    match state.transactions.remove(&client) {
        Some(queued) if name == b"EXEC" => {
            output.array(queued.len());
            state.client(client).output.0.append(&mut output.0);
            for command in &queued {
                execute(state, client, command, now);
            }
            return true;
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
        None => return false,
    }
    state.client(client).output.0.append(&mut output.0);
    true
}
