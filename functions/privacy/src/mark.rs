//! The detector (X7): says whether an artwork is kept here, by the digest of its bytes.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use opusflair::{App, Error};
use serde::Deserialize;
use serde_json::json;

use crate::handler::{FRESH, OPEN};

#[derive(Deserialize)]
pub(crate) struct Asked {
    sha256: Digest,
}

/// A SHA-256: 64 hexadecimal digits, in lower case.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Digest(String);

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(mut text: String) -> Result<Self, Self::Error> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("not a SHA-256");
        }
        text.make_ascii_lowercase();
        Ok(Self(text))
    }
}

/// Answers yes or no. After an artwork is deleted, only cached answers may still
/// say yes, and they expire soon.
pub(crate) async fn mark(
    State(app): State<Arc<App>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Error> {
    // The query error is not returned, because it quotes the request.
    let Ok(Query(Asked { sha256: Digest(sha256) })) = asked else {
        return Err(Error::invalid(
            "sha256",
            "must be given once: the SHA-256 of the file, as 64 hexadecimal digits. `sha256sum` prints it.",
        ));
    };
    let made_here: bool = app.ask("is_made_here", json!({ "sha256": sha256 })).await?;
    Ok(([OPEN, FRESH], Json(json!({ "made_here": made_here }))).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Option<String> {
        let uri = format!("/privacy/mark?{query}").parse().expect("an address");
        Query::<Asked>::try_from_uri(&uri).ok().map(|Query(asked)| asked.sha256.0)
    }

    #[test]
    fn a_digest_is_64_hexadecimal_digits_of_either_case() {
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(read(&format!("sha256={digest}")), Some(digest.clone()));
        assert_eq!(read(&format!("a=b&sha256={}", digest.to_uppercase())), Some(digest));
    }

    #[test]
    fn a_missing_repeated_or_invalid_digest_is_refused() {
        let digest = "a".repeat(64);
        for query in [
            String::new(),
            "sha256".to_owned(),
            "sha256=".to_owned(),
            format!("SHA256={digest}"),
            format!("sha256={digest}&sha256={digest}"),
            format!("sha256={digest}0"),
            format!("sha256={}", &digest[1..]),
            format!("sha256=%20{}", &digest[1..]),
            format!("sha256={}g", &digest[1..]),
            format!("sha256={}%00", &digest[1..]),
            // 64 bytes that are not digits, and 64 digits that are not ASCII.
            format!("sha256={}", "%C3%A9".repeat(32)),
            format!("sha256={}", "%D9%A1".repeat(64)),
        ] {
            assert_eq!(read(&query), None, "{query}");
        }
    }
}
