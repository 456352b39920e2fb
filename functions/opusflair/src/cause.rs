//! The cause of a failure, for the log. It consists of our own words, a status and a code. So no text from a
//! service's response can enter the log (R5).

use std::fmt;

/// What the log tells the operator about a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Cause {
    words: &'static str,
    status: Option<u16>,
    code: Option<String>,
}

impl Cause {
    /// A service responded with `status` to the action that `words` names. `words` may be empty.
    #[must_use]
    pub(crate) fn status(words: &'static str, status: u16) -> Self {
        Self { status: Some(status), ..words.into() }
    }

    /// Returns whether the service responded at all, even with a failure.
    #[must_use]
    pub(crate) fn is_answer(&self) -> bool {
        self.status.is_some()
    }

    /// The cause as a field of a log line.
    #[must_use]
    pub fn for_log(&self) -> &(dyn std::error::Error + 'static) {
        self
    }

    /// Adds the error code of the database. A text that is not a code is left out.
    #[must_use]
    pub(crate) fn with_code(self, code: &str) -> Self {
        let is_code = (5..=8).contains(&code.len())
            && code.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        Self { code: is_code.then(|| code.to_owned()), ..self }
    }
}

impl From<&'static str> for Cause {
    fn from(words: &'static str) -> Self {
        Self { words, status: None, code: None }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words)?;
        if let Some(status) = self.status {
            let colon = if self.words.is_empty() { "" } else { ": " };
            write!(f, "{colon}status {status}")?;
        }
        match &self.code {
            Some(code) => write!(f, ", code {code}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_shows_its_words_status_and_code() {
        assert_eq!(Cause::from("busy").to_string(), "busy");
        assert_eq!(Cause::status("", 502).to_string(), "status 502");
        let create = Cause::status("create", 401);
        assert_eq!(create.to_string(), "create: status 401");
        assert_eq!(create.with_code("23505").to_string(), "create: status 401, code 23505");
    }

    #[test]
    fn a_text_that_is_not_a_code_is_left_out() {
        for text in ["", "23", "Key (prompt)=(x)", "secret", "PGRST301 secret"] {
            assert_eq!(Cause::from("busy").with_code(text).to_string(), "busy", "{text}");
        }
        assert_eq!(Cause::from("busy").with_code("PGRST301").to_string(), "busy, code PGRST301");
    }
}
