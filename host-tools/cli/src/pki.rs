//! `ravelin pki`: the site's certificates.

use std::{path::Path, process::ExitCode};

use build::{
    Places,
    pki::{self, Entry, PkiError, Purpose, Rotation},
};
use serde_json::{Value, json};
use site::{Plan, plan::Role};

use crate::{
    args::{self, Pki, Rotate},
    failure::{Failure, Message},
    servers,
    site_file::SiteFile,
    source, table,
};

/// Runs one of the commands.
pub fn pki(site: Option<&Path>, command: &Pki) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&source::boards(&root)?)?;
    let places = Places::new(&root, &file.path);
    match command {
        Pki::Show(options) => show(&places.state, &plan, options),
        Pki::Rotate(options) => {
            rotate(&places.state, &plan, options)?;
            match options.deploy {
                true => servers::renew(&places, &plan, &[], &[]),
                false => Ok(ExitCode::SUCCESS),
            }
        }
        Pki::Deploy(options) => servers::renew(&places, &plan, &options.names, &options.at),
    }
}

/// Prints all certificates. The answer is no if one has ended or is about to.
fn show(state: &Path, plan: &Plan, options: &args::Json) -> Result<ExitCode, Failure> {
    let all = pki::list(state, plan).map_err(failure)?;
    let overlapping = pki::is_overlapping(state, plan).map_err(failure)?;
    if options.json {
        let certificates: Vec<Value> = all.iter().map(as_json).collect();
        println!(
            "{:#}",
            json!({ "certificates": certificates, "overlapping": overlapping })
        );
    } else if all.is_empty() {
        println!("There are no certificates yet: `ravelin build` makes them.");
    } else {
        let rows: Vec<Vec<String>> = all.iter().map(row).collect();
        let columns = ["name", "tier", "use", "until", "days", "key", "file"];
        table::print("Certificates", &columns, &rows);
        if overlapping {
            println!("\n{OVERLAP}");
        }
    }
    let well = all.iter().all(|entry| entry.days >= SOON);
    Ok(match well {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(1),
    })
}

/// Makes new certificates.
fn rotate(state: &Path, plan: &Plan, options: &Rotate) -> Result<(), Failure> {
    if options.retire {
        pki::retire(state, plan).map_err(failure)?;
        println!("What was there before the last rotations is no longer trusted. {NEXT}");
        return Ok(());
    }
    let known = |name: &&String| plan.server(name).is_some() || **name == plan.domain;
    if let Some(unknown) = options.names.iter().find(|name| !known(name)) {
        let names = plan.servers.iter().map(|server| server.name.as_str());
        let names: Vec<&str> = names.chain([&*plan.domain]).collect();
        let message = Message::new(format!("nothing has a certificate under `{unknown}`"));
        return Err(Failure::input(
            message.help(format!("the site has {}", names.join(", "))),
        ));
    }
    let rotation = Rotation {
        names: options.names.iter().cloned().collect(),
        roles: options.tiers.iter().copied().collect(),
        authorities: options.intermediates,
        root: options.root,
    };
    // A directory of an earlier version has nothing that could be listed.
    let before = pki::list(state, plan).unwrap_or_default();
    pki::rotate(state, plan, &rotation).map_err(failure)?;
    let after = pki::list(state, plan).map_err(failure)?;
    let is_new = |entry: &&Entry| {
        !(before.iter()).any(|old| old.path == entry.path && old.serial == entry.serial)
    };
    let rows: Vec<Vec<String>> = after.iter().filter(is_new).map(row).collect();
    let columns = ["name", "tier", "use", "until", "days", "key", "file"];
    table::print("New certificates", &columns, &rows);
    println!("\n{NEXT}");
    if pki::is_overlapping(state, plan).map_err(failure)? {
        println!("{OVERLAP}");
    }
    Ok(())
}

fn row(entry: &Entry) -> Vec<String> {
    let key = match (entry.has_key, entry.purpose) {
        (true, _) => "here",
        (false, Purpose::FormerRoot | Purpose::FormerAuthority) => "gone",
        (false, Purpose::Root | Purpose::Authority | Purpose::Leaf(_)) => "away",
    };
    vec![
        entry.name.clone(),
        entry.tier.map_or("-", pki::Tier::name).to_owned(),
        entry.purpose.name().to_owned(),
        entry.date.clone(),
        entry.days.to_string(),
        key.to_owned(),
        entry.path.display().to_string(),
    ]
}

fn as_json(entry: &Entry) -> Value {
    json!({
        "name": entry.name,
        "tier": entry.tier.map(pki::Tier::name),
        "use": entry.purpose.name(),
        "expires": entry.date,
        "days": entry.days,
        "serial": entry.serial,
        "key": entry.has_key,
        "file": entry.path,
    })
}

/// How trouble with certificates ends a command.
pub fn failure(error: PkiError) -> Failure {
    match error {
        PkiError::RootIsAway { .. } | PkiError::OldLayout { .. } | PkiError::Own { .. } => {
            Failure::input(error)
        }
        PkiError::Io { .. } | PkiError::Broken { .. } | PkiError::Make { .. } => {
            Failure::machine(error)
        }
    }
}

/// A tier as people type it.
pub fn tier(text: &str) -> Result<Role, String> {
    let known = Role::ALL.map(Role::name).join(", ");
    let role = Role::ALL.into_iter().find(|role| role.name() == text);
    role.ok_or_else(|| format!("no tier is called `{text}`: use one of {known}"))
}

/// Days before the end of a certificate at which it should long have been replaced.
const SOON: i64 = 14;
const NEXT: &str = "`ravelin pki deploy` gives it to the servers that run; all others get it with their next image.";
const OVERLAP: &str = "The former authorities are still trusted. When every server has been brought up to date, and after \
                       them the appliances, end that with `ravelin pki rotate --retire`.";
