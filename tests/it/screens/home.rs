//! A home of one's own: screen and node in one process.

use std::time::Duration;

use rustix::process::Signal;

use super::steps::{create_home, create_room, open, quit, send};
use crate::support::{Home, Person, Terminal, eventually, http::Address, pty::key};

#[test]
fn a_message_is_still_there_after_a_restart() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "the kettle is on");
    quit(terminal);
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("the kettle is on");
    terminal.wait_text("online");
    send(&terminal, "and the tea is ready");
    quit(terminal);
}

#[test]
fn what_was_shown_as_sent_before_a_kill_is_there_once() {
    let home = Home::new();
    let mut terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "message 000 of many");
    // No waiting in between: the kill comes in the middle of it.
    for number in 1..30 {
        terminal.keys(&format!("message {number:03} of many"));
        terminal.keys(key::ENTER);
    }
    terminal.wait_text("message 012 of many");
    let shown = terminal.text();
    terminal.kill();
    let terminal = Terminal::start_with(&home, &[], 80, 120, &[]);
    terminal.wait_text("online");
    open(&terminal, "Kitchen");
    terminal.wait_text("message 000 of many");
    // The newest message that is sent carries the mark; of those above it, the ones that are not are marked as on their way.
    let mark = shown.lines().position(|line| line.contains('✓')).map_or(0, |line| line + 1);
    let sent = shown.lines().take(mark).filter(|line| !line.contains('…'));
    let sent = sent.filter_map(|line| line.find("message ").and_then(|start| line.get(start..start + 19)));
    let sent: Vec<&str> = sent.chain(["message 000 of many"]).collect();
    let times = |text: &str, message: &str| {
        text.lines().filter(|line| line.split('│').next_back().is_some_and(|right| right.contains(message))).count()
    };
    terminal.wait("the queue to empty and every message to be there once", |screen| {
        let text = screen.contents();
        !text.contains("to send") && sent.iter().all(|message| times(&text, message) == 1)
    });
    quit(terminal);
}

#[test]
fn the_open_room_is_open_again_after_a_kill() {
    let home = Home::new();
    let mut terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    let file = home.path().join("state/default/open-room");
    let kitchen = eventually("the open room to be written down", || std::fs::read_to_string(&file).ok());
    create_room(&terminal, "Garden", "");
    send(&terminal, "in the garden");
    eventually("the next one to be written down", || std::fs::read_to_string(&file).ok().filter(|room| *room != kitchen));
    terminal.kill();
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("# Garden");
    terminal.wait_text("in the garden");
    quit(terminal);
}

#[test]
fn a_home_that_was_moved_elsewhere_goes_on() {
    let (before, after) = (Home::new(), Home::new());
    let terminal = Terminal::start(&before, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "packing now");
    quit(terminal);
    for dir in ["data", "config", "state"] {
        if before.path().join(dir).exists() {
            std::fs::rename(before.path().join(dir), after.path().join(dir)).unwrap();
        }
    }
    let done = after.run(&["send", "Kitchen", "unpacked"]);
    assert_eq!(done.code(), 0, "{}", done.err());
    let terminal = Terminal::start(&after, &[]);
    terminal.wait_text("online");
    open(&terminal, "Kitchen");
    terminal.wait_text("packing now");
    terminal.wait_text("unpacked");
    quit(terminal);
}

#[test]
fn any_size_will_do() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "the kettle is on");
    for (columns, rows) in [(40, 10), (80, 24), (1, 1), (300, 100), (40, 10), (80, 24)] {
        terminal.resize(columns, rows);
        if columns >= 40 {
            terminal.wait("the message at another size", |screen| screen.contents().contains("kettle"));
        }
    }
    terminal.wait_text("Kitchen");
    send(&terminal, "still here");
    quit(terminal);
}

#[test]
fn keys_that_come_together_with_a_new_size_are_not_lost() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    for round in 0_u16..12 {
        // The last letter would stay behind until the next key, were the two told apart only by luck.
        let word = format!("w{round}x");
        terminal.resize(80 + round % 3, 24 + round % 2);
        terminal.keys(&word);
        terminal.wait_text(&word);
        terminal.keys(&key::ctrl('u'));
        terminal.wait_gone(&word);
    }
    quit(terminal);
}

#[test]
fn pasting_two_megabytes_neither_sends_nor_hangs() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "before");
    let line = "a line of a long text that somebody has copied from somewhere\n";
    terminal.paste(&line.repeat((2 << 20) / line.len()));
    terminal.wait("word of the long text", |screen| screen.contents().contains("MiB") || screen.contents().contains("pasted"));
    // It has not been sent, and can be put away.
    let sent = terminal.text().lines().filter(|row| row.contains("copied from somewhere") && row.contains('✓')).count();
    assert_eq!(sent, 0);
    terminal.keys(&key::ctrl('x'));
    send(&terminal, "after");
    quit(terminal);
}

#[test]
fn without_colour_there_is_no_colour() {
    let home = Home::new();
    let terminal = Terminal::start_with(&home, &[], 80, 24, &[("NO_COLOR", "1")]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "the kettle is on");
    terminal.look(|screen| {
        for (row, column) in (0..24).flat_map(|row| (0..80).map(move |column| (row, column))) {
            let cell = screen.cell(row, column).unwrap();
            assert_eq!((cell.fgcolor(), cell.bgcolor()), (vt100::Color::Default, vt100::Color::Default), "row {row}, column {column}");
        }
    });
    quit(terminal);
}

#[test]
fn the_terminal_is_given_back_after_a_signal() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let home = Home::new();
        let mut terminal = Terminal::start(&home, &[]);
        terminal.wait_text("Create my own home");
        terminal.signal(signal);
        terminal.wait_exit();
        terminal.assert_restored();
    }
}

#[test]
fn the_second_screen_of_a_profile_says_who_has_it() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    let mut second = Terminal::start(&home, &[]);
    assert_eq!(second.wait_exit(), 6);
    assert!(second.text().contains("has this profile open"), "{}", second.text());
    second.assert_restored();
    create_room(&terminal, "Kitchen", "");
    quit(terminal);
}

#[test]
fn a_typing_error_in_the_settings_is_shown_and_nothing_is_touched() {
    let home = Home::new();
    home.configure("[ui]\nthem = \"dark\"\n");
    let mut terminal = Terminal::start(&home, &[]);
    assert_eq!(terminal.wait_exit(), 2);
    assert!(terminal.text().replace('\n', " ").contains("did you mean `ui.theme`?"), "{}", terminal.text());
    assert!(!home.path().join("data").exists());
}

#[test]
fn typed_text_survives_escape_and_a_restart() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    terminal.keys("half a thought");
    terminal.wait_text("half a thought");
    terminal.keys(key::ESC);
    // Escape and another key at once would be a key with Alt, however long the program takes to read the first.
    terminal.wait_quiet(Duration::from_secs(2));
    terminal.wait_text("half a thought");
    quit(terminal);
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("half a thought");
    quit(terminal);
}

#[test]
fn the_own_node_serves_its_socket_while_the_screen_is_up() {
    let home = Home::new();
    let terminal = Terminal::start(&home, &[]);
    create_home(&terminal, "ann");
    create_room(&terminal, "Kitchen", "");
    send(&terminal, "from the screen");
    let socket = home.path().join("data/default/node/node.sock");
    let mut ann = Person::login(Address::Socket(socket), "ann", super::steps::PASSWORD);
    assert_eq!(ann.http.get("/_matrix/client/v3/joined_rooms").ok()["joined_rooms"].as_array().unwrap().len(), 1);
    quit(terminal);
}
