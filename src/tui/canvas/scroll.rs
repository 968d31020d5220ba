//! Finding out that a part of the screen has moved up or down, and letting the terminal move it.
//!
//! DECSTBM moves whole lines; with margins at the sides (DECLRMM, which the terminal was asked about) also a part of them.
//! Line feeds and reverse line feeds do the moving: every terminal that has regions at all knows them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write,
};

use ratatui::{
    buffer::{Buffer, Cell, CellWidth},
    layout::{Position, Rect},
};

use super::pen::{Out, PLAIN, is_blank};

/// So many lines must be saved by moving, or it is not tried.
const WORTH: usize = 3;

/// Lines that a part of the screen has moved: up when positive.
pub fn find(shown: &Buffer, next: &Buffer, area: Rect) -> Option<i32> {
    let before: Vec<Option<u64>> = (area.top()..area.bottom()).map(|y| mark(shown, area, y)).collect();
    let after: Vec<Option<u64>> = (area.top()..area.bottom()).map(|y| mark(next, area, y)).collect();
    let height = i32::from(area.height);
    let stay = |y: usize| after.get(y).is_some_and(Option::is_some) && before.get(y) == after.get(y);
    let saved = |by: i32| {
        (0..after.len())
            .filter(|y| {
                let from = i32::try_from(*y).ok().and_then(|y| usize::try_from(y + by).ok());
                let moved = from.and_then(|from| before.get(from)).copied().flatten();
                moved.is_some() && after.get(*y).copied().flatten() == moved && !stay(*y)
            })
            .count()
    };
    (1 - height..height).filter(|by| *by != 0).map(|by| (saved(by), by)).filter(|(saved, _)| *saved >= WORTH).max().map(|(_, by)| by)
}

/// What stands in a line of the area; `None` when there is nothing to see.
fn mark(buffer: &Buffer, area: Rect, y: u16) -> Option<u64> {
    let cells = line(buffer, y)?.get(usize::from(area.left())..usize::from(area.right()))?;
    if cells.iter().all(is_blank) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    cells.hash(&mut hasher);
    Some(hasher.finish())
}

/// A line of the buffer.
pub fn line(buffer: &Buffer, y: u16) -> Option<&[Cell]> {
    let width = usize::from(buffer.area.width);
    let start = usize::from(y).checked_mul(width)?;
    buffer.content.get(start..start + width)
}

/// True where a wide character stands half inside: what a terminal does with one is its own affair.
pub fn splits(buffer: &Buffer, area: Rect) -> bool {
    let wide = |x: Option<u16>, y| x.and_then(|x| buffer.cell((x, y))).is_some_and(|cell| cell.cell_width() > 1);
    (area.top()..area.bottom()).any(|y| wide(area.left().checked_sub(1), y) || wide(area.right().checked_sub(1), y))
}

/// Lets the terminal move the lines of an area, and does the same to what is known of it.
pub fn shift(out: &mut Out, shown: &mut Buffer, area: Rect, by: i32) {
    // New lines come in the pen's ground.
    out.set_pen(PLAIN);
    let sides = area.width < shown.area.width;
    let (top, bottom) = (u32::from(area.top()) + 1, u32::from(area.bottom()));
    // Writing to a Vec cannot fail.
    if sides {
        let _ = write!(out.bytes, "\x1b[?69h\x1b[{};{}s", u32::from(area.left()) + 1, area.right());
    }
    let _ = write!(out.bytes, "\x1b[{top};{bottom}r");
    let start = if by > 0 { area.bottom().saturating_sub(1) } else { area.top() };
    (out.row, out.column) = (None, None);
    out.move_to(Position { x: area.left(), y: start });
    for _ in 0..by.unsigned_abs() {
        out.push(if by > 0 { b"\n" } else { b"\x1bM" });
    }
    if sides {
        out.push(b"\x1b[?69l");
    }
    // Setting the region takes the cursor home.
    out.push(b"\x1b[r");
    (out.row, out.column) = (Some(0), Some(0));
    moved(shown, area, by);
}

fn moved(shown: &mut Buffer, area: Rect, by: i32) {
    let before = shown.clone();
    for y in area.top()..area.bottom() {
        let from = u16::try_from(i32::from(y) + by).ok().filter(|from| (area.top()..area.bottom()).contains(from));
        for x in area.left()..area.right() {
            let cell = from.and_then(|from| before.cell((x, from))).cloned().unwrap_or_default();
            if let Some(slot) = shown.cell_mut((x, y)) {
                *slot = cell;
            }
        }
    }
}
