//! Thumbnails: small copies of images, within limits that a decompression bomb does not get past.

use std::{fs::File, io::BufReader, path::Path};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, codecs::jpeg::JpegEncoder, imageops::FilterType};

use super::MediaError;

/// Pixels of an image that is opened: larger than any camera's.
const PIXELS: u64 = 64 * 1024 * 1024;
/// Longest side.
const SIDE: u32 = 32_768;
/// Memory that decoding may take.
const DECODER_BYTES: u64 = 256 * 1024 * 1024;
/// Largest file that is opened.
const FILE_BYTES: u64 = 64 * 1024 * 1024;

/// How an image is made to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The whole image, within the size.
    Scale,
    /// The middle of the image, filling the size.
    Crop,
}

impl Method {
    /// As it is asked for.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scale => "scale",
            Self::Crop => "crop",
        }
    }
}

/// A thumbnail somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thumbnail {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// How to fit.
    pub method: Method,
}

/// The sizes that are made (Client-Server API, "Thumbnails"): whatever is asked for, there are no more files than these.
pub(super) const STANDARD: [Thumbnail; 5] = [
    Thumbnail { width: 32, height: 32, method: Method::Crop },
    Thumbnail { width: 96, height: 96, method: Method::Crop },
    Thumbnail { width: 320, height: 240, method: Method::Scale },
    Thumbnail { width: 640, height: 480, method: Method::Scale },
    Thumbnail { width: 800, height: 600, method: Method::Scale },
];

/// What thumbnails are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Opaque images.
    Jpeg,
    /// Images with transparency.
    Png,
}

/// The formats, in the order in which files are looked for.
pub(super) const FORMATS: [Format; 2] = [Format::Jpeg, Format::Png];

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }

    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
        }
    }
}

impl Thumbnail {
    /// The smallest of our sizes that is at least as large, or the largest.
    #[must_use]
    pub fn standard(self) -> Self {
        let fits = |size: &&Self| size.method == self.method && size.width >= self.width && size.height >= self.height;
        let any = |size: &&Self| size.width >= self.width && size.height >= self.height;
        let [.., largest] = STANDARD;
        STANDARD.iter().find(fits).or_else(|| STANDARD.iter().find(any)).copied().unwrap_or(largest)
    }

    /// Every size that is made.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        STANDARD.into_iter()
    }

    /// What tells the files of one image apart.
    pub(super) fn suffix(self, format: Format) -> String {
        format!("{}.{}", self.variant(), format.extension())
    }

    /// Which of the thumbnails of one image this is.
    #[must_use]
    pub fn variant(self) -> String {
        format!("{}x{}-{}", self.width, self.height, self.method.as_str())
    }
}

/// Makes a thumbnail. `None` when the original is no larger and may be shown as it is. Blocks.
pub(super) fn make(path: &Path, wanted: Thumbnail) -> Result<Option<(Vec<u8>, Format)>, MediaError> {
    let image = decode(path)?;
    let smaller = match wanted.method {
        Method::Scale => image.width() <= wanted.width && image.height() <= wanted.height,
        Method::Crop => image.width() <= wanted.width || image.height() <= wanted.height,
    };
    if smaller {
        return Ok(None);
    }
    let made = match wanted.method {
        // `thumbnail` reads each pixel once; a better filter only pays on what is left after it.
        Method::Scale if image.width() / 4 > wanted.width => {
            image.thumbnail(wanted.width * 2, wanted.height * 2).resize(wanted.width, wanted.height, FilterType::Triangle)
        }
        Method::Scale => image.resize(wanted.width, wanted.height, FilterType::Triangle),
        Method::Crop => image.resize_to_fill(wanted.width, wanted.height, FilterType::Triangle),
    };
    drop(image);
    encode(made).map(Some)
}

fn decode(path: &Path) -> Result<DynamicImage, MediaError> {
    let file = File::open(path)?;
    if file.metadata()?.len() > FILE_BYTES {
        return Err(MediaError::ImageTooLarge);
    }
    // What the bytes are decides, not what the uploader says.
    let mut reader = ImageReader::new(BufReader::new(file)).with_guessed_format()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(DECODER_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refused)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > PIXELS || decoder.total_bytes() > DECODER_BYTES {
        return Err(MediaError::ImageTooLarge);
    }
    let orientation = decoder.orientation().map_err(refused)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(refused)?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn refused(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(_) => MediaError::ImageTooLarge,
        ImageError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => error.into(),
        _ => MediaError::NoThumbnail,
    }
}

fn encode(image: DynamicImage) -> Result<(Vec<u8>, Format), MediaError> {
    let mut bytes = Vec::new();
    let format = if image.color().has_alpha() { Format::Png } else { Format::Jpeg };
    let written = match format {
        Format::Png => image.into_rgba8().write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png),
        Format::Jpeg => image.into_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 82)),
    };
    written.map_err(refused)?;
    Ok((bytes, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(width: u32, height: u32, method: Method) -> Thumbnail {
        Thumbnail { width, height, method }
    }

    #[test]
    fn any_size_asked_for_becomes_one_of_five() {
        assert_eq!(of(30, 30, Method::Crop).standard(), of(32, 32, Method::Crop));
        assert_eq!(of(33, 10, Method::Crop).standard(), of(96, 96, Method::Crop));
        assert_eq!(of(30, 30, Method::Scale).standard(), of(320, 240, Method::Scale));
        assert_eq!(of(300, 300, Method::Crop).standard(), of(640, 480, Method::Scale));
        assert_eq!(of(u32::MAX, 1, Method::Scale).standard(), of(800, 600, Method::Scale));
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        let image = DynamicImage::new_rgb8(width, height);
        image.write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png).expect("an image can be written");
        bytes
    }

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a file can be made");
        std::fs::write(file.path(), bytes).expect("a file can be written");
        file
    }

    #[test]
    fn an_image_is_scaled_or_cropped_and_never_enlarged() {
        let original = file(&png(1000, 500));
        for (wanted, size) in [(of(320, 240, Method::Scale), (320, 160)), (of(96, 96, Method::Crop), (96, 96))] {
            let (bytes, format) = make(original.path(), wanted).expect("it is an image").expect("it is larger");
            let made = image::load_from_memory(&bytes).expect("it is an image");
            assert_eq!((format, made.width(), made.height()), (Format::Jpeg, size.0, size.1));
        }
        let small = file(&png(20, 10));
        assert!(matches!(make(small.path(), of(96, 96, Method::Crop)), Ok(None)));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        for bytes in [&b""[..], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP"] {
            let made = make(file(bytes).path(), of(96, 96, Method::Crop));
            assert!(matches!(made, Err(MediaError::NoThumbnail)), "{bytes:?}: {made:?}");
        }
    }

    #[test]
    fn a_decompression_bomb_is_refused_before_it_unfolds() {
        // A PNG header that promises 30000 x 30000 pixels: 2.7 GB once decoded.
        let mut bomb = png(1, 1);
        bomb.splice(16..24, [30_000_u32.to_be_bytes(), 30_000_u32.to_be_bytes()].concat());
        let crc = crc32(bomb.get(12..29).unwrap_or_default());
        bomb.splice(29..33, crc.to_be_bytes());
        let made = make(file(&bomb).path(), of(96, 96, Method::Crop));
        assert!(matches!(made, Err(MediaError::ImageTooLarge)), "{made:?}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
        })
    }
}
