//! Chores of the repository: all tests in stages, board builds, the import check.

#![forbid(unsafe_code)]

mod boards;
mod fuzz;
mod imports;
mod stage;
mod stages;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

/// Chores of the repository.
#[derive(Parser)]
#[command(name = "xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all tests, stage by stage.
    Test {
        /// Run only these stages.
        #[arg(long, value_name = "STAGE")]
        only: Vec<String>,
        /// List the stages and run none.
        #[arg(long)]
        list: bool,
        /// Run longer simulations, more fuzzing and every rehearsal.
        #[arg(long)]
        soak: bool,
    },
    /// Build the firmware of every board, or of these, and print its sizes beside its limits.
    Boards {
        /// Names of folders under boards/.
        names: Vec<String>,
    },
    /// Compare the arrows of ARCHITECTURE.md with what crates really import.
    Imports,
    /// Fuzz every target for a number of inputs.
    Fuzz {
        /// Inputs per target.
        #[arg(long, default_value_t = 20_000)]
        runs: u32,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = root();
    let done = match arguments.command {
        Command::Test { list: true, .. } => {
            for stage in stages::ALL {
                println!("{:<12} {}", stage.name, stage.what);
            }
            Ok(())
        }
        Command::Test { only, soak, .. } => return stage::run_all(&root, stages::ALL, &only, soak),
        Command::Boards { names } => boards::build(&root, &names),
        Command::Imports => imports::check(&root),
        Command::Fuzz { runs } => {
            fuzz::smoke(&root, runs).map(|targets| println!("{}", targets.join("\n")))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).unwrap_or(manifest).to_owned()
}
