//! Time to build the images of a site, beside what others need for one of them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use build::{Bundle, Options, Places, ServerImage, maintenance};
use serde::Serialize;
use site::Plan;
use site::plan::Role;

use crate::BenchError;
use crate::boots::{self, Boot};
use crate::goals::{Goal, Sense};
use crate::mkosi;

/// What `bench build` shows. Times in seconds; packages are downloaded, and our own programs compiled, before.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Images built.
    pub images: usize,
    /// The image of the first balancer, from an empty cache.
    pub one_seconds: f64,
    /// All images, from an empty cache.
    pub cold_seconds: f64,
    /// All images once more, after one line of the site file was changed that goes into each of them.
    pub change_seconds: f64,
    /// The same once more.
    pub warm_seconds: f64,
    /// Whether the last build found that there was nothing to do.
    pub nothing_built: bool,
    /// Every image.
    pub sizes: Vec<Size>,
    /// Each role in an emulated machine.
    pub boots: Vec<Boot>,
    /// Others on the same packages.
    pub peers: Vec<Peer>,
    /// Why a peer is missing, and what there is to say of one.
    pub notes: Vec<String>,
    /// What was aimed at.
    pub goals: Vec<Goal>,
    /// Processes that wanted a processor when it began and ended: a busy machine makes all of this slower.
    pub load: [f64; 2],
}

/// Size of one image in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// The server.
    pub server: String,
    /// The disk, as the server sees it.
    pub disk: u64,
    /// What of it is not empty.
    pub written: u64,
    /// The compressed root file system.
    pub root: u64,
    /// Kernel, initrd and the server's own files.
    pub kernel: u64,
}

/// One image made by another program.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// The program, with its version.
    pub who: String,
    /// Seconds, with all packages downloaded.
    pub seconds: f64,
    /// The disk in bytes.
    pub disk: u64,
    /// What of it is not empty.
    pub written: u64,
}

/// Builds in caches of its own below the repository's `target`, and boots one server of each role if `boots`; `busy` is
/// told what is being done.
///
/// # Errors
/// If the images do not build.
pub fn measure(
    source: &Path,
    plan: &Plan,
    jobs: usize,
    boots: bool,
    busy: &dyn Fn(&str),
) -> Result<Report, BenchError> {
    let target = source.join("target");
    let file = |path: &Path, cause| BenchError::File {
        path: path.to_owned(),
        cause,
    };
    std::fs::create_dir_all(&target).map_err(|cause| file(&target, cause))?;
    let scratch = tempfile::Builder::new()
        .prefix("ravelin-bench-")
        .tempdir_in(&target)
        .map_err(|cause| file(&target, cause))?;
    let places = |cache: &str| Places {
        source: source.into(),
        cache: scratch.path().join(cache),
        state: scratch.path().join("site/.ravelin"),
        lock: scratch.path().join("site/ravelin.lock"),
    };
    let state = places("").state;
    std::fs::create_dir_all(&state).map_err(|cause| file(&state, cause))?;
    let begun = load();

    busy("downloading packages and compiling programs");
    let bundle = scratch.path().join("bundle.tar");
    Bundle::write(&places("warm"), plan, &Options::default(), &[], &bundle)?;
    let options = |cache: &str, only: Option<Vec<String>>| -> Result<Options, BenchError> {
        Ok(Options {
            only,
            jobs,
            bundle: Some(Bundle::open(&places(cache), &bundle)?),
            ..Options::default()
        })
    };

    busy("one image from nothing");
    let balancer = plan
        .servers
        .iter()
        .find(|server| server.role == Role::Haproxy);
    let balancer = balancer.unwrap_or(&plan.servers[0]);
    let only = options("one", Some(vec![balancer.name.clone()]))?;
    let (one_seconds, _) = build(&places("one"), plan, &only)?;
    // Room for what follows.
    maintenance::shrink(&places("one"), 0, || ())?;

    busy("all images from nothing");
    let all = options("all", None)?;
    let (cold_seconds, _) = build(&places("all"), plan, &all)?;
    busy("all images after a change");
    let mut changed = plan.clone();
    changed.name.push_str("-2");
    let (change_seconds, _) = build(&places("all"), &changed, &all)?;
    busy("nothing changed");
    let (warm_seconds, images) = build(&places("all"), &changed, &all)?;
    let sizes = images.iter().map(size).collect::<std::io::Result<Vec<_>>>();
    let sizes = sizes.map_err(|cause| file(&state, cause))?;
    let boots = match boots {
        true => boot_each(&places("all"), plan, &all, scratch.path(), busy)?,
        false => Vec::new(),
    };
    maintenance::shrink(&places("all"), 0, || ())?;

    busy("mkosi");
    let mut notes = Vec::new();
    let mut peers = Vec::new();
    match mkosi::measure(source, balancer.role) {
        Ok(peer) => peers.push(peer),
        Err(why) => notes.push(format!("mkosi: {why}")),
    }
    notes.push(DEBOS.to_owned());
    let ours = sizes.iter().find(|size| size.server == balancer.name);
    Ok(Report {
        images: images.len(),
        one_seconds,
        cold_seconds,
        change_seconds,
        warm_seconds,
        nothing_built: images.iter().all(|image| !image.built),
        goals: goals(
            cold_seconds,
            change_seconds,
            warm_seconds,
            ours,
            peers.first(),
        ),
        sizes,
        boots,
        peers,
        notes,
        load: [begun, load()],
    })
}

fn boot_each(
    places: &Places,
    plan: &Plan,
    options: &Options,
    scratch: &Path,
    busy: &dyn Fn(&str),
) -> Result<Vec<Boot>, BenchError> {
    busy("images to boot");
    let plan = boots::plan(plan);
    let (_, images) = build(places, &plan, options)?;
    let mut all = Vec::new();
    for server in boots::one_of_each(&plan) {
        busy(&format!(
            "booting {} with less and less memory",
            server.name
        ));
        if let Some(image) = images.iter().find(|image| image.server == server.name) {
            all.push(boots::measure(server, image, scratch)?);
        }
    }
    Ok(all)
}

fn goals(cold: f64, change: f64, warm: f64, ours: Option<&Size>, peer: Option<&Peer>) -> Vec<Goal> {
    let goal = |what: &str, measured: f64, goal: f64| Goal {
        what: what.to_owned(),
        measured,
        goal,
        sense: Sense::AtMost,
        met: measured <= goal,
    };
    let mut goals = vec![
        goal("all images after a one-line change, seconds", change, 5.0),
        goal("nothing changed, seconds", warm, 1.0),
    ];
    if let Some(peer) = peer {
        let one = peer.seconds;
        goals.push(goal(
            "all images from nothing, in times of mkosi's for one",
            cold / one,
            2.0,
        ));
        if let Some(ours) = ours {
            let [ours, theirs] = [ours.written, peer.written].map(|bytes| bytes as f64 / 1e6);
            goals.push(goal(
                "the balancer's image, MB written, beside mkosi's",
                ours,
                theirs,
            ));
        }
    }
    goals
}

fn size(image: &ServerImage) -> std::io::Result<Size> {
    Ok(Size {
        server: image.server.clone(),
        disk: image.sizes.disk,
        written: std::fs::metadata(&image.disk)?.blocks() * 512,
        root: image.sizes.root,
        kernel: image.sizes.kernel,
    })
}

fn build(
    places: &Places,
    plan: &Plan,
    options: &Options,
) -> Result<(f64, Vec<ServerImage>), BenchError> {
    let begun = Instant::now();
    let pki = build::pki::open(&places.state, plan)
        .map_err(|error| BenchError::Keys(error.to_string()))?;
    let images = build::images(places, plan, &pki, options, &|_| {})?;
    Ok((begun.elapsed().as_secs_f64(), images))
}

/// The average of the last minute.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_whitespace().next();
    first
        .and_then(|first| first.parse().ok())
        .unwrap_or_default()
}

const DEBOS: &str = "debos is not measured: it boots a virtual machine of its own, which needs KVM, or loop devices without one";
