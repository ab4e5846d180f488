//! Commands: shown, then run from the root of the repository.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::failure::{Failure, Outcome};

/// How often a command that must end is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Returns the root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a folder of the repository")
}

/// Returns the cargo that runs this task, with one subcommand.
///
/// It does not see what `cargo run` tells this program about its own manifest: some build scripts run again when that
/// changes, so everything behind them would be built twice, by tasks and by people.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).arg(subcommand);
    let is_ours = |name: &OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_")
    };
    for (name, _) in env::vars_os().filter(|(name, _)| is_ours(name)) {
        command.env_remove(name);
    }
    command
}

/// Makes a path that was typed by a person absolute, for a command that runs elsewhere.
pub(crate) fn absolute(path: &Path) -> Outcome<PathBuf> {
    std::path::absolute(path).map_err(|error| Failure::Failed(format!("{}: {error}", path.display())))
}

/// Shows a command, runs it and fails if it does.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = status(command)?;
    if status.success() { Ok(()) } else { Err(Failure::Failed(format!("`{}` failed ({status})", shown(command)))) }
}

/// Shows a command, runs it and returns how it ended.
pub(crate) fn status(command: &mut Command) -> Outcome<ExitStatus> {
    show(command);
    command.status().map_err(|error| cannot_start(command, &error))
}

/// Shows a command and runs it; its standard output is passed on as it comes and also given to `line`, line by line.
pub(crate) fn stream(
    command: &mut Command,
    terminal: &mut impl Write,
    mut line: impl FnMut(&str),
) -> Outcome<ExitStatus> {
    show(command);
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| cannot_start(command, &error))?;
    let mut output = child.stdout.take().expect("standard output is piped");
    let (mut chunk, mut pending) = (vec![0; 8192], Vec::new());
    loop {
        let read = match output.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => &chunk[..read],
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        terminal.write_all(read)?;
        terminal.flush()?;
        pending.extend_from_slice(read);
        while let Some(end) = pending.iter().position(|&byte| byte == b'\n') {
            line(&String::from_utf8_lossy(&pending[..end]));
            pending.drain(..=end);
        }
    }
    line(&String::from_utf8_lossy(&pending));
    Ok(child.wait()?)
}

/// Runs a command unseen for at most so long. Returns how it ended and what it printed on its standard output, `None`
/// when it did not end: then it is killed, with whatever it has started.
pub(crate) fn within(limit: Duration, command: &mut Command) -> Outcome<Option<(ExitStatus, String)>> {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| cannot_start(command, &error))?;
    let mut output = child.stdout.take().expect("standard output is piped");
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = output.read_to_end(&mut bytes);
        bytes
    });
    let start = now();
    loop {
        if let Some(status) = child.try_wait()? {
            let bytes = reader.join().unwrap_or_default();
            return Ok(Some((status, String::from_utf8_lossy(&bytes).into_owned())));
        }
        if start.elapsed() >= limit {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
            let _ = child.kill();
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

/// Reads the time that real commands take.
#[allow(clippy::disallowed_methods, reason = "no test could move it")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Runs a command unseen and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|error| cannot_start(command, &error))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Failed(format!("`{}` failed:\n{}", shown(command), errors.trim_end())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prints a heading.
pub(crate) fn heading(text: &str) {
    eprintln!("\n==> {text}");
}

/// Prints the command, so that a person can repeat it.
pub(crate) fn show(command: &Command) {
    eprintln!("$ {}", shown(command));
}

/// Formats a command as a person would type it at the root of the repository.
pub(crate) fn shown(command: &Command) -> String {
    let variables =
        command.get_envs().filter_map(|(name, value)| Some(format!("{}={}", plain(name), quoted(&plain(value?)))));
    let program = Path::new(command.get_program()).file_stem().map_or_else(String::new, plain);
    let arguments = command.get_args().map(|argument| quoted(&plain(argument)));
    variables.chain([program]).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn plain(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}

fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_=+:,./@%".contains(c);
    if !text.is_empty() && text.chars().all(harmless) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    Failure::Failed(format!("cannot start `{}`: {error}", shown(command)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_does_not_see_the_manifest_of_this_program() {
        let cargo = cargo("build");
        let removed: Vec<_> = cargo.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        assert!(removed.contains(&OsStr::new("CARGO_MANIFEST_DIR")), "{removed:?}");
        assert!(removed.contains(&OsStr::new("CARGO_PKG_VERSION")), "{removed:?}");
        assert!(cargo.get_envs().all(|(_, value)| value.is_none()));
    }

    #[test]
    fn a_command_is_shown_as_it_would_be_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["test", "--skip", "a b", "it's", ""]).env("CASES", "10");
        assert_eq!(shown(&command), r"CASES=10 cargo test --skip 'a b' 'it'\''s' ''");
    }

    #[test]
    fn output_is_passed_on_line_by_line_and_a_last_line_without_an_end_counts() {
        let mut lines = Vec::new();
        let mut command = Command::new("printf");
        command.args(["%s", "one\ntwo"]);
        let mut terminal = Vec::new();
        assert!(stream(&mut command, &mut terminal, |line| lines.push(line.to_owned())).unwrap().success());
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(terminal, b"one\ntwo");
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_does_not_end_is_killed_with_what_it_has_started() {
        let start = now();
        let hangs = within(Duration::from_millis(200), Command::new("sh").args(["-c", "sleep 60 & echo $!; wait"]));
        assert!(hangs.unwrap().is_none() && start.elapsed() < Duration::from_secs(30));
        let ended = within(Duration::from_secs(60), Command::new("sh").args(["-c", "echo seen; exit 3"]));
        let (status, printed) = ended.unwrap().unwrap();
        assert_eq!((status.code(), printed.as_str()), (Some(3), "seen\n"));
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let Err(Failure::Failed(message)) = run(&mut Command::new("no-such-program")) else { panic!("it ran") };
        assert!(message.contains("no-such-program"), "{message}");
    }
}
