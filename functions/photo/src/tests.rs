use std::io::Cursor;

use bytes::Bytes;
use image::{ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use img_parts::ImageICC;
use img_parts::png::{Png, PngChunk};
use moxcms::ColorProfile;

use super::samples::{
    BLOCKS, CANARY, FORMATS, SIZE, baseline_in_three_scans, contains, encode, grey_with_restarts,
    inks, lossy_webp, plain, planted, planted_around, prepared, progressive_jpeg, rejected, seen,
    webp, write_segment,
};
use super::*;

/// The same pixels, stored so that `orientation` turns them upright.
pub(super) fn lying(picture: &RgbImage, orientation: u8) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match orientation {
        2 => flip_horizontal(picture),
        3 => rotate180(picture),
        4 => flip_vertical(picture),
        5 => flip_horizontal(&rotate90(picture)),
        6 => rotate270(picture),
        7 => flip_horizontal(&rotate270(picture)),
        8 => rotate90(picture),
        _ => picture.clone(),
    }
}

/// A picture with a different colour in each corner.
pub(super) fn corners(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([if x < width / 2 { 220 } else { 40 }, if y < height / 2 { 220 } else { 40 }, 90])
    })
}

pub(super) fn is_near(one: Rgb<u8>, other: [u8; 3], most: u8) -> bool {
    one.0.iter().zip(other).all(|(&one, other)| one.abs_diff(other) <= most)
}

#[test]
fn c2_a_photo_is_measured_by_its_bytes() {
    for (format, name) in [(Format::Jpeg, "jpeg"), (Format::Png, "png"), (Format::WebP, "webp")] {
        let bytes = planted(format, 6);
        let photo = prepared(bytes.clone());
        assert_eq!(photo.format_name(), name);
        assert_eq!((photo.height(), photo.width()), SIZE, "a quarter turn swaps the sides");
        assert_eq!(photo.byte_size(), bytes.len());
        assert_eq!(photo.sha256(), hex::encode(Sha256::digest(&bytes)));
    }
}

#[test]
fn t2_whatever_way_a_photo_lies_it_leaves_upright() {
    for format in FORMATS {
        for orientation in 1..=8 {
            let (width, height) = if orientation < 5 { SIZE } else { (SIZE.1, SIZE.0) };
            let stored = lying(&corners(width, height), orientation);
            assert_eq!(stored.dimensions(), SIZE);
            let file = planted_around(encode(&stored, format), format, orientation.into());
            let seen = seen(file);
            assert_eq!(seen.dimensions(), (width, height), "{format}, {orientation}");
            for (x, y) in [(4, 4), (width - 5, 4), (4, height - 5), (width - 5, height - 5)] {
                let expected = *corners(width, height).get_pixel(x, y);
                let found = *seen.get_pixel(x, y);
                assert!(
                    is_near(found, expected.0, 12),
                    "{format}, {orientation}: {found:?} at {x}, {y}"
                );
            }
        }
    }
}

#[test]
fn t2_nothing_planted_leaves() {
    for format in FORMATS {
        let bytes = planted(format, 6);
        assert!(contains(&bytes, CANARY));
        let leaves = prepared(bytes).into_prepared();
        for planted in [CANARY, b"CAN", b"Exif", b"GPS", b"xmp", b"ICC", b"http"] {
            assert!(!contains(&leaves, planted), "{format}");
        }
        // Allowed: the JFIF header, quantisation tables, a frame, Huffman tables and a scan. Comments and
        // application segments are not.
        let markers = leaves.windows(2).filter(|pair| pair[0] == 0xff && pair[1] > 0xd7);
        assert!(markers.clone().all(|pair| !matches!(pair[1], 0xe1..=0xfe)), "{format}");
        assert_eq!(markers.filter(|pair| pair[1] == 0xe0).count(), 1, "{format}");
    }
}

#[test]
fn t2_the_prepared_photo_is_a_jpeg_with_full_chroma() {
    let leaves = prepared(plain(Format::Png)).into_prepared();
    let frame = leaves.windows(2).position(|pair| pair == [0xff, 0xc0]).expect("a frame");
    let components = &leaves[frame + 10..frame + 19];
    assert_eq!([components[1], components[4], components[7]], [0x11; 3]);
    assert_eq!(Photo::PREPARED_TYPE, "image/jpeg");
}

#[test]
fn t2_a_large_photo_is_shrunk_and_a_small_one_keeps_its_size() {
    let large = RgbImage::from_pixel(4000, 3000, Rgb([70, 120, 200]));
    let seen_large = seen(encode(&large, Format::Jpeg));
    assert_eq!(seen_large.dimensions(), (2048, 1536));
    assert!(seen_large.pixels().all(|&pixel| is_near(pixel, [70, 120, 200], 3)));
    assert_eq!(seen(plain(Format::Jpeg)).dimensions(), SIZE);
}

#[test]
fn t2_a_panorama_and_a_long_screenshot_get_white_margins() {
    let colour = [200, 60, 30];
    for (width, height, fitted) in [(700, 100, (700, 300)), (100, 700, (300, 700))] {
        let seen = seen(encode(&RgbImage::from_pixel(width, height, Rgb(colour)), Format::Png));
        assert_eq!(seen.dimensions(), fitted);
        assert!(is_near(*seen.get_pixel(2, 2), [255; 3], 3));
        let (x, y) = (fitted.0 / 2, fitted.1 / 2);
        for at in [
            (x, y),
            (x - width / 2 + 9, y - height / 2 + 9),
            (x + width / 2 - 9, y + height / 2 - 9),
        ] {
            assert!(is_near(*seen.get_pixel(at.0, at.1), colour, 8), "{at:?}");
        }
    }
    let widest = seen(encode(&RgbImage::from_pixel(700, 300, Rgb(colour)), Format::Png));
    assert_eq!(widest.dimensions(), (700, 300));
    assert!(is_near(*widest.get_pixel(2, 2), colour, 8));
}

#[test]
fn t2_what_is_hidden_under_alpha_does_not_leave() {
    let side = 2500;
    let picture = RgbaImage::from_fn(side, side, |x, _| {
        Rgba(if x < side / 2 { [250, 0, 0, 0] } else { [20, 60, 120, 128] })
    });
    let mut file = Vec::new();
    picture.write_to(&mut Cursor::new(&mut file), ImageFormat::Png).expect("a PNG");
    let seen = seen(file);
    assert!(is_near(*seen.get_pixel(500, 1000), [255; 3], 2), "transparent is white");
    // This includes pixels next to the edge, where colours mix.
    assert!((1016..1024).all(|x| seen.get_pixel(x, 1000)[1] > 150));
    assert!(is_near(*seen.get_pixel(1500, 1000), [137, 157, 187], 3), "half and half");
}

#[test]
fn t2_sixteen_bit_grey_keeps_its_shades() {
    let picture =
        ImageBuffer::from_fn(32, 32, |x, _| Luma([if x < 16 { 0x2000_u16 } else { 0xa000 }]));
    let mut file = Vec::new();
    picture.write_to(&mut Cursor::new(&mut file), ImageFormat::Png).expect("a PNG");
    let seen = seen(file);
    assert!(is_near(*seen.get_pixel(4, 16), [32; 3], 2));
    assert!(is_near(*seen.get_pixel(28, 16), [160; 3], 2));
}

#[test]
fn t2_colours_of_another_space_are_converted() {
    let encode = |profile: ColorProfile, pixel: Rgb<u8>| {
        let mut png = Png::from_bytes(encode(&RgbImage::from_pixel(32, 32, pixel), Format::Png))
            .expect("a PNG");
        png.set_icc_profile(Some(profile.encode().expect("a profile").into()));
        png.encoder().bytes()
    };
    // The results of CSS Color 4 for color(display-p3 0.8 0.4 0.298) and color(a98-rgb 0.6 0.4 0.4).
    let p3 = *seen(encode(ColorProfile::new_display_p3(), Rgb([204, 102, 76]))).get_pixel(16, 16);
    assert!(is_near(p3, [219, 94, 68], 3), "{p3:?}");
    let adobe =
        *seen(encode(ColorProfile::new_adobe_rgb(), Rgb([153, 102, 102]))).get_pixel(16, 16);
    assert!(is_near(adobe, [170, 102, 102], 3), "{adobe:?}");
}

#[test]
fn t2_a_png_uses_the_colour_space_that_the_standard_ranks_first() {
    const P3: &[u8] = &[12, 13, 0, 1];
    const HDR: &[u8] = &[9, 16, 0, 1];
    const GAMMA_1: &[u8] = &[0, 1, 0x86, 0xa0];
    let icc = ColorProfile::new_adobe_rgb().encode().expect("a profile");
    let seen = |names: &[&[u8; 4]], cicp: &'static [u8], gamma: &'static [u8]| {
        let picture = RgbImage::from_pixel(32, 32, Rgb([153, 102, 102]));
        let mut png = Png::from_bytes(encode(&picture, Format::Png)).expect("a PNG");
        for name in names {
            let data = match *name {
                b"iCCP" => {
                    png.set_icc_profile(Some(icc.clone().into()));
                    continue;
                }
                b"cICP" => cicp,
                b"gAMA" => gamma,
                _ => &[0],
            };
            png.chunks_mut().insert(1, PngChunk::new(**name, Bytes::from_static(data)));
        }
        seen(png.encoder().bytes()).get_pixel(16, 16).0
    };
    let [in_p3, in_adobe_rgb, in_srgb, of_gamma_1] =
        [[162, 99, 101], [170, 102, 102], [153, 102, 102], [203, 170, 170]];
    for (names, cicp, gamma, expected) in [
        (&[b"cICP", b"iCCP", b"sRGB", b"gAMA"][..], P3, GAMMA_1, in_p3),
        (&[b"iCCP", b"sRGB", b"gAMA"], P3, GAMMA_1, in_adobe_rgb),
        (&[b"sRGB", b"gAMA"], P3, GAMMA_1, in_srgb),
        (&[b"gAMA"], P3, GAMMA_1, of_gamma_1),
        (&[b"cICP", b"iCCP"], HDR, GAMMA_1, in_adobe_rgb),
        (&[b"gAMA"], P3, &[0; 4], in_srgb),
        (&[b"gAMA"], P3, &[0; 3], in_srgb),
    ] {
        let found = seen(names, cicp, gamma);
        assert!(is_near(Rgb(found), expected, 3), "{names:?}: {found:?}");
    }
}

#[test]
fn a_photo_with_an_unusable_profile_counts_as_srgb() {
    let mut of_a_device = ColorProfile::new_display_p3().encode().expect("a profile");
    of_a_device[16..20].copy_from_slice(b"CMYK");
    for profile in [b"not a profile".to_vec(), samples::profile(), of_a_device] {
        let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
        png.set_icc_profile(Some(profile.into()));
        let seen = seen(png.encoder().bytes());
        assert!(is_near(*seen.get_pixel(20, 16), [100, 112, 60], 4));
    }
}

#[test]
fn a_profile_that_unpacks_to_gigabytes_is_not_unpacked() {
    let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
    png.set_icc_profile(Some(vec![0; 80 * 1024 * 1024].into()));
    let file = png.encoder().bytes();
    assert!(file.len() < 1024 * 1024);
    assert!(is_near(*seen(file).get_pixel(20, 16), [100, 112, 60], 4));
}

#[test]
fn a_photo_with_unreadable_exif_is_upright() {
    let exif = b"MM\0\x2a\xff\xff\xff\xffCANARY";
    let picture = plain(Format::WebP);
    let bytes = samples::planted_webp((*b"VP8L", &picture[20..]), exif);
    assert_eq!(seen(bytes).dimensions(), SIZE);
}

#[test]
fn an_exif_chunk_with_the_jpeg_prefix_is_read() {
    let exif = [&b"Exif\0\0"[..], &samples::exif(6)].concat();
    let picture = plain(Format::WebP);
    let bytes = samples::planted_webp((*b"VP8L", &picture[20..]), &exif);
    assert_eq!(seen(bytes).dimensions(), (SIZE.1, SIZE.0));
}

#[test]
fn an_orientation_after_the_first_scan_is_ignored() {
    let file = plain(Format::Jpeg);
    let mut turned = file[..file.len() - 2].to_vec();
    let exif = [&b"Exif\0\0"[..], &samples::exif(6)].concat();
    write_segment(&mut turned, 0xe1, &[&exif]);
    turned.extend_from_slice(b"\xff\xd9");
    assert_eq!(seen(turned).dimensions(), SIZE);
}

#[test]
fn a_profile_in_several_segments_is_read() {
    let file = encode(&RgbImage::from_pixel(32, 32, Rgb([204, 102, 76])), Format::Jpeg);
    let profile = ColorProfile::new_display_p3().encode().expect("a profile");
    let with_parts = |parts: usize, count: u8| {
        let mut with_profile = file[..2].to_vec();
        for (part, number) in profile.chunks(profile.len().div_ceil(3)).zip(1..).take(parts) {
            let heading = [&b"ICC_PROFILE\0"[..], &[number, count]].concat();
            write_segment(&mut with_profile, 0xe2, &[&heading, part]);
        }
        with_profile.extend_from_slice(&file[2..]);
        *seen(with_profile).get_pixel(16, 16)
    };
    assert!(is_near(with_parts(3, 3), [219, 94, 68], 3));
    assert!(is_near(with_parts(2, 3), [204, 102, 76], 3), "a part is missing");
}

#[test]
fn a_truncated_file_is_refused_unless_all_pixels_are_there() {
    for (file, after_pixels) in [
        (plain(Format::Jpeg), 2),
        (plain(Format::Png), 12),
        (plain(Format::WebP), 0),
        (progressive_jpeg(), 2),
        (lossy_webp(), 0),
    ] {
        let whole = seen(file.clone());
        assert_eq!(seen(file.slice(..file.len() - after_pixels)), whole);
        for length in 0..file.len() {
            let code = match Photo::prepare(&file.slice(..length)) {
                Ok(photo) => {
                    assert!(length >= file.len() - after_pixels, "{length} of {}", file.len());
                    let prepared = photo.into_prepared();
                    let seen = image::load_from_memory(&prepared).expect("a JPEG").into_rgb8();
                    assert_eq!(seen, whole);
                    continue;
                }
                Err(rejection) => rejection.code(),
            };
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
fn a_truncated_jpeg_with_an_end_marker_is_refused() {
    for file in [plain(Format::Jpeg), progressive_jpeg(), grey_with_restarts(4)] {
        let scan = file.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a scan");
        for length in scan + 16..file.len() - 3 {
            // Does not cut between the two bytes of an escape or a marker.
            if file[length - 1] == 0xff {
                continue;
            }
            let forged = [&file[..length], &[0xff, 0xd9]].concat();
            // In the headers between two scans, the added marker becomes a part of a header.
            let is_between = file[length - 10..].windows(2).any(|pair| pair == [0xff, 0xda]);
            let rejection = rejected(forged);
            let is_right = matches!(rejection, Rejection::Truncated(_))
                || is_between && matches!(rejection, Rejection::Corrupt(_));
            assert!(is_right, "{length} of {}: {rejection}", file.len());
        }
    }
}

#[test]
fn a_complete_container_with_missing_pixels_is_refused() {
    let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
    for chunk in png.chunks_mut().iter_mut().filter(|chunk| &chunk.kind() == b"IDAT") {
        let half = chunk.contents().slice(..chunk.contents().len() / 2);
        *chunk = PngChunk::new(*b"IDAT", half);
    }
    assert!(matches!(
        rejected(png.encoder().bytes()),
        Rejection::Corrupt(_) | Rejection::Truncated(_)
    ));

    for (id, file) in [(*b"VP8L", plain(Format::WebP)), (*b"VP8 ", lossy_webp())] {
        let half = webp(&[(id, &file[20..file.len() / 2 + 10])]);
        assert!(matches!(rejected(half), Rejection::Corrupt(_) | Rejection::Truncated(_)));
    }
}

#[test]
fn harmless_faults_are_accepted() {
    let mut png = Png::from_bytes(plain(Format::Png)).expect("a PNG");
    png.chunks_mut().insert(1, PngChunk::new(*b"tEXt", Bytes::from_static(b"Author\0me")));
    let mut file = png.encoder().bytes().to_vec();
    let text = file.windows(4).position(|name| name == b"tEXt").expect("a text");
    file[text + 8] ^= 1;
    assert_eq!(seen(file), seen(plain(Format::Png)), "a wrong checksum of a text");

    let picture = lossy_webp();
    let canvas = [!0x02, 0, 0, 0, 15, 0, 0, 15, 0, 0];
    let promises = webp(&[(*b"VP8X", &canvas), (*b"VP8 ", &picture[20..])]);
    assert_eq!(
        seen(promises),
        seen(picture),
        "flags of alpha, profile and Exif without any of them"
    );
}

/// Checks that the picture is that of [`samples::grey_with_restarts`].
fn assert_blocks(seen: &RgbImage) {
    for block in 0..15 {
        let (x, y) = (block % 5 * 8 + 4, block / 5 * 8 + 4);
        let expected = u8::try_from(40 + 8 * block).expect("small");
        let found = *seen.get_pixel(x, y);
        assert!(is_near(found, [expected; 3], 2), "block {block}: {found:?}");
    }
}

#[test]
fn a_baseline_jpeg_with_one_scan_per_component_is_read() {
    for luma in [(1, 1), (2, 2), (1, 2), (2, 1)] {
        assert_blocks(&seen(baseline_in_three_scans(BLOCKS, luma, (1, 1))));
    }
}

#[test]
fn jfif_is_not_rgb_even_if_an_adobe_segment_says_so() {
    let file = baseline_in_three_scans(BLOCKS, (1, 1), (1, 1));
    let mut segments = vec![0xff, 0xd8];
    write_segment(&mut segments, 0xe0, &[b"JFIF\0", &[1, 1, 0, 0, 1, 0, 1, 0, 0]]);
    write_segment(&mut segments, 0xee, &[b"Adobe", &[0, 100, 0, 0, 0, 0, 0]]);
    assert_blocks(&seen([&segments[..], &file[2..]].concat()));
}

#[test]
fn a_component_that_is_coded_twice_is_refused() {
    let file = baseline_in_three_scans(BLOCKS, (1, 1), (1, 1));
    let scan = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).expect("a scan");
    let end = file.len() - 2;
    let twice = [&file[..end], &file[scan..]].concat();
    assert_eq!(rejected(twice), Rejection::Corrupt(Format::Jpeg));
}

#[test]
fn inks_look_the_same_as_cmyk_and_as_ycck() {
    // Adobe's programs store full ink as zero, so the CMYK level is the brightness of the print.
    for transform in [0, 2] {
        assert_blocks(&seen(inks(transform)));
    }
}

#[test]
fn samples_beyond_the_edge_of_a_component_do_not_show() {
    // The last unit of chroma has a block beyond the edge that is not coded.
    for (luma, chroma) in [((4, 1), (2, 1)), ((4, 2), (2, 1))] {
        let seen = seen(baseline_in_three_scans((48, 24), luma, chroma));
        for (y, expected) in [(4, 80), (12, 128), (23, 176)] {
            let found = *seen.get_pixel(47, y);
            assert!(is_near(found, [expected; 3], 2), "{luma:?}: {found:?} at {y}");
        }
    }
}

#[test]
fn restart_markers_are_read() {
    for interval in [1, 4, 5, 15, 40] {
        assert_blocks(&seen(grey_with_restarts(interval)));
    }
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
fn a_jpeg_of_a_rare_kind_or_with_too_many_scans_is_refused() {
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
    let photo = prepared(planted(Format::Png, 3));
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
