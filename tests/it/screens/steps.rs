//! What people do again and again, key by key.

use serde_json::json;

use crate::support::{Home, Person, ServedNode, Terminal, pty::key};

pub const PASSWORD: &str = "correct horse";

/// From the welcome to the main screen of a home of one's own.
pub fn create_home(terminal: &Terminal, name: &str) {
    terminal.wait_text("Create my own home");
    terminal.keys(key::ENTER);
    terminal.wait_text("Password again");
    for text in [name, PASSWORD, PASSWORD, ""] {
        terminal.keys(text);
        terminal.keys(key::TAB);
    }
    terminal.keys(key::ENTER);
    terminal.wait_text("online");
}

/// Makes a room with the form, encrypted unless it is public, and opens it.
pub fn create_room(terminal: &Terminal, name: &str, invite: &str) {
    terminal.keys("\x1bc");
    terminal.wait_text("Create a room");
    for text in [name, "", "", "", "", invite] {
        terminal.keys(text);
        terminal.keys(key::TAB);
    }
    terminal.keys(key::ENTER);
    terminal.wait_gone("Create a room");
    terminal.wait_text(&format!("# {name}"));
    terminal.wait_text("message");
}

/// Types a message and sends it, and waits until it is on the screen.
pub fn send(terminal: &Terminal, text: &str) {
    terminal.keys(text);
    terminal.wait_text(text);
    terminal.keys(key::ENTER);
    terminal.wait("the message as sent", |screen| screen.contents().lines().any(|line| line.contains(text) && line.contains('✓')));
}

/// Leaves by key; the terminal must then be as it was.
pub fn quit(mut terminal: Terminal) {
    terminal.keys(&key::ctrl('q'));
    assert_eq!(terminal.wait_exit(), 0);
    terminal.assert_restored();
}

/// Signs a home in to a node, without a screen.
pub fn login(home: &Home, node: &ServedNode, person: &Person) {
    login_at(home, &node.url(), person);
}

/// The same at a URL.
pub fn login_at(home: &Home, url: &str, person: &Person) {
    let file = home.path().join("password");
    std::fs::write(&file, &person.password).unwrap();
    let done = home.run(&["login", &person.user_id, "--server", url, "--password-file", file.to_str().unwrap()]);
    assert_eq!(done.code(), 0, "{}", done.err());
}

/// Signs in with the form.
pub fn sign_in(terminal: &Terminal, user: &str, server: &str, password: &str) {
    terminal.wait_text("Create my own home");
    terminal.keys(key::DOWN);
    terminal.keys(key::ENTER);
    terminal.wait_text("User ID");
    for text in [user, server, password] {
        terminal.keys(text);
        terminal.keys(key::TAB);
    }
    terminal.keys(key::ENTER);
}

/// A room of several people with something said in it.
pub fn room_with(people: &mut [Person], name: &str, said: &[&str]) -> String {
    let room = people[0].create_room(&json!({ "preset": "public_chat", "name": name }));
    for person in people.iter_mut().skip(1) {
        person.join(&room);
    }
    for text in said {
        people[0].say(&room, text);
    }
    room
}

/// Goes to a room by name.
pub fn open(terminal: &Terminal, name: &str) {
    terminal.keys(&key::ctrl('k'));
    terminal.keys(name);
    terminal.keys(key::ENTER);
}
