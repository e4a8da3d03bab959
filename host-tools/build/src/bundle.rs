//! Offline bundles: one file with all that a build would fetch or compile.
//!
//! A plain tar archive, for packages are compressed already: `bundle.json` with the hash of every other file, then the
//! lock, the packages with an index that makes a repository of them, our own programs, and firmware.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use site::Plan;

use crate::cache::{Cache, Key};
use crate::debs::{self, Supply};
use crate::error::BuildError;
use crate::images::{Options, select};
use crate::lock::{Lock, Package};
use crate::packages;
use crate::places::Places;
use crate::programs::Programs;
use crate::sbom::Crate;
use crate::spec;

/// A bundle whose files are in the cache.
#[derive(Clone, Debug)]
pub struct Bundle {
    file: PathBuf,
    dir: PathBuf,
    lock: Lock,
}

/// What was put into a bundle.
#[derive(Clone, Debug, Serialize)]
pub struct Contents {
    /// The bundle.
    pub bundle: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many packages it has.
    pub packages: usize,
    /// Our own programs.
    pub programs: Vec<String>,
    /// Boards whose firmware it has.
    pub firmware: Vec<String>,
}

/// `bundle.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    /// Version of this program.
    version: String,
    /// Hashes by path.
    files: BTreeMap<String, String>,
}

impl Bundle {
    /// Makes a bundle for a site, or for some of its servers; `firmware` are names and programs of boards.
    ///
    /// # Errors
    /// If something cannot be fetched, compiled or written.
    pub fn write(
        places: &Places,
        plan: &Plan,
        options: &Options,
        firmware: &[(String, PathBuf)],
        to: &Path,
    ) -> Result<Contents, BuildError> {
        let spec = spec::base(&places.source)?;
        let cache = Cache::open(&places.cache, || ())?;
        let path = &places.lock;
        let wanted = packages::wanted(&places.source, places.beside(), plan, &spec)?;
        let (release, mirrors) = (&spec.release, &options.mirrors);
        let lock = packages::settle(
            &cache,
            path,
            &wanted,
            release,
            options.choice,
            mirrors,
            None,
        )?;

        let mut sets = vec!["tools", "base"];
        let mut roles = Vec::new();
        for server in select(plan, options.only.as_deref())? {
            let set = spec::role_name(server.role);
            if !sets.contains(&set) {
                sets.push(set);
                roles.push(spec::role(&places.source, server.role)?);
            }
        }
        let locked: Vec<&Package> = (lock.packages.iter())
            .filter(|package| sets.iter().any(|set| package.sets.contains(*set)))
            .collect();
        debs::fetch(
            &cache,
            &locked,
            Supply::Mirror {
                lines: mirrors,
                release,
            },
        )?;
        let programs = Programs::new(&cache, &places.source, &spec, &roles, None)?;
        programs.build(&cache)?;

        let scratch = cache.scratch("bundle")?;
        let work = scratch.path();
        fs::write(work.join("ravelin.lock"), lock.text())
            .map_err(|error| BuildError::io("write", work, error))?;
        debs::lay_out(&cache, &locked, &work.join("debs"))?;
        debs::write_index(&locked, &work.join("debs"))?;
        let mut files = vec![("ravelin.lock".to_owned(), work.join("ravelin.lock"))];
        files.push(("debs/Packages".to_owned(), work.join("debs/Packages")));
        for package in &locked {
            let name = package.file_name();
            files.push((format!("debs/{name}"), debs::path(&cache, package)));
        }
        for program in programs.described(programs.names())? {
            let name = &program.name;
            let crates = work.join(format!("{name}.crates.json"));
            let list = serde_json::to_vec_pretty(&program.crates).expect("strings serialise");
            fs::write(&crates, list).map_err(|error| BuildError::io("write", &crates, error))?;
            files.push((format!("programs/{name}.crates.json"), crates));
            files.push((format!("programs/{name}"), programs.path(name)));
        }
        for (board, elf) in firmware {
            files.push((format!("firmware/{board}.elf"), elf.clone()));
        }
        let new = work.join("bundle.tar");
        archive(&new, lock.epoch(), &files)?;
        let target = match to.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        // Beside its place first: a bundle that is there is whole.
        let beside = target.join(".ravelin-bundle.new");
        fs::rename(&new, &beside)
            .or_else(|_| fs::copy(&new, &beside).map(drop))
            .and_then(|()| fs::rename(&beside, to))
            .map_err(|error| {
                let _ = fs::remove_file(&beside);
                BuildError::io("write", to, error)
            })?;
        let bytes = fs::metadata(to).map_or(0, |meta| meta.len());
        Ok(Contents {
            bundle: to.to_owned(),
            bytes,
            packages: locked.len(),
            programs: programs.names().to_vec(),
            firmware: firmware.iter().map(|(board, _)| board.clone()).collect(),
        })
    }

    /// Opens a bundle: every file is held against its hash, and put where a build looks for it.
    ///
    /// # Errors
    /// If it is not what [`Self::write`] made, or the cache cannot be written.
    pub fn open(places: &Places, file: &Path) -> Result<Self, BuildError> {
        let cache = Cache::open(&places.cache, || ())?;
        let read = |error| BuildError::io("read", file, error);
        let wrong = |message: String| BuildError::Bundle {
            bundle: file.to_owned(),
            message,
        };
        let mut archive = tar::Archive::new(File::open(file).map_err(read)?);
        let mut entries = archive.entries_with_seek().map_err(read)?;
        let mut text = Vec::new();
        let first = entries
            .next()
            .ok_or_else(|| wrong("it is empty".to_owned()))?;
        let mut first = first.map_err(|error| wrong(error.to_string()))?;
        if first.path().map_err(read)? != Path::new(MANIFEST) {
            return Err(wrong("it is not a bundle of Ravelin".to_owned()));
        }
        first.read_to_end(&mut text).map_err(read)?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| wrong(format!("{MANIFEST}: {error}")))?;
        if manifest.format != FORMAT {
            return Err(wrong(format!(
                "it has format {}, and this program knows {FORMAT}",
                manifest.format
            )));
        }
        let id = Key::new("bundle").with(&text).id();
        let mut dir = cache.entry("bundles", &id);
        let have = |path: &String, hash: &String| {
            !path.ends_with(".deb") || cache.root().join(format!("debs/{hash}.deb")).exists()
        };
        if !dir.exists() || !manifest.files.iter().all(|(path, hash)| have(path, hash)) {
            let scratch = cache.scratch("bundle")?;
            let mut left = manifest.files.clone();
            for entry in entries {
                let mut entry = entry.map_err(|error| wrong(error.to_string()))?;
                let path = entry.path().map_err(read)?.into_owned();
                let name = path.to_string_lossy().into_owned();
                let plain = path
                    .components()
                    .all(|part| matches!(part, Component::Normal(_)));
                let hash = left.remove(&name).filter(|_| plain);
                let hash = hash.ok_or_else(|| wrong(format!("{name} is not in {MANIFEST}")))?;
                let target = scratch.path().join(&path);
                let failed = |error| BuildError::io("write", &target, error);
                if let Some(parent) = target.parent() {
                    fs::create_dir_all(parent).map_err(failed)?;
                }
                let mut out = File::create(&target).map_err(failed)?;
                // A short archive ends in the middle of a file.
                io::copy(&mut entry, &mut out).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => wrong(format!("it ends within {name}")),
                    _ => failed(error),
                })?;
                if debs::hash(&target).map_err(failed)? != hash {
                    return Err(wrong(format!("{name} is damaged: its hash is another")));
                }
                if name.ends_with(".deb") {
                    let stored = debs::dir(&cache)?.join(format!("{hash}.deb"));
                    fs::rename(&target, &stored).map_err(failed)?;
                }
            }
            if let Some((missing, _)) = left.pop_first() {
                return Err(wrong(format!("it ends before {missing}")));
            }
            dir = scratch.publish("bundles", &id)?;
        }
        cache.touch(&dir);
        let lock = dir.join("ravelin.lock");
        let lock = Lock::read(&lock)?.ok_or_else(|| wrong("it has no lock".to_owned()))?;
        Ok(Self {
            file: file.to_owned(),
            dir,
            lock,
        })
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where its programs and firmware were unpacked.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was made of.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// One of our own programs.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.dir.join("programs").join(name)
    }

    /// What it was compiled from.
    pub(crate) fn crates(&self, program: &str) -> Result<Vec<Crate>, BuildError> {
        let path = self.program(&format!("{program}.crates.json"));
        let list = fs::read(&path).map_err(|error| BuildError::io("read", &path, error))?;
        serde_json::from_slice(&list).map_err(|error| BuildError::Bundle {
            bundle: self.file.clone(),
            message: format!("what {program} was compiled from: {error}"),
        })
    }

    /// Fails if it lacks a program.
    pub(crate) fn check_programs(&self, names: &[String]) -> Result<(), BuildError> {
        match names.iter().find(|name| !self.program(name).exists()) {
            Some(name) => Err(self.lacks(format!("the program {name}"))),
            None => Ok(()),
        }
    }

    /// The firmware of a board.
    ///
    /// # Errors
    /// If the bundle does not have it.
    pub fn firmware(&self, board: &str) -> Result<PathBuf, BuildError> {
        let path = self.dir.join("firmware").join(format!("{board}.elf"));
        if path.exists() {
            return Ok(path);
        }
        Err(self.lacks(format!("the firmware of {board}")))
    }

    fn lacks(&self, what: String) -> BuildError {
        BuildError::NotInBundle {
            bundle: self.file.clone(),
            what,
        }
    }
}

/// Writes the archive: the same files make the same bytes.
fn archive(to: &Path, epoch: u64, files: &[(String, PathBuf)]) -> Result<(), BuildError> {
    let mut hashes = BTreeMap::new();
    for (name, path) in files {
        let hash = debs::hash(path).map_err(|error| BuildError::io("read", path, error))?;
        hashes.insert(name.clone(), hash);
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files: hashes,
    };
    let manifest = serde_json::to_vec_pretty(&manifest).expect("strings serialise");
    let failed = |error| BuildError::io("write", to, error);
    let mut archive = tar::Builder::new(File::create(to).map_err(failed)?);
    let header = |size: u64, mode: u32| {
        let mut header = tar::Header::new_gnu();
        header.set_size(size);
        header.set_mode(mode);
        header.set_mtime(epoch);
        header.set_cksum();
        header
    };
    let mut top = header(manifest.len() as u64, 0o644);
    archive
        .append_data(&mut top, MANIFEST, manifest.as_slice())
        .map_err(failed)?;
    for (name, path) in files {
        let read = |error| BuildError::io("read", path, error);
        let file = File::open(path).map_err(read)?;
        let mode = if name.starts_with("programs/") {
            0o755
        } else {
            0o644
        };
        let mut entry = header(file.metadata().map_err(read)?.len(), mode);
        archive
            .append_data(&mut entry, name, file)
            .map_err(failed)?;
    }
    archive
        .into_inner()
        .and_then(|file| file.sync_all())
        .map_err(failed)
}

const FORMAT: u32 = 1;
const MANIFEST: &str = "bundle.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_not_whole_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            source: dir.path().to_owned(),
            cache: dir.path().join("cache"),
            state: dir.path().join(".ravelin"),
            lock: dir.path().join("ravelin.lock"),
        };
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            path
        };
        let files = vec![
            (
                "ravelin.lock".to_owned(),
                file("lock", &Lock::new("trixie", "amd64").text()),
            ),
            (
                "programs/init".to_owned(),
                file("init", &"program".repeat(1000)),
            ),
            ("debs/a_1_all.deb".to_owned(), file("deb", "package")),
        ];
        let path = dir.path().join("bundle.tar");
        archive(&path, 7, &files).unwrap();
        let good = fs::read(&path).unwrap();
        archive(&path, 7, &files).unwrap();
        assert_eq!(fs::read(&path).unwrap(), good, "made twice");

        let bundle = Bundle::open(&places, &path).unwrap();
        assert_eq!(
            fs::read(bundle.program("init")).unwrap(),
            "program".repeat(1000).as_bytes()
        );
        let stored = debs::hash(&files[2].1).unwrap();
        assert!(places.cache.join(format!("debs/{stored}.deb")).exists());
        assert!(bundle.check_programs(&["init".to_owned()]).is_ok());
        let error = bundle.firmware("zynq7000").unwrap_err().to_string();
        assert!(
            error.ends_with("does not have the firmware of zynq7000"),
            "{error}"
        );

        let flip = |at: usize| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        };
        let text = b"programprogram";
        let program = good
            .windows(text.len())
            .position(|window| window == text)
            .unwrap();
        let table = [
            (b"no tar at all".to_vec(), "failed to read"),
            (good[..good.len() / 2].to_vec(), ""),
            (flip(program), "programs/init is damaged"),
        ];
        for (index, (bytes, problem)) in table.into_iter().enumerate() {
            fs::remove_dir_all(&places.cache).unwrap();
            let path = dir.path().join(format!("bad{index}.tar"));
            fs::write(&path, bytes).unwrap();
            let error = Bundle::open(&places, &path).unwrap_err();
            assert!(error.to_string().contains(problem), "{index}: {error}");
            assert!(!places.cache.join("bundles").exists(), "{index}");
        }
    }
}
