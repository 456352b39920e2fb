//! What a mail says, read without trusting it: who it is from, whether the provider has verified that, and whether
//! it asks for anything.

use mail_parser::MessageParser;

use crate::event::Event;

/// What the policy tells people to write (Q1).
const SUBJECT: &str = "privacy request - ai data";
/// Characters of a message that are kept.
const MESSAGE_LIMIT: usize = 4000;
/// How far they are looked for, in bytes: before them may be white space, among them NULs.
const TEXT_LIMIT: usize = 16 * MESSAGE_LIMIT;
/// The longest header that is read, in bytes. A line of a mail has at most 998 (RFC 5322).
const HEADER_LIMIT: usize = 4000;
/// The longest `Authentication-Results`, in bytes.
const RESULTS_LIMIT: usize = 16 * 1024;

/// A mail that asks for something.
#[derive(Debug)]
pub(crate) struct Mail {
    /// Its Message-ID.
    pub(crate) name: Option<String>,
    /// The address, in lower case.
    pub(crate) sender: String,
    /// Whether the provider says that the sender is who it says.
    pub(crate) is_verified: bool,
    pub(crate) message: String,
}

impl Mail {
    /// The mail of an event, if it is one with the right subject and a sender. `authserv_id` is by which name the
    /// provider speaks of what it has verified.
    pub(crate) fn requesting(event: Event, authserv_id: Option<&str>) -> Option<Self> {
        let Event { kind, data } = event;
        if kind != "email.received" || !is_request(data.subject.as_deref()?) {
            return None;
        }
        let sender = address(data.from.as_deref()?)?;
        let results = data.headers.and_then(|headers| headers.results);
        let is_verified = authserv_id
            .zip(results.as_deref())
            .is_some_and(|(id, results)| is_verified(results, id, &sender));
        let text = data.text.unwrap_or_default();
        let text = &text[..text.floor_char_boundary(TEXT_LIMIT)];
        let message =
            text.trim().chars().filter(|letter| *letter != '\0').take(MESSAGE_LIMIT).collect();
        let name = data
            .message_id
            .filter(|name| name.len() <= HEADER_LIMIT)
            .map(|name| name.trim().to_owned())
            .filter(|name| !name.is_empty());
        Some(Self { name, sender, is_verified, message })
    }
}

/// However it is cased, spaced, encoded or prefixed.
fn is_request(subject: &str) -> bool {
    if subject.len() > HEADER_LIMIT {
        return false;
    }
    let decoded = header("Subject", subject, |message| message.subject().map(str::to_owned));
    let plain: String = decoded
        .unwrap_or_else(|| subject.to_owned())
        .to_lowercase()
        .chars()
        .map(|letter| match letter {
            '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
            letter if letter.is_whitespace() => ' ',
            letter => letter,
        })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ").trim_end_matches(['.', '!']).ends_with(SUBJECT)
}

/// The one address of a From, in lower case.
fn address(from: &str) -> Option<String> {
    let found = header("From", from, |message| {
        let from = message.from()?;
        let address = from.first()?.address.as_deref()?.to_lowercase();
        (from.iter().count() == 1).then_some(address)
    })?;
    let (name, domain) = found.rsplit_once('@')?;
    let is_plain =
        found.len() <= 320 && found.chars().all(|letter| !letter.is_control() && letter != ' ');
    (is_plain && !name.is_empty() && domain.contains('.')).then_some(found)
}

/// One header, read as mail programs do; `None` if it is too long to be one.
fn header<T>(
    name: &str,
    value: &str,
    read: impl Fn(&mail_parser::Message<'_>) -> Option<T>,
) -> Option<T> {
    if value.len() > HEADER_LIMIT {
        return None;
    }
    let value = value.replace(['\r', '\n'], " ");
    let raw = format!("{name}: {value}\r\n\r\n");
    read(&MessageParser::new().parse(raw.as_bytes())?)
}

/// Whether DMARC has passed for the sender's own domain, by the word of the provider (RFC 8601): its header is the
/// topmost, and only one that has its name counts, for a sender may write others below. It says so once; two words
/// on it are none, for a part of the header quotes what the sender has said.
fn is_verified(results: &str, authserv_id: &str, sender: &str) -> bool {
    if results.len() > RESULTS_LIMIT {
        return false;
    }
    let Some((_, domain)) = sender.rsplit_once('@') else { return false };
    let Some(plain) = without_quotes(results) else { return false };
    let mut parts = plain.split(';').map(str::trim);
    let names_provider = parts
        .next()
        .and_then(|id| id.split_whitespace().next())
        .is_some_and(|id| id.eq_ignore_ascii_case(authserv_id));
    let about_dmarc: Vec<String> =
        parts.map(str::to_lowercase).filter(|part| part.starts_with("dmarc")).collect();
    let [only] = about_dmarc.as_slice() else { return false };
    let mut words = only.split_whitespace();
    names_provider
        && words.next() == Some("dmarc=pass")
        && words.any(|word| word.strip_prefix("header.from=") == Some(domain))
}

/// A header without its quoted strings and comments, in which anything may stand (RFC 5322); `None` where one of
/// them has no end.
fn without_quotes(header: &str) -> Option<String> {
    let (mut plain, mut depth, mut is_quoted) = (String::new(), 0_usize, false);
    let mut letters = header.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if is_quoted || depth > 0 => drop(letters.next()?),
            '"' if depth == 0 => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.checked_sub(1)?,
            _ if is_quoted || depth > 0 => {}
            _ => plain.push(letter),
        }
    }
    (!is_quoted && depth == 0).then_some(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const PROVIDER: Option<&str> = Some("mx.example.net");

    fn event(changes: &Value) -> Event {
        let mut data = json!({
            "from": "Alice <alice@example.com>",
            "subject": "Privacy Request - AI Data",
            "text": "Please send me everything.",
            "message_id": "<1@example.com>",
            "attachments": [{ "content": "never read" }],
            "headers": [{ "name": "Authentication-Results", "value": "mx.example.net; spf=pass; dmarc=pass (p=reject) header.from=example.com" }],
        });
        for (name, value) in changes.as_object().expect("an object") {
            data[name] = value.clone();
        }
        serde_json::from_value(json!({ "type": "email.received", "data": data })).expect("an event")
    }

    #[test]
    fn a_mail_with_the_subject_is_a_request_of_a_verified_sender() {
        let mail = Mail::requesting(event(&json!({})), PROVIDER).expect("a request");
        assert_eq!((mail.sender.as_str(), mail.is_verified), ("alice@example.com", true));
        assert_eq!(mail.message, "Please send me everything.");
        assert_eq!(mail.name.as_deref(), Some("<1@example.com>"));
    }

    #[test]
    fn the_subject_may_be_cased_spaced_encoded_and_prefixed() {
        for subject in [
            "PRIVACY REQUEST - AI DATA",
            "Re: AW: [External] privacy  request\t- ai data ",
            "Fwd: Privacy Request \u{2013} AI Data",
            "Privacy Request - AI Data.",
            "=?utf-8?B?UHJpdmFjeSBSZXF1ZXN0IC0gQUkgRGF0YQ==?=",
            "=?iso-8859-1?Q?Privacy_Request_-_AI?= =?utf-8?Q?_Data?=",
        ] {
            assert!(is_request(subject), "{subject}");
        }
        for subject in [
            "",
            "Privacy Request",
            "AI Data",
            "Privacy Request - AI Database",
            "Privacy Request AI Data",
            "=?utf-8?B?!!!?=",
        ] {
            assert!(!is_request(subject), "{subject}");
        }
    }

    #[test]
    fn only_the_provider_says_who_somebody_is() {
        let verified = |value: Value| {
            let mail = Mail::requesting(event(&json!({ "headers": value })), PROVIDER);
            mail.expect("a request").is_verified
        };
        let header = |value: &str| json!([{ "name": "authentication-results", "value": value }]);
        assert!(verified(header("mx.example.net 1; dmarc=pass header.from=example.com")));
        assert!(verified(
            json!({ "Authentication-Results": "mx.example.net; dmarc=pass header.from=example.com" })
        ));
        for value in [
            "",
            "mx.example.net",
            "mx.evil.test; dmarc=pass header.from=example.com",
            "mx.example.net; dmarc=fail header.from=example.com",
            "mx.example.net; dmarc=pass header.from=evil.test",
            "mx.example.net; dmarc=passed header.from=example.com",
            "mx.example.net; spf=pass smtp.mailfrom=example.com",
            // What a sender has said, as the provider quotes it.
            r#"mx.example.net; dmarc=fail header.from=example.com; spf=pass smtp.mailfrom="; dmarc=pass header.from=example.com;"@evil.test"#,
            r#"mx.example.net; spf=pass smtp.mailfrom="\"; dmarc=pass header.from=example.com;"@evil.test"#,
            "mx.example.net; spf=pass (; dmarc=pass header.from=example.com;)",
            "mx.example.net; spf=pass smtp.mailfrom=\"; dmarc=pass header.from=example.com",
            "mx.example.net; spf=pass smtp.helo=x) ; dmarc=pass header.from=example.com",
            "mx.example.net; dmarc=pass header.from=example.com; dmarc=fail header.from=example.com",
        ] {
            assert!(!verified(header(value)), "{value}");
        }
        // A sender may bring headers of its own; the provider's is on top.
        assert!(!verified(json!([
            { "name": "Authentication-Results", "value": "mx.example.net; dmarc=fail header.from=example.com" },
            { "name": "Authentication-Results", "value": "mx.example.net; dmarc=pass header.from=example.com" },
        ])));
        // An object has no top.
        assert!(!verified(json!({
            "AUTHENTICATION-RESULTS": "mx.example.net; dmarc=pass header.from=example.com",
            "Authentication-Results": "mx.example.net; dmarc=fail header.from=example.com",
        })));
        assert!(!verified(json!({ "Authentication-Results": [
            "mx.example.net; dmarc=pass header.from=example.com",
            "mx.example.net; dmarc=fail header.from=example.com",
        ] })));
        for nothing in [json!([]), json!({}), Value::Null] {
            assert!(!verified(nothing));
        }
        let unnamed = Mail::requesting(event(&json!({})), None);
        assert!(!unnamed.expect("a request").is_verified);
    }

    #[test]
    fn a_sender_is_one_address() {
        assert!(Mail::requesting(event(&json!({ "from": null })), PROVIDER).is_none());
        for from in
            ["", "nobody", "a@b", "<>", "alice@example.com, bob@example.com", "\u{0}@example.com"]
        {
            assert!(
                Mail::requesting(event(&json!({ "from": from })), PROVIDER).is_none(),
                "{from}"
            );
        }
        let mail = Mail::requesting(
            event(&json!({ "from": "\"Bob, of X\" <BOB@Example.COM>" })),
            PROVIDER,
        );
        assert_eq!(mail.expect("a request").sender, "bob@example.com");
    }

    #[test]
    fn other_events_and_endless_messages_do_no_harm() {
        let other: Event =
            serde_json::from_value(json!({ "type": "email.sent", "data": {} })).expect("an event");
        assert!(Mail::requesting(other, PROVIDER).is_none());
        // A provider that tells of a mail and not what it says.
        let bare = json!({ "text": null, "headers": null, "message_id": null });
        let mail = Mail::requesting(event(&bare), PROVIDER).expect("a request");
        assert_eq!((mail.message.as_str(), mail.is_verified, mail.name), ("", false, None));
        let long = "\u{0}a".repeat(10_000) + &"\u{e9}".repeat(100_000);
        let mail = Mail::requesting(event(&json!({ "text": long })), PROVIDER).expect("a request");
        assert_eq!(mail.message, "a".repeat(MESSAGE_LIMIT));
    }

    #[test]
    fn a_header_is_read_up_to_its_limit() {
        let padded = |length: usize| format!("{:>length$}", "Privacy Request - AI Data");
        assert!(is_request(&padded(HEADER_LIMIT)));
        assert!(!is_request(&padded(HEADER_LIMIT + 1)));

        let named = |length: usize| {
            let rest = " <alice@example.com>";
            format!("{}{rest}", "a".repeat(length - rest.len()))
        };
        assert_eq!(address(&named(HEADER_LIMIT)).as_deref(), Some("alice@example.com"));
        assert_eq!(address(&named(HEADER_LIMIT + 1)), None);

        let results = |length: usize| {
            format!("{:<length$}", "mx.example.net; dmarc=pass header.from=example.com")
        };
        for (length, expected) in [(RESULTS_LIMIT, true), (RESULTS_LIMIT + 1, false)] {
            let verdict = is_verified(&results(length), "mx.example.net", "alice@example.com");
            assert_eq!(verdict, expected);
        }

        // A mail whose Message-ID is too long has the name of its delivery.
        for (length, expected) in [(HEADER_LIMIT, true), (HEADER_LIMIT + 1, false)] {
            let told = event(&json!({ "message_id": "m".repeat(length) }));
            let mail = Mail::requesting(told, PROVIDER).expect("a request");
            assert_eq!(mail.name.is_some(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_mail_makes_it_panic(from in ".*", subject in ".*", text in ".*", result in ".*") {
            let said = json!({
                "from": from, "subject": format!("{subject} {SUBJECT}"), "text": text,
                "headers": [{ "name": "Authentication-Results", "value": result }],
            });
            let verified =
                Mail::requesting(event(&said), PROVIDER).is_some_and(|mail| mail.is_verified);
            prop_assert!(!verified);
        }

        #[test]
        fn nothing_that_is_quoted_is_the_word_of_the_provider(said in ".*", is_comment: bool) {
            let escape = |letter| match letter {
                '\\' | '"' | '(' | ')' => format!("\\{letter}"),
                letter => letter.to_string(),
            };
            let said: String = format!("{said}; dmarc=pass header.from=example.com;")
                .chars()
                .map(escape)
                .collect();
            let quoted = if is_comment { format!("({said})") } else { format!("\"{said}\"") };
            let results = format!("mx.example.net; spf=pass smtp.mailfrom={quoted}@evil.test");
            prop_assert!(!is_verified(&results, "mx.example.net", "alice@example.com"));
            let besides = format!("{results}; dmarc=pass header.from=example.com");
            prop_assert!(is_verified(&besides, "mx.example.net", "alice@example.com"));
        }
    }
}
