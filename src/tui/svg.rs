//! Cells as SVG: the README's picture is the real screen.

use std::fmt::Write;

use ratatui::{
    buffer::{Buffer, CellWidth},
    style::{Color, Modifier},
};

/// Size of a cell, in the picture's units.
const CELL: (f32, f32) = (8.4, 18.0);
/// Around the cells.
const MARGIN: f32 = 14.0;

/// The terminal that the picture pretends to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// Text without a colour of its own.
    pub fg: (u8, u8, u8),
    /// Ground without a colour of its own.
    pub bg: (u8, u8, u8),
}

impl Default for Ground {
    fn default() -> Self {
        Self { fg: (0xd8, 0xdd, 0xe6), bg: (0x16, 0x1a, 0x21) }
    }
}

/// Draws a buffer, and the cursor where there is one.
#[must_use]
pub fn render(buffer: &Buffer, cursor: Option<(u16, u16)>, ground: Ground) -> String {
    let area = buffer.area;
    let (width, height) = (f32::from(area.width) * CELL.0 + 2.0 * MARGIN, f32::from(area.height) * CELL.1 + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" height=\"{height:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>\n",
        hex(ground.bg)
    );
    let place = |x: u16, y: u16| (MARGIN + f32::from(x) * CELL.0, MARGIN + f32::from(y) * CELL.1);
    for y in area.top()..area.bottom() {
        let runs = runs(buffer, y, ground);
        for run in runs.iter().filter(|run| run.bg != ground.bg) {
            let (px, py) = place(run.x, y);
            let wide = f32::from(run.columns) * CELL.0;
            // Writing to a String cannot fail.
            let _ =
                writeln!(out, "<rect x=\"{px:.1}\" y=\"{py:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"{}\"/>", CELL.1, hex(run.bg));
        }
        for run in runs.iter().filter(|run| !run.text.trim().is_empty()) {
            let (px, py) = place(run.x, y);
            let wide = f32::from(run.columns) * CELL.0;
            let _ = writeln!(
                out,
                "<text x=\"{px:.1}\" y=\"{:.1}\" textLength=\"{wide:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" fill=\"{}\"{}>{}</text>",
                py + 13.5,
                hex(run.fg),
                attributes(run.modifier),
                escape(&run.text)
            );
        }
    }
    if let Some((x, y)) = cursor {
        let (px, py) = place(x, y);
        let _ = writeln!(out, "<rect x=\"{px:.1}\" y=\"{py:.1}\" width=\"2\" height=\"{:.1}\" fill=\"{}\"/>", CELL.1, hex(ground.fg));
    }
    out.push_str("</svg>\n");
    out
}

/// Neighbouring cells of one style.
struct Run {
    x: u16,
    columns: u16,
    text: String,
    fg: (u8, u8, u8),
    bg: (u8, u8, u8),
    modifier: Modifier,
}

fn runs(buffer: &Buffer, y: u16, ground: Ground) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut x = buffer.area.left();
    while x < buffer.area.right() {
        let Some(cell) = buffer.cell((x, y)) else { break };
        let (mut fg, mut bg) = (rgb(cell.fg, ground.fg), rgb(cell.bg, ground.bg));
        if cell.modifier.contains(Modifier::REVERSED) {
            std::mem::swap(&mut fg, &mut bg);
        }
        if cell.modifier.contains(Modifier::DIM) {
            let mix = |a: u8, b: u8| u8::try_from((u16::from(a) * 3 + u16::from(b) * 2) / 5).unwrap_or(a);
            fg = (mix(fg.0, bg.0), mix(fg.1, bg.1), mix(fg.2, bg.2));
        }
        let columns = cell.symbol().cell_width().clamp(1, 2);
        // Wide characters stand alone, so that fonts of another width cannot push their neighbours.
        let joins = columns == 1
            && runs.last().is_some_and(|run| {
                run.x + run.columns == x && run.fg == fg && run.bg == bg && run.modifier == cell.modifier && run.text.is_ascii()
            })
            && cell.symbol().is_ascii();
        match runs.last_mut() {
            Some(run) if joins => {
                run.columns += columns;
                run.text.push_str(cell.symbol());
            }
            _ => runs.push(Run { x, columns, text: cell.symbol().to_owned(), fg, bg, modifier: cell.modifier }),
        }
        x += columns;
    }
    runs
}

fn attributes(modifier: Modifier) -> String {
    let mut out = String::new();
    if modifier.contains(Modifier::BOLD) {
        out.push_str(" font-weight=\"bold\"");
    }
    if modifier.contains(Modifier::ITALIC) {
        out.push_str(" font-style=\"italic\"");
    }
    if modifier.contains(Modifier::UNDERLINED) {
        out.push_str(" text-decoration=\"underline\"");
    } else if modifier.contains(Modifier::CROSSED_OUT) {
        out.push_str(" text-decoration=\"line-through\"");
    }
    out
}

fn hex((r, g, b): (u8, u8, u8)) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn rgb(colour: Color, default: (u8, u8, u8)) -> (u8, u8, u8) {
    match colour {
        Color::Reset => default,
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Black => (0x20, 0x24, 0x2c),
        Color::Red => (0xc7, 0x4b, 0x50),
        Color::Green => (0x5f, 0xa8, 0x5f),
        Color::Yellow => (0xc2, 0x9a, 0x4a),
        Color::Blue => (0x4f, 0x84, 0xc4),
        Color::Magenta => (0xa3, 0x6a, 0xb8),
        Color::Cyan => (0x4c, 0xa6, 0xa6),
        Color::Gray => (0xb8, 0xbe, 0xc8),
        Color::DarkGray => (0x6b, 0x76, 0x88),
        Color::LightRed => (0xf2, 0x7a, 0x83),
        Color::LightGreen => (0x79, 0xd2, 0x8f),
        Color::LightYellow => (0xe9, 0xc1, 0x5b),
        Color::LightBlue => (0x6f, 0xb3, 0xf2),
        Color::LightMagenta => (0xc9, 0xa2, 0xf0),
        Color::LightCyan => (0x6f, 0xd6, 0xd6),
        Color::White => (0xf2, 0xf4, 0xf8),
        Color::Indexed(n @ 16..=231) => {
            let level = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
            let n = n - 16;
            (level(n / 36), level(n / 6 % 6), level(n % 6))
        }
        Color::Indexed(n @ 232..) => (8 + 10 * (n - 232), 8 + 10 * (n - 232), 8 + 10 * (n - 232)),
        Color::Indexed(_) => default,
    }
}

#[cfg(test)]
mod tests {
    use ratatui::style::Style;

    use super::*;

    #[test]
    fn cells_become_text_with_their_colours() {
        let mut buffer = Buffer::empty(ratatui::layout::Rect::new(0, 0, 6, 1));
        buffer.set_string(0, 0, "a<你", Style::new().fg(Color::Rgb(1, 2, 3)).add_modifier(Modifier::BOLD));
        let svg = render(&buffer, Some((1, 0)), Ground::default());
        assert!(svg.contains("fill=\"#010203\" font-weight=\"bold\">a&lt;</text>"), "{svg}");
        assert!(svg.contains(">你</text>"), "{svg}");
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
