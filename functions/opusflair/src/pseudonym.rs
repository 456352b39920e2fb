//! What is made with `PSEUDONYM_KEY`: keyed hashes that only who has the key can repeat, each for one use.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use uuid::Uuid;

use crate::App;
use crate::secret::Secret;

/// What a hash is for; one for one use says nothing of another.
#[derive(Clone, Copy, Debug)]
pub enum Use {
    /// Stands in the books for whoever is gone (G3).
    Pseudonym,
    /// Shows that who confirms a request had our letter about it (Q1).
    Confirmation,
}

impl App {
    /// HMAC-SHA-256 of an id, in hexadecimal.
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
    fn a_hash_is_of_its_key_its_use_and_its_id() {
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
