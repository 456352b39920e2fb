//! One header of a mail, read as mail programs do.

use mail_parser::{Message, MessageParser};

/// How much of a header is read, in bytes. A line of a mail has at most 998 (RFC 5322).
pub(crate) const HEADER_LIMIT: usize = 4000;

/// What `read` finds in a header of this name and value.
pub(crate) fn parse<T>(
    name: &str,
    value: &str,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> Option<T> {
    let value = value.replace(['\r', '\n'], " ");
    let raw = format!("{name}: {value}\r\n\r\n");
    read(&MessageParser::new().parse(raw.as_bytes())?)
}
