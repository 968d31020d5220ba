//! `homeroom serve` from outside: the line that says it is ready, its lock, its end.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Stdio},
};

use crate::support::Home;

/// A running `homeroom serve`. Ends with the test.
pub struct Serving {
    child: Child,
    /// The line that it printed when it was ready.
    pub ready: String,
    rest: BufReader<std::process::ChildStdout>,
}

impl Serving {
    pub fn start(home: &Home, args: &[&str]) -> Self {
        let mut child = home.command(&[&["serve"], args].concat()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut rest = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        rest.read_line(&mut ready).unwrap();
        Self { child, ready, rest }
    }

    /// Sends SIGTERM; gives the exit code and what was printed after the first line.
    pub fn stop(mut self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut text = String::new();
        self.rest.read_to_string(&mut text).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (self.child.wait().unwrap().code(), text)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn one_line_says_where_the_node_is_and_sigterm_ends_it() {
    let home = Home::new();
    let serving = Serving::start(&home, &["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--server-name", "example.org"]);
    assert!(serving.ready.starts_with("ready: example.org on http://127.0.0.1:"), "{}", serving.ready);
    assert_eq!(serving.ready.matches("http://127.0.0.1:").count(), 2);
    let socket = serving.ready.trim().rsplit_once("unix:").unwrap().1.to_owned();
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    assert_eq!(serving.stop(), (Some(0), String::new()));
    assert!(!std::path::Path::new(&socket).exists());
}

#[test]
fn the_second_on_one_node_says_why_it_cannot() {
    let home = Home::new();
    let dir = home.path().join("elsewhere");
    let dir = dir.to_str().unwrap();
    let _first = Serving::start(&home, &["--data-dir", dir]);
    let second = home.run(&["serve", "--data-dir", dir]);
    assert_eq!(second.code(), 6);
    assert!(second.err().contains("another homeroom runs this node"), "{}", second.err());
    assert_eq!(std::fs::metadata(format!("{dir}/node.db")).unwrap().permissions().mode() & 0o077, 0);
}

#[test]
fn a_node_keeps_its_name_without_being_told_again() {
    let home = Home::new();
    assert!(Serving::start(&home, &["--server-name", "first.example"]).stop().0 == Some(0));
    assert!(Serving::start(&home, &[]).ready.starts_with("ready: first.example "));
    let dir = home.path().join("d2");
    let dir = dir.to_str().unwrap();
    assert!(Serving::start(&home, &["--data-dir", dir, "--server-name", "second.example"]).stop().0 == Some(0));
    assert!(Serving::start(&home, &["--data-dir", dir]).ready.starts_with("ready: second.example "));
    let renamed = home.run(&["serve", "--data-dir", dir, "--server-name", "third.example"]);
    assert_eq!(renamed.code(), 2);
    assert!(renamed.err().contains("second.example"), "{}", renamed.err());
}

#[test]
fn an_address_in_use_is_named() {
    let home = Home::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = home.run(&["serve", "--listen", &address]);
    assert_eq!(done.code(), 6);
    assert!(done.err().contains(&address), "{}", done.err());
}

/// A socket's path has room for 103 bytes.
#[test]
fn a_node_in_a_directory_with_a_long_name_is_found_by_everybody() {
    let home = Home::new();
    let long = home.path().join("x".repeat(120));
    home.configure(&format!("[node]\ndata_dir = {long:?}\n"));
    let secret = home.path().join("secret");
    std::fs::write(&secret, "correct horse battery\n").unwrap();
    let serving = Serving::start(&home, &["--server-name", "first.example"]);
    let ask = |args: &[&str]| home.run(&[args, &["--password-file", secret.to_str().unwrap()]].concat());
    let made = ask(&["account", "create", "ann"]);
    assert_eq!(made.code(), 0, "{}", made.err());
    let done = ask(&["login", "@ann:first.example"]);
    assert_eq!(done.code(), 0, "{}", done.err());
    let rooms = home.run(&["rooms", "--json"]);
    assert_eq!(rooms.code(), 0, "{}", rooms.err());
    assert_eq!(serving.stop().0, Some(0));
    assert!(!long.join("node.sock.at").exists(), "nothing is left behind");
}
