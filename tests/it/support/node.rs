//! A node to test against: in this process, or as `homeroom serve` in one of its own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Stdio},
    sync::{Arc, mpsc},
};

use homeroom::{
    base::{Shutdown, SystemClock, SystemRandomness},
    homeserver::{Config, Homeserver, Listeners, Registration, StartError},
};
use ruma::OwnedServerName;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    Home, Person,
    http::{Address, Http},
    wait::PATIENCE,
};

/// The server name of every node in here.
pub const SERVER_NAME: &str = "home.test";

/// A node in this process, with open registration and without rate limits, on a directory of its own.
pub struct LocalNode {
    server: Option<Homeserver>,
    runtime: Runtime,
    address: SocketAddr,
    dir: PathBuf,
    /// Removes the directory at the end; `None` when the caller keeps it.
    _owned: Option<TempDir>,
}

impl LocalNode {
    /// Starts one on a new directory.
    pub fn start() -> Self {
        let owned = tempfile::Builder::new().prefix("hr").tempdir().unwrap();
        let mut node = Self::open(owned.path().to_path_buf()).unwrap();
        node._owned = Some(owned);
        node
    }

    /// Starts one on a directory that may hold a node's data.
    ///
    /// # Errors
    /// As the node has them.
    pub fn open(dir: PathBuf) -> Result<Self, StartError> {
        Self::open_with(dir, |_| {})
    }

    /// The same, with a chance to change the settings.
    ///
    /// # Errors
    /// As the node has them.
    pub fn open_with(dir: PathBuf, change: impl FnOnce(&mut Config)) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut config = Config::new(OwnedServerName::try_from(SERVER_NAME).unwrap(), dir.clone());
        config.registration = Registration::Open;
        config.rate_limits = false;
        change(&mut config);
        let listeners = Listeners { socket: Some(dir.join("node.sock")), tcp: vec!["127.0.0.1:0".parse().unwrap()], tls: None };
        let start = Homeserver::start(config, listeners, Arc::new(SystemClock), Arc::new(SystemRandomness), Shutdown::new());
        let server = runtime.block_on(start)?;
        let address = server.addresses()[0];
        Ok(Self { server: Some(server), runtime, address, dir, _owned: None })
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its data directory.
    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// A client without an account.
    pub fn http(&self) -> Http {
        Http::new(self.address())
    }

    /// A new account, made by the owner.
    #[track_caller]
    pub fn person(&self, name: &str) -> Person {
        let password = format!("the password of {name}");
        let accounts = &self.server().node().accounts;
        self.runtime.block_on(accounts.create(name, &password, false)).unwrap();
        Person::login(self.address(), name, &password)
    }

    /// The runtime that it runs on.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The server itself.
    pub fn server(&self) -> &Homeserver {
        self.server.as_ref().unwrap()
    }

    /// Stops it in order.
    pub fn stop(mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

impl Drop for LocalNode {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

/// `homeroom serve` as a process of its own. Killed when dropped.
pub struct ServedNode {
    child: Child,
    /// The line that said that it is ready.
    pub ready: String,
    address: SocketAddr,
}

impl ServedNode {
    /// Starts it on a home with open registration, without rate limits, on a port that the system chooses.
    #[track_caller]
    pub fn start(home: &Home) -> Self {
        Self::start_with(home, &[])
    }

    /// The same with more arguments.
    #[track_caller]
    pub fn start_with(home: &Home, args: &[&str]) -> Self {
        let mut all = vec!["serve", "--server-name", SERVER_NAME, "--listen", "127.0.0.1:0", "--registration", "open", "--no-rate-limits"];
        all.extend_from_slice(args);
        Self::spawn(home.command(&all)).unwrap_or_else(|error| panic!("serve did not start: {error}"))
    }

    /// Starts a prepared command and waits for its line on standard output.
    ///
    /// # Errors
    /// What it wrote to standard error, when it ends without that line.
    pub fn spawn(mut command: std::process::Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (line_in, line_out) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            let _ = reader.read_line(&mut line);
            let _ = line_in.send(line);
            // Keep the pipe open, so that the node never writes into a closed one.
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        });
        let (errors_in, errors_out) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = std::io::Read::read_to_string(&mut stderr, &mut text);
            let _ = errors_in.send(text);
        });
        let ready = line_out.recv_timeout(PATIENCE).unwrap_or_default();
        let Some(address) = find_address(&ready) else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("{ready}{}", errors_out.recv_timeout(PATIENCE).unwrap_or_default()));
        };
        Ok(Self { child, ready, address })
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Tcp(self.address)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A new account.
    #[track_caller]
    pub fn person(&self, name: &str) -> Person {
        Person::register(self.address(), name)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop; its exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for ServedNode {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first `127.0.0.1:PORT` in a line.
fn find_address(line: &str) -> Option<SocketAddr> {
    let start = line.find("127.0.0.1:")?;
    let rest = &line[start..];
    let end = rest.char_indices().skip(10).find(|(_, c)| !c.is_ascii_digit()).map_or(rest.len(), |(index, _)| index);
    rest[..end].parse().ok()
}
