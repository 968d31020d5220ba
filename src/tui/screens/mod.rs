//! What fills the terminal. Drawing reads the model and writes cells; besides that it only notes what it found out
//! (scroll positions, whether the end is visible).

pub mod help;
pub mod layer;
pub mod main;
mod outside;
pub mod welcome;

use ratatui::{buffer::Buffer, layout::Rect};

use super::model::{Hit, Model, Screen};

/// Draws everything. Gives the cursor's place, when it is to be seen.
pub fn draw(model: &mut Model, area: Rect, buf: &mut Buffer) -> Option<(u16, u16)> {
    model.screen_area = area;
    model.scrolls.clear();
    model.hits.clear();
    model.view.before_drawing();
    model.thread_view.before_drawing();
    if area.width == 0 || area.height == 0 {
        return None;
    }
    let mut cursor = match model.screen {
        Screen::Welcome => welcome::draw(model, area, buf),
        Screen::Main => main::draw(model, area, buf),
    };
    let mut layers = std::mem::take(&mut model.layers);
    for layer in &mut layers {
        let mut hits = std::mem::take(&mut model.hits);
        hits.push((area, Hit::Nothing));
        cursor = layer::draw(model, layer, area, buf, &mut hits);
        model.hits = hits;
    }
    model.layers = layers;
    let (room, thread) = (model.open_timeline().is_some(), model.open_thread().is_some());
    model.view.after_drawing(room);
    model.thread_view.after_drawing(thread);
    cursor.filter(|(x, y)| *x < area.right() && *y < area.bottom())
}
