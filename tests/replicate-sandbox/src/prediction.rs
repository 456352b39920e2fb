//! A prediction, and its JSON form in Replicate's API.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

use crate::fate::Fate;

/// The statuses, in Replicate's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Starting,
    Processing,
    Succeeded,
    Failed,
    Canceled,
    Aborted,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Aborted => "aborted",
        }
    }

    pub(crate) fn is_terminal(self) -> bool {
        !matches!(self, Self::Starting | Self::Processing)
    }
}

/// The events that a webhook may receive.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Event {
    Start,
    Output,
    Logs,
    Completed,
}

impl Event {
    pub(crate) const ALL: [Self; 4] = [Self::Start, Self::Output, Self::Logs, Self::Completed];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Output => "output",
            Self::Logs => "logs",
            Self::Completed => "completed",
        }
    }
}

/// A prediction with all its data.
#[derive(Clone, Debug)]
pub(crate) struct Prediction {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) version: String,
    pub(crate) input: Map<String, Value>,
    pub(crate) output: Option<String>,
    /// Number of output pictures. It is still reported after they are deleted.
    pub(crate) images: u8,
    pub(crate) logs: String,
    pub(crate) error: Option<String>,
    pub(crate) status: Status,
    pub(crate) data_removed: bool,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) started_at: Option<OffsetDateTime>,
    pub(crate) completed_at: Option<OffsetDateTime>,
    pub(crate) deadline: Option<OffsetDateTime>,
    pub(crate) webhook: Option<String>,
    pub(crate) events: Vec<Event>,
    pub(crate) fate: Fate,
    /// Wakes those that wait for a change of this prediction. All clones share it.
    pub(crate) changes: watch::Sender<()>,
}

impl Prediction {
    /// A prediction that has just been created.
    #[cfg(test)]
    pub(crate) fn example(created_at: OffsetDateTime) -> Self {
        Self {
            id: crate::sandbox::new_id(),
            model: "black-forest-labs/flux-kontext-pro".to_owned(),
            version: "hidden".to_owned(),
            input: Map::from_iter([("prompt".to_owned(), json!("a poster"))]),
            output: None,
            images: 0,
            logs: String::new(),
            error: None,
            status: Status::Starting,
            data_removed: false,
            created_at,
            started_at: None,
            completed_at: None,
            deadline: None,
            webhook: None,
            events: Vec::new(),
            fate: Fate::default(),
            changes: watch::Sender::default(),
        }
    }

    /// The object as the API returns it.
    pub(crate) fn to_json(&self, base: &str) -> Value {
        let time = |at: Option<OffsetDateTime>| at.and_then(|at| at.format(&Rfc3339).ok());
        let mut body = json!({
            "id": self.id,
            "model": self.model,
            "version": self.version,
            "input": self.input,
            "logs": self.logs,
            "output": self.output,
            "data_removed": self.data_removed,
            "error": self.error,
            "source": "api",
            "status": self.status.as_str(),
            "created_at": time(Some(self.created_at)),
            "urls": {
                "cancel": format!("{base}/v1/predictions/{}/cancel", self.id),
                "get": format!("{base}/v1/predictions/{}", self.id),
                "web": format!("https://replicate.com/p/{}", self.id),
            },
        });
        let members = [
            ("started_at", time(self.started_at)),
            ("completed_at", time(self.completed_at)),
            ("deadline", time(self.deadline)),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                body[name] = json!(value);
            }
        }
        if let (Some(started), Some(completed)) = (self.started_at, self.completed_at) {
            let seconds = (completed - started).as_seconds_f64();
            body["metrics"] = json!({ "image_count": self.images, "predict_time": seconds });
        }
        body
    }

    /// The body of a webhook event: the object, the webhook and its filter.
    pub(crate) fn to_event(&self, base: &str) -> Value {
        let mut body = self.to_json(base);
        body["webhook"] = json!(self.webhook);
        body["webhook_events_filter"] = self.events.iter().map(|event| event.as_str()).collect();
        body
    }

    /// Deletes all data that is kept for only one hour.
    pub(crate) fn remove_data(&mut self) {
        self.input.clear();
        self.logs.clear();
        self.output = None;
        self.data_removed = true;
    }

    pub(crate) fn seed(&self) -> u64 {
        self.input.get("seed").and_then(Value::as_u64).unwrap_or_else(|| {
            self.id
                .bytes()
                .fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()))
                % 1_000_000
        })
    }
}
