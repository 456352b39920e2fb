//! The client of Replicate's API. It can create, get, list and cancel predictions.

mod create;
mod list;
mod prediction;

use std::time::Duration;

use http::StatusCode;
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use url::Url;

use crate::Error;
use crate::cause::Cause;
use crate::config::Config;
use crate::egress::{Egress, read_limited, send_idempotent};
use crate::secret::Secret;

pub(crate) use create::{Creation, NewPrediction};
pub use list::Listing;
pub use prediction::{Prediction, Status};

const SERVICE: &str = "Replicate";
/// The largest response that is read, in bytes: a prediction with its logs. The largest ones seen have a few
/// hundred kilobytes.
const ANSWER_LIMIT: usize = 2 * 1024 * 1024;
/// The time limit of one call. The user waits for this call.
const CALL_TIME: Duration = Duration::from_secs(10);

/// Replicate's API, used with one account.
pub struct Replicate {
    egress: Egress,
    address: Url,
    token: Secret,
}

/// Replicate's answer about the state of a prediction.
#[derive(Debug)]
pub enum Answer {
    /// The prediction exists.
    Found(Box<Prediction>),
    /// Replicate does not know the prediction. A single such answer proves nothing.
    Absent,
    /// The answer says nothing about the prediction. This affects only this prediction.
    Unreadable(Error),
}

impl Replicate {
    pub(crate) fn new(config: &Config, egress: Egress) -> Self {
        Self {
            egress,
            address: config.replicate_url.clone(),
            token: config.replicate_token.clone(),
        }
    }

    /// Asks Replicate about a prediction.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if Replicate does not respond, or refuses the account. The response
    /// then says nothing about any prediction.
    pub async fn get(&self, id: &str) -> Result<Answer, Error> {
        let request = self.request(Method::GET, ["predictions", id].into_iter())?;
        let response = send_idempotent(SERVICE, request).await?;
        let status = response.status();
        let said = Error::unavailable(SERVICE, Cause::status("get", status.as_u16()));
        if status == StatusCode::NOT_FOUND {
            return Ok(Answer::Absent);
        }
        if is_of_everybody(status) {
            return Err(said);
        }
        if !status.is_success() {
            return Ok(Answer::Unreadable(said));
        }
        let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?;
        Ok(match body.map(|body| serde_json::from_slice(&body)) {
            Some(Ok(prediction)) => Answer::Found(Box::new(prediction)),
            Some(Err(_)) => Answer::Unreadable(unreadable()),
            None => Answer::Unreadable(Error::unavailable(SERVICE, "an answer that is too long")),
        })
    }

    /// Cancels a prediction. A prediction that has ended stays as it is.
    ///
    /// # Errors
    /// Returns [`Error::Unavailable`] if Replicate does not accept the call.
    pub(crate) async fn cancel(&self, id: &str) -> Result<(), Error> {
        let request = self.request(Method::POST, ["predictions", id, "cancel"].into_iter())?;
        let response = send_idempotent(SERVICE, request.body("")).await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status => Err(Error::unavailable(SERVICE, Cause::status("cancel", status.as_u16()))),
        }
    }

    fn request<'a>(
        &self,
        method: Method,
        path: impl Iterator<Item = &'a str>,
    ) -> Result<RequestBuilder, Error> {
        let mut url = self.address.clone();
        url.path_segments_mut()
            .map_err(|()| Error::fault("the address of Replicate"))?
            .pop_if_empty()
            .extend(path);
        let request = self.egress.request(method, url)?.timeout(crate::pace::limit(CALL_TIME));
        Ok(request.bearer_auth(self.token.reveal()).header("content-type", "application/json"))
    }
}

/// Returns whether this status affects all predictions: Replicate is down or busy, or refuses the account.
fn is_of_everybody(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::UNAUTHORIZED
                | StatusCode::PAYMENT_REQUIRED
                | StatusCode::FORBIDDEN
        )
}

fn unreadable() -> Error {
    Error::unavailable(SERVICE, "an unreadable answer")
}

async fn read<T: DeserializeOwned>(response: Response, limit: usize) -> Result<T, Error> {
    let body = read_limited(SERVICE, response, limit)
        .await?
        .ok_or_else(|| Error::unavailable(SERVICE, "an answer that is too long"))?;
    serde_json::from_slice(&body).map_err(|_| unreadable())
}
