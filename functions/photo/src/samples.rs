//! Pictures for tests, with all the metadata that phones and programs add. Everything that
//! must be removed contains `CANARY`.

pub(crate) mod blocks;

use std::io::Cursor;

use bytes::Bytes;
use exif::experimental::Writer;
use exif::{Field, In, Rational, Tag, Value};
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageFormat, Rgb, RgbImage};
use img_parts::ImageICC;
use img_parts::png::{Png, PngChunk};
use moxcms::ColorProfile;

use super::{Format, Photo, Rejection};

pub(super) const CANARY: &[u8] = b"CANARY";
pub(super) const FORMATS: [Format; 3] = [Format::Jpeg, Format::Png, Format::WebP];
/// The size of the pictures that are made here. It is odd, so that mistakes with padding show.
pub(super) const SIZE: (u32, u32) = (49, 33);

/// Files of 16 × 16 pixels: a progressive one from libjpeg, and lossy ones from libwebp without and with
/// alpha. Our dependencies cannot write any of these.
const PROGRESSIVE: &str = "\
    ffd8ffe000104a46494600010100000100010000ffdb0043001b12141714111b1716171e1c1b2028422b2825252851\
    3a3d3042605565645f555d5b6a7899816a7190735b5d85b586909ea3abadab6780bcc9baa6c799a8aba4ffdb004301\
    1c1e1e2823284e2b2b4ea46e5d6ea4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4\
    a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4a4ffc20011080010001003012200021101031101ffc4001500010100000000\
    000000000000000000000304ffc40014010100000000000000000000000000000000ffda000c030100021003100000\
    0195958fffc400161000030000000000000000000000000000000102ffda00080101000105025229148a4fffc40015\
    11010100000000000000000000000000000300ffda0008010301013f0124bfffc40016110003000000000000000000\
    0000000000000102ffda0008010201013f01767fffc40014100100000000000000000000000000000020ffda000801\
    0100063f021fffc40014100100000000000000000000000000000020ffda0008010100013f21001fffda000c030100\
    02000300000010bbffc40014110100000000000000000000000000000000ffda0008010301013f101fffc400141101\
    00000000000000000000000000000000ffda0008010201013f105fffc4001510010100000000000000000000000000\
    000061ffda0008010100013f109a69a6ffd9";
const LOSSY: &str = "\
    5249464642000000574542505650382036000000d001009d012a1000100004006825b002747f001814517800fef17e\
    6c9fa5676f47d119573efc97a157ac0426f3fa63f2fdbb556d0000";
const LOSSY_ALPHA: &str = "\
    524946469800000057454250565038580a000000100000000f00000f0000414c50483b000000017f40a46d43c7b6fb\
    f77b0d1191b8ae4015d936545041051554504105155450410515545041055fdb21a2ff19882432854aa333982c3687\
    cbe303005650382036000000b001009d012a1000100004006825b00274010eb4d58000fef17e6c9fa5676f47d11957\
    3efc97a1798ee708f18fdc2afff143ccf00000";

fn unhex(text: &str) -> Bytes {
    hex::decode(text).expect("hexadecimal").into()
}

pub(super) fn progressive_jpeg() -> Bytes {
    unhex(PROGRESSIVE)
}

pub(super) fn lossy_webp() -> Bytes {
    unhex(LOSSY)
}

pub(super) fn lossy_webp_with_alpha() -> Bytes {
    unhex(LOSSY_ALPHA)
}

/// A smooth picture as encoders write it, without metadata. It gets redder to the
/// right and greener to the bottom.
pub(super) fn plain(format: Format) -> Bytes {
    let (width, height) = SIZE;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        Rgb([x * 5, y * 7, 60].map(|value| u8::try_from(value).expect("small")))
    });
    encode(&picture, format)
}

pub(super) fn encode(picture: &RgbImage, format: Format) -> Bytes {
    let (width, height) = picture.dimensions();
    let mut file = Vec::new();
    let colour = ExtendedColorType::Rgb8;
    match format {
        Format::Jpeg => {
            JpegEncoder::new_with_quality(&mut file, 95).write_image(picture, width, height, colour)
        }
        Format::Png => PngEncoder::new(&mut file).write_image(picture, width, height, colour),
        Format::WebP => {
            WebPEncoder::new_lossless(&mut file).write_image(picture, width, height, colour)
        }
        #[cfg(feature = "heic")]
        Format::Heic => unreachable!("heic.rs has samples of its own"),
    }
    .expect("a picture is written");
    file.into()
}

/// [`plain`] with place, camera, thumbnail, captions, profile, and bytes after its end.
pub(super) fn planted(format: Format, orientation: u16) -> Bytes {
    planted_around(plain(format), format, orientation)
}

/// `file` with all of that. A WebP must have the size [`SIZE`].
pub(super) fn planted_around(file: Bytes, format: Format, orientation: u16) -> Bytes {
    let exif = exif(orientation);
    match format {
        Format::Jpeg => planted_jpeg(&file, &exif),
        Format::Png => planted_png(file, &exif),
        Format::WebP => planted_webp((*b"VP8L", &file[20..]), &exif),
        #[cfg(feature = "heic")]
        Format::Heic => unreachable!("heic.rs has samples of its own"),
    }
}

/// Exif with place, camera and thumbnail. It is little-endian, unlike the Exif of other tests.
pub(super) fn exif(orientation: u16) -> Vec<u8> {
    let field = |tag, value| Field { tag, ifd_num: In::PRIMARY, value };
    let text = |tag, text: &str| field(tag, Value::Ascii(vec![text.as_bytes().to_vec()]));
    let degrees = Value::Rational(vec![Rational { num: 52, denom: 1 }; 3]);
    let fields = [
        text(Tag::Make, "CANARY make"),
        text(Tag::DateTimeOriginal, "CANARY time"),
        text(Tag::GPSAreaInformation, "CANARY place"),
        field(Tag::GPSLatitude, degrees),
        field(Tag::Orientation, Value::Short(vec![orientation])),
    ];
    let mut writer = Writer::new();
    for field in &fields {
        writer.push_field(field);
    }
    writer.set_jpeg(b"\xff\xd8 CANARY thumbnail \xff\xd9", In::THUMBNAIL);
    let mut tiff = Cursor::new(Vec::new());
    writer.write(&mut tiff, true).expect("Exif is written");
    tiff.into_inner()
}

/// A matrix profile of version 2 that names its screen, in a required tag and in two others.
pub(super) fn profile() -> Vec<u8> {
    let xyz = b"XYZ \0\0\0\0\0\0\x6f\xa2\0\0\x38\xf5\0\0\x03\x90";
    let curve = b"curv\0\0\0\0\0\0\0\x01\x02\x33CANARY behind the only point";
    let words = b"text\0\0\0\0CANARY screen\0";
    let tags: [([u8; 4], &[u8]); 8] = [
        (*b"desc", words),
        (*b"rXYZ", xyz),
        (*b"gXYZ", xyz),
        (*b"bXYZ", xyz),
        (*b"rTRC", curve),
        (*b"gTRC", curve),
        (*b"mmod", words),
        (*b"priv", words),
    ];
    let mut profile = vec![0; 128];
    profile[8] = 2;
    profile[12..24].copy_from_slice(b"mntrRGB XYZ ");
    profile[36..40].copy_from_slice(b"acsp");
    profile[48..56].copy_from_slice(b"CANARY\0\0");
    profile.extend([0, 0, 0, 8]);
    let mut data = Vec::new();
    for (name, tag) in tags {
        let at = u32::try_from(132 + 12 * tags.len() + data.len()).expect("short");
        let length = u32::try_from(tag.len()).expect("short");
        profile.extend([name, at.to_be_bytes(), length.to_be_bytes()].concat());
        data.extend_from_slice(tag);
    }
    profile.extend(data);
    profile
}

fn planted_jpeg(plain: &[u8], exif: &[u8]) -> Bytes {
    let segments: [(u8, &[&[u8]]); 9] = [
        (0xe0, &[b"JFIF\0\x01\x02\x01\0\x48\0\x48\x01\x02", b"CANARY"]),
        (0xe0, &[b"JFXX\0\x10", b"CANARY thumbnail"]),
        (0xe1, &[b"Exif\0\0", exif]),
        (0xe1, &[b"http://ns.adobe.com/xap/1.0/\0", b"<x:xmpmeta>CANARY</x:xmpmeta>"]),
        (0xe1, &[b"http://ns.adobe.com/xmp/extension/\0", &[b'0'; 32], &[0; 8], b"CANARY"]),
        (0xe2, &[b"MPF\0", b"CANARY"]),
        (0xe2, &[b"ICC_PROFILE\0\x01\x01", &profile()]),
        (0xed, &[b"Photoshop 3.0\0", b"8BIM CANARY caption"]),
        (0xfe, &[b"CANARY comment"]),
    ];
    let (picture, end) = plain[2..].split_at(plain.len() - 4);
    let mut file = vec![0xff, 0xd8];
    for (marker, payload) in segments {
        write_segment(&mut file, marker, payload);
    }
    file.extend_from_slice(picture);
    write_segment(&mut file, 0xfe, &[b"CANARY after the scan"]);
    file.extend_from_slice(end);
    // The extra pictures of a motion photo, or of a pair with a depth map.
    file.extend_from_slice(b"\xff\xd8\xff\xe1\0\x10CANARY film\xff\xd9");
    file.into()
}

/// [`plain`] as a JPEG, with a usable profile.
pub(super) fn in_display_p3() -> Bytes {
    let profile = ColorProfile::new_display_p3().encode().expect("a profile");
    let plain = plain(Format::Jpeg);
    let mut file = plain[..2].to_vec();
    write_segment(&mut file, 0xe2, &[b"ICC_PROFILE\0\x01\x01", &profile]);
    file.extend_from_slice(&plain[2..]);
    file.into()
}

fn planted_png(plain: Bytes, exif: &[u8]) -> Bytes {
    let mut png = Png::from_bytes(plain).expect("a PNG");
    png.set_icc_profile(Some(profile().into()));
    let chunks: [([u8; 4], &[u8]); 8] = [
        (*b"gAMA", &[0, 0, 0xb1, 0x8f]),
        (*b"sBIT", b"CANARY that is too long"),
        (*b"eXIf", exif),
        (*b"tEXt", b"Comment\0CANARY"),
        (*b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0CANARY"),
        (*b"tIME", b"CANARY."),
        (*b"prVt", b"CANARY"),
        (*b"caBX", b"CANARY"),
    ];
    let chunks = chunks.map(|(kind, data)| PngChunk::new(kind, Bytes::copy_from_slice(data)));
    png.chunks_mut().splice(1..1, chunks);
    let end = png.chunks().len() - 1;
    let late = PngChunk::new(*b"tEXt", Bytes::from_static(b"Author\0CANARY"));
    png.chunks_mut().insert(end, late);
    [&png.encoder().bytes()[..], b"CANARY after the end"].concat().into()
}

/// The extended WebP form around a picture of the size [`SIZE`].
pub(super) fn planted_webp(picture: ([u8; 4], &[u8]), exif: &[u8]) -> Bytes {
    let canvas = [0x2c, b'C', b'A', b'N', 48, 0, 0, 32, 0, 0];
    let mut file = webp(&[
        (*b"VP8X", &canvas),
        (*b"ICCP", &profile()),
        (*b"UNKN", b"CANARY"),
        picture,
        (*b"EXIF", exif),
        (*b"XMP ", b"<x:xmpmeta>CANARY</x:xmpmeta>"),
    ]);
    file.extend_from_slice(b"CANARY after the end");
    file.into()
}

pub(super) fn webp(chunks: &[([u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (id, data) in chunks {
        body.extend_from_slice(id);
        body.extend_from_slice(&u32::try_from(data.len()).expect("short").to_le_bytes());
        body.extend_from_slice(data);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    let length = u32::try_from(body.len()).expect("short").to_le_bytes();
    [&b"RIFF"[..], &length, &body].concat()
}

pub(super) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

pub(super) fn prepared(bytes: impl Into<Bytes>) -> Photo {
    Photo::prepare(&bytes.into()).expect("a photo")
}

pub(super) fn rejected(bytes: impl Into<Bytes>) -> Rejection {
    Photo::prepare(&bytes.into()).expect_err("not a photo that can be used")
}

/// The prepared photo as the model's loader reads it: only pixels.
pub(super) fn seen(bytes: impl Into<Bytes>) -> RgbImage {
    let file = prepared(bytes).into_prepared();
    image::load_from_memory_with_format(&file, ImageFormat::Jpeg).expect("a JPEG").into_rgb8()
}

/// Writes a JPEG marker with its payload of at most 65,533 bytes.
pub(super) fn write_segment(file: &mut Vec<u8>, marker: u8, pieces: &[&[u8]]) {
    let length = 2 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    let length = u16::try_from(length).expect("no longer than a segment can be");
    file.extend_from_slice(&[0xff, marker]);
    file.extend_from_slice(&length.to_be_bytes());
    for piece in pieces {
        file.extend_from_slice(piece);
    }
}
