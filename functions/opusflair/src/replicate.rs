//! The client of Replicate's API. It can create, get, list and cancel predictions.

mod list;

use std::time::Duration;

use http::StatusCode;
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::Url;

use crate::Error;
use crate::cause::Cause;
use crate::config::Config;
use crate::egress::{Egress, read_limited, retry_after, seconds_to_wait, send_idempotent};
use crate::mark::Made;
use crate::secret::Secret;

pub use list::Listing;

const SERVICE: &str = "Replicate";
/// The largest response that is read, in bytes: a prediction with its logs. The largest ones seen have a few
/// hundred kilobytes.
const ANSWER_LIMIT: usize = 2 * 1024 * 1024;
/// How often a create call is sent, including the first attempt. A retry is safe only after a response of 429
/// or a failed connection, because then no prediction was created.
const CREATE_TRIES: u32 = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// The time limit of one call. The user waits for this call.
const CALL_TIME: Duration = Duration::from_secs(10);
/// Parts of error texts that say that the platform failed, not the model. Another attempt may succeed. E003
/// means high demand, E004 temporarily unavailable, E1001 out of memory, and E6716 that the start took too
/// long.
const PLATFORM_FAULTS: [&str; 12] = [
    "(E003)",
    "high demand",
    "(E004)",
    "temporarily unavailable",
    "code: PA",
    "interrupted",
    "Director",
    "E1001",
    "E6716",
    "E8765",
    "E9243",
    "E9828",
];

/// Replicate's API, used with one account.
pub struct Replicate {
    egress: Egress,
    address: Url,
    token: Secret,
}

/// A prediction as Replicate describes it in responses and webhook events. Members that we do not need are
/// ignored. Optional members that cannot be read are treated as missing.
#[derive(Clone, Debug, Deserialize)]
pub struct Prediction {
    /// Replicate's id: 26 characters of lowercase base32.
    pub id: String,
    /// The current status.
    pub status: Status,
    /// One URL or a list of URLs, depending on the model.
    #[serde(default)]
    output: Option<Value>,
    /// The error text of the model or the platform, used only to classify failures. It may quote the prompt,
    /// so it is never logged.
    #[serde(default)]
    error: Option<Value>,
    /// The version of the model that ran. Official models have `hidden`.
    #[serde(default, deserialize_with = "if_readable")]
    pub version: Option<String>,
    #[serde(default, deserialize_with = "if_readable")]
    metrics: Option<Metrics>,
    #[serde(default, deserialize_with = "if_readable")]
    input: Option<Input>,
    #[serde(default, deserialize_with = "if_readable")]
    created_at: Option<Time>,
    #[serde(default, deserialize_with = "if_readable")]
    completed_at: Option<Time>,
    /// Whether Replicate has deleted the input and the output, an hour after the end.
    #[serde(default, deserialize_with = "if_readable")]
    data_removed: Option<bool>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Time(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

/// Reads a member. Returns `None` if it does not have the expected type.
fn if_readable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[derive(Clone, Debug, Deserialize)]
struct Input {
    #[serde(default)]
    input_image: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
struct Metrics {
    #[serde(default)]
    predict_time: Option<f64>,
}

/// The status of a prediction, spelled as Replicate spells it.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Accepted, but not running yet.
    Starting,
    /// Running.
    Processing,
    /// Finished, with an output.
    Succeeded,
    /// Finished, with an error.
    Failed,
    /// Canceled by us, or by its deadline while it was running.
    Canceled,
    /// Canceled by its deadline before it started to run.
    Aborted,
    /// A status that we do not know. The prediction is treated as running.
    #[serde(other)]
    Unknown,
}

/// The result of a create call. Replicate has no idempotency keys, so a result that is not certain has its
/// own variant.
#[derive(Debug)]
pub enum Creation {
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

/// Replicate's answer about the state of a prediction.
#[derive(Debug)]
pub enum Answer {
    /// The prediction exists.
    Found(Box<Prediction>),
    /// Replicate does not know the prediction. A single such answer proves nothing.
    Absent,
    /// The answer says nothing about the prediction. This affects only this prediction.
    Unreadable(Error),
}

/// The parameters of a create call.
#[derive(Debug)]
pub struct NewPrediction<'a> {
    /// `owner/name`.
    pub model: &'a str,
    /// The input that the model defines.
    pub input: Value,
    /// The URL that receives the prediction's events.
    pub webhook: &'a Url,
    /// The time after which Replicate cancels the prediction, in seconds.
    pub deadline_seconds: u32,
}

impl Status {
    /// Returns the status as Replicate spells it. An unknown status becomes `unknown`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Aborted => "aborted",
            Self::Unknown => "unknown",
        }
    }
}

impl Prediction {
    /// Returns the URL of the output. If there are several outputs, returns the first.
    #[must_use]
    pub fn output(&self) -> Option<Url> {
        let output = self.output.as_ref()?;
        let address = output.as_str().or_else(|| output.get(0)?.as_str())?;
        Url::parse(address).ok()
    }

    /// Returns what is known about the origin of the output. Replicate hides the version of official models.
    #[must_use]
    pub fn made_by(&self, model: String) -> Made {
        Made {
            model,
            version: self.version.clone().filter(|version| version != "hidden"),
            at: self.completed_at.map_or_else(OffsetDateTime::now_utc, |Time(at)| at),
        }
    }

    /// Returns whether Replicate says that it has deleted the input and the output (T3).
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.data_removed == Some(true)
    }

    /// Returns the run time in seconds.
    #[must_use]
    pub fn predict_seconds(&self) -> Option<f64> {
        self.metrics.as_ref()?.predict_time.filter(|seconds| (0.0..100_000.0).contains(seconds))
    }

    /// Returns why the prediction failed, as one of `public.failure_reasons`.
    #[must_use]
    pub fn failure_reason(&self) -> Option<&'static str> {
        match self.status {
            Status::Failed => {}
            Status::Succeeded if self.is_removed() => return Some("lost"),
            _ => return None,
        }
        let text = self.error.as_ref().and_then(Value::as_str).unwrap_or_default();
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        Some(if says(&["E005", "flagged as sensitive", "NSFW"]) {
            "content_flagged"
        } else if says(&["(E006)"]) {
            "input_invalid"
        } else if says(&PLATFORM_FAULTS) {
            "platform_error"
        } else {
            "model_error"
        })
    }
}

impl Replicate {
    pub(crate) fn new(config: &Config, egress: Egress) -> Self {
        Self {
            egress,
            address: config.replicate_url.clone(),
            token: config.replicate_token.clone(),
        }
    }

    /// Creates a prediction. The call is retried only if it certainly created nothing.
    ///
    /// # Errors
    /// Returns [`Error::Fault`] if the URL is not on the allow-list. Every other result is a [`Creation`].
    pub async fn create(&self, new: &NewPrediction<'_>) -> Result<Creation, Error> {
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

    /// Asks Replicate about a prediction.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if Replicate does not respond, or refuses the account. The response
    /// then says nothing about any prediction.
    pub async fn get(&self, id: &str) -> Result<Answer, Error> {
        let request = self.request(Method::GET, ["predictions", id].into_iter())?;
        let response = send_idempotent(SERVICE, request).await?;
        let status = response.status();
        let said = Error::unavailable(SERVICE, Cause::status("get", status.as_u16()));
        if status == StatusCode::NOT_FOUND {
            return Ok(Answer::Absent);
        }
        if is_of_everybody(status) {
            return Err(said);
        }
        if !status.is_success() {
            return Ok(Answer::Unreadable(said));
        }
        let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?;
        Ok(match body.map(|body| serde_json::from_slice(&body)) {
            Some(Ok(prediction)) => Answer::Found(Box::new(prediction)),
            Some(Err(_)) => Answer::Unreadable(unreadable()),
            None => Answer::Unreadable(Error::unavailable(SERVICE, "an answer that is too long")),
        })
    }

    /// Cancels a prediction. A prediction that has ended stays as it is.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if Replicate does not accept the call.
    pub async fn cancel(&self, id: &str) -> Result<(), Error> {
        let request = self.request(Method::POST, ["predictions", id, "cancel"].into_iter())?;
        let response = send_idempotent(SERVICE, request.body("")).await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => Err(Error::unavailable(SERVICE, Cause::status("cancel", status.as_u16()))),
        }
    }

    fn request<'a>(
        &self,
        method: Method,
        path: impl Iterator<Item = &'a str>,
    ) -> Result<RequestBuilder, Error> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::fault("the address of Replicate"))?
            .pop_if_empty()
            .extend(path);
        let request = self.egress.request(method, url)?.timeout(crate::pace::limit(CALL_TIME));
        Ok(request.bearer_auth(self.token.reveal()).header("content-type", "application/json"))
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

/// Returns whether this status affects all predictions: Replicate is down or busy, or refuses the account.
fn is_of_everybody(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::PAYMENT_REQUIRED
                | StatusCode::FORBIDDEN
        )
}

fn unreadable() -> Error {
    Error::unavailable(SERVICE, "an unreadable answer")
}

async fn read_prediction(response: Response) -> Result<Prediction, Error> {
    read(response, ANSWER_LIMIT).await
}

async fn read<T: DeserializeOwned>(response: Response, limit: usize) -> Result<T, Error> {
    let body = read_limited(SERVICE, response, limit)
        .await?
        .ok_or_else(|| Error::unavailable(SERVICE, "an answer that is too long"))?;
    serde_json::from_slice(&body).map_err(|_| unreadable())
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

    fn prediction(body: Value) -> Prediction {
        serde_json::from_value(body).expect("a prediction")
    }

    #[test]
    fn every_status_is_read_in_replicates_spelling() {
        for status in ["starting", "processing", "succeeded", "failed", "canceled", "aborted"] {
            assert_eq!(prediction(json!({"id": "x", "status": status})).status.as_str(), status);
        }
    }

    #[test]
    fn an_unknown_status_counts_as_running() {
        let queued = prediction(json!({"id": "x", "status": "queued"}));
        assert_eq!((queued.status, queued.failure_reason()), (Status::Unknown, None));
    }

    #[test]
    fn an_optional_member_that_cannot_be_read_is_ignored() {
        let odd = prediction(json!({
            "id": "x", "status": "succeeded", "output": "https://replicate.delivery/out.png", "version": 7,
            "metrics": "fast", "input": [], "created_at": "yesterday", "data_removed": "no",
        }));
        assert!(odd.output().is_some() && !odd.is_removed() && odd.predict_seconds().is_none());
        assert!(serde_json::from_value::<Prediction>(json!({"status": "succeeded"})).is_err());
    }

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

    #[test]
    fn an_output_is_one_url_or_the_first_of_a_list() {
        let output = |output: Value| {
            prediction(json!({"id": "x", "status": "succeeded", "output": output})).output()
        };
        let address = Url::parse("https://replicate.delivery/out.png").ok();
        assert_eq!(output(json!("https://replicate.delivery/out.png")), address);
        assert_eq!(output(json!(["https://replicate.delivery/out.png", "https://x"])), address);
        for none in [json!(null), json!([]), json!(""), json!({}), json!(7)] {
            assert_eq!(output(none.clone()), None, "{none}");
        }
    }

    #[test]
    fn each_failure_has_a_reason_of_the_closed_list() {
        for (text, reason) in [
            ("The input or output was flagged as sensitive. (E005)", "content_flagged"),
            ("Prediction interrupted; please retry (code: PA)", "platform_error"),
            ("Director: unexpected error handling prediction (E9828)", "platform_error"),
            (
                "Service is currently unavailable due to high demand. Please try again later. (E003) (x7)",
                "platform_error",
            ),
            (
                "Service is temporarily unavailable. Please try again later. (E004)",
                "platform_error",
            ),
            ("The input is not valid. (E006)", "input_invalid"),
            ("unknown (E1000)", "model_error"),
            ("", "model_error"),
        ] {
            let failed = prediction(json!({"id": "x", "status": "failed", "error": text}));
            assert_eq!(failed.failure_reason(), Some(reason), "{text}");
        }
        assert_eq!(prediction(json!({"id": "x", "status": "canceled"})).failure_reason(), None);
        let removed =
            json!({"id": "x", "status": "succeeded", "output": null, "data_removed": true});
        assert_eq!(prediction(removed).failure_reason(), Some("lost"));
    }
}
