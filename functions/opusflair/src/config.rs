//! The configuration. It is read once, from the environment. An error names the variable that it is about.

mod reader;

use std::env;

use tower_http::cors::AllowOrigin;
use url::{Host, Url};

use self::reader::Reader;
use crate::receipt::ReceiptKeys;
use crate::secret::Secret;
use crate::signature::VerifyingKeys;

/// The variable with the functions' own key.
pub(crate) const SECRET_KEY: &str = "SUPABASE_SECRET_KEY";
/// The variable with the key that is sent together with a user's token.
pub(crate) const PUBLISHABLE_KEY: &str = "SUPABASE_PUBLISHABLE_KEY";
/// The variable with the certificate that signs the marks of artworks.
pub const CREDENTIALS_CERTIFICATE: &str = "CONTENT_CREDENTIALS_CERTIFICATE";
/// The variable with the private key of that certificate.
pub const CREDENTIALS_KEY: &str = "CONTENT_CREDENTIALS_KEY";

/// The configuration of a function. `.env.example` documents each variable.
#[derive(Clone, Debug)]
pub struct Config {
    /// `SUPABASE_URL`: the URL of the project.
    pub(crate) supabase_url: Url,
    /// `SUPABASE_PUBLISHABLE_KEY`: sent together with a user's own token; `sb_publishable_…` or `eyJ…`.
    pub(crate) publishable_key: Secret,
    /// `SUPABASE_SECRET_KEY`: the functions' own key; `sb_secret_…` or `eyJ…`.
    pub(crate) secret_key: Secret,
    /// `REPLICATE_BASE_URL`: the URL of Replicate's API, including the version.
    pub(crate) replicate_url: Url,
    /// `REPLICATE_API_TOKEN`: the token of the Replicate account.
    pub(crate) replicate_token: Secret,
    /// `REPLICATE_WEBHOOK_SECRET`: verifies webhook events; `whsec_…`. While a key is rotated, several are
    /// separated by spaces.
    pub webhook_keys: VerifyingKeys,
    /// `REPLICATE_OUTPUT_HOSTS`: the hosts from which outputs may be fetched, including their subdomains.
    pub(crate) output_hosts: Vec<String>,
    /// `WEBHOOK_BASE_URL`: the URL at which Replicate reaches the functions. It is also the issuer of
    /// receipts.
    pub(crate) webhook_url: Url,
    /// `RECEIPT_SIGNING_KEY`: signs receipts. `RECEIPT_PUBLIC_KEYS`: the public keys of earlier signing keys.
    pub receipt_keys: ReceiptKeys,
    /// `CONTENT_CREDENTIALS_CERTIFICATE` and `CONTENT_CREDENTIALS_KEY`: sign the marks of artworks. If unset,
    /// the marks are unsigned.
    pub content_credentials: Option<ContentCredentials>,
    /// `PSEUDONYM_KEY`: the key of keyed hashes. These are the pseudonyms of erased people in the records
    /// that are kept, and the tokens in emails.
    pub(crate) pseudonym_key: Secret,
    /// `APP_URL`: the web app that emails link to.
    pub(crate) app_url: Option<Url>,
    /// `APP_ORIGINS`: the origins of the web pages that may call the functions. If unset, none may.
    pub(crate) app_origins: AllowOrigin,
    /// `SMTP_URL` and `MAIL_FROM`: the mail server, and the sender of emails. If unset, no emails are sent.
    pub(crate) mail: Option<Mail>,
    /// `INBOX_WEBHOOK_SECRET`: verifies inbound email; `whsec_…`. If unset, no email is received.
    pub inbox_keys: Option<VerifyingKeys>,
    /// `INBOX_AUTHSERV_ID`: the name under which the email provider reports whether the sender of an email is
    /// authentic (RFC 8601). If unset, no sender is trusted.
    pub inbox_authserv_id: Option<String>,
    /// `OPERATOR_SECRET`: lets the operator read the status and start a sweep. If unset, both are refused.
    pub(crate) operator_secret: Option<Secret>,
    /// `ALLOW_LOOPBACK=1`: allows requests to this machine, also over plain HTTP. For the embedded stack.
    pub(crate) allow_loopback: bool,
}

/// How emails are sent.
#[derive(Clone, Debug)]
pub struct Mail {
    /// `smtps://user:password@host:465`, or `smtp://…?tls=required`.
    pub(crate) smtp_url: Secret,
    /// The sender of emails.
    pub(crate) from: lettre::message::Mailbox,
    /// `MAIL_REPLY_TO`: the mailbox whose email reaches `privacy-inbox`. If unset, the mailbox of
    /// `MAIL_FROM`.
    pub(crate) reply_to: lettre::message::Mailbox,
}

/// The credentials that sign the marks of artworks. Only the crate `marking` parses them.
#[derive(Clone, Debug)]
pub struct ContentCredentials {
    /// The certificate chain in PEM. The signing certificate comes first.
    pub certificate: String,
    /// The private key of the signing certificate, in PEM (PKCS#8).
    pub key: Secret,
    /// `CONTENT_CREDENTIALS_TIMESTAMP_URL`: a time-stamping authority (RFC 3161). If unset, signatures carry
    /// no proof of their time and expire with the certificate.
    pub timestamp_url: Option<Url>,
}

/// Everything that is wrong with the environment, one line per variable.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is incomplete:\n  {}", .0.join("\n  "))]
pub struct InvalidConfig(Vec<String>);

impl Config {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// Names every variable that is missing or unusable.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        Self::read(|name| env::var(name).ok())
    }

    /// Reads each variable by calling `variable` with its name.
    ///
    /// # Errors
    /// Names every variable that is missing or unusable.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, InvalidConfig> {
        let mut reader = Reader { variable: &variable, faults: Vec::new(), allow_loopback: false };
        reader.allow_loopback = reader.optional("ALLOW_LOOPBACK", "0") == "1";

        let config = Self {
            supabase_url: reader.url("SUPABASE_URL", None),
            publishable_key: Secret::new(reader.required(PUBLISHABLE_KEY)),
            secret_key: Secret::new(reader.required(SECRET_KEY)),
            replicate_url: reader.url("REPLICATE_BASE_URL", Some("https://api.replicate.com/v1")),
            replicate_token: Secret::new(reader.required("REPLICATE_API_TOKEN")),
            webhook_keys: reader.keys("REPLICATE_WEBHOOK_SECRET"),
            output_hosts: reader
                .optional("REPLICATE_OUTPUT_HOSTS", "replicate.delivery")
                .split([',', ' '])
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect(),
            webhook_url: reader.url("WEBHOOK_BASE_URL", None),
            receipt_keys: reader.receipt_keys(),
            content_credentials: reader.content_credentials(),
            pseudonym_key: reader.pseudonym_key(),
            app_url: reader.app_url(),
            app_origins: reader.app_origins(),
            mail: reader.mail(),
            inbox_keys: reader.inbox_keys(),
            inbox_authserv_id: Some(reader.optional("INBOX_AUTHSERV_ID", ""))
                .filter(|name| !name.is_empty()),
            operator_secret: reader.operator_secret(),
            allow_loopback: reader.allow_loopback,
        };

        if reader.faults.is_empty() { Ok(config) } else { Err(InvalidConfig(reader.faults)) }
    }
}

/// Returns whether `url` may be requested. Nothing leaves unencrypted, except to this machine if that is
/// allowed (R3).
#[must_use]
pub(crate) fn is_transport_allowed(url: &Url, allow_loopback: bool) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => allow_loopback && is_loopback(url),
        _ => false,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // For schemes such as `smtp`, the crate `url` parses an IP address as a domain name.
        Some(Host::Domain("127.0.0.1")) => true,
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(name: &str) -> Option<String> {
        let value = match name {
            "SUPABASE_URL" => "https://project.supabase.co",
            "SUPABASE_PUBLISHABLE_KEY" => "sb_publishable_a",
            "SUPABASE_SECRET_KEY" => "sb_secret_b",
            "REPLICATE_API_TOKEN" => "r8_c",
            "REPLICATE_WEBHOOK_SECRET" => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "WEBHOOK_BASE_URL" => "https://project.supabase.co/functions/v1/",
            "PSEUDONYM_KEY" => "a key of thirty-two characters, or more",
            "RECEIPT_SIGNING_KEY" => "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=",
            _ => return None,
        };
        Some(value.to_owned())
    }

    fn with(name: &'static str, value: Option<&'static str>) -> Result<Config, InvalidConfig> {
        Config::read(|asked| if asked == name { value.map(str::to_owned) } else { complete(asked) })
    }

    #[test]
    fn a_complete_environment_is_read_with_defaults() {
        let config = Config::read(complete).expect("complete");
        assert_eq!(config.replicate_url.as_str(), "https://api.replicate.com/v1");
        assert_eq!(config.output_hosts, ["replicate.delivery"]);
        assert_eq!(config.webhook_url.as_str(), "https://project.supabase.co/functions/v1");
    }

    #[test]
    fn every_missing_variable_is_named_at_once() {
        let fault = Config::read(|_| None).expect_err("nothing is set").to_string();
        for name in [
            "SUPABASE_URL",
            "SUPABASE_PUBLISHABLE_KEY",
            "SUPABASE_SECRET_KEY",
            "REPLICATE_API_TOKEN",
            "REPLICATE_WEBHOOK_SECRET",
            "WEBHOOK_BASE_URL",
            "RECEIPT_SIGNING_KEY",
            "PSEUDONYM_KEY",
        ] {
            assert!(fault.contains(&format!("{name} is not set")), "{name} in: {fault}");
        }
    }

    #[test]
    fn an_unusable_webhook_secret_is_refused() {
        for secret in [None, Some(""), Some("whsec_"), Some("whsec_c2hvcnQ=")] {
            let fault = with("REPLICATE_WEBHOOK_SECRET", secret).expect_err("unusable");
            assert!(fault.to_string().contains("REPLICATE_WEBHOOK_SECRET"), "{secret:?}");
        }
    }

    #[test]
    fn an_invalid_receipt_key_is_named() {
        for (name, value) in [("RECEIPT_SIGNING_KEY", "short"), ("RECEIPT_PUBLIC_KEYS", "short")] {
            let fault = with(name, Some(value)).expect_err("unusable").to_string();
            assert!(fault.contains(name) && fault.contains("openssl"), "{fault}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused_and_line_ends_may_be_escaped() {
        let certificate = Some("-----BEGIN CERTIFICATE-----\\nMA==\\n-----END CERTIFICATE-----");
        let fault = with("CONTENT_CREDENTIALS_CERTIFICATE", certificate).expect_err("no key");
        assert!(fault.to_string().contains("CONTENT_CREDENTIALS_KEY"), "{fault}");
        let config = Config::read(|name| match name {
            "CONTENT_CREDENTIALS_CERTIFICATE" | "CONTENT_CREDENTIALS_KEY" => {
                certificate.map(str::to_owned)
            }
            _ => complete(name),
        });
        let credentials = config.expect("complete").content_credentials.expect("both are set");
        assert_eq!(credentials.certificate.lines().count(), 3);
        assert_eq!(credentials.key.reveal().lines().count(), 3);
        assert!(
            with("SUPABASE_URL", Some("https://a.example"))
                .expect("complete")
                .content_credentials
                .is_none()
        );
    }

    #[test]
    fn an_operator_secret_is_optional_but_not_short() {
        assert!(with("OPERATOR_SECRET", Some("short")).is_err());
        assert!(with("OPERATOR_SECRET", None).expect("complete").operator_secret.is_none());
        let config = with("OPERATOR_SECRET", Some("sixteen letters!")).expect("complete");
        assert!(config.operator_secret.is_some_and(|secret| secret.matches("sixteen letters!")));
    }

    #[test]
    fn email_needs_an_encrypted_server_a_mailbox_and_an_app() {
        let read = |smtp: &'static str, from: &'static str, app: &'static str| {
            Config::read(|name| match name {
                "SMTP_URL" => Some(smtp.to_owned()),
                "MAIL_FROM" => Some(from.to_owned()),
                "APP_URL" => Some(app.to_owned()),
                _ => complete(name),
            })
        };
        let (from, app) = ("OpusFlair <privacy@example.com>", "https://app.example.com");
        assert!(read("", "", "").expect("complete").mail.is_none());
        assert!(read("smtps://u:p@mail.example.com", from, app).expect("complete").mail.is_some());
        assert!(read("smtp://mail.example.com:25", from, app).is_err());
        assert!(read("smtps://u:pa%23ss@mail.example.com", from, app).is_ok());
        assert!(read("smtps://u:pa#ss@mail.example.com:465", from, app).is_err());
        assert!(read("smtp://127.0.0.1:25", from, app).is_err());
        assert!(read("smtps://mail.example.com", "nobody", app).is_err());
        assert!(read("smtps://mail.example.com", from, "").is_err());
        assert!(with("PSEUDONYM_KEY", Some("short")).is_err());
    }

    #[test]
    fn replies_go_to_the_sender_unless_another_mailbox_is_set() {
        let read = |reply_to: &'static str| {
            let config = Config::read(|name| match name {
                "SMTP_URL" => Some("smtps://u:p@mail.example.com".to_owned()),
                "MAIL_FROM" => Some("OpusFlair <privacy@example.com>".to_owned()),
                "MAIL_REPLY_TO" => Some(reply_to.to_owned()),
                "APP_URL" => Some("https://app.example.com".to_owned()),
                _ => complete(name),
            });
            config.ok().and_then(|config| config.mail).map(|mail| mail.reply_to.email.to_string())
        };
        assert_eq!(read("").as_deref(), Some("privacy@example.com"));
        assert_eq!(read("in@example.com").as_deref(), Some("in@example.com"));
        assert_eq!(read("nobody"), None);
    }

    #[test]
    fn plain_http_is_refused_unless_it_stays_on_this_machine_r3() {
        let read = |url: &'static str, loopback: bool| {
            Config::read(|name| match name {
                "SUPABASE_URL" => Some(url.to_owned()),
                "ALLOW_LOOPBACK" if loopback => Some("1".to_owned()),
                _ => complete(name),
            })
        };
        assert!(read("http://project.supabase.co", true).is_err());
        assert!(read("http://127.0.0.1:54321", false).is_err());
        assert!(read("http://127.0.0.1:54321", true).is_ok());
        assert!(read("ftp://127.0.0.1", true).is_err());
    }

    #[test]
    fn no_secret_shows_when_the_configuration_is_printed() {
        let shown = format!("{:?}", Config::read(complete).expect("complete"));
        for secret in ["sb_secret_b", "r8_c", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}
