//! One row of cells to bytes: what has changed, with gaps, blanks and line ends in the cheapest form.

use ratatui::{
    buffer::{Cell, CellWidth},
    layout::Position,
};

use super::pen::{Out, PLAIN, Pen, erase_columns, is_blank, is_erased, same};

/// Erasing so many blanks and stepping over them costs less than writing them.
const ERASE_WITHIN: usize = 11;
/// The same where nothing follows in the row.
const ERASE_LAST: usize = 6;
/// Erasing to the end of the line costs no more than writing so many blanks.
const ERASE_LINE: usize = 3;

/// Columns that a cell covers.
fn columns(cell: &Cell) -> usize {
    usize::from(cell.cell_width()).max(1)
}

/// Which columns have to be written. Whoever overwrites one half of a wide character spoils the other.
fn changes(shown: &[Cell], next: &[Cell]) -> Vec<bool> {
    let mut changed = vec![false; next.len()];
    let mut spoiled = 0;
    let mut x = 0;
    while let (Some(cell), Some(before)) = (next.get(x), shown.get(x)) {
        let wide = columns(cell).min(next.len() - x);
        // What a wide cell covers has cells of its own on either side, which nobody sees.
        let hidden_before = (1..wide).any(|over| shown.get(x + over).is_some_and(|cell| !is_blank(cell)));
        let differs = !same(cell, before) || columns(before) != wide || hidden_before || x < spoiled;
        if differs {
            if let Some(slot) = changed.get_mut(x) {
                *slot = true;
            }
            let covered = (x..x + wide).filter_map(|at| shown.get(at).map(|cell| at + columns(cell))).max().unwrap_or(0);
            spoiled = spoiled.max(covered);
        }
        x += wide;
    }
    changed
}

/// Writes what differs between what a row shows and what it is to show.
pub fn row(out: &mut Out, shown: &[Cell], next: &[Cell], y: u16) {
    let changed = changes(shown, next);
    let Some(last) = changed.iter().rposition(|changed| *changed) else { return };
    // From here to the end of the line there is nothing to see.
    let tail = next.len() - next.iter().rev().take_while(|cell| is_erased(cell)).count();
    let mut x = 0;
    while x <= last {
        if !changed.get(x).copied().unwrap_or(false) {
            x += next.get(x).map_or(1, columns);
            continue;
        }
        if x >= tail && last + 1 - x >= ERASE_LINE {
            approach(out, next, x, y);
            erasing(out);
            out.push(b"\x1b[K");
            return;
        }
        let blanks = next.get(x..).unwrap_or_default().iter().take_while(|cell| is_erased(cell)).count();
        let end = (x + blanks).min(last + 1);
        // The last of them that has to be written at all.
        let wanted = changed.get(x..end).and_then(|part| part.iter().rposition(|changed| *changed)).map_or(0, |at| at + 1);
        let follows = last + 1 > x + wanted;
        if wanted >= if follows { ERASE_WITHIN } else { ERASE_LAST } {
            approach(out, next, x, y);
            erasing(out);
            erase_columns(out, u16::try_from(wanted).unwrap_or(u16::MAX));
            x += wanted;
            continue;
        }
        let Some(cell) = next.get(x) else { return };
        approach(out, next, x, y);
        let wide = columns(cell).min(next.len() - x);
        out.write(cell, u16::try_from(wide).unwrap_or(1));
        x += wide;
    }
}

/// A pen that erases to the terminal's own ground. Some terminals erase with the pen's underline too.
fn erasing(out: &mut Out) {
    if !out.pen.blank_like(PLAIN) {
        out.set_pen(PLAIN);
    }
}

/// Brings the cursor to a column: by a movement, or by writing what stands between once more where that is shorter.
fn approach(out: &mut Out, next: &[Cell], x: usize, y: u16) {
    let to = Position { x: u16::try_from(x).unwrap_or(u16::MAX), y };
    let way = out.way(to);
    if way.is_empty() {
        return;
    }
    if out.row == Some(y)
        && let Some(at) = out.column.map(usize::from).filter(|at| *at < x)
        && x - at <= way.len()
        && let Some(between) = next.get(at..x)
        && between.iter().all(|cell| repeatable(cell, out.pen))
        // The cursor may stand on the second half of a wide character, which is not to be written over.
        && at.checked_sub(1).and_then(|before| next.get(before)).is_none_or(|before| columns(before) == 1)
    {
        for cell in between {
            out.write(cell, 1);
        }
        return;
    }
    out.move_to(to);
}

/// A cell that can be written again without another pen and without doubt about its width.
fn repeatable(cell: &Cell, pen: Pen) -> bool {
    let ascii = matches!(cell.symbol().as_bytes(), [0x20..0x7f]);
    ascii && (Pen::of(cell) == pen || (is_blank(cell) && pen.blank_like(Pen::of(cell))))
}
