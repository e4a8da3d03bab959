//! Time to build all images of a site: from an empty cache, and with nothing changed.

use std::time::Instant;

use build::{Options, Places, ServerImage};
use serde::Serialize;
use site::Plan;

use crate::BenchError;

/// What `bench build` shows. Times in seconds.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Images built.
    pub images: usize,
    /// Everything from an empty cache, packages downloaded included.
    pub cold_seconds: f64,
    /// The same once more.
    pub warm_seconds: f64,
    /// Whether the second build found that there was nothing to do.
    pub nothing_built: bool,
    /// Every image.
    pub sizes: Vec<Size>,
}

/// Size of one image in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    /// The server.
    pub server: String,
    /// What the disk file occupies when fully written.
    pub disk: u64,
    /// The compressed root file system.
    pub root: u64,
    /// Kernel, initrd and the server's own files.
    pub kernel: u64,
}

/// Builds all images twice, in a cache of its own below the repository's `target`.
///
/// # Errors
/// If they do not build.
pub fn measure(source: &std::path::Path, plan: &Plan, jobs: usize) -> Result<Report, BenchError> {
    let scratch = tempfile::Builder::new()
        .prefix("ravelin-bench-")
        .tempdir_in(source.join("target"))
        .map_err(|cause| BenchError::File {
            path: source.join("target"),
            cause,
        })?;
    let places = Places {
        source: source.into(),
        cache: scratch.path().join("cache"),
        state: scratch.path().join("state"),
    };
    let (cold_seconds, _) = build(&places, plan, jobs)?;
    let (warm_seconds, images) = build(&places, plan, jobs)?;
    let size = |image: &ServerImage| Size {
        server: image.server.clone(),
        disk: image.sizes.disk,
        root: image.sizes.root,
        kernel: image.sizes.kernel,
    };
    Ok(Report {
        images: images.len(),
        cold_seconds,
        warm_seconds,
        nothing_built: images.iter().all(|image| !image.built),
        sizes: images.iter().map(size).collect(),
    })
}

fn build(places: &Places, plan: &Plan, jobs: usize) -> Result<(f64, Vec<ServerImage>), BenchError> {
    let begun = Instant::now();
    let pki = build::pki::open(&places.state, plan)
        .map_err(|error| BenchError::Keys(error.to_string()))?;
    let options = Options {
        jobs,
        ..Options::default()
    };
    let images = build::images(places, plan, &pki, &options, &|_| {})?;
    Ok((begun.elapsed().as_secs_f64(), images))
}
