//! One route. It checks the headers, verifies the provider's signature on the raw bytes, decides whether the
//! email is a privacy request, and files it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use opusflair::request::read_body;
use opusflair::signature::Signed;
use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::bounce::Bounce;
use crate::email::Email;
use crate::event::Event;

/// The largest event, in bytes: the limit of a Lambda request.
const LARGEST_EMAIL: usize = 6 * 1024 * 1024;

#[derive(Deserialize)]
struct Filed {
    outcome: String,
}

/// The routes of this function.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/privacy-inbox", post(receive)).with_state(app)
}

async fn receive(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Error> {
    let keys = app.config.inbox_keys.as_ref().ok_or(Error::NoSuchRoute)?;
    let (parts, body) = request.into_parts();
    // The headers of Standard Webhooks, under their current or older names.
    let signed = Signed::read(&parts.headers, &["webhook", "svix"], OffsetDateTime::now_utc())?;
    let body = read_body(&parts.headers, body, LARGEST_EMAIL).await?;
    keys.verify(&signed, &body)?;

    let event = Event::read(&body)
        .ok_or_else(|| Error::invalid("body", "must be an event of the email provider's."))?;
    if let Some(bounce) = Bounce::reported(&event) {
        let bounced: u32 = app.ask("record_bounce", json!(bounce)).await?;
        if bounced > 0 {
            tracing::warn!("one of our emails did not arrive");
        }
        return Ok(Json(json!({ "received": true })));
    }
    let Some(email) = Email::requesting(event, app.config.inbox_authserv_id.as_deref()) else {
        tracing::info!("an email was ignored, because it is no privacy request");
        return Ok(Json(json!({ "received": true, "ignored": true })));
    };
    // An email without a Message-ID is identified by the delivery id, which is the same in every retry.
    let name = email.name.as_deref().unwrap_or(signed.id());
    let filed: Filed = app
        .ask(
            "file_email",
            json!({
                "digest": hex::encode(Sha256::digest(name)),
                "sender": email.sender,
                "verified": email.is_verified,
                "message": email.message,
            }),
        )
        .await?;
    if filed.outcome == "filed" {
        tracing::info!("a privacy request was filed");
    }
    Ok(Json(json!({ "received": true })))
}
