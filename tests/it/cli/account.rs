//! Accounts from the command line: what goes wrong, and with which exit code.

use std::io::{Read as _, Write as _};

use crate::support::Home;

#[test]
fn without_an_account_commands_say_so() {
    let home = Home::new();
    for args in [&["rooms"][..], &["send", "#a:b", "hello"], &["tail"], &["logout"], &["recovery-key"]] {
        let done = home.run(args);
        assert_eq!(done.code(), 3, "{args:?}: {}", done.err());
        assert!(done.err().contains("nobody is signed in"), "{}", done.err());
        let json: serde_json::Value = serde_json::from_str(&home.run(&[args, &["--json"]].concat()).err()).unwrap();
        assert_eq!(json["error"]["code"], "not_signed_in");
        assert_eq!(json["error"]["exit"], 3);
    }
}

#[test]
fn a_password_comes_from_a_file_or_a_terminal() {
    let home = Home::new();
    let done = home.run(&["login", "@ann:localhost:1"]);
    assert_eq!(done.code(), 2, "{}", done.err());
    assert!(done.err().contains("--password-file"), "{}", done.err());
    let done = home.run(&["login", "@ann:localhost:1", "--password-file", "/nonexistent"]);
    assert_eq!(done.code(), 7, "{}", done.err());
    let empty = home.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    assert_eq!(home.run(&["login", "@ann:localhost:1", "--password-file", empty.to_str().unwrap()]).code(), 2);
}

#[test]
fn a_server_that_is_down_or_answers_garbage_is_unreachable() {
    let home = Home::new();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "password\n").unwrap();
    let login = |server: &str| home.run(&["login", "@ann:example.org", "--server", server, "--password-file", secret.to_str().unwrap()]);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let done = login(&format!("http://{closed}"));
    assert_eq!(done.code(), 4, "{}", done.err());
    assert!(done.err().contains("cannot be reached"), "{}", done.err());

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Closing with the request unread would reset the connection.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>");
        }
    });
    let done = login(&format!("http://{address}"));
    assert_eq!(done.code(), 4, "{}", done.err());
    assert!(done.err().contains("does not answer like a Matrix server"), "{}", done.err());
    assert!(!home.path().join("data/default/profile.json").exists(), "nothing is left behind");
    assert_eq!(std::fs::read_dir(home.path().join("data/default")).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn two_commands_do_not_share_an_account() {
    let home = Home::new();
    std::fs::create_dir_all(home.path().join("state/default")).unwrap();
    let held = std::fs::File::create(home.path().join("state/default/client.lock")).unwrap();
    held.lock().unwrap();
    (&held).write_all(b"the screen (process 1)").unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "password\n").unwrap();
    let done = home.run(&["login", "@ann:localhost:1", "--password-file", secret.to_str().unwrap()]);
    assert_eq!(done.code(), 6);
    assert!(done.err().contains("the screen (process 1) has this profile open"), "{}", done.err());
}
