//! Calls that are owed to others: a prediction to stop, an upload to abandon. The database orders them; whoever
//! comes by makes them.

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::{App, Error, crash};

/// One of them.
#[derive(Clone, Debug, Deserialize)]
pub struct Errand {
    kind: Kind,
    target: String,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    CancelPrediction,
    AbandonUpload,
}

impl Errand {
    /// To stop a prediction.
    #[must_use]
    pub fn cancel(prediction: String) -> Self {
        Self { kind: Kind::CancelPrediction, target: prediction }
    }
}

impl App {
    /// Makes the call, and says so.
    ///
    /// # Errors
    /// Where it could not be made: then it is owed still.
    pub async fn run_errand(&self, errand: &Errand) -> Result<(), Error> {
        let Errand { kind, target } = errand;
        let name = match kind {
            Kind::CancelPrediction => {
                self.replicate.cancel(target).await?;
                "cancel_prediction"
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
}
