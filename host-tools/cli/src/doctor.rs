//! `ravelin doctor`: what this machine lacks, and the command that mends it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde::Serialize;

use crate::{args::Json, failure::Failure, source, table};

/// The list that `./ravelin` installs from.
const PREREQUISITES: &str = include_str!("../prerequisites.tsv");
/// Lowest version of Rust that compiles this workspace.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// Free space for the caches of images and of compilers.
const DISK_GB: u64 = 12;
/// Eight emulated servers and two appliances, with some room.
const MEMORY_GB: u64 = 5;

/// One thing that Ravelin needs, or likes to have.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    state: State,
    /// Version, or what is there.
    found: String,
    needed_for: String,
    why: String,
    /// The command that mends it; none if nothing is to be done.
    mend: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Good,
    /// Something works less well without it.
    Optional,
    Missing,
}

/// Lists every prerequisite with its state; exit code 1 if something needed is missing.
pub fn doctor(options: &Json) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let mut findings = vec![rust()];
    findings.push(firmware_rust(&root));
    findings.extend(PREREQUISITES.lines().filter_map(listed));
    findings.extend([disk(), memory(), user_namespaces(), tun()]);
    let healthy = findings
        .iter()
        .all(|finding| finding.state != State::Missing);
    if options.json {
        println!(
            "{:#}",
            serde_json::json!({ "healthy": healthy, "findings": findings })
        );
    } else {
        print(&findings, healthy);
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn print(findings: &[Finding], healthy: bool) {
    let row = |finding: &Finding| {
        let state = match finding.state {
            State::Good => "ok",
            State::Optional => "optional",
            State::Missing => "MISSING",
        };
        vec![
            finding.what.clone(),
            state.to_owned(),
            finding.found.clone(),
            finding.needed_for.clone(),
            finding.why.clone(),
        ]
    };
    let rows: Vec<_> = findings.iter().map(row).collect();
    table::print(
        "This machine",
        &["what", "state", "found", "for", "why"],
        &rows,
    );
    let mends: Vec<_> = findings
        .iter()
        .filter_map(|finding| Some((finding, finding.mend.as_ref()?)))
        .collect();
    if !mends.is_empty() {
        println!("\nTo mend it");
        for (finding, mend) in mends {
            println!("  {}: {mend}", finding.what);
        }
        println!("  (./ravelin installs the packages that a sub-command needs by itself)");
    }
    println!(
        "\n{}",
        if healthy {
            "Everything needed is here."
        } else {
            "Something needed is missing."
        }
    );
}

/// A line of the list: command or file, package, what needs it, why.
fn listed(line: &str) -> Option<Finding> {
    let mut columns = line.split('\t');
    let what = columns.next().filter(|what| !what.starts_with('#'))?;
    let (package, needed_for, why) = (columns.next()?, columns.next()?, columns.next()?);
    let there = if what.starts_with('/') {
        Path::new(what).exists()
    } else {
        find_command(what).is_some()
    };
    Some(Finding {
        what: what.to_owned(),
        state: if there { State::Good } else { State::Missing },
        found: installed_version(package)
            .unwrap_or_else(|| if there { "there" } else { "" }.to_owned()),
        needed_for: needed_for.to_owned(),
        why: why.to_owned(),
        mend: (!there).then(|| format!("sudo apt-get install {package}")),
    })
}

fn rust() -> Finding {
    let version = rustc_version("rustc");
    let good = version
        .as_ref()
        .is_some_and(|version| at_least(version, RUST));
    Finding {
        what: "rustc and cargo".to_owned(),
        state: if good { State::Good } else { State::Missing },
        found: version.unwrap_or_default(),
        needed_for: "all".to_owned(),
        why: format!("compiles Ravelin; {RUST} or newer"),
        mend: (!good).then(|| {
            "install rustup (https://rustup.rs), then: rustup toolchain install stable".to_owned()
        }),
    }
}

/// rustup's libraries for the boards' processors, or Debian's compiler with the source of the library.
fn firmware_rust(root: &Path) -> Finding {
    let targets = board_targets(root);
    let lacking: Vec<&String> = targets
        .iter()
        .filter(|target| !has_target(target))
        .collect();
    let debian = rustc_version("/usr/bin/rustc").filter(|version| at_least(version, RUST));
    let source = Path::new("/usr/lib/rustlib/src/rust/library/core/Cargo.toml").exists();
    let (found, good) = match (
        lacking.is_empty(),
        debian,
        source && find_command("ld.lld").is_some(),
    ) {
        (true, _, _) => (targets.join(", "), true),
        (false, Some(version), true) => {
            (format!("Debian's {version} and its library source"), true)
        }
        (false, _, _) => (String::new(), false),
    };
    let names: Vec<&str> = lacking.iter().map(|target| target.as_str()).collect();
    Finding {
        what: "Rust for the boards".to_owned(),
        state: if good { State::Good } else { State::Missing },
        found,
        needed_for: "firmware".to_owned(),
        why: "compiles the appliances' firmware".to_owned(),
        mend: (!good).then(|| {
            format!(
                "rustup target add {}; without rustup: sudo apt-get install rustc-web cargo-web rust-web-src lld",
                names.join(" ")
            )
        }),
    }
}

/// Processors of the boards that have no operating system.
fn board_targets(root: &Path) -> Vec<String> {
    let boards = root
        .join("boards")
        .read_dir()
        .into_iter()
        .flatten()
        .flatten();
    let target = |folder: PathBuf| {
        let board: toml::Table = fs::read_to_string(folder.join("board.toml"))
            .ok()?
            .parse()
            .ok()?;
        board
            .get("target")?
            .as_str()
            .filter(|target| target.contains("-none-"))
            .map(str::to_owned)
    };
    let mut targets: Vec<String> = boards.filter_map(|board| target(board.path())).collect();
    targets.sort();
    targets.dedup();
    targets
}

fn has_target(target: &str) -> bool {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output();
    output.is_ok_and(|output| {
        output.status.success()
            && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

fn disk() -> Finding {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .or_else(|| std::env::var_os("HOME"))
        .map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let existing = cache
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let free = nix::sys::statvfs::statvfs(existing)
        .map(|fs| fs.blocks_available() * fs.fragment_size() / 1_000_000_000);
    let good = free.is_ok_and(|free| free >= DISK_GB);
    Finding {
        what: format!("disk space of {}", existing.display()),
        state: if good { State::Good } else { State::Missing },
        found: free.map_or_else(|error| error.to_string(), |free| format!("{free} GB free")),
        needed_for: "images".to_owned(),
        why: format!("caches of images and compilers; {DISK_GB} GB"),
        mend: (!good).then(|| {
            "free some space, or put the cache on another disk: export XDG_CACHE_HOME=/big/disk"
                .to_owned()
        }),
    }
}

fn memory() -> Finding {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes: u64 = line
        .and_then(|line| line.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0);
    let gigabytes = kilobytes / 1_000_000;
    let good = gigabytes >= MEMORY_GB;
    Finding {
        what: "memory".to_owned(),
        state: if good { State::Good } else { State::Optional },
        found: format!("{gigabytes} GB available"),
        needed_for: "rehearse".to_owned(),
        why: format!("the whole rack in emulation; {MEMORY_GB} GB"),
        mend: (!good).then(|| {
            "rehearse fewer servers at once: ravelin rehearse --only lb1,web1,app1,db1".to_owned()
        }),
    }
}

fn user_namespaces() -> Finding {
    let root = nix::unistd::geteuid().is_root();
    let works = root
        || Command::new("unshare")
            .args(["--user", "--map-root-user", "true"])
            .output()
            .is_ok_and(|o| o.status.success());
    Finding {
        what: "user namespaces".to_owned(),
        state: if works { State::Good } else { State::Missing },
        found: if root { "not needed by root" } else if works { "there" } else { "refused" }.to_owned(),
        needed_for: "images".to_owned(),
        why: "builds images without being root".to_owned(),
        mend: (!works).then(|| {
            "sudo sysctl kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0".to_owned()
        }),
    }
}

fn tun() -> Finding {
    let there = Path::new("/dev/net/tun").exists();
    Finding {
        what: "/dev/net/tun".to_owned(),
        state: if there { State::Good } else { State::Optional },
        found: if there { "there" } else { "" }.to_owned(),
        needed_for: "light, run".to_owned(),
        why: "joins processes to virtual cables".to_owned(),
        mend: (!there).then(|| "sudo modprobe tun".to_owned()),
    }
}

/// Where a command is; system administration commands count although they are not on every user's PATH.
fn find_command(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

fn installed_version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Version}", package])
        .output()
        .ok()?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.success() && !version.is_empty()).then_some(version)
}

fn rustc_version(rustc: &str) -> Option<String> {
    let output = Command::new(rustc).arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .nth(1)
        .map(str::to_owned)
}

/// Whether dotted version `have` is at least `want`.
fn at_least(have: &str, want: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        version
            .split(['.', '-', '+'])
            .map_while(|part| part.parse().ok())
            .collect()
    };
    numbers(have) >= numbers(want)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for (have, want, expected) in [
            ("1.95.0", "1.95", true),
            ("1.100.0", "1.95", true),
            ("1.96.0-nightly", "1.95", true),
            ("1.85.1", "1.95", false),
            ("", "1.95", false),
        ] {
            assert_eq!(at_least(have, want), expected, "{have} against {want}");
        }
    }

    #[test]
    fn every_line_of_the_list_is_complete() {
        let lines: Vec<&str> = PREREQUISITES
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(!lines.is_empty());
        for line in lines {
            let columns: Vec<&str> = line.split('\t').collect();
            assert_eq!(columns.len(), 4, "{line}");
            assert!(
                ["all", "images", "rehearse", "light", "test", "failover"].contains(&columns[2]),
                "{line}"
            );
            assert!(columns.iter().all(|column| !column.is_empty()), "{line}");
        }
    }
}
