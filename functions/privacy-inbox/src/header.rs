//! Parses single email headers as email programs do.

use mail_parser::{Message, MessageParser};

/// The part of a header that is read, in bytes. A line of an email has at most 998 (RFC 5322).
pub(crate) const HEADER_LIMIT: usize = 4000;

/// Parses a header with this name and value, and returns what `read` finds in it.
pub(crate) fn parse<T>(
    name: &str,
    value: &str,
    read: impl Fn(&Message<'_>) -> Option<T>,
) -> Option<T> {
    let value = value.replace(['\r', '\n'], " ");
    let raw = format!("{name}: {value}\r\n\r\n");
    read(&MessageParser::new().parse(raw.as_bytes())?)
}
