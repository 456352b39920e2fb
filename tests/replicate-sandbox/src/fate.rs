//! What will go wrong with a prediction, or be chosen for it: decided when it is created, so that what
//! is armed later meets the next one and not one that still runs.

use crate::faults::Fault;
use crate::render::Rendered;
use crate::sandbox::Sandbox;

#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) course: Course,
    /// None of its events is sent.
    pub(crate) is_silent: bool,
    /// Its start is told after its end.
    pub(crate) is_reordered: bool,
    /// How often its last event is sent besides once.
    pub(crate) duplicates: u64,
    /// What it puts out instead of what it paints.
    pub(crate) output: Option<Rendered>,
}

/// What comes of it, unless somebody ends it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Course {
    #[default]
    Usual,
    NeverStarts,
    NeverEnds,
    /// With this error.
    Fails(&'static str),
    /// It succeeds, and has nothing to show for it.
    IsEmpty,
}

/// In Replicate's words.
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
    /// Uses up what is armed and given for the next prediction.
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
