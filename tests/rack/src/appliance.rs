//! A linux appliance for the tests of this crate: what `ravelin run --config-blob FILE --port …` does.

use std::error::Error;

use board_linux::{Options, PortSpec};
use classifier::Aligned;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = None;
    let mut ports: Vec<PortSpec> = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "run" => {}
            "--config-blob" => config = Some(std::fs::read(arguments.next().ok_or("no file")?)?),
            "--port" => {
                let port = arguments.next().ok_or("no port")?;
                let (_, spec) = port.split_once('=').ok_or("no name")?;
                ports.push(spec.parse()?);
            }
            other => return Err(format!("unknown argument {other}").into()),
        }
    }
    let blob = Aligned::copy(&config.ok_or("no configuration")?);
    let policy = classifier::load(blob.leak())?;
    board_linux::run(Options {
        policy,
        blob: &[],
        source: None,
        file: None,
        rules: Vec::new(),
        ports,
        stop: None,
        realtime: false,
    })?;
    Ok(())
}
