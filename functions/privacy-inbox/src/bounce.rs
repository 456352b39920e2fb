//! Reports that one of our emails did not arrive: as an event of the email provider, or
//! as the report of a mail server.

use opusflair::email;
use serde::Serialize;
use uuid::Uuid;

use crate::event::{Data, Event, Values};
use crate::sender::Sender;

/// The provider's events for an undelivered email from us, as Resend names them.
const KINDS: &[&str] = &["email.bounced", "email.failed", "email.suppressed"];

/// The part of a report that is searched for the id of our email, in bytes.
const REPORT_LIMIT: usize = 64 * 1024;

/// One of our emails that did not arrive.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Bounce {
    /// The id of our email, if the event names its Message-ID.
    email: Option<Uuid>,
    /// The addresses that the email was sent to.
    addresses: Vec<String>,
}

impl Bounce {
    /// The bounce that an event reports, if any.
    pub(crate) fn reported(event: &Event) -> Option<Self> {
        let Event { kind, data } = event;
        if KINDS.contains(&kind.as_str()) {
            let header = data.headers.as_ref().and_then(|headers| headers.beginning("message-id"));
            let name = data.message_id.as_deref().or(header);
            let to = data.to.as_ref().map(Values::as_slice).unwrap_or_default();
            let addresses =
                to.iter().take(50).map(|to| Sender::read(to).address).filter(|to| to.contains('@'));
            let email = name.and_then(email::named_in);
            return Some(Self { email, addresses: addresses.collect() });
        }
        let email = (kind == "email.received" && is_report(data)).then(|| named_in_report(data))?;
        email.map(|email| Self { email: Some(email), addresses: Vec::new() })
    }
}

/// Whether this is a mail server's report (RFC 3464).
fn is_report(data: &Data) -> bool {
    let header = data.headers.as_ref().and_then(|headers| headers.beginning("content-type"));
    let is_marked = header
        .is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("multipart/report"));
    is_marked || data.from.as_deref().is_some_and(|from| Sender::read(from).is_mail_server())
}

/// The email that a report is about: the report answers it or quotes its headers.
fn named_in_report(data: &Data) -> Option<Uuid> {
    let text = data.text.as_deref().map(|text| &text[..text.floor_char_boundary(REPORT_LIMIT)]);
    let header = |name| data.headers.as_ref().and_then(|headers| headers.beginning(name));
    let places = [header("in-reply-to"), header("references"), text];
    places.into_iter().flatten().find_map(email::named_in)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    fn reported(kind: &str, data: &Value) -> Option<Bounce> {
        let event = json!({ "type": kind, "data": data });
        Bounce::reported(&serde_json::from_value(event).expect("an event"))
    }

    #[test]
    fn a_bounce_event_names_the_email_or_its_addresses() {
        let named = format!("<email.{ID}@mail.example>");
        let to = vec!["ada@example.com".to_owned(), "a..b@docomo.ne.jp".to_owned()];
        let told = json!({
            "email_id": "56761188-7520-42d8-8898-ff6fc54ce618",
            "from": "OpusFlair <privacy@mail.example>",
            "to": ["Ada <ADA@example.com>", "\"a..b\"@docomo.ne.jp"],
            "subject": "Your OpusFlair account will be deleted in 7 days",
            "bounce": { "type": "Permanent", "subType": "General", "message": "No such user." },
        });
        let unnamed = Bounce { email: None, addresses: to.clone() };
        assert_eq!(reported("email.bounced", &told), Some(unnamed));
        let mut with_name = told.clone();
        with_name["headers"] = json!([{ "name": "Message-ID", "value": named }]);
        for kind in KINDS {
            let found = Bounce { email: Some(ID), addresses: to.clone() };
            assert_eq!(reported(kind, &with_name), Some(found));
        }
        for kind in ["email.sent", "email.delivered", "email.delivery_delayed", "email.complained"]
        {
            assert_eq!(reported(kind, &with_name), None, "{kind}");
        }
        let one = json!({ "to": "ada@example.com" });
        assert_eq!(reported("email.bounced", &one).expect("a bounce").addresses, to[..1]);
    }

    #[test]
    fn a_mail_servers_report_is_a_bounce_if_it_names_an_email() {
        let text = format!("This is the mail system.\n\nMessage-ID: <email.{ID}@mail.example>\n");
        let report = json!([{ "name": "Content-Type", "value": "multipart/report; report-type=delivery-status" }]);
        let email = |data: Value| reported("email.received", &data).and_then(|bounce| bounce.email);
        assert_eq!(email(json!({ "from": "MAILER-DAEMON@mx.example", "text": text })), Some(ID));
        assert_eq!(
            email(json!({ "from": "postmaster@mx.example", "headers": report, "text": text })),
            Some(ID)
        );
        assert_eq!(email(json!({ "from": "MAILER-DAEMON@mx.example", "text": "Sorry." })), None);
        assert_eq!(email(json!({ "from": "ada@example.com", "text": text })), None);
    }
}
