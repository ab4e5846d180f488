//! How a task ends when it does not end well.

use std::process::ExitCode;

/// What every task returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why a task did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line was wrong: exit 2.
    Usage(String),
    /// Something that was checked does not hold, or a command failed: exit 1.
    Failed(String),
    /// The closing line of totals has already said it: exit 1.
    Counted,
}

impl Failure {
    pub(crate) fn print(&self) {
        match self {
            Self::Usage(message) => eprintln!("error: {message}\n\nsee `cargo xtask --help`"),
            Self::Failed(message) => eprintln!("error: {message}"),
            Self::Counted => {}
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) | Self::Counted => ExitCode::FAILURE,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
