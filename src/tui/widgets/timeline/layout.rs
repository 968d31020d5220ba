//! One item to lines. Pure: the same item, width and theme give the same lines, which is what makes caching them right.

use std::sync::Arc;

use ratatui::{
    style::Style,
    text::{Line, Span},
};

use super::fold;
use crate::{
    base::Zone,
    client::view::{Body, Item, ItemKind, Message, MessageKind, SendState},
    tui::{
        clock, html,
        text::{self, Paragraph},
        theme::{Scope, Theme},
    },
};

/// Below this many columns times go behind names instead of into their own column.
const NARROW: u16 = 46;
/// Reactions and receipts beyond these are counted, not listed.
const RECEIPTS: usize = 4;

/// What an item's lines depend on besides the item.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Columns.
    pub width: u16,
    /// Styles.
    pub theme: &'a Theme,
    /// Local time.
    pub zone: Zone,
    /// Follows a message of the same person: no name.
    pub grouped: bool,
    /// Spoilers are shown.
    pub revealed: bool,
    /// The first of what is new: gets the line.
    pub first_unread: bool,
    /// Our newest message that the server has: gets the mark.
    pub newest_own: bool,
    /// Keys for hints: retry and discard.
    pub keys: (&'a str, &'a str),
}

impl Setting<'_> {
    fn narrow(&self) -> bool {
        self.width < NARROW
    }

    /// Columns before the text: a mark, and the time where there is room for it.
    fn indent(&self) -> usize {
        if self.narrow() { 2 } else { 7 }
    }

    fn text_width(&self) -> usize {
        usize::from(self.width).saturating_sub(self.indent()).max(1)
    }
}

/// The lines of an item.
#[must_use]
pub fn lines(item: &Item, setting: Setting<'_>) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if setting.first_unread {
        lines.push(divider("new", '━', setting.theme.style(Scope::Marker), setting.width));
    }
    lines.extend(bare(item, setting));
    lines
}

fn bare(item: &Item, setting: Setting<'_>) -> Vec<Line<'static>> {
    let theme = setting.theme;
    match &item.kind {
        ItemKind::DayDivider { timestamp_ms } => {
            vec![divider(&clock::day(*timestamp_ms, setting.zone), '─', theme.style(Scope::Day), setting.width)]
        }
        ItemKind::ReadMarker => vec![divider("new", '━', theme.style(Scope::Marker), setting.width)],
        ItemKind::TimelineStart => vec![divider("beginning of the conversation", '·', theme.style(Scope::Dim), setting.width)],
        ItemKind::Gap => vec![divider("messages in between are not loaded yet", '╌', theme.style(Scope::Dim), setting.width)],
        ItemKind::State(change) => {
            let style = theme.style(Scope::State);
            block(item, setting, &[Paragraph::plain(format!("· {}", text::clean(&change.text)), style)], true)
        }
        ItemKind::Message(message) => person(item, setting, body(item, message, setting)),
        ItemKind::Redacted { by, reason } => {
            let by = by.as_ref().map(|by| format!(" by {}", text::one_line(by))).unwrap_or_default();
            let reason = reason.as_ref().map(|reason| format!(": {}", text::one_line(reason))).unwrap_or_default();
            person(item, setting, vec![Paragraph::plain(format!("[removed{by}{reason}]"), theme.style(Scope::Dim))])
        }
        ItemKind::Undecryptable(problem) => {
            let words = format!("[cannot be decrypted: {}]", text::one_line(&problem.reason));
            person(item, setting, vec![Paragraph::plain(words, theme.style(Scope::Warning))])
        }
        ItemKind::Unsupported { event_type } => {
            let words = format!("[{} cannot be shown yet]", text::one_line(event_type));
            person(item, setting, vec![Paragraph::plain(words, theme.style(Scope::Dim))])
        }
    }
}

/// One line for a run of changes.
#[must_use]
pub fn folded(first: &Item, run: &[Arc<Item>], setting: Setting<'_>) -> Vec<Line<'static>> {
    let tail = format!(" ({} changes)", run.len());
    // Two lines say enough; the rest is there for whoever opens it.
    let room = (2 * setting.text_width()).saturating_sub(text::width(&tail) + 12);
    let words = format!("▸ {}{tail}", text::fit(&fold::sentence(run), room));
    block(first, setting, &[Paragraph::plain(words, setting.theme.style(Scope::State))], true)
}

fn divider(label: &str, fill: char, style: Style, width: u16) -> Line<'static> {
    let width = usize::from(width);
    let label = text::fit(label, width.saturating_sub(6)).into_owned();
    let rest = width.saturating_sub(text::width(&label) + 2);
    let left = rest / 2;
    let bar = |n: usize| std::iter::repeat_n(fill, n).collect::<String>();
    if label.is_empty() {
        return Line::styled(bar(width), style);
    }
    Line::styled(format!("{} {label} {}", bar(left), bar(rest - left)), style)
}

/// A message with its sender above, unless the one before has said who speaks.
fn person(item: &Item, setting: Setting<'_>, mut paragraphs: Vec<Paragraph>) -> Vec<Line<'static>> {
    let theme = setting.theme;
    let mut lines = Vec::new();
    let emote = matches!(&item.kind, ItemKind::Message(Message { kind: MessageKind::Emote, .. }));
    if !setting.grouped && !emote {
        let mut spans = gutter(item, setting);
        spans.push(Span::styled(text::fit(&text::one_line(&item.sender_name), setting.text_width()).into_owned(), name_style(item, theme)));
        if setting.narrow() {
            spans.push(Span::styled(format!(" {}", clock::hour_minute(item.timestamp_ms, setting.zone)), theme.style(Scope::Time)));
        }
        lines.push(Line::from(spans));
    }
    extras(item, setting, &mut paragraphs);
    lines.extend(block(item, setting, &paragraphs, setting.grouped || emote));
    lines
}

fn name_style(item: &Item, theme: &Theme) -> Style {
    if item.is_own { theme.style(Scope::Own) } else { theme.nick(item.sender.as_ref().map_or(item.sender_name.as_str(), |id| id.as_str())) }
}

fn gutter(item: &Item, setting: Setting<'_>) -> Vec<Span<'static>> {
    let mentioned = matches!(&item.kind, ItemKind::Message(message) if message.mentions_me);
    let mark = if mentioned { Span::styled("┃", setting.theme.style(Scope::Mention)) } else { Span::raw(" ") };
    if setting.narrow() {
        return vec![mark, Span::raw(if mentioned { " " } else { "" })];
    }
    let time = clock::hour_minute(item.timestamp_ms, setting.zone);
    vec![mark, Span::styled(format!("{time} "), setting.theme.style(Scope::Time))]
}

/// Wraps paragraphs and puts the margin before them; the first line has the time when nothing above has shown it.
fn block(item: &Item, setting: Setting<'_>, paragraphs: &[Paragraph], time: bool) -> Vec<Line<'static>> {
    let mentioned = matches!(&item.kind, ItemKind::Message(message) if message.mentions_me);
    let mut lines = Vec::new();
    for paragraph in paragraphs {
        for line in text::wrap(paragraph, setting.text_width()) {
            let mut spans = if lines.is_empty() && time && !setting.narrow() {
                gutter(item, setting)
            } else {
                let mark = if mentioned { Span::styled("┃", setting.theme.style(Scope::Mention)) } else { Span::raw(" ") };
                vec![mark, Span::raw(" ".repeat(setting.indent().saturating_sub(1)))]
            };
            spans.extend(line.spans);
            lines.push(Line::from(spans));
        }
    }
    lines
}

fn body(item: &Item, message: &Message, setting: Setting<'_>) -> Vec<Paragraph> {
    let theme = setting.theme;
    let base = match (&item.send_state, &message.kind) {
        (SendState::Sending, _) => theme.style(Scope::Pending),
        (SendState::Failed { .. }, _) => theme.style(Scope::Dim),
        (_, MessageKind::Notice) => theme.style(Scope::Dim),
        _ if message.mentions_me => theme.style(Scope::Mention),
        _ => theme.style(Scope::Text),
    };
    let mut out = Vec::new();
    if let Some(reply) = &message.reply {
        let who = reply.sender.as_ref().map_or_else(|| "an earlier message".to_owned(), |s| text::one_line(s));
        let what = reply.text.as_ref().map(|t| format!(": {}", text::one_line(t))).unwrap_or_default();
        let line = text::fit(&format!("↩ {who}{what}"), setting.text_width()).into_owned();
        out.push(Paragraph::plain(line, theme.style(Scope::Quote)));
    }
    match &message.kind {
        MessageKind::Media { label, filename, size_bytes, mimetype } => {
            let details: Vec<String> = size_bytes.map(text::size).into_iter().chain(mimetype.as_ref().map(|m| text::one_line(m))).collect();
            let details = if details.is_empty() { String::new() } else { format!(" ({})", details.join(", ")) };
            out.push(Paragraph {
                spans: vec![
                    (format!("[{label}] "), theme.style(Scope::Accent)),
                    (text::one_line(filename), base),
                    (details, theme.style(Scope::Dim)),
                ],
                ..Paragraph::default()
            });
            if !message.body.plain.is_empty() {
                out.extend(text_body(&message.body, base, setting));
            }
        }
        MessageKind::Emote => {
            let mut paragraphs = text_body(&message.body, base, setting);
            let name = (format!("* {} ", text::one_line(&item.sender_name)), name_style(item, theme));
            match paragraphs.first_mut() {
                Some(first) => first.spans.insert(0, name),
                None => paragraphs.push(Paragraph { spans: vec![name], ..Paragraph::default() }),
            }
            out.extend(paragraphs);
        }
        MessageKind::Location => {
            out.push(Paragraph { spans: vec![("[location] ".to_owned(), theme.style(Scope::Accent))], ..Paragraph::default() });
            out.extend(text_body(&message.body, base, setting));
        }
        MessageKind::Other { kind } => {
            out.push(Paragraph::plain(format!("[{}]", text::one_line(kind)), theme.style(Scope::Dim)));
            out.extend(text_body(&message.body, base, setting));
        }
        MessageKind::Text | MessageKind::Notice => out.extend(text_body(&message.body, base, setting)),
    }
    let mut tail = String::new();
    if message.edited {
        tail.push_str(" (edited)");
    }
    match &item.send_state {
        SendState::Sending => tail.push_str(" …"),
        SendState::Sent if setting.newest_own => tail.push_str(" ✓"),
        SendState::Sent | SendState::Failed { .. } => {}
    }
    if !tail.is_empty() {
        match out.last_mut() {
            Some(last) => last.spans.push((tail, theme.style(Scope::Dim))),
            None => out.push(Paragraph::plain(tail, theme.style(Scope::Dim))),
        }
    }
    out
}

fn text_body(body: &Body, base: Style, setting: Setting<'_>) -> Vec<Paragraph> {
    let html = body.html.as_deref().and_then(|html| html::paragraphs(html, base, setting.theme, setting.revealed));
    html.unwrap_or_else(|| {
        let clean = text::clean(&body.plain);
        vec![Paragraph { spans: html::linkify(clean.trim_end(), base, setting.theme), ..Paragraph::default() }]
    })
}

/// What stands below a message: why it was not sent, reactions, its thread, who has read it.
fn extras(item: &Item, setting: Setting<'_>, out: &mut Vec<Paragraph>) {
    let theme = setting.theme;
    if let SendState::Failed { reason, will_retry } = &item.send_state {
        let (retry, discard) = setting.keys;
        let reason = text::one_line(reason);
        let reason = reason.trim_end_matches('.');
        let (words, scope) = if *will_retry {
            (format!("… waiting: {reason}; goes out by itself as soon as it can, {discard} discards it"), Scope::Dim)
        } else {
            (format!("✗ not sent: {reason}; {retry} sends it again, {discard} discards it"), Scope::Error)
        };
        out.push(Paragraph::plain(words, theme.style(scope)));
    }
    if let ItemKind::Message(message) = &item.kind {
        if !message.reactions.is_empty() {
            let mut spans = Vec::new();
            for reaction in &message.reactions {
                let scope = if reaction.mine { Scope::ReactionMine } else { Scope::Reaction };
                // Brackets say "ours" where colours cannot.
                let key = text::fit(&text::one_line(&reaction.key), 20).into_owned();
                let shown = if reaction.mine { format!("[{key} {}]", reaction.count) } else { format!("{key} {}", reaction.count) };
                spans.push((shown, theme.style(scope)));
                spans.push(("  ".to_owned(), Style::default()));
            }
            spans.pop();
            out.push(Paragraph { spans, ..Paragraph::default() });
        }
        if let Some(thread) = &message.thread {
            let latest = thread.latest.as_ref().map(|latest| format!(": {}", text::one_line(latest))).unwrap_or_default();
            let replies = if thread.replies == 1 { "1 reply".to_owned() } else { format!("{} replies", thread.replies) };
            let line = text::fit(&format!("┗ {replies}{latest}"), setting.text_width()).into_owned();
            out.push(Paragraph::plain(line, theme.style(Scope::Accent)));
        }
    }
    if !item.read_by.is_empty() {
        let mut names: Vec<String> = item.read_by.iter().take(RECEIPTS).map(|name| text::one_line(name)).collect();
        if item.read_by.len() > RECEIPTS {
            names.push(format!("and {} more", item.read_by.len() - RECEIPTS));
        }
        let line = text::fit(&format!("read by {}", names.join(", ")), setting.text_width()).into_owned();
        out.push(Paragraph::plain(line, theme.style(Scope::Receipt)));
    }
}
