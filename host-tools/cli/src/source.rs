//! The repository this program was built from: boards, image recipes, the reference site.

use std::path::{Path, PathBuf};

use site::Boards;

use crate::failure::{Failure, Message};

/// The software appliance is part of this program and needs no folder to exist.
pub const LINUX: (&str, u8) = ("linux", 2);

/// Where the repository is: `RAVELIN_SOURCE`, else above this program, else where it was compiled.
pub fn root() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("RAVELIN_SOURCE").map(PathBuf::from);
    let program = std::env::current_exe().unwrap_or_default();
    let compiled = Path::new(env!("CARGO_MANIFEST_DIR"));
    let candidates = named
        .iter()
        .map(PathBuf::as_path)
        .chain(program.ancestors())
        .chain(compiled.ancestors());
    candidates
        .into_iter()
        .find(|dir| is_root(dir))
        .map(Path::to_owned)
        .ok_or_else(|| {
            Failure::machine(
                Message::new("cannot find Ravelin's own files (boards/, image/)").help(
                    "run ./ravelin inside the repository, or set RAVELIN_SOURCE to its directory",
                ),
            )
        })
}

fn is_root(dir: &Path) -> bool {
    dir.join("boards").is_dir() && dir.join("image/roles").is_dir()
}

/// Every board with a readable `board.toml`, and the software appliance.
pub fn boards(root: &Path) -> Result<Boards, Failure> {
    let folder = root.join("boards");
    let entries = folder
        .read_dir()
        .map_err(|error| Failure::machine(Message::file("read", &folder, &error)))?;
    let mut boards = vec![(LINUX.0.to_owned(), LINUX.1)];
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path().join("board.toml");
        if name == LINUX.0 || !path.is_file() {
            continue;
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::machine(Message::file("read", &path, &error)))?;
        let ports = ports(&text).ok_or_else(|| {
            Failure::machine(Message::new(format!(
                "{} does not say how many `ports` the board has",
                path.display()
            )))
        })?;
        boards.push((name, ports));
    }
    boards.sort();
    Ok(Boards::new(boards))
}

fn ports(board: &str) -> Option<u8> {
    let board: toml::Table = board.parse().ok()?;
    board.get("ports")?.as_integer()?.try_into().ok()
}
