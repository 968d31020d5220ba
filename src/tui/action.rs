//! Every action: one table that keymap, help, palette, command line and manual share.

macro_rules! actions {
    ($($variant:ident $name:literal $description:literal,)*) => {
        /// Something that a key, the palette or the command line can do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action { $(#[doc = $description] $variant,)* }

        /// Name and description of every action.
        pub const ACTIONS: &[ActionInfo] = &[$(ActionInfo { action: Action::$variant, name: $name, description: $description },)*];
    };
}

/// One action as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionInfo {
    /// The action.
    pub action: Action,
    /// Its name in keymaps and on the command line.
    pub name: &'static str,
    /// What it does, as one sentence.
    pub description: &'static str,
}

actions! {
    Quit "quit" "Leave homeroom; drafts are kept.",
    Suspend "suspend" "Put homeroom in the background (continue with `fg`).",
    Redraw "redraw" "Draw the whole screen again.",
    Help "help" "Show every key and command.",
    Palette "palette" "Find an action by name and run it.",
    CommandLine "command-line" "Start a / command in the composer.",
    Dismiss "dismiss" "Put away the notice at the bottom.",
    Reconnect "reconnect" "Try the connection now.",
    SignInAgain "sign-in-again" "Sign in again after the server has ended the session.",
    SignOut "sign-out" "Sign out and delete this device's local data.",

    SwitchRoom "switch-room" "Go to a room or person by name.",
    NextUnread "next-unread" "Go to the next unread room: mentions, direct chats, the others; then to what was not sent.",
    LastRoom "last-room" "Go back to the room that was open before.",
    NextRoom "next-room" "Open the next room of the list.",
    PreviousRoom "previous-room" "Open the previous room of the list.",
    Room1 "room-1" "Open the 1st room of the list.",
    Room2 "room-2" "Open the 2nd room of the list.",
    Room3 "room-3" "Open the 3rd room of the list.",
    Room4 "room-4" "Open the 4th room of the list.",
    Room5 "room-5" "Open the 5th room of the list.",
    Room6 "room-6" "Open the 6th room of the list.",
    Room7 "room-7" "Open the 7th room of the list.",
    Room8 "room-8" "Open the 8th room of the list.",
    Room9 "room-9" "Open the 9th room of the list.",
    CloseRoom "close-room" "Close the open room without leaving it.",

    CreateRoom "create-room" "Create a room.",
    StartDirect "start-direct" "Start a direct chat with somebody.",
    JoinRoom "join-room" "Join a room by its alias or ID.",
    Invite "invite" "Invite somebody to the open room.",
    AcceptInvite "accept-invite" "Accept the selected invitation.",
    DeclineInvite "decline-invite" "Decline the selected invitation, or take back your request to join.",
    LeaveRoom "leave-room" "Leave the open room.",
    SetName "set-name" "Change the open room's name.",
    SetTopic "set-topic" "Change the open room's topic.",
    Members "members" "List the members of the open room.",
    RoomInfo "room-info" "Show what there is to know about the open room.",
    DisplayName "display-name" "Change your own display name.",

    ToggleRooms "toggle-rooms" "Show or hide the room list.",
    TogglePreviews "toggle-previews" "Show or hide last messages in the room list.",
    FocusRooms "focus-rooms" "Give the keys to the room list.",
    FocusTimeline "focus-timeline" "Give the keys to the timeline, to select messages.",
    FocusComposer "focus-composer" "Give the keys to the composer.",
    FocusNext "focus-next" "Give the keys to the next pane.",
    FocusPrevious "focus-previous" "Give the keys to the previous pane.",
    FilterRooms "filter-rooms" "Show only rooms whose name holds some letters.",

    LineUp "line-up" "Scroll the timeline one line up.",
    LineDown "line-down" "Scroll the timeline one line down.",
    PageUp "page-up" "Scroll the timeline one page up.",
    PageDown "page-down" "Scroll the timeline one page down.",
    Top "top" "Go to the beginning, loading history until it is there.",
    Bottom "bottom" "Go to the newest message.",
    FirstUnread "first-unread" "Go to the first unread message.",
    LoadOlder "load-older" "Load older messages.",
    Search "search" "Search the open conversation, as far as it is loaded.",
    SearchOlder "search-older" "Go to the next older message that was searched for.",
    SearchNewer "search-newer" "Go to the next newer message that was searched for.",
    MarkRead "mark-read" "Mark the open room as read.",

    Up "up" "Select the previous row or message; in the composer, move up a line or, when it is empty, edit your last message.",
    Down "down" "Select the next row or message; in the composer, move down a line.",
    Open "open" "Open the selected room; on a reply, go to the message it answers; on folded changes, show them.",
    Reply "reply" "Reply to the selected message.",
    Edit "edit" "Edit the selected message of yours.",
    EditLast "edit-last" "Edit your last message.",
    React "react" "React to the selected message.",
    Redact "redact" "Remove the selected message for everybody.",
    Copy "copy" "Copy the selected message to the clipboard.",
    Retry "retry" "Send the selected failed message again.",
    Discard "discard" "Discard the selected message that was not sent.",
    GoToReplied "go-to-replied" "Go to the message that the selected one answers.",
    GoBack "go-back" "Go back to where you were before the last jump.",
    OpenThread "open-thread" "Open the thread of the selected message.",
    CloseThread "close-thread" "Close the thread.",
    Download "download" "Save the selected message's file.",
    Reveal "reveal" "Show or hide what the selected message hides: spoilers, or the changes that a line stands for.",

    Send "send" "Send the message, or run the / command.",
    Newline "newline" "Start a new line.",
    Cancel "cancel" "Leave reply or edit mode, close a dialog, or go one pane back; typed text stays.",
    Complete "complete" "Complete a name, room, emoji or command; with nothing to complete, go to the next pane.",
    CompleteBack "complete-back" "The previous completion; with nothing to complete, go to the previous pane.",
    Left "left" "Move left.",
    Right "right" "Move right.",
    WordLeft "word-left" "Move one word left.",
    WordRight "word-right" "Move one word right.",
    LineStart "line-start" "Move to the start of the line.",
    LineEnd "line-end" "Move to the end of the line.",
    TextStart "text-start" "Move to the start of the text.",
    TextEnd "text-end" "Move to the end of the text.",
    DeleteBack "delete-back" "Delete the character before the cursor.",
    Delete "delete" "Delete the character under the cursor.",
    DeleteWordBack "delete-word-back" "Delete the word before the cursor.",
    DeleteWord "delete-word" "Delete the word after the cursor.",
    KillToEnd "kill-to-end" "Cut to the end of the line.",
    KillToStart "kill-to-start" "Cut to the start of the line.",
    Yank "yank" "Insert what was cut last.",
    Undo "undo" "Undo the last change of the text.",
    Redo "redo" "Do the undone change again.",
    ClearPaste "clear-paste" "Put away the long text that was pasted.",

    Accept "accept" "Confirm the dialog, or choose the selected row.",
    NextField "next-field" "Go to the next field.",
    PreviousField "previous-field" "Go to the previous field.",
    Toggle "toggle" "Switch the option on or off.",
}

impl Action {
    /// The row of the table.
    #[must_use]
    pub fn info(self) -> &'static ActionInfo {
        ACTIONS.iter().find(|info| info.action == self).expect("the macro gives every action its row")
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The action of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ACTIONS.iter().find(|info| info.name == name).map(|info| info.action)
    }

    /// Position (from 0) of the room that this action opens.
    #[must_use]
    pub fn room_index(self) -> Option<usize> {
        let rooms = [Self::Room1, Self::Room2, Self::Room3, Self::Room4, Self::Room5, Self::Room6, Self::Room7, Self::Room8, Self::Room9];
        rooms.iter().position(|room| *room == self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_described() {
        let mut seen = std::collections::HashSet::new();
        for info in ACTIONS {
            assert!(seen.insert(info.name), "{} stands twice", info.name);
            assert!(info.description.ends_with('.') && info.description.len() >= 10, "{}", info.name);
            assert_eq!(Action::named(info.name), Some(info.action));
        }
    }
}
