//! Thumbnails: small copies of images, within limits that a decompression bomb does not get past.

use std::{fs::File, io::BufReader, path::Path};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, codecs::jpeg::JpegEncoder, imageops::FilterType};

use super::{
    MediaError,
    animation::{self, Moving},
};

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
    /// It may move.
    pub animated: bool,
}

/// The sizes that are made (Client-Server API, "Thumbnails"): whatever is asked for, there are no more files than these.
pub(super) const STANDARD: [Thumbnail; 5] = [
    Thumbnail { width: 32, height: 32, method: Method::Crop, animated: false },
    Thumbnail { width: 96, height: 96, method: Method::Crop, animated: false },
    Thumbnail { width: 320, height: 240, method: Method::Scale, animated: false },
    Thumbnail { width: 640, height: 480, method: Method::Scale, animated: false },
    Thumbnail { width: 800, height: 600, method: Method::Scale, animated: false },
];

/// What thumbnails are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Opaque images.
    Jpeg,
    /// Images with transparency.
    Png,
    /// Images that move.
    Webp,
}

/// The formats, in the order in which files are looked for.
pub(super) const FORMATS: [Format; 3] = [Format::Jpeg, Format::Png, Format::Webp];

/// What was made.
#[derive(Debug)]
pub(super) enum Made {
    /// A thumbnail.
    Thumbnail(Vec<u8>, Format),
    /// Nothing: the original is no larger and may be shown as it is.
    Small,
    /// Nothing that moves: a still thumbnail is to be given instead.
    Still,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
        }
    }

    pub(super) const fn extension(self) -> &'static str {
        match self {
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
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
        let size = STANDARD.iter().find(fits).or_else(|| STANDARD.iter().find(any)).copied().unwrap_or(largest);
        Self { animated: self.animated, ..size }
    }

    /// What tells apart all the files that there may be of one image.
    pub(super) fn suffixes() -> impl Iterator<Item = String> {
        let all = STANDARD.into_iter().flat_map(|size| [size, Self { animated: true, ..size }]);
        all.flat_map(|size| FORMATS.map(|format| size.suffix(format)).into_iter().chain([size.still_suffix()]))
    }

    /// The file that says that this one cannot move.
    pub(super) fn still_suffix(self) -> String {
        format!("{}.still", self.variant())
    }

    /// True where an image of this size has not to be made smaller.
    pub(super) const fn is_large_enough_for(self, width: u32, height: u32) -> bool {
        match self.method {
            Method::Scale => width <= self.width && height <= self.height,
            Method::Crop => width <= self.width || height <= self.height,
        }
    }

    /// What tells the files of one image apart.
    pub(super) fn suffix(self, format: Format) -> String {
        format!("{}.{}", self.variant(), format.extension())
    }

    /// Which of the thumbnails of one image this is.
    #[must_use]
    pub fn variant(self) -> String {
        let animated = if self.animated { "-animated" } else { "" };
        format!("{}x{}-{}{animated}", self.width, self.height, self.method.as_str())
    }
}

/// Makes a thumbnail. Blocks.
pub(super) fn make(path: &Path, wanted: Thumbnail) -> Result<Made, MediaError> {
    if wanted.animated {
        return Ok(match animation::make(path, wanted)? {
            Moving::Made(bytes) => Made::Thumbnail(bytes, Format::Webp),
            Moving::Small => Made::Small,
            Moving::Still => Made::Still,
        });
    }
    let image = decode(path)?;
    if !wanted.is_large_enough_for(image.width(), image.height()) {
        return encode(fit(&image, wanted));
    }
    // Small enough, but not to move.
    if animation::moves(path)? { encode(image) } else { Ok(Made::Small) }
}

/// An image in the size that is wanted.
pub(super) fn fit(image: &DynamicImage, wanted: Thumbnail) -> DynamicImage {
    match wanted.method {
        // `thumbnail` reads each pixel once; a better filter only pays on what is left after it.
        Method::Scale if image.width() / 4 > wanted.width => {
            image.thumbnail(wanted.width * 2, wanted.height * 2).resize(wanted.width, wanted.height, FilterType::Triangle)
        }
        Method::Scale => image.resize(wanted.width, wanted.height, FilterType::Triangle),
        Method::Crop => image.resize_to_fill(wanted.width, wanted.height, FilterType::Triangle),
    }
}

/// Opens a file, unless it is too large.
pub(super) fn open(path: &Path) -> Result<File, MediaError> {
    let file = File::open(path)?;
    if file.metadata()?.len() > FILE_BYTES { Err(MediaError::ImageTooLarge) } else { Ok(file) }
}

/// What a decoder may take.
pub(super) fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(DECODER_BYTES);
    limits
}

fn decode(path: &Path) -> Result<DynamicImage, MediaError> {
    // What the bytes are decides, not what the uploader says.
    let mut reader = ImageReader::new(BufReader::new(open(path)?)).with_guessed_format()?;
    reader.limits(limits());
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

pub(super) fn refused(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(_) => MediaError::ImageTooLarge,
        ImageError::IoError(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => error.into(),
        _ => MediaError::NoThumbnail,
    }
}

fn encode(image: DynamicImage) -> Result<Made, MediaError> {
    let mut bytes = Vec::new();
    let format = if image.color().has_alpha() { Format::Png } else { Format::Jpeg };
    let written = match format {
        Format::Png | Format::Webp => image.into_rgba8().write_to(&mut std::io::Cursor::new(&mut bytes), image::ImageFormat::Png),
        Format::Jpeg => image.into_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 82)),
    };
    written.map_err(refused)?;
    Ok(Made::Thumbnail(bytes, format))
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::samples::{bomb, file, png},
        *,
    };

    pub(in super::super) const fn of(width: u32, height: u32, method: Method) -> Thumbnail {
        Thumbnail { width, height, method, animated: false }
    }

    #[test]
    fn any_size_asked_for_becomes_one_of_five() {
        assert_eq!(of(30, 30, Method::Crop).standard(), of(32, 32, Method::Crop));
        assert_eq!(of(33, 10, Method::Crop).standard(), of(96, 96, Method::Crop));
        assert_eq!(of(30, 30, Method::Scale).standard(), of(320, 240, Method::Scale));
        assert_eq!(of(300, 300, Method::Crop).standard(), of(640, 480, Method::Scale));
        assert_eq!(of(u32::MAX, 1, Method::Scale).standard(), of(800, 600, Method::Scale));
    }

    #[test]
    fn an_image_is_scaled_or_cropped_and_never_enlarged() {
        let original = file(&png(1000, 500));
        for (wanted, size) in [(of(320, 240, Method::Scale), (320, 160)), (of(96, 96, Method::Crop), (96, 96))] {
            let Ok(Made::Thumbnail(bytes, format)) = make(original.path(), wanted) else { panic!("it is a larger image") };
            let made = image::load_from_memory(&bytes).expect("it is an image");
            assert_eq!((format, made.width(), made.height()), (Format::Jpeg, size.0, size.1));
        }
        let small = file(&png(20, 10));
        assert!(matches!(make(small.path(), of(96, 96, Method::Crop)), Ok(Made::Small)));
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
        let made = make(file(&bomb()).path(), of(96, 96, Method::Crop));
        assert!(matches!(made, Err(MediaError::ImageTooLarge)), "{made:?}");
    }
}
