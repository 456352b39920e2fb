//! Rights that take more than a row: export, erasure, and the confirmation of a mailed request.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use opusflair::caller::{Caller, ConfirmedCaller};
use opusflair::database::Again;
use opusflair::pseudonym::Use;
use opusflair::request::{self, PathId};
use opusflair::secret::Secret;
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// Of the account, typed.
    #[serde(default)]
    email: Option<String>,
    /// Of an account without an email, typed.
    #[serde(default)]
    phone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirm {
    /// From the letter.
    token: String,
    /// What the request is about, for whoever likes to say so.
    #[serde(default)]
    kind: Option<String>,
}

/// Orders an export (G5); the schedule builds it.
pub(crate) async fn export(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Error> {
    let ordered: Value =
        app.database.call_as(&caller, "request_export", json!({}), Again::Unsafe).await?;
    Ok((StatusCode::ACCEPTED, Json(ordered)).into_response())
}

/// Orders the erasure of the account (G3); the schedule carries it out.
pub(crate) async fn erase(
    State(app): State<Arc<App>>,
    ConfirmedCaller(caller): ConfirmedCaller,
    request::Json(Erase { email, phone }): request::Json<Erase>,
) -> Result<Response, Error> {
    let arguments = json!({ "email": email, "phone": phone });
    let ordered: Value =
        app.database.call_as(&caller, "erase_account", arguments, Again::Safe).await?;
    crash::reached("erasure.ordered");
    // Relative to the address that was asked.
    let location = format!("erasures/{}", ordered["id"].as_str().unwrap_or_default());
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(ordered)).into_response())
}

/// How an erasure stands, for whoever has its id: the tokens of a closed account reach nothing.
pub(crate) async fn erasure(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
) -> Result<Json<Value>, Error> {
    app.ask("erasure", json!({ "id": id })).await.map(Json)
}

/// Takes an erasure back, within its grace.
pub(crate) async fn withdraw(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
) -> Result<StatusCode, Error> {
    let arguments = json!({ "id": id });
    app.database.call::<Value>("withdraw_erasure", arguments, Again::Unsafe).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says that a mailed request was one's own, by the token of our letter about it (Q1).
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    request::Json(Confirm { token, kind }): request::Json<Confirm>,
) -> Result<Json<Value>, Error> {
    if !Secret::new(app.keyed_hash(Use::Confirmation, id)).matches(&token) {
        return Err(Error::invalid(
            "token",
            "is not the one of our letter about this request. Please open its link again.",
        ));
    }
    app.ask("confirm_request", json!({ "id": id, "kind": kind })).await.map(Json)
}
