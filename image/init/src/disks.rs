//! The disks that the kernel sees, and the slot that holds this kernel's root.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::root;
use crate::verity::{RootHash, Superblock};

/// What we mount, all of one disk.
#[derive(Debug)]
pub struct Slot {
    /// The root.
    pub data: PathBuf,
    /// Its hashes.
    pub hashes: PathBuf,
    /// How these are to be read.
    pub superblock: Superblock,
    /// The writable part.
    pub var: PathBuf,
}

/// Waits for the slot whose hashes are those of `root`: disks are found while we run.
///
/// Only the first block of the hashes decides, so nothing needs to be kept that says which slot is in use.
pub fn find(root: &RootHash) -> Result<Slot, String> {
    let start = Instant::now();
    loop {
        let devices = block_devices().map_err(|error| format!("list the disks: {error}"))?;
        let mut seen = Vec::new();
        for (device, disk, name) in partitions(&devices) {
            let Some(slot) = name.strip_prefix("root-verity-") else {
                continue;
            };
            seen.push(device.clone());
            let on_disk = |wanted: &str| {
                let same = |(_, on, name): &(String, String, String)| *on == disk && name == wanted;
                let found = partitions(&devices).into_iter().find(same);
                found.map(|(device, ..)| Path::new("/dev").join(device))
            };
            let hashes = Path::new("/dev").join(&device);
            let (Some(data), Some(var)) = (on_disk(&format!("root-{slot}")), on_disk("var")) else {
                continue;
            };
            if let Ok(superblock) = Superblock::read(&hashes)
                && top_hash(&hashes, &superblock).is_ok_and(|hash| root.is(&hash))
            {
                return Ok(Slot {
                    data,
                    hashes,
                    superblock,
                    var,
                });
            }
        }
        let patience = if seen.is_empty() { NO_DISK } else { OTHER_DISK };
        if start.elapsed() > patience {
            let devices = match devices.as_slice() {
                [] => "no disk at all".to_owned(),
                some => some.join(", "),
            };
            return Err(match seen.as_slice() {
                [] => format!("find a disk of ours (the kernel sees {devices})"),
                seen => format!("find the root of this kernel in {}", seen.join(" or ")),
            });
        }
        sleep(Duration::from_millis(20));
    }
}

/// Hash over the topmost block of hashes: the root hash, if nobody has changed that block.
fn top_hash(hashes: &Path, superblock: &Superblock) -> io::Result<[u8; 32]> {
    let mut block = [0; BLOCK];
    File::open(hashes)?.read_exact_at(&mut block, BLOCK as u64)?;
    Ok(Sha256::new()
        .chain_update(superblock.salt())
        .chain_update(block)
        .finalize()
        .into())
}

/// Device, disk and name of each partition that has one and whose node is there.
fn partitions(devices: &[String]) -> Vec<(String, String, String)> {
    let describe = |device: &String| {
        let class = Path::new("/sys/class/block").join(device);
        let uevent = fs::read_to_string(class.join("uevent")).ok()?;
        let name = root::partition_name(&uevent)?.to_owned();
        let place = fs::canonicalize(class).ok()?;
        let disk = place.parent()?.file_name()?.to_string_lossy().into_owned();
        let node = Path::new("/dev").join(device).exists();
        node.then(|| (device.clone(), disk, name))
    };
    devices.iter().filter_map(describe).collect()
}

/// Names of all block devices.
pub fn block_devices() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/sys/class/block")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

const BLOCK: usize = 4096;
/// Disks behind slow controllers need some seconds.
const NO_DISK: Duration = Duration::from_secs(30);
/// A second disk may come a little after the first.
const OTHER_DISK: Duration = Duration::from_secs(5);
