//! The sender of an email, and whether the provider has verified it.

use std::borrow::Cow;

use url::Host;

use crate::header::{self, HEADER_LIMIT};

/// The longest `Authentication-Results` that is read, in bytes.
const RESULTS_LIMIT: usize = 16 * 1024;
/// The longest sender that is kept, in characters.
const SENDER_LIMIT: usize = 320;

/// The sender of an email.
pub(crate) struct Sender {
    /// The address in lower case, or the raw `From` if it has no address.
    pub(crate) address: String,
    /// Whether it is the only address. Otherwise it cannot be verified.
    is_sole: bool,
}

impl Sender {
    /// Parses a `From` header. The result always has a sender, because a request is filed
    /// even if its `From` has no address.
    pub(crate) fn read(from: &str) -> Self {
        let from = &from[from.ceil_char_boundary(from.len().saturating_sub(HEADER_LIMIT))..];
        let found = addresses(from);
        let is_sole = matches!(found.as_slice(), [Some(_)]);
        let address = found.into_iter().flatten().next().or_else(|| between_brackets(from));
        Self { address: address.unwrap_or_else(|| as_written(from)), is_sole }
    }

    /// Whether the provider has verified the sender. `results` is the topmost `Authentication-Results`
    /// header, and `authserv_id` is the provider's name in it.
    pub(crate) fn is_verified(&self, results: Option<&str>, authserv_id: Option<&str>) -> bool {
        self.is_sole
            && authserv_id
                .zip(results)
                .is_some_and(|(id, results)| is_verified(results, id, &self.address))
    }

    /// Whether the sender is a mail server that reports a failed delivery.
    pub(crate) fn is_mail_server(&self) -> bool {
        self.address.starts_with("mailer-daemon@")
    }
}

/// The addresses in a `From` header; `None` for each unusable one. An unquoted comma in a name makes extra
/// entries without an `@`, which are skipped.
fn addresses(from: &str) -> Vec<Option<String>> {
    let is_bare = from.trim_start().starts_with('"') && from.contains("\"@") && !from.contains('<');
    let from = if is_bare { Cow::Owned(format!("<{}>", from.trim())) } else { Cow::Borrowed(from) };
    let found = header::parse("From", &from, |message| {
        let entries = message.from()?.iter().filter_map(|one| one.address.as_deref());
        Some(entries.filter(|address| address.contains('@')).map(usable).collect())
    });
    found.unwrap_or_default()
}

fn between_brackets(from: &str) -> Option<String> {
    usable(from.rsplit_once('<')?.1.split_once('>')?.0)
}

/// Normalizes an address: lower case, without quotes around the local part. Some Japanese carriers use
/// addresses with two dots in a row, and only some email programs quote them.
fn usable(address: &str) -> Option<String> {
    let (local, domain) = address.rsplit_once('@')?;
    let local = local
        .strip_prefix('"')
        .and_then(|local| local.strip_suffix('"'))
        .map_or(Cow::Borrowed(local), |quoted| Cow::Owned(quoted.replace('\\', "")));
    let found = format!("{local}@{domain}").to_lowercase();
    let is_plain = found.chars().count() <= SENDER_LIMIT
        && found.chars().all(|letter| !letter.is_control() && !letter.is_whitespace());
    (is_plain && !local.is_empty() && domain.contains('.')).then_some(found)
}

fn as_written(from: &str) -> String {
    let plain: String = from.chars().filter(|letter| !letter.is_control()).collect();
    let plain: String = plain.trim().chars().take(SENDER_LIMIT).collect();
    if plain.chars().count() < 3 { "no sender is named".to_owned() } else { plain }
}

/// Whether DMARC passed for the sender's own domain according to the provider (RFC 8601). Only the topmost
/// header counts, and only if it has the provider's name, because a sender may add others below it. The
/// provider states the result once. If there are two results, neither counts, because a part of the header
/// quotes the sender's text.
fn is_verified(results: &str, authserv_id: &str, sender: &str) -> bool {
    if results.len() > RESULTS_LIMIT {
        return false;
    }
    let Some((_, domain)) = sender.rsplit_once('@') else { return false };
    let Some(plain) = without_quotes(results) else { return false };
    let mut parts = plain.split(';').map(str::trim);
    let names_provider = parts
        .next()
        .and_then(|id| id.split_whitespace().next())
        .is_some_and(|id| id.eq_ignore_ascii_case(authserv_id));
    let about_dmarc: Vec<String> =
        parts.map(str::to_lowercase).filter(|part| part.starts_with("dmarc")).collect();
    let [only] = about_dmarc.as_slice() else { return false };
    let mut words = only.split_whitespace();
    names_provider
        && words.next() == Some("dmarc=pass")
        && words.any(|word| {
            word.strip_prefix("header.from=").is_some_and(|named| is_same(named, domain))
        })
}

/// The header without quoted strings and comments, which may contain any text (RFC 5322).
/// `None` if one of them is not closed.
fn without_quotes(header: &str) -> Option<String> {
    let (mut plain, mut depth, mut is_quoted) = (String::new(), 0_usize, false);
    let mut letters = header.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if is_quoted || depth > 0 => drop(letters.next()?),
            '"' if depth == 0 => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.checked_sub(1)?,
            _ if is_quoted || depth > 0 => {}
            _ => plain.push(letter),
        }
    }
    (!is_quoted && depth == 0).then_some(plain)
}

/// Whether two domains are the same. A provider writes `xn--mller-kva.de` for `müller.de`.
fn is_same(named: &str, domain: &str) -> bool {
    named == domain
        || matches!((Host::parse(named), Host::parse(domain)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_address_is_found_in_every_form_of_a_from_header() {
        for (from, address) in [
            ("ada@example.com", "ada@example.com"),
            ("\"Bob, of X\" <BOB@Example.COM>", "bob@example.com"),
            ("Müller, Anna <anna@example.com>", "anna@example.com"),
            ("Müller, Dr., Anna <anna@example.com>", "anna@example.com"),
            ("=?utf-8?Q?M=C3=BCller=2C_Anna?= <anna@example.com>", "anna@example.com"),
            ("ada@example.com (Ada Lovelace)", "ada@example.com"),
            ("ada@old.example <ada@example.com>", "ada@example.com"),
            ("Family: ada@example.com;", "ada@example.com"),
            ("<a..b@docomo.ne.jp>", "a..b@docomo.ne.jp"),
            ("山田 <\"a..b\"@docomo.ne.jp>", "a..b@docomo.ne.jp"),
            ("\"a..b\"@docomo.ne.jp", "a..b@docomo.ne.jp"),
            ("<.a.@ezweb.ne.jp>", ".a.@ezweb.ne.jp"),
        ] {
            let sender = Sender::read(from);
            assert_eq!((sender.address.as_str(), sender.is_sole), (address, true), "{from}");
        }
    }

    #[test]
    fn a_sender_without_an_address_is_kept_as_written() {
        for (from, address) in [
            ("alice@example.com, bob@example.com", "alice@example.com"),
            ("not an address", "not an address"),
            ("nobody@nowhere", "nobody@nowhere"),
            ("\u{0}@example.com", "@example.com"),
            ("", "no sender is named"),
            ("<>", "no sender is named"),
        ] {
            let sender = Sender::read(from);
            assert_eq!((sender.address.as_str(), sender.is_sole), (address, false), "{from}");
        }
    }

    #[test]
    fn only_the_end_of_a_long_from_header_is_read() {
        let long = format!("\"{}\" <ada@example.com>", "\u{e9}".repeat(10_000));
        assert_eq!(Sender::read(&long).address, "ada@example.com");
        assert_eq!(Sender::read(&"a".repeat(10_000)).address.len(), SENDER_LIMIT);
    }

    #[test]
    fn a_too_long_authentication_result_is_ignored() {
        let results = |length: usize| {
            format!("{:<length$}", "mx.example.net; dmarc=pass header.from=example.com")
        };
        for (length, expected) in [(RESULTS_LIMIT, true), (RESULTS_LIMIT + 1, false)] {
            let verdict = is_verified(&results(length), "mx.example.net", "alice@example.com");
            assert_eq!(verdict, expected);
        }
    }

    #[test]
    fn a_domain_is_the_same_in_both_of_its_forms() {
        let verified = |address: &str, named: &str| {
            let results = format!("mx.example.net; dmarc=pass header.from={named}");
            Sender::read(address).is_verified(Some(&results), Some("mx.example.net"))
        };
        assert!(verified("anna@m\u{fc}ller.de", "xn--mller-kva.de"));
        assert!(verified("anna@xn--mller-kva.de", "xn--mller-kva.de"));
        assert!(!verified("anna@muller.de", "xn--mller-kva.de"));
    }

    proptest! {
        #[test]
        fn quoted_text_never_verifies_a_sender(said in ".*", is_comment: bool) {
            let escape = |letter| match letter {
                '\\' | '"' | '(' | ')' => format!("\\{letter}"),
                letter => letter.to_string(),
            };
            let said: String = format!("{said}; dmarc=pass header.from=example.com;")
                .chars()
                .map(escape)
                .collect();
            let quoted = if is_comment { format!("({said})") } else { format!("\"{said}\"") };
            let results = format!("mx.example.net; spf=pass smtp.mailfrom={quoted}@evil.test");
            prop_assert!(!is_verified(&results, "mx.example.net", "alice@example.com"));
            let besides = format!("{results}; dmarc=pass header.from=example.com");
            prop_assert!(is_verified(&besides, "mx.example.net", "alice@example.com"));
        }
    }
}
