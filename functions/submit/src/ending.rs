//! Canceling and deleting generations. First the database ends the generation. Then this function stops the
//! model and executes the ordered deletions at once.

use opusflair::caller::Caller;
use opusflair::database::Retry;
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

#[derive(Deserialize)]
struct Canceled {
    generation: Map<String, Value>,
    /// The charge for this cancel, in credits.
    charged: u64,
    /// How many free late cancels are left today.
    free_cancels_left: u64,
    cancel_prediction: Option<String>,
}

#[derive(Deserialize)]
struct Deleted {
    cancel_prediction: Option<String>,
}

/// Cancels one of the caller's generations. Returns the generation after the cancel, with the charge.
pub(crate) async fn cancel(app: &App, caller: &Caller, id: Uuid) -> Result<Value, Error> {
    let arguments = json!({ "generation_id": id });
    let Canceled { mut generation, charged, free_cancels_left, cancel_prediction } =
        app.database.call_as(caller, "cancel_generation", arguments, Retry::Safe).await?;
    follow(app, id, cancel_prediction).await;
    generation.insert("charged".to_owned(), Value::from(charged));
    generation.insert("free_cancels_left".to_owned(), Value::from(free_cancels_left));
    Ok(Value::Object(generation))
}

/// Deletes one of the caller's generations with all its objects.
pub(crate) async fn delete(app: &App, caller: &Caller, id: Uuid) -> Result<(), Error> {
    let arguments = json!({ "generation_id": id });
    // Not retried: a second call would not find the generation and would return an error.
    let Deleted { cancel_prediction } =
        app.database.call_as(caller, "delete_generation", arguments, Retry::Unsafe).await?;
    follow(app, id, cancel_prediction).await;
    Ok(())
}

/// Stops the model first, because it may still be reading the photo, and then deletes objects. If a
/// step fails here, a later sweep finishes it: the generation has already ended, and any further
/// output of the model is discarded.
async fn follow(app: &App, generation: Uuid, prediction: Option<String>) {
    crash::reached("end.recorded");
    if let Some(prediction) = prediction {
        app.cancel_prediction_now(generation, prediction).await;
    }
    app.execute_deletions_of(generation).await;
}
