//! Whether two builds made the same: bit for bit, and if not, what is different first.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// The first difference between two images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The server.
    pub server: String,
    /// The partition of the disk, or the part outside all of them.
    pub partition: String,
    /// Where on the disk the first different byte is.
    pub offset: u64,
    /// The first file of the root that is different, and how; none if all are the same.
    pub file: Option<String>,
}

/// The first byte in which two files differ, or the length of the shorter one.
pub fn first_difference(one: &Path, other: &Path) -> io::Result<Option<u64>> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let mut position = 0;
    let mut buffers = [vec![0; 1 << 20], vec![0; 1 << 20]];
    loop {
        let [a, b] = &mut buffers;
        let (a, b) = (fill(&mut one, a)?, fill(&mut other, b)?);
        if let Some(index) = a.iter().zip(b).position(|(a, b)| a != b) {
            return Ok(Some(position + index as u64));
        }
        if a.len() != b.len() {
            return Ok(Some(position + a.len().min(b.len()) as u64));
        }
        if a.is_empty() {
            return Ok(None);
        }
        position += a.len() as u64;
    }
}

fn fill<'a>(file: &mut File, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            more => length += more,
        }
    }
    Ok(&buffer[..length])
}

/// The name of the partition that a byte of a GPT disk belongs to.
pub fn partition_of(disk: &Path, offset: u64) -> io::Result<String> {
    let mut file = File::open(disk)?;
    let mut header = [0; 512];
    file.seek(SeekFrom::Start(SECTOR))?;
    file.read_exact(&mut header)?;
    let number = |bytes: &[u8], at: usize, size: usize| {
        let bytes = bytes[at..at + size].iter().rev();
        bytes.fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    };
    // UEFI specification 2.10, section 5.3: the header names the table; an entry has first and last sector and a name.
    if &header[..8] != b"EFI PART" {
        return Ok("no partition table".to_owned());
    }
    let (table, count, size) = (
        number(&header, 72, 8),
        number(&header, 80, 4).min(128),
        number(&header, 84, 4).clamp(128, 4096),
    );
    let mut entry = vec![0; size as usize];
    file.seek(SeekFrom::Start(table.saturating_mul(SECTOR)))?;
    for _ in 0..count {
        file.read_exact(&mut entry)?;
        let (first, last) = (number(&entry, 32, 8), number(&entry, 40, 8));
        if first > 0 && (first..=last).contains(&(offset / SECTOR)) {
            let units: Vec<u16> = entry[56..128]
                .chunks_exact(2)
                .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
                .take_while(|unit| *unit != 0)
                .collect();
            return Ok(String::from_utf16_lossy(&units));
        }
    }
    Ok("partition table".to_owned())
}

const SECTOR: u64 = 512;

/// The first entry of two directory trees that is different, in the order of names, and how.
pub fn trees(one: &Path, other: &Path) -> io::Result<Option<String>> {
    walk(one, other, Path::new("/"))
}

fn walk(one: &Path, other: &Path, name: &Path) -> io::Result<Option<String>> {
    let found = |what: &str| Ok(Some(format!("{}: {what}", name.display())));
    let (a, b) = (fs::symlink_metadata(one)?, fs::symlink_metadata(other)?);
    if let Some(what) = attributes(&a, &b) {
        return found(what);
    }
    if a.is_symlink() {
        return match fs::read_link(one)? == fs::read_link(other)? {
            true => Ok(None),
            false => found("another target"),
        };
    }
    if a.is_file() {
        return match first_difference(one, other)? {
            Some(offset) => found(&format!("other content from byte {offset} on")),
            None => Ok(None),
        };
    }
    if !a.is_dir() {
        return Ok(None);
    }
    let (ones, others) = (names(one)?, names(other)?);
    for entry in &ones {
        if others.binary_search(entry).is_err() {
            return Ok(Some(format!(
                "{}: only in the first",
                name.join(entry).display()
            )));
        }
        let deeper = walk(&one.join(entry), &other.join(entry), &name.join(entry))?;
        if deeper.is_some() {
            return Ok(deeper);
        }
    }
    let extra = others
        .iter()
        .find(|entry| ones.binary_search(entry).is_err());
    Ok(extra.map(|entry| format!("{}: only in the second", name.join(entry).display())))
}

fn attributes(a: &Metadata, b: &Metadata) -> Option<&'static str> {
    let checks = [
        ("another type or mode", a.mode() == b.mode()),
        ("another owner", (a.uid(), a.gid()) == (b.uid(), b.gid())),
        ("another length", !a.is_file() || a.len() == b.len()),
        // Those of directories are set when images are made.
        ("another time", a.is_dir() || a.mtime() == b.mtime()),
    ];
    checks
        .into_iter()
        .find(|(_, same)| !same)
        .map(|(what, _)| what)
}

fn names(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(PathBuf::from(entry?.file_name())));
    let mut names = entries.collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_first_different_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        let long = vec![5; (1 << 20) + 10];
        fs::write(&a, &long).unwrap();
        let mut other = long.clone();
        for (change, at) in [
            (None, None),
            (Some(1 << 20), Some(1 << 20)),
            (Some(3), Some(3)),
        ] {
            if let Some(index) = change {
                other[index] = 6;
            }
            fs::write(&b, &other).unwrap();
            assert_eq!(first_difference(&a, &b).unwrap(), at.map(|at| at as u64));
        }
        fs::write(&b, &long[..7]).unwrap();
        assert_eq!(first_difference(&a, &b).unwrap(), Some(7));
    }

    #[test]
    fn every_kind_of_difference_of_trees_is_named() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("/etc/a: another length", |dir| {
                fs::write(dir.join("etc/a"), "11").unwrap()
            }),
            ("/etc/a: another type or mode", |dir| {
                fs::set_permissions(dir.join("etc/a"), fs::Permissions::from_mode(0o600)).unwrap();
            }),
            ("/etc/b: only in the second", |dir| {
                fs::write(dir.join("etc/b"), "").unwrap()
            }),
            ("/link: another target", |dir| {
                fs::remove_file(dir.join("link")).unwrap();
                symlink("elsewhere", dir.join("link")).unwrap();
                let time = "1970-01-01 00:00:07 UTC";
                let link = dir.join("link");
                let touch = ["-h", "-d", time];
                std::process::Command::new("touch")
                    .args(touch)
                    .arg(link)
                    .status()
                    .unwrap();
            }),
            ("/etc/a: other content from byte 0 on", |dir| {
                fs::write(dir.join("etc/a"), "2").unwrap();
                set_time(&dir.join("etc/a"));
            }),
            ("/etc: only in the first", |dir| {
                fs::remove_dir_all(dir.join("etc")).unwrap()
            }),
        ];
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let tree = dir.path().join(name);
            let _ = fs::remove_dir_all(&tree);
            fs::create_dir_all(tree.join("etc")).unwrap();
            fs::write(tree.join("etc/a"), "1").unwrap();
            set_time(&tree.join("etc/a"));
            symlink("etc", tree.join("link")).unwrap();
            let time = ["-h", "-d", "1970-01-01 00:00:07 UTC"];
            std::process::Command::new("touch")
                .args(time)
                .arg(tree.join("link"))
                .status()
                .unwrap();
            tree
        };
        let one = make("one");
        assert_eq!(trees(&one, &make("other")).unwrap(), None);
        for (found, change) in changes {
            let other = make("other");
            change(&other);
            assert_eq!(trees(&one, &other).unwrap().as_deref(), Some(found));
        }
    }

    fn set_time(path: &Path) {
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(7);
        File::options()
            .write(true)
            .open(path)
            .unwrap()
            .set_modified(time)
            .unwrap();
    }
}
