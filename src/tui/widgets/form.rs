//! Draws a form: labels, fields, switches, the button, what is under way or went wrong.

use ratatui::{buffer::Buffer, layout::Rect};

use super::put;
use crate::tui::{
    form::{FieldKind, Form},
    model::{Hit, Hits},
    text::{self, Paragraph},
    theme::{Scope, Theme},
};

/// Lines of a form for one width, so that a dialog can be as tall as it needs.
#[must_use]
pub fn height(form: &Form, width: u16) -> u16 {
    let intro = intro_lines(form, width);
    let fields = u16::try_from(form.fields.len()).unwrap_or(u16::MAX);
    intro.saturating_add(fields).saturating_add(4).saturating_add(message_lines(form, width).max(1))
}

fn wrapped(words: &str, width: u16) -> Vec<String> {
    if words.is_empty() {
        return Vec::new();
    }
    text::wrap(&Paragraph::plain(words, ratatui::style::Style::default()), usize::from(width)).iter().map(ToString::to_string).collect()
}

fn intro_lines(form: &Form, width: u16) -> u16 {
    let lines = wrapped(&form.intro, width).len();
    u16::try_from(if lines == 0 { 0 } else { lines + 1 }).unwrap_or(u16::MAX)
}

fn message(form: &Form) -> (String, Scope) {
    if let Some(error) = &form.error {
        (format!("✗ {}", text::one_line(error)), Scope::Error)
    } else if let Some(busy) = &form.busy {
        (format!("… {}", text::one_line(busy)), Scope::Accent)
    } else {
        let help = form.fields.get(form.focus).map_or("", |field| field.help);
        (help.to_owned(), Scope::Dim)
    }
}

fn message_lines(form: &Form, width: u16) -> u16 {
    u16::try_from(wrapped(&message(form).0, width).len()).unwrap_or(u16::MAX)
}

/// Draws it. Gives the cursor's place.
pub fn draw(form: &Form, theme: &Theme, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> Option<(u16, u16)> {
    if area.width < 4 || area.height == 0 {
        return None;
    }
    let fields = u16::try_from(form.fields.len()).unwrap_or(u16::MAX);
    let (words, scope) = message(form);
    let message = wrapped(&words, area.width);
    let below = u16::try_from(message.len()).unwrap_or(1).max(1);
    let mut y = area.y;
    // What explains gives way first, then the gaps, when the terminal is small.
    let needed = fields + 1 + below;
    let intro = wrapped(&form.intro, area.width);
    if area.height > needed {
        let room = usize::from(area.height - needed).saturating_sub(1);
        for line in intro.iter().take(room) {
            put(buf, area.x, y, area.width, line, theme.style(Scope::Dim));
            y += 1;
        }
        if y > area.y && y + needed < area.bottom() {
            y += 1;
        }
    }
    let mut cursor = None;
    let labels = form.fields.iter().map(|field| text::width(field.label)).max().unwrap_or(0);
    let label_width = u16::try_from(labels + 2).unwrap_or(12).min(area.width / 2);
    // With too little room, the field with the keys stays in sight.
    let room = usize::from(area.bottom().saturating_sub(y).saturating_sub(1 + below)).max(1);
    let first = (form.focus.min(form.fields.len().saturating_sub(1)) + 1).saturating_sub(room);
    for (index, field) in form.fields.iter().enumerate().skip(first).take(room) {
        let focused = index == form.focus;
        hits.push((Rect { y, height: 1, ..area }, Hit::Field(index)));
        let label = if focused { theme.style(Scope::Accent) } else { theme.style(Scope::Text) };
        put(buf, area.x, y, label_width.saturating_sub(1), field.label, label);
        let x = area.x + label_width;
        let width = area.right().saturating_sub(x).min(44);
        match &field.kind {
            FieldKind::Text(line) => {
                buf.set_style(Rect { x, y, width, height: 1 }.intersection(buf.area), theme.style(Scope::Field));
                let (shown, column) = line.view(usize::from(width));
                if line.text().is_empty() {
                    put(buf, x, y, width, field.placeholder, theme.style(Scope::Placeholder));
                } else {
                    put(buf, x, y, width, &shown, theme.style(Scope::Field));
                }
                if focused {
                    cursor = Some((x + u16::try_from(column).unwrap_or(0).min(width.saturating_sub(1)), y));
                }
            }
            FieldKind::Toggle(on) => {
                let style = if focused { theme.style(Scope::Selected) } else { theme.style(Scope::Text) };
                put(buf, x, y, width, if *on { "[x] yes" } else { "[ ] no" }, style);
                if focused {
                    cursor = Some((x + 1, y));
                }
            }
        }
        y += 1;
    }
    if y + 1 + below < area.bottom() {
        y += 1;
    }
    let on_button = form.focus >= form.fields.len();
    if y < area.bottom() {
        let style = if on_button { theme.style(Scope::Selected) } else { theme.style(Scope::Accent) };
        let end = put(buf, area.x, y, area.width, &format!("[ {} ]", form.submit), style);
        hits.push((Rect { y, height: 1, width: end.saturating_sub(area.x), ..area }, Hit::Field(form.fields.len())));
        if on_button {
            cursor = Some((area.x + 2, y));
        }
        y += 1;
    }
    if y + below < area.bottom() {
        y += 1;
    }
    for line in message {
        if y >= area.bottom() {
            break;
        }
        put(buf, area.x, y, area.width, &line, theme.style(scope));
        y += 1;
    }
    cursor
}
