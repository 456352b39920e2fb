//! The one list of what a log line may hold (R5): each name, with the shape that its value must have.

use serde_json::Value;
use uuid::Uuid;

use crate::Error;
use crate::cause::Cause;

use Shape::{Count, Failure, Flag, Id, Place, Prediction, Route, Sentence, Word};

/// Every field that is written. Who adds one asks whether it can ever hold what somebody sent.
const FIELDS: &[(&str, Shape)] = &[
    ("attempts", Count),
    ("bucket", Word(&["inputs", "artworks", "exports"])),
    ("closed", Count),
    ("complete", Flag),
    ("deletion", Id),
    ("elapsed_ms", Count),
    ("erased", Count),
    ("error", Failure),
    ("expired", Count),
    ("export", Id),
    ("exported", Count),
    ("generation", Id),
    ("letters", Count),
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
            "submit",
            "erase",
            "errands",
            "delete",
            "removals",
            "inactivity",
            "letters",
            "requests",
            "rows",
            "exports",
            "unconfirmed",
        ]),
    ),
    ("submitted", Count),
    ("verified", Count),
    ("why", Failure),
];

/// What a value must look like.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A UUID of ours.
    Id,
    /// An id of Replicate's: 26 characters of lowercase base32.
    Prediction,
    /// A number from zero: of things, of milliseconds, of HTTP.
    Count,
    /// Yes or no.
    Flag,
    /// One of these.
    Word(&'static [&'static str]),
    /// A route as the router has it, with `{id}` for what people put there; `none` where there is none.
    Route,
    /// A source file and the line in it.
    Place,
    /// An error of ours, by its type: its text is made of words of ours, numbers and codes.
    Failure,
    /// Words and plain punctuation. `tests` sees to it that ours stand in the source as they are.
    Sentence,
}

/// A value as it was passed to a log line.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    Number(u64),
    Flag(bool),
    Text(&'a str),
    Error(&'a (dyn std::error::Error + 'static)),
}

/// The shape of a field, if it is on the list.
pub(super) fn shape(name: &str) -> Option<Shape> {
    FIELDS.iter().find(|(listed, _)| *listed == name).map(|(_, shape)| *shape)
}

impl Shape {
    /// The value as it is written, if it has this shape.
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
        let only = |text: &str, allowed: fn(&u8) -> bool| {
            !text.is_empty() && text.len() <= 60 && text.bytes().all(|byte| allowed(&byte))
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
