//! Finds what makes this server itself, wherever it was put.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use identity::{BLANK, HEADER, Identity, VerifyingKey};

use crate::disks;

/// Looks in all places where an identity may be until one is good; else says what is wrong.
///
/// A bad one is no reason to stop at once: somebody may have put in a stick to mend it.
pub fn find(key: &VerifyingKey, role: &str) -> Result<Identity, String> {
    let mut problems = Vec::new();
    let mut open = |archive: &[u8], place: &str| {
        let opened = Identity::open(archive, key, role);
        opened.map_err(|problem| note(&mut problems, format!("the identity {place} {problem}")))
    };
    for (path, place) in FILES {
        match fs::read(path) {
            Ok(archive) if archive.starts_with(BLANK) => {}
            Ok(archive) => {
                if let Ok(identity) = open(&archive, place) {
                    return Ok(identity);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read {path}: {error}")),
        }
    }
    let start = Instant::now();
    loop {
        for device in disks::block_devices().unwrap_or_default() {
            let Ok(archive) = on_device(&Path::new("/dev").join(&device)) else {
                continue;
            };
            if let Ok(identity) = open(&archive, &format!("on {device}")) {
                return Ok(identity);
            }
        }
        if start.elapsed() > PATIENCE {
            break;
        }
        sleep(Duration::from_millis(100));
    }
    if problems.is_empty() {
        return Err("there is no identity beside the kernel, in the firmware or on a stick".into());
    }
    Err(problems.join("; "))
}

fn note(problems: &mut Vec<String>, problem: String) {
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// The archive at the start of a device; an error if there is something else.
fn on_device(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut archive = vec![0; HEADER];
    file.read_exact(&mut archive)?;
    let length = identity::length(&archive).map_err(io::Error::other)?;
    archive.resize(length, 0);
    file.read_exact(&mut archive[HEADER..])?;
    Ok(archive)
}

/// Files with an identity: what systemd-stub found in the EFI partition, and what a virtual machine was given
/// (`-fw_cfg name=opt/org.ravelin/identity,file=…`).
const FILES: [(&str, &str); 3] = [
    ("/.extra/credentials/identity.cred", "beside the kernel"),
    (
        "/.extra/global_credentials/identity.cred",
        "in loader/credentials",
    ),
    (
        "/sys/firmware/qemu_fw_cfg/by_name/opt/org.ravelin/identity/raw",
        "in the firmware's configuration",
    ),
];
/// USB sticks are found seconds after the kernel has started.
const PATIENCE: Duration = Duration::from_secs(10);
