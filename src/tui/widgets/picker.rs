//! Draws a picker: what is typed, the rows that match, the selected one.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{put, put_right};
use crate::tui::{
    layers::Picker,
    model::{Hit, Hits},
    text,
    theme::{Scope, Theme},
};

/// Draws it. Gives the cursor's place.
pub fn draw(picker: &mut Picker, theme: &Theme, area: Rect, buf: &mut Buffer, hits_at: &mut Hits) -> Option<(u16, u16)> {
    if area.width < 4 || area.height == 0 {
        return None;
    }
    put(buf, area.x, area.y, 2, "> ", theme.style(Scope::Prompt));
    let (shown, column) = picker.query.view(usize::from(area.width.saturating_sub(3)));
    if picker.query.text().is_empty() {
        put(buf, area.x + 2, area.y, area.width - 2, "type to search", theme.style(Scope::Placeholder));
    } else {
        put(buf, area.x + 2, area.y, area.width - 2, &shown, theme.style(Scope::Text));
    }
    let list = Rect { y: area.y + 1, height: area.height - 1, ..area };
    picker.page = usize::from(list.height).max(1);
    picker.offset = picker.offset.clamp((picker.selected + 1).saturating_sub(picker.page), picker.selected);
    if picker.matches.is_empty() {
        put(buf, list.x + 2, list.y, list.width.saturating_sub(2), "nothing matches", theme.style(Scope::Dim));
    }
    for ((position, (index, hits)), y) in picker.matches.iter().enumerate().skip(picker.offset).zip(list.y..list.bottom()) {
        let Some(entry) = picker.entries.get(*index) else { continue };
        let place = Rect { y, height: 1, ..list };
        hits_at.push((place, Hit::Row(position)));
        let selected = position == picker.selected;
        put(buf, list.x, y, 1, if selected { "▌" } else { " " }, theme.style(Scope::Accent));
        let note = if entry.note.is_empty() { 0 } else { put_right(buf, place, y, &entry.note, theme.style(Scope::Key)) + 1 };
        let room = list.width.saturating_sub(2 + note);
        let label = text::one_line(&entry.label);
        let x = label_with_hits(&label, hits, theme, (list.x + 2, y, room), buf);
        let left = (list.x + 2 + room).saturating_sub(x);
        if left > 4 {
            put(buf, x + 2, y, left - 2, &text::one_line(&entry.detail), theme.style(Scope::Dim));
        }
        if selected {
            buf.set_style(place, theme.style(Scope::Selected));
        }
    }
    Some((area.x + 2 + u16::try_from(column).unwrap_or(0), area.y))
}

fn label_with_hits(label: &str, hits: &[u32], theme: &Theme, (x, y, room): (u16, u16, u16), buf: &mut Buffer) -> u16 {
    use unicode_segmentation::UnicodeSegmentation;
    if hits.is_empty() {
        return put(buf, x, y, room, label, theme.style(Scope::Text));
    }
    let mut at = x;
    for (grapheme, index) in label.graphemes(true).zip(0_u32..) {
        let scope = if hits.binary_search(&index).is_ok() { Scope::Match } else { Scope::Text };
        let left = (x + room).saturating_sub(at);
        if usize::from(left) < text::width(grapheme) {
            break;
        }
        at = put(buf, at, y, left, grapheme, theme.style(scope));
    }
    at
}
