//! The words of our emails: a subject, a plain text and an HTML page for each kind.

use serde::Deserialize;

/// The subjects of all emails. `{days}` is a placeholder. A reply to an email repeats its subject.
pub const SUBJECTS: [&str; 5] = [
    "Your OpusFlair account will be deleted in {days}",
    "Your privacy request has arrived",
    "Your privacy request is refused",
    "Your privacy request needs more time",
    "Your OpusFlair account is erased",
];

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Inactive,
    RequestFiled,
    RequestRefused,
    RequestExtended,
    Erased,
}

impl Kind {
    /// Returns the subject, the plain text and the HTML page.
    fn template(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Inactive => (
                SUBJECTS[0],
                include_str!("../emails/inactive.txt"),
                include_str!("../emails/inactive.html"),
            ),
            Self::RequestFiled => (
                SUBJECTS[1],
                include_str!("../emails/request_filed.txt"),
                include_str!("../emails/request_filed.html"),
            ),
            Self::RequestRefused => (
                SUBJECTS[2],
                include_str!("../emails/request_refused.txt"),
                include_str!("../emails/request_refused.html"),
            ),
            Self::RequestExtended => (
                SUBJECTS[3],
                include_str!("../emails/request_extended.txt"),
                include_str!("../emails/request_extended.html"),
            ),
            Self::Erased => (
                SUBJECTS[4],
                include_str!("../emails/erased.txt"),
                include_str!("../emails/erased.html"),
            ),
        }
    }
}

/// An email with all placeholders filled in.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) page: String,
}

pub(super) fn write(kind: Kind, values: &[(&str, &str)]) -> Written {
    let (subject, text, page) = kind.template();
    let fill = |template: &str, escape: fn(&str) -> String| {
        values.iter().fold(template.to_owned(), |filled, (name, value)| {
            filled.replace(&format!("{{{name}}}"), &escape(value))
        })
    };
    Written {
        subject: fill(subject, str::to_owned),
        text: fill(text, str::to_owned),
        page: fill(page, |value| {
            value.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_email_is_complete_in_text_and_html() {
        let values = [
            ("days", "7 days"),
            ("app", "https://app.example"),
            ("link", "https://app.example/?a=1&b=2"),
            ("receipt", "a.b.c"),
            ("until", "3 February 2027"),
            ("reason", "The law wants the books kept."),
            ("keys", "https://functions.example/.well-known/jwks.json"),
        ];
        for kind in [
            Kind::Inactive,
            Kind::RequestFiled,
            Kind::RequestRefused,
            Kind::RequestExtended,
            Kind::Erased,
        ] {
            let Written { subject, text, page } = write(kind, &values);
            for part in [&subject, &text, &page] {
                assert!(!part.contains('{') && !part.contains('}'), "{kind:?}: {part}");
            }
            assert!(
                !subject.contains('\n')
                    && !text.contains('<')
                    && page.starts_with("<!doctype html>")
            );
        }
    }

    #[test]
    fn a_filled_in_value_cannot_become_markup() {
        let page = write(Kind::RequestFiled, &[("link", r#"x"><script>&"#), ("app", "")]).page;
        assert!(page.contains("x&quot;>&lt;script>&amp;"), "{page}");
    }
}
