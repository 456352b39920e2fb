//! The cost of this process, as Linux measures it.

use std::{fs, io};

/// Processor time of this thread.
pub(crate) fn processor_seconds() -> io::Result<f64> {
    let nanoseconds = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = nanoseconds.split(' ').next().and_then(|count| count.parse::<f64>().ok());
    nanoseconds.map(|count| count / 1e9).ok_or(io::ErrorKind::InvalidData.into())
}

/// Peak memory of the process.
pub(crate) fn peak_megabytes() -> io::Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kibibytes.map(|count| count * 1024.0 / 1e6).ok_or(io::ErrorKind::InvalidData.into())
}
