//! Receipts of deletions. A person can verify one without asking us (X1). A receipt is a compact JWS (RFC
//! 7515), signed with Ed25519 (RFC 8037). The public keys are at `<iss>/.well-known/jwks.json`. Each one is
//! identified by its thumbprint (RFC 7638), so old receipts stay valid after a key was replaced.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

/// The length of an Ed25519 seed and of a public key, in bytes.
const KEY_LENGTH: usize = 32;

/// The key that signs, and all public keys that are published.
#[derive(Clone, Debug)]
pub struct ReceiptKeys {
    signing: Arc<Ed25519KeyPair>,
    id: String,
    published: Vec<Value>,
}

/// An invalid key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 32 bytes in base64, as `openssl rand -base64 32` makes them")]
pub(crate) struct InvalidReceiptKey;

/// The content of a receipt. It names no person. Only someone with the object key can tell which object it is
/// about.
#[derive(Debug, Serialize)]
pub(crate) struct Statement<'a> {
    /// The issuer: the address of the functions. The public keys are published below it.
    #[serde(rename = "iss")]
    pub(crate) issuer: &'a str,
    /// The id of the deletion.
    #[serde(rename = "jti")]
    pub(crate) deletion: Uuid,
    /// When the receipt was made, in Unix seconds.
    #[serde(rename = "iat")]
    pub(crate) issued_at: i64,
    /// The bucket of the object.
    pub(crate) bucket: &'a str,
    /// The object.
    pub(crate) object: ObjectDigest,
    /// The reason of the deletion: one of `public.deletion_reasons`.
    pub(crate) reason: &'a str,
    /// The clause of the privacy policy that requires the deletion.
    pub(crate) rule: &'a str,
    /// When the deletion was ordered.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) ordered_at: OffsetDateTime,
    /// When Storage confirmed the deletion. If it did not confirm it, this is `verified_at`.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) deleted_at: OffsetDateTime,
    /// When Storage answered that the object does not exist.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) verified_at: OffsetDateTime,
}

/// Identifies an object by a keyed digest. Only someone with the object key can compute it.
#[derive(Debug, Serialize)]
pub(crate) struct ObjectDigest {
    /// HMAC-SHA-256 of `<bucket>/<path>`, in hex. The key is the text form of the object key.
    pub(crate) hmac_sha256: String,
    /// HMAC-SHA-256 of the content's SHA-256, both in hex, with the same key. Only a photo that was judged
    /// has it. The content is the photo as it was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_hmac_sha256: Option<String>,
    /// The size in bytes. `null` if the object did not exist when the deletion began.
    pub(crate) bytes: Option<u64>,
}

impl ObjectDigest {
    /// Computes the digests of the name and of the content, if its SHA-256 is known.
    #[must_use]
    pub(crate) fn new(
        object_key: Uuid,
        bucket: &str,
        path: &str,
        content_sha256: Option<&str>,
        bytes: Option<u64>,
    ) -> Self {
        let keyed = |text: &str| hmac(object_key, text);
        Self {
            hmac_sha256: keyed(&format!("{bucket}/{path}")),
            content_hmac_sha256: content_sha256.map(keyed),
            bytes,
        }
    }
}

/// Returns the HMAC-SHA-256 of `text`. The key is the text form of the object key.
fn hmac(object_key: Uuid, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(object_key.to_string().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

impl ReceiptKeys {
    /// Reads the seed of the signing key, and the public keys of earlier signing keys.
    ///
    /// # Errors
    /// Returns an error if a key is not 32 bytes in base64.
    pub(crate) fn parse(seed: &str, retired: &str) -> Result<Self, InvalidReceiptKey> {
        let signing =
            Ed25519KeyPair::from_seed_unchecked(&decode(seed)?).map_err(|_| InvalidReceiptKey)?;
        let own = public_key(signing.public_key().as_ref());
        let id = own["kid"].as_str().unwrap_or_default().to_owned();
        let mut published = vec![own];
        for key in retired.split_whitespace() {
            published.push(public_key(&decode(key)?));
        }
        Ok(Self { signing: Arc::new(signing), id, published })
    }

    /// A placeholder for a configuration that is refused.
    pub(crate) fn unusable() -> Self {
        Self::parse(&URL_SAFE_NO_PAD.encode([0; KEY_LENGTH]), "").expect("any 32 bytes are a seed")
    }

    /// Returns the public keys as a JWK set (RFC 7517).
    #[must_use]
    pub fn public_keys(&self) -> Value {
        json!({ "keys": self.published })
    }

    /// Signs a statement. Returns a compact JWS.
    #[must_use]
    pub(crate) fn sign(&self, statement: &impl Serialize) -> String {
        let header = json!({ "alg": "EdDSA", "kid": self.id, "typ": "JWT" });
        // The times of the database have a year of four digits, so a statement can always be written.
        let payload = serde_json::to_vec(statement).expect("a statement is JSON");
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let signature = self.signing.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn public_key(bytes: &[u8]) -> Value {
    let x = URL_SAFE_NO_PAD.encode(bytes);
    // The thumbprint covers the required members in alphabetical order (RFC 7638).
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let id = URL_SAFE_NO_PAD.encode(Sha256::digest(members));
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id, "alg": "EdDSA", "use": "sig" })
}

/// Decodes standard or URL-safe base64, with or without padding.
fn decode(key: &str) -> Result<[u8; KEY_LENGTH], InvalidReceiptKey> {
    let key = key.trim().trim_end_matches('=');
    let key = key.replace('+', "-").replace('/', "_");
    let bytes = URL_SAFE_NO_PAD.decode(key).map_err(|_| InvalidReceiptKey)?;
    bytes.try_into().map_err(|_| InvalidReceiptKey)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use ring::signature::{ED25519, UnparsedPublicKey};
    use time::macros::datetime;

    use super::*;

    // The key, its thumbprint and a signature from RFC 8037, appendix A.
    const SEED: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    const THUMBPRINT: &str = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k";

    fn statement() -> Statement<'static> {
        Statement {
            issuer: "https://functions.example",
            deletion: Uuid::nil(),
            issued_at: 1_790_000_000,
            bucket: "inputs",
            object: ObjectDigest::new(Uuid::nil(), "inputs", "a/b.jpg", None, Some(12)),
            reason: "succeeded",
            rule: "R2",
            ordered_at: datetime!(2026-11-23 12:00:00.5 UTC),
            deleted_at: datetime!(2026-11-23 12:00:01 UTC),
            verified_at: datetime!(2026-11-23 12:00:02 UTC),
        }
    }

    #[test]
    fn a_public_key_is_published_as_in_the_rfc() {
        let keys = ReceiptKeys::parse(SEED, "").expect("a key").public_keys();
        assert_eq!(keys["keys"][0]["x"], PUBLIC);
        assert_eq!(keys["keys"][0]["kid"], THUMBPRINT);
        assert_eq!(keys["keys"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_retired_key_is_published_and_does_not_sign() {
        let other = STANDARD.encode([7; 32]);
        let keys = ReceiptKeys::parse(&other, PUBLIC).expect("keys");
        assert_eq!(keys.public_keys()["keys"][1]["kid"], THUMBPRINT);
        let receipt = keys.sign(&statement());
        let header = URL_SAFE_NO_PAD.decode(receipt.split('.').next().expect("a header"));
        let header: Value = serde_json::from_slice(&header.expect("base64")).expect("JSON");
        assert_eq!(header["kid"], keys.public_keys()["keys"][0]["kid"]);
    }

    #[test]
    fn a_receipt_verifies_with_the_public_key_and_a_changed_one_does_not() {
        let receipt = ReceiptKeys::parse(SEED, "").expect("a key").sign(&statement());
        let (signed, signature) = receipt.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        let key = UnparsedPublicKey::new(&ED25519, URL_SAFE_NO_PAD.decode(PUBLIC).expect("a key"));
        assert!(key.verify(signed.as_bytes(), &signature).is_ok());
        assert!(key.verify(signed.replacen('.', "..", 1).as_bytes(), &signature).is_err());
    }

    #[test]
    fn other_tools_compute_the_same_digests_from_the_object_key() {
        // printf inputs/a/b.jpg | openssl dgst -sha256 -hmac 00000000-0000-0000-0000-000000000000
        // printf "$(printf photo | sha256sum | cut -c1-64)" | openssl dgst -sha256 -hmac 00000000-0000-0000-0000-000000000000
        let content = hex::encode(Sha256::digest("photo"));
        let digest = ObjectDigest::new(Uuid::nil(), "inputs", "a/b.jpg", Some(&content), None);
        assert_eq!(
            digest.hmac_sha256,
            "26e589e4557529ddf2b03ef8013b77d61793c76aec9f895dc969b5df139b5ec1"
        );
        assert_eq!(
            digest.content_hmac_sha256.as_deref(),
            Some("16a5533b3338ba492094e2dea4e50052c9593d394197ef67a1880930e88e1115")
        );
        let other = ObjectDigest::new(Uuid::max(), "inputs", "a/b.jpg", Some(&content), None);
        assert_ne!(digest.hmac_sha256, other.hmac_sha256);
        assert_ne!(digest.content_hmac_sha256, other.content_hmac_sha256);
    }

    #[test]
    fn an_invalid_key_is_refused() {
        for seed in ["", "short", "not base64 at all, whatever it is", &STANDARD.encode([1; 31])] {
            assert!(ReceiptKeys::parse(seed, "").is_err(), "{seed}");
        }
        assert!(ReceiptKeys::parse(SEED, "short").is_err());
    }
}
