//! The life of a prediction, from its start to its end.

use std::time::Instant;

use serde_json::Value;

use crate::fate::Course;
use crate::faults::Fault;
use crate::prediction::{Event, Prediction, Status};
use crate::render::{self, Rendered};
use crate::sandbox::{Shared, Stored};
use crate::webhook;

/// Runs a prediction and sends its webhook events.
pub(crate) async fn run(sandbox: Shared, prediction: Prediction) {
    let id = prediction.id.clone();
    // Each event is sent in a separate task, so a slow receiver delays nothing.
    let tell = |prediction: &Prediction, event: Event| {
        tokio::spawn(webhook::send(sandbox.clone(), prediction.clone(), event));
    };

    let started = tokio::select! {
        started = start(&sandbox, &prediction) => started,
        () = deadline(&sandbox, &prediction) => None,
        () = ended(&sandbox, &prediction) => None,
    };
    if let Some(started) = &started {
        if !prediction.fate.is_reordered {
            tell(started, Event::Start);
        }
        tell(started, Event::Logs);
        tokio::select! {
            () = work(&sandbox, started, tell) => {}
            () = deadline(&sandbox, &prediction) => {}
            () = ended(&sandbox, &prediction) => {}
        }
    }

    // The work, a cancel call or the deadline ends the prediction, whichever comes first.
    let now = sandbox.clock.now();
    sandbox.change(&id, |found| {
        let began = found.status == Status::Processing;
        found.status = if began { Status::Canceled } else { Status::Aborted };
        found.completed_at = Some(now);
    });
    let Some(finished) = sandbox.find(&id) else { return };
    tracing::info!(prediction = id, status = finished.status.as_str(), "ended");
    webhook::send(sandbox.clone(), finished, Event::Completed).await;
    if let Some(started) = started.filter(|started| started.fate.is_reordered) {
        tell(&started, Event::Start);
    }
}

async fn start(sandbox: &Shared, prediction: &Prediction) -> Option<Prediction> {
    if prediction.fate.course == Course::NeverStarts {
        return std::future::pending().await;
    }
    let now = sandbox.clock.now();
    sandbox.change(&prediction.id, |found| {
        found.status = Status::Processing;
        found.started_at = Some(now);
        found.logs = format!("Using seed: {}\n", found.seed());
    })
}

async fn work(sandbox: &Shared, prediction: &Prediction, tell: impl Fn(&Prediction, Event)) {
    let course = prediction.fate.course;
    if course == Course::NeverEnds {
        return std::future::pending().await;
    }
    let began = Instant::now();
    let rendered = render::render(sandbox, prediction).await;
    let outcome = match course {
        Course::Fails(error) => Err(error.to_owned()),
        _ => rendered,
    };
    tokio::time::sleep(sandbox.config.run_time.saturating_sub(began.elapsed())).await;

    let id = &prediction.id;
    let now = sandbox.clock.now();
    if let Ok(rendered) = &outcome
        && course != Course::IsEmpty
    {
        let output = prediction.fate.output.as_ref().unwrap_or(rendered);
        let address = keep(sandbox, id, output.clone());
        let shown = sandbox.change(id, |found| {
            found.output = Some(address);
            found.images = 1;
        });
        if let Some(shown) = shown {
            tell(&shown, Event::Output);
        }
    }
    sandbox.change(id, |found| {
        found.completed_at = Some(now);
        found.error = outcome.err();
        found.status = if found.error.is_none() { Status::Succeeded } else { Status::Failed };
    });
}

/// Stores a picture and returns its address.
fn keep(sandbox: &Shared, id: &str, rendered: Rendered) -> String {
    let Rendered { bytes, content_type, extension } = rendered;
    let is_unnamed = sandbox.faults.strikes(Fault::OutputUnnamed).is_some();
    let name = if is_unnamed { "out-0".to_owned() } else { format!("out-0.{extension}") };
    let mut base = sandbox.base();
    if sandbox.faults.strikes(Fault::OutputElsewhere).is_some() {
        base = base.replace("127.0.0.1", "127.0.0.2");
    }
    let address = format!("{base}/output/{id}/{name}");
    let content_type = content_type.to_owned();
    let created_at = sandbox.clock.now();
    let stored = Stored { bytes, content_type, name, metadata: Value::Null, created_at };
    sandbox.contents().outputs.insert(id.to_owned(), stored);
    address
}

async fn deadline(sandbox: &Shared, prediction: &Prediction) {
    match prediction.deadline {
        Some(deadline) => sandbox.clock.wait_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns when the prediction has ended.
pub(crate) async fn ended(sandbox: &Shared, Prediction { id, changes, .. }: &Prediction) {
    let mut changes = changes.subscribe();
    while sandbox.find(id).is_some_and(|found| !found.status.is_terminal()) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::Duration;

    use super::*;
    use crate::fate::Fate;
    use crate::sandbox::{KEPT, Sandbox};

    /// Runs a prediction with these faults armed. Moves the clock once the prediction is in `moved_in`.
    async fn ended_with(faults: Value, moved_in: Option<Status>) -> (Shared, Prediction) {
        let sandbox = Shared::new(Sandbox::example());
        sandbox.faults.arm(serde_json::from_value(faults).expect("faults"));
        let mut prediction = Prediction::example(sandbox.clock.now());
        prediction.fate = Fate::draw(&sandbox);
        prediction.deadline = Some(prediction.created_at + Duration::minutes(5));
        sandbox.contents().predictions.push(prediction.clone());
        let (id, changes) = (prediction.id.clone(), prediction.changes.clone());

        let running = tokio::spawn(run(sandbox.clone(), prediction));
        if let Some(status) = moved_in {
            let mut changes = changes.subscribe();
            while sandbox.find(&id).is_some_and(|found| found.status != status) {
                changes.changed().await.expect("a change");
            }
            sandbox.clock.advance(Duration::minutes(6));
        }
        running.await.expect("an end");
        let ended = sandbox.find(&id).expect("the prediction");
        (sandbox, ended)
    }

    #[tokio::test]
    async fn a_success_has_an_output_for_one_hour() {
        let (sandbox, ended) = ended_with(json!([]), None).await;
        assert_eq!(ended.status, Status::Succeeded);
        assert!(ended.output.is_some() && sandbox.contents().outputs.contains_key(&ended.id));
        assert!(ended.started_at.is_some() && ended.completed_at.is_some());

        sandbox.clock.advance(KEPT + Duration::seconds(1));
        let kept = sandbox.find(&ended.id).expect("the prediction").to_json("");
        assert_eq!(
            [&kept["data_removed"], &kept["output"], &kept["input"], &kept["logs"]],
            [&json!(true), &json!(null), &json!({}), &json!("")]
        );
        assert_eq!(kept["metrics"]["image_count"], 1);
        assert!(sandbox.contents().outputs.is_empty());
    }

    #[tokio::test]
    async fn a_deadline_aborts_a_waiting_prediction_and_cancels_a_running_one() {
        let starting = json!([{ "fault": "stuck_starting" }]);
        let (_, aborted) = ended_with(starting, Some(Status::Starting)).await;
        assert_eq!((aborted.status, aborted.started_at), (Status::Aborted, None));

        let processing = json!([{ "fault": "stuck_processing" }]);
        let (_, canceled) = ended_with(processing, Some(Status::Processing)).await;
        assert_eq!(canceled.status, Status::Canceled);
    }

    #[tokio::test]
    async fn a_failure_has_an_error_and_no_output() {
        for (fault, code) in [
            ("fail_moderation", "(E005)"),
            ("fail_platform", "(code: PA)"),
            ("fail_model", "E1000"),
        ] {
            let (sandbox, failed) = ended_with(json!([{ "fault": fault }]), None).await;
            assert_eq!((failed.status, &failed.output), (Status::Failed, &None), "{fault}");
            assert!(failed.error.is_some_and(|error| error.contains(code)), "{fault}");
            assert!(sandbox.contents().outputs.is_empty(), "{fault}");
        }
    }
}
