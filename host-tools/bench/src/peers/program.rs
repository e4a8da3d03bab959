//! Small C programs around peers that Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Flags of an installed library.
pub fn flags(library: &str) -> Option<Vec<String>> {
    let output = Command::new("pkg-config")
        .args(["--cflags", library])
        .output()
        .ok()?;
    let flags = String::from_utf8(output.stdout).ok()?;
    let flags = flags.split_whitespace().map(str::to_owned).collect();
    output.status.success().then_some(flags)
}

/// Compiles `peers/NAME.c` into a directory; `None` where the compiler or a library is missing.
pub fn compile(
    source: &Path,
    name: &str,
    flags: &[String],
    libraries: &[&str],
    directory: &Path,
) -> Option<PathBuf> {
    let program = directory.join(name);
    let built = Command::new("cc")
        .arg("-O2")
        .args(flags)
        .arg(source.join(format!("host-tools/bench/peers/{name}.c")))
        .arg("-o")
        .arg(&program)
        .arg("-Wl,--as-needed")
        .args(libraries)
        .output()
        .ok()?;
    built.status.success().then_some(program)
}
