//! Values that never appear in log lines or debug output.

use std::fmt;

use sha2::{Digest, Sha256};

/// A secret string. Only [`Secret::reveal`] returns its value, so a search for that name finds every place
/// where a secret leaves the process.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns whether `candidate` is the secret. This compares digests, so the time that it takes reveals
    /// nothing about the secret.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        Sha256::digest(&self.0) == Sha256::digest(candidate)
    }

    /// Returns the value itself. Send it only to the service that the secret belongs to.
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
