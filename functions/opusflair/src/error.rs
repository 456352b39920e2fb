//! All errors in one enum, with one table of HTTP statuses. Each error has two messages. One tells the caller
//! what happened and what to do. The other is for the operator. It is logged once, at the boundary, and
//! contains nothing that came from outside (R5).

use http::StatusCode;
use photo::Rejection;
use serde_json::{Map, Value};

use crate::cause::Cause;
use crate::signature::InvalidSignature;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The token is missing, or Auth does not accept it.
    #[error("not signed in")]
    NotSignedIn,
    /// The operator's secret is missing or wrong.
    #[error("not the operator")]
    NotOperator,
    /// The route does not exist.
    #[error("no such route")]
    NoSuchRoute,
    /// The route exists, but not for this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The body is longer than `limit` bytes.
    #[error("body over {limit} bytes")]
    BodyTooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// A member of the body, a header or a path segment is missing or invalid.
    #[error("invalid {field}")]
    Invalid {
        /// The name of the field.
        field: &'static str,
        /// What the field must be, for people. It must not be logged.
        detail: String,
    },
    /// The photo cannot be used.
    #[error("photo rejected: {0}")]
    Photo(Rejection),
    /// The signature of a webhook is not valid.
    #[error("webhook refused: {0}")]
    Signature(#[from] InvalidSignature),
    /// The database refused the request, with a message that people may see (`private.refuse`).
    #[error("refused: {}", .0.code)]
    Refused(Box<Refusal>),
    /// A required service fails. A retry may succeed.
    #[error("{service} is unavailable: {cause}")]
    Unavailable {
        /// The name of the service.
        service: &'static str,
        /// The cause, for the log.
        cause: Cause,
    },
    /// A service refuses one of our keys. Only the operator can repair this. Callers see an outage.
    #[error("{service} refuses our key: check {variable} ({cause})")]
    KeyRefused {
        /// The name of the service.
        service: &'static str,
        /// The environment variable that holds the key.
        variable: &'static str,
        /// The cause, for the log.
        cause: Cause,
    },
    /// A fault in our own code or configuration.
    #[error("fault: {0}")]
    Fault(Cause),
}

/// A refusal by the database, in words that people may see.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status that the database chose.
    pub(crate) status: StatusCode,
    /// The machine-readable code: a word.
    pub(crate) code: String,
    /// The sentence for people.
    pub(crate) sentence: String,
    /// Additional members of the problem document.
    pub(crate) members: Map<String, Value>,
}

impl Error {
    /// A service fails.
    pub fn unavailable(service: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { service, cause: cause.into() }
    }

    /// A service refuses the key that `variable` holds. This logs the refusal at error level, because callers
    /// that postpone their work would log only a warning.
    pub(crate) fn key_refused(
        service: &'static str,
        variable: &'static str,
        cause: impl Into<Cause>,
    ) -> Self {
        let error = Self::KeyRefused { service, variable, cause: cause.into() };
        tracing::error!(error = error.for_log(), "a key was refused");
        error
    }

    /// Something happened that should be impossible.
    pub fn fault(cause: impl Into<Cause>) -> Self {
        Self::Fault(cause.into())
    }

    /// A field is invalid. `detail` says what it must be.
    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }

    /// The error as a field of a log line. The log accepts no other error types (`telemetry`).
    #[must_use]
    pub fn for_log(&self) -> &(dyn std::error::Error + 'static) {
        self
    }

    /// The HTTP status of each error. This is the only such table.
    #[must_use]
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NotSignedIn | Self::NotOperator | Self::Signature(_) => StatusCode::UNAUTHORIZED,
            Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid { .. } | Self::Photo(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Refused(refusal) => refusal.status,
            Self::Unavailable { .. } | Self::KeyRefused { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Fault(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The machine-readable code. It is stable across releases.
    #[must_use]
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::NotSignedIn => "not_signed_in",
            Self::NotOperator => "not_operator",
            Self::NoSuchRoute => "no_such_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Invalid { .. } => "invalid_request",
            Self::Photo(rejection) => rejection.code(),
            Self::Signature(_) => "invalid_signature",
            Self::Refused(refusal) => &refusal.code,
            Self::Unavailable { .. } | Self::KeyRefused { .. } => "unavailable",
            Self::Fault(_) => "internal_error",
        }
    }

    /// What happened and what to do about it, for the caller. It contains nothing internal.
    #[must_use]
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::NotSignedIn => {
                "Sign in and send the access token as `Authorization: Bearer …`.".to_owned()
            }
            Self::NotOperator => {
                "Send the operator's secret as `Authorization: Bearer …`.".to_owned()
            }
            Self::NoSuchRoute => "There is no call at this address. Please check the path.".to_owned(),
            Self::MethodNotAllowed => "This address does not accept this method.".to_owned(),
            Self::BodyTooLarge { limit } => format!("The body may have at most {limit} bytes."),
            Self::Invalid { field, detail } => format!("{field} {detail}"),
            Self::Photo(rejection) => rejection.sentence(),
            Self::Signature(_) => "The webhook's signature was not accepted.".to_owned(),
            Self::Refused(refusal) => refusal.sentence.clone(),
            Self::Unavailable { .. } | Self::KeyRefused { .. } => {
                "A service we depend on is not answering. Please try again in a minute. A request that is sent again \
                 with the same Idempotency-Key is carried out and paid for only once."
                    .to_owned()
            }
            Self::Fault(_) => {
                "Something went wrong on our side. We have a record of it. Please try again later."
                    .to_owned()
            }
        }
    }

    /// Additional members of the problem document.
    #[must_use]
    pub(crate) fn members(&self) -> Map<String, Value> {
        match self {
            Self::Invalid { field, .. } => {
                Map::from_iter([("field".to_owned(), Value::from(*field))])
            }
            Self::Photo(_) => Map::from_iter([("field".to_owned(), Value::from("input_path"))]),
            Self::Refused(refusal) => refusal.members.clone(),
            _ => Map::new(),
        }
    }
}
