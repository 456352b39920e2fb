//! Reads variables and collects what is wrong with them.

use lettre::{AsyncSmtpTransport, Tokio1Executor};
use tower_http::cors::AllowOrigin;
use url::Url;

use super::{
    CREDENTIALS_CERTIFICATE, CREDENTIALS_KEY, ContentCredentials, Mail, is_loopback,
    is_transport_allowed,
};
use crate::cors;
use crate::receipt::ReceiptKeys;
use crate::secret::Secret;
use crate::signature::{InvalidKey, VerifyingKeys};

/// Reads variables and collects all faults, so that the first start names every one of them.
pub(super) struct Reader<'a> {
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    pub(super) faults: Vec<String>,
    pub(super) allow_loopback: bool,
}

impl Reader<'_> {
    pub(super) fn required(&mut self, name: &str) -> String {
        let value = self.optional(name, "");
        if value.is_empty() {
            self.faults.push(format!("{name} is not set"));
        }
        value
    }

    pub(super) fn optional(&self, name: &str, default: &str) -> String {
        (self.variable)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn operator_secret(&mut self) -> Option<Secret> {
        let secret = self.optional("OPERATOR_SECRET", "");
        if (1..16).contains(&secret.len()) {
            self.faults.push("OPERATOR_SECRET must have at least 16 characters".to_owned());
        }
        (!secret.is_empty()).then(|| Secret::new(secret))
    }

    pub(super) fn pseudonym_key(&mut self) -> Secret {
        let key = self.required("PSEUDONYM_KEY");
        if (1..32).contains(&key.len()) {
            self.faults.push("PSEUDONYM_KEY must have at least 32 characters".to_owned());
        }
        Secret::new(key)
    }

    pub(super) fn app_url(&mut self) -> Option<Url> {
        self.optional_url("APP_URL")
    }

    pub(super) fn app_origins(&mut self) -> AllowOrigin {
        cors::read(&self.optional("APP_ORIGINS", "")).unwrap_or_else(|| {
            let fault = "APP_ORIGINS must be * or origins, such as https://app.example, separated by spaces";
            self.faults.push(fault.to_owned());
            AllowOrigin::any()
        })
    }

    pub(super) fn content_credentials(&mut self) -> Option<ContentCredentials> {
        // Some secret stores cannot hold line breaks, so `\n` may be written instead.
        let pem = |name| self.optional(name, "").replace("\\n", "\n");
        let certificate = pem(CREDENTIALS_CERTIFICATE);
        let key = pem(CREDENTIALS_KEY);
        let timestamp_url = self.optional_url("CONTENT_CREDENTIALS_TIMESTAMP_URL");
        if certificate.is_empty() != key.is_empty() {
            let fault =
                format!("{CREDENTIALS_CERTIFICATE} and {CREDENTIALS_KEY} must be set together");
            self.faults.push(fault);
        }
        let is_set = !certificate.is_empty();
        is_set.then(|| ContentCredentials { certificate, key: Secret::new(key), timestamp_url })
    }

    pub(super) fn mail(&mut self) -> Option<Mail> {
        let smtp_url = self.optional("SMTP_URL", "");
        let from = self.optional("MAIL_FROM", "");
        if smtp_url.is_empty() {
            return None;
        }
        let is_safe = smtp_url.starts_with("smtps://")
            || (smtp_url.starts_with("smtp://") && smtp_url.ends_with("tls=required"))
            || (self.allow_loopback && Url::parse(&smtp_url).is_ok_and(|url| is_loopback(&url)));
        let is_usable = AsyncSmtpTransport::<Tokio1Executor>::from_url(&smtp_url).is_ok();
        if !is_safe || !is_usable {
            let fault = "SMTP_URL must be smtps://user:password@host:465, or smtp://…?tls=required; what else \
                         a password holds is written as in addresses, such as %23 for #";
            self.faults.push(fault.to_owned());
        }
        if self.optional("APP_URL", "").is_empty() {
            self.faults.push("APP_URL must be set where SMTP_URL is: emails lead there".to_owned());
        }
        let reply_to = self.optional("MAIL_REPLY_TO", &from);
        let mut mailbox = |name: &str, written: &str| {
            let fault = format!("{name} must be a mailbox, such as OpusFlair <privacy@…>");
            written.parse().map_err(|_| self.faults.push(fault)).ok()
        };
        let (from, reply_to) = (mailbox("MAIL_FROM", &from)?, mailbox("MAIL_REPLY_TO", &reply_to)?);
        Some(Mail { smtp_url: Secret::new(smtp_url), from, reply_to })
    }

    pub(super) fn inbox_keys(&mut self) -> Option<VerifyingKeys> {
        let is_set = !self.optional("INBOX_WEBHOOK_SECRET", "").is_empty();
        is_set.then(|| self.keys("INBOX_WEBHOOK_SECRET"))
    }

    fn optional_url(&mut self, name: &str) -> Option<Url> {
        let is_set = !self.optional(name, "").is_empty();
        is_set.then(|| self.url(name, None))
    }

    pub(super) fn url(&mut self, name: &str, default: Option<&str>) -> Url {
        let value = match default {
            Some(default) => self.optional(name, default),
            None => self.required(name),
        };
        match Url::parse(value.trim_end_matches('/')) {
            Ok(url) if is_transport_allowed(&url, self.allow_loopback) => return url,
            Ok(_) => self.faults.push(format!("{name} must be an https address")),
            Err(_) if value.is_empty() => {}
            Err(_) => self.faults.push(format!("{name} is not an address")),
        }
        // This value is never used: a fault was recorded, so `read` returns an error.
        Url::parse("https://invalid.invalid").expect("a constant address parses")
    }

    pub(super) fn receipt_keys(&mut self) -> ReceiptKeys {
        let (seed, retired) = ("RECEIPT_SIGNING_KEY", "RECEIPT_PUBLIC_KEYS");
        let signing = self.required(seed);
        let keys = ReceiptKeys::parse(&signing, &self.optional(retired, ""));
        keys.unwrap_or_else(|fault| {
            if ReceiptKeys::parse(&signing, "").is_ok() {
                self.faults.push(format!("each of {retired} {fault}"));
            } else if !signing.is_empty() {
                self.faults.push(format!("{seed} {fault}"));
            }
            ReceiptKeys::unusable()
        })
    }

    pub(super) fn keys(&mut self, name: &str) -> VerifyingKeys {
        let value = self.required(name);
        VerifyingKeys::parse(&value).unwrap_or_else(|fault| {
            if fault != InvalidKey::Missing {
                self.faults.push(format!("{name}: {fault}"));
            }
            VerifyingKeys::default()
        })
    }
}
