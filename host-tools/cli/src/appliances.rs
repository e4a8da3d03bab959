//! What each appliance runs: its compiled configuration, and the firmware of its board or this program.

use std::path::PathBuf;

use build::{ApplianceFirmware, Bundle, FirmwareError, Places, secrets::SecretError};
use rehearse::Appliance as Body;
use serde::Serialize;
use site::{Plan, plan::Appliance};

use crate::{
    failure::{Failure, Message},
    manifest,
    progress::Progress,
    source::LINUX,
};

/// What was made for one appliance.
#[derive(Debug, Serialize)]
pub struct Artifacts {
    /// Name of the appliance.
    pub name: String,
    /// Its board.
    pub board: String,
    /// The program for its board; none where this program is the appliance.
    pub elf: Option<PathBuf>,
    /// The compiled configuration.
    pub config: PathBuf,
    /// Bytes that the program uses.
    pub bytes: Option<Bytes>,
    /// False if nothing has changed.
    pub built: bool,
    /// How a rehearsal starts it.
    #[serde(skip)]
    pub body: Option<Body>,
}

/// Size of a program.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bytes {
    /// Stored.
    pub flash: u64,
    /// Used when it runs, without the stack.
    pub ram: u64,
}

impl Artifacts {
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

/// Compiles the configuration of each appliance, and the firmware of its board unless a bundle has it.
pub fn build(
    places: &Places,
    plan: &Plan,
    appliances: &[&Appliance],
    bundle: Option<&Bundle>,
    progress: &Progress,
) -> Result<Vec<Artifacts>, Failure> {
    let on_linux = |appliance: &&&Appliance| appliance.board == LINUX.0;
    let mut made = Vec::new();
    for appliance in appliances.iter().filter(on_linux) {
        made.push(process(places, plan, appliance)?);
    }
    let emulated: Vec<&Appliance> = appliances
        .iter()
        .filter(|appliance| !on_linux(appliance))
        .copied()
        .collect();
    if !emulated.is_empty() {
        let firmware = progress.during("firmware", || {
            build::firmware(plan, places, &emulated, bundle)
        });
        let firmware = firmware.map_err(failure)?;
        made.extend(firmware.into_iter().map(emulation));
    }
    for artifacts in &made {
        manifest::remember(plan, &places.state, &artifacts.name, &artifacts.config);
    }
    Ok(made)
}

/// How a command fails for want of firmware.
pub fn failure(error: FirmwareError) -> Failure {
    match error {
        FirmwareError::UnknownBoard { .. }
        | FirmwareError::NotEmulated { .. }
        | FirmwareError::Config { .. }
        | FirmwareError::Secret(SecretError::File { .. }) => Failure::input(error),
        _ => Failure::machine(error),
    }
}

/// The node as a process: this program, with a configuration.
fn process(places: &Places, plan: &Plan, appliance: &Appliance) -> Result<Artifacts, Failure> {
    let written = build::write_configuration(plan, places, &appliance.name, policy::MAX_BLOB);
    let (config, built) = written.map_err(failure)?;
    let program = std::env::current_exe().map_err(|error| {
        Failure::machine(Message::new(format!("cannot find this program: {error}")))
    })?;
    Ok(Artifacts {
        name: appliance.name.clone(),
        board: appliance.board.clone(),
        elf: None,
        config: config.clone(),
        bytes: None,
        built,
        body: Some(Body::Process { program, config }),
    })
}

fn emulation(appliance: ApplianceFirmware) -> Artifacts {
    let ApplianceFirmware {
        appliance,
        firmware,
        config,
        built,
    } = appliance;
    let board = firmware.board;
    Artifacts {
        name: appliance,
        bytes: Some(Bytes {
            flash: firmware.size.flash,
            ram: firmware.size.ram,
        }),
        elf: Some(firmware.elf.clone()),
        config: config.clone(),
        built,
        body: board.qemu.map(|qemu| Body::Emulated {
            machine: qemu.machine,
            elf: firmware.elf,
            config,
            config_address: board.config_address,
            flash: None,
            nic_model: Some(qemu.nic),
        }),
        board: board.name,
    }
}
