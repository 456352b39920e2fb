//! Emails to people, sent by SMTP.

mod template;

use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::{Host, Url};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use self::template::{Kind, Written, write};
use crate::config::Mail;
use crate::pace::limit;
use crate::pseudonym::Use;
use crate::{App, Error, crash};

pub use self::template::SUBJECTS;

/// The time limit for sending one email. The limit of the SMTP transport covers only the connection attempt.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const SERVICE: &str = "the mail server";

/// The start of the Message-ID of an email. The email's id and the sender's domain follow.
const NAME_PREFIX: &str = "email.";

/// Sends emails.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    reply_to: Mailbox,
}

/// `Auto-Submitted: auto-generated` (RFC 3834). With this header, no out-of-office reply comes back.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// An email to be sent, which this worker has leased.
#[derive(Debug, Deserialize)]
pub struct Email {
    id: Uuid,
    kind: Kind,
    subject: String,
    address: String,
    /// Why the operator refuses a privacy request or extends its deadline.
    reason: Option<String>,
    /// The day by which the request will be answered.
    until: Option<String>,
}

impl Mailer {
    /// Builds the SMTP transport without connecting. Returns `None` if the URL is unusable. The configuration
    /// has already refused such a URL.
    #[must_use]
    pub(crate) fn new(mail: &Mail) -> Option<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(mail.smtp_url.reveal());
        let transport = transport.ok()?.timeout(Some(limit(TIME_LIMIT))).build();
        Some(Self { transport, from: mail.from.clone(), reply_to: mail.reply_to.clone() })
    }

    /// Composes an email. A retry has the same Message-ID, so a mailbox shows the email only once.
    fn compose(&self, id: Uuid, to: Mailbox, written: Written) -> Result<Message, Error> {
        let domain = self.from.email.domain();
        // Without an explicit envelope, `lettre` would parse the address from the header, where it does not
        // support quotes.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()])
            .map_err(|_| Error::fault("an email has no valid address"))?;
        Message::builder()
            .envelope(envelope)
            .message_id(Some(format!("<{NAME_PREFIX}{id}@{domain}>")))
            .date_now()
            .from(self.from.clone())
            .reply_to(self.reply_to.clone())
            .to(to)
            .subject(written.subject)
            .header(AutoSubmitted)
            .multipart(MultiPart::alternative_plain_html(written.text, written.page))
            .map_err(|_| Error::fault("an email cannot be composed"))
    }

    async fn send(&self, message: Message) -> Result<(), Error> {
        match timeout(limit(TIME_LIMIT), self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            // The error of the transport quotes the server, which may quote the address. So it is not logged.
            Ok(Err(_)) => Err(Error::unavailable(SERVICE, "an email was not taken")),
            Err(_) => Err(Error::unavailable(SERVICE, "no answer in time")),
        }
    }
}

/// Finds the Message-ID of one of our emails in a text, such as an `In-Reply-To` header. Returns the email's
/// id.
#[must_use]
pub fn named_in(text: &str) -> Option<Uuid> {
    text.match_indices(NAME_PREFIX).find_map(|(at, _)| {
        let rest = &text[at + NAME_PREFIX.len()..];
        // Looks no further than the length of a UUID. The text may come from a stranger and contain very many
        // Message-IDs.
        let id = rest
            .get(..Hyphenated::LENGTH)
            .filter(|_| rest[Hyphenated::LENGTH..].starts_with('@'))?;
        Uuid::try_parse(id).ok()
    })
}

/// Parses an address from Auth into a mailbox. A local part that RFC 5321 does not allow without quotes is
/// quoted. Japanese mobile carriers assign addresses such as `a..b@docomo.ne.jp`.
fn mailbox(address: &str) -> Option<Mailbox> {
    let (local, domain) = address.rsplit_once('@')?;
    let domain = match Host::parse(domain) {
        Ok(Host::Domain(ascii)) => ascii,
        _ => domain.to_owned(),
    };
    let quoted = || format!("\"{}\"", local.replace('\\', "\\\\").replace('"', "\\\""));
    let address = Address::new(local, &domain).or_else(|_| Address::new(quoted(), &domain));
    Some(Mailbox::new(None, address.ok()?))
}

impl App {
    /// Sends an email and records that it was sent.
    ///
    /// # Errors
    /// Returns an error if the mail server did not accept the email, or if this could not be recorded. The
    /// email is then sent again later.
    pub async fn send_email(&self, email: &Email) -> Result<(), Error> {
        let Some(mailer) = &self.mailer else { return Err(Error::fault("no mail server")) };
        let to = mailbox(&email.address).ok_or(Error::fault("an address cannot be written to"))?;
        let app = self.config.app_url.as_ref().map_or("", Url::as_str).trim_end_matches('/');
        let functions = self.config.webhook_url.as_str().trim_end_matches('/');
        let written = match email.kind {
            Kind::Inactive => {
                let days = &email.subject;
                let days = if days == "1" { "1 day".to_owned() } else { format!("{days} days") };
                write(email.kind, &[("days", &days), ("app", app)])
            }
            Kind::RequestFiled => {
                let id: Uuid =
                    email.subject.parse().map_err(|_| Error::fault("a request without an id"))?;
                let token = self.keyed_hash(Use::Confirmation, id);
                let link = format!("{app}/?privacy_request={id}&token={token}");
                write(email.kind, &[("link", &link), ("app", app)])
            }
            Kind::RequestRefused | Kind::RequestExtended => {
                let reason = email.reason.as_deref();
                let reason = reason.ok_or(Error::fault("a decision without a reason"))?;
                let until = email.until.as_deref().unwrap_or_default();
                // `reason` is filled in last, so that nothing in it is taken for a placeholder.
                write(email.kind, &[("app", app), ("until", until), ("reason", reason)])
            }
            Kind::Erased => {
                let erasure: Value =
                    self.ask("read_erasure", json!({ "id": email.subject })).await?;
                let receipt = erasure["receipt"].as_str().unwrap_or_default().to_owned();
                let keys = format!("{functions}/.well-known/jwks.json");
                write(email.kind, &[("receipt", &receipt), ("keys", &keys)])
            }
        };
        mailer.send(mailer.compose(email.id, to, written)?).await?;
        crash::reached("email.sent");
        self.ask::<Value>("finish_email", json!({ "id": email.id })).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn mailer() -> Mailer {
        Mailer::new(&Mail {
            smtp_url: Secret::new("smtp://127.0.0.1:1".to_owned()),
            from: "OpusFlair <privacy@mail.example>".parse().expect("a mailbox"),
            reply_to: "answers@in.example".parse().expect("a mailbox"),
        })
        .expect("a mailer")
    }

    #[tokio::test]
    async fn an_email_has_the_required_headers_and_the_same_message_id_each_time() {
        let id = Uuid::from_u128(7);
        let sent = |_| {
            let to = mailbox("ada@example.com").expect("an address");
            let message = mailer().compose(id, to, write(Kind::Erased, &[])).expect("an email");
            String::from_utf8(message.formatted()).expect("text")
        };
        for email in [1, 2].map(sent) {
            let (headers, _) = email.split_once("\r\n\r\n").expect("headers");
            for header in [
                "Message-ID: <email.00000000-0000-0000-0000-000000000007@mail.example>",
                "Auto-Submitted: auto-generated",
                "Reply-To: answers@in.example",
                "From: OpusFlair <privacy@mail.example>",
            ] {
                assert!(headers.lines().any(|line| line == header), "{header} in {headers}");
            }
            assert!(headers.contains("\r\nDate: "), "{headers}");
            assert_eq!(named_in(headers), Some(id));
        }
    }

    #[test]
    fn an_email_is_found_by_its_message_id() {
        let id = Uuid::from_u128(7);
        let name = format!("<email.{id}@mail.example>");
        assert_eq!(named_in(&format!("<1@b> email.x@y <email.> {name}")), Some(id));
        for other in ["", "<email.7@mail.example>", "email.", "<1@email.example>"] {
            assert_eq!(named_in(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_local_part_is_quoted_if_rfc_5321_requires_it() {
        for (address, written) in [
            ("ada@example.com", "ada@example.com"),
            ("a..b@docomo.ne.jp", "\"a..b\"@docomo.ne.jp"),
            (".a@ezweb.ne.jp", "\".a\"@ezweb.ne.jp"),
            ("a.@docomo.ne.jp", "\"a.\"@docomo.ne.jp"),
            ("a\"b@example.com", "\"a\\\"b\"@example.com"),
            ("anna@m\u{fc}ller.de", "anna@xn--mller-kva.de"),
        ] {
            let to = mailbox(address).expect(address);
            assert_eq!(to.to_string(), written);
            let id = Uuid::from_u128(7);
            let message = mailer().compose(id, to, write(Kind::Erased, &[])).expect("an email");
            let email = String::from_utf8(message.formatted()).expect("text");
            assert!(email.lines().any(|line| line == format!("To: {written}")), "{email}");
        }
        for address in ["", "nobody", "@example.com", "a@", "a@b c", "a\r\nb@example.com"] {
            assert!(mailbox(address).is_none(), "{address}");
        }
    }
}
