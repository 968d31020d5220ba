//! Draws the composer: what it answers or edits, a long paste, the text, completions above it.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    widgets::{Clear, Widget},
};

use super::put;
use crate::tui::{
    composer::{Completion, Composer, Mode},
    text,
    theme::{Scope, Theme},
};

/// Lines of text at most; longer texts scroll.
const TALL: usize = 8;
/// Completions shown at once.
const SHOWN: usize = 7;

/// Lines that the composer takes in a terminal of so many.
#[must_use]
pub fn height(composer: &Composer, width: u16, terminal: u16) -> u16 {
    let most = usize::from(terminal / 3).clamp(1, TALL);
    let columns = usize::from(width.saturating_sub(2)).max(1);
    let mut lines = 0;
    // Counts no further than it matters: a long text is scrolled, not measured.
    for line in composer.area().lines() {
        lines += if line.len() < columns { 1 } else { (text::width(line.get(..line.len().min(4096)).unwrap_or(line)) / columns) + 1 };
        if lines >= most {
            break;
        }
    }
    let extra = usize::from(composer.mode != Mode::New) + usize::from(composer.paste.is_some());
    u16::try_from(lines.clamp(1, most) + extra).unwrap_or(1)
}

/// Draws it. Gives the cursor's place.
pub fn draw(
    composer: &mut Composer,
    theme: &Theme,
    (placeholder, leave, clear): (&str, &str, &str),
    area: Rect,
    buf: &mut Buffer,
) -> Option<(u16, u16)> {
    if area.width < 4 || area.height == 0 {
        return None;
    }
    let mut y = area.y;
    let line = match &composer.mode {
        Mode::New => None,
        Mode::Reply { sender, text, .. } => {
            Some(format!("↩ replying to {}: {} ({leave} stops)", text::one_line(sender), text::fit(&text::one_line(text), 60)))
        }
        Mode::Edit { .. } => Some(format!("✎ editing your message ({leave} stops)")),
    };
    if let Some(line) = line.filter(|_| area.height > 1) {
        put(buf, area.x, y, area.width, &line, theme.style(Scope::Accent));
        y += 1;
    }
    if let Some(paste) = composer.paste.as_ref().filter(|_| y + 1 < area.bottom()) {
        let size = text::size(u64::try_from(paste.text.len()).unwrap_or(0));
        let words = format!("▤ {size} pasted, goes as a file ({clear} removes it; {} lines)", paste.lines);
        put(buf, area.x, y, area.width, &words, theme.style(Scope::Warning));
        y += 1;
    }
    put(buf, area.x, y, 2, "> ", theme.style(Scope::Prompt));
    let field = Rect { x: area.x + 2, y, width: area.width - 2, height: area.bottom() - y };
    let style = theme.style(Scope::Text);
    if composer.area().style() != style {
        composer.area_mut().set_style(style);
    }
    if composer.area().is_empty() {
        // Drawn at least once so that the widget knows its size before the first key.
        Widget::render(composer.area(), field, buf);
        put(buf, field.x, field.y, field.width, placeholder, theme.style(Scope::Placeholder));
        return Some((field.x, field.y));
    }
    Widget::render(composer.area(), field, buf);
    let cursor = composer.area().screen_cursor();
    let (top, left) = composer.area().scroll_offset();
    let row = u16::try_from(cursor.row.saturating_sub(usize::from(top))).unwrap_or(0);
    let column = u16::try_from(cursor.col.saturating_sub(usize::from(left))).unwrap_or(0);
    Some(((field.x + column).min(field.right().saturating_sub(1)), (field.y + row).min(field.bottom().saturating_sub(1))))
}

/// Draws completions above the composer.
pub fn draw_completion(completion: &Completion, theme: &Theme, composer: Rect, screen: Rect, buf: &mut Buffer) {
    let count = completion.candidates.len().min(SHOWN).min(usize::from(composer.y.saturating_sub(screen.y)));
    if count == 0 {
        return;
    }
    let first = completion.chosen.map_or(0, |chosen| (chosen + 1).saturating_sub(count));
    let labels = completion.candidates.iter().skip(first).take(count).map(|c| text::width(&c.label)).max().unwrap_or(0).min(30);
    let tall = u16::try_from(count).unwrap_or(1);
    let place = Rect { x: composer.x, y: composer.y - tall, width: composer.width.min(76), height: tall };
    Clear.render(place, buf);
    for ((index, candidate), y) in completion.candidates.iter().enumerate().skip(first).take(count).zip(place.y..) {
        let chosen = completion.chosen == Some(index);
        put(buf, place.x, y, 1, if chosen { "▌" } else { "│" }, theme.style(Scope::Accent));
        put(buf, place.x + 2, y, place.width.saturating_sub(2), &candidate.label, theme.style(Scope::Key));
        let x = place.x + 4 + u16::try_from(labels).unwrap_or(0);
        put(buf, x, y, place.right().saturating_sub(x), &candidate.detail, theme.style(Scope::Dim));
        if chosen {
            buf.set_style(Rect { y, height: 1, ..place }, theme.style(Scope::Selected));
        }
    }
}
