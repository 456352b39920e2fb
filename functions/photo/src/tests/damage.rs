//! Files that are damaged or incomplete: refused if pixels are missing, accepted otherwise.

use bytes::Bytes;
use img_parts::png::{Png, PngChunk};

use crate::samples::blocks::grey_with_restarts;
use crate::samples::{
    contains, lossy_webp, plain, planted, progressive_jpeg, rejected, seen, webp,
};
use crate::{Format, Photo, Rejection};

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

#[test]
fn the_end_of_a_thumbnail_is_not_the_end_of_the_photo() {
    let file = planted(Format::Jpeg, 1);
    let scan = file.windows(2).position(|pair| pair == [0xff, 0xda]).expect("a scan");
    let cut = file.slice(..scan + 100);
    assert!(contains(&cut, b"thumbnail \xff\xd9"));
    assert_eq!(rejected(cut), Rejection::Truncated(Format::Jpeg));
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
