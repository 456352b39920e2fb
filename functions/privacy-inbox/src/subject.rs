//! The subject of an email: whether it has the words from the policy (Q1), answers one of our
//! emails, or is an automatic reply.

use opusflair::email::SUBJECTS;

use crate::header::{self, HEADER_LIMIT};

/// The first words of automatic replies and of mail servers' reports, in lower case. Headers identify most of
/// them, but some providers leave these headers out.
const AUTOMATIC: &[&str] = &[
    "abwesenheitsnotiz",
    "auto:",
    "autoreply:",
    "automatic reply",
    "automatische antwort",
    "delivery status notification",
    "mail delivery failed",
    "out of office",
    "respuesta automática",
    "réponse automatique",
    "undeliverable:",
    "undelivered mail",
    "unzustellbar:",
    "自動応答",
    "自動返信",
];

/// The decoded subject of an email.
pub(crate) struct Subject(String);

impl Subject {
    /// Decodes a `Subject` header. If it is too long, only the start is read.
    pub(crate) fn read(written: &str) -> Self {
        let start = &written[..written.floor_char_boundary(HEADER_LIMIT)];
        let decoded =
            header::parse("Subject", start, |message| message.subject().map(str::to_owned));
        Self(decoded.as_deref().unwrap_or(start).chars().filter_map(plain).collect())
    }

    /// If the subject has the words from the policy, returns the text after them. Case, punctuation and text
    /// before the words do not matter.
    pub(crate) fn request(&self) -> Option<&str> {
        let end = self
            .end_of("privacy request ai data")
            .or_else(|| self.end_of("privacy requests ai data"))?;
        Some(self.0[end..].trim_matches(|letter: char| !letter.is_alphanumeric()))
    }

    /// Whether it repeats the subject of one of our emails.
    pub(crate) fn repeats_ours(&self) -> bool {
        SUBJECTS.iter().any(|subject| {
            let fixed = subject.split('{').next().unwrap_or_default();
            self.end_of(fixed).is_some()
        })
    }

    pub(crate) fn is_automatic(&self) -> bool {
        let lower = self.0.trim_start().to_lowercase();
        AUTOMATIC.iter().any(|start| lower.starts_with(start))
    }

    /// The position after `words`, if the subject contains them in this order without a gap.
    fn end_of(&self, words: &str) -> Option<usize> {
        let wanted: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
        let found = self.words();
        let place = found
            .windows(wanted.len())
            .find(|place| place.iter().zip(&wanted).all(|((_, word), wanted)| word == wanted))?;
        place.last().map(|(end, _)| *end)
    }

    /// Each word in lower case, with the position after it.
    fn words(&self) -> Vec<(usize, String)> {
        let mut words = Vec::new();
        let mut from = 0;
        for word in self.0.split(|letter: char| !letter.is_alphanumeric()) {
            let end = from + word.len();
            if !word.is_empty() {
                words.push((end, word.to_lowercase()));
            }
            from = end + self.0[end..].chars().next().map_or(0, char::len_utf8);
        }
        words
    }
}

/// Converts a full-width character to its plain form, and removes invisible ones.
fn plain(letter: char) -> Option<char> {
    match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0),
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => None,
        letter if letter.is_control() => Some(' '),
        letter => Some(letter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(subject: &str) -> Option<String> {
        Subject::read(subject).request().map(str::to_owned)
    }

    #[test]
    fn the_subject_may_be_cased_spaced_encoded_and_prefixed() {
        for subject in [
            "PRIVACY REQUEST - AI DATA",
            "Re: AW: [External] privacy  request\t- ai data ",
            "Fwd: Privacy Request \u{2013} AI Data",
            "Privacy Request - AI Data.",
            "\"Privacy Request - AI Data\"",
            "Privacy Request AI Data",
            "Privacy Requests: AI-Data",
            "Ｐｒｉｖａｃｙ　Ｒｅｑｕｅｓｔ　－　ＡＩ　Ｄａｔａ",
            "Priv\u{ad}acy Request\u{200b} - AI Data",
            "=?utf-8?B?UHJpdmFjeSBSZXF1ZXN0IC0gQUkgRGF0YQ==?=",
            "=?iso-8859-1?Q?Privacy_Request_-_AI?= =?utf-8?Q?_Data?=",
        ] {
            assert_eq!(request(subject).as_deref(), Some(""), "{subject}");
        }
        for subject in [
            "",
            "Privacy Request",
            "AI Data",
            "Privacy Request - AI Database",
            "NonPrivacy Request - AI Data",
            "Privacy Policy - AI Data Protection",
            "=?utf-8?B?!!!?=",
        ] {
            assert_eq!(request(subject), None, "{subject}");
        }
    }

    #[test]
    fn text_after_the_subject_is_kept() {
        for (subject, rest) in [
            ("Privacy Request - AI Data - please delete everything!", "please delete everything"),
            ("Privacy Request - AI Data (Ticket #7)", "Ticket #7"),
            ("Privacy Request - AI Data: Löschung", "Löschung"),
        ] {
            assert_eq!(request(subject).as_deref(), Some(rest));
        }
    }

    #[test]
    fn answers_to_our_emails_and_automatic_replies_are_recognised() {
        for subject in [
            "Re: Your privacy request has arrived",
            "AW: Your OpusFlair account will be deleted in 7 days",
            "Re: your opusflair account is erased",
        ] {
            assert!(Subject::read(subject).repeats_ours(), "{subject}");
        }
        assert!(!Subject::read("Re: Your account").repeats_ours());
        assert!(Subject::read("Automatic reply: Your privacy request has arrived").is_automatic());
        assert!(Subject::read("=?utf-8?B?6Ieq5YuV5b+c562U?=: x").is_automatic());
        assert!(!Subject::read("Re: Your privacy request has arrived").is_automatic());
    }

    #[test]
    fn only_the_start_of_a_long_subject_is_read() {
        let padded = |length: usize| format!("{:>length$}", "Privacy Request - AI Data");
        assert!(request(&padded(HEADER_LIMIT)).is_some());
        assert!(request(&padded(HEADER_LIMIT + 1)).is_none());
        let long = format!("Privacy Request - AI Data {}", "\u{e9}".repeat(10_000));
        assert!(request(&long).is_some_and(|rest| rest.starts_with('\u{e9}')));
    }
}
