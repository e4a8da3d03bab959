//! Builds the targets of `tests/fuzz` with coverage instrumentation and runs each for a bounded number of inputs.

use std::fs;
use std::path::Path;
use std::process::Command;

/// LLVM's coverage passes, which stable rustc passes on; no sanitizer, since the code under test has no `unsafe`.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Ccodegen-units=1 --cfg fuzzing";

/// Asking for the host's own triple keeps the flags away from build scripts and procedural macros.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Fuzzes every target with `runs` inputs from a fixed seed, beginning with the small corpora in the
/// repository, which also hold every past crash. New inputs go to the build directory.
///
/// # Errors
/// When a target does not build, or finds a crash: the text names the file that reproduces it.
pub fn smoke(root: &Path, runs: u32) -> Result<Vec<String>, String> {
    let folder = root.join("tests/fuzz");
    let output = root.join("target/fuzz");
    let status = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--quiet",
            "--target",
            TRIPLE,
            "--manifest-path",
        ])
        .arg(folder.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &output)
        .env("RUSTFLAGS", FLAGS)
        .status()
        .map_err(|error| format!("cargo: {error}"))?;
    if !status.success() {
        return Err("the fuzz targets do not build".into());
    }
    let targets = names(&folder.join("fuzz_targets"))?;
    for target in &targets {
        run(&folder, &output, target, runs)?;
    }
    Ok(targets)
}

fn run(folder: &Path, output: &Path, target: &str, runs: u32) -> Result<(), String> {
    let found = output.join("corpus").join(target);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let log = output.join(format!("{target}.log"));
    let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let mut command = Command::new(output.join(TRIPLE).join("release").join(target));
    command
        .arg(format!("-runs={runs}"))
        .args(["-seed=1", "-timeout=10", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/{target}-", output.display()))
        .arg(&found);
    let kept = folder.join("corpus").join(target);
    if kept.is_dir() {
        command.arg(kept);
    }
    let status = command
        .stderr(file)
        .status()
        .map_err(|error| format!("{target}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{target} found a crash; see {}", log.display())),
    }
}

fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}
