//! Prepares one photo as `submit` does: `prepare PHOTO PREPARED`. Writes the prepared photo. Prints JSON with
//! the measurements, or with the reason for a refusal, and on Linux also the cost. The tests of photos and
//! their benchmark use it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::{env, fs};

use photo::Photo;
use serde_json::json;

#[path = "fuzz/cost.rs"]
mod cost;

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
    verdict["seconds"] = cost::processor_seconds().ok().into();
    verdict["megabytes"] = cost::peak_megabytes().ok().into();
    writeln!(io::stdout(), "{verdict}")?;
    Ok(ExitCode::SUCCESS)
}
