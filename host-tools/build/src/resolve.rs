//! Chooses versions: asks this machine's apt what a mirror has, in a state of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cache::{Cache, Scratch};
use crate::error::BuildError;
use crate::lock::{Index, Lock, Package};
use crate::mirror::Mirror;
use crate::sandbox::{is_full, tied};

/// A set of packages that a file under `image/` asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Its name in the lock.
    pub set: &'static str,
    /// The names of the packages.
    pub packages: Vec<String>,
    /// The file.
    pub place: PathBuf,
    /// Whether it is installed over the base; otherwise it is a system of its own.
    pub over_base: bool,
}

/// A mirror's package index.
#[derive(Debug)]
pub struct Resolver<'a> {
    scratch: Scratch<'a>,
    mirror: &'a Mirror,
    architecture: String,
}

impl<'a> Resolver<'a> {
    /// Fetches the index. What `keep` has stays as it is where the mirror still has it.
    pub fn open(
        cache: &'a Cache,
        mirror: &'a Mirror,
        keep: Option<&Lock>,
        architecture: &str,
    ) -> Result<Self, BuildError> {
        let scratch = cache.scratch("index")?;
        let this = Self {
            scratch,
            mirror,
            architecture: architecture.to_owned(),
        };
        for dir in ["lists/partial", "archives/partial"] {
            let dir = this.path(dir);
            fs::create_dir_all(&dir).map_err(|error| BuildError::io("create", &dir, error))?;
        }
        let pins = keep.iter().flat_map(|lock| &lock.packages).map(|package| {
            format!(
                "Package: {}\nPin: version {}\nPin-Priority: 1001\n\n",
                package.name, package.version
            )
        });
        this.write("preferences", &pins.collect::<String>())?;
        this.write("sources.list", &mirror.list())?;
        this.write("status", "")?;
        let mut update = this.apt("apt-get");
        let output = finish(update.args(["update", "-o", "APT::Update::Error-Mode=any"]))?;
        if output.status.success() {
            return Ok(this);
        }
        let text = words(&output);
        if is_full(&text) {
            return Err(BuildError::disk_full("write", &this.path("lists")));
        }
        // "E: Failed to fetch URI  REASON"
        let failed = text
            .lines()
            .find_map(|line| line.split_once("Failed to fetch "));
        let (uri, reason) = match failed.and_then(|(_, rest)| rest.trim().split_once(' ')) {
            Some((uri, reason)) => (uri.to_owned(), reason.trim().to_owned()),
            None => ("its index".to_owned(), last_error(&text)),
        };
        Err(BuildError::Mirror { uri, reason })
    }

    /// The dates of the index.
    pub fn indices(&self) -> Result<Vec<Index>, BuildError> {
        let mut indices = Vec::new();
        for source in self.mirror.suites() {
            let name = source.uri.split_once("://").map_or_else(
                || {
                    source
                        .uri
                        .split_once(':')
                        .map_or("", |(_, path)| path)
                        .to_owned()
                },
                |(_, rest)| rest.to_owned(),
            );
            let prefix = format!(
                "{}_dists_{}_",
                name.replace('/', "_"),
                source.suite.replace('/', "_")
            );
            for file in ["InRelease", "Release"] {
                let path = self.path("lists").join(format!("{prefix}{file}"));
                let Ok(text) = fs::read_to_string(&path) else {
                    continue;
                };
                let Some(date) = text.lines().find_map(|line| line.strip_prefix("Date: ")) else {
                    continue;
                };
                let output = finish(Command::new("date").args(["-u", "+%s", "-d", date]))?;
                let seconds = String::from_utf8_lossy(&output.stdout).trim().parse();
                indices.push(Index {
                    suite: source.suite.clone(),
                    date: seconds.map_err(|_| BuildError::Unexpected {
                        step: "package lock".to_owned(),
                        message: format!("{} has the date {date:?}", path.display()),
                    })?,
                });
                break;
            }
        }
        Ok(indices)
    }

    /// The packages of a set, with all that they need; `base` is installed already where the set is over it.
    pub fn resolve(
        &self,
        wanted: &Wanted,
        base: &[&Package],
        debs: &Path,
    ) -> Result<Vec<Package>, BuildError> {
        if wanted.over_base && wanted.packages.is_empty() {
            return Ok(Vec::new());
        }
        let mut names: Vec<&str> = wanted.packages.iter().map(String::as_str).collect();
        if wanted.over_base {
            self.install(base, debs)?;
        } else {
            self.write("status", "")?;
            names.extend(["apt", "?essential", "?priority(required)"]);
        }
        let mut install = self.apt("apt-get");
        install.args(["install", "--print-uris", "--yes", "-q"]);
        install
            .args(["--no-install-recommends", "--no-remove"])
            .args(&names);
        let output = finish(&mut install)?;
        if !output.status.success() {
            return Err(self.explain(wanted, &words(&output)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let mut packages: Vec<Package> = text.lines().filter_map(|line| self.file(line)).collect();
        let versions: Vec<String> = packages
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        let stanzas = self.show(&versions)?;
        for package in &mut packages {
            let stanza = stanzas.iter().find(|stanza| {
                field(stanza, "Package") == Some(&package.name)
                    && field(stanza, "Version") == Some(&package.version)
                    && field(stanza, "Architecture") == Some(&package.architecture)
            });
            let sha256 = stanza.and_then(|stanza| field(stanza, "SHA256"));
            sha256.unwrap_or_default().clone_into(&mut package.sha256);
            if package.sha256.is_empty() {
                return Err(BuildError::Unexpected {
                    step: "package lock".to_owned(),
                    message: format!("the mirror's index has no SHA-256 of {package}"),
                });
            }
        }
        Ok(packages)
    }

    /// One line of `--print-uris`: `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE HASH`.
    fn file(&self, line: &str) -> Option<Package> {
        let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let name = rest.split_whitespace().next()?.strip_suffix(".deb")?;
        let mut parts = name.split('_');
        let (name, version, architecture) = (parts.next()?, parts.next()?, parts.next()?);
        let (suite, file) = self.mirror.split(uri)?;
        Some(Package {
            name: name.to_owned(),
            version: version.replace("%3a", ":"),
            architecture: architecture.to_owned(),
            sha256: String::new(),
            suite: suite.to_owned(),
            file: file.to_owned(),
            sets: BTreeSet::new(),
        })
    }

    /// Lets apt believe that these are installed.
    fn install(&self, packages: &[&Package], debs: &Path) -> Result<(), BuildError> {
        let versions: Vec<String> = packages
            .iter()
            .map(|package| format!("{}={}", package.name, package.version))
            .collect();
        let mut status = String::new();
        let stanzas = self.show(&versions)?;
        for package in packages {
            let known = stanzas.iter().find(|stanza| {
                field(stanza, "Package") == Some(&package.name)
                    && field(stanza, "Version") == Some(&package.version)
            });
            let stanza = match known {
                Some(stanza) => stanza.clone(),
                // The mirror has another by now; we may have kept the file.
                None => {
                    let deb = debs.join(format!("{}.deb", package.sha256));
                    let output = finish(Command::new("dpkg-deb").arg("--field").arg(deb))?;
                    if !output.status.success() {
                        return Err(BuildError::Vanished {
                            package: package.to_string(),
                            tried: "its index".to_owned(),
                        });
                    }
                    String::from_utf8_lossy(&output.stdout).trim().to_owned()
                }
            };
            status += &stanza.replacen('\n', "\nStatus: install ok installed\n", 1);
            status += "\n\n";
        }
        self.write("status", &status)
    }

    /// The paragraphs of the index about `NAME=VERSION`s; those that it does not have are left out.
    fn show(&self, versions: &[String]) -> Result<Vec<String>, BuildError> {
        let output = finish(
            self.apt("apt-cache")
                .args(["show", "--no-all-versions"])
                .args(versions),
        )?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text
            .split("\n\n")
            .map(|stanza| stanza.trim().to_owned())
            .collect())
    }

    /// What apt says of a set that cannot be installed, in words about the file that asks for it.
    fn explain(&self, wanted: &Wanted, text: &str) -> BuildError {
        let unknown = wanted.packages.iter().find(|name| {
            text.contains(&format!("Unable to locate package {name}\n"))
                || text.contains(&format!("Package '{name}' has no installation candidate"))
                || text.contains(&format!("Couldn't find any package by regex '{name}'"))
        });
        if is_full(text) {
            return BuildError::disk_full("write", &self.path("archives"));
        }
        let Some(name) = unknown else {
            return BuildError::Conflict {
                place: wanted.place.clone(),
                message: text.trim().to_owned(),
            };
        };
        // apt tells what replaces a package that others still mention.
        let replaced = text
            .split_once("following packages replace it:\n")
            .and_then(|(_, rest)| rest.lines().next());
        let mut similar: Vec<String> = replaced
            .iter()
            .flat_map(|line| line.split_whitespace().map(str::to_owned))
            .collect();
        if similar.is_empty() {
            similar = similar_names(name, &self.names());
        }
        BuildError::NoPackage {
            place: place_of(&wanted.place, name),
            name: name.clone(),
            help: if similar.is_empty() {
                "the mirror has nothing of a similar name".to_owned()
            } else {
                format!("did you mean {}?", similar.join(" or "))
            },
        }
    }

    fn names(&self) -> Vec<String> {
        let output = self.apt("apt-cache").arg("pkgnames").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        text.unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), BuildError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(|error| BuildError::io("write", &path, error))
    }

    /// A program of apt that knows nothing of this machine's packages; how it reaches the network stays this machine's.
    fn apt(&self, program: &str) -> Command {
        let mut command = tied(program);
        command.env("LC_ALL", "C.UTF-8");
        for (key, path) in [
            ("Dir::State", ""),
            ("Dir::State::lists", "lists"),
            ("Dir::State::status", "status"),
            ("Dir::Cache", ""),
            ("Dir::Cache::archives", "archives"),
            ("Dir::Etc::sourcelist", "sources.list"),
            ("Dir::Etc::preferences", "preferences"),
        ] {
            command
                .arg("-o")
                .arg(format!("{key}={}", self.path(path).display()));
        }
        for option in [
            "Dir::Etc::sourceparts=/dev/null",
            "Dir::Etc::preferencesparts=/dev/null",
            "APT::Default-Release=",
            "APT::Get::AllowUnauthenticated=false",
            "APT::Sandbox::User=root",
            "APT::Install-Recommends=false",
            "Acquire::Languages=none",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
        ] {
            command.args(["-o", option]);
        }
        command
            .arg("-o")
            .arg(format!("APT::Architecture={}", self.architecture));
        command
            .arg("-o")
            .arg(format!("APT::Architectures={}", self.architecture));
        command
    }
}

fn finish(command: &mut Command) -> Result<Output, BuildError> {
    let output = command.stdin(std::process::Stdio::null()).output();
    output.map_err(|cause| BuildError::Missing {
        program: command.get_program().to_string_lossy().into_owned(),
        cause,
    })
}

fn words(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

fn last_error(text: &str) -> String {
    let mut errors = text.lines().filter_map(|line| line.strip_prefix("E: "));
    errors.next_back().unwrap_or(text.trim()).to_owned()
}

/// The value of a field of a paragraph of Debian's control data, without what continues it on further lines.
pub(crate) fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = stanza.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.map(str::trim)
}

/// `FILE:LINE` of the first mention of a package.
fn place_of(path: &Path, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let quoted = format!("\"{name}\"");
    let line = text.lines().position(|line| {
        let code = line.split('#').next().unwrap_or_default();
        code.contains(&quoted)
    });
    match line {
        Some(line) => format!("{}:{}", path.display(), line + 1),
        None => path.display().to_string(),
    }
}

/// Up to three names that somebody may have meant.
fn similar_names(name: &str, all: &[String]) -> Vec<String> {
    let mut near: Vec<(usize, &String)> = all
        .iter()
        .filter_map(|other| {
            let distance = strsim::damerau_levenshtein(name, other);
            // "nginx-foo" may mean "nginx"; "erofs" may mean "erofs-utils".
            let part = name.len() > 3
                && (other.starts_with(name) || name.starts_with(other.as_str()) && other.len() > 3);
            (distance <= name.len() / 3 || part).then_some((distance, other))
        })
        .collect();
    near.sort();
    near.into_iter()
        .take(3)
        .map(|(_, other)| other.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_have_been_meant() {
        let all = [
            "nginx",
            "nginx-light",
            "haproxy",
            "mariadb-server",
            "erofs-utils",
            "e2fsprogs",
        ]
        .map(str::to_owned);
        for (name, meant) in [
            ("ngnix", &["nginx"][..]),
            ("haproxy3", &["haproxy"]),
            ("erofs", &["erofs-utils"]),
            ("nginx-core", &["nginx"]),
            ("xyzzy", &[]),
        ] {
            let similar = similar_names(name, &all);
            assert_eq!(
                similar.first().map(String::as_str),
                meant.first().copied(),
                "{name}: {similar:?}"
            );
        }
    }

    #[test]
    fn fields_of_a_paragraph() {
        let stanza = "Package: a\nVersion: 1:2\nDescription: x\n Package: b\nSHA256: 00";
        assert_eq!(field(stanza, "Package"), Some("a"));
        assert_eq!(field(stanza, "Version"), Some("1:2"));
        assert_eq!(field(stanza, "SHA256"), Some("00"));
        assert_eq!(field(stanza, "SHA"), None);
    }
}
