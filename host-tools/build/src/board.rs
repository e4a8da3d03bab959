//! A board's `board.toml`: all that the host has to know about it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::firmware::FirmwareError;

/// One folder under `boards/` that holds firmware.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// The folder's name.
    #[serde(skip)]
    pub name: String,
    /// Where that folder is.
    #[serde(skip)]
    pub folder: PathBuf,
    /// One line about it.
    pub description: String,
    /// Rust target.
    pub target: String,
    /// Flags for the compiler, the linker's scripts among them.
    pub rustflags: Vec<String>,
    /// Network ports: 1 is a VLAN trunk, 2 are wan and lan.
    pub ports: u8,
    /// Flows of IPv4 that it can track.
    pub flows: u32,
    /// Flows of IPv6 that it can track.
    pub flows6: u32,
    /// Where the firmware looks for its configuration.
    pub config_address: u64,
    /// Bytes of memory for the configuration.
    pub config_size: usize,
    /// Where the firmware keeps what it knows of its last failure over a reset, if it does.
    pub record_address: Option<u64>,
    /// What a build may use.
    pub budget: Budget,
    /// The memories that data and stack are in; the stack is in the first.
    pub ram: Vec<Ram>,
    /// How to emulate it, if QEMU has it.
    pub qemu: Option<Qemu>,
    /// How a debug probe flashes it, if one can.
    pub probe: Option<Probe>,
}

/// Limits of a build, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What is stored: code, constants, initial values.
    pub flash: u64,
    /// What is used of the RAM, without the stack.
    pub ram: u64,
    /// What must be there for the stack.
    pub stack: u64,
}

/// A block of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ram {
    /// Its first address.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
}

/// How QEMU is started as this board.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The program.
    pub program: String,
    /// Its arguments that choose the machine.
    pub machine: Vec<String>,
    /// Model of the network interfaces, for `-net nic,model=`.
    pub nic: String,
}

/// A board's chip as debug probes see it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its name for probe-rs.
    pub chip: String,
    /// A file in the board's folder that describes it, where probe-rs does not know it.
    pub description: Option<String>,
    /// Flash for the program.
    pub program: Ram,
    /// A word that tells it from other chips.
    pub id: Id,
    /// Where it has a number of its own, if it has one.
    pub number: Option<Ram>,
}

/// A word of a chip that tells it from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Id {
    /// Where it is.
    pub address: u64,
    /// The bits of it that count.
    pub mask: u32,
    /// What they are.
    pub value: u32,
}

impl Board {
    /// Reads `boards/NAME/board.toml` of the repository at `source`.
    ///
    /// # Errors
    /// If there is no such board, or its file says something we do not understand.
    pub fn read(source: &Path, name: &str) -> Result<Self, FirmwareError> {
        let path = source.join("boards").join(name).join("board.toml");
        let text = std::fs::read_to_string(&path).map_err(|cause| match cause.kind() {
            std::io::ErrorKind::NotFound => FirmwareError::UnknownBoard {
                name: name.to_owned(),
                known: known(source).join(", "),
            },
            _ => FirmwareError::Io {
                action: "read",
                path: path.clone(),
                cause,
            },
        })?;
        let board = Self::parse(name, &text);
        let mut board = board.map_err(|message| FirmwareError::Board {
            path: path.clone(),
            message,
        })?;
        board.folder = path.with_file_name("");
        Ok(board)
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let board: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if !(1..=2).contains(&board.ports) {
            return Err(format!("ports = {}: a board has 1 or 2 ports", board.ports));
        }
        if board.ram.is_empty() {
            return Err("ram: a board has at least one block of it".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            ..board
        })
    }

    /// How to emulate it.
    ///
    /// # Errors
    /// If QEMU does not have it.
    pub fn emulator(&self) -> Result<&Qemu, FirmwareError> {
        self.qemu
            .as_ref()
            .ok_or_else(|| FirmwareError::NotEmulated {
                board: self.name.clone(),
                known: emulated(&self.folder.join("../..")),
            })
    }

    /// The name of its package in our workspace.
    pub(crate) fn package(&self) -> String {
        format!("ravelin-board-{}", self.name)
    }
}

/// Names of all boards with firmware, in alphabetical order.
pub(crate) fn known(source: &Path) -> Vec<String> {
    let folders = std::fs::read_dir(source.join("boards"))
        .into_iter()
        .flatten()
        .flatten();
    let with_firmware = folders
        .map(|entry| entry.path())
        .filter(|path| path.join("board.toml").exists());
    let name = |path: PathBuf| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let mut names: Vec<_> = with_firmware.filter_map(name).collect();
    names.sort();
    names
}

/// Names of those that an emulator has.
pub(crate) fn emulated(source: &Path) -> Vec<String> {
    let has_emulator = |name: &String| Board::read(source, name).is_ok_and(|b| b.qemu.is_some());
    known(source).into_iter().filter(has_emulator).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_in_the_repository_is_understood() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let names = known(&source);
        assert!(names.len() >= 2, "{names:?}");
        for name in names {
            let board = Board::read(&source, &name).unwrap();
            assert_eq!(board.name, name);
            let of_probe = board.probe.as_ref().map_or(0, |probe| probe.program.size);
            assert!(of_probe == 0 || board.budget.flash <= of_probe, "{name}");
            // The image must have room beside the configuration, wherever that is.
            assert!(board.config_size >= 16 << 10, "{name}");
        }
    }

    #[test]
    fn wrong_board_files_are_refused() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let good = std::fs::read_to_string(source.join("boards/zynq7000/board.toml")).unwrap();
        for (change, to, complaint) in [
            ("ports = 2", "ports = 3", "1 or 2 ports"),
            ("ports = 2", "prots = 2", "unknown field `prots`"),
            ("flows = 32768\n", "", "missing field `flows`"),
            ("stack = ", "stack = -", "invalid value"),
            ("[[ram]]", "[ram]", "invalid type: map, expected a sequence"),
        ] {
            let message = Board::parse("zynq7000", &good.replacen(change, to, 1)).unwrap_err();
            assert!(message.contains(complaint), "{message}");
        }
        let error = Board::read(&source, "zynq").unwrap_err().to_string();
        assert!(error.contains("no board is called `zynq`"), "{error}");
    }
}
