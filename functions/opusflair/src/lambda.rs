//! Runs a function on AWS Lambda. It gets HTTP requests (payload format 2.0) and, if it has a schedule,
//! scheduled events. Every other event is a failed invocation, so that the metric `Errors` counts it and
//! nothing else happens.

use axum::Router;
use axum::response::Response;
use http::Uri;
use lambda_http::lambda_runtime::Diagnostic;
use lambda_http::request::RequestContext;
use lambda_http::tower::ServiceExt;
use lambda_http::{Body, Request, service_fn};
use serde::Deserialize;

use crate::{App, problem};

pub use lambda_http::Error;

/// Serves a function's routes until Lambda ends the process. `POST /events` gets scheduled events. If that
/// route does not answer with a success, the invocation fails.
///
/// # Errors
/// The runtime's own errors, for example if its API cannot be reached.
pub async fn run(app: &App, routes: Router) -> Result<(), Error> {
    let routes = problem::with_boundary(app, routes);
    lambda_http::run(service_fn(move |request| answer(routes.clone(), request))).await
}

async fn answer(routes: Router, mut request: Request) -> Result<Response, Diagnostic> {
    let is_event = match request.extensions().get::<RequestContext>() {
        Some(RequestContext::PassThrough) => true,
        Some(RequestContext::ApiGatewayV2(context)) => {
            let path = context.stage.as_deref().and_then(|stage| without_stage(&request, stage));
            if let Some(path) = path {
                *request.uri_mut() = path;
            }
            false
        }
        _ => false,
    };
    if is_event && !is_scheduled(request.body()) {
        tracing::error!("an event is neither a request nor from the schedule");
        return Err(failure(
            "UnknownEvent",
            "This event is neither an HTTP request (payload format 2.0) nor a scheduled event.",
        ));
    }
    let Ok(response) = routes.oneshot(request).await;
    if is_event && !response.status().is_success() {
        return Err(failure("ScheduledWorkFailed", "The log says why the scheduled work failed."));
    }
    Ok(response)
}

fn failure(kind: &str, message: &str) -> Diagnostic {
    Diagnostic { error_type: kind.to_owned(), error_message: message.to_owned() }
}

/// The members by which `EventBridge` says that an event is from a rule's or the Scheduler's schedule.
#[derive(Deserialize)]
struct Event {
    source: String,
    #[serde(rename = "detail-type")]
    detail_type: String,
}

fn is_scheduled(body: &Body) -> bool {
    serde_json::from_slice::<Event>(body).is_ok_and(|Event { source, detail_type }| {
        ["aws.events", "aws.scheduler"].contains(&source.as_str())
            && detail_type == "Scheduled Event"
    })
}

/// The path without the name of the stage. Behind a stage other than `$default`, API Gateway puts it in front.
fn without_stage(request: &Request, stage: &str) -> Option<Uri> {
    let rest = request.uri().path_and_query()?.as_str().strip_prefix('/')?.strip_prefix(stage)?;
    if stage != "$default" && rest.starts_with('/') { rest.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_named_stage_is_taken_off_the_path() {
        for (path, stage, expected) in [
            ("/prod/generations?a=b", "prod", Some("/generations?a=b")),
            ("/prod/", "prod", Some("/")),
            ("/production/generations", "prod", None),
            ("/generations", "$default", None),
            ("/$default/generations", "$default", None),
        ] {
            let request = http::Request::builder().uri(path).body(Body::Empty).expect("a request");
            let found = without_stage(&request, stage).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn only_events_of_a_schedule_are_scheduled() {
        let event = |source: &str, kind: &str| {
            Body::from(serde_json::json!({ "source": source, "detail-type": kind }).to_string())
        };
        assert!(is_scheduled(&event("aws.events", "Scheduled Event")));
        assert!(is_scheduled(&event("aws.scheduler", "Scheduled Event")));
        assert!(!is_scheduled(&event("my.app", "Scheduled Event")));
        assert!(!is_scheduled(&event("aws.events", "AWS API Call via CloudTrail")));
        for body in ["{}", "null", "\"aws.events\"", "[]", ""] {
            assert!(!is_scheduled(&Body::from(body)), "{body}");
        }
    }
}
