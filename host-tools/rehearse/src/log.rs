//! Readable logs of emulated appliances: their serial ports carry defmt frames.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use build::defmt_log::Decoder;

/// Turns what QEMU wrote to one file into lines of another, a bit at a time.
pub struct BoardLog {
    decoder: Decoder,
    path: PathBuf,
    raw: File,
    readable: File,
}

impl BoardLog {
    /// Decodes the file `raw` with the help of the firmware `elf`; lines go to `readable`.
    pub fn new(elf: &Path, raw: &Path, readable: &Path) -> io::Result<Self> {
        let decoder = Decoder::open(elf).map_err(io::Error::other)?;
        File::create(raw)?;
        Ok(Self {
            decoder,
            path: raw.to_path_buf(),
            raw: File::open(raw)?,
            readable: File::create(readable)?,
        })
    }

    /// Makes room for what the next QEMU writes, who begins at the front.
    pub fn restart(&mut self) -> io::Result<()> {
        File::create(&self.path)?;
        self.raw = File::open(&self.path)?;
        Ok(())
    }

    /// Decodes what is new.
    pub fn catch_up(&mut self) {
        let mut bytes = Vec::new();
        // A log that cannot be read or written ends; the rehearsal goes on.
        if self.raw.read_to_end(&mut bytes).is_ok() {
            for line in self.decoder.push(&bytes) {
                let _ = writeln!(self.readable, "{line}");
            }
        }
    }
}
