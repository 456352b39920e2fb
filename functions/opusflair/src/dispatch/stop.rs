//! Why an attempt to dispatch stopped, and what is recorded and answered then.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, json};
use uuid::Uuid;

use super::Progress;
use crate::error::Refusal;
use crate::prediction::Outcome;
use crate::{App, Error};

/// Why an attempt stopped.
pub(super) enum Stop {
    /// No retry can succeed. The reason is one of `public.failure_reasons`. `input_sha256` is the SHA-256 of
    /// a photo that was judged.
    Refused { reason: &'static str, error: Error, input_sha256: Option<String> },
    /// The generation had already ended.
    Ended,
    /// Certainly no prediction was created. A retry may succeed.
    NotNow(Error),
    /// Replicate refuses the account, so no prediction was created.
    AccountRefused(StatusCode),
    /// A prediction may exist, or another worker has taken over.
    Unsure(&'static str),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::NotNow(error)
    }
}

#[derive(Deserialize)]
struct AccountRefusal {
    is_first: bool,
}

impl App {
    pub(super) async fn refuse(
        &self,
        generation: Uuid,
        lease: Uuid,
        reason: &'static str,
        error: Error,
        input_sha256: Option<String>,
    ) -> Result<Progress, Error> {
        match self.fail_generation(generation, reason, Some(lease), input_sha256).await {
            Ok(Outcome::Failed) => Err(error),
            // The generation had already ended and its photo was deleted. That is why the photo was refused.
            Ok(Outcome::Ended) => Err(ended_meanwhile()),
            Ok(_) => {
                tracing::warn!(%generation, error = error.for_log(), "a refusal was not recorded, because another worker has the job");
                Ok(Progress::Waiting)
            }
            Err(fault) => {
                let error_of_database = fault.for_log();
                tracing::error!(%generation, error = error_of_database, "a refusal could not be recorded, so a later sweep tries the job again");
                Err(error)
            }
        }
    }

    /// Records that Replicate refuses the account. All jobs wait, and no photos are accepted meanwhile. The
    /// operator gets one error in the log.
    pub(super) async fn record_account_refusal(
        &self,
        generation: Uuid,
        lease: Uuid,
        status: StatusCode,
    ) {
        let status = status.as_u16();
        let arguments = json!({ "generation_id": generation, "lease": lease, "status": status });
        match self.ask::<AccountRefusal>("record_account_refusal", arguments).await {
            Ok(AccountRefusal { is_first: true }) => {
                tracing::error!(%generation, status, "Replicate refuses our account, so no photos are accepted");
            }
            Ok(AccountRefusal { is_first: false }) => {
                tracing::warn!(%generation, status, "Replicate still refuses our account");
            }
            Err(error) => {
                tracing::error!(
                    %generation,
                    status,
                    error = error.for_log(),
                    "Replicate refuses our account, and this could not be recorded"
                );
            }
        }
    }
}

pub(super) fn no_photo() -> Stop {
    let error = refusal(
        StatusCode::NOT_FOUND,
        "input_not_found",
        "We can no longer find this photo. Please upload it again, and use a new Idempotency-Key.",
    );
    Stop::Refused { reason: "input_not_found", error, input_sha256: None }
}

pub(super) fn refused_by_model() -> Stop {
    let error = refusal(
        StatusCode::UNPROCESSABLE_ENTITY,
        "dispatch_refused",
        "The image service did not accept this photo or these settings. Nothing was charged, and the photo is deleted. \
         Upload it again or choose other settings, and send the request with a new Idempotency-Key.",
    );
    Stop::Refused { reason: "dispatch_refused", error, input_sha256: None }
}

pub(super) fn ended_meanwhile() -> Error {
    refusal(
        StatusCode::CONFLICT,
        "generation_ended",
        "This generation ended while it was being submitted: it was canceled or deleted, or it took too long. To start \
         again, upload the photo again and send the request with a new Idempotency-Key.",
    )
}

fn refusal(status: StatusCode, code: &str, sentence: &str) -> Error {
    Error::Refused(Box::new(Refusal {
        status,
        code: code.to_owned(),
        sentence: sentence.to_owned(),
        members: Map::new(),
    }))
}
