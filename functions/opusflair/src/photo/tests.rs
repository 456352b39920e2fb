use std::io::Cursor;

use bytes::Bytes;
use image::codecs::{jpeg::JpegDecoder, png::PngDecoder, webp::WebPDecoder};
use image::{DynamicImage, ImageDecoder};
use img_parts::png::{Png, PngChunk};

use super::samples::{
    CANARY, FORMATS, SIZE, contains, judged, lossy_webp, lossy_webp_with_alpha, plain, planted,
    progressive_jpeg, webp,
};
use super::*;

fn rejected(bytes: impl Into<Bytes>) -> Rejection {
    Photo::judge(bytes.into()).expect_err("not a photo that can be used")
}

/// Pixels, orientation and profile, as another program sees them.
fn seen(format: Format, bytes: &[u8]) -> (DynamicImage, u8, Option<Vec<u8>>) {
    fn look(mut decoder: impl ImageDecoder) -> (DynamicImage, u8, Option<Vec<u8>>) {
        let orientation = decoder.orientation().expect("an orientation").to_exif();
        let profile = decoder.icc_profile().expect("a profile or none");
        (DynamicImage::from_decoder(decoder).expect("pixels"), orientation, profile)
    }
    let file = Cursor::new(bytes);
    match format {
        Format::Jpeg => look(JpegDecoder::new(file).expect("a JPEG")),
        Format::Png => look(PngDecoder::new(file).expect("a PNG")),
        Format::WebP => look(WebPDecoder::new(file).expect("a WebP")),
    }
}

#[test]
fn c2_a_photo_is_measured_by_its_bytes() {
    for (format, content_type, extension) in [
        (Format::Jpeg, "image/jpeg", "jpg"),
        (Format::Png, "image/png", "png"),
        (Format::WebP, "image/webp", "webp"),
    ] {
        let bytes = planted(format, 6);
        let photo = judged(&bytes);
        assert_eq!(photo.format(), format);
        assert_eq!(photo.content_type(), content_type);
        assert_eq!(photo.format().extension(), extension);
        assert_eq!(photo.stored_size(), SIZE);
        assert_eq!((photo.height(), photo.width()), SIZE, "a quarter turn swaps the sides");
        assert_eq!(photo.orientation(), 6);
        assert_eq!(photo.byte_size(), bytes.len());
        assert_eq!(photo.sha256(), hex::encode(Sha256::digest(&bytes)));
    }
}

#[test]
fn t2_nothing_planted_stays_and_the_picture_looks_the_same() {
    for format in FORMATS {
        for orientation in 1..=8_u8 {
            let bytes = planted(format, orientation.into());
            assert!(contains(&bytes, CANARY));
            let stripped = judged(&bytes).stripped().expect("there was something to remove");

            assert!(!contains(&stripped, CANARY), "{format}");
            assert!(!contains(&stripped, b"GPS") && !contains(&stripped, b"xmp"), "{format}");
            assert!(!contains(&stripped, b"CAN"), "{format}: reserved bytes too");
            let (before, after) = (seen(format, &bytes), seen(format, &stripped));
            assert_eq!(before.0, after.0, "{format}: the pixels are the same");
            assert_eq!((before.1, after.1), (orientation, orientation), "{format}");
            let profile = after.2.expect("the colour profile stays");
            assert!(contains(&profile, b"rTRC") && !contains(&profile, CANARY), "{format}");
        }
    }
}

#[test]
fn t2_what_was_stripped_is_clean() {
    for format in FORMATS {
        let photo = judged(&planted(format, 8));
        let stripped = photo.stripped().expect("there was something to remove");
        let again = judged(&stripped);
        assert_eq!(again.stripped(), None, "{format}");
        assert_eq!((again.width(), again.height()), (photo.width(), photo.height()));
        assert_eq!(again.into_clean(), stripped);
    }
}

#[test]
fn a_photo_without_metadata_need_not_be_stored_again() {
    for format in FORMATS {
        let photo = judged(&plain(format));
        assert_eq!(photo.stripped(), None, "{format}");
        assert_eq!((photo.width(), photo.height()), SIZE);
    }
    for bytes in [progressive_jpeg(), lossy_webp(), lossy_webp_with_alpha()] {
        let photo = judged(&bytes);
        assert_eq!(photo.into_clean(), bytes);
    }
}

#[test]
fn a_photo_with_unreadable_exif_is_upright_and_stripped() {
    let exif = b"MM\0\x2a\xff\xff\xff\xffCANARY";
    let picture = plain(Format::WebP);
    let bytes = samples::planted_webp((*b"VP8L", &picture[20..]), exif);
    let photo = judged(&bytes);
    assert_eq!(photo.orientation(), 1);
    assert!(!contains(&photo.into_clean(), CANARY));
}

#[test]
fn an_orientation_that_says_exif_twice_is_read() {
    let exif = [&b"Exif\0\0"[..], &samples::exif(6)].concat();
    let picture = plain(Format::WebP);
    let photo = judged(&samples::planted_webp((*b"VP8L", &picture[20..]), &exif));
    let (_, orientation, _) = seen(Format::WebP, &photo.into_clean());
    assert_eq!(orientation, 6);
}

#[test]
fn metadata_behind_the_first_scan_turns_nothing() {
    let file = plain(Format::Jpeg);
    let mut turned = file[..file.len() - 2].to_vec();
    let exif = [&b"Exif\0\0"[..], &samples::exif(6)].concat();
    jpeg_parts::write_segment(&mut turned, 0xe1, &[&exif]);
    turned.extend_from_slice(b"\xff\xd9");
    let photo = judged(&turned.into());
    assert_eq!((photo.orientation(), photo.into_clean()), (1, file));
}

#[test]
fn a_long_profile_stays_whole_over_several_segments() {
    let mut long = samples::profile();
    let points = 60_000_u32;
    let at = u32::try_from(long.len()).expect("short");
    let length = 12 + 2 * points;
    // The entry of rTRC, the fifth.
    long[132 + 48 + 4..132 + 48 + 12]
        .copy_from_slice(&[at.to_be_bytes(), length.to_be_bytes()].concat());
    long.extend([&b"curv\0\0\0\0"[..], &points.to_be_bytes()].concat());
    long.extend((0..2 * points).map(|value| u8::try_from(value % 251).expect("small")));

    let file = plain(Format::Jpeg);
    let mut with_profile = file[..2].to_vec();
    for (part, number) in long.chunks(50_000).zip(1..) {
        let heading = [&b"ICC_PROFILE\0"[..], &[number, 3]].concat();
        jpeg_parts::write_segment(&mut with_profile, 0xe2, &[&heading, part]);
    }
    with_profile.extend_from_slice(&file[2..]);
    let (_, _, kept) = seen(Format::Jpeg, &judged(&with_profile.into()).into_clean());
    assert_eq!(kept, icc::neutral(&long));
    assert!(kept.expect("a profile").len() > 120_000);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for file in FORMATS.map(plain).into_iter().chain([progressive_jpeg(), lossy_webp()]) {
        for length in 0..file.len() {
            let code = rejected(file.slice(..length)).code();
            let expected: &[&str] = match length {
                0 => &["empty_file"],
                1..12 => &["not_an_image", "truncated"],
                _ => &["truncated"],
            };
            assert!(expected.contains(&code), "{length} of {}: {code}", file.len());
        }
    }
}

#[test]
fn a_whole_container_without_all_of_its_pixels_is_refused() {
    let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
    for chunk in png.chunks_mut().iter_mut().filter(|chunk| &chunk.kind() == b"IDAT") {
        let half = chunk.contents().slice(..chunk.contents().len() / 2);
        *chunk = PngChunk::new(*b"IDAT", half);
    }
    assert_eq!(rejected(png.encoder().bytes()), Rejection::Corrupt(Format::Png));

    let file = plain(Format::WebP);
    let half = webp(&[(*b"VP8L", &file[20..file.len() / 2])]);
    assert_eq!(rejected(half), Rejection::Corrupt(Format::WebP));
}

#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_the_photo() {
    let file = planted(Format::Jpeg, 1);
    let scan = file.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a scan");
    let cut = file.slice(..scan + 100);
    assert!(contains(&cut, b"thumbnail \xff\xd9"));
    assert_eq!(rejected(cut), Rejection::Truncated(Format::Jpeg));
}

#[test]
fn what_is_no_photo_is_named() {
    use Recognised::{Avif, Bmp, Gif, Heic, Html, JpegXl, Pdf, Svg, Tiff, Video};
    let svg = "\u{feff}<?xml version=\"1.0\"?>\n<!-- drawn -->\n<svg xmlns=\"x\"/>";
    for (bytes, what) in [
        (svg.as_bytes(), Svg),
        (b"  <SVG>", Svg),
        (b"<!DOCTYPE html><svg></svg>", Html),
        (b"<!-- a --><html>", Html),
        (b"GIF89a......", Gif),
        (b"\0\0\0\x18ftypheic\0\0\0\0", Heic),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", Heic),
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

#[test]
fn a_page_behind_a_signature_is_no_picture() {
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
fn a_huge_picture_is_refused_by_its_header_alone() {
    let side = 60_000_u32.to_be_bytes();
    let header = [&b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"[..], &side, &side, &[8, 6, 0, 0, 0]].concat();
    // 30 bytes: had anything else been looked at, it would count as truncated.
    assert_eq!(rejected(header).code(), "dimensions_too_large");

    let jpeg = b"\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0";
    assert_eq!(rejected(&jpeg[..]).code(), "dimensions_too_large");
    let vp8l = webp(&[(*b"VP8L", b"\x2f\xff\xff\xff\x0f\0")]);
    assert_eq!(rejected(vp8l).code(), "dimensions_too_large");
}

#[test]
fn a_webp_whose_picture_is_larger_than_its_canvas_is_refused_undecoded() {
    let canvas = [0, 0, 0, 0, 48, 0, 0, 32, 0, 0];
    let bytes = webp(&[(*b"VP8X", &canvas), (*b"VP8L", b"\x2f\xff\xff\xff\x0f\0")]);
    assert_eq!(rejected(bytes), Rejection::Corrupt(Format::WebP));
}

#[test]
fn limits_are_kept_to_the_byte_and_the_pixel() {
    let photo = plain(Format::Png);
    let exactly = Limits {
        max_bytes: photo.len(),
        min_side: 33,
        max_side: 49,
        max_pixels: 49 * 33,
        max_decoded_bytes: 49 * 33 * 4,
    };
    let code = |limits: Limits| {
        Photo::judge_within(photo.clone(), &limits).map_or_else(|error| error.code(), |_| "taken")
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

#[test]
fn a_damaged_png_is_refused() {
    let mut file = plain(Format::Png).to_vec();
    let at = file.len() - 20;
    file[at] ^= 1;
    assert_eq!(rejected(file), Rejection::Corrupt(Format::Png));

    let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
    png.chunks_mut().insert(1, PngChunk::new(*b"CgBI", Bytes::from_static(b"\0\0\0\0")));
    let unknown_critical = png.encoder().bytes();
    assert_eq!(rejected(unknown_critical), Rejection::Corrupt(Format::Png));
}

#[test]
fn a_jpeg_of_a_rare_kind_or_of_endless_scans_is_refused() {
    let unusual = Rejection::UnsupportedFormat(Recognised::UnusualJpeg);
    let arithmetic = b"\xff\xd8\xff\xc9\0\x0b\x08\0\x20\0\x20\x01\x01\x11\0\xff\xd9";
    assert_eq!(rejected(&arithmetic[..]), unusual);

    let file = progressive_jpeg();
    let end = file.len() - 2;
    let scan = b"\xff\xda\0\x08\x01\x01\0\x06\x3f\x10\0".repeat(100);
    let bomb = [&file[..end], &scan, &file[end..]].concat();
    assert_eq!(rejected(bomb), unusual);
}

#[test]
fn r5_a_rejection_and_a_photo_show_nothing_of_the_file() {
    let photo = judged(&planted(Format::Png, 3));
    assert_eq!(
        format!("{photo:?}"),
        format!(
            "Photo {{ format: Png, width: 49, height: 33, byte_size: {}, .. }}",
            photo.byte_size()
        )
    );
    assert_eq!(rejected("CANARY").to_string(), "not_an_image");
    assert!(!rejected("CANARY").sentence().contains("CANARY"));
}
