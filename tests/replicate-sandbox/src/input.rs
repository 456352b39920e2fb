//! The body of a create call.

use serde_json::{Map, Value};
use time::Duration;

use crate::prediction::Event;
use crate::problem::{Invalid, Problem};

const SHORTEST_DEADLINE: Duration = Duration::seconds(5);

/// The body of a create call after its checks.
pub(crate) struct Creation {
    pub(crate) version: Option<String>,
    pub(crate) input: Map<String, Value>,
    pub(crate) webhook: Option<String>,
    pub(crate) events: Vec<Event>,
}

/// Checks and reads a body. It may have a `version` only if the path does not name a model.
pub(crate) fn read(body: Value, takes_version: bool) -> Result<Creation, Problem> {
    let Value::Object(mut body) = body else {
        let text = "Invalid type. Expected: object".to_owned();
        return Err(Invalid::new("invalid_type", "body", text).into());
    };
    let Some(Value::Object(input)) = body.remove("input") else {
        return Err(Invalid::required("input").into());
    };
    let version = match body.remove("version") {
        Some(Value::String(version)) if takes_version => Some(version),
        Some(_) if !takes_version => return Err(additional("version")),
        _ if takes_version => return Err(Invalid::required("version").into()),
        _ => None,
    };
    let webhook = match body.remove("webhook") {
        None | Some(Value::Null) => None,
        Some(Value::String(webhook)) if is_web_address(&webhook) => Some(webhook),
        Some(_) => {
            let text = "Does not match format 'uri'".to_owned();
            return Err(Invalid::new("format", "webhook", text).into());
        }
    };
    let events = match body.remove("webhook_events_filter") {
        None | Some(Value::Null) => Event::ALL.to_vec(),
        Some(events) => serde_json::from_value(events).map_err(|_| {
            let text = "Must be one of the following: start, output, logs, completed".to_owned();
            Invalid::new("enum", "webhook_events_filter", text)
        })?,
    };
    match body.into_iter().next() {
        Some((name, _)) => Err(additional(&name)),
        None => Ok(Creation { version, input, webhook, events }),
    }
}

/// Parses `30`, `30s`, `5m` or `1h30m45s`.
pub(crate) fn deadline(text: &str) -> Result<Duration, Problem> {
    let refused = || {
        let text = "must be a duration of at least 5 seconds, such as 5m".to_owned();
        Problem::from(Invalid::new("format", "Cancel-After", text))
    };
    let mut seconds = 0_i64;
    let mut number = String::new();
    // A number without a unit is in seconds.
    let unit_at_end = text.ends_with(|last: char| last.is_ascii_digit()).then_some('s');
    for character in text.chars().chain(unit_at_end) {
        let unit = match character {
            '0'..='9' => {
                number.push(character);
                continue;
            }
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return Err(refused()),
        };
        let count: i64 = number.parse().map_err(|_| refused())?;
        let more = count.checked_mul(unit).ok_or_else(refused)?;
        seconds = seconds.checked_add(more).ok_or_else(refused)?;
        number.clear();
    }
    let deadline = Duration::seconds(seconds);
    if deadline < SHORTEST_DEADLINE { Err(refused()) } else { Ok(deadline) }
}

fn additional(name: &str) -> Problem {
    let text = format!("Additional property {name} is not allowed");
    Invalid::new("additional_property_not_allowed", name, text).into()
}

fn is_web_address(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|address| matches!(address.scheme(), "http" | "https"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deadline_is_read_in_each_of_its_forms() {
        for (text, seconds) in [("30", 30), ("30s", 30), ("5m", 300), ("1h30m45s", 5445)] {
            assert_eq!(deadline(text).ok(), Some(Duration::seconds(seconds)), "{text}");
        }
        for text in ["4", "", "soon", "-5", "m", "5x", "9223372036854775807h"] {
            assert!(deadline(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_members_and_missing_ones_are_refused() {
        assert!(read(json!({ "input": {} }), false).is_ok());
        assert!(read(json!({ "input": {}, "version": "x" }), true).is_ok());
        assert!(
            read(json!({ "input": {}, "webhook": "http://127.0.0.1:1/hook?a=b" }), false).is_ok()
        );
        for (body, takes_version) in [
            (json!({ "input": {}, "stream": true }), false),
            (json!({ "input": {}, "version": "x" }), false),
            (json!({ "input": {} }), true),
            (json!({ "input": {}, "version": 1 }), true),
            (json!({}), false),
            (json!([]), false),
            (json!({ "input": {}, "webhook": "not one" }), false),
            (json!({ "input": {}, "webhook": "httpx://example.com" }), false),
            (json!({ "input": {}, "webhook_events_filter": ["end"] }), false),
        ] {
            assert!(read(body.clone(), takes_version).is_err(), "{body}");
        }
    }
}
