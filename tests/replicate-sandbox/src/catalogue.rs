//! The models of the sandbox.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::schema;

/// The names of the models, as `owner/name`.
pub(crate) const MODELS: [&str; 3] = [
    "black-forest-labs/flux-kontext-pro",
    "black-forest-labs/flux-kontext-max",
    "black-forest-labs/flux-kontext-dev",
];

/// The model of a `version`, which is `owner/name`, `owner/name:id` or only the id.
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
            "openapi_schema": document(model),
        })
    })
}

fn version_id(model: &str) -> String {
    hex::encode(Sha256::digest(model))
}

fn document(model: &str) -> Value {
    json!({
        "openapi": "3.0.2",
        "info": { "title": "Cog", "version": "0.1.0" },
        "components": { "schemas": {
            "Input": schema::of_input(model),
            "Output": { "type": "string", "title": "Output", "format": "uri" },
        } },
    })
}
