//! Prepares damaged photos for a given time: `fuzz FOLDER MINUTES`. The folder holds undamaged photos. The
//! run fails if a photo causes a panic or costs more than a file of its size may. It keeps each such photo as
//! `FOLDER.failure-NUMBER`. `FOLDER.case` is always the last photo, so it shows which photo ended a run
//! early. Linux measures the cost.

use std::fs;
use std::io::{self, Write};
use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use photo::Photo;
use rand::SeedableRng;
use rand::rngs::StdRng;

mod cost;
mod damage;

/// The longest file, in bytes. The limits on the cost apply to files up to this length.
const LONGEST: usize = 1_000_000;
const MOST_SECONDS: f64 = 1.0;
const MOST_MEGABYTES: f64 = 500.0;

/// An undamaged photo, and the total cost of its damaged copies.
struct Sample {
    name: String,
    file: Vec<u8>,
    cases: u32,
    seconds: f64,
}

/// The totals of all cases.
#[derive(Default)]
struct Total {
    cases: u32,
    prepared: u32,
    failures: u32,
    most_seconds: (f64, String),
    most_megabytes: (f64, String),
}

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, folder, minutes] = &arguments[..] else { panic!("fuzz FOLDER MINUTES") };
    let minutes: f64 = minutes.parse().expect("a number of minutes");
    let mut samples = read(Path::new(folder))?;
    #[cfg(feature = "heic")]
    samples.extend(heics());
    assert!(!samples.is_empty(), "{folder} holds no photo");
    let mut random = StdRng::from_rng(&mut rand::rng());
    let mut total = Total::default();
    let (start, mut minutes_shown) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs_f64(minutes * 60.0) {
        // All samples get the same time, so expensive ones get fewer cases.
        let sample = samples
            .iter_mut()
            .min_by(|one, other| one.seconds.total_cmp(&other.seconds))
            .expect("a sample");
        let photo = if sample.cases == 0 {
            sample.file.clone()
        } else {
            damage::damage(&sample.file, &mut random)
        };
        fs::write(format!("{folder}.case"), &photo)?;
        if let Some(failure) = total.prepare(sample, &photo.into())? {
            total.failures += 1;
            let copy = format!("{folder}.failure-{}", total.failures);
            fs::copy(format!("{folder}.case"), &copy)?;
            writeln!(io::stdout(), "{copy}: {}: {failure}", sample.name)?;
        }
        let minutes_gone = start.elapsed().as_secs() / 60;
        if minutes_gone > minutes_shown {
            minutes_shown = minutes_gone;
            total.show(minutes_gone)?;
        }
    }
    total.show(start.elapsed().as_secs() / 60)?;
    Ok(if total.failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads every photo in the folder that is not longer than [`LONGEST`].
fn read(folder: &Path) -> io::Result<Vec<Sample>> {
    let mut samples = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = fs::read(entry.path())?;
        if file.len() <= LONGEST {
            samples.push(Sample::of(&name, file));
        }
    }
    Ok(samples)
}

/// A small HEIC and one of the size that phones make. They are encoded here
/// because no npm package writes HEIC.
#[cfg(feature = "heic")]
fn heics() -> impl Iterator<Item = Sample> {
    [("HEIC", 480, 320), ("HEIC of 12 MP", 4032, 3024)].into_iter().map(|(name, width, height)| {
        let pixels: Vec<u8> = (0..width * height)
            .flat_map(|at| [at % width * 256 / width, at / width * 256 / height, 90, 200])
            .map(|sample| u8::try_from(sample).unwrap_or(u8::MAX))
            .collect();
        let options = heifer::EncodeOptions::default();
        let file = heifer::encode_rgba8(width, height, &pixels, &options).expect("a HEIC");
        assert!(file.len() <= LONGEST, "{name}: {} bytes", file.len());
        Sample::of(name, file)
    })
}

impl Sample {
    fn of(name: &str, file: Vec<u8>) -> Self {
        Self { name: name.to_owned(), file, cases: 0, seconds: 0.0 }
    }
}

impl Total {
    /// Prepares one photo. Returns what is wrong, if anything.
    fn prepare(&mut self, sample: &mut Sample, photo: &Bytes) -> io::Result<Option<String>> {
        let before = cost::processor_seconds()?;
        // Resets the peak, which otherwise includes earlier cases.
        fs::write("/proc/self/clear_refs", "5")?;
        let outcome = catch_unwind(|| Photo::prepare(photo).is_ok());
        let megabytes = cost::peak_megabytes()?;
        let seconds = cost::processor_seconds()? - before;
        sample.cases += 1;
        sample.seconds += seconds;
        self.cases += 1;
        if seconds > self.most_seconds.0 {
            self.most_seconds = (seconds, sample.name.clone());
        }
        if megabytes > self.most_megabytes.0 {
            self.most_megabytes = (megabytes, sample.name.clone());
        }
        let Ok(is_prepared) = outcome else { return Ok(Some("a panic".to_owned())) };
        self.prepared += u32::from(is_prepared);
        let is_dear = seconds > MOST_SECONDS || megabytes > MOST_MEGABYTES;
        Ok(is_dear.then(|| format!("{seconds:.2} s and {megabytes:.0} MB")))
    }

    fn show(&self, minutes: u64) -> io::Result<()> {
        let Self { cases, prepared, failures, most_seconds, most_megabytes } = self;
        writeln!(
            io::stdout(),
            "{minutes} min: {cases} cases, {prepared} prepared, {failures} failures; at most {:.2} s ({}), {:.0} MB ({})",
            most_seconds.0,
            most_seconds.1,
            most_megabytes.0,
            most_megabytes.1,
        )
    }
}
