//! The content of files that are not Storage objects. It is fetched ahead while the archive is written.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{App, Error};

#[derive(Deserialize)]
struct Part {
    position: i64,
    /// The bytes of the same file before this part.
    bytes_before: u64,
    content: String,
}

impl Part {
    /// Returns the content from byte `at` of the file at `position`. Returns `None` if this part does not
    /// contain that byte.
    fn rest(self, position: i64, at: u64) -> Option<Vec<u8>> {
        let known = usize::try_from(at.checked_sub(self.bytes_before)?).ok()?;
        let is_in_it = self.position == position && known < self.content.len();
        is_in_it.then(|| self.content.into_bytes().split_off(known))
    }
}

pub(super) struct Parts<'a> {
    app: &'a App,
    export: Uuid,
    /// The parts of one response: one part of a long file, or many short files.
    ahead: VecDeque<Part>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(app: &'a App, export: Uuid) -> Self {
        Self { app, export, ahead: VecDeque::new() }
    }

    /// Returns the next content from byte `at` of the file at `position`. Returns `None` if the plan no
    /// longer contains that byte.
    pub(super) async fn take(&mut self, position: i64, at: u64) -> Result<Option<Vec<u8>>, Error> {
        let is_next = |next: &Part| (next.position, next.bytes_before) == (position, at);
        if !self.ahead.front().is_some_and(is_next) {
            let from = json!({ "export_id": self.export, "place": position, "at": at });
            self.ahead = self.app.ask("read_export_parts", from).await?;
        }
        Ok(self.ahead.pop_front().and_then(|next| next.rest(position, at)))
    }
}
