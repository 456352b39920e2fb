//! The only list of what a log line may hold (R5): each field's name, with the shape that its value must
//! have.

use serde_json::Value;
use uuid::Uuid;

use crate::Error;
use crate::cause::Cause;

use Shape::{Count, Failure, Flag, Id, Place, Prediction, Route, Sentence, Word};

/// All fields that can be logged. Before you add one, make sure that it can never hold anything that a user
/// sent.
const FIELDS: &[(&str, Shape)] = &[
    ("attempts", Count),
    ("bucket", Word(&["inputs", "artworks", "exports"])),
    ("closed", Count),
    ("complete", Flag),
    ("deletion", Id),
    ("dispatched", Count),
    ("elapsed_ms", Count),
    ("emails", Count),
    ("erased", Count),
    ("error", Failure),
    ("expired", Count),
    ("export", Id),
    ("exported", Count),
    ("generation", Id),
    ("message", Sentence),
    ("method", Word(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"])),
    ("objects", Count),
    ("outcome", Word(&["Recorded", "Stored", "Failed", "Ended", "Superseded", "Waiting"])),
    ("place", Place),
    ("port", Count),
    ("prediction", Prediction),
    (
        "prediction_status",
        Word(&["starting", "processing", "succeeded", "failed", "canceled", "aborted", "unknown"]),
    ),
    ("overdue", Count),
    ("remaining", Count),
    ("removed", Count),
    ("request_id", Id),
    ("route", Route),
    ("settled", Count),
    ("status", Count),
    (
        "step",
        Word(&[
            "audit",
            "settle",
            "dispatch",
            "erase",
            "outbox",
            "delete",
            "removals",
            "inactivity",
            "emails",
            "requests",
            "rows",
            "exports",
            "unconfirmed",
        ]),
    ),
    ("verified", Count),
    ("why", Failure),
];

/// The shape that a value must have.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// One of our UUIDs.
    Id,
    /// The id of a prediction at Replicate: 26 characters of lowercase base32.
    Prediction,
    /// A number that is not negative: a count, milliseconds, or an HTTP status.
    Count,
    /// True or false.
    Flag,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A route as the router has it, with `{id}` in place of an id. `none` if no route matched.
    Route,
    /// A source file and a line number.
    Place,
    /// One of our own error types. Their text consists of our own words, numbers and codes.
    Failure,
    /// Words and plain punctuation. A test in `tests` checks that every message in the source is such a
    /// literal.
    Sentence,
}

/// A value that was passed to a log line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    Number(u64),
    Flag(bool),
    Text(&'a str),
    Error(&'a (dyn std::error::Error + 'static)),
}

/// Returns the shape of a field if the field is on the list.
pub(super) fn shape(name: &str) -> Option<Shape> {
    FIELDS.iter().find(|(listed, _)| *listed == name).map(|(_, shape)| *shape)
}

impl Shape {
    /// Returns the value as it is written, if it has this shape.
    pub(super) fn admit(self, given: Given<'_>) -> Option<Value> {
        match (self, given) {
            (Count, Given::Number(number)) => Some(number.into()),
            (Flag, Given::Flag(flag)) => Some(flag.into()),
            (Failure, Given::Error(error)) => {
                let is_ours = error.is::<Error>() || error.is::<Cause>();
                is_ours.then(|| error.to_string().into())
            }
            (_, Given::Text(text)) => self.fits(text).then(|| text.into()),
            _ => None,
        }
    }

    fn fits(self, text: &str) -> bool {
        let most = if matches!(self, Sentence) { 100 } else { 60 };
        let only = |text: &str, allowed: fn(&u8) -> bool| {
            !text.is_empty() && text.len() <= most && text.bytes().all(|byte| allowed(&byte))
        };
        match self {
            Id => text.len() == 36 && Uuid::try_parse(text).is_ok(),
            Prediction => {
                text.len() == 26
                    && only(text, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            }
            Word(words) => words.contains(&text),
            Route => {
                let is_part = |part: &str| {
                    let name = part.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                    only(name.unwrap_or(part), |byte| {
                        byte.is_ascii_lowercase() || b"-.".contains(byte)
                    })
                };
                text == "none"
                    || text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(is_part))
            }
            Place => text.split_once(".rs:").is_some_and(|(file, line)| {
                only(file, |byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                    && only(line, u8::is_ascii_digit)
            }),
            Sentence => only(text, |byte| byte.is_ascii_alphabetic() || b" ,'".contains(byte)),
            Count | Flag | Failure => false,
        }
    }
}
