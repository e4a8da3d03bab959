//! `ravelin import`: from keepalived's configuration to a site file.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use migrate::{
    conf::{self, Files, Statement},
    import::Node,
    model::{Keepalived, Kind, Note},
};
use serde_json::json;

use crate::{
    args::Import,
    failure::{Failure, Message},
};

/// Prints a site file, and on stderr what is not in it.
pub fn import(options: &Import) -> Result<ExitCode, Failure> {
    let ids = options.ids.as_slice();
    let inputs: Vec<(&PathBuf, Option<&str>)> = match (&options.files[..], ids) {
        (files, []) => files.iter().map(|file| (file, None)).collect(),
        ([file], [_, _]) => ids.iter().map(|id| (file, Some(id.as_str()))).collect(),
        (files, ids) if files.len() == ids.len() => {
            let ids = ids.iter().map(|id| Some(id.as_str()));
            files.iter().zip(ids).collect()
        }
        _ => {
            return Err(Failure::input(
                Message::new("each machine needs a --config-id, or none does").help(
                    "give --config-id once for each file, or twice if both machines share one",
                ),
            ));
        }
    };
    let mut nodes: Vec<Node> = Vec::new();
    for (position, (path, id)) in inputs.into_iter().enumerate() {
        let keepalived = Keepalived::of(&statements(path, id)?);
        let own = keepalived.router_id.as_deref().filter(|name| is_name(name));
        let taken = |name: &str| nodes.iter().any(|node| node.name == name);
        let name = match own.filter(|name| !taken(name)) {
            Some(name) => name.to_owned(),
            None => format!("gw{}", position + 1),
        };
        nodes.push(Node { name, keepalived });
    }
    let import = migrate::import::site(&nodes);
    if options.json {
        println!(
            "{:#}",
            json!({ "site": import.site, "notes": import.notes })
        );
        return Ok(ExitCode::SUCCESS);
    }
    print!("{}", import.site);
    show(&import.notes);
    eprintln!(
        "next: write this into a file, fill in what says TODO, then `ravelin check --site FILE`"
    );
    Ok(ExitCode::SUCCESS)
}

/// The statements of a configuration and all that it includes.
pub fn statements(path: &Path, id: Option<&str>) -> Result<Vec<Statement>, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::input(Message::file("read the configuration", path, &error)))?;
    conf::read(path, &text, id, &Disk).map_err(Failure::input)
}

/// One line for each, the losses first.
pub fn show(notes: &[Note]) {
    for kind in [Kind::Lost, Kind::Changed, Kind::Needless] {
        let notes: Vec<&Note> = notes.iter().filter(|note| note.kind == kind).collect();
        if notes.is_empty() {
            continue;
        }
        eprintln!("\n{}", heading(kind));
        for note in notes {
            eprintln!("  {}: {}: {}", note.place, note.what, note.why);
        }
    }
    eprintln!();
}

fn heading(kind: Kind) -> &'static str {
    match kind {
        Kind::Lost => "No counterpart:",
        Kind::Changed => "Done differently:",
        Kind::Needless => "Not needed:",
    }
}

/// Whether a name can be an appliance's.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    name.len() <= 31 && begins && !name.ends_with('-') && name.chars().all(inner)
}

/// Included files, with wildcards as the shell has them.
struct Disk;

impl Files for Disk {
    fn read(&self, folder: &Path, pattern: &str) -> io::Result<Vec<(PathBuf, String)>> {
        let pattern = folder.join(pattern);
        let invalid =
            |error: glob::PatternError| io::Error::new(io::ErrorKind::InvalidInput, error);
        let paths = glob::glob(&pattern.to_string_lossy()).map_err(invalid)?;
        let mut files = Vec::new();
        for path in paths {
            let path = path.map_err(io::Error::from)?;
            let text = std::fs::read_to_string(&path)?;
            files.push((path, text));
        }
        Ok(files)
    }
}
