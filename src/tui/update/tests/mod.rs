//! Tests of update: what messages do. One file per subject; here is what they share.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it fails")]

mod composing;
mod dialogs;
mod drafts;
mod held;
mod rooms;
mod timeline;
mod welcome;

use std::sync::Arc;

use super::*;
use crate::{
    client::{
        command::{Setup, Ticket},
        update::Update,
        view::{ItemId, ItemKind, Membership, Pagination, RoomKind, SendState},
    },
    tui::{
        composer::Mode,
        layers::Layer,
        model::{Anchor, Focus, Screen, WelcomePage},
        render, sample,
        tests::{garden, keymap, press, screen, theme, type_text},
    },
};

fn commands(effects: Effects) -> Vec<Command> {
    effects.into_iter().filter_map(|effect| if let Effect::Command(command) = effect { Some(command) } else { None }).collect()
}

fn sent(effects: Effects) -> crate::client::command::Draft {
    let draft =
        commands(effects).into_iter().find_map(|command| if let Command::Send { draft, .. } = command { Some(draft) } else { None });
    draft.expect("something was sent")
}

fn text(model: &Model) -> String {
    model.composer().text()
}

fn notice(model: &Model) -> String {
    model.notices.last().map(|notice| notice.text.clone()).unwrap_or_default()
}

fn draw(model: &mut Model) -> Vec<Command> {
    render(model, 80, 24);
    commands(update(model, Msg::Drawn))
}

/// Clicks on the first place where this text stands.
fn click_on(model: &mut Model, text: &str) -> Effects {
    let shown = screen(model, 80, 24);
    let (row, line) = shown.lines().enumerate().find(|(_, line)| line.contains(text)).unwrap_or_else(|| panic!("{text} in\n{shown}"));
    let column = crate::tui::text::width(line.split(text).next().unwrap_or_default());
    let kind = crossterm::event::MouseEventKind::Down(crossterm::event::MouseButton::Left);
    let (column, row) = (u16::try_from(column).unwrap() + 1, u16::try_from(row).unwrap());
    update(model, Msg::Mouse(crossterm::event::MouseEvent { kind, column, row, modifiers: crossterm::event::KeyModifiers::empty() }))
}
