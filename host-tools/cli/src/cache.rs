//! `ravelin cache`: what the cache has, and room in it.

use std::{path::Path, process::ExitCode};

use build::{
    Places,
    maintenance::{self, Usage},
};

use crate::{args::Cache, failure::Failure, source, table};

/// Shows or shrinks it.
pub fn cache(site: Option<&Path>, what: &Cache) -> Result<ExitCode, Failure> {
    let site = site.unwrap_or(Path::new("site.toml"));
    let places = Places::new(&source::root()?, site);
    let waiting = || eprintln!("waiting for a build to end");
    let (usage, json, heading) = match what {
        Cache::Show(options) => {
            let usage = maintenance::usage(&places, waiting);
            (
                usage,
                options.json,
                format!("In {}", places.cache.display()),
            )
        }
        Cache::Gc { max, json } => {
            let usage = maintenance::shrink(&places, *max, waiting);
            (
                usage,
                *json,
                format!("Removed from {}", places.cache.display()),
            )
        }
    };
    let usage = usage.map_err(Failure::machine)?;
    if json {
        println!("{:#}", serde_json::json!(usage));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows: Vec<Vec<String>> = usage.iter().map(row).collect();
    let total = usage.iter().map(|usage| usage.bytes).sum();
    rows.push(vec!["all".to_owned(), String::new(), megabytes(total)]);
    table::print(&heading, &["what", "entries", "size", "oldest use"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn row(usage: &Usage) -> Vec<String> {
    let hours = usage.unused_seconds / 3600;
    let age = match hours {
        0 => "within the hour".to_owned(),
        1..48 => format!("{hours} hours ago"),
        _ => format!("{} days ago", hours / 24),
    };
    vec![
        usage.kind.to_owned(),
        usage.entries.to_string(),
        megabytes(usage.bytes),
        age,
    ]
}

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}
