//! Errors in Replicate's words.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::{Value, json};

/// A problem document as Replicate returns it.
pub(crate) struct Problem {
    status: StatusCode,
    body: Value,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, title: &str, detail: &str) -> Self {
        let body = json!({ "title": title, "detail": detail, "status": status.as_u16() });
        Self { status, body }
    }

    pub(crate) fn unauthenticated() -> Self {
        let detail = "You did not pass a valid authentication token";
        Self::new(StatusCode::UNAUTHORIZED, "Unauthenticated", detail)
    }

    pub(crate) fn not_found() -> Self {
        let detail = "The requested resource could not be found.";
        Self::new(StatusCode::NOT_FOUND, "Not found", detail)
    }

    pub(crate) fn internal() -> Self {
        let detail = "An unexpected error occurred.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error", detail)
    }

    pub(crate) fn throttled(retry_after: u64) -> Self {
        let detail = format!("Request was throttled. Expected available in {retry_after} seconds.");
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", &detail);
        problem.body["retry_after"] = json!(retry_after);
        problem
    }

    pub(crate) fn unknown_version() -> Self {
        let detail = "The specified version does not exist \
                      (or perhaps you don't have permission to use it?)";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid version or not permitted", detail)
    }

    pub(crate) fn unpaid() -> Self {
        let detail = "You have insufficient credit to run this model.";
        Self::new(StatusCode::PAYMENT_REQUIRED, "Insufficient credit", detail)
    }

    /// A refusal with any other status.
    pub(crate) fn refused(status: u64) -> Self {
        let status =
            u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::FORBIDDEN);
        Self::new(status, status.canonical_reason().unwrap_or("Refused"), "Not for this account.")
    }

    /// The body is unreadable or too large.
    pub(crate) fn unreadable(rejection: &JsonRejection) -> Self {
        Self::new(rejection.status(), "Bad request", &rejection.body_text())
    }

    /// A 422 with the invalid fields.
    pub(crate) fn invalid(faults: &[Invalid]) -> Self {
        let lines: Vec<String> = faults
            .iter()
            .map(|Invalid { field, description, .. }| format!("- {field}: {description}\n"))
            .collect();
        let mut problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Input validation failed", &lines.concat());
        problem.body["invalid_fields"] = json!(faults);
        problem
    }
}

/// An invalid field, in the words of Replicate's validator.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Invalid {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) field: String,
    pub(crate) description: String,
}

impl Invalid {
    pub(crate) fn new(kind: &'static str, field: &str, description: String) -> Self {
        Self { kind, field: field.to_owned(), description }
    }

    /// A required field is missing. `field` is its full path.
    pub(crate) fn required(field: &str) -> Self {
        let name = field.rsplit('.').next().unwrap_or(field);
        Self::new("required", field, format!("{name} is required"))
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(&[invalid])
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let kind = [(CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, Json(self.body).into_response().into_body()).into_response()
    }
}

pub(crate) async fn not_found() -> Problem {
    Problem::not_found()
}
