//! The frame of a dialog: clears what is below, draws a border with a title and hints.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    widgets::{Block, BorderType, Clear, Widget},
};

use super::put;
use crate::tui::theme::{Scope, Theme};

/// Draws a frame of at most this size in the middle of the area and gives the room inside. On a small terminal the dialog
/// takes all of it and does without a border.
pub fn frame(title: &str, hint: &str, (width, height): (u16, u16), theme: &Theme, area: Rect, buf: &mut Buffer) -> Rect {
    let area = area.intersection(buf.area);
    let small = area.width < 44 || area.height < 12;
    let (width, height) = if small {
        (area.width, area.height)
    } else {
        (width.saturating_add(4).min(area.width), height.saturating_add(2).min(area.height))
    };
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(place, buf);
    buf.set_style(place, theme.style(Scope::Dialog));
    if small {
        if place.height == 0 {
            return place;
        }
        put(buf, place.x, place.y, place.width, title, theme.style(Scope::Title));
        return Rect { y: place.y + 1, height: place.height - 1, ..place };
    }
    Block::bordered().border_type(BorderType::Rounded).border_style(theme.style(Scope::BorderFocus)).render(place, buf);
    put(buf, place.x + 2, place.y, place.width.saturating_sub(4), &format!(" {title} "), theme.style(Scope::Title));
    if !hint.is_empty() {
        put(buf, place.x + 2, place.bottom() - 1, place.width.saturating_sub(4), &format!(" {hint} "), theme.style(Scope::Dim));
    }
    Rect { x: place.x + 2, y: place.y + 1, width: place.width.saturating_sub(4), height: place.height.saturating_sub(2) }
}
