//! From what files under `image/` ask for to the lock that says what they get.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use site::Plan;
use site::plan::Role;

use crate::bundle::Bundle;
use crate::cache::Cache;
use crate::debs;
use crate::error::BuildError;
use crate::lock::{Change, Lock};
use crate::mirror::Mirror;
use crate::payload::Payload;
use crate::places::Places;
use crate::resolve::{Resolver, Wanted};
use crate::spec::{self, BaseSpec};

/// How versions are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// As locked; what the lock lacks is added to it.
    #[default]
    Keep,
    /// Those that the mirror has now.
    Update,
    /// As locked; a lock that lacks something is an error.
    Locked,
}

/// A lock, and what became different in it.
#[derive(Clone, Debug)]
pub struct Locked {
    /// Where it is.
    pub path: PathBuf,
    /// The lock.
    pub lock: Lock,
    /// None if it was as it had to be.
    pub changes: Vec<Change>,
}

/// Brings the lock of a site up to date without building anything.
///
/// # Errors
/// If the mirror cannot be asked, or has not what is asked for.
pub fn lock(
    places: &Places,
    plan: &Plan,
    choice: Choice,
    mirrors: &[String],
    waiting: impl FnOnce(),
) -> Result<Locked, BuildError> {
    let base = spec::base(&places.source)?;
    let cache = Cache::open(&places.cache, waiting)?;
    let path = places.lock.clone();
    let before = Lock::read(&path)?.unwrap_or_default();
    let wanted = wanted(&places.source, places.beside(), plan, &base)?;
    let lock = settle(&cache, &path, &wanted, &base.release, choice, mirrors, None)?;
    Ok(Locked {
        changes: before.changes(&lock),
        path,
        lock,
    })
}

/// The sets of a site: tools, base, and every role that it has.
pub(crate) fn wanted(
    source: &Path,
    beside: &Path,
    plan: &Plan,
    base: &BaseSpec,
) -> Result<Vec<Wanted>, BuildError> {
    let mut sets = vec![
        Wanted {
            set: "tools",
            packages: base.tools.packages.clone(),
            place: spec::base_file(source),
            over_base: false,
        },
        Wanted {
            set: "base",
            packages: [base.packages.as_slice(), std::slice::from_ref(&base.kernel)].concat(),
            place: spec::base_file(source),
            over_base: false,
        },
    ];
    let roles: BTreeSet<Role> = plan.servers.iter().map(|server| server.role).collect();
    for role in roles {
        sets.push(Wanted {
            set: spec::role_name(role),
            packages: [
                spec::role(source, role)?.packages.as_slice(),
                Payload::of(plan, role, beside)?.packages(),
            ]
            .concat(),
            place: spec::role_file(source, role),
            over_base: true,
        });
    }
    Ok(sets)
}

/// Reads the lock, and asks the mirror for what it lacks.
pub(crate) fn settle(
    cache: &Cache,
    path: &Path,
    wanted: &[Wanted],
    release: &str,
    choice: Choice,
    mirrors: &[String],
    bundle: Option<&Bundle>,
) -> Result<Lock, BuildError> {
    let known = Lock::read(path)?;
    let known = match (known, bundle) {
        (None, Some(bundle)) => {
            bundle.lock().write(path)?;
            Some(bundle.lock().clone())
        }
        (known, _) => known,
    };
    let known = known.filter(|lock| lock.release == release || choice == Choice::Locked);
    let complete = |lock: &Lock| wanted.iter().all(|set| lock.has(set.set, &set.packages));
    if let Some(lock) = &known
        && choice != Choice::Update
        && complete(lock)
    {
        return Ok(lock.clone());
    }
    let lacking = |lock: &Lock| {
        let mut sets = wanted.iter();
        sets.find(|set| !lock.has(set.set, &set.packages))
            .map(|set| set.place.clone())
    };
    let empty = Lock::new(release, ARCHITECTURE);
    let known = known.unwrap_or(empty.clone());
    let place = lacking(&known).unwrap_or_default();
    if choice == Choice::Locked {
        return Err(BuildError::NotLocked {
            path: path.to_owned(),
            place,
        });
    }
    if let Some(bundle) = bundle {
        return Err(BuildError::NotInBundle {
            bundle: bundle.file().to_owned(),
            what: format!("the packages that {} asks for", place.display()),
        });
    }
    let mirror = Mirror::new(mirrors, release)?;
    let keep = (choice == Choice::Keep).then_some(&known);
    let resolver = Resolver::open(cache, &mirror, keep, ARCHITECTURE)?;
    let mut lock = match choice {
        Choice::Update => empty,
        Choice::Keep | Choice::Locked => known,
    };
    let names: Vec<&str> = wanted.iter().map(|set| set.set).collect();
    let gone: Vec<String> = (lock.wanted.keys())
        .filter(|set| !names.contains(&set.as_str()))
        .cloned()
        .collect();
    for set in gone {
        lock.remove(&set);
    }
    let debs = debs::dir(cache)?;
    let mut base_is_new = false;
    for set in wanted {
        // Roles stand on the base, and are chosen anew with it.
        if lock.has(set.set, &set.packages) && !(base_is_new && set.over_base) {
            continue;
        }
        let base = if set.over_base {
            lock.set("base")
        } else {
            Vec::new()
        };
        let packages = resolver.resolve(set, &base, &debs)?;
        lock.replace(set.set, &set.packages, packages);
        if set.set == "base" {
            base_is_new = true;
            // What images are dated by: it does not change when a role gets one more package.
            for index in resolver.indices()? {
                lock.note(index);
            }
        }
    }
    lock.write(path)?;
    Ok(lock)
}

/// All images are for this processor.
const ARCHITECTURE: &str = "amd64";

#[cfg(test)]
mod tests;
