//! What has not been shipped yet: files, oldest first, within bounds; they survive this program and a loss of power.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;

/// What a shipment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Lines of a log.
    Logs,
    /// Figures in the text format of Prometheus.
    Figures,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Figures => "figures",
        }
    }
}

/// One request's body, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// What it holds.
    pub kind: Kind,
    /// Whose it is.
    pub host: String,
    /// Where it is.
    pub path: PathBuf,
}

/// The directory, used by several threads.
#[derive(Debug)]
pub struct Spool {
    directory: PathBuf,
    room: u64,
    next: Mutex<u64>,
    dropped: AtomicU64,
}

impl Spool {
    /// Opens it with what is in it.
    pub fn open(directory: &Path, room: u64) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let mut next = 0;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            match number(&path) {
                Some(number) => next = next.max(number + 1),
                None => fs::remove_file(path)?, // half a file
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            room,
            next: Mutex::new(next),
            dropped: AtomicU64::new(0),
        })
    }

    /// Adds a body; it is on disk when this returns. The oldest ones make room for it.
    pub fn put(&self, kind: Kind, host: &str, body: &[u8]) -> io::Result<()> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(body)?;
        let packed = packed.finish()?;
        let mut next = self
            .next
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut waiting = self.all()?;
        let mut total: u64 = waiting.iter().map(|(_, size)| size).sum();
        waiting.reverse();
        while total + packed.len() as u64 > self.room {
            let Some((path, size)) = waiting.pop() else {
                break;
            };
            match fs::remove_file(path) {
                Ok(()) => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // just shipped
                Err(error) => return Err(error),
            }
            total -= size;
        }
        let new = self.directory.join("new");
        let mut file = File::create(&new)?;
        file.write_all(&packed)?;
        file.sync_all()?;
        let name = format!("{:020}.{}.{host}.gz", *next, kind.word());
        fs::rename(&new, self.directory.join(name))?;
        File::open(&self.directory)?.sync_all()?;
        *next += 1;
        Ok(())
    }

    /// The oldest one.
    pub fn oldest(&self) -> io::Result<Option<Shipment>> {
        Ok(self
            .all()?
            .into_iter()
            .find_map(|(path, _)| shipment(&path)))
    }

    /// Forgets one, shipped or hopeless.
    pub fn remove(&self, shipment: &Shipment, shipped: bool) -> io::Result<()> {
        if !shipped {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        match fs::remove_file(&shipment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// How many were dropped without having been shipped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Bytes that wait, and since when.
    pub fn waiting(&self) -> (u64, Duration) {
        let all = self.all().unwrap_or_default();
        let bytes = all.iter().map(|(_, size)| size).sum();
        let since = all.first().and_then(|(path, _)| age(path));
        (bytes, since.unwrap_or_default())
    }

    fn all(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if let (Some(_), Ok(metadata)) = (number(&entry.path()), entry.metadata()) {
                all.push((entry.path(), metadata.len()));
            }
        }
        all.sort();
        Ok(all)
    }
}

/// How long ago it was put there.
pub fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).ok()?.modified().ok()?;
    SystemTime::now().duration_since(written).ok()
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('.').next()?.parse().ok()
}

fn shipment(path: &Path) -> Option<Shipment> {
    let mut parts = path.file_name()?.to_str()?.splitn(3, '.').skip(1);
    let kind = match parts.next()? {
        "logs" => Kind::Logs,
        "figures" => Kind::Figures,
        _ => return None,
    };
    Some(Shipment {
        kind,
        host: parts.next()?.strip_suffix(".gz")?.to_owned(),
        path: path.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_first_comes_first_also_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(dir.path(), 1 << 20).expect("opened");
        spool.put(Kind::Logs, "web1", b"a\n").expect("put");
        spool.put(Kind::Figures, "mon1", b"b 1\n").expect("put");
        fs::write(dir.path().join("new"), "half").expect("written");
        let spool = Spool::open(dir.path(), 1 << 20).expect("opened");
        spool.put(Kind::Logs, "web2", b"c\n").expect("put");
        let mut seen = Vec::new();
        while let Some(one) = spool.oldest().expect("read") {
            seen.push((one.kind, one.host.clone()));
            spool.remove(&one, true).expect("removed");
        }
        let expected = [
            (Kind::Logs, "web1"),
            (Kind::Figures, "mon1"),
            (Kind::Logs, "web2"),
        ];
        assert_eq!(seen, expected.map(|(kind, host)| (kind, host.to_owned())));
        assert_eq!(spool.dropped(), 0);
    }

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let spool = Spool::open(dir.path(), 200).expect("opened");
        for host in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
            spool.put(Kind::Logs, host, b"some text\n").expect("put");
        }
        let (bytes, _) = spool.waiting();
        assert!(bytes <= 200, "{bytes}");
        let left = fs::read_dir(dir.path()).expect("read").count() as u64;
        assert_eq!(spool.dropped(), 10 - left);
        let oldest = spool.oldest().expect("read").expect("one");
        assert_eq!(
            oldest.host,
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"][10 - left as usize]
        );
    }
}
