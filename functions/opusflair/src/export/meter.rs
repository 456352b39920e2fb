//! Computes length, CRC-32 and SHA-256 of a stream. Another worker can continue the computation.

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

use crate::Error;

#[derive(Clone, Default)]
pub(super) struct Meter {
    pub(super) bytes: u64,
    crc32: crc32fast::Hasher,
    sha256: Sha256,
}

/// The intermediate state of a meter, for the worker that continues. The default is the state before any
/// byte.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
pub(super) struct Place {
    pub(super) crc32: u32,
    /// The internal state of the SHA-256, in hexadecimal. A finished digest cannot be continued.
    pub(super) sha256_state: Option<String>,
}

impl Meter {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.crc32.update(bytes);
        self.sha256.update(bytes);
    }

    pub(super) fn finish(self) -> (u32, String) {
        (self.crc32.finalize(), hex::encode(self.sha256.finalize()))
    }

    pub(super) fn place(&self) -> Place {
        let sha256_state = Some(hex::encode(self.sha256.serialize()));
        Place { crc32: self.crc32.clone().finalize(), sha256_state }
    }

    /// Continues from the state of another meter. `bytes` counts from zero again.
    pub(super) fn from(place: &Place) -> Result<Self, Error> {
        let sha256 = match &place.sha256_state {
            Some(state) => {
                read_state(state).ok_or_else(|| Error::fault("the state of a digest"))?
            }
            None => Sha256::new(),
        };
        Ok(Self { bytes: 0, crc32: crc32fast::Hasher::new_with_initial(place.crc32), sha256 })
    }
}

fn read_state(state: &str) -> Option<Sha256> {
    let state = SerializedState::<Sha256>::try_from(hex::decode(state).ok()?.as_slice()).ok()?;
    Sha256::deserialize(&state).ok()
}
