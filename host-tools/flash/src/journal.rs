//! What a bench did: one line of JSON for each device, on the disk before the next thing happens, and never changed again.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::{Image, Outcome, Report};

/// What was done at one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since 1970.
    pub time: u64,
    /// The appliance.
    pub appliance: String,
    /// The probe.
    pub probe: String,
    /// The chip's own number, where it has one.
    pub chip: Option<String>,
    /// The unit's number.
    pub serial_number: Option<String>,
    /// SHA-256 of the program.
    pub firmware: String,
    /// SHA-256 of the configuration.
    pub configuration: String,
    /// `done`, `up-to-date`, `differs`, or `failed`.
    pub result: String,
    /// Why it failed.
    pub error: Option<String>,
}

impl Entry {
    /// What this report says, about this image.
    #[must_use]
    pub fn new(report: &Report, image: &Image) -> Self {
        let done = report.result.as_ref().ok();
        let result = match done.map(|done| done.outcome) {
            Some(Outcome::Done { .. }) => "done",
            Some(Outcome::UpToDate) => "up-to-date",
            Some(Outcome::Differs { .. }) => "differs",
            Some(Outcome::Prepared { .. }) => "prepared",
            None => "failed",
        };
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            time: since.unwrap_or_default().as_secs(),
            appliance: report.appliance.clone(),
            probe: report.probe.clone(),
            chip: done.and_then(|done| done.chip.clone()),
            serial_number: done.and_then(|done| done.serial_number.clone()),
            firmware: image.firmware_hash.clone(),
            configuration: image.configuration_hash.clone(),
            result: result.to_owned(),
            error: report.result.as_ref().err().map(ToString::to_string),
        }
    }

    /// Whether the unit was verified: what was meant is in it.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        ["done", "up-to-date"].contains(&&*self.result)
    }
}

/// The journal of a bench.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens it, or begins one. A last line that a power failure cut off is cut off for good.
    ///
    /// # Errors
    /// If it cannot be read or written, or a line in its middle is none of ours.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        let mut entries = Vec::new();
        let mut whole = 0;
        let mut reader = BufReader::new(&file);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            if !line.ends_with('\n') {
                break;
            }
            let entry = serde_json::from_str(&line).map_err(|error| {
                let place = format!("line {}: {error}", entries.len() + 1);
                io::Error::new(io::ErrorKind::InvalidData, place)
            })?;
            entries.push(entry);
            whole += line.len() as u64;
            line.clear();
        }
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            entries,
        })
    }

    /// Adds a line, and returns when it is on the disk.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn add(&mut self, entry: Entry) -> io::Result<()> {
        let line = format!("{}\n", serde_json::to_string(&entry)?);
        self.file.write_all(line.as_bytes())?;
        self.file.sync_data()?;
        self.entries.push(entry);
        Ok(())
    }

    /// The last that was done with an appliance.
    #[must_use]
    pub fn last(&self, appliance: &str) -> Option<&Entry> {
        let mut newest_first = self.entries.iter().rev();
        newest_first.find(|entry| entry.appliance == appliance && entry.result != "differs")
    }

    /// Whether the last that was done with it was this image, and went well.
    #[must_use]
    pub fn has_done(&self, appliance: &str, image: &Image) -> bool {
        self.last(appliance).is_some_and(|entry| {
            entry.is_verified()
                && entry.firmware == image.firmware_hash
                && entry.configuration == image.configuration_hash
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(appliance: &str, result: &str) -> Entry {
        Entry {
            time: 1,
            appliance: appliance.to_owned(),
            probe: "1d50:6018:1".to_owned(),
            chip: None,
            serial_number: Some("RV-1".to_owned()),
            firmware: "f".to_owned(),
            configuration: "c".to_owned(),
            result: result.to_owned(),
            error: None,
        }
    }

    #[test]
    fn a_power_failure_costs_the_line_that_was_being_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.add(entry("gw1", "done")).unwrap();
        journal.add(entry("gw2", "failed")).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            assert_eq!(journal.last("gw1").is_some(), lines >= 1, "{cut}");
            journal.add(entry("gw3", "up-to-date")).unwrap();
            let again = Journal::open(&path).unwrap();
            assert_eq!(again.entries.len(), lines + 1, "{cut}");
            assert!(again.last("gw3").is_some_and(Entry::is_verified));
        }
    }

    #[test]
    fn what_is_none_of_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bench.jsonl");
        fs::write(&path, "a shopping list\nmilk\n").unwrap();
        let error = Journal::open(&path).unwrap_err();
        assert!(error.to_string().starts_with("line 1:"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"a shopping list\nmilk\n");
    }
}
