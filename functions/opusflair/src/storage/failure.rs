//! Interprets Storage's error responses. Hosted Storage answers most errors with 400 and puts the true status
//! into the body.

use http::StatusCode;
use reqwest::Response;
use serde::Deserialize;
use serde_json::Value;

use super::{ANSWER_LIMIT, SERVICE};
use crate::Error;
use crate::cause::Cause;
use crate::config::SECRET_KEY;
use crate::egress::{is_busy, read_limited};

/// An error response.
pub(super) struct Failure {
    /// The true status.
    status: StatusCode,
    body: Body,
}

/// The body of a Storage error. All members are empty if a gateway or a proxy answered instead of Storage.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    /// A string or a number, depending on Storage's version.
    #[serde(rename = "statusCode")]
    status_code: Value,
    /// Newer versions have a `code`. Older ones have a similar text in `error`.
    code: String,
    error: String,
    /// The gateway sets only this member.
    message: String,
}

impl Failure {
    /// Reads an error response.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if the connection breaks.
    pub(super) async fn read(response: Response) -> Result<Self, Error> {
        let status = response.status();
        let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?.unwrap_or_default();
        Ok(Self::parse(status, &body))
    }

    fn parse(outer: StatusCode, body: &[u8]) -> Self {
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let inner = body.status().filter(|_| outer == StatusCode::BAD_REQUEST);
        Self { status: inner.unwrap_or(outer), body }
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns whether Storage says that the object does not exist. A 404 from a gateway, a proxy, or a
    /// Storage that refuses our key proves nothing about the object.
    pub(super) fn is_absence(&self) -> bool {
        self.body.status() == Some(StatusCode::NOT_FOUND) && !self.is_no_bucket()
    }

    /// Returns whether the failure is likely to end within moments.
    pub(super) fn is_temporary(&self) -> bool {
        is_busy(self.status) || self.status == StatusCode::LOCKED
    }

    pub(super) fn error(&self, verb: &'static str) -> Error {
        let cause = Cause::status(verb, self.status.as_u16());
        if self.is_key_refused() {
            Error::key_refused(SERVICE, SECRET_KEY, cause)
        } else {
            Error::unavailable(SERVICE, cause)
        }
    }

    /// Returns whether Storage refuses our key. No policy restricts the service's key, so a refusal means
    /// that the key is wrong. A 401 or 403 that neither Storage nor the gateway wrote comes from a proxy.
    fn is_key_refused(&self) -> bool {
        let is_said = self.body.status().is_some() || !self.body.message.is_empty();
        let is_forbidden = matches!(self.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        let is_bad_token = ["InvalidJWT", "Invalid JWT"]
            .iter()
            .any(|code| self.body.code == *code || self.body.error == *code);
        is_bad_token || self.is_no_bucket() || (is_forbidden && is_said)
    }

    /// Returns whether Storage says that the bucket does not exist. Our buckets always exist, because the
    /// first migration creates them. When a file is fetched with an invalid key, Storage says this of every
    /// private bucket.
    fn is_no_bucket(&self) -> bool {
        self.body.code == "NoSuchBucket" || self.body.error == "Bucket not found"
    }
}

impl Body {
    fn status(&self) -> Option<StatusCode> {
        let code = match &self.status_code {
            Value::String(code) => code.parse().ok()?,
            Value::Number(code) => u16::try_from(code.as_u64()?).ok()?,
            _ => return None,
        };
        StatusCode::from_u16(code).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(status: u16, body: &str) -> Failure {
        Failure::parse(StatusCode::from_u16(status).expect("a status"), body.as_bytes())
    }

    /// Bodies as Storage 1.7x and older versions write them.
    #[test]
    fn only_storage_itself_says_that_there_is_no_object() {
        for (status, body) in [
            (
                400,
                r#"{"statusCode":"404","error":"not_found","code":"NoSuchKey","message":"Object not found"}"#,
            ),
            (
                400,
                r#"{"statusCode":"404","error":"Not found","message":"The resource was not found"}"#,
            ),
            (404, r#"{"statusCode":"404","error":"not_found","message":"Object not found"}"#),
            (400, r#"{"statusCode":404,"error":"not_found","message":"Object not found"}"#),
        ] {
            assert!(failure(status, body).is_absence(), "{body}");
        }
        for (status, body) in [
            (404, ""),
            (404, "{}"),
            (404, "<html>404 Not Found</html>"),
            (404, r#"{"message":"no Route matched with those values"}"#),
            (
                400,
                r#"{"statusCode":"404","error":"Bucket not found","code":"NoSuchBucket","message":"Bucket not found"}"#,
            ),
            (
                400,
                r#"{"statusCode":"404","error":"Bucket not found","message":"Bucket not found"}"#,
            ),
            (400, r#"{"statusCode":"503","error":"SlowDown","message":"not found, perhaps"}"#),
        ] {
            assert!(!failure(status, body).is_absence(), "{body}");
        }
    }

    #[test]
    fn an_outage_inside_a_400_is_an_outage() {
        for (status, body, inner) in [
            (
                400,
                r#"{"statusCode":"503","error":"DatabaseReadOnly","code":"DatabaseReadOnly","message":"The database is currently in read-only mode. Please try again later."}"#,
                503,
            ),
            (
                400,
                r#"{"statusCode":"503","error":"Please reduce your request rate.","code":"S3Error","message":"SlowDown"}"#,
                503,
            ),
            (
                400,
                r#"{"statusCode":503,"error":"acquiring_lock_timeout","code":"LockTimeout","message":"acquiring lock timeout"}"#,
                503,
            ),
            (
                400,
                r#"{"statusCode":"500","error":"DatabaseError","code":"DatabaseError","message":"database error, code: 53300"}"#,
                500,
            ),
            (
                400,
                r#"{"statusCode":"423","error":"ResourceLocked","code":"ResourceLocked","message":"The resource is locked"}"#,
                423,
            ),
            (
                429,
                r#"{"statusCode":"429","error":"too_many_connections","code":"SlowDown","message":"Too many connections issued to the database"}"#,
                429,
            ),
            (
                544,
                r#"{"statusCode":"544","error":"DatabaseTimeout","code":"DatabaseTimeout","message":"The connection to the database timed out"}"#,
                544,
            ),
            (522, "error code: 522", 522),
            (502, "<html>502 Bad Gateway</html>", 502),
        ] {
            let failure = failure(status, body);
            assert!(failure.is_temporary() && !failure.is_absence(), "{body}");
            let error = failure.error("upload");
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert!(error.to_string().contains(&format!("status {inner}")), "{error} of {body}");
        }
    }

    #[test]
    fn a_refused_key_names_its_variable_and_is_not_retried() {
        for (status, body) in [
            (
                400,
                r#"{"statusCode":"403","error":"Unauthorized","code":"AccessDenied","message":"signature verification failed"}"#,
            ),
            (403, r#"{"statusCode":"403","error":"Unauthorized","message":"Invalid Compact JWS"}"#),
            (400, r#"{"statusCode":"400","error":"Invalid JWT","message":"jwt malformed"}"#),
            (
                400,
                r#"{"statusCode":"404","error":"Bucket not found","code":"NoSuchBucket","message":"Bucket not found"}"#,
            ),
            (
                401,
                r#"{"message":"Invalid API key","hint":"Double check your Supabase `anon` or `service_role` API key."}"#,
            ),
            (401, r#"{"message":"Unauthorized"}"#),
        ] {
            let failure = failure(status, body);
            assert!(!failure.is_temporary() && !failure.is_absence(), "{body}");
            let error = failure.error("download").to_string();
            assert!(error.contains("check SUPABASE_SECRET_KEY"), "{error} of {body}");
        }
        for (status, body) in
            [(403, "<!DOCTYPE html><title>Attention Required!</title>"), (401, "")]
        {
            let error = failure(status, body).error("download");
            assert!(matches!(error, Error::Unavailable { .. }), "{error}");
        }
    }
}
