//! Bounds on the logs that are kept.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::follow;

/// Deletes logs that are older than so many days, and then the oldest until all fit into `room`. Returns how many
/// were deleted for want of room.
pub fn bound(logs: &Path, days: u32, room: u64) -> io::Result<u64> {
    let now = SystemTime::now();
    let limit = Duration::from_secs(u64::from(days) * 24 * 3600);
    let mut left: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for path in follow::files(logs)?.into_values() {
        let metadata = fs::metadata(&path)?;
        let written = metadata.modified()?;
        if now.duration_since(written).is_ok_and(|age| age > limit) {
            fs::remove_file(&path)?;
        } else {
            left.push((written, metadata.len(), path));
        }
    }
    left.sort();
    let mut total: u64 = left.iter().map(|(_, size, _)| size).sum();
    let mut early = 0;
    for (written, size, path) in left {
        if total <= room {
            break;
        }
        // rsyslog still writes to young files: they begin anew.
        match now
            .duration_since(written)
            .is_ok_and(|age| age > STILL_OPEN)
        {
            true => fs::remove_file(&path)?,
            false => drop(File::options().write(true).truncate(true).open(&path)?),
        }
        total -= size;
        early += 1;
    }
    Ok(early)
}

/// When each host's newest log was written.
pub fn newest(logs: &Path) -> io::Result<BTreeMap<String, SystemTime>> {
    let mut newest = BTreeMap::new();
    for (name, path) in follow::files(logs)? {
        let host = name.split('/').next().unwrap_or_default().to_owned();
        let written = fs::metadata(&path)?.modified()?;
        let entry = newest.entry(host).or_insert(written);
        *entry = written.max(*entry);
    }
    Ok(newest)
}

/// A day's file may be written to until its day has ended.
const STILL_OPEN: Duration = Duration::from_secs(25 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_go_first_and_the_young_begin_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let make = |name: &str, size: usize, days: u64| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(&path, vec![b'x'; size]).expect("written");
            let time = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
            File::options()
                .write(true)
                .open(&path)
                .expect("opened")
                .set_modified(time)
                .expect("set");
            path
        };
        let ancient = make("a/1.log", 10, 30);
        let old = make("a/2.log", 100, 5);
        let young = make("b/3.log", 100, 0);
        let small = make("c/4.log", 10, 0);
        assert_eq!(bound(dir.path(), 14, 1000).expect("bounded"), 0);
        assert!(!ancient.exists() && old.exists());
        assert_eq!(bound(dir.path(), 14, 150).expect("bounded"), 1);
        assert!(!old.exists());
        assert_eq!(bound(dir.path(), 14, 50).expect("bounded"), 1);
        assert_eq!(fs::metadata(&young).expect("still there").len(), 0);
        assert_eq!(fs::metadata(&small).expect("still there").len(), 10);
        assert_eq!(newest(dir.path()).expect("known").len(), 2);
    }
}
