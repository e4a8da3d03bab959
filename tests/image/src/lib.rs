//! What the tests of images share: the example site with certificates, and an emulated server.

mod machine;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use build::{BuildError, Options, Places, Progress, ServerImage};
use site::{Boards, Plan};

pub use machine::{Machine, Outcome, Running};

/// The repository.
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The example site.
pub fn example() -> Plan {
    example_with("")
}

/// A file that only its owner may read.
pub fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).expect("ours");
}

/// The example site, with more in its file.
pub fn example_with(more: &str) -> Plan {
    let path = source().join("examples/foobar/site.toml");
    let text = std::fs::read_to_string(&path).expect("the example is in the repository");
    let text = format!("{text}\n{more}");
    let boards = Boards::new([("linux", 2), ("mps2-an500", 1), ("zynq7000", 2)]);
    site::parse("site.toml", &text, &boards).expect("the example is valid")
}

/// The user's own cache, `state` for what belongs to a site, and one lock for all tests.
pub fn places(state: &Path) -> Places {
    Places {
        state: state.to_owned(),
        lock: source().join("target/tmp/ravelin.lock"),
        ..Places::new(&source(), Path::new("site.toml"))
    }
}

/// Says how long each step took.
pub fn tell(progress: Progress) {
    if let Progress::Finished(step, took) = progress {
        println!("{step}: {took:.1?}");
    }
}

/// Builds some servers of the example site with the user's own cache and `state` for the disks.
pub fn build(
    plan: &Plan,
    state: &Path,
    only: Option<&[&str]>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<ServerImage>, BuildError> {
    let places = places(state);
    let only = only.map(|names| names.iter().map(|&name| name.to_owned()).collect());
    let pki = build::pki::open(state, plan).expect("the state directory can be written");
    build::images(
        &places,
        plan,
        &pki,
        &Options {
            only,
            ..Options::default()
        },
        progress,
    )
}

/// Copies a disk. Holes stay holes, so that tests do not fill the machine's own.
pub fn copy(from: &Path, to: &Path) {
    let mut cp = std::process::Command::new("cp");
    let copied = cp.arg("--sparse=always").args([from, to]).status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "{}",
        to.display()
    );
}
