//! Misbehaviour on command: a list of faults, each armed for so many times, asked in one place.

use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// What can go wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Fault {
    /// Too many requests; `value` seconds to wait.
    Create429,
    /// An internal error; nothing was created.
    Create500,
    /// The prediction is created, and the answer is lost.
    CreateHang,
    /// Not created, and no answer either.
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
    /// The model flags the picture (E005).
    FailModeration,
    /// The platform fails, and says to try again.
    FailPlatform,
    /// The model fails.
    FailModel,
    /// Success, and nothing to show for it.
    SucceedWithoutOutput,
    /// HTML where the picture should be.
    OutputWrongType,
    /// Fewer bytes than announced.
    OutputTruncated,
    /// Headers, and then nothing for `value` milliseconds.
    OutputStall,
    /// Not found.
    OutputExpired,
    /// More bytes than anybody wants.
    OutputTooLarge,
    /// Somewhere else.
    OutputRedirect,
    /// It never starts.
    StuckStarting,
    /// It never ends.
    StuckProcessing,
    /// A prediction is not known.
    Get404,
    /// An internal error when asked for a prediction.
    Get500,
}

/// A fault that is armed.
#[derive(Clone, Debug, Deserialize, Serialize)]
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
        Some(armed.value.unwrap_or(1))
    }
}

fn once() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_as_often_as_it_is_armed_and_no_more() {
        let faults = Faults::default();
        let armed = serde_json::json!([{ "fault": "create429", "count": 2, "value": 3 }]);
        faults.arm(serde_json::from_value(armed).expect("faults"));
        assert_eq!(faults.strikes(Fault::Create500), None);
        assert_eq!(faults.strikes(Fault::Create429), Some(3));
        assert_eq!(faults.strikes(Fault::Create429), Some(3));
        assert_eq!(faults.strikes(Fault::Create429), None);
    }
}
