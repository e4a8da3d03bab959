//! Reads logs as they grow: each line once, also through a restart.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{
    self, BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Follows all files `HOST/DAY.log` below a directory.
#[derive(Debug)]
pub struct Follower {
    logs: PathBuf,
    places: PathBuf,
    files: BTreeMap<String, Place>,
    /// Lines of each host that nobody has taken yet.
    waiting: BTreeMap<String, Vec<u8>>,
}

/// How far a file was read.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Place {
    /// What has been taken for good.
    taken: u64,
    /// What has been read.
    #[serde(skip)]
    read: u64,
}

impl Follower {
    /// Goes on where an earlier run stopped.
    pub fn open(logs: &Path, state: &Path) -> io::Result<Self> {
        let places = state.join("places.json");
        let mut files: BTreeMap<String, Place> = match fs::read(&places) {
            // Half a file after a power cut: rather twice than never.
            Ok(text) => serde_json::from_slice(&text).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        for place in files.values_mut() {
            place.read = place.taken;
        }
        Ok(Self {
            logs: logs.to_owned(),
            places,
            files,
            waiting: BTreeMap::new(),
        })
    }

    /// Gives `line` what was read of these hosts before this run.
    pub fn recall(&self, hosts: &[String], line: &mut dyn FnMut(&str, &str)) -> io::Result<()> {
        for (name, path) in files(&self.logs)? {
            let host = name.split('/').next().unwrap_or_default();
            let (true, Some(place)) = (hosts.iter().any(|one| one == host), self.files.get(&name))
            else {
                continue;
            };
            for text in BufReader::new(File::open(path)?.take(place.taken)).split(b'\n') {
                line(host, &String::from_utf8_lossy(&text?));
            }
        }
        Ok(())
    }

    /// Gives `line` every whole line that is new, with its host; a bounded number at once.
    pub fn read(&mut self, line: &mut dyn FnMut(&str, &str)) -> io::Result<()> {
        let found = files(&self.logs)?;
        self.files.retain(|name, _| found.contains_key(name));
        for (name, path) in found {
            let host = name.split('/').next().unwrap_or_default();
            let waiting = self.waiting.entry(host.to_owned()).or_default();
            if waiting.len() >= MOST_WAITING {
                continue; // until it is taken
            }
            let place = self.files.entry(name.clone()).or_default();
            let mut file = File::open(&path)?;
            // A file that was cut off begins again.
            if file.metadata()?.len() < place.read {
                *place = Place::default();
            }
            file.seek(SeekFrom::Start(place.read))?;
            let mut bytes = Vec::new();
            file.take(MOST_AT_ONCE).read_to_end(&mut bytes)?;
            let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
                Some(end) => end + 1,
                // No line is that long: what is no line is passed over.
                None if bytes.len() as u64 == MOST_AT_ONCE => bytes.len(),
                None => continue,
            };
            bytes.truncate(whole);
            for text in bytes
                .split(|byte| *byte == b'\n')
                .filter(|text| !text.is_empty())
            {
                line(host, &String::from_utf8_lossy(text));
            }
            place.read += bytes.len() as u64;
            waiting.append(&mut bytes);
        }
        Ok(())
    }

    /// Gives `take` lines of hosts that have enough of them, or all if they are `due`. What it took is not read again.
    pub fn ship(
        &mut self,
        due: bool,
        mut take: impl FnMut(&str, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut changed = false;
        for (host, lines) in &mut self.waiting {
            if lines.is_empty() || !(due || lines.len() >= ENOUGH) {
                continue;
            }
            for part in parts(lines) {
                take(host, part)?;
            }
            lines.clear();
            changed = true;
            for (name, place) in &mut self.files {
                if name.split('/').next() == Some(host) {
                    place.taken = place.read;
                }
            }
        }
        if changed {
            let new = self.places.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(&self.files)?)?;
            file.sync_data()?;
            fs::rename(&new, &self.places)?;
        }
        Ok(())
    }
}

/// Pieces of whole lines, none longer than a request may be.
fn parts(lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let room = &rest[..rest.len().min(MOST_SHIPPED)];
        let cut = match room.len() == rest.len() {
            true => room.len(),
            false => {
                (room.iter().rposition(|byte| *byte == b'\n')).map_or(room.len(), |end| end + 1)
            }
        };
        let (part, left) = rest.split_at(cut);
        rest = left;
        Some(part)
    })
}

/// All logs by `HOST/FILE`, the oldest of a host first.
pub fn files(logs: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    for host in entries(logs)? {
        for file in entries(&host)? {
            let (Some(directory), Some(name)) = (host.file_name(), file.file_name()) else {
                continue;
            };
            let name = format!("{}/{}", directory.to_string_lossy(), name.to_string_lossy());
            if name.ends_with(".log") {
                all.insert(name, file);
            }
        }
    }
    Ok(all)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        // Before the first line of anybody, and what is no directory.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Bytes of one file in one turn.
const MOST_AT_ONCE: u64 = 1 << 20;
/// Bytes of one host that wait in memory.
const MOST_WAITING: usize = 2 << 20;
/// A sink likes requests of 100 kB to 1 MB.
const ENOUGH: usize = 200_000;
const MOST_SHIPPED: usize = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn append(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(path)
            .expect("opened");
        file.write_all(text.as_bytes()).expect("written");
    }

    fn read(follower: &mut Follower) -> Vec<String> {
        let mut lines = Vec::new();
        let mut seen = |host: &str, line: &str| lines.push(format!("{host}:{line}"));
        follower.read(&mut seen).expect("readable");
        lines
    }

    #[test]
    fn lines_are_read_once_and_what_was_not_taken_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let (logs, state) = (dir.path().join("logs"), dir.path().to_owned());
        let mut follower = Follower::open(&logs, &state).expect("opened");
        assert!(read(&mut follower).is_empty());
        append(&logs.join("web1/2026-11-28.log"), "one\ntwo\nhal");
        append(&logs.join("gw1/2026-11-28.log"), "x\n");
        assert_eq!(read(&mut follower), ["gw1:x", "web1:one", "web1:two"]);
        append(&logs.join("web1/2026-11-28.log"), "f\n");
        assert_eq!(read(&mut follower), ["web1:half"]);
        assert!(read(&mut follower).is_empty());

        // Nobody took them: a restart reads all again.
        let mut again = Follower::open(&logs, &state).expect("opened");
        assert_eq!(read(&mut again).len(), 4);
        let mut taken = Vec::new();
        again
            .ship(true, |host, lines| {
                taken.push((host.to_owned(), String::from_utf8_lossy(lines).into_owned()));
                Ok(())
            })
            .expect("taken");
        let expected = [("gw1", "x\n"), ("web1", "one\ntwo\nhalf\n")];
        assert_eq!(taken, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
        append(&logs.join("web1/2026-11-29.log"), "new\n");
        let mut third = Follower::open(&logs, &state).expect("opened");
        let mut before = Vec::new();
        let hosts = ["gw1".to_owned()];
        let mut seen = |host: &str, line: &str| before.push(format!("{host}:{line}"));
        third.recall(&hosts, &mut seen).expect("readable");
        assert_eq!(before, ["gw1:x"]);
        assert_eq!(read(&mut third), ["web1:new"]);
    }

    #[test]
    fn a_file_that_was_cut_off_begins_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("logs/a/1.log");
        append(&log, "first line\n");
        let mut follower = Follower::open(&dir.path().join("logs"), dir.path()).expect("opened");
        assert_eq!(read(&mut follower).len(), 1);
        File::options()
            .write(true)
            .truncate(true)
            .open(&log)
            .expect("cut");
        append(&log, "new\n");
        assert_eq!(read(&mut follower), ["a:new"]);
    }

    #[test]
    fn parts_end_with_lines() {
        let line = [b"x".repeat(99).as_slice(), b"\n"].concat();
        let lines = line.repeat(25_000);
        let sizes: Vec<usize> = parts(&lines).map(<[u8]>::len).collect();
        assert_eq!(sizes, [1_000_000, 1_000_000, 500_000]);
        assert!(parts(&lines).all(|part| part.ends_with(b"\n")));
    }
}
