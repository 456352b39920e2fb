//! Why something went wrong, for the log. Made of words of ours, a status and a code, so that whatever
//! a service answered, its text has no way in (R5).

use std::fmt;

/// What an operator is told of a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Cause {
    words: &'static str,
    status: Option<u16>,
    code: Option<String>,
}

impl Cause {
    /// A service answered with `status` when it was asked to do what `words` say, which may be empty.
    #[must_use]
    pub fn status(words: &'static str, status: u16) -> Self {
        Self { status: Some(status), ..words.into() }
    }

    /// Whether a service answered, if only with a failure.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        self.status.is_some()
    }

    /// As a field of a log line.
    #[must_use]
    pub fn for_log(&self) -> &(dyn std::error::Error + 'static) {
        self
    }

    /// The code of the database's that came with it. What is none is left out.
    #[must_use]
    pub fn with_code(self, code: &str) -> Self {
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
    fn it_says_what_was_asked_and_what_was_answered() {
        assert_eq!(Cause::from("busy").to_string(), "busy");
        assert_eq!(Cause::status("", 502).to_string(), "status 502");
        let create = Cause::status("create", 401);
        assert_eq!(create.to_string(), "create: status 401");
        assert_eq!(create.with_code("23505").to_string(), "create: status 401, code 23505");
    }

    #[test]
    fn what_is_not_a_code_is_left_out() {
        for text in ["", "23", "Key (prompt)=(x)", "secret", "PGRST301 secret"] {
            assert_eq!(Cause::from("busy").with_code(text).to_string(), "busy", "{text}");
        }
        assert_eq!(Cause::from("busy").with_code("PGRST301").to_string(), "busy, code PGRST301");
    }
}
