//! The life of a prediction, from starting to its end.

use std::time::Instant;

use crate::faults::Fault;
use crate::prediction::{Event, Prediction, Status};
use crate::render::{self, Rendered};
use crate::sandbox::{Shared, Stored};
use crate::webhook;

/// Runs a prediction and tells of it.
pub(crate) async fn run(sandbox: Shared, prediction: Prediction) {
    let silent = sandbox.faults.strikes(Fault::WebhookDrop).is_some();
    let reorder = sandbox.faults.strikes(Fault::WebhookReorder).is_some();
    let id = prediction.id.clone();
    let tell = async |prediction: &Prediction, event: Event| {
        if !silent {
            webhook::send(&sandbox, prediction, event).await;
        }
    };

    let started = tokio::select! {
        started = start(&sandbox, &id) => started,
        () = deadline(&sandbox, &prediction) => None,
        () = ended(&sandbox, &id) => None,
    };
    if let Some(started) = &started {
        if !reorder {
            tell(started, Event::Start).await;
        }
        tokio::select! {
            () = work(&sandbox, started) => {}
            () = deadline(&sandbox, &prediction) => {}
            () = ended(&sandbox, &id) => {}
        }
    }

    // Whoever gets here first ends it: the work, a cancel call, or the deadline.
    let now = sandbox.clock.now();
    sandbox.change(&id, |found| {
        let began = found.status == Status::Processing;
        found.status = if began { Status::Canceled } else { Status::Aborted };
        found.completed_at = Some(now);
    });
    let Some(finished) = sandbox.find(&id) else { return };
    tracing::info!(prediction = id, status = finished.status.as_str(), "ended");
    if finished.status == Status::Succeeded {
        tell(&finished, Event::Logs).await;
        tell(&finished, Event::Output).await;
    }
    tell(&finished, Event::Completed).await;
    if let Some(started) = started.filter(|_| reorder) {
        tell(&started, Event::Start).await;
    }
}

async fn start(sandbox: &Shared, id: &str) -> Option<Prediction> {
    if sandbox.faults.strikes(Fault::StuckStarting).is_some() {
        return std::future::pending().await;
    }
    let now = sandbox.clock.now();
    sandbox.change(id, |found| {
        found.status = Status::Processing;
        found.started_at = Some(now);
        found.logs = format!("Using seed: {}\n", found.seed());
    })
}

async fn work(sandbox: &Shared, prediction: &Prediction) {
    if sandbox.faults.strikes(Fault::StuckProcessing).is_some() {
        return std::future::pending().await;
    }
    let began = Instant::now();
    let rendered = render::render(sandbox, prediction).await;
    let failure = failure(sandbox);
    let empty = sandbox.faults.strikes(Fault::SucceedWithoutOutput).is_some();
    tokio::time::sleep(sandbox.config.run_time.saturating_sub(began.elapsed())).await;

    let now = sandbox.clock.now();
    let id = &prediction.id;
    match (failure, rendered) {
        (Some(error), _) => finish(sandbox, id, Err(error.to_owned()), now),
        (None, Err(error)) => finish(sandbox, id, Err(error), now),
        (None, Ok(_)) if empty => finish(sandbox, id, Ok(None), now),
        (None, Ok(Rendered { bytes, content_type, extension })) => {
            let name = format!("out-0.{extension}");
            let address = format!("{}/output/{id}/{name}", sandbox.base());
            let stored =
                Stored { bytes, content_type: content_type.to_owned(), name, created_at: now };
            sandbox.contents().outputs.insert(id.clone(), stored);
            finish(sandbox, id, Ok(Some(address)), now);
        }
    }
}

fn finish(
    sandbox: &Shared,
    id: &str,
    outcome: Result<Option<String>, String>,
    now: time::OffsetDateTime,
) {
    sandbox.change(id, |found| {
        found.completed_at = Some(now);
        match outcome {
            Ok(output) => {
                found.status = Status::Succeeded;
                found.output = output;
            }
            Err(error) => {
                found.status = Status::Failed;
                found.error = Some(error);
            }
        }
    });
}

fn failure(sandbox: &Shared) -> Option<&'static str> {
    let faults = [
        (
            Fault::FailModeration,
            "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
        ),
        (Fault::FailPlatform, "Prediction interrupted; please retry (code: PA)"),
        (Fault::FailModel, "Unknown error (E1000)"),
    ];
    faults
        .into_iter()
        .find(|(fault, _)| sandbox.faults.strikes(*fault).is_some())
        .map(|(_, error)| error)
}

async fn deadline(sandbox: &Shared, prediction: &Prediction) {
    match prediction.deadline {
        Some(deadline) => sandbox.clock.wait_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Returns when somebody else has ended it.
async fn ended(sandbox: &Shared, id: &str) {
    let mut changes = sandbox.changes.subscribe();
    while sandbox.find(id).is_some_and(|found| !found.status.is_terminal()) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}
