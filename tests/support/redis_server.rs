//! A private Redis server: on a Unix socket in a folder of its own, and ended with its value.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const START: Duration = Duration::from_secs(20);

/// How to install a server.
pub const INSTALL: &str = "no `redis-server` or `valkey-server` found; install one, for example by `apt-get install redis-server` \
                           or `brew install redis`, or name its path in the environment variable `REDIS_SERVER`";

/// A running server.
#[derive(Debug)]
pub struct RedisServer {
    /// Its folder, for the socket and what it saves.
    folder: PathBuf,
    /// Its options, besides those that every server is given.
    options: Vec<String>,
    /// The process.
    process: Child,
}

/// Returns the program of the server, if one is installed.
#[must_use]
pub fn program() -> Option<PathBuf> {
    if let Some(path) = env::var_os("REDIS_SERVER") {
        return Some(path.into());
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let find = |name: &str| {
        folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
    };
    find("redis-server").or_else(|| find("valkey-server"))
}

impl RedisServer {
    /// Starts a server that appends each write to a file, with an fsync each second.
    ///
    /// # Errors
    ///
    /// Returns how to install a server, or why it did not start.
    pub fn start() -> Result<Self, String> {
        Self::start_with(&["--appendonly", "yes"])
    }

    /// Starts a server with `options`, such as `["--appendonly", "yes", "--appendfsync", "always"]`. Without options it
    /// saves nothing.
    ///
    /// # Errors
    ///
    /// Returns how to install a server, or why it did not start.
    pub fn start_with(options: &[&str]) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Short, because the path of a socket has at most 107 bytes.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("lv{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let process = launch(&folder, &options)?;
        let mut server = RedisServer {
            folder,
            options,
            process,
        };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Returns the path of its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("s")
    }

    /// Returns the number of its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it by SIGKILL, as a crash would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again after [`kill`](RedisServer::kill), with what it saved.
    ///
    /// # Errors
    ///
    /// Returns why it did not start.
    pub fn restart(&mut self) -> Result<(), String> {
        let _ = fs::remove_file(self.socket());
        self.process = launch(&self.folder, &self.options)?;
        self.wait_until_ready()
    }

    /// Sends one command and returns the reply as the server wrote it.
    ///
    /// # Errors
    ///
    /// Returns the error of the connection.
    pub fn command<A: AsRef<OsStr>>(&self, words: &[A]) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            let word = word.as_ref().as_encoded_bytes();
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend(word);
            request.extend(b"\r\n");
        }
        stream.write_all(&request)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    }

    /// Waits until it answers.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            if self
                .command(&["PING"])
                .is_ok_and(|reply| reply.starts_with("+PONG"))
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!("the server ended at its start: {status}"));
            }
            if start.elapsed() > START {
                return Err(format!("the server did not answer within {START:?}"));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Launches the process.
fn launch(folder: &Path, options: &[String]) -> Result<Child, String> {
    let program = program().ok_or(INSTALL)?;
    Command::new(&program)
        .args([
            "--port",
            "0",
            "--unixsocket",
            "s",
            "--unixsocketperm",
            "700",
            "--save",
            "",
        ])
        .args([
            "--loglevel",
            "warning",
            "--logfile",
            "log",
            "--daemonize",
            "no",
        ])
        .args(["--enable-debug-command", "yes", "--dir"])
        .arg(folder)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a server for a test. Without an installed server, the test fails if the environment variable `CI` is set,
/// and is otherwise skipped with a line on the standard error.
#[must_use]
pub fn for_test(options: &[&str]) -> Option<RedisServer> {
    if program().is_none() && env::var_os("CI").is_none() {
        // Not by `eprintln`, which the harness hides for tests that pass.
        let _ = writeln!(io::stderr(), "SKIPPED: {INSTALL}");
        return None;
    }
    Some(RedisServer::start_with(options).expect("a server for the test"))
}
