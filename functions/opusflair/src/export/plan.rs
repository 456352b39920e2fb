//! Plans an export. The database writes the content in stretches, and this module computes the checksums. In
//! the archive, a file's checksum precedes its data.

use std::time::Instant;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::meter::{Meter, Place};
use super::pieces::Stop;
use crate::egress::unreachable;
use crate::{App, Error, crash};

/// How many objects are read at the same time.
const AT_ONCE: usize = 4;

/// The database's response to a planning step.
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
    /// The state of the file's digests before this part.
    #[serde(flatten)]
    before: Place,
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
    /// The SHA-256 of the file up to the end of this part. `place` is the state at the same point.
    sha256: String,
    #[serde(flatten)]
    place: Place,
}

#[derive(Serialize)]
struct CountedObject {
    position: i64,
    /// `None` if the object is missing or has another length.
    crc32: Option<u32>,
}

impl App {
    /// Takes planning steps until the plan is complete. At least one step is recorded before `deadline` can
    /// end the turn.
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
            counted.parts = count_parts(&parts)?;
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

/// Computes the digests of parts. The parts are in the order of their files.
fn count_parts(parts: &[Part]) -> Result<Vec<CountedPart>, Error> {
    let mut counted: Vec<CountedPart> = Vec::with_capacity(parts.len());
    for Part { position, part, content, before } in parts {
        let before = match counted.last() {
            Some(last) if last.position == *position => &last.place,
            _ => before,
        };
        let mut meter = Meter::from(before)?;
        meter.update(content.as_bytes());
        let place = meter.place();
        let (_, sha256) = meter.finish();
        counted.push(CountedPart { position: *position, part: *part, sha256, place });
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn part(position: i64, part: u32, content: &str, before: &Place) -> Part {
        Part { position, part, content: content.to_owned(), before: before.clone() }
    }

    fn digests(text: &str) -> (u32, String) {
        (crc32fast::hash(text.as_bytes()), hex::encode(Sha256::digest(text)))
    }

    #[test]
    fn the_digests_of_a_file_continue_from_part_to_part() {
        let start = Place::default();
        let parts = [part(3, 0, "ab", &start), part(3, 1, "c", &start), part(4, 0, "abc", &start)];
        let counted = count_parts(&parts).expect("states");
        let found: Vec<_> =
            counted.iter().map(|part| (part.place.crc32, part.sha256.clone())).collect();
        assert_eq!(found, ["ab", "abc", "abc"].map(digests));
        // Another worker can continue from a recorded state.
        let later = count_parts(&[part(3, 1, "c", &counted[0].place)]).expect("a state");
        assert_eq!(later[0], counted[1]);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_a_fault() {
        let place = Place { crc32: 0, sha256_state: Some("00".to_owned()) };
        assert!(count_parts(&[part(3, 1, "c", &place)]).is_err());
    }
}
