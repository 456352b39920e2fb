//! Reads requests within limits. Errors tell the caller what to change.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::Error;

/// The largest JSON body that any route takes, in bytes.
pub(crate) const JSON_LIMIT: usize = 16 * 1024;

/// How much syntax a JSON body may have (see [`has_little_syntax`]). The longest valid prompt has 2000: 1000
/// emoji, each written as two escapes.
const SYNTAX_LIMIT: usize = 2560;

const NOT_AN_OBJECT: &str = "must be a JSON object.";

/// A JSON body of at most `JSON_LIMIT` bytes.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        let (parts, body) = request.into_parts();
        let body = read_body(&parts.headers, body, JSON_LIMIT).await?;
        let text = str::from_utf8(&body).map_err(|_| Error::invalid("body", NOT_AN_OBJECT))?;
        if !has_little_syntax(text, SYNTAX_LIMIT) {
            return Err(Error::invalid(
                "body",
                "has too many members, elements or escapes. Please send only what the call needs.",
            ));
        }
        serde_json::from_str(text)
            .map(Self)
            .map_err(|fault| Error::invalid("body", describe(&fault)))
    }
}

/// An id from the URL's path.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        // To the caller, an invalid id is the same as an id that does not exist.
        Path::<Uuid>::from_request_parts(parts, state)
            .await
            .map(|Path(id)| Self(id))
            .map_err(|_| Error::NoSuchRoute)
    }
}

/// Reads a body of at most `limit` bytes. Check what the headers say about the sender before you call this.
///
/// # Errors
/// Returns [`Error::BodyTooLarge`], also if the sender breaks off.
pub async fn read_body(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Error> {
    let announced =
        headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(Error::BodyTooLarge { limit });
    }
    to_bytes(body, limit).await.map_err(|_| Error::BodyTooLarge { limit })
}

/// Returns whether a JSON text has at most `allowed` quotes, backslashes and bytes outside strings, all
/// together.
///
/// These are slow to parse: a body that is full of them costs ten times as much as plain text. This function
/// searches instead of parsing, so it costs little.
#[must_use]
pub fn has_little_syntax(json: &str, allowed: usize) -> bool {
    let mut spent = json.matches('\\').take(allowed + 1).count();
    let mut is_in_string = false;
    for part in json.split('"') {
        let is_escaped = is_in_string && ends_with_escape(part);
        spent += 1 + if is_in_string { 0 } else { part.len() };
        if spent > allowed {
            return false;
        }
        is_in_string = !is_in_string || is_escaped;
    }
    true
}

/// Returns whether the character after this part of a string is escaped.
fn ends_with_escape(part: &str) -> bool {
    (part.len() - part.trim_end_matches('\\').len()) % 2 == 1
}

/// Describes what is wrong with a body without quoting it, because a user may have written anything into
/// it.
fn describe(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    let text = &text[..text.rfind(" at line").unwrap_or(text.len())];
    if text.starts_with("missing field") {
        return format!("has a fault: {text}.");
    }
    if let Some((_, expected)) =
        text.rsplit_once(", expected ").filter(|_| text.starts_with("unknown field"))
    {
        return format!("has a member that is not known; expected {expected}.");
    }
    match fault.classify() {
        serde_json::error::Category::Data => {
            format!(
                "has a member of the wrong type at line {}, column {}.",
                fault.line(),
                fault.column()
            )
        }
        _ => NOT_AN_OBJECT.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    async fn read(body: String) -> Result<Value, Error> {
        let request = http::Request::builder().body(Body::from(body)).expect("a request");
        Json::<Value>::from_request(request, &()).await.map(|Json(value)| value)
    }

    #[tokio::test]
    async fn a_body_of_thousands_of_members_is_refused_before_it_is_parsed() {
        for body in [
            format!("{{{}\"a\":0}}", "\"a\":0,".repeat(2000)),
            json!({ "a": vec![0; 5000] }).to_string(),
            json!({ "a": "\n".repeat(5000) }).to_string(),
            "[".repeat(5000),
        ] {
            assert!(matches!(read(body).await, Err(Error::Invalid { field: "body", .. })));
        }
        for value in [
            json!({ "prompt": "\n".repeat(2500), "settings": { "a": 1, "b": [1, 2] } }),
            json!({ "prompt": "[{,:}] ".repeat(2000) }),
        ] {
            assert_eq!(read(value.to_string()).await.ok(), Some(value));
        }
    }

    #[test]
    fn the_characters_of_a_string_are_not_syntax() {
        for (json, syntax) in [
            ("", 1),
            ("{}", 3),
            (r#"{"a":"[{,:}] "}"#, 8),
            (r#""\"""#, 5),
            (r#""\\""#, 5),
            (r#""\\\"[]""#, 7),
            (r#""\\"[]"#, 7),
        ] {
            assert!(has_little_syntax(json, syntax), "{json}");
            assert!(!has_little_syntax(json, syntax - 1), "{json}");
        }
    }

    proptest! {
        #[test]
        fn the_syntax_of_a_string_is_its_quotes_and_backslashes(text in ".*") {
            let json = Value::from(text).to_string();
            let syntax = json.matches(['\\', '"']).count() + 1;
            prop_assert!(has_little_syntax(&json, syntax));
            prop_assert!(!has_little_syntax(&json, syntax - 1));
        }
    }
}
