//! Calls that are owed to other services: a prediction to stop or to search for, an upload to abandon. The database
//! orders them; the next worker makes them.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use url::Url;
use uuid::Uuid;

use crate::{App, Error, crash};

/// One of them.
#[derive(Clone, Debug, Deserialize)]
pub struct Errand {
    kind: Kind,
    target: String,
    /// Whose prediction it is about; none for an upload.
    pub generation: Option<Uuid>,
    /// From when on to search, in Unix seconds.
    since: Option<f64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    CancelPrediction,
    FindPrediction,
    AbandonUpload,
}

impl Errand {
    /// To stop a prediction of `generation`.
    fn cancel(generation: Option<Uuid>, prediction: String) -> Self {
        Self { kind: Kind::CancelPrediction, target: prediction, generation, since: None }
    }
}

impl App {
    /// Makes the call, and says so.
    ///
    /// # Errors
    /// Where it could not be made: then it is owed still.
    pub async fn run_errand(&self, errand: &Errand) -> Result<(), Error> {
        let Errand { kind, target, generation, since } = errand;
        let name = match kind {
            Kind::CancelPrediction => {
                self.replicate.cancel(target).await?;
                "cancel_prediction"
            }
            Kind::FindPrediction => {
                self.stop_strays(*generation, target, since.unwrap_or_default()).await?;
                "find_prediction"
            }
            Kind::AbandonUpload => {
                let upload = Url::parse(target).map_err(|_| Error::fault("an upload's address"))?;
                self.storage.abandon_upload(&upload).await?;
                "abandon_upload"
            }
        };
        crash::reached("errand.made");
        self.ask::<Value>("finish_errand", json!({ "kind": name, "target": target })).await?;
        Ok(())
    }

    /// Stops a prediction of `generation` on the way of a request. A failure is not the caller's concern: the call is
    /// owed, and the schedule makes it.
    pub async fn cancel_prediction_now(&self, generation: Uuid, prediction: String) {
        if let Err(error) = self.run_errand(&Errand::cancel(Some(generation), prediction)).await {
            tracing::warn!(
                %generation,
                error = error.for_log(),
                "a prediction was left to the schedule"
            );
        }
    }

    /// The answer to a create call was lost, and the generation is over: what Replicate made of the photo is stopped,
    /// and is owed the question whether it was removed (T3).
    async fn stop_strays(
        &self,
        generation: Option<Uuid>,
        photo: &str,
        since: f64,
    ) -> Result<(), Error> {
        #[expect(clippy::cast_possible_truncation, reason = "Unix seconds fit")]
        let since = OffsetDateTime::from_unix_timestamp(since as i64)
            .map_err(|_| Error::fault("an impossible time"))?;
        let listing = self.replicate.list(since).await?;
        let found = listing.find_all(photo)?;
        let ids: Vec<&str> = found.iter().map(|prediction| prediction.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let arguments = json!({ "target": photo, "predictions": ids });
        self.ask::<Value>("record_found_predictions", arguments).await?;
        for id in ids {
            Box::pin(self.run_errand(&Errand::cancel(generation, id.to_owned()))).await?;
        }
        Ok(())
    }
}
