//! Having an export planned: the database writes its content in stretches, and we count the checksums, which the archive
//! has before the data.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::layout::Meter;
use super::pieces::Stop;
use crate::egress::unreachable;
use crate::{App, Error, crash};

/// Objects that are read at once.
const AT_ONCE: usize = 4;

/// What the database answers to a step.
#[derive(Deserialize)]
struct Step {
    is_planned: bool,
    parts: Vec<Part>,
    objects: Vec<Object>,
}

#[expect(clippy::struct_field_names, reason = "named as the database does")]
#[derive(Deserialize)]
struct Part {
    position: i64,
    part: u32,
    content: String,
    /// Of its file before it.
    crc32: u32,
}

#[expect(clippy::struct_field_names, reason = "named as the database does")]
#[derive(Deserialize)]
struct Object {
    position: i64,
    bucket: String,
    object: String,
    bytes: u64,
}

#[derive(Default)]
struct Counted {
    parts: Vec<CountedPart>,
    objects: Vec<CountedObject>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct CountedPart {
    position: i64,
    part: u32,
    /// Of its file up to its end.
    crc32: u32,
}

#[derive(Serialize)]
struct CountedObject {
    position: i64,
    /// `None` if the object is not there, or not all of it.
    crc32: Option<u32>,
}

impl App {
    /// Takes steps until the plan is whole. One step at least is recorded before `deadline` ends the turn.
    pub(super) async fn plan_export(
        &self,
        export: Uuid,
        lease: Uuid,
        deadline: Instant,
    ) -> Result<(), Stop> {
        let mut counted = Counted::default();
        for steps in 0.. {
            let step = json!({
                "export_id": export, "lease": lease,
                "parts": counted.parts, "objects": counted.objects,
            });
            let step: Option<Step> = self.ask("plan_export", step).await?;
            crash::reached("export.planned");
            let Step { is_planned, parts, objects } = step.ok_or(Stop::Later)?;
            if is_planned {
                return Ok(());
            }
            if steps > 0 && Instant::now() >= deadline {
                return Err(Stop::Later);
            }
            counted.parts = count_parts(&parts);
            counted.objects = stream::iter(objects)
                .map(|object| self.count_object(object))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
        }
        Ok(())
    }

    async fn count_object(&self, planned: Object) -> Result<CountedObject, Error> {
        let position = planned.position;
        let Some(response) = self.storage.open(&planned.bucket, &planned.object).await? else {
            return Ok(CountedObject { position, crc32: None });
        };
        let mut meter = Meter::default();
        let mut stream = response.bytes_stream();
        while let Some(chunk) = stream.next().await {
            let chunk: Bytes = chunk.map_err(|fault| unreachable("Storage", &fault))?;
            meter.update(&chunk);
            if meter.bytes > planned.bytes {
                break;
            }
        }
        let crc32 = (meter.bytes == planned.bytes).then(|| meter.finish().0);
        Ok(CountedObject { position, crc32 })
    }
}

/// The checksums of parts, which come in the order of their files.
fn count_parts(parts: &[Part]) -> Vec<CountedPart> {
    let mut counted: Vec<CountedPart> = Vec::with_capacity(parts.len());
    for Part { position, part, content, crc32 } in parts {
        let before = match counted.last() {
            Some(last) if last.position == *position => last.crc32,
            _ => *crc32,
        };
        let mut hasher = crc32fast::Hasher::new_with_initial(before);
        hasher.update(content.as_bytes());
        counted.push(CountedPart { position: *position, part: *part, crc32: hasher.finalize() });
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(position: i64, part: u32, content: &str, crc32: u32) -> Part {
        Part { position, part, content: content.to_owned(), crc32 }
    }

    #[test]
    fn the_checksum_of_a_file_goes_on_from_part_to_part() {
        let parts = [part(3, 0, "ab", 0), part(3, 1, "c", 0), part(4, 0, "abc", 0)];
        let counted: Vec<u32> = count_parts(&parts).iter().map(|part| part.crc32).collect();
        assert_eq!(counted, ["ab", "abc", "abc"].map(|text| crc32fast::hash(text.as_bytes())));
        // And from where another worker came to.
        let later = count_parts(&[part(3, 1, "c", counted[0])]);
        assert_eq!(later[0].crc32, counted[1]);
    }
}
