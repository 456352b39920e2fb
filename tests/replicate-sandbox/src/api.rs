//! The endpoints for predictions: list, get, cancel.

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::account::authenticate;
use crate::create;
use crate::faults::Fault;
use crate::prediction::{Prediction, Status};
use crate::problem::Problem;
use crate::sandbox::Shared;

const PAGE: usize = 100;

pub(crate) fn router() -> Router<Shared> {
    Router::new()
        .route("/predictions", get(list).merge(create::by_version()))
        .route("/models/{owner}/{name}/predictions", create::by_model())
        .route("/predictions/{id}", get(show))
        .route("/predictions/{id}/cancel", post(cancel))
}

#[derive(Deserialize)]
struct Cursor {
    cursor: Option<String>,
}

async fn list(
    State(sandbox): State<Shared>,
    headers: HeaderMap,
    Query(Cursor { cursor }): Query<Cursor>,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let base = sandbox.base();
    let contents = sandbox.contents();
    let page = page(&contents.predictions, cursor.as_deref()).ok_or_else(Problem::not_found)?;
    let address = |id: &str| format!("{base}/v1/predictions?cursor={id}");
    let mut results: Vec<Value> = page.results.iter().map(|found| found.to_json(&base)).collect();
    if let Some(newest) = results.first_mut()
        && sandbox.faults.strikes(Fault::ListUnreadable).is_some()
    {
        newest["id"] = json!(7);
    }
    Ok(Json(json!({
        "previous": page.previous.map(address),
        "next": page.next.map(address),
        "results": results,
    })))
}

/// Up to a hundred predictions, and the cursors of the previous and next page.
struct Page<'a> {
    previous: Option<&'a str>,
    next: Option<&'a str>,
    results: Vec<&'a Prediction>,
}

/// The page that starts at `cursor`, or the newest page without one. `None` if no prediction has that id.
fn page<'a>(predictions: &'a [Prediction], cursor: Option<&str>) -> Option<Page<'a>> {
    let newest_first: Vec<&Prediction> = predictions.iter().rev().collect();
    let start = match cursor {
        None => 0,
        Some(id) => newest_first.iter().position(|found| found.id == id)?,
    };
    let id_at = |index: usize| newest_first.get(index).map(|found| found.id.as_str());
    Some(Page {
        previous: (start > 0).then(|| start.saturating_sub(PAGE)).and_then(id_at),
        next: id_at(start + PAGE),
        results: newest_first.iter().skip(start).take(PAGE).copied().collect(),
    })
}

async fn show(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    if sandbox.faults.strikes(Fault::Get500).is_some() {
        return Err(Problem::internal());
    }
    if sandbox.faults.strikes(Fault::Get404).is_some() {
        return Err(Problem::not_found());
    }
    let found = sandbox.find(&id).ok_or_else(Problem::not_found)?;
    let mut body = found.to_json(&sandbox.base());
    if sandbox.faults.strikes(Fault::GetUnreadable).is_some() {
        body["id"] = json!({ "of": id });
    }
    if sandbox.faults.strikes(Fault::GetOddStatus).is_some() {
        body["status"] = json!("queued");
    }
    Ok(Json(body))
}

async fn cancel(
    State(sandbox): State<Shared>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    authenticate(&sandbox, &headers)?;
    let now = sandbox.clock.now();
    sandbox.change(&id, |found| {
        found.status = Status::Canceled;
        found.completed_at = Some(now);
    });
    let found = sandbox.find(&id).ok_or_else(Problem::not_found)?;
    Ok(Json(found.to_json(&sandbox.base())))
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn pages_are_newest_first_and_link_to_each_other() {
        let predictions: Vec<Prediction> =
            (0..250).map(|_| Prediction::example(OffsetDateTime::UNIX_EPOCH)).collect();
        let ids: Vec<&str> = predictions.iter().rev().map(|found| found.id.as_str()).collect();

        let first = page(&predictions, None).expect("a page");
        let second = page(&predictions, first.next).expect("a page");
        let third = page(&predictions, second.next).expect("a page");
        let seen = [&first, &second, &third].map(|page| page.results.len());
        assert_eq!((seen, third.next), ([100, 100, 50], None));
        assert_eq!(
            (first.previous, second.previous, third.previous),
            (None, Some(ids[0]), Some(ids[100]))
        );
        let listed: Vec<&str> = [first, second, third]
            .iter()
            .flat_map(|page| page.results.iter().map(|found| found.id.as_str()))
            .collect();
        assert_eq!(listed, ids);
        assert!(page(&predictions, Some("nobody")).is_none());
        assert!(page(&[], None).is_some_and(|page| page.results.is_empty()));
    }
}
