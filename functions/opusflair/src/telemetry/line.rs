//! One line. Each value goes past the list on its way in, and what does not pass shows as withheld:
//! that something was written here which may not be, and not what.

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

/// How lines are written. The formatters of `tracing-subscriber` would do, but the one for JSON asks
/// nobody about the fields of an event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// For people.
    Text,
    /// For `CloudWatch`, which notes the time itself.
    Json,
}

/// What has passed, in the order in which it was given.
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

    /// What was given with `%` or `?`, and every type that has no method of its own.
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
    /// The message first, and then what it is about.
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
