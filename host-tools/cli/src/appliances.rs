//! What each appliance runs: its compiled configuration, and firmware or this program.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use build::Places;
use rehearse::Appliance as Body;
use serde::Serialize;
use site::{Plan, plan::Appliance};

use crate::{
    failure::{Failure, Message},
    progress::Progress,
    source,
};

/// What was made for one appliance.
#[derive(Debug, Serialize)]
pub struct Firmware {
    /// Name of the appliance.
    pub name: String,
    /// Its board.
    pub board: String,
    /// The program for its board; none where this program is the appliance.
    pub elf: Option<PathBuf>,
    /// The compiled configuration.
    pub config: PathBuf,
    /// Bytes of flash and RAM of the program.
    pub bytes: Option<Bytes>,
    /// False if both existed and are unchanged.
    pub built: bool,
    /// How a rehearsal starts it.
    #[serde(skip)]
    pub body: Body,
}

/// Sizes of a program.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    /// What is stored.
    pub flash: u64,
    /// What is occupied when it runs, without the stack.
    pub ram: u64,
}

impl Firmware {
    /// Its size in words.
    pub fn size(&self) -> String {
        match self.bytes {
            Some(bytes) => format!(
                "flash {} kB, RAM {} kB",
                bytes.flash / 1000,
                bytes.ram / 1000
            ),
            None => "this program".to_owned(),
        }
    }
}

/// Compiles the configuration of each appliance, and the firmware of its board.
pub fn build(
    places: &Places,
    plan: &Plan,
    appliances: &[&Appliance],
    progress: &Progress,
) -> Result<Vec<Firmware>, Failure> {
    appliances
        .iter()
        .map(|appliance| one(places, plan, appliance, progress))
        .collect()
}

fn one(
    places: &Places,
    plan: &Plan,
    appliance: &Appliance,
    _progress: &Progress,
) -> Result<Firmware, Failure> {
    let config = render::appliance::config(plan, &appliance.name)
        .map_err(|error| Failure::input(Message::new(error.to_string())))?;
    let mut buffer = vec![0; policy::MAX_BLOB];
    let blob = policy::encode(&config, &mut buffer).map_err(|error| {
        Failure::input(Message::new(format!(
            "configuration of {}: {error}",
            appliance.name
        )))
    })?;
    let path = places
        .state
        .join("firmware")
        .join(&appliance.name)
        .join("config.bin");
    let built = write_if_changed(&path, blob)
        .map_err(|error| Failure::machine(Message::file("write", &path, &error)))?;
    if appliance.board != source::LINUX.0 {
        return Err(Failure::machine(Message::new(format!(
            "no firmware builder for board {}",
            appliance.board
        ))));
    }
    let program = std::env::current_exe().map_err(|error| {
        Failure::machine(Message::new(format!("cannot find this program: {error}")))
    })?;
    Ok(Firmware {
        name: appliance.name.clone(),
        board: appliance.board.clone(),
        elf: None,
        config: path.clone(),
        bytes: None,
        built,
        body: Body::Process {
            program,
            config: path,
        },
    })
}

/// Writes a whole file or nothing; says whether its content is new.
fn write_if_changed(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension("new");
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&temporary);
    }
    written.map(|()| true)
}
