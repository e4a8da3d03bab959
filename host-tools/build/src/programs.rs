//! Our own programs that go into images, built without any library of the machine that builds.

use std::path::{Path, PathBuf};

use crate::cache::{Cache, Key};
use crate::error::BuildError;
use crate::sandbox;

/// Cargo package of the first program of the boot.
pub const INIT: &str = "ravelin-init";

/// Builds packages of our workspace as static programs and returns where each is. Cargo does nothing for those that
/// are up to date.
pub fn build(cache: &Cache, source: &Path, packages: &[String]) -> Result<Vec<PathBuf>, BuildError> {
    let source = source.canonicalize().map_err(|error| BuildError::io("open", source, error))?;
    // One directory for each checkout, so that two of them do not rebuild each other's programs.
    let checkout = Key::new("checkout").with(source.as_os_str().as_encoded_bytes()).id();
    let target = cache.root().join("programs").join(checkout);
    let mut cargo = sandbox::tied(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(&source).env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", flags(&source));
    cargo.args(["build", "--locked", "--profile", PROFILE, "--target", TARGET, "--target-dir"]).arg(&target);
    for package in packages {
        cargo.args(["--package", package]);
    }
    sandbox::run(cargo, "programs", "cargo", &cache.root().join("log/programs.log"))?;
    let binaries = target.join(TARGET).join(PROFILE);
    Ok(packages.iter().map(|package| binaries.join(package)).collect())
}

/// Static, and without the paths of this machine in the result.
fn flags(source: &Path) -> String {
    let home = |name: &str, or: &str| {
        let home = std::env::var_os("HOME").unwrap_or_default();
        std::env::var_os(name).map_or_else(|| Path::new(&home).join(or), PathBuf::from)
    };
    format!(
        "-C target-feature=+crt-static --remap-path-prefix={}=/ravelin --remap-path-prefix={}=/cargo",
        source.display(),
        home("CARGO_HOME", ".cargo").display()
    )
}

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROFILE: &str = "image";
