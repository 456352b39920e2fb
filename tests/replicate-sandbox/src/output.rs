//! Serves finished pictures as `replicate.delivery` does: without authentication, for one hour.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE,
};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use crate::faults::Fault;
use crate::sandbox::{Shared, Stored};

/// The time after which earlier bytes have been sent.
const UNTIL_SENT: Duration = Duration::from_millis(100);

pub(crate) fn router() -> Router<Shared> {
    Router::new().route("/output/{id}/{name}", get(serve))
}

async fn serve(
    State(sandbox): State<Shared>,
    Path((id, _)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let faults = &sandbox.faults;
    let Some(stored) = sandbox.contents().outputs.get(&id).cloned() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if faults.strikes(Fault::OutputExpired).is_some() {
        return StatusCode::NOT_FOUND.into_response();
    }
    if faults.strikes(Fault::Output500).is_some() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if faults.strikes(Fault::OutputRedirect).is_some() {
        return Redirect::temporary("http://127.0.0.1:9/elsewhere").into_response();
    }
    if faults.strikes(Fault::OutputWrongType).is_some() {
        let page = "<!doctype html><title>Not what you wanted</title>";
        return ([(CONTENT_TYPE, stored.content_type)], page).into_response();
    }
    if faults.strikes(Fault::OutputTooLarge).is_some() {
        return endless(stored);
    }
    if faults.strikes(Fault::OutputTruncated).is_some() {
        let half = stored.bytes.slice(..stored.bytes.len() / 2);
        // If the error came at once, not even the headers would be sent.
        let loss = stream::once(async {
            tokio::time::sleep(UNTIL_SENT).await;
            Err(std::io::Error::other("the connection is lost"))
        });
        let broken = stream::iter([Ok(half)]).chain(loss);
        return with_length(&stored, stored.bytes.len(), Body::from_stream(broken));
    }
    if let Some(milliseconds) = faults.strikes(Fault::OutputStall) {
        let length = stored.bytes.len();
        let whole = stored.bytes.clone();
        let late = stream::once(async move {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            Ok::<Bytes, std::io::Error>(whole)
        });
        return with_length(&stored, length, Body::from_stream(late));
    }
    whole_or_part(&stored, &headers)
}

fn with_length(stored: &Stored, length: usize, body: Body) -> Response {
    let headers =
        [(CONTENT_TYPE, stored.content_type.clone()), (CONTENT_LENGTH, length.to_string())];
    (headers, body).into_response()
}

/// Sends the picture and then endless zeros, without a content length.
fn endless(stored: Stored) -> Response {
    let zeros = Bytes::from(vec![0; 1024 * 1024]);
    let more = stream::repeat_with(move || Ok(zeros.clone())).take(200);
    let body = stream::once(async move { Ok::<_, std::io::Error>(stored.bytes) }).chain(more);
    ([(CONTENT_TYPE, stored.content_type)], Body::from_stream(body)).into_response()
}

fn whole_or_part(stored: &Stored, headers: &HeaderMap) -> Response {
    let digest: String = hex::encode(Sha256::digest(&stored.bytes));
    let tag = format!("\"{digest}\"");
    let header = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
    if header(IF_NONE_MATCH) == Some(&tag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, tag)]).into_response();
    }
    let common = [
        (CONTENT_TYPE, stored.content_type.clone()),
        (ETAG, tag),
        (ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let length = stored.bytes.len();
    let Some(range) = header(RANGE) else {
        return (common, stored.bytes.clone()).into_response();
    };
    let Some((first, last)) = part(range, length) else {
        let range = [(CONTENT_RANGE, format!("bytes */{length}"))];
        return (StatusCode::RANGE_NOT_SATISFIABLE, range).into_response();
    };
    let range = [(CONTENT_RANGE, format!("bytes {first}-{last}/{length}"))];
    let bytes = stored.bytes.slice(first..=last);
    (StatusCode::PARTIAL_CONTENT, common, range, bytes).into_response()
}

/// The first and last byte of a range: `0-9`, `10-`, or `-5` for the last five.
fn part(range: &str, length: usize) -> Option<(usize, usize)> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let end = length.checked_sub(1)?;
    let (first, last) = match (first, last) {
        ("", count) => (length.saturating_sub(count.parse().ok()?), end),
        (first, "") => (first.parse().ok()?, end),
        (first, last) => (first.parse().ok()?, last.parse::<usize>().ok()?.min(end)),
    };
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_in_each_of_its_forms() {
        for (range, expected) in [
            ("bytes=0-9", Some((0, 9))),
            ("bytes=90-", Some((90, 99))),
            ("bytes=-5", Some((95, 99))),
            ("bytes=-500", Some((0, 99))),
            ("bytes=90-500", Some((90, 99))),
            ("bytes=100-", None),
            ("bytes=9-3", None),
            ("bytes=-0", None),
            ("lines=1-2", None),
        ] {
            assert_eq!(part(range, 100), expected, "{range}");
        }
    }
}
