//! The server's half: what runs, what is installed next, and whether all that was promised is served.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use identity::Identity;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use sha2::{Digest, Sha256};

use crate::certificates;
use crate::entries::{self, Esp};
use crate::firmware;
use crate::message::{Manifest, Part, State};
use crate::questions::{self, Ailment};

/// What this server was told by its kernel, its firmware and its identity.
#[derive(Debug)]
pub struct Server {
    name: String,
    role: String,
    key: identity::VerifyingKey,
    root_hash: String,
    version: u32,
    trial: bool,
    serves: Vec<SocketAddr>,
}

impl Server {
    /// Reads all that.
    pub fn this() -> Result<Self, String> {
        let line = read("/proc/cmdline")?;
        let word = |name: &str| {
            let words = line.split_ascii_whitespace();
            let value = words.filter_map(|word| word.strip_prefix(name)).next_back();
            value.ok_or_else(|| format!("the kernel's command line lacks {name}"))
        };
        let key = identity::key(word("ravelin.key=")?);
        let selected = variable("LoaderEntrySelected")
            .ok_or("the boot loader does not say which entry it has started")?;
        let serves = read(SERVES)?;
        let address = |line: &str| {
            let address = line.parse();
            address.map_err(|_| format!("{SERVES}: `{line}` is no address"))
        };
        Ok(Self {
            name: read("/etc/hostname")?.trim().to_owned(),
            role: word("ravelin.role=")?.to_owned(),
            key: key.ok_or("the kernel's command line has a bad ravelin.key=")?,
            root_hash: word("ravelin.roothash=")?.to_owned(),
            version: entries::version(&selected)
                .ok_or_else(|| format!("the boot loader has started {selected}"))?,
            trial: variable("LoaderBootCountPath").is_some() && !Path::new(PROVED).exists(),
            serves: serves.lines().map(address).collect::<Result<_, _>>()?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the version that runs has yet to prove itself.
    pub fn trial(&self) -> bool {
        self.trial
    }

    /// How it is.
    pub fn state(&self) -> Result<State, String> {
        let esp = mount()?;
        let hash = |path: PathBuf| {
            let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            Ok::<_, String>(sha256(&bytes))
        };
        let archive = fs::read(esp.identity(self.version)).unwrap_or_default();
        // The room that a fresh disk has for it is larger.
        let length = identity::length(&archive).unwrap_or(0).min(archive.len());
        Ok(State {
            server: self.name.clone(),
            role: self.role.clone(),
            version: self.version,
            trial: self.trial && self.on_trial(&esp),
            root_hash: self.root_hash.clone(),
            kernel: hash(esp.kernel(self.version))?,
            identity: sha256(&archive[..length]),
            ailing: self.ailing().into_iter().map(|one| one.what).collect(),
            failed: self.failed(&esp),
        })
    }

    /// What does not serve: each address and port that others are promised, and what the role asks besides.
    pub fn ailing(&self) -> Vec<Ailment> {
        let silent = |address: &SocketAddr| {
            let error = TcpStream::connect_timeout(address, PATIENCE).err()?;
            Some(Ailment {
                what: format!("nobody answers at {address} ({error})"),
                soon: false,
            })
        };
        let mut ailing: Vec<Ailment> = self.serves.iter().filter_map(silent).collect();
        ailing.extend(questions::ask(Path::new(QUESTIONS)));
        ailing
    }

    /// Writes a new version beside the one that runs. Nothing that runs, or that the boot loader may start, is touched
    /// until all that fits has been checked.
    pub fn install(&self, manifest: &Manifest, from: &mut impl Read) -> Result<u32, String> {
        let esp = mount()?;
        if self.trial && self.on_trial(&esp) {
            return Err(format!("version {} has yet to prove itself", self.version));
        }
        let disk = Disk::of_root()?;
        let spare = disk.spare()?;
        if let Some(parts) = &manifest.root {
            for (part, partition) in parts.iter().zip(&spare) {
                if part.length > partition.length {
                    return Err(format!(
                        "{} bytes do not fit into {} of {} bytes",
                        part.length,
                        partition.path.display(),
                        partition.length
                    ));
                }
            }
        } else if manifest.root_hash != self.root_hash {
            return Err("its root is not the one that runs here".to_owned());
        }
        let archive = receive(from, &manifest.identity, "identity")?;
        self.own(&archive)?;
        let kernel = receive(from, &manifest.kernel, "kernel image")?;
        firmware::would_start(&kernel)?;

        let told = |error: io::Error| format!("cannot write to the EFI partition: {error}");
        let next = esp.entries().map_err(told)?;
        let next = next.iter().map(|entry| entry.version).max().unwrap_or(0) + 1;
        let next = next.max(self.version + 1);
        esp.keep_only(self.version).map_err(told)?;
        let free = nix::sys::statvfs::statvfs(ESP).map_err(|error| told(error.into()))?;
        let need = (kernel.len() + archive.len() + (64 << 10)) as u64;
        if free.blocks_available() * free.fragment_size() < need {
            return Err(format!("the EFI partition has no {need} bytes left"));
        }
        if let Some([root, hashes]) = &manifest.root {
            // While the root is written its hashes are nobody's.
            spare[1].blank()?;
            spare[0].write(from, root)?;
            spare[1].write(from, hashes)?;
        }
        esp.write(next, &kernel, &archive).map_err(told)?;
        esp.try_next(next).map_err(told)?;
        let _ = fs::remove_file(GIVEN_UP);
        Ok(next)
    }

    /// Takes the certificates of a new identity, at once and for good; says how many files are new. It may be done again when the
    /// power failed in between.
    pub fn renew(&self, part: &Part, from: &mut impl Read) -> Result<usize, String> {
        let esp = mount()?;
        if self.trial && self.on_trial(&esp) {
            return Err(format!("version {} has yet to prove itself", self.version));
        }
        let archive = receive(from, part, "identity")?;
        let new = self.own(&archive)?;
        let path = esp.identity(self.version);
        let old = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let old = self.own(&old);
        let old = old.map_err(|problem| format!("beside the kernel image, {problem}"))?;
        certificates::differ_only(&old, &new)?;
        let changed = certificates::lay(Path::new("/"), &new)
            .map_err(|error| format!("cannot write certificates: {error}"))?;
        esp.replace_identity(self.version, &archive)
            .map_err(|error| format!("cannot write to the EFI partition: {error}"))?;
        Ok(changed)
    }

    /// Opens an identity of this server.
    fn own(&self, archive: &[u8]) -> Result<Identity, String> {
        let identity = Identity::open(archive, &self.key, &self.role)
            .map_err(|problem| format!("the identity {problem}"))?;
        match identity.server == self.name {
            true => Ok(identity),
            false => Err(format!("the identity is that of {}", identity.server)),
        }
    }

    /// Notes that this version has proved itself.
    pub fn proved(&self) {
        let _ = fs::write(PROVED, "");
    }

    /// Gives this version up: the boot loader will not start it again.
    pub fn give_up(&self, why: &str) -> Result<(), String> {
        mount()?;
        let _ = fs::create_dir_all("/var/lib/ravelin");
        let _ = fs::write(GIVEN_UP, format!("{} {why}", self.version));
        let bad = Command::new(BLESS).arg("bad").status();
        match bad {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{BLESS}: {status}")),
            Err(error) => Err(format!("{BLESS}: {error}")),
        }
    }

    /// Whether the entry of this version still has counters: it is blessed a moment after it has proved itself.
    fn on_trial(&self, esp: &Esp) -> bool {
        let entries = esp.entries().unwrap_or_default();
        (entries.iter()).any(|entry| entry.version == self.version && entry.left.is_some())
    }

    fn failed(&self, esp: &Esp) -> Option<(u32, String)> {
        let entries = esp.entries().unwrap_or_default();
        let failed = entries
            .iter()
            .find(|entry| entry.version != self.version && entry.left == Some(0))?;
        let told = fs::read_to_string(GIVEN_UP).unwrap_or_default();
        let why = match told.split_once(' ') {
            Some((version, why)) if version == failed.version.to_string() => why.to_owned(),
            _ => "it did not get as far as saying why".to_owned(),
        };
        Some((failed.version, why))
    }
}

/// The disk that the root is on.
struct Disk {
    dir: PathBuf,
    used: String,
}

/// A partition that may be written to.
struct Partition {
    path: PathBuf,
    length: u64,
}

impl Disk {
    /// dm-verity's device names the two partitions that it is made of.
    fn of_root() -> Result<Self, String> {
        let slaves = Path::new("/sys/block/dm-0/slaves");
        let told = |error: io::Error| format!("{}: {error}", slaves.display());
        for slave in fs::read_dir(slaves).map_err(told)? {
            let path = fs::canonicalize(slave.map_err(told)?.path()).map_err(told)?;
            let name = label(&path).unwrap_or_default();
            if let (Some(slot), Some(dir)) = (name.strip_prefix("root-verity-"), path.parent()) {
                return Ok(Self {
                    dir: dir.to_owned(),
                    used: slot.to_owned(),
                });
            }
        }
        Err(format!("{} has no partition of ours", slaves.display()))
    }

    /// The two partitions that are not in use: root and hashes.
    fn spare(&self) -> Result<[Partition; 2], String> {
        let slot = if self.used == "a" { "b" } else { "a" };
        let find = |wanted: String| {
            let entries = fs::read_dir(&self.dir).map_err(|error| error.to_string())?;
            let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
            let found = paths.find(|path| label(path).as_deref() == Some(&wanted));
            let path = found.ok_or_else(|| format!("the disk has no partition {wanted}"))?;
            let sectors: u64 = read(&path.join("size").display().to_string())?
                .trim()
                .parse()
                .map_err(|_| "a partition has no size")?;
            Ok::<_, String>(Partition {
                path: Path::new("/dev").join(path.file_name().unwrap_or_default()),
                length: sectors * 512,
            })
        };
        Ok([
            find(format!("root-{slot}"))?,
            find(format!("root-verity-{slot}"))?,
        ])
    }
}

impl Partition {
    fn blank(&self) -> Result<(), String> {
        let blank = || {
            let file = File::options().write(true).open(&self.path)?;
            file.write_all_at(&[0; 8192], 0)?;
            file.sync_all()
        };
        blank().map_err(|error: io::Error| self.told(error))
    }

    /// Writes what comes, and reads it again from the disk.
    fn write(&self, from: &mut impl Read, part: &Part) -> Result<(), String> {
        let mut whole = || {
            let mut file = File::options().read(true).write(true).open(&self.path)?;
            let copied = io::copy(&mut from.take(part.length), &mut file)?;
            file.flush()?;
            file.sync_all()?;
            posix_fadvise(file.as_fd(), 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
            let mut hash = Sha256::new();
            io::copy(&mut File::open(&self.path)?.take(copied), &mut hash)?;
            Ok((copied, <[u8; 32]>::from(hash.finalize())))
        };
        let (copied, hash) = whole().map_err(|error: io::Error| self.told(error))?;
        if (copied, hash) != (part.length, part.sha256) {
            return Err(format!(
                "what {} holds is not what was to be written",
                self.path.display()
            ));
        }
        Ok(())
    }

    fn told(&self, error: io::Error) -> String {
        format!("cannot write to {}: {error}", self.path.display())
    }
}

/// What comes next, if it is that.
fn receive(from: &mut impl Read, part: &Part, what: &str) -> Result<Vec<u8>, String> {
    if part.length > LARGEST {
        return Err(format!("the {what} is larger than any"));
    }
    let mut bytes = Vec::new();
    from.take(part.length)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the {what} did not arrive: {error}"))?;
    if bytes.len() as u64 != part.length || sha256(&bytes) != part.sha256 {
        return Err(format!("the {what} did not arrive whole"));
    }
    Ok(bytes)
}

/// Mounts the EFI partition; systemd takes it away again when nobody has used it for a while.
fn mount() -> Result<Esp, String> {
    let status = Command::new("systemctl")
        .args(["start", "efi.mount"])
        .status();
    match status {
        Ok(status) if status.success() => Ok(Esp::at(ESP)),
        Ok(_) => Err("the EFI partition cannot be mounted".to_owned()),
        Err(error) => Err(format!("systemctl: {error}")),
    }
}

/// A variable of the boot loader.
fn variable(name: &str) -> Option<String> {
    let bytes = firmware::variable(name, LOADER)?;
    let units = bytes.chunks_exact(2);
    let units = units.map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    let text = char::decode_utf16(units).filter_map(Result::ok);
    Some(text.filter(|&character| character != '\0').collect())
}

fn label(partition: &Path) -> Option<String> {
    let uevent = fs::read_to_string(partition.join("uevent")).ok()?;
    let name = uevent
        .lines()
        .find_map(|line| line.strip_prefix("PARTNAME="));
    name.map(str::to_owned)
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

const ESP: &str = "/efi";
const SERVES: &str = "/etc/ravelin/update/serves";
const QUESTIONS: &str = "/usr/lib/ravelin/serves.d";
const GIVEN_UP: &str = "/var/lib/ravelin/given-up";
const PROVED: &str = "/run/ravelin/proved";
const BLESS: &str = "/usr/lib/systemd/systemd-bless-boot";
const LOADER: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
const LARGEST: u64 = 64 << 20;
const PATIENCE: Duration = Duration::from_secs(3);
