//! The screen against a server elsewhere: offline, broken, refusing; and two screens with each other.

use std::time::Duration;

use super::steps::{create_room, login, open, quit, room_with, send, sign_in};
use crate::support::{
    Home, ServedNode, Terminal,
    fake::{self, Misbehaviour},
    pty::key,
};

#[test]
fn cached_rooms_and_messages_show_while_the_server_is_gone() {
    let (server, home) = (Home::new(), Home::new());
    let mut node = ServedNode::start(&server);
    let mut people = [node.person("bob"), node.person("ann")];
    room_with(&mut people, "Lounge", &["the first words", "the last words"]);
    login(&home, &node, &people[1]);
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("Lounge");
    open(&terminal, "Lounge");
    terminal.wait_text("the first words");
    quit(terminal);
    node.kill();
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("Lounge");
    terminal.wait_text("the last words");
    terminal.wait_text("the first words");
    terminal.wait_text("offline");
    // What is typed meanwhile is kept as an unsent message.
    terminal.keys("into the void");
    terminal.keys(key::ENTER);
    terminal.wait_text("into the void");
    quit(terminal);
}

#[test]
fn two_screens_talk_in_an_encrypted_room() {
    let (server, first, second) = (Home::new(), Home::new(), Home::new());
    let node = ServedNode::start(&server);
    let (ann, bob) = (node.person("ann"), node.person("bob"));
    login(&first, &node, &ann);
    login(&second, &node, &bob);
    let hers = Terminal::start(&first, &[]);
    let his = Terminal::start(&second, &[]);
    hers.wait_text("online");
    his.wait_text("online");
    create_room(&hers, "Den", &bob.user_id);
    his.wait_text("Den");
    his.keys("\x1br");
    his.keys("a");
    his.wait_text("encrypted");
    hers.wait_text("bob joined");
    send(&hers, "can you read this?");
    his.wait_text("can you read this?");
    his.keys("\x1bw");
    send(&his, "every word of it");
    hers.wait_text("every word of it");
    quit(hers);
    send(&his, "and this later?");
    let hers = Terminal::start(&first, &[]);
    hers.wait_text("and this later?");
    quit(hers);
    quit(his);
}

#[test]
fn a_wrong_password_is_told_and_the_form_keeps_the_rest() {
    let (server, home) = (Home::new(), Home::new());
    let node = ServedNode::start(&server);
    let ann = node.person("ann");
    let terminal = Terminal::start(&home, &[]);
    sign_in(&terminal, &ann.user_id, &node.url(), "wrong");
    terminal.wait("the reason", |screen| screen.contents().contains("wrong user name or password"));
    assert!(terminal.text().contains(&ann.user_id));
    quit(terminal);
}

#[test]
fn a_device_that_the_server_has_deleted_goes_on_as_a_new_one() {
    let (server, home) = (Home::new(), Home::new());
    let node = ServedNode::start(&server);
    let mut people = [node.person("bob"), node.person("ann")];
    room_with(&mut people, "Lounge", &["the last words"]);
    room_with(&mut people, "Attic", &["dust and spiders"]);
    login(&home, &node, &people[1]);
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("online");
    open(&terminal, "Lounge");
    terminal.wait_text("the last words");
    terminal.keys("half a thought");
    terminal.wait_text("half a thought");
    open(&terminal, "Attic");
    // Beside the room list, which shows it too: while the switcher is open, nobody is asked for a password.
    terminal.wait("the message in its room", |screen| {
        let text = screen.contents();
        text.lines().any(|line| line.split('│').next_back().is_some_and(|right| right.contains("dust and spiders")))
    });
    people[1].http.post("/_matrix/client/v3/logout/all", &serde_json::json!({})).ok();
    terminal.wait_text("Sign in again");
    terminal.keys("wrong");
    terminal.keys(key::ENTER);
    terminal.wait_text("wrong user name or password");
    // The field has the keys again.
    terminal.keys(&key::ctrl('u'));
    terminal.keys(&people[1].password);
    terminal.keys(key::ENTER);
    terminal.wait_text("as a new device");
    // The recovery key stays empty: nothing was encrypted.
    terminal.keys(key::ENTER);
    terminal.wait_text("signed in again");
    terminal.wait_text("online");
    terminal.wait_text("dust and spiders");
    // The new device learns of its rooms one after the other.
    terminal.wait_text("Lounge");
    open(&terminal, "Lounge");
    terminal.wait_text("half a thought");
    send(&terminal, ", finished");
    quit(terminal);
}

#[test]
fn a_server_that_is_not_there_or_talks_nonsense_is_told_in_words() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("Create my own home");
    let nobody = format!("http://{}", fake::nobody());
    sign_in(&terminal, "@ann:home.test", &nobody, "secret");
    terminal.wait("that it cannot be reached", |screen| screen.contents().contains('✗'));
    quit(terminal);
    for misbehaviour in Misbehaviour::ALL.into_iter().filter(|misbehaviour| *misbehaviour != Misbehaviour::Silent) {
        let url = format!("http://{}", fake::server(misbehaviour));
        let file = home.path().join("password");
        std::fs::write(&file, "secret").unwrap();
        let done = home.run(&["login", "@ann:home.test", "--server", &url, "--password-file", file.to_str().unwrap()]);
        assert!(matches!(done.code(), 1 | 4 | 5), "{misbehaviour:?}: {} {}", done.code(), done.err());
        assert!(!done.err().is_empty() && !done.err().contains("panicked"), "{misbehaviour:?}: {}", done.err());
    }
}

#[test]
fn a_silent_server_leaves_the_keyboard_free() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    let url = format!("http://{}", fake::server(Misbehaviour::Silent));
    sign_in(&terminal, "@ann:home.test", &url, "secret");
    // Leaving works at once although the server never answers.
    terminal.wait_within(Duration::from_secs(20), "word of what is going on", |screen| screen.contents().contains('…'));
    quit(terminal);
}
