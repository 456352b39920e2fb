//! Time stamps (RFC 3161). An authority confirms when a signature was made, so the signature stays valid
//! after its certificate expires.

use std::time::Duration;

use c2pa::crypto::cose::CertificateTrustPolicy;
use c2pa::crypto::time_stamp::{TimeStampError, default_rfc3161_message, verify_time_stamp};
use c2pa::status_tracker::StatusTracker;
use opusflair::egress::{Egress, read_limited, unreachable};
use opusflair::{Error, pace};
use reqwest::{Method, Url};
use tokio::runtime::Handle;

/// How long to wait for a time stamp. This delays the artwork.
const PATIENCE: Duration = Duration::from_secs(5);
/// The largest answer, in bytes. It holds a token with its certificates; the largest ones have about 10 KB.
const ANSWER_LIMIT: usize = 64 * 1024;
const SERVICE: &str = "the time-stamping authority";

/// A time-stamping authority.
pub(crate) struct Authority {
    pub(crate) address: Url,
    pub(crate) egress: Egress,
}

impl Authority {
    /// Requests the time stamp for `message`. `None` is acceptable: a signature without a time stamp only
    /// loses its value when the certificate expires.
    pub(crate) fn stamp(&self, message: &[u8]) -> Option<Vec<u8>> {
        let stamp = Handle::try_current().ok()?.block_on(self.ask(message));
        let stamp = stamp.and_then(|stamp| verify(&stamp, message).map(|()| stamp));
        if let Err(error) = &stamp {
            tracing::warn!(error = error.for_log(), "an artwork was signed without a time stamp");
        }
        stamp.ok()
    }

    async fn ask(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let question = default_rfc3161_message(message)
            .map_err(|_| Error::fault("a question for a time stamp"))?;
        let response = self
            .egress
            .request(Method::POST, self.address.clone())?
            .timeout(pace::limit(PATIENCE))
            .header("content-type", "application/timestamp-query")
            .body(question)
            .send()
            .await
            .map_err(|fault| unreachable(SERVICE, &fault))?;
        let is_success = response.status().is_success();
        let body = read_limited(SERVICE, response, ANSWER_LIMIT).await?;
        body.filter(|_| is_success)
            .map(Into::into)
            .ok_or_else(|| Error::unavailable(SERVICE, "no stamp in its answer"))
    }
}

fn verify(stamp: &[u8], message: &[u8]) -> Result<(), Error> {
    let anyone = CertificateTrustPolicy::passthrough();
    let mut log = StatusTracker::default();
    let verified = verify_time_stamp(stamp, message, &anyone, &mut log, false);
    let bad = |_: TimeStampError| Error::unavailable(SERVICE, "a stamp of something else");
    verified.map(drop).map_err(bad)
}
