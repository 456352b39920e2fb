//! The faults and the chosen output of a prediction. They are drawn when it is created, so a fault that a
//! test arms later affects the next prediction, not one that is already running.

use crate::faults::Fault;
use crate::render::Rendered;
use crate::sandbox::Sandbox;

#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) course: Course,
    /// Whether none of its webhook events is sent.
    pub(crate) is_silent: bool,
    /// Whether its start event is sent after its last event.
    pub(crate) is_reordered: bool,
    /// How many extra times its last event is sent.
    pub(crate) duplicates: u64,
    /// The output that a test has chosen, instead of a painted one.
    pub(crate) output: Option<Rendered>,
}

/// How the prediction ends, unless it is ended earlier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Course {
    #[default]
    Usual,
    NeverStarts,
    NeverEnds,
    /// It fails with this error.
    Fails(&'static str),
    /// It succeeds without an output.
    IsEmpty,
}

/// The errors are in Replicate's words.
const COURSES: [(Fault, Course); 9] = [
    (Fault::StuckStarting, Course::NeverStarts),
    (Fault::StuckProcessing, Course::NeverEnds),
    (
        Fault::FailModeration,
        Course::Fails(
            "The input or output was flagged as sensitive. \
             Please try again with different inputs. (E005)",
        ),
    ),
    (Fault::FailPlatform, Course::Fails("Prediction interrupted; please retry (code: PA)")),
    (
        Fault::FailHighDemand,
        Course::Fails(
            "Service is currently unavailable due to high demand. Please try again later. (E003)",
        ),
    ),
    (
        Fault::FailUnavailable,
        Course::Fails("Service is temporarily unavailable. Please try again later. (E004)"),
    ),
    (Fault::FailInput, Course::Fails("The input is invalid. (E006)")),
    (Fault::FailModel, Course::Fails("Unknown error (E1000)")),
    (Fault::SucceedWithoutOutput, Course::IsEmpty),
];

impl Fate {
    /// Takes the faults and the output for the next prediction. Each of them is used up.
    pub(crate) fn draw(sandbox: &Sandbox) -> Self {
        let faults = &sandbox.faults;
        let course = COURSES.into_iter().find(|(fault, _)| faults.strikes(*fault).is_some());
        Self {
            course: course.map_or(Course::Usual, |(_, course)| course),
            is_silent: faults.strikes(Fault::WebhookDrop).is_some(),
            is_reordered: faults.strikes(Fault::WebhookReorder).is_some(),
            duplicates: faults.strikes(Fault::WebhookDuplicate).unwrap_or(0),
            output: sandbox.contents().given.pop_front(),
        }
    }
}
