//! `ravelin build`: images for the servers, firmware for the appliances.

use std::{num::NonZero, path::Path, process::ExitCode, thread};

use build::{BuildError, Bundle, Options, Places, ServerImage, Verification, pki};
use serde_json::json;
use site::{Plan, plan::Appliance};

use crate::{
    appliances::{self, Artifacts},
    args,
    failure::{Failure, Message},
    lock,
    progress::Progress,
    site_file::SiteFile,
    source, table,
};

/// Builds what is named, or everything.
pub fn build(site: Option<&Path>, options: &args::Build) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&source::boards(&root)?)?;
    let places = Places::new(&root, &file.path);
    let (chosen, servers) = choose(&plan, &options.only)?;
    let progress = Progress::new();
    let bundle = match &options.bundle {
        Some(file) => Some(
            progress
                .during("bundle", || Bundle::open(&places, file))
                .map_err(lock::failure)?,
        ),
        None => None,
    };
    let firmware = appliances::build(&places, &plan, &chosen, bundle.as_ref(), &progress)?;
    let mut verification = None;
    let images = if servers.as_ref().is_some_and(Vec::is_empty) {
        Vec::new()
    } else {
        let defaults = Options::default();
        let wanted = Options {
            only: servers,
            choice: lock::choice(&options.packages, options.refresh),
            mirrors: options.packages.mirrors.clone(),
            bundle,
            jobs: options.jobs.map_or_else(jobs, NonZero::get),
            cache_max: options.room.cache_max.unwrap_or(defaults.cache_max),
        };
        let (pki, images) = images(&places, &plan, wanted.clone(), &progress)?;
        if options.verify {
            progress.line("once more, from nothing");
            let show = |event| progress.show(event);
            let again = build::verify(&places, &plan, &pki, &wanted, &images, &show);
            verification = Some(again.map_err(lock::failure)?);
        }
        images
    };
    drop(progress);
    if options.json {
        let mut report = as_json(&firmware, &images);
        if let Some(verification) = &verification {
            report["verification"] = json!(verification);
        }
        println!("{report:#}");
    } else {
        print(&firmware, &images);
        if let Some(verification) = &verification {
            print_verification(verification);
        }
    }
    let same = verification.is_none_or(|verification| verification.differences.is_empty());
    Ok(if same {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Builds images, with the files and secrets of their servers.
pub fn images(
    places: &Places,
    plan: &Plan,
    options: Options,
    progress: &Progress,
) -> Result<(pki::Pki, Vec<ServerImage>), Failure> {
    let pki = pki::open(&places.state, plan).map_err(crate::pki::failure)?;
    if let Some(warning) = pki.warning() {
        eprintln!("warning: {warning}");
    }
    let images = build::images(places, plan, &pki, &options, &|event| progress.show(event));
    let images = images.map_err(|error| match error {
        BuildError::UnknownServer { .. } => Failure::input(error),
        _ => lock::failure(error),
    })?;
    build::write_known_hosts(&places.state, plan).map_err(Failure::machine)?;
    Ok((pki, images))
}

/// As many steps at once as there are processors.
pub fn jobs() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}

/// The appliances and the servers that are asked for; `None` for all servers.
pub fn choose<'a>(
    plan: &'a Plan,
    only: &[String],
) -> Result<(Vec<&'a Appliance>, Option<Vec<String>>), Failure> {
    if only.is_empty() {
        return Ok((plan.appliances.iter().collect(), None));
    }
    let is_appliance = |name: &&String| {
        plan.appliances
            .iter()
            .any(|appliance| appliance.name == **name)
    };
    let is_server = |name: &&String| plan.servers.iter().any(|server| server.name == **name);
    if let Some(unknown) = only
        .iter()
        .find(|name| !is_appliance(name) && !is_server(name))
    {
        let names = plan
            .appliances
            .iter()
            .map(|a| a.name.as_str())
            .chain(plan.servers.iter().map(|s| s.name.as_str()));
        let help = format!("the site has {}", names.collect::<Vec<_>>().join(", "));
        return Err(Failure::input(
            Message::new(format!("the site has no machine `{unknown}`")).help(help),
        ));
    }
    let appliances = plan
        .appliances
        .iter()
        .filter(|appliance| only.contains(&appliance.name))
        .collect();
    Ok((
        appliances,
        Some(only.iter().filter(is_server).cloned().collect()),
    ))
}

fn print(firmware: &[Artifacts], images: &[ServerImage]) {
    let state = |built: bool| if built { "built" } else { "unchanged" }.to_owned();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for appliance in firmware {
        let path = appliance.elf.as_ref().unwrap_or(&appliance.config);
        rows.push(vec![
            appliance.name.clone(),
            state(appliance.built),
            appliance.size(),
            path.display().to_string(),
        ]);
    }
    for image in images {
        let megabytes = format!("{} MB", image.sizes.disk / 1_000_000);
        rows.push(vec![
            image.server.clone(),
            state(image.built),
            megabytes,
            image.disk.display().to_string(),
        ]);
    }
    table::print("Artifacts", &["machine", "state", "size", "file"], &rows);
    if images.iter().all(|image| !image.built) && firmware.iter().all(|firmware| !firmware.built) {
        println!("\nNothing has changed since the last build; there was nothing to do.");
    }
}

fn print_verification(verification: &Verification) {
    let Verification {
        images,
        differences,
        details,
    } = verification;
    if differences.is_empty() {
        println!("\nBuilt once more from nothing: {images} images, the same bit for bit.");
        return;
    }
    let rows: Vec<Vec<String>> = differences
        .iter()
        .map(|difference| {
            let file = difference.file.clone();
            vec![
                difference.server.clone(),
                difference.partition.clone(),
                difference.offset.to_string(),
                file.unwrap_or_else(|| "no file: the root's tree is the same".to_owned()),
            ]
        })
        .collect();
    let heading = format!("{} of {images} images are not the same", differences.len());
    let columns = [
        "server",
        "partition",
        "byte of the disk",
        "first file that differs",
    ];
    table::print(&heading, &columns, &rows);
    match details {
        Some(details) => println!("\n{details}"),
        None => println!(
            "\ndiffoscope, if it is installed, tells more (Debian package diffoscope-minimal)"
        ),
    }
}

fn as_json(firmware: &[Artifacts], images: &[ServerImage]) -> serde_json::Value {
    let image = |image: &ServerImage| {
        json!({
            "server": image.server,
            "built": image.built,
            "disk": image.disk,
            "sbom": image.sbom,
            "bytes": { "disk": image.sizes.disk, "root": image.sizes.root, "kernel": image.sizes.kernel },
        })
    };
    json!({ "appliances": firmware, "servers": images.iter().map(image).collect::<Vec<_>>() })
}
