//! An event of the email provider, in the format of Resend. Strangers write most of its content, so the
//! parser must not take much longer than it takes for plain text of the same length.

use std::borrow::Cow;
use std::fmt;

use opusflair::request::has_little_syntax;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::header::HEADER_LIMIT;

/// The amount of JSON syntax that any event may have; [`has_little_syntax`] counts it.
const FREE_SYNTAX: usize = 48 * 1024;
/// Longer events may have more: one piece of syntax for this many bytes. The text of an
/// email has one escape per line.
const BYTES_PER_SYNTAX: usize = 128;

/// The largest number of escaped surrogates that are checked. Few programs escape them,
/// and an email contains few emoji.
const MOST_SURROGATES: usize = 10_000;

/// The headers that are read. All others are skipped.
const READ: &[&str] = &[
    "authentication-results",
    "auto-submitted",
    "content-type",
    "in-reply-to",
    "message-id",
    "precedence",
    "references",
    "return-path",
    "x-autoreply",
    "x-autorespond",
];

/// An event about an email. Attachments and other members are not read.
#[derive(Debug, Deserialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) data: Data,
}

/// The content of an event. Each member may be missing or null.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Data {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<Values>,
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) message_id: Option<String>,
    pub(crate) headers: Option<Headers>,
}

/// The headers of an email that are read. The provider sends them as a list of
/// names and values, or as an object.
#[derive(Debug, Default)]
pub(crate) struct Headers(Vec<(&'static str, String)>);

#[derive(Deserialize)]
struct Header {
    name: String,
    value: String,
}

/// One value, or several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Values {
    One(String),
    Many(Vec<String>),
}

impl Values {
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }

    fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(value) => vec![value],
            Self::Many(values) => values,
        }
    }
}

impl Event {
    /// Parses an event. Returns `None` for a body that is not an event. Also returns `None` for one with
    /// so much syntax that parsing takes several times as long as its length suggests. An email may
    /// contain invalid UTF-8 or half of a surrogate pair. Both become U+FFFD, because the rest of the
    /// email is still a user's request.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(body);
        let allowed = FREE_SYNTAX + text.len() / BYTES_PER_SYNTAX;
        if !has_little_syntax(&text, allowed) {
            return None;
        }
        serde_json::from_str(&with_whole_surrogates(&text)).ok()
    }
}

impl Headers {
    /// The topmost header with this name. The name must be one of [`READ`].
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The start of this header, up to [`HEADER_LIMIT`].
    pub(crate) fn beginning(&self, name: &str) -> Option<&str> {
        let value = self.first(name)?;
        Some(&value[..value.floor_char_boundary(HEADER_LIMIT)])
    }

    fn add(&mut self, name: &str, value: String) {
        if let Some(known) = is_read(name) {
            self.0.push((known, value));
        }
    }
}

fn is_read(name: &str) -> Option<&'static str> {
    READ.iter().copied().find(|known| known.eq_ignore_ascii_case(name))
}

/// Replaces each unpaired escaped surrogate by U+FFFD, because JSON parsers reject unpaired ones. A text with
/// more than [`MOST_SURROGATES`] is returned unchanged.
fn with_whole_surrogates(json: &str) -> Cow<'_, str> {
    let surrogates = json.matches("\\ud").count() + json.matches("\\uD").count();
    if surrogates == 0 || surrogates > MOST_SURROGATES {
        return Cow::Borrowed(json);
    }
    let (mut mended, mut copied, mut from) = (String::new(), 0, 0);
    while let Some(at) = json[from..].find('\\').map(|found| from + found) {
        let Some(unit) = escaped_unit(json, at) else {
            // A different escape. In valid JSON its second character is ASCII, so two bytes are skipped.
            from = json.len().min(json.ceil_char_boundary(at + 2));
            continue;
        };
        from = at + 6;
        if !(0xd800..0xe000).contains(&unit) {
            continue;
        }
        if unit < 0xdc00
            && escaped_unit(json, from).is_some_and(|low| (0xdc00..0xe000).contains(&low))
        {
            from += 6;
            continue;
        }
        mended.push_str(&json[copied..at]);
        mended.push_str("\\ufffd");
        copied = from;
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    mended.push_str(&json[copied..]);
    Cow::Owned(mended)
}

/// The UTF-16 code unit that is escaped at this position, as `\uXXXX`.
fn escaped_unit(json: &str, at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u16::from_str_radix(digits, 16).ok())?
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
        let mut headers = Headers::default();
        while let Some(Header { name, value }) = list.next_element()? {
            headers.add(&name, value);
        }
        Ok(headers)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Headers, A::Error> {
        let (mut headers, mut results) = (Headers::default(), Vec::new());
        while let Some(name) = object.next_key::<String>()? {
            let Some(known) = is_read(&name) else {
                object.next_value::<IgnoredAny>()?;
                continue;
            };
            let values = object.next_value::<Values>()?.into_vec();
            if known == "authentication-results" {
                results.extend(values);
            } else {
                headers.0.extend(values.into_iter().map(|value| (known, value)));
            }
        }
        // An object does not say which of several headers was on top, and only the topmost is the provider's.
        // So several are treated as none.
        if results.len() == 1 {
            headers.0.extend(results.into_iter().map(|value| ("authentication-results", value)));
        }
        Ok(headers)
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
    fn a_long_email_of_plain_text_is_read() {
        let line = "A line of an email, with \"quotes\" and an \u{e9}, is about this long, and often longer.\n";
        let text = line.repeat(2000)
            + &"A line of an email, of plain text, is about this long, and often it is longer.\n"
                .repeat(20_000);
        let body = event(&json!({ "text": text, "attachments": [{ "content": "bm90" }] }));
        assert_eq!(Event::read(&body).expect("an event").data.text, Some(text));
    }

    #[test]
    fn half_of_a_surrogate_pair_becomes_a_replacement_character() {
        for (written, read) in [
            (r"a \ud83d b", "a \u{fffd} b"),
            (r"\udc00\ud83d", "\u{fffd}\u{fffd}"),
            (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
            (r"\uD83D\uDE00 \u00e9", "\u{1f600} \u{e9}"),
            (r"\\ud83d", r"\ud83d"),
            (r"\\\ud83d", "\\\u{fffd}"),
            (r"\ud83d", "\u{fffd}"),
        ] {
            let body = format!(r#"{{"type":"email.received","data":{{"text":"{written}"}}}}"#);
            let event = Event::read(body.as_bytes()).expect(written);
            assert_eq!(event.data.text.as_deref(), Some(read));
        }
        for broken in [r"\ud8", r"\u", r"\", "\\\u{e9}"] {
            let body = format!(r#"{{"type":"email.received","data":{{"text":"{broken}"}}}}"#);
            assert!(Event::read(body.as_bytes()).is_none(), "{broken}");
        }
    }

    #[test]
    fn invalid_utf8_becomes_replacement_characters() {
        let body = b"{\"type\":\"email.received\",\"data\":{\"text\":\"caf\xe9\"}}";
        assert_eq!(Event::read(body).expect("an event").data.text.as_deref(), Some("caf\u{fffd}"));
    }

    #[test]
    fn short_events_of_any_syntax_are_read() {
        for text in ["\n".repeat(22_000), "\"".repeat(22_000), "\\".repeat(22_000)] {
            let body = event(&json!({ "text": text, "cc": vec![""; 100] }));
            assert_eq!(Event::read(&body).expect("an event").data.text, Some(text));
        }
    }

    #[test]
    fn a_long_event_with_too_much_syntax_is_refused() {
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
