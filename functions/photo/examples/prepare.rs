//! Prepares one photo as `submit` does: `prepare PHOTO PREPARED`. Writes what would leave, and prints what
//! was measured, or why it is refused, as JSON, with what it took on Linux. The tests of photos and their
//! benchmark use it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::{env, fs};

use photo::Photo;
use serde_json::json;

fn main() -> io::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let (Some(from), Some(to)) = (arguments.next(), arguments.next()) else {
        writeln!(io::stderr(), "prepare PHOTO PREPARED")?;
        return Ok(ExitCode::FAILURE);
    };
    let bytes = fs::read(from)?.into();
    let mut verdict = match Photo::prepare(&bytes) {
        Ok(photo) => {
            let facts = json!({
                "format": photo.format_name(),
                "width": photo.width(),
                "height": photo.height(),
                "bytes": photo.byte_size(),
            });
            fs::write(to, photo.into_prepared())?;
            facts
        }
        Err(rejection) => json!({ "code": rejection.code(), "sentence": rejection.sentence() }),
    };
    verdict["seconds"] = processor_seconds().into();
    verdict["megabytes"] = peak_megabytes().into();
    writeln!(io::stdout(), "{verdict}")?;
    Ok(ExitCode::SUCCESS)
}

/// Processor time of this process, which has one thread.
fn processor_seconds() -> Option<f64> {
    let nanoseconds = fs::read_to_string("/proc/self/schedstat").ok()?;
    Some(nanoseconds.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}

/// The most memory that it had.
fn peak_megabytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? * 1024.0 / 1e6)
}
