//! `ravelin run`: an appliance as a process on this machine.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use board_linux::{Options, PortSpec, RunError};
use build::Places;
use classifier::Aligned;
use site::Boards;

use crate::{
    args::{self, Side},
    failure::{Failure, Message},
    manifest,
    push::digest_of,
    site_file::SiteFile,
};

/// How the plan calls the software appliance.
const BOARD: &str = "linux";

/// Runs until SIGTERM, SIGINT or trouble. SIGHUP reads the configuration again.
pub fn run(site: Option<&Path>, options: &args::Run) -> Result<ExitCode, Failure> {
    let ports = ports(options)?;
    let source = match (&options.config_blob, &options.appliance) {
        (Some(blob), _) => Origin::Blob(blob.clone()),
        (None, Some(appliance)) => Origin::Site {
            site: site.map(Path::to_owned),
            appliance: appliance.clone(),
            ports: ports.len(),
        },
        (None, None) => {
            return Err(Failure::input(Message::new(
                "name an appliance of the site file",
            )));
        }
    };
    let (blob, rules) = source.read()?;
    let blob = Aligned::copy(&blob).leak();
    let policy = classifier::load(blob).map_err(|error| source.refused(&error.to_string()))?;
    let options = Options {
        policy,
        blob,
        rules,
        ports,
        file: options.config_blob.clone(),
        source: Some(Box::new(move || {
            source.read().map_err(|failure| failure.to_string())
        })),
        stop: None,
        realtime: options.realtime,
    };
    match board_linux::run(options) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ (RunError::TooFewPorts { .. } | RunError::TooManyPorts { .. })) => {
            Err(Failure::input(Message::new(error.to_string())))
        }
        Err(error) => Err(Failure::machine(Message::new(error.to_string()))),
    }
}

/// Where a configuration comes from.
enum Origin {
    Blob(PathBuf),
    Site {
        site: Option<PathBuf>,
        appliance: String,
        ports: usize,
    },
}

impl Origin {
    /// The blob, and the names of its rules as far as they are known.
    fn read(&self) -> Result<(Vec<u8>, Vec<String>), Failure> {
        match self {
            Self::Blob(path) => {
                let bytes = std::fs::read(path)
                    .map_err(|error| Failure::input(Message::file("read", path, &error)))?;
                Ok((bytes, Vec::new()))
            }
            Self::Site {
                site,
                appliance,
                ports,
            } => site_policy(site.as_deref(), appliance, *ports),
        }
    }

    fn refused(&self, error: &str) -> Failure {
        let text = match self {
            Self::Blob(path) => format!("{} is not a configuration: {error}", path.display()),
            Self::Site { appliance, .. } => format!("{appliance} cannot run: {error}"),
        };
        Failure::input(Message::new(text))
    }
}

/// The ports in the order of the plan: wan, lan, or the trunk alone.
fn ports(options: &args::Run) -> Result<Vec<PortSpec>, Failure> {
    let of = |side| {
        options
            .ports
            .iter()
            .filter(move |port| port.side == side)
            .map(|port| port.spec.clone())
    };
    let all: Vec<Vec<PortSpec>> = [Side::Wan, Side::Lan, Side::Trunk]
        .map(|side| of(side).collect())
        .into();
    match &all[..] {
        [wan, lan, trunk] if wan.len() == 1 && lan.len() == 1 && trunk.is_empty() => {
            Ok(vec![wan[0].clone(), lan[0].clone()])
        }
        [wan, lan, trunk] if wan.is_empty() && lan.is_empty() && trunk.len() == 1 => {
            Ok(trunk.clone())
        }
        _ => Err(Failure::input(
            Message::new("an appliance has two ports, or one trunk")
                .help("give --port wan=INTERFACE --port lan=INTERFACE, or --port trunk=INTERFACE"),
        )),
    }
}

/// What the appliance runs, and the names of its rules.
fn site_policy(
    site: Option<&Path>,
    appliance: &str,
    ports: usize,
) -> Result<(Vec<u8>, Vec<String>), Failure> {
    // Whatever board the file names: here the appliance is a process with the ports it was given.
    let boards = Boards::new([(BOARD, u8::try_from(ports).unwrap_or(u8::MAX))]);
    let file = SiteFile::read(site)?;
    let plan = file.plan_on_board(&boards, BOARD)?;
    if !plan.appliances.iter().any(|one| one.name == appliance) {
        let names: Vec<&str> = plan
            .appliances
            .iter()
            .map(|appliance| appliance.name.as_str())
            .collect();
        return Err(Failure::input(
            Message::new(format!("the site has no appliance named `{appliance}`"))
                .help(format!("its appliances are {}", names.join(" and "))),
        ));
    }
    let state = Places::new(Path::new("."), &file.path).state;
    let compiled = manifest::compile(&plan, &state, appliance, SystemTime::now())?;
    // Only for words about what changes later.
    let digest = digest_of(&compiled.blob);
    let _less_is_known = compiled.manifest.remember(&state, &digest);
    Ok((compiled.blob, compiled.rules))
}
