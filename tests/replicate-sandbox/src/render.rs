//! From an input to a picture in the manner that its prompt asks for.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::picture::Picture;
use crate::prediction::Prediction;
use crate::sandbox::Shared;
use crate::style;
use crate::tint;

const LARGEST_INPUT: usize = 20 * 1024 * 1024;
/// Kontext makes about a megapixel, in multiples of 16.
const PIXELS: f64 = 1024.0 * 1024.0;

/// A finished picture.
pub(crate) struct Rendered {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: &'static str,
    pub(crate) extension: &'static str,
}

/// Renders a prediction; the error is what Replicate would say.
pub(crate) async fn render(sandbox: &Shared, prediction: &Prediction) -> Result<Rendered, String> {
    let input = &prediction.input;
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let address = text("input_image");
    let bytes = if address.is_empty() { None } else { Some(fetch(sandbox, &address).await?) };
    let default_format = if prediction.model.ends_with("-dev") { "webp" } else { "png" };
    let format = Some(text("output_format")).filter(|format| !format.is_empty());
    let (prompt, ratio, chance) = (text("prompt"), text("aspect_ratio"), prediction.seed());
    let id = prediction.id.clone();

    let (received, rendered) = tokio::task::spawn_blocking(move || {
        let (received, photo) = match &bytes {
            Some(bytes) => decode(&id, bytes)?,
            None => (None, blank(chance)),
        };
        let picture = tint::in_colour(Picture::from_image(&fit(&photo, &ratio)));
        let painted = style::paint(&picture, &prompt, chance).to_image();
        encode(&painted, format.as_deref().unwrap_or(default_format))
            .map(|rendered| (received, rendered))
    })
    .await
    .map_err(|_| "Unknown error (E1000)".to_owned())??;
    sandbox.contents().inputs.extend(received);
    Ok(rendered)
}

/// Fetches an input: a signed address, a file of this account's, or the data itself.
async fn fetch(sandbox: &Shared, address: &str) -> Result<Bytes, String> {
    let failed = || "Error: failed to download input_image".to_owned();
    if let Some(data) = address.strip_prefix("data:") {
        let (_, encoded) = data.split_once(";base64,").ok_or_else(failed)?;
        return STANDARD.decode(encoded).map(Bytes::from).map_err(|_| failed());
    }
    let own_file = address.strip_prefix(&format!("{}/v1/files/", sandbox.base()));
    if let Some(id) = own_file {
        let files = &sandbox.contents().files;
        return files.get(id).map(|stored| stored.bytes.clone()).ok_or_else(failed);
    }
    let mut response = sandbox.http.get(address).send().await.map_err(|_| failed())?;
    if !response.status().is_success() {
        return Err(failed());
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|_| failed())? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST_INPUT {
            return Err("Error: input_image is too large".to_owned());
        }
    }
    Ok(bytes.into())
}

/// The picture upright, and what tests may know of it.
fn decode(id: &str, bytes: &Bytes) -> Result<(Option<Value>, RgbImage), String> {
    let failed = |_| "Error: input_image is not an image".to_owned();
    let reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(e.into()))?;
    let format = reader.format();
    let mut decoder = reader.into_decoder().map_err(failed)?;
    let orientation = decoder.orientation().map_err(failed)?;
    let exif = decoder.exif_metadata().ok().flatten();
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    image.apply_orientation(orientation);

    let contains = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    let digest = hex::encode(Sha256::digest(bytes));
    let seen = json!({
        "prediction": id,
        "sha256": digest,
        "bytes": bytes.len(),
        "format": format.map(|format| format.to_mime_type()),
        "width": image.width(),
        "height": image.height(),
        "orientation": orientation.to_exif(),
        "exif_fields": exif.as_deref().map_or(0, count_fields),
        "gps": exif.as_deref().is_some_and(has_gps),
        "xmp": contains(b"http://ns.adobe.com/xap/") || contains(b"XML:com.adobe.xmp"),
    });
    Ok((Some(seen), image.into_rgb8()))
}

fn fields(exif: &[u8]) -> Vec<exif::Field> {
    let read = exif::Reader::new().read_raw(exif.to_vec());
    read.map(|exif| exif.fields().cloned().collect()).unwrap_or_default()
}

fn count_fields(exif: &[u8]) -> usize {
    fields(exif).len()
}

fn has_gps(exif: &[u8]) -> bool {
    fields(exif).iter().any(|field| field.tag.context() == exif::Context::Gps)
}

/// Without an input there is only the prompt; a plain gradient stands for it.
fn blank(seed: u64) -> RgbImage {
    let turn = u8::try_from(seed % 256).unwrap_or_default();
    RgbImage::from_fn(512, 512, |x, y| {
        let part = |value: u32| u8::try_from(value / 2).unwrap_or(u8::MAX);
        image::Rgb([part(x), part(y), turn])
    })
}

/// Cut to the ratio and brought to about a megapixel.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sizes are small")]
fn fit(photo: &RgbImage, ratio: &str) -> RgbImage {
    let own = f64::from(photo.width()) / f64::from(photo.height());
    let asked = ratio
        .split_once(':')
        .and_then(|(width, height)| Some(width.parse::<f64>().ok()? / height.parse::<f64>().ok()?));
    let target = asked.unwrap_or(own).clamp(0.4, 2.5);
    let (width, height) = if own > target {
        ((f64::from(photo.height()) * target) as u32, photo.height())
    } else {
        (photo.width(), (f64::from(photo.width()) / target) as u32)
    };
    let (width, height) = (width.max(1), height.max(1));
    let (left, top) = ((photo.width() - width) / 2, (photo.height() - height) / 2);
    let cut = image::imageops::crop_imm(photo, left, top, width, height).to_image();
    let rounded = |length: f64| ((length / 16.0).round() as u32).max(1) * 16;
    let across = (PIXELS * target).sqrt();
    image::imageops::resize(&cut, rounded(across), rounded(across / target), FilterType::Triangle)
}

fn encode(picture: &RgbImage, format: &str) -> Result<Rendered, String> {
    let mut bytes = Vec::new();
    let (encoded, content_type, extension) = match format {
        "jpg" => (
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, 92)),
            "image/jpeg",
            "jpg",
        ),
        "webp" => (
            picture.write_with_encoder(WebPEncoder::new_lossless(&mut bytes)),
            "image/webp",
            "webp",
        ),
        _ => (picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png), "image/png", "png"),
    };
    encoded.map_err(|_| "Unknown error (E1000)".to_owned())?;
    Ok(Rendered { bytes: bytes.into(), content_type, extension })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_have_about_a_megapixel_in_the_ratio_asked_for() {
        let photo = RgbImage::new(300, 200);
        for (ratio, expected) in
            [("match_input_image", 1.5), ("1:1", 1.0), ("16:9", 16.0 / 9.0), ("9:21", 0.43)]
        {
            let fitted = fit(&photo, ratio);
            let (width, height) = (f64::from(fitted.width()), f64::from(fitted.height()));
            assert_eq!((fitted.width() % 16, fitted.height() % 16), (0, 0), "{ratio}");
            assert!((width * height / PIXELS - 1.0).abs() < 0.05, "{ratio}: {width}×{height}");
            assert!((width / height - expected).abs() < 0.05, "{ratio}: {width}×{height}");
        }
    }

    #[test]
    fn each_format_is_what_it_says() {
        for (format, content_type) in
            [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")]
        {
            let rendered = encode(&RgbImage::new(32, 16), format).expect("encoded");
            assert_eq!(rendered.content_type, content_type);
            let guessed = image::guess_format(&rendered.bytes).expect("a format");
            assert_eq!(guessed.to_mime_type(), content_type);
        }
    }
}
