//! Where things lie on a server's disk, the same for all servers of a role.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::unistd::{Whence, lseek};
use serde::{Deserialize, Serialize};

use crate::roots::uuid;
use crate::spec::RoleSpec;

/// Sizes of the partitions of a role, in MiB, in the order of [`PARTITIONS`].
pub fn sizes(spec: &RoleSpec) -> [u64; PARTITIONS.len()] {
    let root = u64::from(spec.root_mib);
    // A hash of 32 bytes for 4096, hashes of these hashes, and a superblock.
    let verity = root.div_ceil(100) + 1;
    [ESP_MIB, root, verity, root, verity, u64::from(spec.var_mib)]
}

/// The partitions of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// Start of each partition, in bytes.
    pub offsets: [u64; PARTITIONS.len()],
    /// Length of the disk, in bytes.
    pub length: u64,
}

impl Layout {
    /// Lays out partitions of these sizes in MiB.
    pub fn new(sizes: [u64; PARTITIONS.len()]) -> Self {
        let mut end = 1;
        let offsets = sizes.map(|size| {
            let start = end;
            end += size;
            start * MIB
        });
        // The last MiB has the second copy of the table.
        Self {
            offsets,
            length: (end + 1) * MIB,
        }
    }

    /// Input of sfdisk. UUIDs come from `id`.
    pub fn script(&self, id: &str) -> String {
        let mut script = format!("label: gpt\nlabel-id: {}\n", uuid(id, "disk"));
        let ends = self.offsets.iter().skip(1).copied();
        let ends = ends.chain([self.length - MIB]);
        for ((start, end), (name, kind)) in self.offsets.iter().zip(ends).zip(PARTITIONS) {
            script += &format!(
                "start={}, size={}, type={kind}, name=\"{name}\", uuid={}\n",
                start / SECTOR,
                (end - start) / SECTOR,
                uuid(id, name)
            );
        }
        script
    }
}

/// Copies a file into another at an offset, where that reads as zeros. Holes stay holes.
pub fn copy_sparse(from: &File, to: &File, offset: u64) -> io::Result<()> {
    let length = from.metadata()?.len();
    let mut buffer = vec![0; 1 << 20];
    let zeros = buffer.clone();
    let mut position = 0;
    while let Some((start, end)) = next_data(from, position, length)? {
        position = start;
        while position < end {
            let room = buffer.len().min((end - position) as usize);
            from.read_exact_at(&mut buffer[..room], position)?;
            if buffer[..room] != zeros[..room] {
                to.write_all_at(&buffer[..room], offset + position)?;
            }
            position += room as u64;
        }
    }
    Ok(())
}

/// Copies a file to a new one, of which nothing is left if that fails.
pub fn copy_to_new(from: &Path, to: &Path) -> io::Result<()> {
    let from = File::open(from)?;
    let new = File::create(to)?;
    let copied = new
        .set_len(from.metadata()?.len())
        .and_then(|()| copy_sparse(&from, &new, 0));
    if copied.is_err() {
        let _ = fs::remove_file(to);
    }
    copied
}

/// The next stretch of a file that is no hole.
fn next_data(file: &File, from: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if from >= length {
        return Ok(None);
    }
    let seek = |at: u64, whence| lseek(file.as_fd(), at as i64, whence);
    let start = match seek(from, Whence::SeekData) {
        Ok(start) => start as u64,
        Err(nix::errno::Errno::ENXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = seek(start, Whence::SeekHole)? as u64;
    Ok(Some((start, end.min(length))))
}

/// One mebibyte.
pub const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Room for the boot loader and three kernel images: that in use, its predecessor, and one that is being written.
pub const ESP_MIB: u64 = 96;
/// Names, which `image/init` looks for, and types (UAPI Discoverable Partitions Specification) in disk order. The last one
/// grows to the end of the disk when the server first boots.
pub const PARTITIONS: [(&str, &str); 6] = [
    ("esp", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
    ("root-a", ROOT),
    ("root-verity-a", ROOT_VERITY),
    ("root-b", ROOT),
    ("root-verity-b", ROOT_VERITY),
    ("var", "4D21B016-B534-45C2-A9FB-5C16E091FD2D"),
];
const ROOT: &str = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709";
const ROOT_VERITY: &str = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5";
/// To be changed with what lies where.
pub const VERSION: &str = "2";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        let layout = Layout::new([64, 10, 1, 10, 1, 256]);
        assert_eq!(
            layout.offsets.map(|offset| offset / MIB),
            [1, 65, 75, 76, 86, 87]
        );
        assert_eq!(layout.length, 344 * MIB);
        let script = layout.script("id");
        let line = |name: &str| {
            let name = format!("name=\"{name}\"");
            script.lines().find(|line| line.contains(&name)).unwrap()
        };
        assert!(line("root-a").starts_with("start=133120, size=20480, type=4F68BCE3"));
        assert!(line("var").starts_with("start=178176, size=524288, type=4D21B016"));
        assert_eq!(script, layout.script("id"));
        assert_ne!(script, layout.script("other"));
    }

    #[test]
    fn sparse_copies_read_the_same() {
        let dir = std::env::temp_dir().join(format!("ravelin-layout-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let from = dir.join("from");
        let file = File::create(&from).unwrap();
        file.set_len(10_000_000).unwrap();
        file.write_all_at(&[7], 200_000).unwrap();
        file.write_all_at(&[8; 3000], 9_000_001).unwrap();
        copy_to_new(&from, &dir.join("to")).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(dir.join("to")).unwrap());
        fs::remove_dir_all(dir).unwrap();
    }
}
