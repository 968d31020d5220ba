//! Images for tests.
#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::{io::Cursor, time::Duration};

use image::{
    AnimationDecoder, Delay, DynamicImage, Frame, ImageFormat, Rgba, RgbaImage,
    codecs::{gif::GifEncoder, webp::WebPDecoder},
};

/// A picture without anything on it.
pub(in crate::homeserver) fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    DynamicImage::new_rgb8(width, height).write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).unwrap();
    bytes
}

/// A picture that promises 30000 x 30000 pixels: 2.7 GB once decoded.
pub(in crate::homeserver) fn bomb() -> Vec<u8> {
    let mut bomb = png(1, 1);
    bomb.splice(16..24, [30_000_u32.to_be_bytes(), 30_000_u32.to_be_bytes()].concat());
    let crc = crc32(bomb.get(12..29).unwrap_or_default());
    bomb.splice(29..33, crc.to_be_bytes());
    bomb
}

/// The checksum of a chunk of a PNG.
pub(in crate::homeserver) fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// The colour of a frame.
pub(super) fn colour(number: u32) -> Rgba<u8> {
    Rgba([u8::try_from(number * 40 % 256).unwrap(), 200, 0, 255])
}

/// A GIF of so many frames.
pub(in crate::homeserver) fn gif(width: u32, height: u32, frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, 30);
    encoder.set_repeat(image::codecs::gif::Repeat::Infinite).unwrap();
    for number in 0..frames {
        let image = RgbaImage::from_pixel(width, height, colour(number));
        let delay = Delay::from_saturating_duration(Duration::from_millis(50 + u64::from(number) * 10));
        encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    bytes
}

/// A GIF of this size whose frames have one pixel each.
pub(super) fn canvas(width: u16, height: u16, frames: usize) -> Vec<u8> {
    let [[w, wide], [h, high]] = [width.to_le_bytes(), height.to_le_bytes()];
    // A palette of two colours.
    let mut bytes = [&b"GIF89a"[..], &[w, wide, h, high, 0x80, 0, 0], &[0, 0, 0, 255, 255, 255]].concat();
    for _ in 0..frames {
        bytes.extend([0x21, 0xf9, 4, 0, 5, 0, 0, 0]);
        bytes.extend([0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0]);
        // Codes of three bits: begin, the first colour, end.
        bytes.extend([2, 2, 0x44, 0x01, 0]);
    }
    bytes.push(0x3b);
    bytes
}

/// The frames of an animated WebP.
pub(in crate::homeserver) fn frames(webp: &[u8]) -> Vec<Frame> {
    let decoder = WebPDecoder::new(Cursor::new(webp)).unwrap();
    assert!(decoder.has_animation());
    decoder.into_frames().collect_frames().unwrap()
}

/// A file with these bytes.
pub(super) fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    file
}
