//! A prediction as Replicate describes it, and what that means for us.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use time::OffsetDateTime;
use url::Url;

use crate::mark::Made;

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
/// The largest difference between Replicate's clock and ours that is tolerated.
const CLOCKS_APART: time::Duration = time::Duration::minutes(5);

/// A prediction as Replicate describes it in responses and webhook events. Members that we do not need are
/// ignored. Optional members that cannot be read are treated as missing.
#[derive(Clone, Debug, Deserialize)]
pub struct Prediction {
    /// Replicate's id: 26 characters of lowercase base32.
    pub(crate) id: String,
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
    pub(crate) version: Option<String>,
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
pub(super) fn if_readable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
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
    pub(crate) fn output(&self) -> Option<Url> {
        let output = self.output.as_ref()?;
        let address = output.as_str().or_else(|| output.get(0)?.as_str())?;
        Url::parse(address).ok()
    }

    /// Returns what is known about the origin of the output. Replicate hides the version of official models.
    #[must_use]
    pub(crate) fn made_by(&self, model: String) -> Made {
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
    pub(crate) fn predict_seconds(&self) -> Option<f64> {
        self.metrics.as_ref()?.predict_time.filter(|seconds| (0.0..100_000.0).contains(seconds))
    }

    /// Returns why the prediction failed, as one of `public.failure_reasons`.
    #[must_use]
    pub(crate) fn failure_reason(&self) -> Option<&'static str> {
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

    /// Returns whether the prediction was certainly created before `since`. `since` is a time of our clock.
    pub(super) fn is_before(&self, since: OffsetDateTime) -> bool {
        self.created_at.is_some_and(|Time(created_at)| created_at < since - CLOCKS_APART)
    }

    /// Returns whether the prediction was made from the photo at `photo`. The name of a photo is never used
    /// twice.
    pub(super) fn is_of(&self, photo: &str) -> bool {
        let image = self.input.as_ref().and_then(|input| input.input_image.as_ref()?.as_str());
        image.and_then(|image| Url::parse(image).ok()).is_some_and(|image| {
            image.path().strip_suffix(photo).is_some_and(|rest| rest.ends_with("/inputs/"))
        })
    }

    /// Returns whether the prediction was canceled, or its platform failed. Another prediction then replaces
    /// it.
    pub(super) fn is_vain(&self) -> bool {
        matches!(self.status, Status::Canceled | Status::Aborted)
            || self.failure_reason() == Some("platform_error")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    #[test]
    fn a_prediction_is_recognised_by_its_photo() {
        let of = |image: Value| {
            prediction(json!({"id": "x", "status": "starting", "input": {"input_image": image}}))
                .is_of("ada/photo.jpg")
        };
        let signed = "https://project.supabase.co/storage/v1/object/sign/inputs";
        assert!(of(json!(format!("{signed}/ada/photo.jpg?token=x"))));
        assert!(!of(json!(format!("{signed}/bob/ada/photo.jpg?token=x"))));
        assert!(!of(json!(format!("{signed}/ada/photo.jpg.png?token=x"))));
        assert!(!of(json!("https://elsewhere.example/?x=/inputs/ada/photo.jpg")));
        assert!(!of(json!(null)));
        assert!(!prediction(json!({"id": "x", "status": "starting"})).is_of("ada/photo.jpg"));
    }

    #[test]
    fn a_prediction_is_replaced_if_it_was_canceled_or_its_platform_failed() {
        let is_vain = |status: &str, error: &str| {
            prediction(json!({"id": "x", "status": status, "error": error})).is_vain()
        };
        assert!(is_vain("canceled", "") && is_vain("aborted", "") && is_vain("failed", "code: PA"));
        for (status, error) in
            [("succeeded", ""), ("starting", ""), ("failed", "E005"), ("queued", "")]
        {
            assert!(!is_vain(status, error), "{status} {error}");
        }
    }
}
