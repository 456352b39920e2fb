//! Values that never show in a log line or a debug print.

use std::fmt;

use sha2::{Digest, Sha256};

/// A secret string. [`Secret::reveal`] is the only way to its value, so that a search for it finds
/// every place where a secret leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Whether `candidate` is the secret. Digests are compared, so the time taken tells nothing.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        Sha256::digest(&self.0) == Sha256::digest(candidate)
    }

    /// The value itself, to be sent to whom it was made for.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_itself_matches() {
        assert!(Secret::new("s3cret").matches("s3cret"));
        assert!(!Secret::new("s3cret").matches("s3cre"));
        assert!(!Secret::new("s3cret").matches(""));
    }

    #[test]
    fn a_secret_does_not_show_when_printed() {
        assert!(!format!("{:?}", Secret::new("s3cret")).contains("s3cret"));
    }
}
