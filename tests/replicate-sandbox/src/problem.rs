//! Errors in Replicate's words.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

/// A problem document as Replicate answers it.
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

    /// 422, with the fields that are at fault: (field, what is wrong).
    pub(crate) fn invalid(faults: &[(String, String)]) -> Self {
        let lines: Vec<String> =
            faults.iter().map(|(field, fault)| format!("- {field}: {fault}\n")).collect();
        let mut problem =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Input validation failed", &lines.concat());
        let fields = faults.iter().map(
            |(field, fault)| json!({ "type": "invalid", "field": field, "description": fault }),
        );
        problem.body["invalid_fields"] = fields.collect();
        problem
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
