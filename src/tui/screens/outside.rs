//! What stands in a room's place when there is none to show: the start page, an invitation, a request to join.

use ratatui::{buffer::Buffer, layout::Rect, text::Line};

use crate::tui::{
    action::Action,
    keymap::Context,
    model::{Hit, Model},
    text::{self, Paragraph},
    theme::Scope,
    widgets::{self, put, room_list},
};

/// What can be done where no room is open.
pub fn start_page(model: &Model, area: Rect, buf: &mut Buffer) {
    let theme = &model.theme;
    let rows = [
        (Action::SwitchRoom, "go to a room or person"),
        (Action::NextUnread, "go to what is unread"),
        (Action::FocusRooms, "choose from the room list"),
        (Action::CreateRoom, "create a room"),
        (Action::StartDirect, "start a direct chat"),
        (Action::JoinRoom, "join a room by name"),
        (Action::Palette, "find any action"),
        (Action::Help, "every key and command"),
        (Action::Quit, "leave"),
    ];
    let tall = u16::try_from(rows.len()).unwrap_or(0);
    let top = area.y + area.height.saturating_sub(tall) / 2;
    for ((action, words), y) in rows.iter().zip(top..area.bottom()) {
        put(buf, area.x + 2, y, area.width.saturating_sub(2).min(12), &model.key(*action), theme.style(Scope::Key));
        put(buf, area.x + 15, y, area.width.saturating_sub(15), words, theme.style(Scope::Dim));
    }
}

/// An invitation, or a room that we have asked to be let into: what it is and what can be done.
pub fn invitation(model: &mut Model, area: Rect, buf: &mut Buffer) {
    let theme = std::sync::Arc::clone(&model.theme);
    let Some(row) = model.open_row().cloned() else { return };
    let blank = || Paragraph::plain("", theme.style(Scope::Text));
    let mut paragraphs =
        vec![Paragraph::plain(format!("{} {}", room_list::mark(&row), text::one_line(&row.name)), theme.style(Scope::Title)), blank()];
    match &row.invite {
        Some(invite) => {
            let who = format!("{} ({})", text::one_line(&invite.inviter_name), text::one_line(invite.inviter.as_str()));
            let what = if invite.is_direct { format!("{who} wants to chat with you.") } else { format!("{who} invites you to this room.") };
            paragraphs.push(Paragraph::plain(what, theme.style(Scope::Text)));
        }
        None => {
            let what = "You have asked to join this room. It opens here as soon as somebody lets you in.";
            paragraphs.push(Paragraph::plain(what, theme.style(Scope::Text)));
        }
    }
    if let Some(alias) = &row.alias {
        paragraphs.push(Paragraph::plain(format!("Address: {}", text::one_line(alias.as_str())), theme.style(Scope::Dim)));
    }
    if let Some(reason) = row.invite.as_ref().and_then(|invite| invite.reason.as_ref()) {
        paragraphs.push(Paragraph::plain(format!("“{}”", text::one_line(reason)), theme.style(Scope::Quote)));
    }
    let encrypted = if row.encrypted { "The room is encrypted." } else { "The room is not known to be encrypted." };
    paragraphs.push(Paragraph::plain(encrypted, theme.style(Scope::Dim)));
    paragraphs.push(blank());
    if row.invite.is_some() {
        paragraphs.push(Paragraph::plain("Nobody sees that you looked.", theme.style(Scope::Dim)));
    }
    let place = widgets::inset(area, 2, u16::from(area.height > 10));
    // The buttons keep their line however long the reason is.
    let text = Rect { height: place.height.saturating_sub(1), ..place };
    let lines: Vec<Line<'_>> = paragraphs.iter().flat_map(|p| text::wrap(p, usize::from(place.width.max(1)))).collect();
    let used = u16::try_from(lines.len()).unwrap_or(u16::MAX).min(text.height);
    for (line, y) in lines.iter().zip(text.top()..text.bottom()) {
        buf.set_line(place.x, y, line, place.width);
    }
    let y = (place.y + used + 1).min(place.bottom().saturating_sub(1));
    let mut x = place.x;
    let accept = (Action::AcceptInvite, "Accept", true);
    let buttons = match row.invite {
        Some(_) => vec![accept, (Action::DeclineInvite, "Decline", false)],
        None => vec![(Action::DeclineInvite, "Take back", false)],
    };
    for (action, word, yes) in buttons {
        let key = model.keymap.keys_of(action, &[Context::Rooms]).unwrap_or_default();
        let start = x;
        x = put(buf, x, y, place.right().saturating_sub(x), &format!("[ {word} ]"), theme.style(Scope::Accent));
        x = put(buf, x + 1, y, place.right().saturating_sub(x + 1), &key, theme.style(Scope::Key));
        model.hits.push((Rect { x: start, y, width: x - start, height: 1 }, Hit::Invitation(yes)));
        x += 3;
    }
}
