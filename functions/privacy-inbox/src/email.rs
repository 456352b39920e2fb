//! Reads an email without trusting it: who sent it, whether the provider has verified the
//! sender, and whether it is a request.

use opusflair::email;
use uuid::Uuid;

use crate::event::{Data, Event, Headers};
use crate::header::HEADER_LIMIT;
use crate::sender::Sender;
use crate::subject::Subject;
use crate::words;

/// An email that is a privacy request.
#[derive(Debug)]
pub(crate) struct Email {
    /// The Message-ID.
    pub(crate) name: Option<String>,
    /// The sender's address in lower case, or the raw `From` if it has no address.
    pub(crate) sender: String,
    /// Whether the provider has verified the sender.
    pub(crate) is_verified: bool,
    pub(crate) message: String,
}

impl Email {
    /// Returns the email if it is a request. A request has the subject from the policy or answers one of our
    /// emails, and it is not an automatic reply. `authserv_id` is the provider's name in
    /// `Authentication-Results`.
    pub(crate) fn requesting(event: Event, authserv_id: Option<&str>) -> Option<Self> {
        let Event { kind, data } = event;
        if kind != "email.received" {
            return None;
        }
        let headers = data.headers.as_ref();
        let subject = Subject::read(data.subject.as_deref().unwrap_or_default());
        let sender = Sender::read(data.from.as_deref().unwrap_or_default());
        let request = subject.request();
        let asks = request.is_some() || subject.repeats_ours() || answers_ours(headers);
        if !asks || is_automatic(headers, &subject, &sender) || is_ours(&data) {
            return None;
        }
        let results = headers.and_then(|headers| headers.first("authentication-results"));
        let is_verified = sender.is_verified(results, authserv_id);
        let message =
            words::of(request.unwrap_or_default(), data.text.as_deref(), data.html.as_deref());
        Some(Self { name: name(&data), sender: sender.address, is_verified, message })
    }
}

/// The Message-ID, unless it is too long to be one.
fn name(data: &Data) -> Option<String> {
    let header = data.headers.as_ref().and_then(|headers| headers.first("message-id"));
    let name = data.message_id.as_deref().or(header).filter(|name| name.len() <= HEADER_LIMIT)?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Whether it is one of our own emails that came back. This happens if a user's address is our address.
fn is_ours(data: &Data) -> bool {
    name(data).and_then(|name| email::named_in(&name)).is_some()
}

fn answers_ours(headers: Option<&Headers>) -> bool {
    answered(headers).is_some()
}

/// The id of our email that this email answers.
fn answered(headers: Option<&Headers>) -> Option<Uuid> {
    let answered = |name: &&str| email::named_in(headers?.beginning(name)?);
    ["in-reply-to", "references"].iter().find_map(answered)
}

/// Whether it is an automatic reply or a mail server's report (RFC 3834, RFC 3464). A request that a program
/// sends for a user is not automatic, although it is marked as `auto-generated`.
fn is_automatic(headers: Option<&Headers>, subject: &Subject, sender: &Sender) -> bool {
    let begins = |name: &str, with: &str| {
        let value = headers.and_then(|headers| headers.beginning(name));
        value.is_some_and(|value| value.trim_start().to_ascii_lowercase().starts_with(with))
    };
    let is_reply = begins("in-reply-to", "") || begins("references", "");
    subject.is_automatic()
        || sender.is_mail_server()
        || begins("auto-submitted", "auto-replied")
        || begins("auto-submitted", "auto-notified")
        || (begins("auto-submitted", "auto-generated") && is_reply)
        || begins("precedence", "auto_reply")
        || begins("x-autoreply", "")
        || begins("x-autorespond", "")
        || begins("return-path", "<>")
        || begins("content-type", "multipart/report")
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
    fn an_email_with_the_subject_is_a_request_from_a_verified_sender() {
        let email = Email::requesting(event(&json!({})), PROVIDER).expect("a request");
        assert_eq!((email.sender.as_str(), email.is_verified), ("alice@example.com", true));
        assert_eq!(email.message, "Please send me everything.");
        assert_eq!(email.name.as_deref(), Some("<1@example.com>"));
    }

    #[test]
    fn an_answer_to_one_of_our_emails_is_a_request() {
        let email = "<email.6f1c2f0e-7c35-4a4b-8f0e-5e3b9c7d1a22@mail.example>";
        for changes in [
            json!({ "subject": "Re: Your privacy request has arrived" }),
            json!({ "subject": "No!", "headers": [{ "name": "In-Reply-To", "value": email }] }),
            json!({ "subject": null, "headers": { "References": format!("<1@b> {email}") } }),
        ] {
            let email = Email::requesting(event(&changes), PROVIDER).expect("a request");
            assert_eq!(email.message, "Please send me everything.");
        }
        for changes in [
            json!({ "subject": "Re: Hello" }),
            json!({ "subject": "Re: Hello", "headers": [{ "name": "In-Reply-To", "value": "<1@b>" }] }),
            // One of our own emails, sent to our own address.
            json!({ "subject": "Your privacy request has arrived", "message_id": email }),
        ] {
            assert!(Email::requesting(event(&changes), PROVIDER).is_none(), "{changes}");
        }
    }

    #[test]
    fn an_automatic_reply_is_not_a_request() {
        for header in [
            ("Auto-Submitted", "auto-replied (vacation)"),
            ("Precedence", "auto_reply"),
            ("X-Autoreply", "yes"),
            ("Return-Path", "<>"),
            ("Content-Type", "multipart/report; report-type=delivery-status; boundary=x"),
        ] {
            let headers = json!([{ "name": header.0, "value": header.1 }]);
            let email = Email::requesting(event(&json!({ "headers": headers })), PROVIDER);
            assert!(email.is_none(), "{header:?}");
        }
        let subject = "Automatic reply: Privacy Request - AI Data";
        assert!(Email::requesting(event(&json!({ "subject": subject })), PROVIDER).is_none());
        let from = "Mail Delivery System <MAILER-DAEMON@mx.example>";
        assert!(Email::requesting(event(&json!({ "from": from })), PROVIDER).is_none());
    }

    #[test]
    fn a_request_that_a_program_sends_for_a_person_is_accepted() {
        let generated = json!({ "name": "Auto-Submitted", "value": "auto-generated" });
        let reply = json!({ "name": "In-Reply-To", "value": "<1@example.com>" });
        let asks = |headers: Value| {
            Email::requesting(event(&json!({ "headers": headers })), PROVIDER).is_some()
        };
        assert!(asks(json!([generated])));
        assert!(!asks(json!([generated, reply])));
        assert!(asks(json!([reply, { "name": "Auto-Submitted", "value": "no" }])));
        assert!(asks(json!([{ "name": "Precedence", "value": "bulk" }])));
    }

    #[test]
    fn only_the_provider_verifies_a_sender() {
        let verified = |value: Value| {
            let email = Email::requesting(event(&json!({ "headers": value })), PROVIDER);
            email.expect("a request").is_verified
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
            // The provider quotes text that the sender chose.
            r#"mx.example.net; dmarc=fail header.from=example.com; spf=pass smtp.mailfrom="; dmarc=pass header.from=example.com;"@evil.test"#,
            r#"mx.example.net; spf=pass smtp.mailfrom="\"; dmarc=pass header.from=example.com;"@evil.test"#,
            "mx.example.net; spf=pass (; dmarc=pass header.from=example.com;)",
            "mx.example.net; spf=pass smtp.mailfrom=\"; dmarc=pass header.from=example.com",
            "mx.example.net; spf=pass smtp.helo=x) ; dmarc=pass header.from=example.com",
            "mx.example.net; dmarc=pass header.from=example.com; dmarc=fail header.from=example.com",
        ] {
            assert!(!verified(header(value)), "{value}");
        }
        // A sender may add such headers, but the provider's header is on top.
        assert!(!verified(json!([
            { "name": "Authentication-Results", "value": "mx.example.net; dmarc=fail header.from=example.com" },
            { "name": "Authentication-Results", "value": "mx.example.net; dmarc=pass header.from=example.com" },
        ])));
        // An object has no order, so no header is the topmost.
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
        let unnamed = Email::requesting(event(&json!({})), None);
        assert!(!unnamed.expect("a request").is_verified);
    }

    #[test]
    fn a_sender_with_an_unclear_address_is_not_verified() {
        for from in ["alice@example.com, bob@example.com", "\u{1}, Alice <x@example.com>,@,", "@b"]
        {
            let email = Email::requesting(event(&json!({ "from": from })), PROVIDER);
            assert!(!email.expect("a request").is_verified, "{from}");
        }
    }

    #[test]
    fn other_events_and_emails_without_content_are_harmless() {
        let other: Event =
            serde_json::from_value(json!({ "type": "email.sent", "data": {} })).expect("an event");
        assert!(Email::requesting(other, PROVIDER).is_none());
        // A provider that sends the event without the content of the email.
        let bare = json!({ "text": null, "headers": null, "message_id": null });
        let email = Email::requesting(event(&bare), PROVIDER).expect("a request");
        assert_eq!((email.message.as_str(), email.is_verified, email.name), ("", false, None));
    }

    #[test]
    fn an_email_with_a_too_long_message_id_has_no_name() {
        for (length, expected) in [(HEADER_LIMIT, true), (HEADER_LIMIT + 1, false)] {
            let told = event(&json!({ "message_id": "m".repeat(length) }));
            let email = Email::requesting(told, PROVIDER).expect("a request");
            assert_eq!(email.name.is_some(), expected);
        }
    }

    proptest! {
        #[test]
        fn no_email_causes_a_panic(from in ".*", subject in ".*", text in ".*", result in ".*") {
            let said = json!({
                "from": from, "subject": format!("Privacy Request - AI Data {subject}"), "text": text,
                "headers": [{ "name": "Authentication-Results", "value": result }],
            });
            let verified =
                Email::requesting(event(&said), PROVIDER).is_some_and(|email| email.is_verified);
            prop_assert!(!verified);
        }
    }
}
