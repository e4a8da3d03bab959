//! What a role asks besides whether its ports answer: each executable file of `/usr/lib/ravelin/serves.d` ends well if this server
//! serves, else says why not.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Something that does not serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// What, and why; for a person.
    pub what: String,
    /// Whether it is on its way, and only needs time.
    pub soon: bool,
}

/// Asks all of a directory, in the order of their names.
pub fn ask(directory: &Path) -> Vec<Ailment> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let executable = |path: &PathBuf| {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(executable)
        .collect();
    paths.sort();
    paths.iter().filter_map(|path| ask_one(path)).collect()
}

fn ask_one(path: &Path) -> Option<Ailment> {
    let output = Command::new("timeout").arg(PATIENCE).arg(path).output();
    let (said, code) = match output {
        Ok(output) if output.status.success() => return None,
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            (said, output.status.code())
        }
        Err(error) => (error.to_string(), None),
    };
    let last = said.lines().next_back().unwrap_or("it says nothing");
    Some(Ailment {
        what: match code {
            Some(SOON) => last.to_owned(),
            _ => format!("{}: {last}", path.display()),
        },
        soon: code == Some(SOON),
    })
}

/// Seconds for an answer.
const PATIENCE: &str = "10";
/// EX_TEMPFAIL of sysexits.h.
const SOON: i32 = 75;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_and_only_what_does_not_serve_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, script: &str, mode: u32| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(ask(&dir.path().join("none")), []);
        put("1-good", "echo all is well", 0o755);
        put("2-note", "exit 1", 0o644);
        assert_eq!(ask(dir.path()), []);
        put(
            "3-bad",
            "echo first; echo it is upside down >&2; exit 1",
            0o755,
        );
        put("4-soon", "echo it catches up; exit 75", 0o755);
        put("5-silent", "exit 3", 0o755);
        let told = ask(dir.path());
        let what: Vec<(&str, bool)> = (told.iter()).map(|told| (&*told.what, told.soon)).collect();
        let [bad, silent] = ["3-bad", "5-silent"].map(|name| dir.path().join(name));
        assert_eq!(
            what,
            [
                (&*format!("{}: it is upside down", bad.display()), false),
                ("it catches up", true),
                (&*format!("{}: it says nothing", silent.display()), false),
            ]
        );
    }
}
