//! Instructions on this machine's processor, counted by valgrind's callgrind: they do not depend on what else runs.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::BenchError;

/// What to install for it.
pub const PACKAGE: &str = "valgrind";

/// Whether it is there.
pub fn is_there() -> bool {
    let version = Command::new("valgrind").arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// Runs a program, and tells how many instructions each call of its `function` took. Also what it printed.
pub fn calls<S: AsRef<OsStr>>(
    program: &Path,
    arguments: &[S],
    function: &str,
) -> Result<(Vec<u64>, String), BenchError> {
    let directory = tempfile::tempdir().map_err(|cause| BenchError::File {
        path: "a temporary directory".into(),
        cause,
    })?;
    let out = directory.path().join("out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "-q"])
        .arg(format!("--toggle-collect={function}"))
        .arg(format!("--dump-after={function}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(arguments)
        .output()
        .map_err(|cause| BenchError::Start {
            program: "valgrind".into(),
            cause,
        })?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = || BenchError::NoResult {
        what: format!("{} in valgrind", program.display()),
        said: format!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    };
    if !output.status.success() {
        return Err(failed());
    }
    let dump = |number: usize| std::fs::read_to_string(out.with_extension(number.to_string())).ok();
    let costs: Option<Vec<u64>> = (1..).map_while(dump).map(|dump| total(&dump)).collect();
    match costs {
        Some(costs) if !costs.is_empty() => Ok((costs, said)),
        _ => Err(failed()),
    }
}

/// The sum over all functions in a dump.
fn total(dump: &str) -> Option<u64> {
    let totals = dump
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))?;
    totals.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_a_sum() {
        let dump = "version: 1\npositions: line\nevents: Ir\nsummary: 7\n\nfn=(1) a\n3 7\n\ntotals: 1207\n";
        assert_eq!(total(dump), Some(1207));
        assert_eq!(total("events: Ir\n"), None);
    }
}
