//! The `.deb` files of a lock: fetched, checked against their hashes, and laid out for apt.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::error::BuildError;
use crate::lock::Package;
use crate::mirror::Mirror;
use crate::sandbox::{is_full, tied};

/// Where files come from that the cache does not have.
#[derive(Clone, Copy, Debug)]
pub enum Supply<'a> {
    /// The network.
    Mirror {
        /// Lines of a `sources.list`; none for this machine's.
        lines: &'a [String],
        /// Debian release.
        release: &'a str,
    },
    /// An offline bundle, all of whose files are in the cache by now.
    Bundle(&'a Path),
}

/// The directory of all files: `SHA256.deb`.
pub fn dir(cache: &Cache) -> Result<PathBuf, BuildError> {
    let dir = cache.root().join("debs");
    fs::create_dir_all(&dir).map_err(|error| BuildError::io("create", &dir, error))?;
    Ok(dir)
}

/// Where one of them is, or will be.
pub fn path(cache: &Cache, package: &Package) -> PathBuf {
    cache.root().join("debs").join(stored_name(package))
}

/// What one of them is called in the cache.
pub fn stored_name(package: &Package) -> String {
    format!("{}.deb", package.sha256)
}

/// Fetches what the cache does not have of these; every file has its hash afterwards.
pub fn fetch(cache: &Cache, packages: &[&Package], supply: Supply) -> Result<(), BuildError> {
    // Steps that run at once share packages.
    let _one = cache.fetching();
    let dir = dir(cache)?;
    let mut missing = Vec::new();
    for package in packages {
        let path = path(cache, package);
        match hash(&path) {
            Ok(found) if found == package.sha256 => cache.touch(&path),
            // What a disk has spoilt is fetched again.
            Ok(_) => {
                fs::remove_file(&path).map_err(|error| BuildError::io("remove", &path, error))?;
                missing.push(*package);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(*package),
            Err(error) => return Err(BuildError::io("read", &path, error)),
        }
    }
    missing.sort();
    missing.dedup_by(|a, b| a.sha256 == b.sha256);
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let mirror = match supply {
        Supply::Mirror { lines, release } => &Mirror::new(lines, release)?,
        Supply::Bundle(bundle) => {
            return Err(BuildError::NotInBundle {
                bundle: bundle.to_owned(),
                what: first.to_string(),
            });
        }
    };
    let scratch = cache.scratch("downloads")?;
    // All at once from where each should be; what is left, from wherever else it may be.
    let mut log = String::new();
    let mut place = 0;
    let mut left = missing;
    while !left.is_empty() {
        let items: Vec<(String, &Package)> = left
            .iter()
            .filter_map(|package| {
                let places = mirror.places(&package.suite, &package.file);
                Some((places.get(place)?.clone(), *package))
            })
            .collect();
        let Some((_, package)) = items.first() else {
            return Err(refused(left[0], mirror, &log));
        };
        if items.len() < left.len() {
            let gone = left
                .iter()
                .find(|one| !items.iter().any(|(_, item)| item == *one));
            return Err(refused(gone.unwrap_or(package), mirror, &log));
        }
        log += &download(scratch.path(), &items)?;
        let mut still = Vec::new();
        for (_, package) in &items {
            let file = scratch.path().join(&package.sha256);
            if !file.exists() {
                still.push(*package);
                continue;
            }
            let found = hash(&file).map_err(|error| BuildError::io("read", &file, error))?;
            if found != package.sha256 {
                return Err(wrong_hash(package, found));
            }
            let target = dir.join(stored_name(package));
            fs::rename(&file, &target).map_err(|error| BuildError::io("write", &target, error))?;
        }
        if is_full(&log) {
            return Err(BuildError::disk_full("write", &dir));
        }
        left = still;
        place += 1;
    }
    Ok(())
}

/// Lets apt fetch files into a directory; returns what it says. Those that could not be fetched are not there.
fn download(dir: &Path, items: &[(String, &Package)]) -> Result<String, BuildError> {
    let mut log = String::new();
    for items in items.chunks(100) {
        let mut helper = tied("/usr/lib/apt/apt-helper");
        helper.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        helper.args(["-o", "APT::Sandbox::User=root", "-q", "download-file"]);
        for (uri, package) in items {
            helper.arg(uri).arg(dir.join(&package.sha256));
            helper.arg(format!("SHA256:{}", package.sha256));
        }
        let output = helper.output().map_err(|cause| BuildError::Missing {
            program: "apt-helper".to_owned(),
            cause,
        })?;
        log += &String::from_utf8_lossy(&output.stderr);
    }
    Ok(log)
}

/// Why a package could not be fetched, of apt's log.
fn refused(package: &Package, mirror: &Mirror, log: &str) -> BuildError {
    let places = mirror.places(&package.suite, &package.file);
    // "E: Failed to fetch URI  REASON"; a wrong hash is told on the lines below.
    let mut unreachable = None;
    let mut lines = log.lines();
    while let Some(line) = lines.next() {
        let Some((uri, reason)) = line
            .split_once("Failed to fetch ")
            .and_then(|(_, rest)| rest.split_once(' '))
        else {
            continue;
        };
        let plain = |uri: &str| uri.to_lowercase().replace("%2b", "+").replace("%7e", "~");
        if !places.iter().any(|place| plain(place) == plain(uri)) {
            continue;
        }
        let reason = reason.trim();
        if reason.contains("Hash Sum mismatch") {
            let received = lines
                .by_ref()
                .skip_while(|line| !line.contains("received file"));
            let found = received.filter_map(|line| line.split_once("SHA256:"));
            let found = found.map(|(_, hash)| hash.trim().to_owned()).next();
            return wrong_hash(package, found.unwrap_or_else(|| "another one".to_owned()));
        }
        let gone = ["404", "File not found", "No such file"];
        if !gone.iter().any(|word| reason.contains(word)) {
            unreachable = Some((uri.to_owned(), reason.to_owned()));
        }
    }
    match unreachable {
        Some((uri, reason)) => BuildError::Mirror { uri, reason },
        None => BuildError::Vanished {
            package: package.to_string(),
            tried: places.join(", "),
        },
    }
}

fn wrong_hash(package: &Package, found: String) -> BuildError {
    BuildError::WrongHash {
        package: package.to_string(),
        wanted: package.sha256.clone(),
        found,
    }
}

/// SHA-256 of a file, in hexadecimal digits.
pub fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hash.update(&buffer[..length]);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

/// Lays links to these files into a new directory, under the names that apt knows them by.
pub fn lay_out(cache: &Cache, packages: &[&Package], to: &Path) -> Result<(), BuildError> {
    fs::create_dir(to).map_err(|error| BuildError::io("create", to, error))?;
    for package in packages {
        let (from, to) = (path(cache, package), to.join(package.file_name()));
        let linked = fs::hard_link(&from, &to);
        linked.map_err(|error| BuildError::io("link", &to, error))?;
    }
    Ok(())
}

/// Writes the index that makes a repository of such a directory.
pub fn write_index(packages: &[&Package], dir: &Path) -> Result<(), BuildError> {
    let path = dir.join("Packages");
    let failed = |error| BuildError::io("write", &path, error);
    let mut index = File::create(&path).map_err(failed)?;
    for package in packages {
        let name = package.file_name();
        let file = dir.join(&name);
        let mut show = Command::new("dpkg-deb");
        let control = show.arg("--field").arg(&file).stdin(Stdio::null()).output();
        let control = control.map_err(|cause| BuildError::Missing {
            program: "dpkg-deb".to_owned(),
            cause,
        })?;
        let size = fs::metadata(&file).map_err(|error| BuildError::io("read", &file, error))?;
        index.write_all(&control.stdout).map_err(failed)?;
        // A percent sign of a name is one of the file's, too.
        let entry = format!(
            "Filename: ./{name}\nSize: {}\nSHA256: {}\n\n",
            size.len(),
            package.sha256
        );
        index.write_all(entry.as_bytes()).map_err(failed)?;
    }
    Ok(())
}
