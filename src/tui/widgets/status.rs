//! The status bar: who we are, connection, sync, node, what waits to be sent, and where something is unread.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::{put, put_right, room_list};
use crate::{
    client::view::{Connection, NodeState, RoomKind, RoomRow, SessionView, SyncPhase},
    tui::{
        model::{Model, Screen},
        text,
        theme::{Scope, Theme},
    },
};

/// How the connection stands, in a word or two.
#[must_use]
pub fn connection(session: &SessionView) -> (String, bool) {
    match (&session.connection, session.sync) {
        (Connection::SignedOut, _) => ("○ signed out".to_owned(), true),
        (Connection::Connecting, _) => ("◌ connecting".to_owned(), false),
        (Connection::Offline { reason }, _) => (format!("✗ offline: {}", text::one_line(reason)), true),
        (Connection::Expired { reason }, _) => (format!("✗ signed out by the server: {}", text::one_line(reason)), true),
        (Connection::Online, SyncPhase::Idle | SyncPhase::Live) => ("● online".to_owned(), false),
        (Connection::Online, SyncPhase::Starting) => ("◌ syncing".to_owned(), false),
        (Connection::Online, SyncPhase::CatchingUp) => ("◌ loading rooms".to_owned(), false),
    }
}

/// What the node does, in a word or two.
#[must_use]
pub fn node(session: &SessionView) -> Option<(String, bool)> {
    match &session.node {
        NodeState::None => None,
        NodeState::Here { server_name } => Some((format!("node {}", text::one_line(server_name)), false)),
        NodeState::Attached { server_name } => Some((format!("attached to {}", text::one_line(server_name)), false)),
        NodeState::Down { reason } => Some((format!("✗ node down: {}", text::one_line(reason)), true)),
    }
}

/// The order in which unread rooms matter: mentions, direct chats, the others. `None`: nothing unread.
#[must_use]
pub fn priority(row: &RoomRow) -> Option<u8> {
    if row.mentions > 0 {
        Some(0)
    } else if row.unread == 0 && !row.marked_unread {
        None
    } else if row.muted {
        Some(3)
    } else if row.kind == RoomKind::Direct {
        Some(1)
    } else {
        Some(2)
    }
}

/// Draws the bar.
pub fn draw(model: &Model, area: Rect, buf: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    let theme: &Theme = &model.theme;
    let (plain, loud) = (theme.style(Scope::Status), theme.style(Scope::StatusWarning));
    buf.set_style(area, plain);
    let session = &model.session;
    let mut parts: Vec<(String, bool)> = Vec::new();
    let (mut words, mut bad) = connection(session);
    if session.connection == Connection::SignedOut && model.screen == Screen::Main {
        // Without an account the screen is another one: this is the moment before it is open.
        (words, bad) = ("◌ opening".to_owned(), false);
    }
    if matches!(session.connection, Connection::Offline { .. }) {
        words = format!("{words} ({} tries now)", model.key(crate::tui::action::Action::Reconnect));
    }
    parts.push((words, bad));
    if session.failed > 0 {
        parts.push((format!("✗ {} not sent", session.failed), true));
    }
    if session.queued > 0 {
        parts.push((format!("{} to send", session.queued), false));
    }
    parts.extend(node(session));
    if let Some(user_id) = &session.user_id {
        parts.push((user_id.to_string(), false));
    }
    // Trouble may use the whole bar; otherwise unread rooms get half of it.
    let trouble = parts.iter().any(|(_, bad)| *bad);
    let hot = hotlist(model);
    let room = if hot.is_empty() || trouble { area.width } else { area.width / 2 };
    let mut x = area.x + 1;
    for (index, (words, bad)) in parts.iter().enumerate() {
        let end = area.x + room;
        if index > 0 {
            if x + 3 + u16::try_from(text::width(words)).unwrap_or(u16::MAX / 2) > end && !*bad {
                break;
            }
            x = put(buf, x, area.y, end.saturating_sub(x), " │ ", plain);
        }
        x = put(buf, x, area.y, end.saturating_sub(x), words, if *bad { loud } else { plain });
    }
    let left = Rect { x: (x + 2).min(area.right()), width: area.right().saturating_sub(x + 3), ..area };
    if !hot.is_empty() && left.width >= 6 {
        put_right(buf, left, area.y, &hot, Style::default());
    } else if left.width >= 12 {
        let help = model.key(crate::tui::action::Action::Help);
        put_right(buf, left, area.y, &format!("{help} help"), Style::default());
    }
}

/// Unread rooms, what matters most first: `!General 2, @Bob 1, #Lounge 12`.
fn hotlist(model: &Model) -> String {
    let mut rows: Vec<(u8, &RoomRow)> = model
        .rooms
        .rows
        .iter()
        .filter(|row| Some(&row.id) != model.open.as_ref())
        .filter_map(|row| priority(row).filter(|p| *p < 3).map(|p| (p, row.as_ref())))
        .collect();
    rows.sort_by_key(|(priority, _)| *priority);
    let shown: Vec<String> = rows
        .iter()
        .take(6)
        .map(|(priority, row)| {
            let mark = if *priority == 0 { "!" } else { room_list::mark(row) };
            let name = text::one_line(&row.name);
            let count = if *priority == 0 { row.mentions } else { row.unread };
            format!("{mark}{} {count}", text::fit(&name, 14))
        })
        .collect();
    shown.join(", ")
}
