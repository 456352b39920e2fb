//! Keyed hashes made with `PSEUDONYM_KEY`. Only someone with the key can compute them. Each hash is for one
//! purpose.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::App;
use crate::secret::Secret;

/// The purpose of a hash. A hash for one purpose reveals nothing about the hash of the same id for another.
#[derive(Clone, Copy, Debug)]
pub enum Use {
    /// Replaces the id of an erased person in the records that are kept (G3).
    Pseudonym,
    /// Proves that the person who confirms a request received our email about it (Q1).
    Confirmation,
}

impl App {
    /// Returns the HMAC-SHA-256 of an id, in hexadecimal.
    #[must_use]
    pub fn keyed_hash(&self, purpose: Use, id: Uuid) -> String {
        keyed_hash(&self.config.pseudonym_key, purpose, id)
    }
}

fn keyed_hash(key: &Secret, purpose: Use, id: Uuid) -> String {
    let purpose = match purpose {
        Use::Pseudonym => "pseudonym",
        Use::Confirmation => "confirmation",
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(key.reveal().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{purpose}:{id}").as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_the_key_the_purpose_and_the_id() {
        let (key, id) = (Secret::new("a key"), Uuid::nil());
        let hash = keyed_hash(&key, Use::Pseudonym, id);
        assert_eq!(hash, keyed_hash(&key, Use::Pseudonym, id));
        assert_ne!(hash, keyed_hash(&Secret::new("another"), Use::Pseudonym, id));
        assert_ne!(hash, keyed_hash(&key, Use::Confirmation, id));
        assert_ne!(hash, keyed_hash(&key, Use::Pseudonym, Uuid::max()));
        // printf pseudonym:00000000-0000-0000-0000-000000000000 | openssl dgst -sha256 -hmac 'a key'
        assert_eq!(hash.len(), 64);
    }
}
