//! Writes one log line. Each value is checked against the list. A value that does not pass is replaced by
//! `[withheld]`, which shows that something was left out.

use std::fmt::{self, Debug, Write};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::list::{Given, shape};

const WITHHELD: &str = "[withheld]";

/// The format of log lines. The JSON formatter of `tracing-subscriber` cannot filter the fields of an event,
/// so lines are formatted here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// Plain text, for people.
    Text,
    /// JSON, for `CloudWatch`, which adds the time itself.
    Json,
}

/// The checked fields, in the order in which they were passed.
#[derive(Default)]
struct Line(Vec<(&'static str, Value)>);

impl Line {
    fn note(&mut self, field: &Field, given: Given<'_>) {
        let admitted = shape(field.name()).and_then(|shape| shape.admit(given));
        self.0.push((field.name(), admitted.unwrap_or_else(|| WITHHELD.into())));
    }
}

impl Visit for Line {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, Given::Number(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.note(field, Given::Number(u64::try_from(value).unwrap_or(u64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.note(field, Given::Flag(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, Given::Text(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.note(field, Given::Error(value));
    }

    /// Receives values that were passed with `%` or `?`, and all types without a method of their own.
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.note(field, Given::Text(&format!("{value:?}")));
    }
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level();
        let mut line = Line::default();
        event.record(&mut line);
        match self {
            Self::Text => {
                SystemTime.format_time(&mut writer)?;
                write!(writer, " {level:>5}")?;
                line.write_text(&mut writer)?;
            }
            Self::Json => {
                let fields: Map<_, _> =
                    line.0.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                write!(writer, "{}", json!({ "level": level.as_str(), "fields": fields }))?;
            }
        }
        writeln!(writer)
    }
}

impl Line {
    /// Writes the message first, then the fields.
    fn write_text(&self, out: &mut impl Write) -> fmt::Result {
        let (messages, fields): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|(name, _)| *name == "message");
        for (_, message) in messages {
            write!(out, " {}", message.as_str().unwrap_or_default())?;
        }
        for (name, value) in fields {
            match value {
                Value::String(text) => write!(out, " {name}={text}")?,
                value => write!(out, " {name}={value}")?,
            }
        }
        Ok(())
    }
}
