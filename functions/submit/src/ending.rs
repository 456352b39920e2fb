//! Cancelling and deleting: the database ends the generation, then the model is stopped and what is
//! ordered deleted is deleted at once.

use opusflair::caller::Caller;
use opusflair::database::Again;
use opusflair::deletion::Deletion;
use opusflair::errand::Errand;
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

/// Which end.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Cancel,
    Delete,
}

#[derive(Deserialize)]
struct Ended {
    generation: Value,
    cancel_prediction: Option<String>,
    deletions: Vec<Deletion>,
}

/// Ends a generation of the caller's and answers it as it then stands.
pub(crate) async fn end(app: &App, caller: &Caller, end: End, id: Uuid) -> Result<Value, Error> {
    let function = match end {
        End::Cancel => "cancel_generation",
        End::Delete => "delete_generation",
    };
    let arguments = json!({ "generation_id": id });
    // Again, a deletion would find nothing and say so.
    let again = match end {
        End::Cancel => Again::Safe,
        End::Delete => Again::Unsafe,
    };
    let ended: Ended = app.database.call_as(caller, function, arguments, again).await?;
    crash::reached("end.recorded");

    // First the model, then the photo that it may still be reading.
    if let Some(prediction) = ended.cancel_prediction
        && let Err(error) = app.run_errand(&Errand::cancel(prediction)).await
    {
        // The schedule asks again, and whatever it makes meanwhile is discarded.
        tracing::warn!(
            generation = %id,
            error = error.for_log(),
            "a prediction was left to the schedule"
        );
    }
    app.execute_deletions_now(ended.deletions).await;
    Ok(ended.generation)
}
