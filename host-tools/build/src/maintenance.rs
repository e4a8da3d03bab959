//! What operators ask of the cache itself.

use std::time::SystemTime;

use serde::Serialize;

use crate::cache::{Cache, Entry, KINDS};
use crate::error::BuildError;
use crate::places::Places;

/// Entries of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Which step made them; `debs` are downloaded packages, `programs` what our own are compiled in.
    pub kind: &'static str,
    /// How many there are.
    pub entries: usize,
    /// Bytes on the disk.
    pub bytes: u64,
    /// Seconds since a build last used the one that was not used for longest.
    pub unused_seconds: u64,
}

/// What is in the cache, by kind.
///
/// # Errors
/// If it cannot be read.
pub fn usage(places: &Places, waiting: impl FnOnce()) -> Result<Vec<Usage>, BuildError> {
    Ok(by_kind(&Cache::open(&places.cache, waiting)?.list()?))
}

/// Removes what was not used for longest until `max` bytes are left; says what was removed.
///
/// # Errors
/// If something cannot be removed.
pub fn shrink(places: &Places, max: u64, waiting: impl FnOnce()) -> Result<Vec<Usage>, BuildError> {
    Ok(by_kind(
        &Cache::open(&places.cache, waiting)?.shrink(max, &[])?,
    ))
}

fn by_kind(entries: &[Entry]) -> Vec<Usage> {
    let usage = KINDS.iter().map(|kind| {
        let of_kind = entries.iter().filter(|entry| entry.kind == *kind);
        let oldest = of_kind.clone().map(|entry| entry.used).min();
        let unused = oldest.and_then(|used| SystemTime::now().duration_since(used).ok());
        Usage {
            kind,
            entries: of_kind.clone().count(),
            bytes: of_kind.map(|entry| entry.bytes).sum(),
            unused_seconds: unused.unwrap_or_default().as_secs(),
        }
    });
    usage.filter(|usage| usage.entries > 0).collect()
}
