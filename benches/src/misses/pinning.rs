//! Server and client on a core each, where that can be had.

use std::{fmt, process::Command, thread};

use crate::{Result, server::Server};

/// Which core was given to whom. Dropping it gives this process all of them back.
#[derive(Debug)]
pub(super) struct Pinning {
    pinned: bool,
    cores: usize,
}

impl Pinning {
    /// How many cores there are.
    pub(super) fn cores(&self) -> usize {
        self.cores
    }

    /// Puts a private server on the first core and this process on the second.
    pub(super) fn of(server: &Server) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let own = std::process::id().to_string();
        let mut pinned = false;
        if server.is_private() && cores > 1 {
            let theirs = server.process_id()?;
            pinned = taskset("0", &theirs) && taskset("1", &own);
        }
        Ok(Self { pinned, cores })
    }
}

impl Drop for Pinning {
    fn drop(&mut self) {
        if self.pinned {
            let all = format!("0-{}", self.cores - 1);
            taskset(&all, &std::process::id().to_string());
        }
    }
}

impl fmt::Display for Pinning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.pinned {
            "server on core 0, clients on core 1"
        } else {
            "none: clients and server may share a core"
        })
    }
}

/// Sets the cores of every thread of a process; says whether that worked.
fn taskset(cores: &str, process: &str) -> bool {
    let run = Command::new("taskset").args(["-acp", cores, process]).output();
    run.is_ok_and(|output| output.status.success())
}
