//! Configurations that come over the network: in memory while they are on trial, in their file when they stay.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use hal::ConfigurationStore;
use slots::Slots;

/// Slots, and a file.
#[derive(Debug)]
pub struct Store {
    slots: Slots,
    file: Option<PathBuf>,
    /// What brings the last one to the disk: nobody has to wait for that.
    writer: Option<JoinHandle<io::Result<()>>>,
}

impl Store {
    /// Room beside the blob that the appliance starts with. What stays is written to `file`, if there is one.
    pub fn new(start: &'static [u8], file: Option<PathBuf>) -> Self {
        // Pages that are never written cost nothing.
        let slot = || vec![0; policy::MAX_BLOB / size_of::<u32>()].leak();
        Self {
            // SAFETY: the store is used by the loop's node alone, which keeps the trait's promise.
            slots: unsafe { Slots::new(start, [slot(), slot()]) },
            file,
            writer: None,
        }
    }

    /// Waits until all is on the disk; what went wrong.
    pub fn settle(&mut self) -> Option<String> {
        let result = self.writer.take()?.join().ok()?;
        let error = result.err()?;
        Some(format!(
            "the configuration could not be written down: {error}"
        ))
    }

    fn write_down(&mut self, path: &Path) -> io::Result<()> {
        if let Some(problem) = self.settle() {
            return Err(io::Error::other(problem));
        }
        let running = self.slots.running();
        let blob = policy::length(running).and_then(|len| running.get(..len));
        let new = path.with_extension("new");
        // It holds secrets.
        let mut options = OpenOptions::new();
        let mut file = (options.write(true).create(true).truncate(true).mode(0o600)).open(&new)?;
        file.write_all(blob.unwrap_or_default())?;
        let path = path.to_owned();
        let publish = move || {
            file.sync_all()?;
            fs::rename(new, &path)?;
            match path.parent() {
                Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
                _ => Ok(()),
            }
        };
        self.writer = Some(std::thread::spawn(publish));
        Ok(())
    }
}

impl ConfigurationStore for Store {
    fn room(&self) -> usize {
        self.slots.room()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        self.slots.write(offset, bytes)
    }

    fn next(&self) -> &[u8] {
        self.slots.next()
    }

    fn running(&self) -> &[u8] {
        self.slots.running()
    }

    fn switch(&mut self) -> Option<&'static [u8]> {
        self.slots.switch()
    }

    fn back(&mut self) -> Option<&'static [u8]> {
        self.slots.back()
    }

    fn keep(&mut self) -> bool {
        let kept = self.slots.keep();
        match self.file.clone() {
            Some(path) => kept && self.write_down(&path).is_ok(),
            None => kept,
        }
    }
}
