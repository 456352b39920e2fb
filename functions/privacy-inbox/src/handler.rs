//! One route: judge the headers, verify the provider's signature on the raw bytes, see whether it is
//! a request, file it.

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
use crate::event::Event;
use crate::mail::Mail;

/// A mail as the provider tells of it, in bytes: as much as a Lambda takes.
const LARGEST_MAIL: usize = 6 * 1024 * 1024;

#[derive(Deserialize)]
struct Filed {
    outcome: String,
}

/// The route of this function.
pub fn routes(app: Arc<App>) -> Router {
    Router::new().route("/privacy-inbox", post(receive)).with_state(app)
}

async fn receive(State(app): State<Arc<App>>, request: Request) -> Result<Json<Value>, Error> {
    let keys = app.config.inbox_keys.as_ref().ok_or(Error::NoSuchRoute)?;
    let (parts, body) = request.into_parts();
    // The headers of Standard Webhooks, or their older names.
    let signed = Signed::read(&parts.headers, &["webhook", "svix"], OffsetDateTime::now_utc())?;
    let body = read_body(&parts.headers, body, LARGEST_MAIL).await?;
    keys.verify(&signed, &body)?;

    let event = Event::read(&body)
        .ok_or_else(|| Error::invalid("body", "must be an event of the mail provider's."))?;
    if let Some(bounce) = Bounce::reported(&event) {
        let bounced: u32 = app.ask("record_bounce", json!(bounce)).await?;
        if bounced > 0 {
            tracing::warn!("a letter did not arrive");
        }
        return Ok(Json(json!({ "received": true })));
    }
    let Some(mail) = Mail::requesting(event, app.config.inbox_authserv_id.as_deref()) else {
        tracing::info!("a mail was no request");
        return Ok(Json(json!({ "received": true, "ignored": true })));
    };
    // A mail without a name of its own has that of its delivery, which is the same each time.
    let name = mail.name.as_deref().unwrap_or(signed.id());
    let filed: Filed = app
        .ask(
            "file_mail",
            json!({
                "digest": hex::encode(Sha256::digest(name)),
                "sender": mail.sender,
                "verified": mail.is_verified,
                "message": mail.message,
            }),
        )
        .await?;
    if filed.outcome == "filed" {
        tracing::info!("a privacy request was filed");
    }
    Ok(Json(json!({ "received": true })))
}
