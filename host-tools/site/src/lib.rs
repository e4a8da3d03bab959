//! `site.toml` in, a checked [`Plan`] out. Pure: no files, no clocks, no network.
//!
//! [`parse`] reports every problem it finds at once, each with its place in the file and how to mend it.

#![forbid(unsafe_code)]

use std::{collections::BTreeMap, ops::Range};

mod app;
mod authority;
mod boards;
mod check;
mod database;
mod derive;
mod error;
mod events;
mod file;
mod flow;
mod http;
mod monitoring;
mod nat;
mod nginx;
pub mod plan;
mod read;
mod service;
mod service_check;
mod service_file;
mod ssh;
mod traffic;
mod value;
mod version6;
mod vrrp;
mod vrrp_check;
mod vrrp_file;

pub use boards::{Board, Boards};
pub use error::{Problem, SiteErrors};
pub use plan::Plan;

/// Reads, checks and completes a site file. `name` is what messages call the file, `boards` are those that exist.
pub fn parse(name: &str, text: &str, boards: &Boards) -> Result<Plan, SiteErrors> {
    let mut problems = Vec::new();
    let file = file::read(text, &mut problems);
    complete(name, text, boards, &file, problems)
}

/// Like [`parse`], with all appliances on `board`, whatever the file says: for a rehearsal, or as a process.
pub fn parse_on_board(
    name: &str,
    text: &str,
    boards: &Boards,
    board: &str,
) -> Result<Plan, SiteErrors> {
    let mut problems = Vec::new();
    let mut file = file::read(text, &mut problems);
    let ours = (file.appliances.entries.iter_mut()).filter(|(_, one)| !one.is_foreign());
    for (_, appliance) in ours {
        board.clone_into(appliance.board.get_mut());
    }
    complete(name, text, boards, &file, problems)
}

/// Where flows of a site file come from, by their names: the table that asks for each. Those that roles bring along are
/// written nowhere.
#[must_use]
pub fn flow_places(text: &str) -> BTreeMap<String, Range<usize>> {
    let file = file::read(text, &mut Vec::new());
    (file.flows.iter().map(flow::Entry::place))
        .chain(file.nat.iter().flat_map(nat::Entry::places))
        .chain(service::places(&file))
        .collect()
}

fn complete(
    name: &str,
    text: &str,
    boards: &Boards,
    file: &file::SiteFile,
    mut problems: Vec<Problem>,
) -> Result<Plan, SiteErrors> {
    check::check(file, boards, &mut problems);
    if !problems.is_empty() {
        return Err(SiteErrors::new(name, text, problems));
    }
    let plan = derive::plan(file, boards);
    let plan = plan.and_then(|plan| check::fit(&plan, file).map_or(Ok(plan), Err));
    plan.map_err(|problem| SiteErrors::new(name, text, vec![problem]))
}
