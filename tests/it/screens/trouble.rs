//! What goes wrong while somebody is signed in and types: each is told, and nothing is lost.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::steps::{create_home, create_room, login_at, open, quit, room_with, send};
use crate::support::{
    Home, LocalNode, Terminal, eventually,
    proxy::{Mood, Proxy},
    pty::key,
};

/// A screen of `ann`'s behind a proxy, in the room `Lounge`, where `bob` has said so much.
fn behind_a_proxy(node: &LocalNode, home: &Home, said: &[&str]) -> (Proxy, Terminal, crate::support::Person, String) {
    let mut people = [node.person("bob"), node.person("ann")];
    let room = room_with(&mut people, "Lounge", said);
    let proxy = node.runtime().block_on(Proxy::start(node.url(), true));
    login_at(home, &proxy.url(), &people[1]);
    let terminal = Terminal::start(home, &[]);
    terminal.wait_text("online");
    open(&terminal, "Lounge");
    terminal.wait_text(said[said.len() - 1]);
    let [bob, _] = people;
    (proxy, terminal, bob, room)
}

#[test]
fn a_server_that_begins_to_talk_nonsense_is_told_and_costs_nothing() {
    let (node, home) = (LocalNode::start(), Home::new());
    let (proxy, terminal, mut bob, room) = behind_a_proxy(&node, &home, &["hello there"]);
    for (mood, text) in [(Mood::WebPage, "said into the hotel"), (Mood::OtherJson, "said into the hall")] {
        proxy.set(mood);
        terminal.wait_text("offline");
        terminal.keys(text);
        terminal.wait_text(text);
        terminal.keys(key::ENTER);
        // An answer that cannot be read may mean anything: what becomes of the message is the person's to say.
        terminal.wait_text("not sent");
        proxy.set(Mood::Through);
        terminal.wait_text("online");
        terminal.keys("/retry");
        terminal.keys(key::ENTER);
        terminal.wait("the message as sent", |screen| screen.contents().lines().any(|line| line.contains(text) && line.contains('✓')));
        let there = eventually("the message at the others'", || {
            let count = bob.history(&room).iter().filter(|event| event["content"]["body"] == text).count();
            (count > 0).then_some(count)
        });
        assert_eq!(there, 1);
    }
    quit(terminal);
    node.stop();
}

#[test]
fn typing_goes_on_while_history_an_upload_and_a_sync_wait_for_the_server() {
    let (node, home) = (LocalNode::start(), Home::new());
    let said: Vec<String> = (1..=80).map(|number| format!("line {number:02}.")).collect();
    let said: Vec<&str> = said.iter().map(String::as_str).collect();
    let (proxy, terminal, mut bob, room) = behind_a_proxy(&node, &home, &said);
    let file = home.path().join("notes.txt");
    std::fs::write(&file, "so much to say").unwrap();
    proxy.set(Mood::Holding(&["/messages", "/upload", "simplified_msc3575", "/context"]));
    terminal.keys(&format!("/upload {}", file.display()));
    terminal.keys(key::ENTER);
    terminal.wait_text("notes.txt");
    terminal.keys("\x1b[1;5H");
    bob.say(&room, "while you were busy");
    let text = "every letter shows although nothing else moves";
    terminal.keys(text);
    terminal.wait_text(text);
    terminal.keys(&key::ctrl('u'));
    terminal.wait_gone(text);
    proxy.set(Mood::Through);
    // The way to the beginning goes on by itself, the file that is sent leads to the end: whichever came first, this is the end.
    eventually("the file at the others'", || bob.history(&room).iter().any(is_the_file).then_some(()));
    terminal.keys("\x1b[1;5F");
    terminal.wait_text("while you were busy");
    terminal.wait("the file as sent", |screen| screen.contents().lines().any(|line| line.contains("notes.txt") && line.contains('✓')));
    quit(terminal);
    node.stop();
}

fn is_the_file(event: &serde_json::Value) -> bool {
    event["content"]["body"] == "notes.txt" || event["content"]["filename"] == "notes.txt"
}

/// A file system of its own that can be filled; only where the system lets us make one.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(path).stderr(Stdio::null()).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_what_was_typed_comes_back() {
    let home = Home::new();
    let data = home.path().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        eprintln!("skipped: a small file system cannot be mounted here (it takes root)");
        return;
    };
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Diary", "");
    send(&terminal, "there was room for this");
    let ballast = data.join("ballast");
    fill(&ballast);
    terminal.keys("there was none for this");
    terminal.wait_text("there was none for this");
    terminal.keys(key::ENTER);
    terminal.wait_text("disk is full");
    // It is still on the screen, in the composer or as a message that waits.
    terminal.wait_text("there was none for this");
    std::fs::remove_file(&ballast).unwrap();
    quit(terminal);
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("there was room for this");
    terminal.wait_text("there was none for this");
    quit(terminal);
    drop(disk);
}

/// Writes until nothing more goes in.
fn fill(path: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![0; size];
        while file.write_all(&block).is_ok() {}
    }
}
