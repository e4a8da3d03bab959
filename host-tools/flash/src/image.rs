//! What belongs into the flash of one device.

use std::{collections::BTreeSet, path::Path};

use build::{Board, Firmware};
use object::{Object as _, ObjectSymbol as _};
use sha2::{Digest as _, Sha256};

use crate::error::FlashError;

/// The bytes for one device, checked to fit.
#[derive(Clone, Debug)]
pub struct Image {
    /// The firmware, which also decodes the device's log.
    pub firmware: Firmware,
    /// The program: pieces by address, none overlapping.
    pub program: Vec<Piece>,
    /// The compiled configuration.
    pub configuration: Vec<u8>,
    /// The MAC addresses of its ports.
    pub macs: Vec<[u8; 6]>,
    /// Where the program keeps what it says to debug probes.
    pub log: u64,
    /// SHA-256 of the program.
    pub firmware_hash: String,
    /// SHA-256 of the configuration.
    pub configuration_hash: String,
}

/// Bytes at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Of the first.
    pub address: u64,
    /// They.
    pub bytes: Vec<u8>,
}

/// Room in a slot for all that is not the configuration.
const OTHER_SECTIONS: usize = 8192;

/// The symbol of an RTT control block.
const LOG: &str = "_SEGGER_RTT";

impl Image {
    /// The image of a program and a configuration.
    ///
    /// # Errors
    /// If the board has no way for probes, a file cannot be read, or something does not fit.
    pub fn new(firmware: &Firmware, configuration: &Path) -> Result<Self, FlashError> {
        let board = &firmware.board;
        let elf = read(&firmware.elf)?;
        let configuration = read(configuration)?;
        let (program, log) = program(firmware)?;
        let room = board.config_address + (board.config_size / 2 - OTHER_SECTIONS) as u64;
        fits(
            board,
            "the configuration",
            board.config_address,
            configuration.len(),
            room,
        )?;
        let macs = match policy::decode(&configuration) {
            Ok((config, _)) => config.interfaces.iter().map(|leg| leg.mac).collect(),
            Err(_) => BTreeSet::new(),
        };
        let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
        let (firmware_hash, configuration_hash) = (hash(&elf), hash(&configuration));
        Ok(Self {
            firmware: firmware.clone(),
            program,
            configuration,
            macs: macs.into_iter().collect(),
            log,
            firmware_hash,
            configuration_hash,
        })
    }

    /// What the firmware says when it lives.
    #[must_use]
    pub fn alive(&self) -> String {
        format!(
            "{ALIVE}{}, configuration {}",
            env!("CARGO_PKG_VERSION"),
            &self.configuration_hash[..16]
        )
    }
}

/// What a program stores, checked to fit below the configuration, and where it keeps what it says to debug probes.
///
/// # Errors
/// If the board has no way for probes, the file is no such program, or is too large.
pub(crate) fn program(firmware: &Firmware) -> Result<(Vec<Piece>, u64), FlashError> {
    let board = &firmware.board;
    let Some(probe) = &board.probe else {
        return Err(FlashError::NoWay {
            board: board.name.clone(),
        });
    };
    let elf = read(&firmware.elf)?;
    let wrong = |message: String| FlashError::File {
        path: firmware.elf.display().to_string(),
        message,
    };
    let file = object::File::parse(&*elf).map_err(|error| wrong(error.to_string()))?;
    let pieces = stored(&elf, &file).map_err(&wrong)?;
    let log = log_address(&file).map_err(&wrong)?;
    let limit = probe.program.start + probe.program.size;
    for piece in &pieces {
        fits(
            board,
            "the firmware",
            piece.address,
            piece.bytes.len(),
            limit,
        )?;
    }
    Ok((pieces, log))
}

fn fits(
    board: &Board,
    what: &'static str,
    start: u64,
    length: usize,
    limit: u64,
) -> Result<(), FlashError> {
    let end = start + length as u64;
    match end <= limit {
        true => Ok(()),
        false => Err(FlashError::TooLarge {
            what,
            board: board.name.clone(),
            start,
            end,
            limit,
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FlashError> {
    std::fs::read(path).map_err(|error| FlashError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    })
}

/// How it begins.
pub(crate) const ALIVE: &str = "alive: firmware ";

/// Where a program keeps what it says to debug probes; why not, if it does not.
pub(crate) fn log_address(file: &object::File<'_>) -> Result<u64, String> {
    file.symbols()
        .find(|symbol| symbol.name() == Ok(LOG))
        .map(|symbol| symbol.address())
        .ok_or_else(|| format!("has no {LOG}: it says nothing to debug probes"))
}

/// What an ELF stores, where it is stored.
fn stored(elf: &[u8], file: &object::File<'_>) -> Result<Vec<Piece>, String> {
    let object::File::Elf32(file) = file else {
        return Err("is no program for a 32-bit processor".to_owned());
    };
    let endian = file.endian();
    let mut pieces = Vec::new();
    for header in file.elf_program_headers() {
        use object::read::elf::ProgramHeader as _;
        if header.p_type(endian) != object::elf::PT_LOAD || header.p_filesz(endian) == 0 {
            continue;
        }
        let bytes = header
            .data(endian, elf)
            .map_err(|()| "is cut off".to_owned())?;
        pieces.push(Piece {
            address: header.p_paddr(endian).into(),
            bytes: bytes.to_vec(),
        });
    }
    match pieces.is_empty() {
        true => Err("stores nothing".to_owned()),
        false => Ok(pieces),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
