//! `ravelin run`: an appliance as a process on this machine.

use std::{path::Path, process::ExitCode, time::SystemTime};

use board_linux::{Options, PortSpec, RunError};
use build::Places;
use classifier::{Aligned, Policy};
use site::Boards;

use crate::{
    args::{self, Side},
    failure::{Failure, Message},
    site_file::SiteFile,
};

/// How the plan calls the software appliance.
const BOARD: &str = "linux";

/// Runs until SIGTERM, SIGINT or trouble.
pub fn run(site: Option<&Path>, options: &args::Run) -> Result<ExitCode, Failure> {
    let ports = ports(options)?;
    let (policy, rules) = match (&options.config_blob, &options.appliance) {
        (Some(blob), _) => (blob_policy(blob)?, Vec::new()),
        (None, Some(appliance)) => site_policy(site, appliance, ports.len())?,
        (None, None) => {
            return Err(Failure::input(Message::new(
                "name an appliance of the site file",
            )));
        }
    };
    let options = Options {
        policy,
        rules,
        ports,
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
) -> Result<(Policy<'static>, Vec<String>), Failure> {
    // Whatever board the file names: here the appliance is a process with the ports it was given.
    let boards = Boards::new([(BOARD, u8::try_from(ports).unwrap_or(u8::MAX))]);
    let file = SiteFile::read(site)?;
    let plan = file.plan_on_board(&boards, BOARD)?;
    let (mut config, rules) = render::appliance::policy(&plan, appliance).map_err(|error| {
        let names: Vec<&str> = plan
            .appliances
            .iter()
            .map(|appliance| appliance.name.as_str())
            .collect();
        Failure::input(
            Message::new(error.to_string())
                .help(format!("its appliances are {}", names.join(" and "))),
        )
    })?;
    let state = Places::new(Path::new("."), &file.path).state;
    build::secrets::fill(&mut config, &plan, &state).map_err(Failure::input)?;
    build::trust::fill(&mut config, &plan, &state, SystemTime::now()).map_err(Failure::input)?;
    let names = rules.iter().map(|rule| rule.name.to_string()).collect();
    let policy = classifier::policy(config, &rules)
        .map_err(|error| Failure::input(Message::new(error.to_string())))?;
    Ok((policy, names))
}

fn blob_policy(path: &Path) -> Result<Policy<'static>, Failure> {
    let bytes =
        std::fs::read(path).map_err(|error| Failure::input(Message::file("read", path, &error)))?;
    classifier::load(Aligned::copy(&bytes).leak()).map_err(|error| {
        Failure::input(Message::new(format!(
            "{} is not a configuration: {error}",
            path.display()
        )))
    })
}
