//! What can go wrong, in one enum with one status table. Each error has two messages: what the caller
//! may know and can do, and what the operator needs; the second is logged once, at the boundary, and
//! holds nothing that came from outside (R5).

use http::StatusCode;
use photo::Rejection;
use serde_json::{Map, Value};

use crate::cause::Cause;
use crate::signature::InvalidSignature;

/// A failed request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No token, or one that Auth does not accept.
    #[error("not signed in")]
    NotSignedIn,
    /// The operator's secret is missing or wrong.
    #[error("not the operator")]
    NotOperator,
    /// No such route.
    #[error("no such route")]
    NoSuchRoute,
    /// The route exists, with other methods.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// The body is longer than `limit` bytes.
    #[error("body over {limit} bytes")]
    BodyTooLarge {
        /// In bytes.
        limit: usize,
    },
    /// A member of the body, a header or a path segment is missing or cannot be read.
    #[error("invalid {field}")]
    Invalid {
        /// Its name.
        field: &'static str,
        /// What it must be, for people; not for the log.
        detail: String,
    },
    /// The photo cannot be used.
    #[error("photo rejected: {0}")]
    Photo(Rejection),
    /// A webhook that was not signed as it should be.
    #[error("webhook refused: {0}")]
    Signature(#[from] InvalidSignature),
    /// The database says no, with what people may know (`private.refuse`).
    #[error("refused: {}", .0.code)]
    Refused(Box<Refusal>),
    /// A service that is needed does not answer as it should; worth another try.
    #[error("{service} is unavailable: {cause}")]
    Unavailable {
        /// Its name.
        service: &'static str,
        /// For the log.
        cause: Cause,
    },
    /// A service refuses a key of ours: only the operator can help. Until then it is an outage to whoever calls.
    #[error("{service} refuses our key: check {variable} ({cause})")]
    KeyRefused {
        /// Its name.
        service: &'static str,
        /// The variable of the configuration that holds the key.
        variable: &'static str,
        /// For the log.
        cause: Cause,
    },
    /// A fault of ours.
    #[error("fault: {0}")]
    Fault(Cause),
}

/// A refusal of the database's, in the words that people may see.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status it chose.
    pub status: StatusCode,
    /// The machine-readable code: a word.
    pub code: String,
    /// The sentence for people.
    pub sentence: String,
    /// Further members of the problem document.
    pub members: Map<String, Value>,
}

impl Error {
    /// A service does not answer as it should.
    pub fn unavailable(service: &'static str, cause: impl Into<Cause>) -> Self {
        Self::Unavailable { service, cause: cause.into() }
    }

    /// A service refuses the key that `variable` holds. It is logged here, at error level: callers that only postpone
    /// their work would log a warning.
    pub fn key_refused(
        service: &'static str,
        variable: &'static str,
        cause: impl Into<Cause>,
    ) -> Self {
        let error = Self::KeyRefused { service, variable, cause: cause.into() };
        tracing::error!(error = error.for_log(), "a key was refused");
        error
    }

    /// Something that must not happen did.
    pub fn fault(cause: impl Into<Cause>) -> Self {
        Self::Fault(cause.into())
    }

    /// A field that cannot be read; `detail` says what it must be.
    pub fn invalid(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Invalid { field, detail: detail.into() }
    }

    /// As a field of a log line, which takes no other error than ours (`telemetry`).
    #[must_use]
    pub fn for_log(&self) -> &(dyn std::error::Error + 'static) {
        self
    }

    /// The HTTP status of each error: the one table.
    #[must_use]
    pub fn status(&self) -> StatusCode {
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

    /// The machine-readable code, stable across releases.
    #[must_use]
    pub fn code(&self) -> &str {
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

    /// What happened and what to do about it, for whoever called. Nothing internal.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::NotSignedIn => {
                "Sign in and send the access token as `Authorization: Bearer …`.".to_owned()
            }
            Self::NotOperator => {
                "Send the operator's secret as `Authorization: Bearer …`.".to_owned()
            }
            Self::NoSuchRoute => "There is nothing at this address.".to_owned(),
            Self::MethodNotAllowed => "This address does not take this method.".to_owned(),
            Self::BodyTooLarge { limit } => format!("The body may have at most {limit} bytes."),
            Self::Invalid { field, detail } => format!("{field} {detail}"),
            Self::Photo(rejection) => rejection.sentence(),
            Self::Signature(_) => "The webhook's signature was not accepted.".to_owned(),
            Self::Refused(refusal) => refusal.sentence.clone(),
            Self::Unavailable { .. } | Self::KeyRefused { .. } => {
                "A service we depend on is not answering. Please try again in a minute: the same request with the \
                 same Idempotency-Key is made and paid for once."
                    .to_owned()
            }
            Self::Fault(_) => "Something went wrong on our side; it has been noted.".to_owned(),
        }
    }

    /// Further members of the problem document.
    #[must_use]
    pub fn members(&self) -> Map<String, Value> {
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
