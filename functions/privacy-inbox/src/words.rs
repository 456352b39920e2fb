//! The message of an email: its plain text, or the text of its HTML.

use mail_parser::decoders::html::html_to_text;

/// The longest message that is kept, in characters.
pub(crate) const MESSAGE_LIMIT: usize = 4000;
/// The part of a text that is searched for the message, in bytes. It is longer because white
/// space and NULs may come first.
const TEXT_LIMIT: usize = 16 * MESSAGE_LIMIT;
/// The part of an HTML body that is searched for the message, in bytes. It is longer because styles and much
/// markup may come first.
const HTML_LIMIT: usize = 512 * 1024;
/// Elements that start a new line.
const LINES: &[&str] =
    &["blockquote", "div", "h1", "h2", "h3", "h4", "hr", "li", "p", "table", "td", "tr"];

/// Returns the message of an email. `besides` is the text in the subject after the words of a request.
pub(crate) fn of(besides: &str, text: Option<&str>, html: Option<&str>) -> String {
    let written = text.map(|text| tidy(start(text, TEXT_LIMIT))).filter(|words| !words.is_empty());
    let body = written.or_else(|| html.map(|html| tidy(&from_html(start(html, HTML_LIMIT)))));
    let parts = [tidy(besides), body.unwrap_or_default()];
    let parts: Vec<&str> =
        parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    parts.join("\n\n").chars().take(MESSAGE_LIMIT).collect()
}

fn start(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// Removes NULs, which `PostgreSQL` cannot store, and surrounding white space.
fn tidy(text: &str) -> String {
    text.trim().chars().filter(|letter| *letter != '\0').take(MESSAGE_LIMIT).collect()
}

/// Converts HTML to text. The parser breaks lines only at `<br>` and `</p>`, so this adds a break at other
/// block elements. Otherwise their words would be joined.
fn from_html(html: &str) -> String {
    let mut broken = String::with_capacity(html.len());
    let mut parts = html.split('<');
    broken.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let name = part.trim_start_matches('/');
        let name = &name
            [..name.find(|letter: char| !letter.is_ascii_alphanumeric()).unwrap_or(name.len())];
        if LINES.iter().any(|line| line.eq_ignore_ascii_case(name)) {
            broken.push_str("<br>");
        }
        broken.push('<');
        broken.push_str(part);
    }
    let text = html_to_text(&broken);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn html_without_text_is_read_line_by_line() {
        let outlook = "<html xmlns:o=\"urn\"><head><style>p.MsoNormal {color:red}</style></head><body>\
            <!--[if mso]><div>never</div><![endif]-->\
            <div class=\"WordSection1\"><p class=\"MsoNormal\">Please delete <b>every</b>thing.<o:p></o:p></p>\
            <p class=\"MsoNormal\"><o:p>&nbsp;</o:p></p><p>K&uuml;sse &amp; Gr&#252;&szlig;e</p></div></body></html>";
        assert_eq!(of("", None, Some(outlook)), "Please delete everything.\nKüsse & Grüße");
        let gmail = "<div dir=\"ltr\">Delete my photos.<div>Thanks</div></div><br>";
        assert_eq!(of("", Some(" \r\n"), Some(gmail)), "Delete my photos.\nThanks");
    }

    #[test]
    fn the_text_comes_before_the_html_and_the_subject_before_both() {
        assert_eq!(of("", Some("text"), Some("<p>html</p>")), "text");
        assert_eq!(of("Ticket 7", Some("text"), None), "Ticket 7\n\ntext");
        assert_eq!(of("Ticket 7", None, None), "Ticket 7");
        assert_eq!(of("", None, Some("<p></p>")), "");
    }

    #[test]
    fn a_message_is_cut_at_its_limit() {
        let long = "\u{0}a".repeat(10_000) + &"\u{e9}".repeat(100_000);
        assert_eq!(of("", Some(&long), None), "a".repeat(MESSAGE_LIMIT));
        assert_eq!(of("", None, Some(&long)).chars().count(), MESSAGE_LIMIT);
    }

    proptest! {
        #[test]
        fn no_html_causes_a_panic(html in "(<|>|/|!|-|&|;|#|x|br|div|style|é|\u{0}| |\n){0,60}") {
            of("", None, Some(&html));
        }
    }
}
