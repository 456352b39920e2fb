//! Forms of JPEG: scans, components, inks and restart markers.

use image::RgbImage;

use super::is_near;
use crate::samples::blocks::{BLOCKS, baseline_in_three_scans, grey_with_restarts, inks};
use crate::samples::{progressive_jpeg, rejected, seen, write_segment};
use crate::{Format, Recognised, Rejection};

/// Checks that the picture is that of [`grey_with_restarts`].
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
