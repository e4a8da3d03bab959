//! Firmware of the appliances: finds a compiler for the board, builds its ELF, checks it against the
//! board's budgets, and lays the compiled configuration beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miette::Diagnostic;
use object::{Object as _, ObjectSection as _, ObjectSegment as _};
use site::Plan;
use site::plan::Appliance;
use thiserror::Error;

use crate::board::{Board, Ram, emulated, known};
use crate::bundle::Bundle;
use crate::error::BuildError;
use crate::secrets::{self, SecretError};
use crate::trust::{self, TrustError};
use crate::{Places, sandbox};

/// Firmware of one board, built.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// What it is for.
    pub board: Board,
    /// The program; it also decodes the board's log (`defmt_log`).
    pub elf: PathBuf,
    /// How large it is.
    pub size: Size,
}

/// Bytes that a program uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Stored: code, constants, initial values.
    pub flash: u64,
    /// Used of the RAM, without the stack.
    pub ram: u64,
    /// There for the stack.
    pub stack: u64,
}

/// What one appliance is flashed with.
#[derive(Clone, Debug)]
pub struct ApplianceFirmware {
    /// Name of the appliance.
    pub appliance: String,
    /// The board's firmware, the same for all appliances of that board.
    pub firmware: Firmware,
    /// The appliance's compiled configuration, which belongs at `firmware.board.config_address`.
    pub config: PathBuf,
    /// False if both files existed and are the same as before.
    pub built: bool,
}

/// Why there is no firmware.
#[derive(Debug, Error, Diagnostic)]
pub enum FirmwareError {
    /// The site names a board that we do not have.
    #[error("no board is called `{name}`")]
    #[diagnostic(help("boards with firmware are {known}"))]
    UnknownBoard {
        /// The name.
        name: String,
        /// The boards there are.
        known: String,
    },
    /// A `board.toml` says something we do not understand.
    #[error("{}: {message}", path.display())]
    #[diagnostic(help("the fields are described in host-tools/build/src/board.rs"))]
    Board {
        /// The file.
        path: PathBuf,
        /// What is wrong in it, and where.
        message: String,
    },
    /// The board exists as hardware only.
    #[error("no emulator has the board {board}")]
    #[diagnostic(help(
        "rehearse with --appliances and one of {}: all else of the site stays as it is", known.join(", ")
    ))]
    NotEmulated {
        /// The board.
        board: String,
        /// Those that one has.
        known: Vec<String>,
    },
    /// Neither rustup nor Debian offers a compiler for the board.
    #[error("no Rust compiler for {target}: {reason}")]
    #[diagnostic(help(
        "with rustup: rustup target add {target}; on Debian 12: apt-get install rustc-web cargo-web rust-web-src lld; on later ones: apt-get install rustc cargo rust-src lld"
    ))]
    NoCompiler {
        /// The board's Rust target.
        target: String,
        /// What was found wanting.
        reason: String,
    },
    /// The compiler failed, or could not be run.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Compile(#[from] BuildError),
    /// The program does not fit the board.
    #[error("firmware of {board} uses {used} bytes of {what}, its budget is {budget}")]
    #[diagnostic(help(
        "make it smaller, or raise the budget in boards/{board}/board.toml if the part has room"
    ))]
    TooLarge {
        /// The board.
        board: String,
        /// Which memory.
        what: &'static str,
        /// What the program uses.
        used: u64,
        /// What the board allows.
        budget: u64,
    },
    /// Static data leaves too little for the stack.
    #[error("firmware of {board} leaves {left} bytes for the stack, it needs {needed}")]
    #[diagnostic(help(
        "use less static memory (`flows` in the board's main.rs), see boards/{board}/board.toml"
    ))]
    NoStack {
        /// The board.
        board: String,
        /// What is left.
        left: u64,
        /// What the board asks for.
        needed: u64,
    },
    /// What the compiler left is not a program.
    #[error("{}: {message}", path.display())]
    NotAProgram {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// An appliance's part of the plan does not fit the firmware.
    #[error("configuration of {appliance}: {message}")]
    Config {
        /// The appliance.
        appliance: String,
        /// Why.
        message: String,
    },
    /// The authorities that its checks trust are not there.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Trust(#[from] TrustError),
    /// A secret of the appliance is missing or unusable.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Secret(#[from] SecretError),
    /// A file could not be read or written.
    #[error("cannot {action} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        cause: io::Error,
    },
}

/// Builds the firmware of these appliances of the plan, and their compiled configurations, into
/// `.ravelin/firmware`. Nothing is compiled that is up to date, or in `bundle`.
///
/// # Errors
/// If a compiler is missing or fails, a program exceeds its board's budgets, or a file cannot be written.
pub fn firmware(
    plan: &Plan,
    places: &Places,
    appliances: &[&Appliance],
    bundle: Option<&Bundle>,
) -> Result<Vec<ApplianceFirmware>, FirmwareError> {
    let mut boards: Vec<(Firmware, bool)> = Vec::new();
    let mut done = Vec::new();
    for appliance in appliances {
        let (firmware, elf_is_new) = match boards
            .iter()
            .find(|(built, _)| built.board.name == appliance.board)
        {
            Some(built) => built.clone(),
            None => {
                let mut built = match bundle {
                    Some(bundle) => bundled(&places.source, &appliance.board, bundle)?,
                    None => program(&places.source, &appliance.board, &appliance.board)?,
                };
                let elf = folder(places)?.join(format!("{}.elf", appliance.board));
                let new = write(&elf, &read(&built.elf)?)?;
                built.elf = elf;
                boards.push((built.clone(), new));
                (built, new)
            }
        };
        let (config, config_is_new) =
            write_configuration(plan, places, &appliance.name, firmware.board.config_size)?;
        let built = elf_is_new || config_is_new;
        done.push(ApplianceFirmware {
            appliance: appliance.name.clone(),
            firmware,
            config,
            built,
        });
    }
    Ok(done)
}

/// The program of a board out of a bundle.
fn bundled(source: &Path, board: &str, bundle: &Bundle) -> Result<Firmware, FirmwareError> {
    let board = Board::read(source, board)?;
    let elf = bundle.firmware(&board.name)?;
    let size = Size::of(&elf, &board)?;
    size.check(&board)?;
    Ok(Firmware { board, elf, size })
}

/// Writes the compiled configuration of one appliance into `.ravelin/firmware`; returns where it is, and whether it is
/// another than before.
///
/// # Errors
/// If it is larger than `room`, or cannot be written.
pub fn write_configuration(
    plan: &Plan,
    places: &Places,
    appliance: &str,
    room: usize,
) -> Result<(PathBuf, bool), FirmwareError> {
    let path = folder(places)?.join(format!("{appliance}.config"));
    let made_at = |time| {
        compiled(plan, appliance, room, |config| {
            secrets::fill(config, plan, &places.state)?;
            Ok(trust::fill(config, plan, &places.state, time)?)
        })
    };
    // If only the time is another, it is the same configuration.
    let old = fs::read(&path).unwrap_or_default();
    if let Ok((config, _)) = policy::decode(&old) {
        let then = UNIX_EPOCH + Duration::from_secs(config.made);
        if made_at(then)? == old {
            return Ok((path, false));
        }
    }
    let new = write(&path, &made_at(SystemTime::now())?)?;
    Ok((path, new))
}

fn folder(places: &Places) -> Result<PathBuf, FirmwareError> {
    let out = places.state.join("firmware");
    fs::create_dir_all(&out).map_err(|cause| FirmwareError::Io {
        action: "create",
        path: out.clone(),
        cause,
    })?;
    Ok(out)
}

/// Builds one program of a board: the appliance has the board's own name.
///
/// # Errors
/// If a compiler is missing or fails, or the program exceeds the board's budgets.
pub fn program(source: &Path, board: &str, program: &str) -> Result<Firmware, FirmwareError> {
    let board = Board::read(source, board)?;
    let target_dir = target_dir(source);
    let cargo = cargo(source, &board, "build", program)?;
    let step = format!("firmware of {}", board.name);
    sandbox::run(
        cargo,
        &step,
        "cargo",
        &target_dir.join(format!("{}.log", board.name)),
    )?;
    let elf = target_dir.join(&board.target).join(PROFILE).join(program);
    let size = Size::of(&elf, &board)?;
    size.check(&board)?;
    Ok(Firmware { board, elf, size })
}

/// A cargo that builds or runs a program of a board as [`program`] does.
///
/// # Errors
/// If a compiler is missing.
pub fn cargo(
    source: &Path,
    board: &Board,
    command: &str,
    program: &str,
) -> Result<Command, FirmwareError> {
    let compiler = Compiler::find(source, &board.target)?;
    let mut cargo = compiler.cargo(source, board);
    cargo.args([command, "--locked", "--profile", PROFILE]);
    cargo.args(["--target", &board.target]);
    cargo.args(["--package", &board.package(), "--bin", program]);
    cargo.arg("--target-dir").arg(target_dir(source));
    Ok(cargo)
}

/// Builds every library of the firmware for a board's processor, as proof that none of them needs std.
///
/// # Errors
/// If a compiler is missing or fails.
pub fn libraries(source: &Path, board: &str) -> Result<(), FirmwareError> {
    let board = Board::read(source, board)?;
    let target_dir = target_dir(source);
    let mut cargo = Compiler::find(source, &board.target)?.cargo(source, &board);
    cargo.args([
        "build",
        "--locked",
        "--lib",
        "--profile",
        PROFILE,
        "--target",
        &board.target,
    ]);
    let folders = fs::read_dir(source.join("firmware"))
        .into_iter()
        .flatten()
        .flatten();
    for folder in folders.filter(|folder| folder.path().join("Cargo.toml").exists()) {
        cargo.args([
            "--package",
            &format!("ravelin-{}", folder.file_name().to_string_lossy()),
        ]);
    }
    cargo.arg("--target-dir").arg(&target_dir);
    let step = format!("firmware libraries for {}", board.name);
    sandbox::run(
        cargo,
        &step,
        "cargo",
        &target_dir.join(format!("{}-libraries.log", board.name)),
    )?;
    Ok(())
}

fn target_dir(source: &Path) -> PathBuf {
    let ours =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source.join("target"), PathBuf::from);
    ours.join("firmware")
}

/// Names of all boards with firmware.
#[must_use]
pub fn boards(source: &Path) -> Vec<String> {
    known(source)
}

/// Names of those that an emulator has.
#[must_use]
pub fn emulated_boards(source: &Path) -> Vec<String> {
    emulated(source)
}

/// The compiled configuration of one appliance, as its firmware reads it; its checks trust nobody yet.
///
/// # Errors
/// If the plan's part does not fit an appliance, or is larger than `room` bytes.
pub fn configuration(plan: &Plan, appliance: &str, room: usize) -> Result<Vec<u8>, FirmwareError> {
    compiled(plan, appliance, room, |_| Ok(()))
}

fn compiled(
    plan: &Plan,
    appliance: &str,
    room: usize,
    complete: impl FnOnce(&mut policy::Config) -> Result<(), FirmwareError>,
) -> Result<Vec<u8>, FirmwareError> {
    let failed = |message: String| FirmwareError::Config {
        appliance: appliance.to_owned(),
        message,
    };
    let (mut config, rules) =
        render::appliance::policy(plan, appliance).map_err(|error| failed(error.to_string()))?;
    complete(&mut config)?;
    classifier::blob(&config, &rules, room).map_err(|error| failed(error.to_string()))
}

/// Who compiles.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Compiler {
    /// The toolchain that compiled us, with the target's libraries.
    Rustup,
    /// Debian's, which compiles the library from its packaged source.
    Debian,
}

impl Compiler {
    fn find(source: &Path, target: &str) -> Result<Self, FirmwareError> {
        if has_target(source, target) {
            return Ok(Self::Rustup);
        }
        let missing: Vec<&str> = DEBIAN
            .into_iter()
            .filter(|file| !Path::new(file).exists())
            .collect();
        let wanted = env!("CARGO_PKG_RUST_VERSION");
        let found = debian_version().unwrap_or_default();
        if missing.is_empty() && at_least(&found, wanted) {
            return Ok(Self::Debian);
        }
        // Last, because it needs the network.
        let mut rustup = Command::new("rustup");
        rustup
            .args(["target", "add", target])
            .current_dir(source)
            .stdin(Stdio::null());
        if rustup.output().is_ok_and(|output| output.status.success()) && has_target(source, target)
        {
            return Ok(Self::Rustup);
        }
        let reason = match missing.is_empty() {
            true => format!(
                "Debian's rustc is {found}, Ravelin needs {wanted}; rustup cannot fetch the target"
            ),
            false => format!(
                "rustup cannot fetch the target, and {} is missing",
                missing.join(", ")
            ),
        };
        Err(FirmwareError::NoCompiler {
            target: target.to_owned(),
            reason,
        })
    }

    /// A cargo that knows its compiler, the board's flags, and nothing of the caller's settings.
    fn cargo(&self, source: &Path, board: &Board) -> Command {
        let own = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut cargo = sandbox::tied(match self {
            Self::Rustup => &own,
            Self::Debian => DEBIAN_CARGO,
        });
        for name in [
            "RUSTFLAGS",
            "RUSTC",
            "RUSTC_WRAPPER",
            "CARGO_BUILD_TARGET",
            "RUSTC_BOOTSTRAP",
        ] {
            cargo.env_remove(name);
        }
        cargo.current_dir(source);
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(source, board).join("\x1f"));
        cargo.env("DEFMT_LOG", "info");
        if *self == Self::Debian {
            let linker = format!(
                "CARGO_TARGET_{}_LINKER",
                board.target.to_uppercase().replace('-', "_")
            );
            cargo
                .env("RUSTC", DEBIAN_RUSTC)
                .env("RUSTC_BOOTSTRAP", "1")
                .env(linker, "ld.lld");
            cargo.args([
                "-Zbuild-std=core,alloc",
                "-Zbuild-std-features=compiler-builtins-mem",
            ]);
        }
        cargo
    }
}

/// The board's own, and none of this machine's paths in the result.
fn flags(source: &Path, board: &Board) -> Vec<String> {
    let source = source.canonicalize().unwrap_or_else(|_| source.to_owned());
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map_or_else(|| Path::new(&home).join(".cargo"), PathBuf::from);
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = board.rustflags.clone();
    flags.extend([remap(&source, "/ravelin"), remap(&cargo_home, "/cargo")]);
    flags
}

/// Whether the compiler on the PATH has the libraries of the target.
fn has_target(source: &Path, target: &str) -> bool {
    let mut rustc = Command::new("rustc");
    rustc
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(source);
    rustc.output().is_ok_and(|output| {
        let directory = String::from_utf8_lossy(&output.stdout);
        output.status.success() && Path::new(directory.trim()).is_dir()
    })
}

fn debian_version() -> Option<String> {
    let output = Command::new(DEBIAN_RUSTC).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(1).map(str::to_owned)
}

fn at_least(version: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u32> {
        text.split(['.', '-', '+'])
            .map_while(|part| part.parse().ok())
            .collect()
    };
    numbers(version) >= numbers(wanted)
}

impl Size {
    fn of(elf: &Path, board: &Board) -> Result<Self, FirmwareError> {
        let bytes = read(elf)?;
        let bad = |error: object::Error| FirmwareError::NotAProgram {
            path: elf.to_owned(),
            message: error.to_string(),
        };
        let file = object::File::parse(&*bytes).map_err(bad)?;
        let flash = file.segments().map(|segment| segment.file_range().1).sum();
        let mut used = vec![0; board.ram.len()];
        let mut stack = None;
        for section in file.sections().filter(is_allocated) {
            let at = section.address();
            let holds = |ram: &Ram| (ram.start..ram.start + ram.size).contains(&at);
            if section.name() == Ok(STACK_SECTION) {
                stack = Some(section.size());
            } else if let Some(block) = board.ram.iter().position(holds) {
                used[block] += section.size();
            }
        }
        // It has what the data in its memory leave.
        let first = board.ram.first().zip(used.first());
        let left = first.map_or(0, |(ram, used)| ram.size.saturating_sub(*used));
        let used = used.iter().sum();
        Ok(Self {
            flash,
            ram: used,
            stack: stack.unwrap_or(left),
        })
    }

    fn check(&self, board: &Board) -> Result<(), FirmwareError> {
        let name = || board.name.clone();
        for (what, used, budget) in [
            ("flash", self.flash, board.budget.flash),
            ("RAM", self.ram, board.budget.ram),
        ] {
            if used > budget {
                return Err(FirmwareError::TooLarge {
                    board: name(),
                    what,
                    used,
                    budget,
                });
            }
        }
        if self.stack < board.budget.stack {
            return Err(FirmwareError::NoStack {
                board: name(),
                left: self.stack,
                needed: board.budget.stack,
            });
        }
        Ok(())
    }
}

/// Whether a section occupies memory of the running program.
fn is_allocated(section: &object::Section<'_, '_>) -> bool {
    match section.flags() {
        object::SectionFlags::Elf { sh_flags } => sh_flags & u64::from(object::elf::SHF_ALLOC) != 0,
        _ => false,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FirmwareError> {
    fs::read(path).map_err(|cause| FirmwareError::Io {
        action: "read",
        path: path.to_owned(),
        cause,
    })
}

/// Writes a file that is complete whenever it is there; leaves one alone that is the same already, and says so.
fn write(path: &Path, bytes: &[u8]) -> Result<bool, FirmwareError> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    written.map(|()| true).map_err(|cause| {
        fs::remove_file(&new).ok();
        FirmwareError::Io {
            action: "write",
            path: path.to_owned(),
            cause,
        }
    })
}

const PROFILE: &str = "firmware";
/// Where a linker script of ours puts all stacks, if it has a section for them.
const STACK_SECTION: &str = ".stacks";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// What Debian's way needs.
const DEBIAN: [&str; 4] = [
    DEBIAN_RUSTC,
    DEBIAN_CARGO,
    "/usr/lib/rustlib/src/rust/library/core/Cargo.toml",
    "/usr/bin/ld.lld",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        for (version, wanted, enough) in [
            ("1.96.0", "1.95", true),
            ("1.95.0", "1.95", true),
            ("1.9.0", "1.95", false),
            ("1.100.1-nightly", "1.95", true),
            ("", "1.95", false),
        ] {
            assert_eq!(at_least(version, wanted), enough, "{version}");
        }
    }

    #[test]
    fn budgets_are_kept() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let board = Board::read(&source, "mps2-an500").unwrap();
        let fits = Size {
            flash: board.budget.flash,
            ram: board.budget.ram,
            stack: board.budget.stack,
        };
        fits.check(&board).unwrap();
        for (size, complaint) in [
            (
                Size {
                    flash: fits.flash + 1,
                    ..fits
                },
                "bytes of flash, its budget is",
            ),
            (
                Size {
                    ram: fits.ram + 1,
                    ..fits
                },
                "bytes of RAM, its budget is",
            ),
            (
                Size {
                    stack: fits.stack - 1,
                    ..fits
                },
                "bytes for the stack, it needs",
            ),
        ] {
            let error = size.check(&board).unwrap_err().to_string();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn files_are_replaced_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gw1.config");
        assert!(write(&path, b"one").unwrap());
        assert!(write(&path, b"two").unwrap());
        assert!(!write(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing else is left"
        );
        let error = write(&dir.path().join("none/gw1.config"), b"one").unwrap_err();
        assert!(error.to_string().starts_with("cannot write"), "{error}");
    }
}
