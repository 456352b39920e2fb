//! Authenticates the operator: a caller who knows `OPERATOR_SECRET`.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::caller::bearer;
use crate::{App, Error};

/// Proof that the caller is the operator. If no secret is configured, every caller is rejected.
#[derive(Clone, Copy, Debug)]
pub struct Operator(());

impl FromRequestParts<Arc<App>> for Operator {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Error> {
        let secret = app.config.operator_secret.as_ref().ok_or(Error::NotOperator)?;
        let token = bearer(parts).ok_or(Error::NotOperator)?;
        if secret.matches(token) { Ok(Self(())) } else { Err(Error::NotOperator) }
    }
}
