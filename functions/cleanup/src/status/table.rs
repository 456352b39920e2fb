//! The status as a table for people. What needs attention has an exclamation mark.

use std::fmt::Write;

use super::{Deletions, Ledger, Status};

impl Status {
    /// Formats the status as a table for people.
    pub(crate) fn to_table(&self) -> String {
        let mut table = Table::default();
        table.head("under way", &["count", "oldest", "past deadline"]);
        for open in &self.generations {
            let past = open.past_deadline;
            table.row(
                &open.state,
                &[open.count.to_string(), age(open.oldest_seconds), flag(past, past > 0)],
            );
        }
        if self.generations.is_empty() {
            table.row("nothing", &[]);
        }

        table.head("waiting", &["count", "oldest", ""]);
        let Self { dispatches, holds, deletions, inputs, .. } = self;
        let credits = format!("{} credits", holds.credits);
        table.row("open holds", &[holds.open.to_string(), age(holds.oldest_seconds), credits]);
        table.row("dispatches due", &[dispatches.due.to_string(), age(dispatches.oldest_seconds)]);
        let Deletions { due, overdue, most_attempts, .. } = deletions;
        let remark = format!("{due} due, {overdue} overdue, most tries: {most_attempts}");
        let ordered = flag(deletions.ordered, *overdue > 0);
        table.row("deletions", &[ordered, age(deletions.oldest_seconds), remark]);
        table.row("photos stored", &[inputs.stored.to_string(), age(inputs.oldest_seconds)]);
        let kept = flag(self.replicate.kept, self.replicate.overdue > 0);
        let remark = "longer than an hour".to_owned();
        table.row("kept by Replicate", &[kept, String::new(), remark]);

        self.rights(&mut table);
        self.health(&mut table);

        table.head("ended", &["last hour", "last day", ""]);
        for ended in &self.ended {
            table.row(&ended.outcome, &[ended.last_hour.to_string(), ended.last_day.to_string()]);
        }
        if self.ended.is_empty() {
            table.row("nothing", &[]);
        }
        table.0
    }

    fn health(&self, table: &mut Table) {
        table.head("health", &["", "", ""]);
        let last = self.sweep.last_seconds;
        let late = last.is_none_or(|seconds| seconds > 180);
        let verdict = match (late, self.sweep.intake_open) {
            (false, _) => "in time",
            (true, true) => "LATE !",
            (true, false) => "LATE, INTAKE CLOSED !",
        };
        let ran = last.map_or_else(|| "never".to_owned(), |_| format!("{} ago", age(last)));
        table.row("last sweep", &[ran, verdict.to_owned()]);
        let account = &self.account;
        let verdict = account
            .refused_status
            .map_or_else(|| "accepted".to_owned(), |status| format!("REFUSED, {status} !"));
        table.row("Replicate account", &[age(account.refused_seconds), verdict]);
        let Ledger { differences, checked_seconds } = self.ledger;
        let found = differences.map_or_else(|| "-".to_owned(), |count| flag(count, count > 0));
        let checked = checked_seconds.map_or_else(
            || "never checked".to_owned(),
            |_| format!("checked {} ago", age(checked_seconds)),
        );
        table.row("ledger differences", &[found, String::new(), checked]);
        for (name, count) in [
            ("objects without rows", self.audit.orphaned),
            ("artworks missing", self.audit.missing),
        ] {
            table.row(name, &[flag(count, count > 0), String::new(), "in the last day".to_owned()]);
        }

        let verdict = match self.marks.certificate_seconds_left {
            None => "NOT SIGNED, no certificate".to_owned(),
            Some(..0) => "NOT SIGNED, certificate expired !".to_owned(),
            Some(left @ 0..CERTIFICATE_SOON) => {
                format!("signed, certificate ends in {} d !", left / 86_400)
            }
            Some(left) => format!("signed, certificate ends in {} d", left / 86_400),
        };
        table.row("marks of artworks", &[String::new(), verdict]);
    }

    fn rights(&self, table: &mut Table) {
        let Self { requests, exports, erasures, emails, .. } = self;
        table.head("rights", &["count", "oldest", ""]);
        let failed = if exports.failed > 0 {
            format!("{} failed in the last day !", exports.failed)
        } else {
            String::new()
        };
        table.row("exports", &[exports.building.to_string(), age(exports.oldest_seconds), failed]);
        let stuck = match erasures.stuck {
            0 => String::new(),
            stuck => format!("{stuck} for more than an hour"),
        };
        table.row(
            "erasures",
            &[flag(erasures.open, erasures.stuck > 0), age(erasures.oldest_seconds), stuck],
        );
        let attempts = format!("most tries: {}", emails.most_attempts);
        table.row(
            "emails",
            &[flag(emails.waiting, emails.most_attempts > 5), String::new(), attempts],
        );
        table.row("privacy requests", &[flag(requests.open, requests.overdue > 0)]);
        for waiting in &requests.next_breaches {
            let left = waiting.seconds_left;
            let verdict = match left {
                ..0 => "OVERDUE !".to_owned(),
                0..SOON => format!("{} h left !", left / 3600),
                _ => format!("{} h left", left / 3600),
            };
            table.row(
                &format!("  {}, by {}", waiting.kind, waiting.channel),
                &[verdict, String::new(), waiting.id.clone()],
            );
        }
    }
}

/// A request is flagged if it must be answered within this many seconds.
const SOON: i64 = 24 * 3600;
/// A certificate is flagged if it expires within this many seconds.
const CERTIFICATE_SOON: i64 = 30 * 86_400;

/// A table with fixed columns: a name, two numbers and a remark.
#[derive(Default)]
struct Table(String);

impl Table {
    fn head(&mut self, title: &str, columns: &[&str]) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(&title.to_uppercase(), columns.iter().copied());
    }

    fn row(&mut self, name: &str, cells: &[String]) {
        self.line(&format!("  {name}"), cells.iter().map(String::as_str));
    }

    fn line<'a>(&mut self, name: &str, cells: impl Iterator<Item = &'a str>) {
        let mut line = format!("{name:<24}");
        for cell in cells {
            let _ = write!(line, "{cell:>12}  ");
        }
        self.0.push_str(line.trim_end());
        self.0.push('\n');
    }
}

/// Adds an exclamation mark to a number that needs attention.
fn flag(count: u64, stands_out: bool) -> String {
    if stands_out { format!("{count} !") } else { count.to_string() }
}

fn age(seconds: Option<u64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds @ 0..120) => format!("{seconds} s"),
        Some(seconds @ 120..7200) => format!("{} min", seconds / 60),
        Some(seconds) => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::OffsetDateTime;

    use super::*;

    fn status(changes: &[(&str, serde_json::Value)]) -> Status {
        let mut answer = json!({
            "generations": [], "ended": [],
            "dispatches": { "due": 0, "oldest_seconds": null },
            "holds": { "open": 0, "credits": 0, "oldest_seconds": null },
            "deletions": { "ordered": 0, "due": 0, "overdue": 0, "oldest_seconds": null, "most_attempts": 0 },
            "audit": { "orphaned": 0, "missing": 0 }, "replicate": { "kept": 0, "overdue": 0 },
            "inputs": { "stored": 0, "oldest_seconds": null },
            "requests": { "open": 0, "overdue": 0, "next_breaches": [] },
            "exports": { "building": 0, "failed": 0, "oldest_seconds": null },
            "erasures": { "open": 0, "stuck": 0, "oldest_seconds": null },
            "emails": { "waiting": 0, "most_attempts": 0 },
            "account": { "refused_status": null, "refused_seconds": null },
            "sweep": { "last_seconds": 12, "intake_open": true }, "ledger": { "differences": 0, "checked_seconds": 60 },
        });
        for (name, value) in changes {
            answer[name] = value.clone();
        }
        serde_json::from_value(answer).expect("a status")
    }

    #[test]
    fn nothing_is_flagged_if_all_is_well() {
        let table = status(&[]).to_table();
        assert!(table.contains("in time") && !table.contains('!'), "{table}");
    }

    #[test]
    fn the_table_shows_how_artworks_are_marked() {
        let in_days = |days| OffsetDateTime::now_utc() + time::Duration::days(days);
        let shown = |end| status(&[]).with_certificate(end).to_table();
        assert!(shown(None).contains("NOT SIGNED, no certificate"));
        assert!(shown(Some(in_days(-1))).contains("NOT SIGNED, certificate expired !"));
        assert!(shown(Some(in_days(20))).contains("signed, certificate ends in 19 d !"));
        assert!(shown(Some(in_days(200))).contains("signed, certificate ends in 199 d\n"));
    }

    #[test]
    fn everything_that_needs_attention_is_flagged() {
        let late =
            status(&[("sweep", json!({ "last_seconds": 400, "intake_open": true }))]).to_table();
        assert!(late.contains("6 min ago        LATE !"), "{late}");
        let never =
            status(&[("sweep", json!({ "last_seconds": null, "intake_open": false }))]).to_table();
        assert!(never.contains("never  LATE, INTAKE CLOSED !"), "{never}");
        let unpaid = json!({ "refused_status": 402, "refused_seconds": 300 });
        let refused = status(&[("account", unpaid)]).to_table();
        assert!(refused.contains("5 min  REFUSED, 402 !"), "{refused}");
        let found = status(&[("audit", json!({ "orphaned": 1, "missing": 2 }))]).to_table();
        assert!(found.contains("1 !") && found.contains("2 !"), "{found}");
        let wrong =
            status(&[("ledger", json!({ "differences": 3, "checked_seconds": 60 }))]).to_table();
        assert!(wrong.contains("3 !"), "{wrong}");
        for (left, shown) in [(-1, "OVERDUE !"), (7_300, "2 h left !"), (259_199, "71 h left\n")] {
            let waiting =
                json!([{ "id": "", "kind": "export", "channel": "mail", "seconds_left": left }]);
            let requests = json!({ "open": 1, "overdue": 0, "next_breaches": waiting });
            let table = status(&[("requests", requests)]).to_table();
            assert!(table.contains("export, by mail") && table.contains(shown), "{table}");
        }
        let stuck = json!({ "open": 2, "stuck": 1, "oldest_seconds": 7_300 });
        let stuck = status(&[("erasures", stuck)]).to_table();
        assert!(stuck.contains("2 !") && stuck.contains("1 for more than an hour"), "{stuck}");
        let failed = json!({ "building": 0, "failed": 2, "oldest_seconds": null });
        assert!(status(&[("exports", failed)]).to_table().contains("2 failed in the last day !"));
        let storing =
            json!([{ "state": "storing", "count": 2, "oldest_seconds": 7300, "past_deadline": 1 }]);
        let stuck = status(&[("generations", storing)]).to_table();
        assert!(
            stuck.contains("storing") && stuck.contains("2 h") && stuck.contains("1 !"),
            "{stuck}"
        );
    }
}
