//! Verifies the signatures of webhooks from Replicate and from the email provider. Both use the Standard
//! Webhooks scheme: HMAC-SHA256 over `id.timestamp.body`. It is computed over the raw bytes and compared in
//! constant time. The headers are checked before the body is read.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::CtOutput;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;
use time::{Duration, OffsetDateTime};

/// How far a timestamp may differ from now, in either direction: the usual five minutes.
pub(crate) const TOLERANCE: Duration = Duration::minutes(5);

/// How many of the listed signatures are read. A sender lists one signature per key: usually one, or two
/// while a key is rotated.
pub(crate) const MAX_SIGNATURES: usize = 8;

/// The longest `webhook-id`, in characters. The ids of Replicate and Svix have about 31.
pub(crate) const LONGEST_ID: usize = 200;

/// The length of an HMAC-SHA256, in bytes.
const TAG_BYTES: usize = 32;

/// The shortest key that Standard Webhooks allows, in bytes.
const SHORTEST_KEY: usize = 24;

/// The keys that may sign. There is more than one while a key is rotated.
#[derive(Clone, Default)]
pub struct VerifyingKeys(Vec<Vec<u8>>);

/// Why a webhook secret cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    /// The secret is missing.
    #[error("no secret is set")]
    Missing,
    /// The secret is not `whsec_` followed by base64.
    #[error("a secret must be whsec_ followed by base64")]
    Malformed,
    /// The key has fewer than 24 bytes.
    #[error("a secret must hold at least {SHORTEST_KEY} bytes")]
    TooShort,
}

/// Why a signature is refused. The sender is told only that it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// A header is missing or is not text, the id is too long, or the timestamp is not a number. Or none of
    /// the first `MAX_SIGNATURES` signatures can be read.
    #[error("a signature header is missing, too long or unreadable")]
    Incomplete,
    /// The timestamp is more than five minutes in the past or in the future.
    #[error("the timestamp is too far from now")]
    Stale,
    /// None of the signatures matches.
    #[error("no signature fits")]
    Mismatch,
}

/// The three headers of a signed message. They are checked before the body is read, so an invalid request
/// costs little.
#[derive(Clone, Debug)]
pub struct Signed<'a> {
    id: &'a str,
    timestamp: &'a str,
    /// At least one and at most `MAX_SIGNATURES` signatures.
    tags: Vec<[u8; TAG_BYTES]>,
}

impl<'a> Signed<'a> {
    /// Reads the headers `<prefix>-id`, `<prefix>-timestamp` and `<prefix>-signature`. If a header is sent
    /// with several prefixes, the first prefix in `prefixes` wins.
    ///
    /// # Errors
    /// Returns [`InvalidSignature::Incomplete`], or [`InvalidSignature::Stale`] if the timestamp differs from
    /// `now` by more than `TOLERANCE`.
    pub fn read(
        headers: &'a HeaderMap,
        prefixes: &[&str],
        now: OffsetDateTime,
    ) -> Result<Self, InvalidSignature> {
        let header = |name: &str| {
            prefixes
                .iter()
                .find_map(|prefix| headers.get(format!("{prefix}-{name}")))
                .and_then(|value| value.to_str().ok())
                .ok_or(InvalidSignature::Incomplete)
        };
        Self::parse(header("id")?, header("timestamp")?, header("signature")?, now)
    }

    fn parse(
        id: &'a str,
        timestamp: &'a str,
        signatures: &str,
        now: OffsetDateTime,
    ) -> Result<Self, InvalidSignature> {
        let sent = timestamp
            .parse()
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
            .ok_or(InvalidSignature::Incomplete)?;
        let tags: Vec<_> = signatures
            .split_ascii_whitespace()
            .take(MAX_SIGNATURES)
            .filter_map(parse_tag)
            .collect();
        if id.is_empty() || id.len() > LONGEST_ID || tags.is_empty() {
            return Err(InvalidSignature::Incomplete);
        }
        if (now - sent).abs() > TOLERANCE {
            return Err(InvalidSignature::Stale);
        }
        Ok(Self { id, timestamp, tags })
    }

    /// Returns the `webhook-id`. It has 1 to 200 characters and is the same for each delivery of a message.
    #[must_use]
    pub fn id(&self) -> &'a str {
        self.id
    }
}

impl VerifyingKeys {
    /// Reads one or more secrets (`whsec_…`), separated by white space.
    ///
    /// # Errors
    /// Returns an error if a secret is malformed or too short, or if no secret is given. A missing key must
    /// never disable the check.
    pub(crate) fn parse(secrets: &str) -> Result<Self, InvalidKey> {
        let keys = secrets.split_whitespace().map(parse_key).collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(InvalidKey::Missing) } else { Ok(Self(keys)) }
    }

    /// Verifies that `body` was signed with one of the keys. The body is hashed once per key, regardless of
    /// the number of signatures.
    ///
    /// # Errors
    /// Returns [`InvalidSignature::Mismatch`] if no signature matches.
    pub fn verify(&self, signed: &Signed<'_>, body: &[u8]) -> Result<(), InvalidSignature> {
        let fits = |key: &Vec<u8>| {
            let expected = sign(key, signed, body);
            // `CtOutput` compares in constant time.
            signed.tags.iter().any(|tag| CtOutput::new((*tag).into()) == expected)
        };
        if self.0.iter().any(fits) { Ok(()) } else { Err(InvalidSignature::Mismatch) }
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

fn parse_tag(signature: &str) -> Option<[u8; TAG_BYTES]> {
    STANDARD.decode(signature.strip_prefix("v1,")?).ok()?.try_into().ok()
}

fn sign(key: &[u8], signed: &Signed<'_>, body: &[u8]) -> CtOutput<Hmac<Sha256>> {
    #[cfg(test)]
    tests::HASHED.with(|count| count.set(count.get() + 1));
    let mut mac = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [signed.id.as_bytes(), b".", signed.timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use http::HeaderValue;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    thread_local! {
        /// How many bodies this test has hashed.
        pub(super) static HASHED: Cell<usize> = const { Cell::new(0) };
    }

    /// The example in the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: &str = "1614265330";
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    /// A readable signature that matches nothing.
    const UNFITTING: &str = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    const SENT: OffsetDateTime = datetime!(2021-02-25 15:02:10 UTC);

    fn keys(secrets: &str) -> VerifyingKeys {
        VerifyingKeys::parse(secrets).expect("usable secrets")
    }

    fn headers(prefix: &str, id: &[u8], timestamp: &[u8], signature: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [("id", id), ("timestamp", timestamp), ("signature", signature)] {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                let name = http::HeaderName::try_from(format!("{prefix}-{name}"));
                headers.insert(name.expect("a header's name"), value);
            }
        }
        headers
    }

    fn signed(signatures: &str) -> Result<Signed<'_>, InvalidSignature> {
        Signed::parse(ID, TIMESTAMP, signatures, SENT)
    }

    fn verdict(secrets: &str, signatures: &str) -> Result<(), InvalidSignature> {
        keys(secrets).verify(&signed(signatures)?, BODY)
    }

    #[test]
    fn the_example_of_the_specification_is_accepted() {
        assert_eq!(verdict(SECRET, SIGNATURE), Ok(()));
    }

    #[test]
    fn headers_are_read_under_each_of_the_prefixes() {
        for prefix in ["webhook", "svix"] {
            let headers =
                headers(prefix, ID.as_bytes(), TIMESTAMP.as_bytes(), SIGNATURE.as_bytes());
            let signed = Signed::read(&headers, &["webhook", "svix"], SENT).expect("headers");
            assert_eq!(signed.id(), ID);
            assert_eq!(keys(SECRET).verify(&signed, BODY), Ok(()));
            let other = Signed::read(&headers, &["other"], SENT);
            assert_eq!(other.err(), Some(InvalidSignature::Incomplete));
        }
    }

    #[test]
    fn one_matching_signature_among_several_is_enough() {
        for signatures in [
            format!("v1,AAAA v2,zzz {SIGNATURE} v1a,x"),
            format!("{UNFITTING}  {SIGNATURE}"),
            format!("{SIGNATURE} {UNFITTING}"),
        ] {
            assert_eq!(verdict(SECRET, &signatures), Ok(()), "{signatures}");
        }
    }

    #[test]
    fn while_a_key_is_rotated_both_are_accepted() {
        assert_eq!(verdict(&format!("{OTHER} {SECRET}"), SIGNATURE), Ok(()));
        assert_eq!(verdict(OTHER, SIGNATURE), Err(InvalidSignature::Mismatch));
    }

    #[test]
    fn no_more_than_eight_listed_signatures_are_read() {
        let at_place = |place: usize| {
            let mut listed = vec![UNFITTING; 300];
            listed[place - 1] = SIGNATURE;
            listed.join(" ")
        };
        assert_eq!(verdict(SECRET, &at_place(8)), Ok(()));
        assert_eq!(verdict(SECRET, &at_place(9)), Err(InvalidSignature::Mismatch));
        assert_eq!(signed(&at_place(300)).expect("headers").tags.len(), MAX_SIGNATURES);
        // An unreadable signature counts towards the limit, too.
        let unreadable = format!("{}{SIGNATURE}", "v1, ".repeat(8));
        assert_eq!(signed(&unreadable).err(), Some(InvalidSignature::Incomplete));
    }

    #[test]
    fn a_body_is_hashed_once_a_key_however_many_signatures_are_listed() {
        HASHED.set(0);
        let listed = [UNFITTING; 300].join(" ");
        let both = format!("{OTHER} {SECRET}");
        assert_eq!(verdict(&both, &listed), Err(InvalidSignature::Mismatch));
        assert_eq!(HASHED.get(), 2);
    }

    #[test]
    fn five_minutes_either_way_are_tolerated_and_no_more() {
        for (offset, expected) in [
            (Duration::minutes(5), None),
            (Duration::minutes(-5), None),
            (Duration::seconds(301), Some(InvalidSignature::Stale)),
            (Duration::seconds(-301), Some(InvalidSignature::Stale)),
        ] {
            let read = Signed::parse(ID, TIMESTAMP, SIGNATURE, SENT + offset);
            assert_eq!(read.err(), expected, "{offset}");
        }
    }

    #[test]
    fn headers_that_are_missing_long_or_unreadable_are_refused_before_the_body() {
        let long = "m".repeat(LONGEST_ID + 1);
        for (id, timestamp, signature) in [
            ("", TIMESTAMP, SIGNATURE),
            (&long, TIMESTAMP, SIGNATURE),
            ("msg_\u{e9}", TIMESTAMP, SIGNATURE),
            ("msg\n", TIMESTAMP, SIGNATURE),
            (ID, "", SIGNATURE),
            (ID, "soon", SIGNATURE),
            (ID, "99999999999999999", SIGNATURE),
            (ID, TIMESTAMP, ""),
            (ID, TIMESTAMP, "v1,AAAA"),
            (ID, TIMESTAMP, "v1,!"),
            (ID, TIMESTAMP, SIGNATURE.trim_start_matches("v1,")),
            (ID, TIMESTAMP, &SIGNATURE.replace("v1,", "v1a,")),
        ] {
            let headers =
                headers("webhook", id.as_bytes(), timestamp.as_bytes(), signature.as_bytes());
            let read = Signed::read(&headers, &["webhook"], SENT);
            assert_eq!(read.err(), Some(InvalidSignature::Incomplete), "{headers:?}");
        }
        assert!(Signed::parse(&long[1..], TIMESTAMP, SIGNATURE, SENT).is_ok());
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
            let verdict = keys(SECRET).verify(&signed(SIGNATURE).expect("headers"), &body);
            prop_assert_eq!(verdict, Err(InvalidSignature::Mismatch));
        }

        #[test]
        fn no_other_tag_matches(tag: [u8; TAG_BYTES]) {
            let signature = format!("v1,{}", STANDARD.encode(tag));
            prop_assume!(signature != SIGNATURE);
            prop_assert_eq!(verdict(SECRET, &signature), Err(InvalidSignature::Mismatch));
        }

        #[test]
        fn no_header_makes_it_panic(
            id: Vec<u8>, timestamp in "([0-9]{10})|(.*)", signature in "(v1,[A-Za-z0-9+/]{43}=)|(.*)",
        ) {
            let headers = headers("webhook", &id, timestamp.as_bytes(), signature.as_bytes());
            let read = Signed::read(&headers, &["webhook"], SENT);
            prop_assert!(read.and_then(|signed| keys(SECRET).verify(&signed, BODY)).is_err());
        }
    }
}
