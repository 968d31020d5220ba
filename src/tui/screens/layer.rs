//! Dialogs and pickers.

use ratatui::{buffer::Buffer, layout::Rect};

use super::help;
use crate::tui::{
    layers::{Layer, Page, PickerKind, Purpose, Question},
    model::{Hit, Hits, Model},
    text::{self, Paragraph},
    theme::Scope,
    widgets::{dialog, form, picker, put},
};

/// Draws one layer over what is there. Gives the cursor's place.
pub fn draw(model: &Model, layer: &mut Layer, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> Option<(u16, u16)> {
    let theme = &model.theme;
    match layer {
        Layer::Help(state) => {
            let hint = "up and down scroll, esc closes, * is yours";
            let place = dialog::frame("Help", hint, (100, area.height), theme, area, buf);
            help::draw(model, state, place, buf)
        }
        Layer::Picker(state) => {
            let hint = match state.kind {
                PickerKind::Reaction(..) => "enter reacts, also with what you typed",
                PickerKind::Members => "enter starts a direct chat",
                PickerKind::Rooms | PickerKind::Palette => "enter chooses, esc closes",
            };
            let tall = u16::try_from(state.entries.len()).unwrap_or(u16::MAX).saturating_add(1).clamp(6, 18);
            let place = dialog::frame(&state.title.clone(), hint, (72, tall), theme, area, buf);
            picker::draw(state, theme, place, buf, hits)
        }
        Layer::Form(state) => {
            let width = area.width.saturating_sub(4).min(66);
            let tall = form::height(&state.form, width);
            let hint = match (&state.purpose, &state.form.busy) {
                (Purpose::SignInAgain { .. }, Some(_)) => "esc cancels",
                (Purpose::SignInAgain { .. }, None) => "esc closes, the password is not kept",
                _ => "esc closes, what you typed stays",
            };
            let place = dialog::frame(&state.form.title, hint, (width, tall), theme, area, buf);
            form::draw(&state.form, theme, place, buf, hits)
        }
        Layer::Question(question) => ask(model, question, area, buf, hits),
        Layer::Page(page) => read(model, page, area, buf),
    }
}

fn ask(model: &Model, question: &Question, area: Rect, buf: &mut Buffer, hits: &mut Hits) -> Option<(u16, u16)> {
    let theme = &model.theme;
    let width = area.width.saturating_sub(4).clamp(1, 60);
    let lines = text::wrap(&Paragraph::plain(question.text.clone(), theme.style(Scope::Text)), usize::from(width));
    let tall = u16::try_from(lines.len()).unwrap_or(3).saturating_add(2);
    let place = dialog::frame(&question.title, "", (width, tall), theme, area, buf);
    let room = place.height.saturating_sub(1);
    for (line, y) in lines.into_iter().zip(place.y..place.y + room) {
        buf.set_line(place.x, y, &line, place.width);
    }
    if place.height == 0 {
        return None;
    }
    let y = place.bottom() - 1;
    let style = |on: bool| theme.style(if on { Scope::Selected } else { Scope::Text });
    let no = put(buf, place.x, y, place.width, "[ No ]", style(!question.on_yes));
    let yes = no + 2;
    let end = put(buf, yes, y, place.right().saturating_sub(yes), &format!("[ {} ]", question.yes), style(question.on_yes));
    hits.push((Rect { x: place.x, y, width: no - place.x, height: 1 }, Hit::Answer(false)));
    hits.push((Rect { x: yes, y, width: end.saturating_sub(yes), height: 1 }, Hit::Answer(true)));
    Some((if question.on_yes { yes + 2 } else { place.x + 2 }, y))
}

fn read(model: &Model, page: &mut Page, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    let theme = &model.theme;
    let labels = page.rows.iter().map(|(label, _)| text::width(label)).max().unwrap_or(0).min(20);
    let width = area.width.saturating_sub(4).clamp(1, 72);
    let columns = usize::from(width).saturating_sub(labels + 2).max(8);
    let mut lines = Vec::new();
    for (label, value) in &page.rows {
        for (index, line) in
            text::wrap(&Paragraph::plain(text::clean(value).into_owned(), theme.style(Scope::Text)), columns).into_iter().enumerate()
        {
            lines.push((if index == 0 { label.as_str() } else { "" }, line));
        }
    }
    let place = dialog::frame(&page.title, "esc closes", (width, u16::try_from(lines.len()).unwrap_or(u16::MAX)), theme, area, buf);
    page.scroll = page.scroll.min(lines.len().saturating_sub(usize::from(place.height)));
    for ((label, line), y) in lines.iter().skip(page.scroll).zip(place.top()..place.bottom()) {
        let indent = u16::try_from(labels + 2).unwrap_or(0).min(place.width);
        put(buf, place.x, y, indent.saturating_sub(1), label, theme.style(Scope::Dim));
        buf.set_line(place.x + indent, y, line, place.width - indent);
    }
    None
}
