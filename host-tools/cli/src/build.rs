//! `ravelin build`: images for the servers, firmware for the appliances.

use std::{num::NonZero, path::Path, process::ExitCode, thread};

use build::{BuildError, Options, Places, ServerImage, pki};
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
    let firmware = appliances::build(&places, &plan, &chosen, &progress)?;
    let images = if servers.as_ref().is_some_and(Vec::is_empty) {
        Vec::new()
    } else {
        let jobs = options.jobs.map_or_else(jobs, NonZero::get);
        images(
            &places,
            &plan,
            Options {
                only: servers,
                choice: lock::choice(&options.packages, options.refresh),
                mirrors: options.packages.mirrors.clone(),
                jobs,
            },
            &progress,
        )?
        .1
    };
    drop(progress);
    if options.json {
        println!("{:#}", as_json(&firmware, &images));
    } else {
        print(&firmware, &images);
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds images, with the files and secrets of their servers.
pub fn images(
    places: &Places,
    plan: &Plan,
    options: Options,
    progress: &Progress,
) -> Result<(pki::Pki, Vec<ServerImage>), Failure> {
    let pki = pki::open(&places.state, plan).map_err(Failure::machine)?;
    let images = build::images(places, plan, &pki, &options, &|event| progress.show(event));
    let images = images.map_err(|error| match error {
        BuildError::UnknownServer { .. } => Failure::input(error),
        _ => lock::failure(error),
    })?;
    Ok((pki, images))
}

/// As many steps at once as there are processors.
pub fn jobs() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}

/// The appliances and the servers that are asked for; `None` for all servers.
fn choose<'a>(
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

fn as_json(firmware: &[Artifacts], images: &[ServerImage]) -> serde_json::Value {
    let image = |image: &ServerImage| {
        json!({
            "server": image.server,
            "built": image.built,
            "disk": image.disk,
            "bytes": { "disk": image.sizes.disk, "root": image.sizes.root, "kernel": image.sizes.kernel },
        })
    };
    json!({ "appliances": firmware, "servers": images.iter().map(image).collect::<Vec<_>>() })
}
