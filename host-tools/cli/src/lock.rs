//! `ravelin lock`: which Debian packages images are made of.

use std::{path::Path, process::ExitCode};

use build::{BuildError, Change, Choice, Places};
use serde_json::json;

use crate::{args, failure::Failure, progress::Progress, site_file::SiteFile, source, table};

/// Makes, completes or renews the lock, and shows what is different.
pub fn lock(site: Option<&Path>, options: &args::Lock) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&source::boards(&root)?)?;
    let places = Places::new(&root, &file.path);
    let progress = Progress::new();
    let choice = choice(&options.packages, options.update);
    let locked = progress.during("package lock", || {
        let waiting = || progress.line("waiting for another build to end");
        build::lock_packages(&places, &plan, choice, &options.packages.mirrors, waiting)
    });
    drop(progress);
    let locked = locked.map_err(failure)?;
    if options.json {
        let changes: Vec<_> = locked.changes.iter().map(as_json).collect();
        let count = locked.lock.packages.len();
        println!(
            "{:#}",
            json!({ "lock": locked.path, "packages": count, "changes": changes })
        );
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = locked
        .changes
        .iter()
        .map(|change| {
            let version = |text: &str| if text.is_empty() { "-" } else { text }.to_owned();
            vec![
                change.name.clone(),
                version(&change.before),
                version(&change.after),
            ]
        })
        .collect();
    if rows.is_empty() {
        println!("{} is as it was", locked.path.display());
    } else {
        table::print("Packages", &["package", "before", "now"], &rows);
        println!(
            "\n{} packages are locked in {}",
            locked.lock.packages.len(),
            locked.path.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(change: &Change) -> serde_json::Value {
    json!({ "package": change.name, "before": change.before, "now": change.after })
}

/// How versions are chosen, of what was typed.
pub fn choice(options: &args::Packages, update: bool) -> Choice {
    match (options.locked, update) {
        (true, _) => Choice::Locked,
        (false, true) => Choice::Update,
        (false, false) => Choice::Keep,
    }
}

/// What is wrong with files is the operator's, all else this machine's.
pub fn failure(error: BuildError) -> Failure {
    match error {
        BuildError::NoPackage { .. }
        | BuildError::Conflict { .. }
        | BuildError::MirrorLine { .. }
        | BuildError::Lock { .. }
        | BuildError::NotLocked { .. }
        | BuildError::Spec { .. } => Failure::input(error),
        _ => Failure::machine(error),
    }
}
