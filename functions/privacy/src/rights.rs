//! The rights that need more than a change of one row: export, erasure, and the
//! confirmation of a request by email.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::LOCATION;
use opusflair::caller::{Caller, ConfirmedCaller};
use opusflair::database::Retry;
use opusflair::pseudonym::Use;
use opusflair::request::{self, PathId};
use opusflair::secret::Secret;
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// The email of the account, typed again by the user.
    #[serde(default)]
    email: Option<String>,
    /// The phone number of an account without an email, typed again by the user.
    #[serde(default)]
    phone: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirm {
    /// The token from our email.
    token: String,
    /// The kind of the request, if the sender wants to specify it.
    #[serde(default)]
    kind: Option<String>,
}

/// Orders an export (G5). Sweeps build it.
pub(crate) async fn export(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Error> {
    let ordered: Value =
        app.database.call_as(&caller, "request_export", json!({}), Retry::Unsafe).await?;
    Ok((StatusCode::ACCEPTED, Json(ordered)).into_response())
}

/// Orders the erasure of the account (G3). Sweeps carry it out.
pub(crate) async fn erase(
    State(app): State<Arc<App>>,
    ConfirmedCaller(caller): ConfirmedCaller,
    request::Json(Erase { email, phone }): request::Json<Erase>,
) -> Result<Response, Error> {
    let arguments = json!({ "email": email, "phone": phone });
    let ordered: Value =
        app.database.call_as(&caller, "erase_account", arguments, Retry::Safe).await?;
    crash::reached("erasure.ordered");
    // Relative to the URL of the request.
    let location = format!("erasures/{}", ordered["id"].as_str().unwrap_or_default());
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], Json(ordered)).into_response())
}

/// Returns the state of an erasure. Anyone with its id may ask, because the tokens of a
/// closed account no longer work.
pub(crate) async fn erasure(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
) -> Result<Json<Value>, Error> {
    app.ask("read_erasure", json!({ "id": id })).await.map(Json)
}

/// Withdraws an erasure during its grace period.
pub(crate) async fn withdraw(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
) -> Result<StatusCode, Error> {
    let arguments = json!({ "id": id });
    app.database.call::<Value>("withdraw_erasure", arguments, Retry::Unsafe).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Confirms a request that came by email. The token from our email shows that the user
/// owns the sender's address (Q1).
pub(crate) async fn confirm(
    State(app): State<Arc<App>>,
    PathId(id): PathId,
    request::Json(Confirm { token, kind }): request::Json<Confirm>,
) -> Result<Json<Value>, Error> {
    if !Secret::new(app.keyed_hash(Use::Confirmation, id)).matches(&token) {
        return Err(Error::invalid(
            "token",
            "does not belong to this request. Please open the link in our email again.",
        ));
    }
    app.ask("confirm_request", json!({ "id": id, "kind": kind })).await.map(Json)
}
