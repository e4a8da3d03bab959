//! Builds once more, from nothing, and compares.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Serialize;
use site::Plan;

use crate::boot_keys;
use crate::cache::Cache;
use crate::compare::{self, Difference};
use crate::debs;
use crate::error::BuildError;
use crate::images::{Options, ServerImage, images};
use crate::lock::Lock;
use crate::packages::Choice;
use crate::pki::Pki;
use crate::places::Places;
use crate::progress::Progress;

/// What comparing two builds showed.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// How many images were compared.
    pub images: usize,
    /// Those that are not the same.
    pub differences: Vec<Difference>,
    /// What diffoscope says of the first of them, if it is installed.
    pub details: Option<String>,
}

/// Builds the same images again in an empty cache, of the same packages, and compares them with those there are.
///
/// # Errors
/// If the second build fails, or a file cannot be read.
pub fn verify(
    places: &Places,
    plan: &Plan,
    pki: &Pki,
    options: &Options,
    first: &[ServerImage],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Verification, BuildError> {
    let scratch = places.cache.with_file_name("ravelin-verify");
    let again = Places {
        source: places.source.clone(),
        cache: scratch.join("cache"),
        state: scratch.join("site/.ravelin"),
        lock: scratch.join("site/ravelin.lock"),
    };
    // What a killed one left.
    Cache::open(&again.cache, || progress(Progress::Waiting))?.clear()?;
    let result = build_and_compare(places, &again, plan, pki, options, first, progress);
    Cache::open(&again.cache, || ())?.clear()?;
    fs::remove_dir_all(&scratch).map_err(|error| BuildError::io("remove", &scratch, error))?;
    result
}

fn build_and_compare(
    places: &Places,
    again: &Places,
    plan: &Plan,
    pki: &Pki,
    options: &Options,
    first: &[ServerImage],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Verification, BuildError> {
    let state = &again.state;
    fs::create_dir_all(state).map_err(|error| BuildError::io("create", state, error))?;
    let locked = Lock::read(&places.lock)?.unwrap_or_default();
    locked.write(&again.lock)?;
    share_packages(&places.cache, &again.cache, &locked)?;
    share_keys(&places.state, state)?;
    let options = Options {
        choice: Choice::Locked,
        ..options.clone()
    };
    let second = images(again, plan, pki, &options, progress)?;
    let mut differences = Vec::new();
    let mut details = None;
    for (one, other) in first.iter().zip(&second) {
        let failed = |error| BuildError::io("compare", &other.disk, error);
        let Some(offset) = compare::first_difference(&one.disk, &other.disk).map_err(failed)?
        else {
            continue;
        };
        let file = compare::trees(&one.root_tree, &other.root_tree).map_err(failed)?;
        if details.is_none() {
            let name = file.as_ref().and_then(|file| file.split(": ").next());
            let pair = [one, other].map(|image| match name {
                Some(name) => image.root_tree.join(name.trim_start_matches('/')),
                None => image.disk.clone(),
            });
            details = diffoscope(&pair[0], &pair[1]);
        }
        differences.push(Difference {
            server: one.server.clone(),
            partition: compare::partition_of(&one.disk, offset).map_err(failed)?,
            offset,
            file,
        });
    }
    Ok(Verification {
        images: second.len(),
        differences,
        details,
    })
}

/// Packages are inputs: the second build takes them from the first one's cache, by their hashes.
fn share_packages(from: &Path, to: &Path, lock: &Lock) -> Result<(), BuildError> {
    let [from, to] = [from, to].map(|cache| cache.join("debs"));
    fs::create_dir_all(&to).map_err(|error| BuildError::io("create", &to, error))?;
    for package in &lock.packages {
        let name = debs::stored_name(package);
        // What is not there is fetched.
        let _ = fs::hard_link(from.join(&name), to.join(&name));
    }
    Ok(())
}

/// So are the keys by which servers are known and updated.
fn share_keys(from: &Path, to: &Path) -> Result<(), BuildError> {
    let [from, to] = [from, to].map(|state| state.join("pki"));
    let failed = |error| BuildError::io("copy", &to, error);
    for dir in ["", "update", "update/servers", boot_keys::DIR] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(to.join(dir))
            .map_err(failed)?;
        for entry in fs::read_dir(from.join(dir)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let ours = !dir.is_empty() || name.to_string_lossy().starts_with("release.");
            if ours && entry.path().is_file() {
                fs::copy(entry.path(), to.join(dir).join(name)).map_err(failed)?;
            }
        }
    }
    Ok(())
}

/// The beginning of what diffoscope says; `None` where it is not installed.
fn diffoscope(one: &Path, other: &Path) -> Option<String> {
    let mut diffoscope = Command::new("diffoscope");
    diffoscope
        .args(["--text", "-", "--max-report-size", "20000"])
        .args([one, other]);
    let output = diffoscope
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = text.lines().take(60).collect();
    Some(lines.join("\n"))
}
