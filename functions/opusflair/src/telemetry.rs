//! Logging: one line per event on standard output, with nothing but technical metadata (R5). `list` declares
//! what a line may hold. `line` writes only that, whatever is passed to it.

mod line;
mod list;
#[cfg(test)]
mod tests;

use std::env;
use std::panic::{self, PanicHookInfo};

use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt, registry};

use line::Form;

/// The crates whose events are written. Other crates put URLs and headers into their events, and `RUST_LOG`
/// can enable all of them.
const OURS: [&str; 9] = [
    "opusflair",
    "submit",
    "replicate_webhook",
    "cleanup",
    "privacy",
    "privacy_inbox",
    "marking",
    "photo",
    "local",
];

/// Starts logging: JSON in Lambda, plain text elsewhere. `RUST_LOG` filters the events. The default is
/// `info`.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_in_lambda = env::var_os("AWS_LAMBDA_FUNCTION_NAME").is_some();
    let form = if is_in_lambda { Form::Json } else { Form::Text };
    lines(filter, form, std::io::stdout).init();
    panic::set_hook(Box::new(note_panic));
}

fn lines<W>(filter: EnvFilter, form: Form, out: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().event_format(form).with_ansi(false).with_writer(out);
    registry().with(filter).with(filter_fn(is_ours)).with(layer)
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().split("::").next().is_some_and(|name| OURS.contains(&name))
}

/// Logs the place of a panic, not its message, because the message may quote a value.
fn note_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(|at| {
        let file = at.file().rsplit('/').next().unwrap_or_default();
        format!("{file}:{}", at.line())
    });
    tracing::error!(place, "panicked");
}
