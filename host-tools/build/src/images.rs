//! The OS images of a site's servers.

use std::collections::btree_map::{BTreeMap, Entry};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use render::server::HostFile;
use site::Plan;
use site::plan::{Role, Server};

use crate::boot_keys::BootKeys;
use crate::bundle::Bundle;
use crate::cache::{Cache, Key};
use crate::debs::{self, Supply};
use crate::disk::{Disk, Sizes};
use crate::error::BuildError;
use crate::host::Host;
use crate::lock::Lock;
use crate::operator;
use crate::packages::{self, Choice};
use crate::payload::{self, Payload};
use crate::pki::Pki;
use crate::places::Places;
use crate::programs::{INIT, Programs};
use crate::progress::{Progress, Step};
use crate::recipes::Recipes;
use crate::release;
use crate::role_image::{Release, RoleImage};
use crate::roots::{Boot, Root};
use crate::sbom;
use crate::secrets;
use crate::spec::{self, BaseSpec};
use crate::ssh;
use crate::trees::Tree;

/// What to build, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only these servers, by name; all if `None`.
    pub only: Option<Vec<String>>,
    /// How versions of packages are chosen.
    pub choice: Choice,
    /// Where they come from, as lines of a `sources.list`; none for what this machine's apt uses.
    pub mirrors: Vec<String>,
    /// An offline bundle, from which everything comes instead.
    pub bundle: Option<Bundle>,
    /// Bytes that the cache may keep; what was not used for longest goes first.
    pub cache_max: u64,
    /// How many steps run at once.
    pub jobs: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: None,
            choice: Choice::Keep,
            mirrors: Vec::new(),
            bundle: None,
            cache_max: CACHE_MAX,
            jobs: 2,
        }
    }
}

/// The image of one server.
#[derive(Clone)]
pub struct ServerImage {
    /// Name of the server.
    pub server: String,
    /// A bootable raw disk. Whoever runs it writes to a copy or an overlay: the next build takes it for unchanged.
    pub disk: PathBuf,
    /// The image of the server's role: the same disk without what makes the server itself.
    pub role_disk: PathBuf,
    /// The kernel image of the role, and where its root lies on the role's disk.
    pub release: Release,
    /// What makes the server itself, signed.
    pub identity: PathBuf,
    /// The root of the server's role as a directory tree, without the host files; must not be written to.
    pub root_tree: PathBuf,
    /// What is laid over `/etc`.
    pub host_files: Vec<HostFile>,
    /// How big it is.
    pub sizes: Sizes,
    /// What is in it, in CycloneDX.
    pub sbom: PathBuf,
    /// False if it existed and nothing that it is made of has changed.
    pub built: bool,
    /// While it is there, no other build makes room in the cache at the cost of the tree.
    _in_use: Option<Arc<File>>,
}

impl ServerImage {
    /// What a server that runs is sent to become this one.
    #[must_use]
    pub fn update(&self) -> update::client::Release {
        let slice = |(offset, length)| update::client::Slice {
            path: self.release.disk.clone(),
            offset,
            length,
        };
        update::client::Release {
            root_hash: self.release.root_hash.clone(),
            root: self.release.root.map(slice),
            kernel: self.release.kernel.clone(),
            identity: self.identity.clone(),
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
    let spec = spec::base(&places.source)?;
    let mut roles = BTreeMap::new();
    let mut payloads = BTreeMap::new();
    let mut host_files = Vec::new();
    for server in &servers {
        if let Entry::Vacant(vacant) = roles.entry(server.role) {
            let payload = Payload::of(plan, server.role, places.beside())?;
            vacant.insert(payload.applied(spec::role(&places.source, server.role)?));
            payloads.insert(server.role, payload);
        }
        host_files.push(files(places, plan, pki, server)?);
    }
    let cache = &Cache::open(&places.cache, || progress(Progress::Waiting))?;
    let run = |jobs: Vec<Job>| run(options.jobs, &jobs, progress);

    // Results are named by what they are made of. Of that, only our own programs may have to be made to be known.
    let lock = &settle(cache, places, plan, &spec, options, &run)?;
    let recipes = &Recipes::default();
    let privilege = cache.sandbox().privilege();
    let [tools, base] = &["tools", "base"].map(|set| Tree::new(privilege, recipes, set, lock));
    let supply = match &options.bundle {
        Some(bundle) => Supply::Bundle(bundle.file()),
        None => Supply::Mirror {
            lines: &options.mirrors,
            release: &spec.release,
        },
    };
    let programs = &Programs::new(
        cache,
        &places.source,
        &spec,
        roles.values(),
        options.bundle.as_ref(),
    )?;
    let mut jobs = vec![job(Step::Programs, || programs.build(cache))];
    let mut planned = Vec::new();
    for (step, tree) in [(Step::Base, base), (Step::Tools, tools)] {
        if !tree.exists(cache) {
            planned.push(step.clone());
            jobs.push(job(step, || {
                debs::fetch(cache, tree.packages(), supply)?;
                tree.build(cache)
            }));
        }
    }
    if !planned.is_empty() {
        progress(Progress::Planned {
            steps: planned.clone(),
        });
    }
    run(jobs)?;

    let boot = &Boot::new(recipes, &programs.path(INIT), &spec, base, tools)?;
    let mut roots = BTreeMap::new();
    for (role, role_spec) in roles {
        let programs = (spec.programs.iter())
            .chain(&role_spec.programs)
            .map(|name| programs.path(name))
            .collect();
        roots.insert(
            role,
            Root::new(
                &places.source,
                recipes,
                role,
                &spec,
                role_spec,
                &lock.set(spec::role_name(role)),
                programs,
                payloads.remove(&role).unwrap_or_default(),
                base,
                tools,
            )?,
        );
    }
    let key = &release::public(&places.state)?;
    let state = &places.state;
    let boot_keys = &BootKeys::open(state, &plan.name, cache, recipes, tools)?;
    let role_images: BTreeMap<_, _> = roots
        .iter()
        .map(|(role, root)| {
            let spec = (spec.cmdline.as_str(), root.spec());
            let image = RoleImage::new(state, recipes, spec, (key, boot_keys), root, boot, tools);
            (*role, image)
        })
        .collect();
    let hosts: Vec<Host> = servers
        .iter()
        .zip(&host_files)
        .map(|(server, files)| Host::new(state, server, files, key))
        .collect();
    let disks: Vec<Disk> = servers
        .iter()
        .zip(&hosts)
        .map(|(server, host)| Disk::new(state, &server.name, &role_images[&server.role], host))
        .collect();

    // A missing root is made again even if the disks exist: it is also what `--servers light` runs.
    let mut middle = Vec::new();
    for root in roots.values().filter(|root| !root.exists(cache)) {
        middle.push(job(Step::Root(root.role()), || {
            debs::fetch(cache, &root.packages().iter().collect::<Vec<_>>(), supply)?;
            let ours = [spec.programs.as_slice(), root.programs()].concat();
            let described = programs.described(&ours)?;
            root.build(cache, base, tools, &described)
        }));
    }
    let mut last = Vec::new();
    for image in role_images.values() {
        if image.existing().is_none() {
            let root = &roots[&image.role()];
            last.push(job(Step::RoleImage(image.role()), || {
                image.build(cache, root, boot, base, tools)
            }));
        }
    }
    if !last.is_empty() && !boot.exists(cache) {
        middle.push(job(Step::Boot, || boot.build(cache, base, tools)));
    }
    let stale: Vec<bool> = disks.iter().map(|disk| disk.existing().is_none()).collect();
    let mut own = Vec::new();
    for ((disk, server), _) in disks
        .iter()
        .zip(&servers)
        .zip(&stale)
        .filter(|(_, stale)| **stale)
    {
        own.push(job(Step::Image(server.name.clone()), || disk.build()));
    }
    let steps = middle.iter().chain(&last).chain(&own);
    planned.extend(steps.map(|job| job.step.clone()));
    progress(Progress::Planned { steps: planned });
    run(middle)?;
    run(last)?;
    run(own)?;

    let mut used: Vec<PathBuf> = roots.values().map(|root| root.dir(cache)).collect();
    used.extend([boot.dir(cache), base.dir(cache), tools.dir(cache)]);
    used.push(programs.dir().to_owned());
    // The packages, too: mirrors delete them sooner than sites stop needing them.
    used.extend(
        lock.packages
            .iter()
            .map(|package| debs::path(cache, package)),
    );
    for entry in &used {
        cache.touch(entry);
    }
    cache.shrink(options.cache_max, &used)?;

    let mut images = Vec::new();
    for ((((server, disk), host), host_files), built) in servers
        .iter()
        .zip(&disks)
        .zip(&hosts)
        .zip(host_files)
        .zip(stale)
    {
        let sizes = disk.existing().ok_or_else(|| BuildError::Unexpected {
            step: format!("image {}", server.name),
            message: format!("{} was changed while we built", disk.path().display()),
        })?;
        let root_dir = roots[&server.role].dir(cache);
        let sbom = disk.path().with_file_name(sbom::NAME);
        sbom::place(&roots[&server.role].bill(cache), &sbom)?;
        images.push(ServerImage {
            _in_use: Cache::in_use(&root_dir),
            server: server.name.clone(),
            disk: disk.path(),
            role_disk: role_images[&server.role].path(),
            release: role_images[&server.role].release()?,
            identity: host.path(),
            root_tree: root_dir.join("root"),
            host_files,
            sizes,
            sbom,
            built,
        });
    }
    Ok(images)
}

/// What makes servers themselves, and nothing else; says where it is. An image is not needed for it.
///
/// # Errors
/// If something that belongs to it cannot be read, or it cannot be signed.
pub fn identities(
    places: &Places,
    plan: &Plan,
    pki: &Pki,
    only: Option<&[String]>,
) -> Result<Vec<(String, PathBuf)>, BuildError> {
    let key = release::public(&places.state)?;
    let mut identities = Vec::new();
    for server in select(plan, only)? {
        let files = files(places, plan, pki, server)?;
        let host = Host::new(&places.state, server, &files, &key);
        host.archive()?;
        identities.push((server.name.clone(), host.path()));
    }
    Ok(identities)
}

pub(crate) fn select<'a>(
    plan: &'a Plan,
    only: Option<&[String]>,
) -> Result<Vec<&'a Server>, BuildError> {
    let Some(only) = only else {
        return Ok(plan.servers.iter().collect());
    };
    for name in only {
        if !plan.servers.iter().any(|server| server.name == *name) {
            let known: Vec<&str> = plan
                .servers
                .iter()
                .map(|server| server.name.as_str())
                .collect();
            return Err(BuildError::UnknownServer {
                name: name.clone(),
                known: known.join(", "),
            });
        }
    }
    Ok(plan
        .servers
        .iter()
        .filter(|server| only.contains(&server.name))
        .collect())
}

/// What is laid over a server's `/etc`.
fn files(
    places: &Places,
    plan: &Plan,
    pki: &Pki,
    server: &Server,
) -> Result<Vec<HostFile>, BuildError> {
    let mut material = pki.material(server);
    material.sumo_url = sink(places, plan, server)?;
    let email = plan.monitoring.email.as_ref();
    if let Some(email) = email.filter(|_| server.role == Role::Monitor) {
        material.mail = Some(secrets::mail(&places.state, email)?);
    }
    if plan.ssh.is_some() {
        material.ssh_host_key = Some(ssh::host_key(&places.state, server)?.private);
    }
    let mut files =
        render::server::files(plan, server, &material).map_err(|cause| BuildError::Render {
            server: server.name.clone(),
            cause,
        })?;
    // systemd's name for this server, which must not change from boot to boot.
    let id = Key::new("machine-id")
        .with(&plan.name)
        .with(&server.name)
        .id();
    files.push(HostFile {
        path: "/etc/machine-id".to_owned(),
        mode: 0o444,
        bytes: (id + "\n").into_bytes(),
    });
    files.extend(payload::secrets(plan, server.role, places.beside())?);
    files.extend(operator::files(&places.state, plan, server)?);
    Ok(files)
}

/// The secret of the sink that the monitor ships to, if the site has one.
fn sink(places: &Places, plan: &Plan, server: &Server) -> Result<Option<String>, BuildError> {
    let sumo = plan.monitoring.sumo.as_ref();
    let sumo = sumo.filter(|_| server.role == Role::Monitor);
    sumo.map(|sumo| Ok(secrets::url(&places.state, &sumo.url_file)?))
        .transpose()
}

/// The lock of the site, made or completed if it has to be.
fn settle(
    cache: &Cache,
    places: &Places,
    plan: &Plan,
    spec: &BaseSpec,
    options: &Options,
    run: &dyn Fn(Vec<Job>) -> Result<(), BuildError>,
) -> Result<Lock, BuildError> {
    let path = &places.lock;
    let wanted = packages::wanted(&places.source, places.beside(), plan, spec)?;
    let settle = |choice| {
        let (release, mirrors) = (&spec.release, &options.mirrors);
        packages::settle(
            cache,
            path,
            &wanted,
            release,
            choice,
            mirrors,
            options.bundle.as_ref(),
        )
    };
    // Only if the mirror has to be asked, there is a step to show.
    match settle(Choice::Locked) {
        Err(BuildError::NotLocked { .. }) if options.choice != Choice::Locked => {}
        lock if options.choice != Choice::Update => return lock,
        _ => {}
    }
    let lock = OnceLock::new();
    run(vec![job(Step::Lock, || {
        let chosen = settle(options.choice)?;
        lock.get_or_init(|| chosen);
        Ok(())
    })])?;
    lock.into_inner().map_or_else(|| settle(Choice::Locked), Ok)
}

/// A step and how it is done.
struct Job<'a> {
    step: Step,
    work: Box<dyn Fn() -> Result<(), BuildError> + Sync + 'a>,
}

fn job<'a>(step: Step, work: impl Fn() -> Result<(), BuildError> + Sync + 'a) -> Job<'a> {
    Job {
        step,
        work: Box::new(work),
    }
}

/// Runs steps that do not need each other.
fn run(jobs: usize, steps: &[Job], progress: &(dyn Fn(Progress) + Sync)) -> Result<(), BuildError> {
    parallel(jobs, steps, |job| {
        progress(Progress::Started(job.step.clone()));
        let start = Instant::now();
        (job.work)()?;
        progress(Progress::Finished(job.step.clone(), start.elapsed()));
        Ok(())
    })
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
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What the cache may grow to unless somebody says otherwise: a few sites.
const CACHE_MAX: u64 = 20_000_000_000;

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
            if *item < 5 {
                Ok(())
            } else {
                Err(BuildError::Unexpected {
                    step: "x".into(),
                    message: "y".into(),
                })
            }
        });
        assert_eq!(failed.unwrap_err().to_string(), "x: y");
        assert_eq!(begun.into_inner(), 5);
        parallel(2, &[] as &[u8], |_| Ok(())).unwrap();
    }
}
