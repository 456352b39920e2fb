//! Problem documents (RFC 9457), and the boundary at which each failure is logged once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{App, Error, cors};

/// The header that identifies the request. The log has the same id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The default of `Retry-After`, in seconds, if the error does not set it.
const RETRY_AFTER_SECONDS: u64 = 10;

/// An error that a handler returns. The boundary turns it into a problem document with the request's id. If
/// the request was about one generation, the log names that generation.
#[derive(Clone, Debug)]
pub struct Failure {
    error: Arc<Error>,
    generation: Option<Uuid>,
}

impl Error {
    /// Adds the generation that the error is about, for the log.
    #[must_use]
    pub fn of(self, generation: Uuid) -> Failure {
        Failure { generation: Some(generation), ..self.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error: Arc::new(error), generation: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = self.error.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        Failure::from(self).into_response()
    }
}

/// Adds the boundary to a function's routes: every error leaves as a problem document, including those of the
/// router. Around it, web pages of the app's origins may call the routes.
pub fn with_boundary(app: &App, routes: Router) -> Router {
    bounded(routes).layer(cors::layer(&app.config.app_origins))
}

fn bounded(routes: Router) -> Router {
    routes
        .fallback(|| async { Error::NoSuchRoute })
        .method_not_allowed_fallback(|| async { Error::MethodNotAllowed })
        .layer(middleware::from_fn(boundary))
}

async fn boundary(matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let id = Uuid::new_v4().to_string();
    let method = listed(request.method());
    let started = Instant::now();
    // A panic ends only this request. Its message is not logged. The panic hook has already logged its place
    // (`telemetry`).
    let response = AssertUnwindSafe(next.run(request))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Error::fault("a handler panicked").into_response());

    // Log the route, never the path, because a path may contain personal data.
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let status = response.status().as_u16();
    let elapsed_ms = started.elapsed().as_millis();
    match response.extensions().get::<Failure>().cloned() {
        None => {
            tracing::info!(request_id = id, method, route, status, elapsed_ms, "answered");
            named(response, &id)
        }
        Some(Failure { error, generation }) => {
            let generation = generation.map(tracing::field::display);
            if error.status().is_server_error() {
                tracing::error!(
                    request_id = id,
                    method,
                    route,
                    status,
                    elapsed_ms,
                    generation,
                    error = error.for_log(),
                    "failed"
                );
            } else {
                tracing::info!(
                    request_id = id,
                    method,
                    route,
                    status,
                    elapsed_ms,
                    generation,
                    error = error.for_log(),
                    "refused"
                );
            }
            let mut answer = named(document(&error, &id), &id);
            // The router says which methods the address has.
            if let Some(methods) = response.headers().get(ALLOW) {
                answer.headers_mut().insert(ALLOW, methods.clone());
            }
            answer
        }
    }
}

/// A caller may invent a method name, so an unknown method is logged as `other`.
fn listed(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        .into_iter()
        .find(|name| method == name)
        .unwrap_or("other")
}

fn named(mut response: Response, id: &str) -> Response {
    let id = HeaderValue::from_str(id).expect("a UUID is a header value");
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn document(error: &Error, request_id: &str) -> Response {
    let status = error.status();
    let mut members = Map::new();
    members.insert("type".to_owned(), Value::from("about:blank"));
    members.insert("title".to_owned(), Value::from(status.canonical_reason().unwrap_or("Error")));
    members.insert("status".to_owned(), Value::from(status.as_u16()));
    members.insert("detail".to_owned(), Value::from(error.detail()));
    members.insert("code".to_owned(), Value::from(error.code()));
    members.insert("request_id".to_owned(), Value::from(request_id));
    members.extend(error.members());
    let retry_after = members.get("retry_after").and_then(Value::as_u64);

    let mut response = (status, Value::Object(members).to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::UNAUTHORIZED && !matches!(error, Error::Signature(_)) {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        let seconds = retry_after.unwrap_or(RETRY_AFTER_SECONDS);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn panics() -> &'static str {
        panic!("secret cause")
    }

    async fn ask(method: &str, path: &str) -> (Response<()>, Value) {
        let broken = || async { Err::<(), _>(Error::unavailable("the database", "secret cause")) };
        let router = bounded(Router::new().route("/broken", get(broken).put(panics)));
        let request = Request::builder().method(method).uri(path).body(Body::empty());
        let response = router.oneshot(request.expect("a request")).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 10_000).await.expect("a body");
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).expect("JSON"))
    }

    #[tokio::test]
    async fn an_error_leaves_as_a_problem_document_without_its_cause() {
        let (response, problem) = ask("GET", "/broken").await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert!(response.headers().contains_key(RETRY_AFTER));
        assert_eq!(problem["code"], "unavailable");
        assert_eq!(problem["status"], 503);
        assert_eq!(response.headers()[REQUEST_ID], problem["request_id"].as_str().expect("an id"));
        assert!(!problem.to_string().contains("secret cause"));
    }

    #[tokio::test]
    async fn a_handler_that_panics_answers_500_without_the_panic_message() {
        let (response, problem) = ask("PUT", "/broken").await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(problem["request_id"], response.headers()[REQUEST_ID].to_str().expect("an id"));
        assert!(!problem.to_string().contains("secret cause"));
    }

    #[tokio::test]
    async fn an_unknown_route_and_a_wrong_method_are_problems_too() {
        let (response, problem) = ask("GET", "/nowhere").await;
        assert_eq!((response.status().as_u16(), &problem["code"]), (404, &"no_such_route".into()));
        let (response, problem) = ask("POST", "/broken").await;
        assert_eq!(
            (response.status().as_u16(), &problem["code"]),
            (405, &"method_not_allowed".into())
        );
        assert_eq!(response.headers()[ALLOW], "GET,HEAD,PUT");
    }
}
