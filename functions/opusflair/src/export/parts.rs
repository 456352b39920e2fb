//! The content of the files that are not objects of Storage, fetched ahead as it is written.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{App, Error};

#[expect(clippy::struct_field_names, reason = "named as the database does")]
#[derive(Deserialize)]
struct Part {
    position: i64,
    part: u32,
    content: String,
}

pub(super) struct Parts<'a> {
    app: &'a App,
    export: Uuid,
    /// What one answer held: of a long file a part of it, of short ones many.
    ahead: VecDeque<Part>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(app: &'a App, export: Uuid) -> Self {
        Self { app, export, ahead: VecDeque::new() }
    }

    /// A part of the file at `position`; `None` if the plan has no such part any more.
    pub(super) async fn take(&mut self, position: i64, part: u32) -> Result<Option<String>, Error> {
        let is_next = |next: &Part| (next.position, next.part) == (position, part);
        if !self.ahead.front().is_some_and(is_next) {
            let from = json!({ "export_id": self.export, "place": position, "part": part });
            self.ahead = self.app.ask("export_parts", from).await?;
        }
        Ok(self.ahead.pop_front().filter(is_next).map(|next| next.content))
    }
}
