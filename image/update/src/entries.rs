//! Entries of the boot loader: `ravelin-VERSION.conf`, with counters in the name while on trial
//! (<https://systemd.io/AUTOMATIC_BOOT_ASSESSMENT>).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its file.
    pub file: String,
    /// Number of its version.
    pub version: u32,
    /// How often it may still be started before it has proved itself; `None` if it has.
    pub left: Option<u32>,
}

impl Entry {
    /// Reads the name of an entry's file.
    pub fn parse(file: &str) -> Option<Self> {
        let name = file.strip_prefix("ravelin-")?.strip_suffix(".conf")?;
        let (version, left) = match name.split_once('+') {
            None => (name, None),
            Some((version, counters)) => {
                let left = counters.split('-').next()?;
                (version, Some(left.parse().ok()?))
            }
        };
        Some(Self {
            file: file.to_owned(),
            version: version.parse().ok()?,
            left,
        })
    }
}

/// The EFI partition, mounted.
#[derive(Clone, Debug)]
pub struct Esp(PathBuf);

impl Esp {
    /// The one that is mounted here.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// All entries.
    pub fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(self.0.join(ENTRIES))? {
            entries.extend(Entry::parse(&file?.file_name().to_string_lossy()));
        }
        entries.sort_by_key(|entry| entry.version);
        Ok(entries)
    }

    /// The kernel image of a version.
    pub fn kernel(&self, version: u32) -> PathBuf {
        self.dir(version).join("linux.efi")
    }

    /// The identity of a version, which systemd-stub gives to its kernel.
    pub fn identity(&self, version: u32) -> PathBuf {
        self.dir(version).join("linux.efi.extra.d/identity.cred")
    }

    /// Removes all versions but one: first what names them, then what they consist of.
    pub fn keep_only(&self, version: u32) -> io::Result<()> {
        for entry in self.entries()? {
            if entry.version != version {
                fs::remove_file(self.0.join(ENTRIES).join(entry.file))?;
            }
        }
        self.sync()?;
        for dir in fs::read_dir(self.0.join(VERSIONS))? {
            let dir = dir?;
            if dir.file_name().to_string_lossy() != version.to_string() {
                fs::remove_dir_all(dir.path())?;
            }
        }
        self.sync()
    }

    /// Adds the files of a version, which nothing names yet.
    pub fn write(&self, version: u32, kernel: &[u8], identity: &[u8]) -> io::Result<()> {
        let write = |path: PathBuf, bytes: &[u8]| {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            let mut file = File::create(path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write(self.kernel(version), kernel)?;
        write(self.identity(version), identity)?;
        self.sync()
    }

    /// Gives a version another identity, in one step.
    pub fn replace_identity(&self, version: u32, identity: &[u8]) -> io::Result<()> {
        let path = self.identity(version);
        // Not a name that systemd-stub looks for.
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(identity)?;
        file.sync_all()?;
        fs::rename(new, path)?;
        self.sync()
    }

    /// Names a version to the boot loader, which may start it three times until it has proved itself.
    pub fn try_next(&self, version: u32) -> io::Result<()> {
        let (dir, new) = (self.0.join(ENTRIES), format!("ravelin-{version}.new"));
        let text = format!(
            "title Ravelin\nsort-key ravelin\nversion {version}\nefi /{VERSIONS}/{version}/linux.efi\n"
        );
        let mut file = File::create(dir.join(&new))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(
            dir.join(new),
            dir.join(format!("ravelin-{version}+{TRIES}.conf")),
        )?;
        self.sync()
    }

    fn dir(&self, version: u32) -> PathBuf {
        self.0.join(VERSIONS).join(version.to_string())
    }

    fn sync(&self) -> io::Result<()> {
        nix::unistd::syncfs(File::open(&self.0)?)?;
        Ok(())
    }
}

/// How a version was started: its number, from what the boot loader says of its entry.
pub fn version(entry: &str) -> Option<u32> {
    let path = Path::new(entry.trim_end_matches('\0'));
    let name = path.file_name()?.to_string_lossy();
    let name = name.strip_suffix(".conf").unwrap_or(&name);
    Entry::parse(&format!("{name}.conf")).map(|entry| entry.version)
}

const ENTRIES: &str = "loader/entries";
const VERSIONS: &str = "EFI/ravelin";
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_version_and_perhaps_counters() {
        let table = [
            ("ravelin-1.conf", Some((1, None))),
            ("ravelin-12+3.conf", Some((12, Some(3)))),
            ("ravelin-12+2-1.conf", Some((12, Some(2)))),
            ("ravelin-12+0-3.conf", Some((12, Some(0)))),
            ("ravelin-12.new", None),
            ("ravelin-x.conf", None),
            ("ravelin-1+x.conf", None),
            ("other-1.conf", None),
        ];
        for (name, expected) in table {
            let found = Entry::parse(name).map(|entry| (entry.version, entry.left));
            assert_eq!(found, expected, "{name}");
        }
        assert_eq!(version("ravelin-7+2-1.conf\0"), Some(7));
        assert_eq!(version("ravelin-7"), Some(7));
        assert_eq!(version("auto-windows"), None);
    }

    #[test]
    fn what_runs_stays_whatever_is_added() {
        let dir = tempfile::tempdir().unwrap();
        let esp = Esp::at(dir.path());
        for path in [ENTRIES, VERSIONS] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let names = || {
            let entries = esp.entries().unwrap();
            entries
                .into_iter()
                .map(|entry| entry.file)
                .collect::<Vec<_>>()
        };
        esp.write(1, b"kernel", b"identity").unwrap();
        assert!(names().is_empty(), "nothing names it yet");
        esp.try_next(1).unwrap();
        assert_eq!(names(), ["ravelin-1+3.conf"]);
        let entries = dir.path().join(ENTRIES);
        fs::rename(
            entries.join("ravelin-1+3.conf"),
            entries.join("ravelin-1.conf"),
        )
        .unwrap();
        esp.write(2, b"other", b"identity").unwrap();
        esp.try_next(2).unwrap();
        assert_eq!(names(), ["ravelin-1.conf", "ravelin-2+3.conf"]);
        esp.replace_identity(1, b"another").unwrap();
        assert_eq!(fs::read(esp.identity(1)).unwrap(), b"another");
        let beside = esp.identity(1).parent().unwrap().read_dir().unwrap();
        assert_eq!(beside.count(), 1);
        esp.keep_only(1).unwrap();
        assert_eq!(names(), ["ravelin-1.conf"]);
        assert!(esp.kernel(1).exists() && esp.identity(1).exists());
        assert!(!esp.kernel(2).exists());
    }
}
