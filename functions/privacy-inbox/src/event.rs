//! An event of the mail provider's. Strangers write most of it, so reading it costs at most about what
//! plain text of its length costs.

use std::fmt;

use opusflair::request::has_little_syntax;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// How much syntax ([`has_little_syntax`]) any event may have.
const FREE_SYNTAX: usize = 64 * 1024;
/// Longer events may have more: one in so many bytes. The text of a mail has an escape a line.
const BYTES_PER_SYNTAX: usize = 96;

/// As the provider tells of a mail. Attachments and whatever else is there are not read.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: Data,
}

/// What is missing may also be null.
#[derive(Debug, Deserialize)]
pub(crate) struct Data {
    pub(crate) from: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) headers: Option<Headers>,
}

/// What is kept of a mail's headers, which come as a list of names and values, or as an object.
#[derive(Debug)]
pub(crate) struct Headers {
    /// The topmost `Authentication-Results`. `None` if an object has several: it does not say which
    /// one was on top.
    pub(crate) results: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    One(String),
    Many(Vec<String>),
}

impl Event {
    /// Reads an event. `None` if the body is no event, or has so much syntax that reading it would
    /// cost several times what its length suggests.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let text = str::from_utf8(body).ok()?;
        let allowed = FREE_SYNTAX + text.len() / BYTES_PER_SYNTAX;
        if has_little_syntax(text, allowed) { serde_json::from_str(text).ok() } else { None }
    }
}

fn is_results(name: &str) -> bool {
    name.eq_ignore_ascii_case("authentication-results")
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object of headers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Headers, A::Error> {
        let mut results = None;
        while let Some(Header { name, value }) = list.next_element()? {
            if results.is_none() && is_results(&name) {
                results = Some(value);
            }
        }
        Ok(Headers { results })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Headers, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = object.next_key::<String>()? {
            if !is_results(&name) {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            match object.next_value()? {
                Values::One(value) => found.push(value),
                Values::Many(values) => found.extend(values),
            }
        }
        let results = if found.len() == 1 { found.pop() } else { None };
        Ok(Headers { results })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(data: &serde_json::Value) -> Vec<u8> {
        json!({ "type": "email.received", "data": data }).to_string().into_bytes()
    }

    #[test]
    fn a_long_mail_of_plain_text_is_read() {
        let line = "A line of a mail, with \"quotes\" and an \u{e9}, is about this long, and often longer.\n";
        let text = line.repeat(2000)
            + &"A line of a mail, of plain text, is about this long, and often it is longer.\n"
                .repeat(20_000);
        let body = event(&json!({ "text": text, "attachments": [{ "content": "bm90" }] }));
        assert_eq!(Event::read(&body).expect("an event").data.text, Some(text));
    }

    #[test]
    fn whatever_is_short_is_read() {
        for text in ["\n".repeat(30_000), "\"".repeat(30_000), "\\".repeat(30_000)] {
            let body = event(&json!({ "text": text, "cc": vec![""; 100] }));
            assert_eq!(Event::read(&body).expect("an event").data.text, Some(text));
        }
    }

    #[test]
    fn more_syntax_than_a_mail_has_is_refused() {
        let many = 200_000;
        for data in [
            json!({ "text": "\n".repeat(many) }),
            json!({ "text": "\0".repeat(many) }),
            json!({ "text": "\\\"".repeat(many) }),
            json!({ "headers": vec![json!({ "name": "a", "value": "" }); many / 10] }),
            json!({ "headers": { "Received": vec![""; many] } }),
            json!({ "attachments": vec![1; many] }),
            json!({ "attachments": vec![json!([]); many] }),
        ] {
            assert!(Event::read(&event(&data)).is_none());
        }
        let spaces = [event(&json!({})), vec![b' '; many]].concat();
        assert!(Event::read(&spaces).is_none());
        let nested = "[".repeat(many) + &"]".repeat(many);
        assert!(Event::read(nested.as_bytes()).is_none());
    }
}
