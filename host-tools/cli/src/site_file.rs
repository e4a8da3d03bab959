//! Finds and reads the site file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use site::{Boards, Plan};

use crate::{
    failure::{Failure, Message},
    source,
};

/// The reference site, inside the repository.
const REFERENCE: &str = "examples/foobar/site.toml";

/// A site file's content and where it came from.
#[derive(Debug)]
pub struct SiteFile {
    /// Its path as messages show it.
    pub path: PathBuf,
    text: String,
}

impl SiteFile {
    /// Reads the file that was named, else `./site.toml`, else (inside the repository) the reference site.
    pub fn read(named: Option<&Path>) -> Result<Self, Failure> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        let bytes = std::fs::read(&path).map_err(|error| {
            let message = Message::file("read the site file", &path, &error);
            Failure::input(match error.kind() {
                std::io::ErrorKind::NotFound => message
                    .help("name another with --site FILE, or write one with `ravelin new NAME`"),
                std::io::ErrorKind::IsADirectory => {
                    message.help("name the file inside it: --site DIRECTORY/site.toml")
                }
                _ => message,
            })
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..valid]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count();
            Failure::input(
                Message::new(format!(
                    "{} is not UTF-8 text: see line {line}",
                    path.display()
                ))
                .help("save it as UTF-8; is it a site file at all?"),
            )
        })?;
        Ok(Self { path, text })
    }

    /// The plan, with the boards that the file names.
    pub fn plan(&self, boards: &Boards) -> Result<Plan, Failure> {
        site::parse(&self.name(), &self.text, boards).map_err(Failure::input)
    }

    /// The plan, with all appliances on one board.
    pub fn plan_on_board(&self, boards: &Boards, board: &str) -> Result<Plan, Failure> {
        site::parse_on_board(&self.name(), &self.text, boards, board).map_err(Failure::input)
    }

    /// All problems of the file, for machines.
    pub fn problems(&self, boards: &Boards) -> Result<Plan, site::SiteErrors> {
        site::parse(&self.name(), &self.text, boards)
    }

    /// Where flows come from, by their names: file and line.
    pub fn flow_places(&self) -> BTreeMap<String, String> {
        let place = |offset| format!("{}:{}", self.name(), self.position(offset).0);
        (site::flow_places(&self.text).into_iter())
            .map(|(flow, range)| (flow, place(range.start)))
            .collect()
    }

    /// Line and column (both from 1) of a byte of the file.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let before = &self.text[..self.text.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            1 + before.matches('\n').count(),
            1 + before[line_start..].chars().count(),
        )
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

fn default_path() -> Result<PathBuf, Failure> {
    let here = PathBuf::from("site.toml");
    if here.exists() {
        return Ok(here);
    }
    let inside = std::env::current_dir().ok().zip(source::root().ok());
    if let Some((current, root)) = inside
        && current.starts_with(&root)
    {
        let reference = root.join(REFERENCE);
        return Ok(reference
            .strip_prefix(&current)
            .map(Path::to_owned)
            .unwrap_or(reference));
    }
    Err(Failure::input(
        Message::new("there is no site.toml here")
            .help("name one with --site FILE, or write one with `ravelin new NAME`"),
    ))
}
