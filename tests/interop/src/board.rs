//! Our Linux board as a program of a suite's own.

use std::error::Error;
use std::{env, fs};

use board_linux::{Options, PortSpec};
use classifier::Aligned;

/// Is the Linux board with a configuration blob, as its arguments say: `BLOB wan=IFACE lan=IFACE`.
///
/// # Errors
/// If they say something else, or the board does not start.
pub fn appliance() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let blob = arguments.next().ok_or("usage: BLOB NAME=PORT...")?;
    let policy = classifier::load(Aligned::copy(&fs::read(&blob)?).leak())?;
    let ports = arguments
        .map(|port| {
            port.split_once('=')
                .map(|(_, spec)| spec.parse())
                .ok_or("a port is NAME=PORT")
        })
        .collect::<Result<Result<Vec<PortSpec>, _>, _>>()??;
    Ok(board_linux::run(Options {
        policy,
        blob: &[],
        source: None,
        file: None,
        rules: Vec::new(),
        ports,
        stop: None,
        realtime: false,
    })?)
}
