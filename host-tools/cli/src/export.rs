//! `ravelin export`: the configuration of other software that takes part in the site.

use std::{path::Path, process::ExitCode};

use migrate::{
    conf::{self, NoFiles},
    export::{self, ExportError, Interfaces},
    model::Keepalived,
};
use serde_json::json;

use crate::{
    args::{Export, ExportKeepalived, Side},
    failure::{Failure, Message},
    import,
    site_file::SiteFile,
    source,
};

/// Prints a configuration, and on stderr what is not in it.
pub fn export(site: Option<&Path>, options: &Export) -> Result<ExitCode, Failure> {
    let Export::Keepalived(options) = options;
    let boards = source::boards(&source::root()?)?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&boards)?;
    let mut interfaces = Interfaces::default();
    for (side, name) in &options.ports {
        match side {
            Side::Wan => interfaces.wan.clone_from(name),
            Side::Lan | Side::Trunk => interfaces.lan.clone_from(name),
        }
    }
    let export = export::keepalived(&plan, &options.name, &interfaces).map_err(|error| {
        let ExportError::NoSuchAppliance { known, .. } = &error;
        let help = format!("its appliances are {}", known.join(" and "));
        Failure::input(Message::new(error.to_string()).help(help))
    })?;
    if let Some(path) = &options.check {
        return check(&file, options, path, &export.conf);
    }
    if options.json {
        println!(
            "{:#}",
            json!({ "conf": export.conf, "missing": export.missing })
        );
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", export.conf);
    eprintln!("\nNot in there:");
    for missing in &export.missing {
        eprintln!("  {}: {}", missing.what, missing.why);
    }
    eprintln!();
    Ok(ExitCode::SUCCESS)
}

/// Compares a machine's configuration with the one that it should have, as far as VRRP is concerned.
fn check(
    file: &SiteFile,
    options: &ExportKeepalived,
    path: &Path,
    conf: &str,
) -> Result<ExitCode, Failure> {
    let expected = conf::read(Path::new(&options.name), conf, None, &NoFiles);
    let expected = Keepalived::of(&expected.map_err(Failure::input)?);
    let found = Keepalived::of(&import::statements(path, options.id.as_deref())?);
    let notes = migrate::disagreements(&expected, &found, &path.display().to_string());
    if options.json {
        println!(
            "{:#}",
            json!({ "good": notes.is_empty(), "disagreements": notes })
        );
        return Ok(ExitCode::from(u8::from(!notes.is_empty())));
    }
    for note in &notes {
        eprintln!("{}: {}: {}", note.place, note.what, note.why);
    }
    if notes.is_empty() {
        println!(
            "{} agrees with {} about {}",
            path.display(),
            file.path.display(),
            options.name
        );
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::no(
        Message::new(format!(
            "{} and {} disagree about {}",
            path.display(),
            file.path.display(),
            options.name
        ))
        .help(format!(
            "`ravelin export keepalived {}` writes the configuration that it should have",
            options.name
        )),
    ))
}
