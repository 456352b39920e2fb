//! Files that are refused by their kind, their size or their header.

use bytes::Bytes;
use img_parts::png::{Png, PngChunk};

use crate::samples::{plain, rejected, webp};
use crate::{Format, Limits, Photo, Recognised, Rejection};

#[test]
fn what_is_no_photo_is_named() {
    use Recognised::{Avif, Bmp, Gif, Html, JpegXl, Pdf, Svg, Tiff, Video};
    let svg = "\u{feff}<?xml version=\"1.0\"?>\n<!-- drawn -->\n<svg xmlns=\"x\"/>";
    for (bytes, what) in [
        (svg.as_bytes(), Svg),
        (b"  <SVG>", Svg),
        (b"<!DOCTYPE html><svg></svg>", Html),
        (b"<!-- a --><html>", Html),
        (b"GIF89a......", Gif),
        (b"\0\0\0\x18ftypavif\0\0\0\0", Avif),
        (b"\0\0\0\x18ftypisom\0\0\0\0", Video),
        (b"%PDF-1.7", Pdf),
        (b"MM\0\x2a\0\0\0\x08", Tiff),
        (b"BM\x9a\0\0\0\0\0\0\0", Bmp),
        (b"\xff\x0a....", JpegXl),
    ] {
        let rejection = rejected(Bytes::copy_from_slice(bytes));
        assert_eq!(rejection, Rejection::UnsupportedFormat(what));
        assert_eq!(rejection.code(), "unsupported_format");
    }
    assert_eq!(rejected(""), Rejection::Empty);
    for text in ["hello", "RIFF\0\0\0\0WAVEfmt ", "<xml>", "\u{89}PNG"] {
        assert_eq!(rejected(text), Rejection::NotAnImage);
    }
}

#[cfg(not(feature = "heic"))]
#[test]
fn a_heic_photo_is_refused_by_its_name() {
    for bytes in [b"\0\0\0\x18ftypheic\0\0\0\0", b"\0\0\0\x18ftypmif1\0\0\0\0"] {
        let expected = Rejection::UnsupportedFormat(Recognised::Heic);
        assert_eq!(rejected(Bytes::copy_from_slice(bytes)), expected);
    }
}

#[test]
fn a_web_page_after_an_image_signature_is_refused() {
    let page = b"<html>";
    for (signature, format) in [
        (&b"\x89PNG\r\n\x1a\n"[..], Format::Png),
        (b"\xff\xd8\xff\xe0\0\x02\xff\x02", Format::Jpeg),
        (b"RIFF\x40\0\0\0WEBP", Format::WebP),
    ] {
        let rejection = rejected([signature, &page[..]].concat());
        assert_eq!(rejection, Rejection::Corrupt(format));
        assert!(!rejection.sentence().contains("html"), "{}", rejection.sentence());
    }
}

#[test]
fn a_huge_picture_is_refused_by_its_header() {
    let side = 60_000_u32.to_be_bytes();
    let header = [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &side, &side, &[8, 6, 0, 0, 0]].concat();
    // These are 30 bytes. If the code read more than the header, the file would count as truncated.
    assert_eq!(rejected(header).code(), "dimensions_too_large");

    let jpeg = b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0";
    assert_eq!(rejected(&jpeg[..]).code(), "dimensions_too_large");
    let vp8l = webp(&[(*b"VP8L", b"\x2f\xff\xff\xff\x0f\0")]);
    assert_eq!(rejected(vp8l).code(), "dimensions_too_large");
}

#[test]
fn a_webp_whose_picture_is_larger_than_its_canvas_is_refused_before_decoding() {
    let canvas = [0, 0, 0, 0, 48, 0, 0, 32, 0, 0];
    let bytes = webp(&[(*b"VP8X", &canvas), (*b"VP8L", b"\x2f\xff\xff\xff\x0f\0")]);
    assert_eq!(rejected(bytes), Rejection::Corrupt(Format::WebP));
}

#[test]
fn limits_are_exact_to_the_byte_and_the_pixel() {
    let photo = plain(Format::Png);
    let exactly = Limits {
        max_bytes: photo.len(),
        min_side: 33,
        max_side: 49,
        max_pixels: 49 * 33,
        max_decoded_bytes: 49 * 33 * 4,
    };
    let code = |limits: Limits| {
        Photo::prepare_within(&photo, &limits).map_or_else(|error| error.code(), |_| "taken")
    };
    let just_under = |change: fn(&mut Limits)| {
        let mut limits = exactly.clone();
        change(&mut limits);
        code(limits)
    };
    assert_eq!(code(exactly.clone()), "taken");
    assert_eq!(just_under(|limits| limits.max_bytes -= 1), "too_many_bytes");
    assert_eq!(just_under(|limits| limits.min_side += 1), "dimensions_too_small");
    assert_eq!(just_under(|limits| limits.max_side -= 1), "dimensions_too_large");
    assert_eq!(just_under(|limits| limits.max_pixels -= 1), "dimensions_too_large");
    assert_eq!(just_under(|limits| limits.max_decoded_bytes -= 1), "decoded_size_too_large");
}

#[test]
fn an_animation_is_refused() {
    let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
    let control = PngChunk::new(*b"acTL", Bytes::from_static(b"\0\0\0\x02\0\0\0\0"));
    png.chunks_mut().insert(1, control);
    assert_eq!(rejected(png.encoder().bytes()), Rejection::Animated(Format::Png));

    let picture = plain(Format::WebP);
    for (flags, chunk) in [(0x02, *b"NONE"), (0, *b"ANIM"), (0, *b"ANMF")] {
        let canvas = [flags, 0, 0, 0, 48, 0, 0, 32, 0, 0];
        let moving = webp(&[(*b"VP8X", &canvas), (chunk, b""), (*b"VP8L", &picture[20..])]);
        assert_eq!(rejected(moving), Rejection::Animated(Format::WebP));
    }
}
