//! Built by the profile of a release, which no test harness is: does a thread that panics end alone, or the process?
//! The functions judge each photo on a thread like this one.

use std::process::ExitCode;
use std::thread;

fn main() -> ExitCode {
    let judging = thread::spawn(|| -> () { panic!("as a decoder might") });
    if judging.join().is_err() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
