//! The demonstration's pictures, painted when they are needed.
//!
//! Knows colours and shapes only; who shows what is in the script.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Picture {
    /// As PNG.
    pub png: Vec<u8>,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

const WIDTH: u32 = 480;
const HEIGHT: u32 = 320;

/// Paints one of the pictures that the script knows: `beds`, `sky`, `shelf`, `chart`.
///
/// # Errors
/// When there is no such picture, or it cannot be encoded.
pub fn paint(name: &str) -> Result<Picture, image::ImageError> {
    let colour: fn(u32, u32) -> [u8; 3] = match name {
        "beds" => beds,
        "sky" => sky,
        "shelf" => shelf,
        "chart" => poster,
        _ => return Err(image::ImageError::IoError(std::io::Error::new(std::io::ErrorKind::NotFound, "no such picture"))),
    };
    let image = RgbImage::from_fn(WIDTH, HEIGHT, |x, y| Rgb(colour(x, y)));
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png)?;
    Ok(Picture { png: png.into_inner(), width: WIDTH, height: HEIGHT })
}

/// A number from 0 to 255 that looks random and is always the same.
fn grain(x: u32, y: u32) -> u8 {
    let mixed = x.wrapping_mul(0x9E37_79B1) ^ y.wrapping_mul(0x85EB_CA77);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x2C1B_3C6D);
    (mixed >> 24).to_le_bytes()[0]
}

/// Six beds seen from above, the last one brown.
fn beds(x: u32, y: u32) -> [u8; 3] {
    let (column, row) = (x / 160, y / 160);
    let edge = x % 160 < 14 || y % 160 < 14;
    if edge {
        return [196, 180, 148];
    }
    let plant = grain(x / 12, y / 12) > 90;
    match (column + 3 * row, plant) {
        (5, _) => [104, 74, 48],
        (_, false) => [122, 92, 62],
        (0, true) => [190, 60, 48],
        (1, true) => [70, 140, 60],
        (2, true) => [120, 160, 70],
        (3, true) => [60, 110, 80],
        _ => [150, 170, 60],
    }
}

/// Stars over a dark hill.
fn sky(x: u32, y: u32) -> [u8; 3] {
    let hill = 250 + (x.abs_diff(300) * x.abs_diff(300)) / 2200;
    if y > hill {
        return [12, 16, 14];
    }
    let glow = u8::try_from(y / 6).unwrap_or(u8::MAX);
    let band = (x + 2 * y).abs_diff(520) < 90;
    let brightness = grain(x, y);
    if brightness > if band { 249 } else { 253 } {
        return [230, 232, 240];
    }
    if band { [24 + glow / 2, 26 + glow / 2, 48 + glow] } else { [10 + glow / 3, 12 + glow / 3, 30 + glow] }
}

/// A wall of pegs with tools and white labels.
fn shelf(x: u32, y: u32) -> [u8; 3] {
    let (cell_x, cell_y) = (x % 60, y % 80);
    let tool = grain(x / 60, y / 80);
    if (58..70).contains(&cell_y) && (8..52).contains(&cell_x) {
        return [240, 240, 232];
    }
    let handle = cell_x.abs_diff(30) < 4 + u32::from(tool % 4) && (24..54).contains(&cell_y);
    let head = cell_x.abs_diff(30) < 8 + u32::from(tool % 12) && (10..24).contains(&cell_y);
    if head {
        [120, 126, 134]
    } else if handle {
        [178, 84, 44]
    } else if cell_x.is_multiple_of(20) && cell_y.is_multiple_of(20) {
        [120, 96, 70]
    } else {
        [206, 178, 136]
    }
}

/// A poster: green ground, a roof, a sun.
fn poster(x: u32, y: u32) -> [u8; 3] {
    let sun = x.abs_diff(370) * x.abs_diff(370) + y.abs_diff(80) * y.abs_diff(80) < 46 * 46;
    let roof = y > 120 && y < 200 && x.abs_diff(200) < (y - 120) * 2;
    let wall = (200..290).contains(&y) && x.abs_diff(200) < 130;
    let door = (230..290).contains(&y) && x.abs_diff(200) < 24;
    if sun {
        [244, 200, 66]
    } else if roof {
        [170, 70, 52]
    } else if door {
        [70, 52, 40]
    } else if wall {
        [236, 226, 204]
    } else if y > 280 {
        [64, 112, 62]
    } else {
        [126, 186, 130]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_of_the_script_can_be_painted() -> Result<(), Box<dyn std::error::Error>> {
        use super::super::script::{Act, Script};
        let mut seen = 0;
        for line in Script::embedded()?.rooms.iter().flat_map(|room| &room.lines) {
            if let Act::Picture(name, _) = &line.act {
                let picture = paint(name)?;
                let read = image::load_from_memory(&picture.png)?;
                assert_eq!((read.width(), read.height()), (picture.width, picture.height));
                seen += 1;
            }
        }
        assert!(seen >= 3);
        assert!(paint("nothing").is_err());
        Ok(())
    }
}
