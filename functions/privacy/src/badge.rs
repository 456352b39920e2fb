//! A badge that shows the age of the oldest photo. Any site may embed it.

use crate::status::Status;

const LABEL: &str = "oldest original";
/// The average width of a letter in Verdana at 11 px. `textLength` fits the text
/// to the width computed from it.
const LETTER: usize = 7;
const PADDING: usize = 6;

/// Draws an SVG of a few hundred bytes, without scripts or external resources.
pub(crate) fn svg(status: &Status) -> String {
    let value = status.originals.oldest_seconds.map_or_else(|| "none".to_owned(), age);
    let colour = if status.is_kept() { "#2a7f3f" } else { "#b3261e" };
    let (left, right) = (width(LABEL), width(&value));
    let total = left + right;
    let text = |x: usize, wide: usize, text: &str| {
        let (x, long) = (x + wide / 2, wide - 2 * PADDING);
        format!(r#"<text x="{x}" y="14" textLength="{long}">{text}</text>"#)
    };
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="20" role="img" aria-label="{LABEL}: {value}"><title>{LABEL}: {value}</title><clipPath id="r"><rect width="{total}" height="20" rx="3"/></clipPath><g clip-path="url(#r)"><rect width="{left}" height="20" fill="#444"/><rect x="{left}" width="{right}" height="20" fill="{colour}"/></g><g fill="#fff" text-anchor="middle" font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11">{}{}</g></svg>"##,
        text(0, left, LABEL),
        text(left, right, &value),
    )
}

fn width(text: &str) -> usize {
    text.len() * LETTER + 2 * PADDING
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(oldest: Option<u64>, is_open: bool) -> Status {
        waiting(oldest, is_open, None)
    }

    fn waiting(oldest: Option<u64>, is_open: bool, left: Option<i64>) -> Status {
        serde_json::from_value(json!({
            "originals": { "stored": 1, "oldest_seconds": oldest, "limit_seconds": 172_800 },
            "deletions": { "overdue": 0 },
            "sweeper": { "last_sweep_seconds": 3, "allowed_silence_seconds": 600, "intake_open": is_open },
            "requests": { "open": 1, "shortest_seconds_left": left, "limit_seconds": 259_200 },
        }))
        .expect("a status")
    }

    #[test]
    fn it_shows_the_age_and_is_green_while_the_promises_are_kept() {
        let badge = svg(&status(Some(300), true));
        assert!(badge.contains(">5 min<") && badge.contains("#2a7f3f"), "{badge}");
        assert!(svg(&status(None, true)).contains(">none<"));
    }

    #[test]
    fn it_is_red_past_the_limit_and_while_no_sweep_runs() {
        for (oldest, is_open) in [(Some(172_800), true), (Some(5), false), (None, false)] {
            assert!(svg(&status(oldest, is_open)).contains("#b3261e"), "{oldest:?} {is_open}");
        }
    }

    #[test]
    fn it_is_red_while_a_request_is_past_its_deadline() {
        assert!(svg(&waiting(None, true, Some(0))).contains("#2a7f3f"));
        assert!(svg(&waiting(None, true, Some(-1))).contains("#b3261e"));
    }
}
