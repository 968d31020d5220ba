//! What screens are made of. Each draws one thing into one area and knows nothing of its neighbours.

pub mod composer;
pub mod dialog;
pub mod form;
pub mod picker;
pub mod room_list;
pub mod status;
pub mod timeline;

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::text;

/// Writes one line of text, cut to the room there is. Gives the column behind it.
pub fn put(buf: &mut Buffer, x: u16, y: u16, max: u16, text: &str, style: Style) -> u16 {
    if max == 0 || y < buf.area.top() || y >= buf.area.bottom() || x < buf.area.left() || x >= buf.area.right() {
        return x;
    }
    let room = max.min(buf.area.right() - x);
    let shown = text::fit(text, usize::from(room));
    buf.set_stringn(x, y, shown, usize::from(room), style).0
}

/// Writes text that ends at the right edge of the area. Gives the columns it took.
pub fn put_right(buf: &mut Buffer, area: Rect, y: u16, text: &str, style: Style) -> u16 {
    let shown = text::fit(text, usize::from(area.width));
    let wide = u16::try_from(text::width(&shown)).unwrap_or(area.width).min(area.width);
    put(buf, area.right() - wide, y, wide, &shown, style);
    wide
}

/// The area cut by a margin at each side.
#[must_use]
pub fn inset(area: Rect, x: u16, y: u16) -> Rect {
    Rect {
        x: area.x.saturating_add(x).min(area.right()),
        y: area.y.saturating_add(y).min(area.bottom()),
        width: area.width.saturating_sub(x.saturating_mul(2)),
        height: area.height.saturating_sub(y.saturating_mul(2)),
    }
}

/// One row of the area, or an empty area when it has no such row.
#[must_use]
pub fn row(area: Rect, index: u16) -> Rect {
    Rect { x: area.x, y: area.y.saturating_add(index).min(area.bottom()), width: area.width, height: u16::from(index < area.height) }
}
