//! Tests of what is logged and what is withheld.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::subscriber::with_default;
use uuid::Uuid;

use super::list::{Given, shape};
use super::*;

/// Returns what `log` writes at the level `trace`.
fn written(form: Form, log: impl FnOnce()) -> String {
    let lines = Lines::default();
    let out = lines.clone();
    with_default(super::lines(EnvFilter::new("trace"), form, move || out.clone()), log);
    let bytes = lines.0.lock().expect("nothing panics while it holds this").clone();
    String::from_utf8(bytes).expect("text")
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nothing panics while it holds this").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_holds_its_message_and_the_listed_fields() {
    let generation = Uuid::from_u128(7);
    let error = crate::Error::unavailable("Replicate", crate::cause::Cause::status("get", 502));
    let log = || {
        tracing::info!(%generation, attempts = 3_u32, error = error.for_log(), "still there");
    };
    let text = written(Form::Text, log);
    let expected = format!(
        " INFO still there generation={generation} attempts=3 \
         error=Replicate is unavailable: get: status 502\n"
    );
    assert!(text.ends_with(&expected), "{text}");
    let json: serde_json::Value = serde_json::from_str(&written(Form::Json, log)).expect("JSON");
    assert_eq!(json["level"], "INFO");
    assert_eq!(json["fields"]["message"], "still there");
    assert_eq!(json["fields"]["attempts"], 3);
}

#[test]
fn what_is_not_on_the_list_or_not_of_its_shape_is_withheld_r5() {
    let canary = "canary-7";
    for form in [Form::Text, Form::Json] {
        for line in [
            written(form, || tracing::debug!(?canary)),
            written(form, || tracing::debug!(request = canary, "refused")),
            written(form, || tracing::debug!(generation = canary)),
            written(form, || tracing::debug!(attempts = canary)),
            written(form, || tracing::debug!(attempts = -7)),
            written(form, || tracing::debug!(outcome = canary)),
            written(form, || tracing::debug!(route = %format!("/generations/{canary}"))),
            written(form, || tracing::debug!(error = canary)),
            written(form, || tracing::debug!("{canary}")),
            written(form, || tracing::debug!("https://replicate.delivery/x?token={canary}")),
        ] {
            assert!(line.contains("[withheld]") && !line.contains(canary), "{line}");
        }
    }
}

#[test]
fn only_our_own_error_types_are_written() {
    let foreign = io::Error::other("still there");
    let foreign: &(dyn std::error::Error + 'static) = &foreign;
    let line = written(Form::Text, || tracing::warn!(error = foreign, "refused"));
    assert!(line.ends_with("refused error=[withheld]\n"), "{line}");
    let ours = crate::Error::NotSignedIn;
    let line = written(Form::Text, || tracing::warn!(error = ours.for_log(), "refused"));
    assert!(line.ends_with("refused error=not signed in\n"), "{line}");
}

#[test]
fn other_crates_and_spans_are_never_written() {
    let line = written(Form::Text, || {
        tracing::error!(target: "reqwest::connect", "starting new connection");
        tracing::error!(target: "opusflair_of_somebody", "refused");
        let span = tracing::error_span!("a span", url = "https://canary");
        span.in_scope(|| tracing::info!("answered"));
    });
    assert!(line.ends_with(" INFO answered\n") && line.lines().count() == 1, "{line}");
}

#[test]
fn events_of_every_crate_of_the_functions_are_written() {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for folder in fs::read_dir(functions).expect("the crates").flatten() {
        let name = folder.file_name().to_string_lossy().replace('-', "_");
        let is_crate = folder.path().join("Cargo.toml").exists();
        assert!(!is_crate || OURS.contains(&name.as_str()), "nothing that {name} says is written");
    }
}

#[test]
fn a_panic_is_logged_by_its_place_without_its_message() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(note_panic));
    let line = written(Form::Text, || {
        panic::catch_unwind(|| panic!("it cannot bear canary-7")).expect_err("a panic");
    });
    panic::set_hook(before);
    assert!(line.contains("ERROR panicked place=tests.rs:"), "{line}");
    assert!(!line.contains("canary") && !line.contains("withheld"), "{line}");
}

#[test]
fn every_line_and_route_in_the_source_is_one_that_is_written() {
    let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    for crate_folder in fs::read_dir(functions).expect("the crates").flatten() {
        gather(&crate_folder.path().join("src"), &mut sources);
    }
    let mut lines = 0;
    for source in sources {
        for route in source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let fits = shape("route").and_then(|shape| shape.admit(Given::Text(route)));
            assert!(fits.is_some(), "{route} is no route that can be logged");
        }
        for call in source.split("tracing::").skip(1) {
            let Some((level, rest)) = call.split_once("!(") else { continue };
            if !["trace", "debug", "info", "warn", "error"].contains(&level) {
                continue;
            }
            let line = rest.split_once(");").expect("an end").0;
            let (fields, message) = line.split_once('"').unwrap_or((line, ""));
            let message = message.trim_end_matches([',', '\n', ' ']).trim_end_matches('"');
            let plain = shape("message").and_then(|shape| shape.admit(Given::Text(message)));
            assert!(plain.is_some(), "a message that is no plain literal: {line}");
            for field in fields.split(',').map(str::trim).filter(|field| !field.is_empty()) {
                let name = field.trim_start_matches(['%', '?']).split([' ', '=']).next();
                assert!(shape(name.unwrap_or_default()).is_some(), "{field} is not listed: {line}");
            }
            lines += 1;
        }
    }
    assert!(lines > 20, "{lines} lines were found");
}

/// Reads each source file below `folder`, except files of tests.
fn gather(folder: &Path, sources: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !path.ends_with("tests.rs")
        {
            sources.push(fs::read_to_string(path).expect("a source"));
        }
    }
}
