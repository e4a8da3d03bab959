//! The package lock: which versions of which Debian packages images are made of, with the hash of each.
//!
//! It lies beside the site file. What is in it is installed, and nothing else; only `ravelin lock --update` chooses
//! other versions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter, Write as _};
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use crate::error::BuildError;

/// The file `ravelin.lock`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of the format.
    format: u32,
    /// Debian release, by code name.
    pub release: String,
    /// Debian's name of the processor.
    pub architecture: String,
    /// The package indices that versions were chosen from.
    #[serde(default, rename = "index")]
    pub indices: Vec<Index>,
    /// The packages that were asked for, by set.
    pub wanted: BTreeMap<String, Vec<String>>,
    /// All that these need.
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
}

/// One suite of a mirror.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// As in `sources.list`: `trixie-security`.
    pub suite: String,
    /// When the mirror made it, in seconds since 1970.
    pub date: u64,
}

/// One `.deb`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Hash of the file.
    pub sha256: String,
    /// The suite whose mirror has it.
    pub suite: String,
    /// Where it is there.
    pub file: String,
    /// The sets that it belongs to.
    pub sets: BTreeSet<String>,
}

/// What another lock has of a package: nothing, or versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The package.
    pub name: String,
    /// Its versions before.
    pub before: String,
    /// Its versions now.
    pub after: String,
}

impl Lock {
    /// A lock of nothing.
    pub fn new(release: &str, architecture: &str) -> Self {
        Self {
            format: FORMAT,
            release: release.to_owned(),
            architecture: architecture.to_owned(),
            ..Self::default()
        }
    }

    /// Reads a lock; `None` if there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, BuildError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BuildError::io("read", path, error)),
        };
        Self::parse(&text)
            .map(Some)
            .map_err(|message| BuildError::Lock {
                path: path.to_owned(),
                message,
            })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let lock: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if lock.format != FORMAT {
            return Err(format!(
                "it has format {}, and this program knows {FORMAT}",
                lock.format
            ));
        }
        for package in &lock.packages {
            let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if package.sha256.len() != 64 || !hexadecimal(&package.sha256) {
                return Err(format!(
                    "`{}` of {package} is no SHA-256: 64 hexadecimal digits",
                    package.sha256
                ));
            }
            if package.file.contains("..") {
                return Err(format!(
                    "`{}` of {package} is no file of a mirror",
                    package.file
                ));
            }
        }
        Ok(lock)
    }

    /// Writes it, at once and whole.
    pub fn write(&self, path: &Path) -> Result<(), BuildError> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|error| BuildError::io("create", dir, error))?;
        }
        let new = path.with_extension("lock.new");
        fs::write(&new, self.text()).map_err(|error| BuildError::io("write", &new, error))?;
        fs::rename(&new, path).map_err(|error| BuildError::io("write", path, error))
    }

    /// The file's content: one line for each package, in the order of their names.
    pub fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        let _ = writeln!(
            text,
            "format = {FORMAT}\nrelease = {:?}\narchitecture = {:?}",
            self.release, self.architecture
        );
        text += "index = [\n";
        for Index { suite, date } in &self.indices {
            let _ = writeln!(text, "    {{ suite = {suite:?}, date = {date} }},");
        }
        text += "]\npackage = [\n";
        let mut packages: Vec<&Package> = self.packages.iter().collect();
        packages.sort();
        for package in packages {
            let Package {
                name,
                version,
                architecture,
                sha256,
                suite,
                file,
                sets,
            } = package;
            let _ = writeln!(
                text,
                "    {{ name = {name:?}, version = {version:?}, architecture = {architecture:?}, sha256 = {sha256:?}, \
                 suite = {suite:?}, file = {file:?}, sets = {:?} }},",
                sets.iter().collect::<Vec<_>>()
            );
        }
        text += "]\n\n[wanted]\n";
        for (set, wanted) in &self.wanted {
            let _ = writeln!(text, "{set} = {wanted:?}");
        }
        text
    }

    /// The packages of a set, in the order of their names.
    pub fn set(&self, set: &str) -> Vec<&Package> {
        let mut packages: Vec<&Package> = (self.packages.iter())
            .filter(|package| package.sets.contains(set))
            .collect();
        packages.sort();
        packages
    }

    /// Whether a set is that of these packages.
    pub fn has(&self, set: &str, wanted: &[String]) -> bool {
        self.wanted.get(set).is_some_and(|locked| locked == wanted)
    }

    /// Takes a set's packages in, instead of those it had.
    pub fn replace(&mut self, set: &str, wanted: &[String], packages: Vec<Package>) {
        self.remove(set);
        self.wanted.insert(set.to_owned(), wanted.to_vec());
        for package in packages {
            let same = |other: &&mut Package| {
                (&other.name, &other.sha256) == (&package.name, &package.sha256)
            };
            match self.packages.iter_mut().find(same) {
                Some(known) => {
                    known.sets.insert(set.to_owned());
                }
                None => self.packages.push(Package {
                    sets: [set.to_owned()].into(),
                    ..package
                }),
            }
        }
        self.packages.sort();
    }

    /// Forgets a set.
    pub fn remove(&mut self, set: &str) {
        self.wanted.remove(set);
        for package in &mut self.packages {
            package.sets.remove(set);
        }
        self.packages.retain(|package| !package.sets.is_empty());
    }

    /// Notes the date of an index.
    pub fn note(&mut self, index: Index) {
        self.indices.retain(|known| known.suite != index.suite);
        self.indices.push(index);
        self.indices.sort();
    }

    /// Seconds since 1970 that files of images carry: the date of the newest index.
    pub fn epoch(&self) -> u64 {
        let dates = self.indices.iter().map(|index| index.date);
        dates.max().unwrap_or_default()
    }

    /// What is different in a newer lock.
    pub fn changes(&self, newer: &Self) -> Vec<Change> {
        let [before, after] = [self, newer].map(|lock| {
            let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
            for package in &lock.packages {
                let known = versions.entry(&package.name).or_default();
                known.insert(&package.version);
            }
            versions
        });
        let names: BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
        let versions = |of: &BTreeMap<&str, BTreeSet<&str>>, name| {
            let all = of.get(name).into_iter().flatten().copied();
            all.collect::<Vec<_>>().join(", ")
        };
        let changes = names.into_iter().map(|name| Change {
            name: name.to_owned(),
            before: versions(&before, name),
            after: versions(&after, name),
        });
        changes
            .filter(|change| change.before != change.after)
            .collect()
    }
}

impl Package {
    /// What the file is called outside a mirror.
    pub fn file_name(&self) -> String {
        // A colon would be taken for the name of an architecture by apt.
        let version = self.version.replace(':', "%3a");
        format!("{}_{version}_{}.deb", self.name, self.architecture)
    }

    /// All that determines what is installed.
    pub fn identity(&self) -> String {
        format!(
            "{} {} {} {}",
            self.name, self.version, self.architecture, self.sha256
        )
    }
}

impl Display for Package {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

const FORMAT: u32 = 1;
const HEADER: &str = "# The Debian packages that this site's images are made of, and no others. Written by `ravelin build` when it is missing,\n\
                      # renewed by `ravelin lock --update`; keep it together with the site file.\n";

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: format!("{:0>64}", name.len() * 100 + version.len()),
            suite: "trixie".to_owned(),
            file: format!("pool/main/{name}_{version}.deb"),
            sets: BTreeSet::new(),
        }
    }

    fn lock() -> Lock {
        let mut lock = Lock::new("trixie", "amd64");
        lock.note(Index {
            suite: "trixie-security".to_owned(),
            date: 20,
        });
        lock.note(Index {
            suite: "trixie".to_owned(),
            date: 10,
        });
        let wanted = ["libc6".to_owned()];
        lock.replace("tools", &wanted, vec![package("libc6", "2")]);
        lock.replace(
            "base",
            &wanted,
            vec![package("zlib1g", "1:3"), package("libc6", "2")],
        );
        lock
    }

    #[test]
    fn a_lock_reads_as_it_was_written_with_one_line_for_each_package() {
        let lock = lock();
        let text = lock.text();
        assert_eq!(Lock::parse(&text).unwrap(), lock);
        assert_eq!(
            text.lines()
                .filter(|line| line.contains("libc6\", version"))
                .count(),
            1
        );
        assert_eq!(lock.epoch(), 20);
        assert_eq!(lock.set("base").len(), 2);
        assert_eq!(lock.set("tools").len(), 1);
        assert!(lock.has("base", &["libc6".to_owned()]) && !lock.has("base", &[]));
    }

    #[test]
    fn sets_share_packages_and_part_with_them() {
        let mut lock = lock();
        lock.replace("base", &[], vec![package("libc6", "22")]);
        let versions: Vec<&str> = lock.packages.iter().map(|p| p.version.as_str()).collect();
        assert_eq!(versions, ["2", "22"], "the tools still have the old one");
        lock.remove("tools");
        assert_eq!(lock.packages.len(), 1);
    }

    #[test]
    fn changes_name_versions_before_and_now() {
        let before = lock();
        let mut after = before.clone();
        after.replace(
            "base",
            &[],
            vec![package("libc6", "2"), package("new", "1")],
        );
        let changes = before.changes(&after);
        let texts = changes.map_texts();
        assert_eq!(texts, ["new:  -> 1", "zlib1g: 1:3 -> "]);
        assert!(before.changes(&before).is_empty());
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        let text = lock().text();
        let table = [
            (text.replace("format = 1", "format = 9"), "it has format 9"),
            (
                text.replace("sha256 = \"00", "sha256 = \"xx"),
                "is no SHA-256",
            ),
            (
                text.replace("sha256 = \"00", "sha256 = \""),
                "is no SHA-256",
            ),
            (
                text.replace("pool/main", "../../etc"),
                "is no file of a mirror",
            ),
            (
                text.replace("release", "realease"),
                "unknown field `realease`",
            ),
        ];
        for (text, problem) in table {
            let error = Lock::parse(&text).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    trait Texts {
        fn map_texts(&self) -> Vec<String>;
    }

    impl Texts for Vec<Change> {
        fn map_texts(&self) -> Vec<String> {
            let text =
                |change: &Change| format!("{}: {} -> {}", change.name, change.before, change.after);
            self.iter().map(text).collect()
        }
    }
}
