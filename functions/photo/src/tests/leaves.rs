//! What leaves for the model: an upright JPEG of only pixels, in a size that the model takes.

use image::{Rgb, RgbImage};

use super::{corners, is_near, lying};
use crate::samples::{
    CANARY, FORMATS, SIZE, contains, encode, exif, plain, planted, planted_around, planted_webp,
    prepared, seen, write_segment,
};
use crate::{Format, Photo};

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
fn a_photo_with_unreadable_exif_is_upright() {
    let exif = b"MM\0\x2a\xff\xff\xff\xffCANARY";
    let picture = plain(Format::WebP);
    let bytes = planted_webp((*b"VP8L", &picture[20..]), exif);
    assert_eq!(seen(bytes).dimensions(), SIZE);
}

#[test]
fn an_exif_chunk_with_the_jpeg_prefix_is_read() {
    let exif = [&b"Exif\0\0"[..], &exif(6)].concat();
    let picture = plain(Format::WebP);
    let bytes = planted_webp((*b"VP8L", &picture[20..]), &exif);
    assert_eq!(seen(bytes).dimensions(), (SIZE.1, SIZE.0));
}

#[test]
fn an_orientation_after_the_first_scan_is_ignored() {
    let file = plain(Format::Jpeg);
    let mut turned = file[..file.len() - 2].to_vec();
    let exif = [&b"Exif\0\0"[..], &exif(6)].concat();
    write_segment(&mut turned, 0xe1, &[&exif]);
    turned.extend_from_slice(b"\xff\xd9");
    assert_eq!(seen(turned).dimensions(), SIZE);
}
