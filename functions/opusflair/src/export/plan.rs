//! Having an export planned: the database writes its content in stretches, and we count the checksums, which the archive
//! has before the data.

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
    /// Of its file up to its end, as the place is.
    sha256: String,
    #[serde(flatten)]
    place: Place,
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

/// The digests of parts, which come in the order of their files.
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
    fn the_digests_of_a_file_go_on_from_part_to_part() {
        let start = Place::default();
        let parts = [part(3, 0, "ab", &start), part(3, 1, "c", &start), part(4, 0, "abc", &start)];
        let counted = count_parts(&parts).expect("states");
        let found: Vec<_> =
            counted.iter().map(|part| (part.place.crc32, part.sha256.clone())).collect();
        assert_eq!(found, ["ab", "abc", "abc"].map(digests));
        // And from where another worker came to.
        let later = count_parts(&[part(3, 1, "c", &counted[0].place)]).expect("a state");
        assert_eq!(later[0], counted[1]);
    }

    #[test]
    fn a_state_that_cannot_be_read_is_a_fault() {
        let place = Place { crc32: 0, sha256_state: Some("00".to_owned()) };
        assert!(count_parts(&[part(3, 1, "c", &place)]).is_err());
    }
}
