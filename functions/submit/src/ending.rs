//! Cancelling and deleting: the database ends the generation, then the model is stopped and what is ordered deleted is
//! deleted at once.

use opusflair::caller::Caller;
use opusflair::database::Again;
use opusflair::{App, Error, crash};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

#[derive(Deserialize)]
struct Canceled {
    generation: Map<String, Value>,
    /// What it cost, in credits.
    charged: u64,
    /// How many late cancels are free today.
    free_cancels_left: u64,
    cancel_prediction: Option<String>,
}

#[derive(Deserialize)]
struct Deleted {
    cancel_prediction: Option<String>,
}

/// Cancels a generation of the caller's. Answers it as it then stands, and what that cost.
pub(crate) async fn cancel(app: &App, caller: &Caller, id: Uuid) -> Result<Value, Error> {
    let arguments = json!({ "generation_id": id });
    let Canceled { mut generation, charged, free_cancels_left, cancel_prediction } =
        app.database.call_as(caller, "cancel_generation", arguments, Again::Safe).await?;
    follow(app, id, cancel_prediction).await;
    generation.insert("charged".to_owned(), Value::from(charged));
    generation.insert("free_cancels_left".to_owned(), Value::from(free_cancels_left));
    Ok(Value::Object(generation))
}

/// Deletes a generation of the caller's, with all its objects.
pub(crate) async fn delete(app: &App, caller: &Caller, id: Uuid) -> Result<(), Error> {
    let arguments = json!({ "generation_id": id });
    // A second call would find nothing, and say so.
    let Deleted { cancel_prediction } =
        app.database.call_as(caller, "delete_generation", arguments, Again::Unsafe).await?;
    follow(app, id, cancel_prediction).await;
    Ok(())
}

/// First the model, then the photo that it may still be reading. What fails here is left to the schedule: the
/// generation has ended, whatever the model still makes is discarded.
async fn follow(app: &App, generation: Uuid, prediction: Option<String>) {
    crash::reached("end.recorded");
    if let Some(prediction) = prediction {
        app.cancel_prediction_now(generation, prediction).await;
    }
    app.execute_deletions_of(generation).await;
}
