//! The models that the sandbox has.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `owner/name` of each.
pub(crate) const MODELS: [&str; 3] = [
    "black-forest-labs/flux-kontext-pro",
    "black-forest-labs/flux-kontext-max",
    "black-forest-labs/flux-kontext-dev",
];

/// The model that a `version` names: `owner/name`, `owner/name:id` or the id alone.
pub(crate) fn model_of_version(version: &str) -> Option<&'static str> {
    MODELS.into_iter().find(|model| {
        let id = version_id(model);
        version == *model || version == id || version == format!("{model}:{id}")
    })
}

pub(crate) fn describe(model: &str) -> Option<Value> {
    let version = version(model)?;
    let (owner, name) = model.split_once('/')?;
    Some(json!({
        "url": format!("https://replicate.com/{model}"),
        "owner": owner,
        "name": name,
        "description": "Edits a picture as a text says.",
        "visibility": "public",
        "is_official": true,
        "github_url": null,
        "paper_url": null,
        "license_url": null,
        "run_count": 1,
        "cover_image_url": null,
        "default_example": null,
        "latest_version": version,
    }))
}

pub(crate) fn version(model: &str) -> Option<Value> {
    MODELS.contains(&model).then(|| {
        json!({
            "id": version_id(model),
            "created_at": "2025-05-29T00:00:00.000000Z",
            "cog_version": "0.14.0",
            "openapi_schema": schema(model),
        })
    })
}

fn version_id(model: &str) -> String {
    hex::encode(Sha256::digest(model))
}

fn schema(model: &str) -> Value {
    let is_dev = model.ends_with("-dev");
    let mut properties = json!({
        "prompt": { "type": "string" },
        "input_image": { "type": "string", "format": "uri", "nullable": !is_dev },
        "aspect_ratio": { "type": "string", "default": "match_input_image" },
        "output_format": { "type": "string", "default": if is_dev { "webp" } else { "png" } },
        "seed": { "type": "integer", "nullable": true },
    });
    if is_dev {
        properties["num_inference_steps"] =
            json!({ "type": "integer", "minimum": 4, "maximum": 50 });
        properties["guidance"] = json!({ "type": "number", "minimum": 0, "maximum": 10 });
        properties["output_quality"] = json!({ "type": "integer", "minimum": 0, "maximum": 100 });
    } else {
        properties["safety_tolerance"] = json!({ "type": "integer", "minimum": 0, "maximum": 6 });
        properties["prompt_upsampling"] = json!({ "type": "boolean", "default": false });
    }
    json!({
        "openapi": "3.0.2",
        "info": { "title": "Cog", "version": "0.1.0" },
        "components": { "schemas": {
            "Input": { "type": "object", "properties": properties, "required": ["prompt"] },
            "Output": { "type": "string", "format": "uri" },
        } },
    })
}
