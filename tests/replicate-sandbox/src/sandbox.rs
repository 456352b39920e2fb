//! The data of the sandbox. It is only in memory.

use std::collections::{BTreeMap, VecDeque};
use std::num::NonZero;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Semaphore;

use crate::clock::Clock;
use crate::config::Config;
use crate::faults::Faults;
use crate::limits::Limits;
use crate::prediction::Prediction;
use crate::render::Rendered;

/// Data of predictions that were created through the API is deleted after this time.
pub(crate) const KEPT: time::Duration = time::Duration::hours(1);
/// Uploaded files are deleted after this time.
pub(crate) const FILES_KEPT: time::Duration = time::Duration::hours(24);

/// An uploaded file or a finished picture.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    pub(crate) content_type: String,
    pub(crate) name: String,
    /// The metadata that the client sent with the file.
    pub(crate) metadata: Value,
    pub(crate) created_at: OffsetDateTime,
}

#[derive(Default)]
pub(crate) struct Contents {
    /// In the order of creation.
    pub(crate) predictions: Vec<Prediction>,
    pub(crate) files: BTreeMap<String, Stored>,
    pub(crate) outputs: BTreeMap<String, Stored>,
    /// The chosen outputs of the next predictions, instead of painted ones.
    pub(crate) given: VecDeque<Rendered>,
    /// The facts about each received input, without its bytes.
    pub(crate) inputs: Vec<Value>,
}

pub(crate) struct Sandbox {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) faults: Faults,
    pub(crate) limits: Limits,
    pub(crate) http: reqwest::Client,
    /// One permit for each picture that may be painted at the same time. A
    /// canceled prediction leaves the queue.
    pub(crate) painters: Arc<Semaphore>,
    contents: Mutex<Contents>,
}

/// The state that handlers get.
pub(crate) type Shared = Arc<Sandbox>;

impl Sandbox {
    pub(crate) fn new(config: Config) -> Self {
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .expect("a TLS client");
        Self {
            config,
            clock: Clock::default(),
            faults: Faults::default(),
            limits: Limits::default(),
            http,
            painters: Arc::new(Semaphore::new(available_parallelism().map_or(2, NonZero::get))),
            contents: Mutex::default(),
        }
    }

    /// A sandbox without an address. Its predictions take no longer than their pictures need.
    #[cfg(test)]
    pub(crate) fn example() -> Self {
        Self::new(Config {
            address: String::new(),
            token: "r8_example".to_owned(),
            webhook_secret: String::new(),
            webhook_key: Vec::new(),
            run_time: Duration::ZERO,
            pixels: painter::PIXELS,
        })
    }

    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.config.address)
    }

    /// The contents, after everything that is past its time was deleted.
    pub(crate) fn contents(&self) -> MutexGuard<'_, Contents> {
        let mut contents = self.contents.lock().expect("nothing panics while it holds this");
        let now = self.clock.now();
        for prediction in &mut contents.predictions {
            if prediction.completed_at.is_some_and(|at| at < now - KEPT) {
                prediction.remove_data();
            }
        }
        contents.outputs.retain(|_, output| output.created_at >= now - KEPT);
        contents.files.retain(|_, file| file.created_at >= now - FILES_KEPT);
        contents
    }

    pub(crate) fn find(&self, id: &str) -> Option<Prediction> {
        self.contents().predictions.iter().find(|found| found.id == id).cloned()
    }

    /// Changes a prediction that has not ended. `None` if it has ended or does not exist.
    pub(crate) fn change(
        &self,
        id: &str,
        change: impl FnOnce(&mut Prediction),
    ) -> Option<Prediction> {
        let mut contents = self.contents();
        let found = contents.predictions.iter_mut().find(|found| found.id == id)?;
        if found.status.is_terminal() {
            return None;
        }
        change(found);
        let changed = found.clone();
        drop(contents);
        changed.changes.send_replace(());
        Some(changed)
    }
}

/// A random id: 26 characters of lowercase base32.
pub(crate) fn new_id() -> String {
    const ALPHABET: &[u8] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = rand::rng();
    (0..26).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}
