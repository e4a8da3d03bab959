//! The disk of one server: an EFI partition with its kernel image, and the root of its role.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use render::server::HostFile;
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, Key};
use crate::cpio::Cpio;
use crate::error::BuildError;
use crate::roots::{Boot, Root, uuid};
use crate::trees::Tree;

/// The disk image of one server.
#[derive(Debug)]
pub struct Disk<'a> {
    server: &'a str,
    id: String,
    host: Vec<u8>,
    command_line: &'a str,
    dir: PathBuf,
}

/// Sizes in bytes of what a server's image consists of; also kept beside the image, with its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// The whole disk, as the server sees it.
    pub disk: u64,
    /// The compressed root.
    pub root: u64,
    /// The kernel image with the server's own files.
    pub kernel: u64,
}

/// `image.json` beside the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: String,
    sizes: Sizes,
}

impl<'a> Disk<'a> {
    /// Reads what determines it. The disk is written to `images/SERVER/disk.raw` below `state`.
    pub fn new(
        state: &Path,
        server: &'a str,
        files: &[HostFile],
        command_line: &'a str,
        root: &Root,
        boot: &Boot,
        tools: &Tree,
    ) -> Result<Self, BuildError> {
        let host = host_cpio(server, files)?;
        let key = Key::new("disk").with_all(&[PACK, LAYOUT, server, command_line]);
        let id = key
            .with_all(&[root.id(), boot.id(), tools.id()])
            .with(&host)
            .id();
        Ok(Self {
            server,
            id,
            host,
            command_line,
            dir: state.join("images").join(server),
        })
    }

    /// Where the disk is.
    pub fn path(&self) -> PathBuf {
        self.dir.join("disk.raw")
    }

    /// The sizes of an existing disk, if it is of these inputs.
    pub fn existing(&self) -> Option<Sizes> {
        let record = fs::read(self.dir.join("image.json")).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let length = fs::metadata(self.path()).ok()?.len();
        (record.id == self.id && length == record.sizes.disk).then_some(record.sizes)
    }

    /// Makes it.
    pub fn build(
        &self,
        cache: &Cache,
        root: &Root,
        boot: &Boot,
        base: &Tree,
        tools: &Tree,
    ) -> Result<Sizes, BuildError> {
        let scratch = cache.scratch(&format!("image-{}-{}", self.server, self.id))?;
        let work = scratch.path();
        let sandbox = cache.sandbox();
        let parts = root.dir(cache);
        let hash = parts.join("root.hash");
        let hash =
            fs::read_to_string(&hash).map_err(|error| BuildError::io("read", &hash, error))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = work.join(name);
            fs::write(&path, bytes).map_err(|error| BuildError::io("write", &path, error))
        };
        write("host.cpio", &self.host)?;
        write(
            "cmdline",
            format!("{} ravelin.roothash={}", self.command_line, hash.trim()).as_bytes(),
        )?;

        let contents = [
            None,
            Some(parts.join("root.erofs")),
            Some(parts.join("root.verity")),
            Some(parts.join("var.ext4")),
        ];
        let mut sizes = [ESP_MIB * MIB; 4];
        for (size, path) in sizes.iter_mut().zip(&contents) {
            let Some(path) = path else { continue };
            *size = fs::metadata(path)
                .map_err(|error| BuildError::io("read", path, error))?
                .len();
        }
        let layout = Layout::new(&self.id, sizes);
        write("partitions", layout.script.as_bytes())?;
        let disk = work.join("disk.raw");
        layout
            .fill(&disk, &contents)
            .map_err(|error| BuildError::io("write", &disk, error))?;

        sandbox
            .inside(&format!("image {}", self.server), &tools.root(cache), PACK)
            .named("ukify")
            .args([sandbox.path(work), sandbox.path(&boot.dir(cache))])
            .args([
                format!("{ESP_MIB}M"),
                (layout.offsets[0] / MIB).to_string(),
                self.id[..8].to_owned(),
            ])
            .env("SOURCE_DATE_EPOCH", base.epoch())
            .run()?;
        let kernel = work.join("uki.efi");
        let kernel =
            fs::metadata(&kernel).map_err(|error| BuildError::io("read", &kernel, error))?;
        let sizes = Sizes {
            disk: layout.length,
            root: sizes[1],
            kernel: kernel.len(),
        };
        self.install(&disk, sizes)?;
        Ok(sizes)
    }

    /// Puts a finished disk in its place, by rename.
    fn install(&self, disk: &Path, sizes: Sizes) -> Result<(), BuildError> {
        let path = self.path();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error| BuildError::io("write", &path, error)
        };
        fs::create_dir_all(&self.dir).map_err(failed(&self.dir))?;
        let temporary = self.dir.join("disk.raw.new");
        match fs::rename(disk, &temporary) {
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let copied = copy_to_new(disk, &temporary);
                if copied.is_err() {
                    let _ = fs::remove_file(&temporary);
                }
                copied.map_err(failed(&temporary))?;
            }
            other => other.map_err(failed(&temporary))?,
        }
        let record_path = self.dir.join("image.json");
        match fs::remove_file(&record_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&record_path)(error));
            }
            _ => {}
        }
        fs::rename(&temporary, &path).map_err(failed(&path))?;
        let record = Record {
            id: self.id.clone(),
            sizes,
        };
        let record = serde_json::to_vec_pretty(&record).expect("strings and numbers serialise");
        let temporary = self.dir.join("image.json.new");
        fs::write(&temporary, record).map_err(failed(&temporary))?;
        fs::rename(&temporary, &record_path).map_err(failed(&record_path))
    }
}

/// The second archive of the initrd: what `image/init` lays over `/etc`.
fn host_cpio(server: &str, files: &[HostFile]) -> Result<Vec<u8>, BuildError> {
    let mut cpio = Cpio::default();
    let mut files: Vec<&HostFile> = files.iter().collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    for (index, file) in files.iter().enumerate() {
        let wrong = |problem| BuildError::HostFile {
            server: server.to_owned(),
            path: file.path.clone(),
            problem,
        };
        let Some(name) = file.path.strip_prefix("/etc/") else {
            return Err(wrong(
                "only files below /etc differ between servers of a role",
            ));
        };
        if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("the path is not in its simplest form"));
        }
        if index > 0 && files[index - 1].path == file.path {
            return Err(wrong("it is there twice"));
        }
        cpio.file(&format!("host/etc/{name}"), file.mode, &file.bytes);
    }
    Ok(cpio.finish())
}

/// Where the four partitions lie.
#[derive(Debug, PartialEq, Eq)]
struct Layout {
    /// Input of sfdisk.
    script: String,
    /// Start of each partition.
    offsets: [u64; 4],
    /// Length of the disk.
    length: u64,
}

impl Layout {
    fn new(id: &str, sizes: [u64; 4]) -> Self {
        let mut script = format!("label: gpt\nlabel-id: {}\n", uuid(id, "disk"));
        let mut offsets = [0; 4];
        let mut end = MIB;
        for (index, ((name, kind), size)) in PARTITIONS.iter().zip(sizes).enumerate() {
            offsets[index] = end;
            let size = size.next_multiple_of(MIB);
            let uuid = uuid(id, name);
            script += &format!(
                "start={}, size={}, type={kind}, name=\"{name}\", uuid={uuid}\n",
                end / SECTOR,
                size / SECTOR
            );
            end += size;
        }
        // The second copy of the table.
        Self {
            script,
            offsets,
            length: end + MIB,
        }
    }

    fn fill(&self, disk: &Path, contents: &[Option<PathBuf>; 4]) -> io::Result<()> {
        let mut file = File::create(disk)?;
        file.set_len(self.length)?;
        for (offset, content) in self.offsets.iter().zip(contents) {
            if let Some(content) = content {
                copy_sparse(&mut File::open(content)?, &mut file, *offset)?;
            }
        }
        Ok(())
    }
}

/// Copies a file whose length stays known to a new file.
fn copy_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut new = File::create(to)?;
    new.set_len(from.metadata()?.len())?;
    copy_sparse(&mut from, &mut new, 0)
}

/// Copies all but zeros, which the target is expected to read as already.
fn copy_sparse(from: &mut File, to: &mut File, offset: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let zeros = buffer.clone();
    let mut position = offset;
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let chunk = &buffer[..length];
        if chunk != &zeros[..length] {
            to.seek(SeekFrom::Start(position))?;
            to.write_all(chunk)?;
        }
        position += length as u64;
    }
}

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Room for a kernel image and its successor; FAT32 needs 36 MiB at least.
const ESP_MIB: u64 = 64;
/// Names, which `image/init` looks for, and types (UAPI Discoverable Partitions Specification) in disk order.
const PARTITIONS: [(&str, &str); 4] = [
    ("esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
    ("root", "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
    ("root-verity", "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"),
    ("var", "4D21B016-B534-45C2-A9FB-5C16E091FD2D"),
];
/// To be changed with the layout of disks or of the host's archive.
const LAYOUT: &str = "1";
const PACK: &str = include_str!("recipes/pack-host.sh");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other_in_whole_mebibytes() {
        let layout = Layout::new("id", [64 * MIB, 10 * MIB + 4096, MIB / 2, 256 * MIB]);
        assert_eq!(layout.offsets, [MIB, 65 * MIB, 76 * MIB, 77 * MIB]);
        assert_eq!(layout.length, 334 * MIB);
        let root = layout
            .script
            .lines()
            .find(|line| line.contains("name=\"root\""))
            .unwrap();
        assert!(
            root.starts_with("start=133120, size=22528, type=4F68BCE3"),
            "{root}"
        );
        assert_eq!(
            layout,
            Layout::new("id", [64 * MIB, 10 * MIB + 4096, MIB / 2, 256 * MIB])
        );
    }

    #[test]
    fn host_files_outside_etc_are_refused() {
        let file = |path: &str| HostFile {
            path: path.to_owned(),
            mode: 0o644,
            bytes: Vec::new(),
        };
        let table = [
            ("/usr/bin/x", "only files below /etc"),
            ("etc/hostname", "only files below /etc"),
            ("/etc/../usr/bin/x", "not in its simplest form"),
            ("/etc//hostname", "not in its simplest form"),
        ];
        for (path, problem) in table {
            let error = host_cpio("lb1", &[file(path)]).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("host file {path} of lb1: ")),
                "{error}"
            );
            assert!(error.contains(problem), "{error}");
        }
        let twice = host_cpio("lb1", &[file("/etc/a"), file("/etc/a")])
            .unwrap_err()
            .to_string();
        assert!(twice.ends_with("it is there twice"), "{twice}");
        assert_eq!(
            host_cpio("lb1", &[file("/etc/a"), file("/etc/b")]).unwrap(),
            host_cpio("lb1", &[file("/etc/b"), file("/etc/a")]).unwrap(),
        );
    }

    #[test]
    fn sparse_copies_read_the_same() {
        let dir = std::env::temp_dir().join(format!("ravelin-disk-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut content = vec![0; 300_000];
        content[200_000] = 7;
        content[299_999] = 8;
        fs::write(dir.join("from"), &content).unwrap();
        copy_to_new(&dir.join("from"), &dir.join("to")).unwrap();
        assert_eq!(fs::read(dir.join("to")).unwrap(), content);
        fs::remove_dir_all(dir).unwrap();
    }
}
