//! `site.toml` in, a checked [`Plan`] out. Pure: no files, no clocks, no network.
//!
//! [`parse`] reports every problem it finds at once, each with its place in the file and how to mend it.

#![forbid(unsafe_code)]

mod boards;
mod check;
mod derive;
mod error;
mod file;
pub mod plan;
mod read;

pub use boards::{Board, Boards};
pub use error::{Problem, SiteErrors};
pub use plan::Plan;

/// Reads, checks and completes a site file. `name` is what messages call the file, `boards` are those that exist.
pub fn parse(name: &str, text: &str, boards: &Boards) -> Result<Plan, SiteErrors> {
    let mut problems = Vec::new();
    let file = file::read(text, &mut problems);
    check::check(&file, boards, &mut problems);
    if !problems.is_empty() {
        return Err(SiteErrors::new(name, text, problems));
    }
    derive::plan(&file, boards).map_err(|problem| SiteErrors::new(name, text, vec![problem]))
}
