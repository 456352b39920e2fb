//! The colours that leave for the model are those that the user sees.

use std::io::Cursor;

use bytes::Bytes;
use image::{ImageBuffer, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use img_parts::ImageICC;
use img_parts::png::{Png, PngChunk};
use moxcms::ColorProfile;

use super::is_near;
use crate::Format;
use crate::samples::{encode, plain, profile, seen, write_segment};

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
    for profile in [b"not a profile".to_vec(), profile(), of_a_device] {
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
