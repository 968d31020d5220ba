//! Help: the rows of the keymap that is in force, and the / commands. Nothing is written by hand, so nothing is wrong.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::tui::{
    action::{ACTIONS, Action},
    keymap::CONTEXTS,
    keys,
    layers::Help,
    model::Model,
    slash::COMMANDS,
    text,
    theme::Scope,
    widgets::put,
};

/// One line of help.
enum Line {
    Heading(String),
    Row(String, String),
}

fn lines(model: &Model, query: &str) -> Vec<Line> {
    let query = query.trim().to_lowercase();
    let wanted = |key: &str, words: &str| query.is_empty() || key.to_lowercase().contains(&query) || words.to_lowercase().contains(&query);
    let mut out = Vec::new();
    for (context, name, place) in CONTEXTS {
        // Keys of one action share a line.
        let mut rows: Vec<(Action, String, String)> = Vec::new();
        for row in model.keymap.rows().iter().filter(|row| row.context == *context) {
            let mark = if row.user { "*" } else { "" };
            let key = format!("{}{mark}", keys::show(&row.on));
            if row.run.room_index().is_some() && row.desc.is_none() {
                // Nine rows that say the same are one.
                match rows.iter_mut().find(|(action, ..)| action.room_index().is_some()) {
                    Some((_, keys, _)) => *keys = format!("{} … {key}", keys.split(" … ").next().unwrap_or_default()),
                    None => rows.push((row.run, key, "Open the 1st to 9th room of the list.".to_owned())),
                }
                continue;
            }
            match rows.iter_mut().find(|(action, _, words)| *action == row.run && words == row.description()) {
                Some((_, keys, _)) => *keys = format!("{keys}, {key}"),
                None => rows.push((row.run, key, row.description().to_owned())),
            }
        }
        rows.retain(|(action, key, words)| wanted(key, words) || wanted(action.name(), ""));
        if !rows.is_empty() {
            out.push(Line::Heading(format!("{place} ({name})")));
            out.extend(rows.into_iter().map(|(_, key, words)| Line::Row(key, words)));
        }
    }
    let commands: Vec<Line> = COMMANDS
        .iter()
        .map(|command| (format!("/{} {}", command.name, command.arguments), command.description))
        .filter(|(name, words)| wanted(name, words))
        .map(|(name, words)| Line::Row(name, words.to_owned()))
        .collect();
    if !commands.is_empty() {
        out.push(Line::Heading("Commands, typed in the composer (// sends a text that begins with /)".to_owned()));
        out.extend(commands);
    }
    let unbound: Vec<Line> = ACTIONS
        .iter()
        .filter(|info| !model.keymap.rows().iter().any(|row| row.run == info.action) && wanted(info.name, info.description))
        .map(|info| Line::Row(info.name.to_owned(), info.description.to_owned()))
        .collect();
    if !unbound.is_empty() {
        out.push(Line::Heading("Without a key: bind them in your keymap, or use the palette".to_owned()));
        out.extend(unbound);
    }
    out
}

/// Draws it. Gives the cursor's place.
pub fn draw(model: &Model, help: &mut Help, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    let theme = &model.theme;
    if area.width < 8 || area.height < 2 {
        return None;
    }
    put(buf, area.x, area.y, 2, "> ", theme.style(Scope::Prompt));
    let (shown, column) = help.query.view(usize::from(area.width - 3));
    let (shown, scope) =
        if help.query.text().is_empty() { ("type to search".to_owned(), Scope::Placeholder) } else { (shown, Scope::Text) };
    put(buf, area.x + 2, area.y, area.width - 2, &shown, theme.style(scope));
    let body = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let lines = lines(model, help.query.text());
    let keys = lines.iter().map(|line| if let Line::Row(key, _) = line { text::width(key) } else { 0 }).max().unwrap_or(0);
    let keys = u16::try_from(keys).unwrap_or(20).min(area.width / 3).max(8);
    let mut rows: Vec<(u16, String, Scope, bool)> = Vec::new();
    for line in &lines {
        match line {
            Line::Heading(words) => {
                if !rows.is_empty() {
                    rows.push((0, String::new(), Scope::Text, true));
                }
                rows.push((0, words.clone(), Scope::Heading, true));
            }
            Line::Row(key, words) => {
                let columns = usize::from(area.width.saturating_sub(keys + 2)).max(1);
                let left = text::wrap(&text::Paragraph::plain(key.clone(), theme.style(Scope::Key)), usize::from(keys));
                let right = text::wrap(&text::Paragraph::plain(words.clone(), theme.style(Scope::Text)), columns);
                for index in 0..left.len().max(right.len()) {
                    rows.push((0, left.get(index).map(ToString::to_string).unwrap_or_default(), Scope::Key, true));
                    rows.push((keys + 2, right.get(index).map(ToString::to_string).unwrap_or_default(), Scope::Text, false));
                }
            }
        }
    }
    // Rows that start a line carry `true`; the right half of a row follows its left half on the same line.
    let total = rows.iter().filter(|(.., starts)| *starts).count();
    help.scroll = help.scroll.min(total.saturating_sub(usize::from(body.height)));
    let mut line = 0_usize;
    for (x, words, scope, starts) in rows {
        line += usize::from(starts);
        let Some(at) = line.checked_sub(1 + help.scroll).and_then(|at| u16::try_from(at).ok()).filter(|at| *at < body.height) else {
            continue;
        };
        put(buf, body.x + x, body.y + at, body.width.saturating_sub(x), &words, theme.style(scope));
    }
    if total == 0 {
        put(buf, body.x, body.y, body.width, "nothing matches", theme.style(Scope::Dim));
    }
    Some((area.x + 2 + u16::try_from(column).unwrap_or(0), area.y))
}
