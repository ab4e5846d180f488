//! The process of a private server: found, started, stopped, ended.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::resp::{Client, Reply};

/// Names a server binary that is in no folder of `PATH`.
const VARIABLE: &str = "TWOTIER_TEST_SERVER";
/// The binaries looked for, the first one first.
const BINARIES: [&str; 2] = ["redis-server", "valkey-server"];
/// How long a server may take to answer its first PING.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server process and its folder. Both are gone once this is dropped.
pub(super) struct Process {
    binary: PathBuf,
    arguments: Vec<String>,
    folder: PathBuf,
    socket: PathBuf,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// Makes the folder; nothing runs yet.
    pub(super) fn new(port: Option<u16>, extra: &[String]) -> Self {
        let (folder, socket) = folder();
        let words =
            ["--port", &port.unwrap_or(0).to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let mut arguments: Vec<String> = words.map(str::to_owned).to_vec();
        arguments
            .extend(["--daemonize", "no", "--dir", &text(&folder), "--unixsocket", &text(&socket)].map(str::to_owned));
        arguments.extend_from_slice(extra);
        Self { binary: binary(), arguments, folder, socket, child: Mutex::default() }
    }

    /// Makes the folder of a sentinel with these directives, which it rewrites itself; nothing runs yet.
    pub(super) fn sentinel(port: u16, directives: &str) -> Self {
        let (folder, socket) = folder();
        let file = folder.join("sentinel.conf");
        let own = format!("port {port}\nbind 127.0.0.1\ndir {}\nunixsocket {}\n", text(&folder), text(&socket));
        fs::write(&file, own + directives).expect("the temporary folder is writable");
        let arguments = vec![text(&file), "--sentinel".to_owned()];
        Self { binary: binary(), arguments, folder, socket, child: Mutex::default() }
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Writes a file into the folder of the process.
    pub(super) fn write(&self, name: &str, content: &str) {
        fs::write(self.folder.join(name), content).expect("the temporary folder is writable");
    }

    /// Starts the process.
    pub(super) fn start(&self) -> Result<(), String> {
        let failed = |error: io::Error| format!("cannot start {}: {error}", self.binary.display());
        let log = File::create(self.log()).map_err(failed)?;
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        *self.child.lock().unwrap() = Some(child);
        Ok(())
    }

    /// Waits until a PING is answered. It goes to the unix socket: on the port somebody else might answer.
    pub(super) fn wait_until_ready(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if self.answers() {
                return Ok(());
            }
            let ended = self.child.lock().unwrap().as_mut().and_then(|child| child.try_wait().ok().flatten());
            let trouble = match ended {
                Some(status) => format!("ended at once ({status})"),
                None if start.elapsed() > PATIENCE => "does not answer".to_owned(),
                None => {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
            };
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            return Err(format!("{} {trouble}; its log:\n{log}", self.binary.display()));
        }
    }

    /// Kills the process and waits until it is gone.
    pub(super) fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            // Either fails only if the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(super) fn pause(&self) {
        let pid = self.signal(Signal::STOP);
        // The signal may still be under way when `kill` returns; the process counts as stopped when its parent is
        // notified. NOWAIT leaves the news, and the end of the process, for `Child` to receive too.
        let options = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(pid), options).expect("the server is a child of this process");
    }

    pub(super) fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) -> Pid {
        let child = self.child.lock().unwrap();
        let pid = Pid::from_child(child.as_ref().expect("the server runs"));
        kill_process(pid, signal).expect("the server is a child of this process");
        pid
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Any answer will do: with a password set it is an error.
    fn answers(&self) -> bool {
        let ping = Client::unix(&self.socket).and_then(|mut client| client.try_command(&["PING"]));
        match ping {
            Ok(Reply::Error(error)) => !error.starts_with("LOADING"),
            Ok(_pong) => true,
            Err(_not_yet) => false,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // A folder that is left over is in nobody's way.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Makes the folder of a process, and chooses its socket.
fn folder() -> (PathBuf, PathBuf) {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Short, since the path of a unix socket has at most 104 bytes.
    let folder = env::temp_dir().join(format!("twotier-{}-{number}", process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder is writable");
    let socket = folder.join("redis.sock");
    (folder, socket)
}

/// Returns the server binary, or fails the test.
fn binary() -> PathBuf {
    if let Some(named) = env::var_os(VARIABLE).filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        let found = if named.components().count() == 1 { in_path(named.as_os_str()) } else { Some(named.clone()) };
        return found
            .filter(|binary| is_program(binary))
            .unwrap_or_else(|| panic!("{VARIABLE} names `{}`, which is no program", named.display()));
    }
    BINARIES.iter().find_map(|name| in_path(OsStr::new(name))).unwrap_or_else(|| {
        panic!(
            "this test needs a Redis or Valkey server, and there is no redis-server and no valkey-server in PATH\n\
             \n  `cargo xtask test` installs one, or says how; by hand it is\
             \n      apt-get install redis-server   or   dnf install valkey   or   brew install redis\
             \n  another place is named by   {VARIABLE}=/path/to/redis-server\
             \n  and `cargo xtask test --no-redis` leaves these tests out"
        )
    })
}

fn in_path(name: &OsStr) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|program| is_program(program))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

fn text(path: &Path) -> String {
    path.to_str().expect("the temporary folder has a name in UTF-8").to_owned()
}
