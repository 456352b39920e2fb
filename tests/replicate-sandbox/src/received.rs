//! The inputs that were received: fetched, examined, and recorded for tests without their bytes.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use image::metadata::Orientation;
use image::{DynamicImage, ImageBuffer, ImageDecoder, ImageReader, RgbImage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::sandbox::Shared;

const LARGEST: usize = 20 * 1024 * 1024;

/// A photo as received.
pub(crate) struct Received {
    bytes: Bytes,
    /// The content type that the sender declared.
    content_type: String,
}

/// Fetches an input: a signed URL, an uploaded file, or a `data:` URL. The error is in Replicate's words.
pub(crate) async fn fetch(sandbox: &Shared, address: &str) -> Result<Received, String> {
    let failed = || "Error: failed to download input_image".to_owned();
    if let Some(data) = address.strip_prefix("data:") {
        let (content_type, encoded) = data.split_once(";base64,").ok_or_else(failed)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| failed())?.into();
        return Ok(Received { bytes, content_type: content_type.to_owned() });
    }
    if let Some(id) = address.strip_prefix(&format!("{}/v1/files/", sandbox.base())) {
        let file = sandbox.contents().files.get(id).cloned().ok_or_else(failed)?;
        return Ok(Received { bytes: file.bytes, content_type: file.content_type });
    }
    let mut response = sandbox.http.get(address).send().await.map_err(|_| failed())?;
    if !response.status().is_success() {
        return Err(failed());
    }
    let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| failed())? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST {
            return Err("Error: input_image is too large".to_owned());
        }
    }
    Ok(Received { bytes: bytes.into(), content_type })
}

/// Returns the facts about an input that tests may see. Also returns the picture as the model's loader opens
/// it, if the input is one.
pub(crate) fn look_at(prediction: &str, received: &Received) -> (Value, Result<RgbImage, String>) {
    let bytes = &received.bytes;
    let digest = hex::encode(Sha256::digest(bytes));
    let mut seen = json!({
        "prediction": prediction,
        "sha256": digest,
        "bytes": bytes.len(),
        "content_type": received.content_type,
    });
    let decoded = decode(bytes, &mut seen).ok_or("Error: input_image is not an image".to_owned());
    (seen, decoded)
}

fn decode(bytes: &Bytes, seen: &mut Value) -> Option<RgbImage> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let format = reader.format();
    let mut decoder = reader.into_decoder().ok()?;
    let exif = decoder.exif_metadata().ok().flatten();
    // Some programs write the prefix from JPEG's segment into a WebP, too.
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec).unwrap_or(exif));
    let turned = exif.as_deref().and_then(Orientation::from_exif_chunk);
    let orientation = turned.unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).ok()?;

    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    seen["format"] = json!(format.map(|format| format.to_mime_type()));
    seen["width"] = json!(image.width());
    seen["height"] = json!(image.height());
    seen["orientation"] = json!(orientation.to_exif());
    let fields = exif.as_deref().map(fields).unwrap_or_default();
    let is_gps = |field: &exif::Field| field.tag.context() == exif::Context::Gps;
    seen["exif"] = json!(exif.is_some());
    seen["exif_fields"] = json!(fields.len());
    seen["gps"] = json!(fields.iter().any(is_gps));
    let is_of_thumbnail = |field: &exif::Field| field.ifd_num == exif::In::THUMBNAIL;
    seen["thumbnail"] = json!(fields.iter().any(is_of_thumbnail));
    seen["xmp"] = json!(contains(b"http://ns.adobe.com/xap/") || contains(b"XML:com.adobe.xmp"));
    Some(as_the_loader_does(image))
}

/// Converts a picture to RGB and does nothing else, like the real loader. It ignores orientation and
/// profiles, shows colours hidden under alpha, and turns nearly all 16-bit greys to white.
fn as_the_loader_does(image: DynamicImage) -> RgbImage {
    match image {
        DynamicImage::ImageLuma16(grey) => {
            ImageBuffer::from_fn(grey.width(), grey.height(), |x, y| {
                let value = u8::try_from(grey.get_pixel(x, y)[0]).unwrap_or(u8::MAX);
                image::Rgb([value; 3])
            })
        }
        image => image.into_rgb8(),
    }
}

fn fields(exif: &[u8]) -> Vec<exif::Field> {
    let read = exif::Reader::new().read_raw(exif.to_vec());
    read.map(|exif| exif.fields().cloned().collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder, Rgb};

    use super::*;

    /// Exif as a little-endian TIFF with one field: the orientation.
    fn exif_of(orientation: u8) -> Vec<u8> {
        let mut exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
        exif
    }

    /// A photo that is red on the left and blue on the right as stored, marked with `orientation`.
    fn photo(orientation: u8) -> Received {
        let red = |x| if x < 20 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) };
        let pixels = RgbImage::from_fn(40, 16, |x, _| red(x));
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new(&mut bytes);
        encoder.set_exif_metadata(exif_of(orientation)).expect("room for Exif");
        encoder.write_image(pixels.as_raw(), 40, 16, ExtendedColorType::Rgb8).expect("a JPEG");
        Received { bytes: bytes.into(), content_type: "image/jpeg".to_owned() }
    }

    #[test]
    fn orientation_is_ignored_as_in_the_real_loader() {
        let (seen, opened) = look_at("p", &photo(6));
        let opened = opened.expect("a picture");
        assert_eq!(opened.dimensions(), (40, 16));
        assert!(opened.get_pixel(2, 8)[0] > 200, "what was left is left");
        assert!(opened.get_pixel(37, 8)[2] > 200, "what was right is right");
        assert_eq!([&seen["orientation"], &seen["width"], &seen["height"]], [6, 40, 16]);
        assert_eq!((&seen["exif"], &seen["exif_fields"]), (&json!(true), &json!(1)));
        assert_eq!((&seen["gps"], &seen["xmp"]), (&json!(false), &json!(false)));
    }

    #[test]
    fn alpha_and_sixteen_bit_grey_look_as_in_the_real_loader() {
        let open = |image: DynamicImage| *as_the_loader_does(image).get_pixel(0, 0);
        let hidden = image::RgbaImage::from_pixel(1, 1, image::Rgba([9, 8, 7, 0]));
        assert_eq!(open(hidden.into()), Rgb([9, 8, 7]));
        let grey = ImageBuffer::from_pixel(1, 1, image::Luma([0x2000_u16]));
        assert_eq!(open(DynamicImage::ImageLuma16(grey)), Rgb([255; 3]));
    }

    #[test]
    fn an_invalid_picture_is_still_recorded() {
        let text = Received { bytes: "hello".into(), content_type: "image/png".to_owned() };
        let (seen, decoded) = look_at("p", &text);
        assert_eq!(decoded.err().as_deref(), Some("Error: input_image is not an image"));
        assert_eq!((&seen["bytes"], &seen["content_type"]), (&json!(5), &json!("image/png")));
    }
}
