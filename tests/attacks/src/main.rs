//! Writes all capture files and their list anew: `cargo run -p ravelin-attacks`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use attacks::{capture, index};

fn main() -> ExitCode {
    match write_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("captures")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(folder: &Path) -> Result<(), String> {
    let text = |error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(text)?;
    for entry in fs::read_dir(folder).map_err(text)? {
        fs::remove_file(entry.map_err(text)?.path()).map_err(text)?;
    }
    let attacks = attacks::all();
    for attack in &attacks {
        let file = folder.join(format!("{}.pcapng", attack.name));
        fs::write(file, capture::write(attack)?).map_err(text)?;
    }
    fs::write(folder.join("README.md"), index(&attacks)).map_err(text)
}
