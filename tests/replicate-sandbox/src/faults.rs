//! Faults on request: a list of armed faults, each with a count, that all handlers check.

use std::sync::Mutex;

use serde::Deserialize;

/// The possible faults.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// A create call is refused: the account has no credit.
    #[serde(alias = "create_402")]
    Create402,
    /// A create call is refused with the status `value`. The problem does not name an input.
    CreateRefused,
    /// A create call is refused, because the model does not accept an input.
    #[serde(alias = "create_422")]
    Create422,
    /// A create call is refused: too many requests. `value` is the time to wait, in seconds.
    #[serde(alias = "create_429")]
    Create429,
    /// A create call fails with an internal error. Nothing is created.
    #[serde(alias = "create_500")]
    Create500,
    /// The prediction is created, but the response is lost.
    CreateHang,
    /// The prediction is not created, and there is no response.
    #[serde(alias = "create_drop_before")]
    CreateDrop,
    /// No webhook event of this prediction is sent.
    WebhookDrop,
    /// The last webhook event is sent `value` extra times.
    WebhookDuplicate,
    /// Each webhook event is delayed by `value` milliseconds.
    WebhookDelay,
    /// The start event is sent after the last event.
    WebhookReorder,
    /// The signature of a webhook event is wrong.
    WebhookBadSignature,
    /// The signature is `value` seconds old by the sender's clock.
    WebhookClock,
    /// The model flags the picture (E005).
    FailModeration,
    /// The platform interrupts the prediction and asks to retry.
    FailPlatform,
    /// The platform is busy (E003).
    FailHighDemand,
    /// The platform is temporarily unavailable (E004).
    FailUnavailable,
    /// The model rejects the photo (E006).
    FailInput,
    /// The model fails.
    FailModel,
    /// The prediction succeeds without an output.
    SucceedWithoutOutput,
    /// The output is HTML instead of a picture.
    OutputWrongType,
    /// The output address returns an internal error.
    #[serde(alias = "output_500")]
    Output500,
    /// The output has fewer bytes than announced.
    OutputTruncated,
    /// The output sends its headers, and then stalls for `value` milliseconds.
    OutputStall,
    /// The output is not found.
    OutputExpired,
    /// The output address has no file extension.
    OutputUnnamed,
    /// The output address is on another host.
    OutputElsewhere,
    /// The output never ends.
    OutputTooLarge,
    /// The output address redirects.
    OutputRedirect,
    /// The prediction never starts.
    StuckStarting,
    /// The prediction never ends.
    StuckProcessing,
    /// A get call returns 404.
    #[serde(alias = "get_404")]
    Get404,
    /// A get call returns an unreadable body.
    GetUnreadable,
    /// A get call returns an unknown status.
    GetOddStatus,
    /// The newest entry of the list is unreadable.
    ListUnreadable,
    /// A get call fails with an internal error.
    #[serde(alias = "get_500")]
    Get500,
}

impl Fault {
    /// The default of `value`.
    fn usual_value(self) -> u64 {
        match self {
            Self::WebhookDelay => 1_000,
            Self::WebhookClock => 600,
            Self::OutputStall => 60_000,
            Self::CreateRefused => 401,
            _ => 1,
        }
    }
}

/// An armed fault.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Armed {
    fault: Fault,
    /// How many more times it happens.
    #[serde(default = "once")]
    count: u32,
    /// The unit depends on the fault.
    #[serde(default)]
    value: Option<u64>,
}

#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<Armed>>);

impl Faults {
    pub(crate) fn arm(&self, armed: Vec<Armed>) {
        self.0.lock().expect("nothing panics while it holds this").extend(armed);
    }

    pub(crate) fn disarm(&self) {
        self.0.lock().expect("nothing panics while it holds this").clear();
    }

    /// Returns the value of `fault` if it happens now, and counts it.
    pub(crate) fn strikes(&self, fault: Fault) -> Option<u64> {
        let mut all = self.0.lock().expect("nothing panics while it holds this");
        let armed = all.iter_mut().find(|armed| armed.fault == fault && armed.count > 0)?;
        armed.count -= 1;
        Some(armed.value.unwrap_or_else(|| fault.usual_value()))
    }
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_exactly_as_often_as_it_is_armed() {
        let faults = Faults::default();
        let armed = serde_json::json!([{ "fault": "create429", "count": 2, "value": 3 }]);
        faults.arm(serde_json::from_value(armed).expect("faults"));
        assert_eq!(faults.strikes(Fault::Create500), None);
        assert_eq!(faults.strikes(Fault::Create429), Some(3));
        assert_eq!(faults.strikes(Fault::Create429), Some(3));
        assert_eq!(faults.strikes(Fault::Create429), None);
    }

    #[test]
    fn an_unknown_or_invalid_fault_is_refused() {
        for armed in [
            serde_json::json!([{ "fault": "create_418" }]),
            serde_json::json!([{ "fault": "create_429", "seconds": 3 }]),
        ] {
            assert!(serde_json::from_value::<Vec<Armed>>(armed).is_err());
        }
    }
}
