//! `ravelin run-elf`: a program into one board, and what it says. It is the runner of `cargo run` in a board's folder.

use std::{cell::Cell, process::ExitCode};

use build::{Board, Firmware, Size};

use crate::{
    appliances::failure,
    args,
    failure::{Failure, Message},
    flash::{devices, refused},
    logs, source,
};

/// Writes what differs, starts the program, and follows it.
pub fn run_elf(options: &args::RunElf) -> Result<ExitCode, Failure> {
    let root = source::root()?;
    let board = Board::read(&root, &options.board).map_err(failure)?;
    let named: Vec<String> = options.probe.iter().cloned().collect();
    let firmware = match &options.elf {
        Some(elf) => Firmware {
            board,
            elf: elf.clone(),
            size: Size::default(),
        },
        None => build::program(&root, &options.board, &options.board).map_err(failure)?,
    };
    let mut devices = devices(&named)?;
    if devices.len() > 1 {
        return Err(Failure::input(
            Message::new("several debug probes are connected").help(
                "name one with --probe or in RAVELIN_PROBE; `ravelin flash --list` shows them",
            ),
        ));
    }
    let probe = devices.remove(0).selector;
    let last = Cell::new("");
    let report = |phase: flash::Phase| {
        if last.replace(phase.name()) != phase.name() {
            eprintln!("{}: {} ...", options.board, phase.name());
        }
    };
    let bytes = flash::load(&probe, &firmware, &report).map_err(refused)?;
    match bytes {
        0 => eprintln!("{}: had the program already; started", options.board),
        bytes => eprintln!(
            "{}: wrote {} kB; started",
            options.board,
            bytes.div_ceil(1000)
        ),
    }
    logs::follow(
        &probe,
        &firmware,
        &options.board,
        options.seconds,
        options.json,
    )
}
