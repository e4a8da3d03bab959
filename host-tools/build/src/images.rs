//! The OS images of a site's servers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use render::server::HostFile;
use site::Plan;
use site::plan::{Role, Server};

use crate::cache::{Cache, Key};
use crate::disk::{Disk, Sizes};
use crate::error::BuildError;
use crate::mirror::Mirror;
use crate::pki::Pki;
use crate::places::Places;
use crate::programs;
use crate::roots::{Boot, Root};
use crate::spec::{self, BaseSpec};
use crate::trees::{self, Tree};

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these servers, by name; all if `None`.
    pub only: Option<Vec<String>>,
    /// Ask the mirror whether it has newer packages.
    pub refresh: bool,
    /// How many steps run at once.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { only: None, refresh: false, jobs: 2 }
    }
}

/// The image of one server.
#[derive(Clone)]
pub struct ServerImage {
    /// Name of the server.
    pub server: String,
    /// A bootable raw disk. Whoever runs it writes to a copy or an overlay: the next build takes it for unchanged.
    pub disk: PathBuf,
    /// The root of the server's role as a directory tree, without the host files; must not be written to.
    pub root_tree: PathBuf,
    /// What is laid over `/etc`.
    pub host_files: Vec<HostFile>,
    /// How big it is.
    pub sizes: Sizes,
    /// False if it existed and nothing that it is made of has changed.
    pub built: bool,
}

/// What a build is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Another build uses the cache; we wait until it ends.
    Waiting,
    /// What will be built.
    Planned {
        /// In the order in which steps may start.
        steps: Vec<Step>,
    },
    /// A step begins.
    Started(Step),
    /// A step has ended well.
    Finished(Step, Duration),
}

/// A step of a build.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Our own programs are compiled.
    Programs,
    /// The package index is compared with the mirror's.
    Refresh,
    /// The Debian tree with the packaging tools.
    Tools,
    /// The Debian tree that all roles share.
    Base,
    /// Kernel and initrd.
    Boot,
    /// The root of a role.
    Root(Role),
    /// The disk of a server.
    Image(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Programs => f.write_str("programs"),
            Self::Refresh => f.write_str("package index"),
            Self::Tools => f.write_str("packaging tools"),
            Self::Base => f.write_str("base system"),
            Self::Boot => f.write_str("kernel and initrd"),
            Self::Root(role) => write!(f, "role {}", spec::role_name(*role)),
            Self::Image(server) => write!(f, "image {server}"),
        }
    }
}

/// Builds the images of a site's servers; what exists and is made of the same inputs is left alone.
///
/// `progress` is called from several threads.
pub fn images(
    places: &Places,
    plan: &Plan,
    pki: &Pki,
    options: &Options,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<ServerImage>, BuildError> {
    let servers = select(plan, options.only.as_deref())?;
    let cache = Cache::open(&places.cache, || progress(Progress::Waiting))?;
    let state = absolute(&places.state)?;
    let spec = spec::base(&places.source)?;
    let timed = |step: Step, work: &dyn Fn() -> Result<(), BuildError>| {
        progress(Progress::Started(step.clone()));
        let start = Instant::now();
        work()?;
        progress(Progress::Finished(step, start.elapsed()));
        Ok(())
    };

    // What there is to build is known before anything is built: every result is named by its inputs.
    let tools = Tree::tools(&cache, &spec);
    if options.refresh && tools.exists(&cache) {
        timed(Step::Refresh, &|| refresh(&cache, &spec, &tools))?;
    }
    let base = Tree::base(&cache, &spec, &chosen_index(&cache)?);
    let (init, roots) = roots(&cache, places, &spec, &servers, &base, &tools, progress)?;
    let boot = Boot::new(&init, &spec, &base, &tools)?;
    let mut jobs = Vec::new();
    for server in &servers {
        let mut files = render::server::files(plan, server, &pki.material(server))
            .map_err(|cause| BuildError::Render { server: server.name.clone(), cause })?;
        if !files.iter().any(|file| file.path == MACHINE_ID) {
            files.push(machine_id(plan, server));
        }
        let root = &roots[&server.role];
        let disk = Disk::new(&state, &server.name, &files, &spec.cmdline, root, &boot, &tools)?;
        jobs.push((disk, *server, files, root));
    }

    // A missing root is made again even if the disk exists: it is also what `--servers light` runs.
    let stale: Vec<_> = jobs.iter().filter(|(disk, ..)| disk.existing().is_none()).collect();
    let missing: Vec<&Root> = roots.values().filter(|root| !root.exists(&cache)).collect();
    let need_boot = !stale.is_empty() && !boot.exists(&cache);
    let need_trees = need_boot || !missing.is_empty() || !stale.is_empty();
    let trees: Vec<(Step, &Tree)> = [(Step::Tools, &tools), (Step::Base, &base)]
        .into_iter()
        .filter(|(_, tree)| need_trees && !tree.exists(&cache))
        .collect();
    let mut second: Vec<(Step, Option<&Root>)> = Vec::new();
    if need_boot {
        second.push((Step::Boot, None));
    }
    second.extend(missing.into_iter().map(|root| (Step::Root(root.role()), Some(root))));

    let images = stale.iter().map(|(_, server, ..)| Step::Image(server.name.clone()));
    let steps: Vec<Step> = trees.iter().map(|(step, _)| step.clone())
        .chain(second.iter().map(|(step, _)| step.clone()))
        .chain(images)
        .collect();
    progress(Progress::Planned { steps });

    if !trees.is_empty() {
        let mirror = Mirror::of_this_machine(&spec.release);
        parallel(options.jobs, &trees, |(step, tree)| timed(step.clone(), &|| tree.build(&cache, &mirror)))?;
    }
    parallel(options.jobs, &second, |(step, root)| {
        timed(step.clone(), &|| match root {
            Some(root) => root.build(&cache, &base, &tools),
            None => boot.build(&cache, &base, &tools),
        })
    })?;
    parallel(options.jobs, &stale, |(disk, server, _, root)| {
        timed(Step::Image(server.name.clone()), &|| {
            disk.build(&cache, root, &boot, &base, &tools).map(drop)
        })
    })?;

    let built: Vec<String> = stale.iter().map(|(_, server, ..)| server.name.clone()).collect();
    jobs.into_iter()
        .map(|(disk, server, host_files, root)| {
            let sizes = disk.existing().ok_or_else(|| BuildError::Unexpected {
                step: format!("image {}", server.name),
                message: format!("{} was changed while we built", disk.path().display()),
            })?;
            Ok(ServerImage {
                server: server.name.clone(),
                disk: disk.path(),
                root_tree: root.dir(&cache).join("root"),
                host_files,
                sizes,
                built: built.contains(&server.name),
            })
        })
        .collect()
}

fn select<'a>(plan: &'a Plan, only: Option<&[String]>) -> Result<Vec<&'a Server>, BuildError> {
    let Some(only) = only else { return Ok(plan.servers.iter().collect()) };
    for name in only {
        if !plan.servers.iter().any(|server| server.name == *name) {
            let known: Vec<&str> = plan.servers.iter().map(|server| server.name.as_str()).collect();
            return Err(BuildError::UnknownServer { name: name.clone(), known: known.join(", ") });
        }
    }
    Ok(plan.servers.iter().filter(|server| only.contains(&server.name)).collect())
}

/// Compiles our programs; returns where the first program of the boot is, and the root of each role.
fn roots(
    cache: &Cache,
    places: &Places,
    spec: &BaseSpec,
    servers: &[&Server],
    base: &Tree,
    tools: &Tree,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(PathBuf, BTreeMap<Role, Root>), BuildError> {
    let mut roles = BTreeMap::new();
    for server in servers {
        if !roles.contains_key(&server.role) {
            roles.insert(server.role, spec::role(&places.source, server.role)?);
        }
    }
    let mut packages = vec![programs::INIT.to_owned()];
    packages.extend(roles.values().flat_map(|role| role.programs.iter().cloned()));
    packages.sort();
    packages.dedup();
    progress(Progress::Started(Step::Programs));
    let start = Instant::now();
    let paths = programs::build(cache, &places.source, &packages)?;
    progress(Progress::Finished(Step::Programs, start.elapsed()));
    let path_of = |name: &String| {
        let index = packages.iter().position(|package| package == name).expect("all were listed");
        paths[index].clone()
    };
    let mut roots = BTreeMap::new();
    for (role, role_spec) in roles {
        let programs = role_spec.programs.iter().map(path_of).collect();
        let root = Root::new(&places.source, role, spec, role_spec, programs, base, tools)?;
        roots.insert(role, root);
    }
    Ok((path_of(&programs::INIT.to_owned()), roots))
}

/// The package index that the last refresh chose; empty before the first.
fn chosen_index(cache: &Cache) -> Result<String, BuildError> {
    let path = cache.root().join("index");
    match fs::read_to_string(&path) {
        Ok(index) => Ok(index),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(BuildError::io("read", &path, error)),
    }
}

/// Chooses the mirror's package index if it is not the one that the base is of.
fn refresh(cache: &Cache, spec: &BaseSpec, tools: &Tree) -> Result<(), BuildError> {
    let base = Tree::base(cache, spec, &chosen_index(cache)?);
    let current = trees::current_index(cache, tools)?;
    if base.exists(cache) && base.index(cache)? == current {
        return Ok(());
    }
    let path = cache.root().join("index");
    let temporary = cache.root().join("index.new");
    fs::write(&temporary, current).map_err(|error| BuildError::io("write", &temporary, error))?;
    fs::rename(&temporary, &path).map_err(|error| BuildError::io("write", &path, error))
}

/// systemd's name for this server, which must not change from boot to boot.
fn machine_id(plan: &Plan, server: &Server) -> HostFile {
    let id = Key::new("machine-id").with(&plan.name).with(&server.name).id();
    HostFile { path: MACHINE_ID.to_owned(), mode: 0o444, bytes: (id + "\n").into_bytes() }
}

fn absolute(path: &Path) -> Result<PathBuf, BuildError> {
    std::path::absolute(path).map_err(|error| BuildError::io("find", path, error))
}

/// Runs `work` on each item, a few at a time; after a failure no further item is begun.
fn parallel<T: Sync>(
    jobs: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<(), BuildError> + Sync,
) -> Result<(), BuildError> {
    let queue = Mutex::new(items.iter());
    let stop = AtomicBool::new(false);
    let first_error = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let next = lock(&queue).next();
                    let Some(item) = next else { return };
                    if let Err(error) = work(item) {
                        stop.store(true, Ordering::Relaxed);
                        lock(&first_error).get_or_insert(error);
                    }
                }
            });
        }
    });
    match lock(&first_error).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

const MACHINE_ID: &str = "/etc/machine-id";

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn every_item_is_done_once_and_none_after_a_failure() {
        let done = AtomicUsize::new(0);
        let items: Vec<usize> = (1..=100).collect();
        parallel(3, &items, |item| {
            done.fetch_add(*item, Ordering::Relaxed);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 5050);

        let begun = AtomicUsize::new(0);
        let failed = parallel(1, &items, |item| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *item < 5 { Ok(()) } else { Err(BuildError::Unexpected { step: "x".into(), message: "y".into() }) }
        });
        assert_eq!(failed.unwrap_err().to_string(), "x: y");
        assert_eq!(begun.into_inner(), 5);
        parallel(2, &[] as &[u8], |_| Ok(())).unwrap();
    }
}
