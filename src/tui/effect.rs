//! What `update` wants done. The loop does it; `update` itself touches nothing but the model.

use crate::client::command::{Command, Setup, Ticket};

use ruma::OwnedRoomId;

/// Something for the loop to carry out.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask the client half.
    Command(Command),
    /// Ask the composition root.
    Setup(Setup),
    /// Put text on the clipboard (OSC 52: works over SSH).
    Copy(String),
    /// Ring the terminal's bell.
    Bell,
    /// Have the terminal show a notification, or ring its bell where it cannot. One line each, without controls.
    Notify {
        /// Where.
        title: String,
        /// Who says what.
        body: String,
    },
    /// Give up the step of setting up that is under way.
    CancelSetup,
    /// Write a long paste to a private file and send that.
    SendText {
        /// Answered by the client half, or by the loop when the file cannot be written.
        ticket: Ticket,
        /// Where to.
        room_id: OwnedRoomId,
        /// What was pasted.
        text: std::sync::Arc<str>,
        /// What stood in the composer beside it.
        caption: Option<String>,
    },
    /// The client half is done with the file of a `SendText`.
    DropFile(Ticket),
    /// List the files that a path may mean.
    ListFiles(String),
    /// Load a theme by name.
    LoadTheme(String),
    /// Load a keymap preset by name.
    LoadKeymap(String),
    /// Clear the terminal and draw everything.
    Redraw,
    /// Stop until the shell continues us.
    Suspend,
    /// End.
    Quit,
}
