//! What only the operator may call: a pass of `cleanup` now, without waiting for the clock.

use std::env;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Json, Router};
use opusflair::caller::bearer;
use opusflair::secret::Secret;
use opusflair::{App, Error};

#[derive(Clone)]
struct Operator {
    app: Arc<App>,
    secret: Arc<Secret>,
}

/// The operator's routes.
///
/// # Errors
/// Where `OPERATOR_SECRET` is not set: no secret must never mean no check.
pub(crate) fn routes(app: Arc<App>) -> Result<Router, &'static str> {
    let secret = env::var("OPERATOR_SECRET").unwrap_or_default();
    if secret.len() < 16 {
        return Err("OPERATOR_SECRET must have at least 16 characters");
    }
    let operator = Operator { app, secret: Arc::new(Secret::new(secret)) };
    Ok(Router::new().route("/cleanup", post(pass)).with_state(operator))
}

async fn pass(
    State(operator): State<Operator>,
    request: Request,
) -> Result<Json<cleanup::Report>, Error> {
    let (parts, _) = request.into_parts();
    if !bearer(&parts).is_some_and(|token| operator.secret.matches(token)) {
        return Err(Error::NotOperator);
    }
    cleanup::run(&operator.app).await.map(Json)
}
