//! Misbehaviour on command: a list of faults, each armed for so many times, asked in one place.

use std::sync::Mutex;

use serde::Deserialize;

/// What can go wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// No credit left.
    #[serde(alias = "create_402")]
    Create402,
    /// Refused with the status `value`, by a problem that names no member of the input.
    CreateRefused,
    /// Refused, because the model does not take a member of the input.
    #[serde(alias = "create_422")]
    Create422,
    /// Too many requests; `value` seconds to wait.
    #[serde(alias = "create_429")]
    Create429,
    /// An internal error; nothing was created.
    #[serde(alias = "create_500")]
    Create500,
    /// The prediction is created, and the answer is lost.
    CreateHang,
    /// Not created, and no answer either.
    #[serde(alias = "create_drop_before")]
    CreateDrop,
    /// No event of this prediction is sent.
    WebhookDrop,
    /// The last event is sent `value` more times.
    WebhookDuplicate,
    /// Each event waits `value` milliseconds.
    WebhookDelay,
    /// The start is told after the end.
    WebhookReorder,
    /// The signature does not fit.
    WebhookBadSignature,
    /// It is signed `value` seconds ago, by the sender's clock.
    WebhookClock,
    /// The model flags the picture (E005).
    FailModeration,
    /// The platform fails, and says to try again.
    FailPlatform,
    /// The platform is busy (E003).
    FailHighDemand,
    /// The platform is unavailable for the moment (E004).
    FailUnavailable,
    /// The model does not take the photo (E006).
    FailInput,
    /// The model fails.
    FailModel,
    /// Success, and nothing to show for it.
    SucceedWithoutOutput,
    /// HTML where the picture should be.
    OutputWrongType,
    /// An internal error instead of the picture.
    #[serde(alias = "output_500")]
    Output500,
    /// Fewer bytes than announced.
    OutputTruncated,
    /// Headers, and then nothing for `value` milliseconds.
    OutputStall,
    /// Not found.
    OutputExpired,
    /// Its address has no extension.
    OutputUnnamed,
    /// Its address is on another host.
    OutputElsewhere,
    /// More bytes than anybody wants.
    OutputTooLarge,
    /// Somewhere else.
    OutputRedirect,
    /// It never starts.
    StuckStarting,
    /// It never ends.
    StuckProcessing,
    /// A prediction is not known.
    #[serde(alias = "get_404")]
    Get404,
    /// The answer for a prediction cannot be read.
    GetUnreadable,
    /// A status that nobody knows when asked for a prediction.
    GetOddStatus,
    /// An entry of the list, for the newest prediction, that cannot be read.
    ListUnreadable,
    /// An internal error when asked for a prediction.
    #[serde(alias = "get_500")]
    Get500,
}

impl Fault {
    /// What it is measured by, where nothing else is said.
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

/// A fault that is armed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Armed {
    fault: Fault,
    /// How often it still happens.
    #[serde(default = "once")]
    count: u32,
    /// What it is measured in is said at each.
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

    /// Whether `fault` happens now, and with which value; it then has happened once more.
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
