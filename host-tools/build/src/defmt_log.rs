//! An emulated or real board's log: defmt frames as they come from its serial port, with the help of the
//! ELF that the board runs.

use std::fmt;
use std::path::Path;

use defmt_decoder::{Locations, Table};

/// Turns bytes of a serial port into lines.
pub struct Decoder {
    table: Table,
    locations: Locations,
    pending: Vec<u8>,
}

/// One message of a board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Seconds since the board started, with six decimals.
    pub time: String,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// What it says.
    pub text: String,
    /// The source file that says it, if the ELF knows.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<u64>,
}

/// Why a log cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The ELF cannot be read.
    #[error("cannot read {path}: {cause}")]
    Read {
        /// The file.
        path: String,
        /// What the system answered.
        cause: std::io::Error,
    },
    /// The ELF has no, or unknown, defmt data.
    #[error("{path} does not describe a log: {reason}")]
    NoTable {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
}

impl Decoder {
    /// A decoder for the log of this program.
    ///
    /// # Errors
    /// If the file cannot be read or has no defmt data.
    pub fn open(elf: &Path) -> Result<Self, LogError> {
        Self::parse(elf, |_, _| Locations::new())
    }

    /// The same; lines say where in the source they come from, which takes a second or more to find out.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn with_places(elf: &Path) -> Result<Self, LogError> {
        // Without them, lines only lack their places.
        Self::parse(elf, |table, bytes| {
            table.get_locations(bytes).unwrap_or_default()
        })
    }

    fn parse(
        elf: &Path,
        locations: impl FnOnce(&Table, &[u8]) -> Locations,
    ) -> Result<Self, LogError> {
        let path = elf.display().to_string();
        let bytes = std::fs::read(elf).map_err(|cause| LogError::Read {
            path: path.clone(),
            cause,
        })?;
        let table = Table::parse(&bytes)
            .map_err(|error| format!("{error:#}"))
            .and_then(|table| table.ok_or_else(|| "no .defmt section".to_owned()))
            .map_err(|reason| LogError::NoTable { path, reason })?;
        Ok(Self {
            locations: locations(&table, &bytes),
            table,
            pending: Vec::new(),
        })
    }

    /// Takes bytes as they come; the lines that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        self.pending.extend_from_slice(bytes);
        let Some(end) = self.pending.iter().rposition(|byte| *byte == FRAME_END) else {
            return Vec::new();
        };
        let complete: Vec<u8> = self.pending.drain(..=end).collect();
        let frames = complete
            .split(|byte| *byte == FRAME_END)
            .filter(|frame| !frame.is_empty());
        frames.map(|frame| self.line(frame)).collect()
    }

    fn line(&self, frame: &[u8]) -> Line {
        let mut decoder = self.table.new_stream_decoder();
        decoder.received(frame);
        decoder.received(&[FRAME_END]);
        match decoder.decode() {
            Ok(frame) => {
                let place = self.locations.get(&frame.index());
                Line {
                    time: frame
                        .display_timestamp()
                        .map(|time| time.to_string())
                        .unwrap_or_default(),
                    level: frame.level().map_or("info", |level| level.as_str()),
                    text: frame.display_message().to_string(),
                    file: place.map(|place| place.file.display().to_string()),
                    line: place.map(|place| place.line),
                }
            }
            Err(_) => Line {
                time: String::new(),
                level: "error",
                text: format!("(unreadable log frame of {} bytes)", frame.len()),
                file: None,
                line: None,
            },
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:>12}] ", self.time)?;
        if self.level != "info" {
            write!(f, "{}: ", self.level)?;
        }
        f.write_str(&self.text)
    }
}

const FRAME_END: u8 = 0;
