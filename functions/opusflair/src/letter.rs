//! Letters to people: templates in plain text and HTML, carried by SMTP.

use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;
use url::Url;
use uuid::Uuid;

use crate::config::Mail;
use crate::pace::limit;
use crate::pseudonym::Use;
use crate::{App, Error, crash};

/// For a whole letter: the transport's own limit is for each connection alone.
const TIME_LIMIT: Duration = Duration::from_secs(10);
const SERVICE: &str = "the mail server";

/// Who carries letters.
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

/// A letter that is owed, leased to us by the database.
#[derive(Debug, Deserialize)]
pub struct Letter {
    id: Uuid,
    kind: Kind,
    subject: String,
    address: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Inactive,
    RequestFiled,
    Erased,
}

impl Kind {
    /// The subject line, the text and the page.
    fn template(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Inactive => (
                "Your OpusFlair account will be deleted in {days}",
                include_str!("letters/inactive.txt"),
                include_str!("letters/inactive.html"),
            ),
            Self::RequestFiled => (
                "Your privacy request has arrived",
                include_str!("letters/request_filed.txt"),
                include_str!("letters/request_filed.html"),
            ),
            Self::Erased => (
                "Your OpusFlair account is erased",
                include_str!("letters/erased.txt"),
                include_str!("letters/erased.html"),
            ),
        }
    }
}

impl Mailer {
    /// Connects to nothing yet; `None` where the address is unusable, which the configuration has refused.
    #[must_use]
    pub(crate) fn new(mail: &Mail) -> Option<Self> {
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(mail.smtp_url.reveal());
        let transport = transport.ok()?.timeout(Some(limit(TIME_LIMIT))).build();
        Some(Self { transport, from: mail.from.clone() })
    }

    async fn send(&self, to: Mailbox, written: Written) -> Result<(), Error> {
        let message = Message::builder()
            .from(self.from.clone())
            .to(to)
            .subject(written.subject)
            .multipart(MultiPart::alternative_plain_html(written.text, written.page))
            .map_err(|_| Error::fault("a letter that is none"))?;
        match timeout(limit(TIME_LIMIT), self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            // Its errors quote the server, which quotes the address.
            Ok(Err(_)) => Err(Error::unavailable(SERVICE, "a letter was not taken")),
            Err(_) => Err(Error::unavailable(SERVICE, "no answer in time")),
        }
    }
}

/// A letter with everything filled in.
#[derive(Debug)]
struct Written {
    subject: String,
    text: String,
    page: String,
}

fn write(kind: Kind, values: &[(&str, &str)]) -> Written {
    let (subject, text, page) = kind.template();
    let fill = |template: &str, escape: fn(&str) -> String| {
        values.iter().fold(template.to_owned(), |filled, (name, value)| {
            filled.replace(&format!("{{{name}}}"), &escape(value))
        })
    };
    Written {
        subject: fill(subject, str::to_owned),
        text: fill(text, str::to_owned),
        page: fill(page, |value| {
            value.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
        }),
    }
}

impl App {
    /// Sends a letter, and says so.
    ///
    /// # Errors
    /// Where it was not taken, or nobody heard of it: then it is owed still.
    pub async fn send_letter(&self, letter: &Letter) -> Result<(), Error> {
        let Some(mailer) = &self.mailer else { return Err(Error::fault("no mail server")) };
        let to: Mailbox =
            letter.address.parse().map_err(|_| Error::fault("an address that is none"))?;
        let app = self.config.app_url.as_ref().map_or("", Url::as_str).trim_end_matches('/');
        let functions = self.config.webhook_url.as_str().trim_end_matches('/');
        let written = match letter.kind {
            Kind::Inactive => {
                let days = &letter.subject;
                let days = if days == "1" { "1 day".to_owned() } else { format!("{days} days") };
                write(letter.kind, &[("days", &days), ("app", app)])
            }
            Kind::RequestFiled => {
                let id: Uuid =
                    letter.subject.parse().map_err(|_| Error::fault("a request without an id"))?;
                let token = self.keyed_hash(Use::Confirmation, id);
                let link = format!("{app}/?privacy_request={id}&token={token}");
                write(letter.kind, &[("link", &link), ("app", app)])
            }
            Kind::Erased => {
                let erasure: Value = self.ask("erasure", json!({ "id": letter.subject })).await?;
                let receipt = erasure["receipt"].as_str().unwrap_or_default().to_owned();
                let keys = format!("{functions}/.well-known/jwks.json");
                write(letter.kind, &[("receipt", &receipt), ("keys", &keys)])
            }
        };
        mailer.send(to, written).await?;
        crash::reached("letter.sent");
        self.ask::<Value>("finish_letter", json!({ "id": letter.id })).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_complete_in_text_and_page() {
        let values = [
            ("days", "7 days"),
            ("app", "https://app.example"),
            ("link", "https://app.example/?a=1&b=2"),
            ("receipt", "a.b.c"),
            ("keys", "https://functions.example/.well-known/jwks.json"),
        ];
        for kind in [Kind::Inactive, Kind::RequestFiled, Kind::Erased] {
            let Written { subject, text, page } = write(kind, &values);
            for part in [&subject, &text, &page] {
                assert!(!part.contains('{') && !part.contains('}'), "{kind:?}: {part}");
            }
            assert!(
                !subject.contains('\n')
                    && !text.contains('<')
                    && page.starts_with("<!doctype html>")
            );
        }
    }

    #[test]
    fn what_is_filled_in_cannot_become_markup() {
        let page = write(Kind::RequestFiled, &[("link", r#"x"><script>&"#), ("app", "")]).page;
        assert!(page.contains("x&quot;>&lt;script>&amp;"), "{page}");
    }
}
