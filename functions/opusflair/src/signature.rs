//! Signatures of webhooks, Replicate's and the mail provider's: the Standard Webhooks scheme (HMAC-SHA256 over
//! `id.timestamp.body`), verified on the raw bytes, in constant time.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;
use time::{Duration, OffsetDateTime};

/// How far a timestamp may lie from now, either way: the customary five minutes.
pub const TOLERANCE: Duration = Duration::minutes(5);

/// The shortest key that Standard Webhooks allows, in bytes.
const SHORTEST_KEY: usize = 24;

/// The keys that a signature may come from; more than one while a key is rotated.
#[derive(Clone, Default)]
pub struct VerifyingKeys(Vec<Vec<u8>>);

/// Why a webhook secret cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// There is none.
    #[error("no secret is set")]
    Missing,
    /// Not `whsec_` and base64.
    #[error("a secret must be whsec_ followed by base64")]
    Malformed,
    /// Fewer than 24 bytes.
    #[error("a secret must hold at least {SHORTEST_KEY} bytes")]
    TooShort,
}

/// Why a signature does not count. The sender learns no more than that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// A `webhook-…` header is missing or unreadable.
    #[error("a signature header is missing or unreadable")]
    Incomplete,
    /// Sent more than five minutes ago, or ahead.
    #[error("the timestamp is too far from now")]
    Stale,
    /// None of the signatures fits.
    #[error("no signature fits")]
    Mismatch,
}

/// The three headers of a signed message.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// `webhook-id`: the same for each delivery of one message.
    pub id: &'a str,
    /// `webhook-timestamp`: seconds since 1970.
    pub timestamp: &'a str,
    /// `webhook-signature`: `v1,<base64>`, several separated by spaces.
    pub signature: &'a str,
}

impl<'a> Headers<'a> {
    /// Reads `<prefix>-id`, `-timestamp` and `-signature`, of the first of the prefixes that each is there with.
    ///
    /// # Errors
    /// [`InvalidSignature::Incomplete`].
    pub fn read(headers: &'a HeaderMap, prefixes: &[&str]) -> Result<Self, InvalidSignature> {
        let header = |name: &str| {
            prefixes
                .iter()
                .find_map(|prefix| headers.get(format!("{prefix}-{name}")))
                .and_then(|value| value.to_str().ok())
                .ok_or(InvalidSignature::Incomplete)
        };
        Ok(Self {
            id: header("id")?,
            timestamp: header("timestamp")?,
            signature: header("signature")?,
        })
    }
}

impl VerifyingKeys {
    /// Reads one or more `whsec_…`, separated by white space.
    ///
    /// # Errors
    /// Where one is malformed or too short, or there is none: no key must never mean no check.
    pub fn parse(secrets: &str) -> Result<Self, InvalidKey> {
        let keys = secrets.split_whitespace().map(parse_key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(InvalidKey::Missing) } else { Ok(Self(keys)) }
    }

    /// Whether `body` was signed with one of the keys, within [`TOLERANCE`] of `now`.
    ///
    /// # Errors
    /// See [`InvalidSignature`].
    pub fn verify(
        &self,
        headers: Headers<'_>,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), InvalidSignature> {
        let sent = headers
            .timestamp
            .parse()
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or(InvalidSignature::Incomplete)?;
        if headers.id.is_empty() {
            return Err(InvalidSignature::Incomplete);
        }
        if (now - sent).abs() > TOLERANCE {
            return Err(InvalidSignature::Stale);
        }

        let signatures = headers
            .signature
            .split(' ')
            .filter_map(|part| STANDARD.decode(part.strip_prefix("v1,")?).ok());
        for signature in signatures {
            for key in &self.0 {
                let mut mac = new_mac(key);
                for part in [headers.id.as_bytes(), b".", headers.timestamp.as_bytes(), b".", body]
                {
                    mac.update(part);
                }
                if mac.verify_slice(&signature).is_ok() {
                    return Ok(());
                }
            }
        }
        Err(InvalidSignature::Mismatch)
    }
}

impl fmt::Debug for VerifyingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKeys({} redacted)", self.0.len())
    }
}

fn parse_key(secret: &str) -> Result<Vec<u8>, InvalidKey> {
    let encoded = secret.strip_prefix("whsec_").ok_or(InvalidKey::Malformed)?;
    let key = STANDARD.decode(encoded).map_err(|_| InvalidKey::Malformed)?;
    if key.len() < SHORTEST_KEY { Err(InvalidKey::TooShort) } else { Ok(key) }
}

fn new_mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    /// The example of the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const HEADERS: Headers<'static> = Headers {
        id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp: "1614265330",
        signature: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    };
    const SENT: OffsetDateTime = datetime!(2021-02-25 15:02:10 UTC);

    fn keys(secrets: &str) -> VerifyingKeys {
        VerifyingKeys::parse(secrets).expect("usable secrets")
    }

    #[test]
    fn the_example_of_the_specification_is_accepted() {
        assert_eq!(keys(SECRET).verify(HEADERS, BODY, SENT), Ok(()));
    }

    #[test]
    fn one_fitting_signature_among_several_is_enough() {
        let signature = format!("v1,AAAA v2,zzz {} v1a,x", HEADERS.signature);
        let headers = Headers { signature: &signature, ..HEADERS };
        assert_eq!(keys(SECRET).verify(headers, BODY, SENT), Ok(()));
    }

    #[test]
    fn while_a_key_is_rotated_both_are_accepted() {
        assert_eq!(keys(&format!("{OTHER} {SECRET}")).verify(HEADERS, BODY, SENT), Ok(()));
        assert_eq!(keys(OTHER).verify(HEADERS, BODY, SENT), Err(InvalidSignature::Mismatch));
    }

    #[test]
    fn five_minutes_either_way_are_tolerated_and_no_more() {
        for (offset, expected) in [
            (Duration::minutes(5), Ok(())),
            (Duration::minutes(-5), Ok(())),
            (Duration::seconds(301), Err(InvalidSignature::Stale)),
            (Duration::seconds(-301), Err(InvalidSignature::Stale)),
        ] {
            assert_eq!(keys(SECRET).verify(HEADERS, BODY, SENT + offset), expected, "{offset}");
        }
    }

    #[test]
    fn headers_that_are_missing_or_unreadable_are_refused() {
        for headers in [
            Headers { id: "", ..HEADERS },
            Headers { timestamp: "", ..HEADERS },
            Headers { timestamp: "soon", ..HEADERS },
            Headers { timestamp: "99999999999999999", ..HEADERS },
        ] {
            let verdict = keys(SECRET).verify(headers, BODY, SENT);
            assert_eq!(verdict, Err(InvalidSignature::Incomplete), "{headers:?}");
        }
        let headers = Headers { signature: "", ..HEADERS };
        assert_eq!(keys(SECRET).verify(headers, BODY, SENT), Err(InvalidSignature::Mismatch));
    }

    #[test]
    fn keys_that_are_missing_malformed_or_short_are_refused() {
        for (secret, fault) in [
            ("", InvalidKey::Missing),
            ("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", InvalidKey::Malformed),
            ("whsec_!", InvalidKey::Malformed),
            ("whsec_", InvalidKey::TooShort),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY=", InvalidKey::TooShort),
        ] {
            assert_eq!(VerifyingKeys::parse(secret).err(), Some(fault), "{secret}");
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_breaks_the_signature(at in 0..BODY.len(), change in 1u8..) {
            let mut body = BODY.to_vec();
            body[at] ^= change;
            let verdict = keys(SECRET).verify(HEADERS, &body, SENT);
            prop_assert_eq!(verdict, Err(InvalidSignature::Mismatch));
        }

        #[test]
        fn no_header_makes_it_panic(id in ".*", timestamp in ".*", signature in ".*") {
            let headers = Headers { id: &id, timestamp: &timestamp, signature: &signature };
            prop_assert!(keys(SECRET).verify(headers, BODY, SENT).is_err());
        }
    }
}
