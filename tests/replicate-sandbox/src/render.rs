//! Turns an input into a picture in the style of its prompt.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ImageFormat, RgbImage};
use serde_json::Value;

use crate::prediction::Prediction;
use crate::received;
use crate::sandbox::Shared;

const UNKNOWN: &str = "Unknown error (E1000)";

/// A finished picture.
#[derive(Clone, Debug)]
pub(crate) struct Rendered {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: &'static str,
    pub(crate) extension: &'static str,
}

/// The requested properties of the output.
struct Wish {
    prompt: String,
    ratio: String,
    format: String,
    /// JPEG quality, 1 to 100.
    quality: u8,
    seed: u64,
}

/// Renders a prediction. The error is in Replicate's words.
pub(crate) async fn render(sandbox: &Shared, prediction: &Prediction) -> Result<Rendered, String> {
    let photo = match prediction.input.get("input_image").and_then(Value::as_str) {
        Some(address) => Some(received::fetch(sandbox, address).await?),
        None => None,
    };
    let wish = Wish::of(prediction);
    let painter = sandbox.painters.clone().acquire_owned().await.map_err(|_| UNKNOWN)?;
    let (sandbox, id) = (sandbox.clone(), prediction.id.clone());
    tokio::task::spawn_blocking(move || {
        let _painter = painter;
        let photo = match photo {
            Some(photo) => {
                let (seen, decoded) = received::look_at(&id, &photo);
                sandbox.contents().inputs.push(seen);
                decoded?
            }
            None => blank(wish.seed),
        };
        let pixels = sandbox.config.pixels;
        let artwork = painter::artwork(&photo, &wish.ratio, pixels, &wish.prompt, wish.seed);
        encode(&artwork, &wish)
    })
    .await
    .map_err(|_| UNKNOWN)?
}

impl Wish {
    fn of(prediction: &Prediction) -> Self {
        let input = &prediction.input;
        let text = |name: &str| input.get(name).and_then(Value::as_str).map(str::to_owned);
        let is_dev = prediction.model.ends_with("-dev");
        let usual_format = if is_dev { "webp" } else { "png" };
        let quality = input.get("output_quality").and_then(Value::as_u64).unwrap_or(92);
        Self {
            prompt: text("prompt").unwrap_or_default(),
            ratio: text("aspect_ratio").unwrap_or_default(),
            format: text("output_format").unwrap_or_else(|| usual_format.to_owned()),
            quality: u8::try_from(quality.clamp(1, 100)).unwrap_or(u8::MAX),
            seed: prediction.seed(),
        }
    }
}

/// A plain gradient that replaces the photo if there is only a prompt.
fn blank(seed: u64) -> RgbImage {
    let turn = u8::try_from(seed % 256).unwrap_or_default();
    RgbImage::from_fn(512, 512, |x, y| {
        let part = |value: u32| u8::try_from(value / 2).unwrap_or(u8::MAX);
        image::Rgb([part(x), part(y), turn])
    })
}

fn encode(picture: &RgbImage, wish: &Wish) -> Result<Rendered, String> {
    let mut bytes = Vec::new();
    let (encoded, content_type, extension) = match wish.format.as_str() {
        "jpg" => (
            picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, wish.quality)),
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
    encoded.map_err(|_| UNKNOWN)?;
    Ok(Rendered { bytes: bytes.into(), content_type, extension })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_has_the_format_that_it_declares() {
        for (format, content_type) in
            [("png", "image/png"), ("jpg", "image/jpeg"), ("webp", "image/webp")]
        {
            let mut prediction = Prediction::example(time::OffsetDateTime::UNIX_EPOCH);
            prediction.input.insert("output_format".to_owned(), format.into());
            let wish = Wish::of(&prediction);
            let rendered = encode(&RgbImage::new(32, 16), &wish).expect("encoded");
            assert_eq!(rendered.content_type, content_type);
            let guessed = image::guess_format(&rendered.bytes).expect("a format");
            assert_eq!(guessed.to_mime_type(), content_type);
        }
    }
}
