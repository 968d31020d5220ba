//! The pseudo-terminal itself, tried on programs whose behaviour is known.

use std::time::Duration;

use portable_pty::CommandBuilder;

use crate::support::{Terminal, pty::key};

fn shell(script: &str) -> Terminal {
    let mut command = CommandBuilder::new("sh");
    command.args(["-c", script]);
    Terminal::spawn(command, 80, 24)
}

#[test]
fn shows_what_a_program_writes_and_how_it_ends() {
    let mut terminal = shell("printf 'hello \\033[1mbold\\033[0m'; read line; printf \"got $line\"; exit 3");
    terminal.wait_text("hello bold");
    assert!(terminal.look(|screen| screen.cell(0, 6).unwrap().bold()));
    terminal.keys("words");
    terminal.keys(key::ENTER);
    terminal.wait_text("got words");
    assert_eq!(terminal.wait_exit(), 3);
    terminal.assert_restored();
}

#[test]
fn a_new_size_reaches_the_program() {
    let terminal = shell("trap 'stty size' WINCH; stty size; while :; do sleep 0.1; done");
    terminal.wait_text("24 80");
    terminal.resize(40, 10);
    terminal.wait_text("10 40");
}

#[test]
fn answers_when_asked_where_the_cursor_is() {
    let terminal = shell("stty raw -echo; printf 'abc\\033[6n'; dd bs=6 count=1 2>/dev/null | od -c");
    terminal.wait_text("1   ;   4");
}

#[test]
#[should_panic(expected = "alternate screen")]
fn notices_a_terminal_that_is_not_given_back() {
    let mut terminal = shell("printf '\\033[?1049h'");
    terminal.wait_exit();
    terminal.assert_restored();
}

#[test]
#[should_panic(expected = "the program ended")]
fn does_not_wait_for_a_program_that_has_ended() {
    shell("true").wait_within(Duration::from_secs(30), "anything", |_| false);
}
