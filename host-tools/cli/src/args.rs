//! What can be typed.

use std::path::PathBuf;

use board_linux::PortSpec;
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

/// One site file to a working, failing-over website: appliances' firmware, servers' images, rehearsal.
#[derive(Debug, Parser)]
#[command(name = "ravelin", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Arguments {
    /// Site file [default: ./site.toml, or the reference site inside the repository].
    #[arg(long, global = true, value_name = "FILE")]
    pub site: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 the answer is no, 2 wrong input, 3 machine or device trouble.";

/// What the tool can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a commented site file to start from.
    New(New),
    /// Check the site file: every problem with its place and how to mend it.
    Check(Json),
    /// Show what follows from the site file: addresses, cables, rules, images.
    Plan(Json),
    /// Run an appliance as a process on interfaces of this machine (needs root or CAP_NET_RAW).
    Run(Run),
    /// List what this machine lacks, and the commands that mend it.
    Doctor(Json),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

/// Options of `new`.
#[derive(Debug, Args)]
pub struct New {
    /// Name of the site: lower-case letters, digits, hyphens. A directory of this name is made.
    pub name: String,
    /// DNS name that users type [default: www.NAME.com].
    #[arg(long)]
    pub domain: Option<String>,
}

/// Options of commands that only report.
#[derive(Debug, Args)]
pub struct Json {
    /// Machine-readable output.
    #[arg(long)]
    pub json: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The appliance, as the site file calls it.
    #[arg(required_unless_present = "config_blob")]
    pub appliance: Option<String>,
    /// A port: `wan=eth0`, `lan=eth1` (or `trunk=eth0` for both); also `wan=tap:NAME`.
    #[arg(long = "port", value_name = "NAME=INTERFACE", required = true, value_parser = named_port)]
    pub ports: Vec<NamedPort>,
    /// Lock memory and run under SCHED_FIFO: adverts are on time on a busy machine.
    #[arg(long)]
    pub realtime: bool,
    /// Run this compiled configuration instead of one from the site file.
    #[arg(long, hide = true, value_name = "FILE", conflicts_with = "appliance")]
    pub config_blob: Option<PathBuf>,
}

/// One `--port`.
#[derive(Clone, Debug)]
pub struct NamedPort {
    /// Side of the appliance.
    pub side: Side,
    /// What it is on this machine.
    pub spec: PortSpec,
}

/// Sides of an appliance as `--port` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the provider.
    Wan,
    /// Towards the rack.
    Lan,
    /// Everything on one cable, tagged.
    Trunk,
}

fn named_port(text: &str) -> Result<NamedPort, String> {
    let (side, spec) = text
        .split_once('=')
        .ok_or("write NAME=INTERFACE, such as wan=eth0")?;
    let side = match side {
        "wan" => Side::Wan,
        "lan" => Side::Lan,
        "trunk" => Side::Trunk,
        other => {
            return Err(format!(
                "no port is called `{other}`: use wan, lan or trunk"
            ));
        }
    };
    Ok(NamedPort {
        side,
        spec: spec.parse().map_err(|error| format!("{error}"))?,
    })
}
