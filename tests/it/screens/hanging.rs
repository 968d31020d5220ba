//! The screen of a home whose node another process runs, and that process hangs.

use rustix::process::{Pid, Signal, kill_process};

use super::steps::{login, open, quit, room_with};
use crate::support::{Home, ServedNode, Terminal};

#[test]
fn a_node_that_hangs_keeps_nobody_from_reading_what_is_cached() {
    let home = Home::new();
    let node = ServedNode::start(&home);
    let mut people = [node.person("bob"), node.person("ann")];
    room_with(&mut people, "Lounge", &["the last words"]);
    login(&home, &node, &people[1]);
    let terminal = Terminal::start(&home, &[]);
    terminal.wait_text("Lounge");
    open(&terminal, "Lounge");
    terminal.wait_text("the last words");
    quit(terminal);
    let pid = Pid::from_raw(i32::try_from(node.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    let terminal = Terminal::start_with(&home, &[], 160, 24, &[]);
    terminal.wait_text("Lounge");
    terminal.wait_text("the last words");
    terminal.wait_text("node down: another process");
    kill_process(pid, Signal::CONT).unwrap();
    terminal.wait_text("attached to");
    quit(terminal);
}
