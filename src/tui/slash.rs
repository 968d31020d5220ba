//! The / commands: one table for running, completing and documenting them.

/// What a command does. Its argument is the rest of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slash {
    /// An emote.
    Me,
    /// Text without markdown.
    Plain,
    /// Text with a shrug.
    Shrug,
    /// Set the topic.
    Topic,
    /// Set the name.
    Name,
    /// Invite people.
    Invite,
    /// Join a room.
    Join,
    /// Ask to be let into a room.
    Knock,
    /// Start a direct chat.
    Dm,
    /// Leave the room.
    Leave,
    /// Create a room.
    Create,
    /// React.
    React,
    /// Reply.
    Reply,
    /// Edit.
    Edit,
    /// Remove.
    Redact,
    /// Own display name.
    Nick,
    /// Send a file.
    Upload,
    /// Save a file.
    Download,
    /// Retry every failed message of the room.
    Retry,
    /// Open a room by name.
    Go,
    /// Members.
    Members,
    /// Theme.
    Theme,
    /// Keymap.
    Keymap,
    /// Help.
    Help,
    /// Sign out.
    SignOut,
    /// Leave homeroom.
    Quit,
}

/// One command as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlashInfo {
    /// What it does.
    pub slash: Slash,
    /// Its name, without the slash.
    pub name: &'static str,
    /// What it takes: `<needed>`, `[optional]`.
    pub arguments: &'static str,
    /// One sentence.
    pub description: &'static str,
}

/// Every command.
#[rustfmt::skip]
pub const COMMANDS: &[SlashInfo] = &[
    SlashInfo { slash: Slash::Me, name: "me", arguments: "<text>", description: "Say what you do: /me waves." },
    SlashInfo { slash: Slash::Plain, name: "plain", arguments: "<text>", description: "Send exactly as typed, without markdown." },
    SlashInfo { slash: Slash::Shrug, name: "shrug", arguments: "[text]", description: "Send a text that ends with a shrug." },
    SlashInfo { slash: Slash::Topic, name: "topic", arguments: "[text]", description: "Set the room's topic." },
    SlashInfo { slash: Slash::Name, name: "name", arguments: "[text]", description: "Set the room's name." },
    SlashInfo { slash: Slash::Invite, name: "invite", arguments: "[@user:server ...]", description: "Invite people to the room." },
    SlashInfo { slash: Slash::Join, name: "join", arguments: "[#room:server]", description: "Join a room by its alias or ID." },
    SlashInfo { slash: Slash::Knock, name: "knock", arguments: "[#room:server] [reason]", description: "Ask to be let into a room." },
    SlashInfo { slash: Slash::Dm, name: "dm", arguments: "[@user:server]", description: "Start a direct chat." },
    SlashInfo { slash: Slash::Leave, name: "leave", arguments: "", description: "Leave the room." },
    SlashInfo { slash: Slash::Create, name: "create", arguments: "[name]", description: "Create a room." },
    SlashInfo { slash: Slash::React, name: "react", arguments: "[emoji]", description: "React to the selected message, or to the newest." },
    SlashInfo { slash: Slash::Reply, name: "reply", arguments: "[text]", description: "Reply to the selected message, or to the newest." },
    SlashInfo { slash: Slash::Edit, name: "edit", arguments: "", description: "Edit your last message." },
    SlashInfo { slash: Slash::Redact, name: "redact", arguments: "[reason]", description: "Remove the selected message, or your newest, for everybody." },
    SlashInfo { slash: Slash::Nick, name: "nick", arguments: "[name]", description: "Set your own display name." },
    SlashInfo { slash: Slash::Upload, name: "upload", arguments: "<file> [| caption]", description: "Send a file." },
    SlashInfo { slash: Slash::Download, name: "download", arguments: "[file]", description: "Save the selected message's file." },
    SlashInfo { slash: Slash::Retry, name: "retry", arguments: "", description: "Send every failed message of this room again." },
    SlashInfo { slash: Slash::Go, name: "go", arguments: "<room>", description: "Open a room by its name." },
    SlashInfo { slash: Slash::Members, name: "members", arguments: "", description: "List the members of the room." },
    SlashInfo { slash: Slash::Theme, name: "theme", arguments: "<name>", description: "Change the colours for this run." },
    SlashInfo { slash: Slash::Keymap, name: "keymap", arguments: "<default|vim|emacs>", description: "Change the keys for this run." },
    SlashInfo { slash: Slash::Help, name: "help", arguments: "", description: "Show every key and command." },
    SlashInfo { slash: Slash::SignOut, name: "signout", arguments: "", description: "Sign out and delete this device's local data." },
    SlashInfo { slash: Slash::Quit, name: "quit", arguments: "", description: "Leave homeroom; drafts are kept." },
];

/// What a line in the composer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// An ordinary message.
    Text(std::borrow::Cow<'a, str>),
    /// A command and its argument.
    Command(Slash, &'a str),
    /// The name of an action.
    Action(super::action::Action),
    /// No such command.
    Unknown {
        /// What was typed.
        name: &'a str,
        /// The nearest command.
        nearest: Option<String>,
    },
}

/// Reads what is in the composer. Text that begins with `//` is a message that begins with `/`.
#[must_use]
pub fn parse(text: &str) -> Line<'_> {
    let Some(rest) = text.strip_prefix('/') else { return Line::Text(text.into()) };
    if rest.starts_with('/') {
        return Line::Text(rest.into());
    }
    let (name, argument) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if let Some(info) = COMMANDS.iter().find(|info| info.name.eq_ignore_ascii_case(name)) {
        return Line::Command(info.slash, argument.trim());
    }
    if let Some(action) = super::action::Action::named(name) {
        return Line::Action(action);
    }
    Line::Unknown { name, nearest: super::theme::nearest(name, COMMANDS.iter().map(|info| info.name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_actions_and_text_are_told_apart() {
        assert_eq!(parse("hello /me"), Line::Text("hello /me".into()));
        assert_eq!(parse("//me waves"), Line::Text("/me waves".into()));
        assert_eq!(parse("/me waves "), Line::Command(Slash::Me, "waves"));
        assert_eq!(parse("/ME\nwaves"), Line::Command(Slash::Me, "waves"));
        assert_eq!(parse("/toggle-rooms"), Line::Action(super::super::action::Action::ToggleRooms));
        assert_eq!(parse("/topik x"), Line::Unknown { name: "topik", nearest: Some("topic".into()) });
        assert_eq!(parse("/"), Line::Unknown { name: "", nearest: None });
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = COMMANDS.iter().map(|info| info.name).collect();
        assert_eq!(names.len(), COMMANDS.len());
    }
}
