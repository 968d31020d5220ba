//! Thumbnails that move: small copies of animated GIF, PNG and WebP images, as animated WebP, within limits.
//!
//! Frames are read, made smaller and written one by one. What would take too long or become too large gets a still thumbnail.

use std::{
    fs::File,
    io::{BufReader, Seek},
    path::Path,
};

use image::{
    AnimationDecoder, DynamicImage, ExtendedColorType, Frame, Frames, ImageDecoder, ImageFormat, ImageReader,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder, webp::WebPEncoder},
    metadata::{LoopCount, Orientation},
};

use super::{
    MediaError,
    thumbnails::{Thumbnail, fit, limits, open, refused},
};

/// What one thumbnail may take.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Pixels of an image of which several copies are in memory at one time.
    canvas_pixels: u64,
    /// Frames of one image.
    frames: u32,
    /// Pixels of all frames that are read.
    read_pixels: u64,
    /// Pixels of all frames that are written.
    written_pixels: u64,
    /// Size of the thumbnail.
    bytes: usize,
}

/// A second or two of work.
const BOUNDS: Bounds = Bounds {
    canvas_pixels: 4 * 1024 * 1024,
    frames: 1000,
    read_pixels: 256 * 1024 * 1024,
    written_pixels: 64 * 1024 * 1024,
    bytes: 8 * 1024 * 1024,
};
/// Longest time that a frame can stand, in milliseconds: WebP has 24 bits for it.
const DELAY_MS: u32 = 0x00ff_ffff;

/// What became of an image.
#[derive(Debug)]
pub(super) enum Moving {
    /// A thumbnail.
    Made(Vec<u8>),
    /// The image is small enough as it is.
    Small,
    /// It does not move, or cannot be made to within the limits.
    Still,
}

/// An animation that has been opened.
struct Animation {
    width: u32,
    height: u32,
    orientation: Orientation,
    repeat: LoopCount,
    frames: Frames<'static>,
}

fn animation<D: ImageDecoder + AnimationDecoder<'static>>(mut decoder: D) -> Result<Animation, MediaError> {
    decoder.set_limits(limits()).map_err(refused)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(refused)?;
    Ok(Animation { width, height, orientation, repeat: decoder.loop_count(), frames: decoder.into_frames() })
}

/// Opens what has frames; `None` for what has one picture only, as far as its head says.
fn opened(path: &Path) -> Result<Option<Animation>, MediaError> {
    let reader = ImageReader::new(BufReader::new(open(path)?)).with_guessed_format()?;
    let format = reader.format();
    let mut file: BufReader<File> = reader.into_inner();
    file.rewind()?;
    match format {
        Some(ImageFormat::Gif) => animation(GifDecoder::new(file).map_err(refused)?).map(Some),
        Some(ImageFormat::WebP) => {
            let decoder = WebPDecoder::new(file).map_err(refused)?;
            if decoder.has_animation() { animation(decoder).map(Some) } else { Ok(None) }
        }
        Some(ImageFormat::Png) => {
            let mut decoder = PngDecoder::with_limits(file, limits()).map_err(refused)?;
            if !decoder.is_apng().map_err(refused)? {
                return Ok(None);
            }
            let (width, height) = decoder.dimensions();
            let orientation = decoder.orientation().map_err(refused)?;
            let decoder = decoder.apng().map_err(refused)?;
            Ok(Some(Animation { width, height, orientation, repeat: decoder.loop_count(), frames: decoder.into_frames() }))
        }
        _ => Ok(None),
    }
}

/// Has this image more than one frame? For small images: two frames are read. Blocks.
pub(super) fn moves(path: &Path) -> Result<bool, MediaError> {
    Ok(opened(path)?.is_some_and(|animation| animation.frames.take(2).count() == 2))
}

/// Makes a thumbnail that moves. Blocks.
pub(super) fn make(path: &Path, wanted: Thumbnail) -> Result<Moving, MediaError> {
    within(BOUNDS, path, wanted)
}

fn within(bounds: Bounds, path: &Path, wanted: Thumbnail) -> Result<Moving, MediaError> {
    let Some(animation) = opened(path)? else { return Ok(Moving::Still) };
    let pixels = u64::from(animation.width) * u64::from(animation.height);
    if pixels > bounds.canvas_pixels {
        return Ok(Moving::Still);
    }
    // Turned by a quarter, the sides change places.
    let turned = matches!(
        animation.orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    let (width, height) = if turned { (animation.height, animation.width) } else { (animation.width, animation.height) };
    if wanted.is_large_enough_for(width, height) {
        return Ok(Moving::Small);
    }
    let mut writer = Writer::new(bounds);
    for (count, frame) in (1..).zip(animation.frames) {
        // An image that ends in the middle of a frame still has a first one.
        let Ok(frame) = frame else { return Ok(Moving::Still) };
        if count > bounds.frames
            || pixels * u64::from(count) > bounds.read_pixels
            || writer.add(frame, animation.orientation, wanted)?.is_none()
        {
            return Ok(Moving::Still);
        }
    }
    Ok(writer.finish(animation.repeat).map_or(Moving::Still, Moving::Made))
}

/// Writes animated WebP (RFC 9649, 2.7.1).
struct Writer {
    bounds: Bounds,
    size: Option<(u32, u32)>,
    frames: Vec<u8>,
    count: u32,
    pixels: u64,
}

/// A number of three bytes.
fn u24(value: u32) -> [u8; 3] {
    let [a, b, c, _] = value.to_le_bytes();
    [a, b, c]
}

/// A chunk, padded to an even length.
fn chunk(out: &mut Vec<u8>, name: &[u8; 4], parts: &[&[u8]]) -> Option<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.extend(name);
    out.extend(u32::try_from(length).ok()?.to_le_bytes());
    for part in parts {
        out.extend(*part);
    }
    out.resize(out.len() + length % 2, 0);
    Some(())
}

impl Writer {
    const fn new(bounds: Bounds) -> Self {
        Self { bounds, size: None, frames: Vec::new(), count: 0, pixels: 0 }
    }

    /// Adds a frame. `None` where the thumbnail becomes too large.
    fn add(&mut self, frame: Frame, orientation: Orientation, wanted: Thumbnail) -> Result<Option<()>, MediaError> {
        let (numerator, denominator) = frame.delay().numer_denom_ms();
        let delay_ms = numerator.checked_div(denominator).unwrap_or_default().min(DELAY_MS);
        let mut image = DynamicImage::ImageRgba8(frame.into_buffer());
        image.apply_orientation(orientation);
        let image = fit(&image, wanted).into_rgba8();
        let (width, height) = *self.size.get_or_insert(image.dimensions());
        self.count += 1;
        self.pixels += u64::from(width) * u64::from(height);
        if image.dimensions() != (width, height) || self.pixels > self.bounds.written_pixels {
            return Ok(None);
        }
        let mut file = Vec::new();
        WebPEncoder::new_lossless(&mut file).encode(image.as_raw(), width, height, ExtendedColorType::Rgba8).map_err(refused)?;
        // Behind the file's header there is one chunk, with the picture.
        let Some(picture) = file.get(12..).filter(|picture| picture.starts_with(b"VP8L")) else { return Ok(None) };
        if self.frames.len() + picture.len() > self.bounds.bytes {
            return Ok(None);
        }
        let place = [u24(0), u24(0), u24(width.saturating_sub(1)), u24(height.saturating_sub(1)), u24(delay_ms)].concat();
        // Each frame replaces the one before it.
        Ok(chunk(&mut self.frames, b"ANMF", &[&place, &[0b10], picture]))
    }

    /// The file; `None` where there are not two frames.
    fn finish(self, repeat: LoopCount) -> Option<Vec<u8>> {
        let (width, height) = self.size.filter(|_| self.count > 1)?;
        let repeat = match repeat {
            LoopCount::Infinite => 0,
            LoopCount::Finite(times) => u16::try_from(times.get()).unwrap_or(0),
        };
        let mut body = b"WEBP".to_vec();
        // Animation and transparency.
        let extended = [&[0x12, 0, 0, 0][..], &u24(width.saturating_sub(1)), &u24(height.saturating_sub(1))].concat();
        chunk(&mut body, b"VP8X", &[&extended])?;
        chunk(&mut body, b"ANIM", &[&[0; 4], &repeat.to_le_bytes()])?;
        body.extend(self.frames);
        let mut file = Vec::with_capacity(body.len() + 8);
        chunk(&mut file, b"RIFF", &[&body])?;
        Some(file)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed step fails the test")]
mod tests {
    use super::{
        super::{
            samples::{canvas, colour, crc32, file, frames, gif, png},
            thumbnails::{Format, Made, Method, make as thumbnail, tests::of},
        },
        *,
    };

    /// A PNG of two frames (PNG, third edition, 11.3.6).
    fn apng(width: u32, height: u32) -> Vec<u8> {
        let still = png(width, height);
        let mut out = still.get(..33).unwrap().to_vec();
        let mut add = |name: &[u8; 4], data: &[u8]| {
            out.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            let start = out.len();
            out.extend(name);
            out.extend(data);
            let crc = crc32(out.get(start..).unwrap());
            out.extend(crc.to_be_bytes());
        };
        let control = |sequence: u32| {
            let numbers = [sequence, width, height, 0, 0].map(u32::to_be_bytes).concat();
            [&numbers[..], &1_u16.to_be_bytes(), &10_u16.to_be_bytes(), &[0, 0]].concat()
        };
        let mut pictures = Vec::new();
        let mut rest = still.get(33..).unwrap();
        while let Some((length, tail)) = rest.split_first_chunk::<4>() {
            let (chunk, tail) = tail.split_at(u32::from_be_bytes(*length) as usize + 8);
            if chunk.starts_with(b"IDAT") {
                pictures.extend(chunk.get(4..chunk.len() - 4).unwrap());
            }
            rest = tail;
        }
        add(b"acTL", &[2_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat());
        add(b"fcTL", &control(0));
        add(b"IDAT", &pictures);
        add(b"fcTL", &control(1));
        add(b"fdAT", &[&2_u32.to_be_bytes()[..], &pictures].concat());
        add(b"IEND", &[]);
        out
    }

    const SMALL: Thumbnail = Thumbnail { animated: true, ..of(320, 240, Method::Scale) };

    fn made(bytes: &[u8], wanted: Thumbnail) -> Vec<u8> {
        match make(file(bytes).path(), wanted).unwrap() {
            Moving::Made(bytes) => bytes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_animation_is_made_smaller_frame_by_frame() {
        let webp = made(&gif(640, 320, 5), SMALL);
        let frames_of = frames(&webp);
        assert_eq!(frames_of.len(), 5);
        for (number, frame) in (0..).zip(&frames_of) {
            assert_eq!(frame.buffer().dimensions(), (320, 160));
            assert_eq!(frame.delay().numer_denom_ms(), (50 + number * 10, 1));
            let (pixel, wanted) = (frame.buffer().get_pixel(7, 7).0, colour(number).0);
            assert!(pixel.iter().zip(wanted).all(|(a, b)| a.abs_diff(b) < 8), "{number}: {pixel:?} {wanted:?}");
        }
        // What we write we read again, and likewise PNG.
        assert_eq!(frames(&made(&webp, Thumbnail { animated: true, ..of(96, 96, Method::Crop) })).len(), 5);
        let of_png = frames(&made(&apng(640, 640), SMALL));
        assert_eq!((of_png.len(), of_png.first().unwrap().buffer().dimensions()), (2, (240, 240)));
    }

    #[test]
    fn what_does_not_move_or_is_too_much_stays_still() {
        let still = |bytes: &[u8]| matches!(make(file(bytes).path(), SMALL), Ok(Moving::Still));
        assert!(still(&gif(640, 320, 1)), "one frame");
        assert!(still(&png(640, 320)), "no frames at all");
        let tiny = Thumbnail { animated: true, ..of(32, 32, Method::Crop) };
        let enough = Bounds { canvas_pixels: 40 * 40, frames: 5, read_pixels: 40 * 40 * 5, written_pixels: 32 * 32 * 5, bytes: 10_000 };
        let image = file(&canvas(40, 40, 5));
        assert!(matches!(within(enough, image.path(), tiny), Ok(Moving::Made(_))));
        for (what, bounds) in [
            ("canvas", Bounds { canvas_pixels: 40 * 40 - 1, ..enough }),
            ("frames", Bounds { frames: 4, ..enough }),
            ("read", Bounds { read_pixels: 40 * 40 * 5 - 1, ..enough }),
            ("written", Bounds { written_pixels: 32 * 32 * 5 - 1, ..enough }),
            ("size", Bounds { bytes: 50, ..enough }),
        ] {
            assert!(matches!(within(bounds, image.path(), tiny), Ok(Moving::Still)), "{what}");
        }
        assert!(still(&canvas(2049, 2049, 2)), "a canvas that is too large");
        let whole = gif(640, 320, 3);
        assert!(still(whole.get(..whole.len() - 30).unwrap()), "it breaks off");
        assert!(matches!(make(file(&gif(64, 32, 3)).path(), SMALL), Ok(Moving::Small)));
        for bytes in [&b"GIF89a"[..], b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n"] {
            assert!(make(file(bytes).path(), SMALL).is_err());
        }
    }

    #[test]
    fn who_wants_no_animation_gets_none_however_small_the_image() {
        let wanted = of(320, 240, Method::Scale);
        for (bytes, size) in [(gif(64, 32, 3), (64, 32)), (gif(640, 320, 3), (320, 160)), (apng(64, 64), (64, 64))] {
            let Made::Thumbnail(bytes, format) = thumbnail(file(&bytes).path(), wanted).unwrap() else { panic!("no thumbnail") };
            assert_ne!(format, Format::Webp);
            let image = image::load_from_memory(&bytes).unwrap();
            assert_eq!((image.width(), image.height()), size);
        }
        assert!(matches!(thumbnail(file(&gif(64, 32, 1)).path(), wanted), Ok(Made::Small)), "it does not move anyway");
    }
}
