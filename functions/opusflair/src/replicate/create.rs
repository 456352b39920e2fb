//! The call that creates a prediction. Replicate has no idempotency keys, so the call is sent again only if it
//! certainly created nothing.

use std::time::Duration;

use http::StatusCode;
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::prediction::if_readable;
use super::{ANSWER_LIMIT, Prediction, Replicate, SERVICE, read};
use crate::Error;
use crate::egress::{read_limited, retry_after, seconds_to_wait};

/// How often a create call is sent, including the first attempt. A retry is safe only after a response of 429
/// or a failed connection, because then no prediction was created.
const CREATE_TRIES: u32 = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The result of a create call. Replicate has no idempotency keys, so a result that is not certain has its
/// own variant.
#[derive(Debug)]
pub(crate) enum Creation {
    /// The prediction was created.
    Created(Box<Prediction>),
    /// The model refuses this photo or these settings. Nothing was created, and a retry cannot succeed.
    Refused(StatusCode),
    /// Replicate refuses the account, whatever the request asks for. Nothing was created.
    AccountRefused(StatusCode),
    /// Replicate does not know or does not permit the model or the webhook. The operator must repair this.
    /// Nothing was created.
    Misconfigured(StatusCode),
    /// Replicate throttles or is unreachable. Nothing was created, and a retry may succeed.
    Busy,
    /// The response was lost. The prediction may exist. If it does, its webhook events will tell us.
    Unknown,
}

/// The parameters of a create call.
#[derive(Debug)]
pub(crate) struct NewPrediction<'a> {
    /// `owner/name`.
    pub(crate) model: &'a str,
    /// The input that the model defines.
    pub(crate) input: Value,
    /// The URL that receives the prediction's events.
    pub(crate) webhook: &'a Url,
    /// The time after which Replicate cancels the prediction, in seconds.
    pub(crate) deadline_seconds: u32,
}

impl Replicate {
    /// Creates a prediction. The call is retried only if it certainly created nothing.
    ///
    /// # Errors
    /// Returns [`Error::Fault`] if the URL is not on the allow-list. Every other result is a [`Creation`].
    pub(crate) async fn create(&self, new: &NewPrediction<'_>) -> Result<Creation, Error> {
        let path = ["models"].into_iter().chain(new.model.split('/')).chain(["predictions"]);
        let body = json!({
            "input": new.input,
            "webhook": new.webhook.as_str(),
            "webhook_events_filter": ["start", "completed"],
        });
        let request = self
            .request(Method::POST, path)?
            .header("cancel-after", format!("{}s", new.deadline_seconds))
            .json(&body);

        let mut attempt = 1;
        loop {
            let copy = request.try_clone().ok_or_else(|| Error::fault("a JSON body"))?;
            match copy.send().await {
                Ok(response) if response.status() == StatusCode::TOO_MANY_REQUESTS => {
                    if attempt == CREATE_TRIES {
                        return Ok(Creation::Busy);
                    }
                    tokio::time::sleep(throttle(response).await).await;
                }
                Ok(response) => return Ok(interpret_create_response(response).await),
                // The connection failed before anything was sent, so nothing was created.
                Err(fault) if fault.is_connect() => {
                    if attempt == CREATE_TRIES {
                        return Ok(Creation::Busy);
                    }
                }
                Err(_) => return Ok(Creation::Unknown),
            }
            attempt += 1;
        }
    }
}

async fn interpret_create_response(response: Response) -> Creation {
    match response.status() {
        status if status.is_success() => match read_prediction(response).await {
            Ok(prediction) => Creation::Created(Box::new(prediction)),
            Err(_) => Creation::Unknown,
        },
        status @ (StatusCode::UNAUTHORIZED
        | StatusCode::PAYMENT_REQUIRED
        | StatusCode::FORBIDDEN) => Creation::AccountRefused(status),
        status @ (StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => {
            if is_about_input(response).await {
                Creation::Refused(status)
            } else {
                Creation::Misconfigured(status)
            }
        }
        status if status.is_client_error() => Creation::Misconfigured(status),
        _ => Creation::Unknown,
    }
}

/// Returns whether a refusal names a member of the input. Otherwise, the refusal may be about the model, its
/// version or the webhook, which the operator must repair.
async fn is_about_input(response: Response) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        #[serde(default, deserialize_with = "if_readable")]
        invalid_fields: Option<Vec<Field>>,
        #[serde(default, deserialize_with = "if_readable")]
        detail: Option<String>,
    }
    #[derive(Deserialize)]
    struct Field {
        field: String,
    }
    let Ok(Some(body)) = read_limited(SERVICE, response, ANSWER_LIMIT).await else {
        return false;
    };
    let Ok(problem) = serde_json::from_slice::<Problem>(&body) else {
        return false;
    };
    match problem.invalid_fields {
        Some(fields) => fields.iter().any(|Field { field }| field.starts_with("input")),
        None => problem.detail.is_some_and(|detail| detail.contains("input")),
    }
}

async fn read_prediction(response: Response) -> Result<Prediction, Error> {
    read(response, ANSWER_LIMIT).await
}

/// Returns how long to wait after a 429: the time in the body, otherwise the time in the header, otherwise
/// one second. The result is between `SHORTEST_PAUSE` and `LONGEST_PAUSE`.
async fn throttle(response: Response) -> Duration {
    #[derive(Deserialize)]
    struct Throttled {
        retry_after: Option<f64>,
    }
    let header = retry_after(response.headers());
    let body = read_limited(SERVICE, response, ANSWER_LIMIT).await.ok().flatten();
    body.and_then(|body| serde_json::from_slice::<Throttled>(&body).ok()?.retry_after)
        .and_then(seconds_to_wait)
        .or(header)
        .unwrap_or(Duration::from_secs(1))
        .clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_throttled_call_waits_for_a_bounded_time() {
        let throttled = |header: &str, body: &str| {
            let answer = http::Response::builder().status(429).header("retry-after", header);
            throttle(Response::from(answer.body(body.to_owned()).expect("an answer")))
        };
        for (header, body, pause) in [
            ("nan", "{}", 1_000),
            ("inf", "{}", 1_000),
            ("-5", "<html>", 1_000),
            ("1e300", "{}", 1_000),
            ("Fri, 27 Nov 2026 18:00:00 GMT", "{}", 1_000),
            ("86400", "{}", 3_000),
            ("0", "{}", 100),
            ("nan", r#"{"retry_after": 2}"#, 2_000),
            ("2", r#"{"retry_after": -1}"#, 2_000),
            ("2", r#"{"retry_after": 1e300}"#, 2_000),
        ] {
            let waited = throttled(header, body).await;
            assert_eq!(waited, Duration::from_millis(pause), "{header} {body}");
        }
    }
}
