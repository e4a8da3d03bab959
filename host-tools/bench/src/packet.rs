//! Instructions per packet on the Cortex-M7, and the size of each firmware image.
//!
//! QEMU runs the bench program of the board under `-icount shift=0`: every instruction takes one nanosecond of
//! guest time, so the program counts its own instructions with its own timer, and the count is the same on any host.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use build::defmt_log::Decoder;
use build::{boards, program};
use serde::Serialize;
use site::Plan;

use crate::BenchError;

/// The board whose program counts instructions.
pub const BOARD: &str = "mps2-an500";

/// What `bench packet` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Instruction set and core.
    pub core: &'static str,
    /// Instructions per packet; frames come from memory, driver and MAC are not included.
    pub paths: Vec<PathCost>,
    /// Every board's appliance.
    pub images: Vec<Image>,
}

/// One path through the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathCost {
    /// Its name.
    pub path: String,
    /// Mean of 1000 packets.
    pub instructions: u32,
}

/// Size of one firmware image in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// The board.
    pub board: String,
    /// Code and constants.
    pub flash: u64,
    /// Static data; the stack has the rest.
    pub ram: u64,
}

/// Builds the bench program and all boards, and measures. `plan` must be on [`BOARD`].
///
/// # Errors
/// If something does not build, QEMU is missing, or the program ends early.
pub fn measure(source: &Path, plan: &Plan) -> Result<Report, BenchError> {
    let images = boards(source)
        .into_iter()
        .map(|board| {
            let size = program(source, &board, &board)?.size;
            Ok(Image {
                board,
                flash: size.flash,
                ram: size.ram,
            })
        })
        .collect::<Result<_, BenchError>>()?;
    Ok(Report {
        core: "Cortex-M7 (thumbv7em)",
        paths: paths(source, plan)?,
        images,
    })
}

fn paths(source: &Path, plan: &Plan) -> Result<Vec<PathCost>, BenchError> {
    let bench = program(source, BOARD, "packet-bench")?;
    let appliance = plan
        .appliances
        .first()
        .ok_or_else(|| BenchError::Site("it has no appliance".into()))?;
    let config = render::appliance::config(plan, &appliance.name)
        .map_err(|error| BenchError::Site(error.to_string()))?;
    let mut buffer = vec![0; policy::MAX_BLOB];
    let blob = policy::encode(&config, &mut buffer)
        .map_err(|error| BenchError::Site(error.to_string()))?;
    let directory =
        tempfile::tempdir().map_err(|cause| file(Path::new("a temporary directory"), cause))?;
    let placed = directory.path().join("config.bin");
    fs::write(&placed, blob).map_err(|cause| file(&placed, cause))?;

    let loader = format!(
        "loader,file={},addr={:#x},force-raw=on",
        placed.display(),
        bench.board.config_address
    );
    let mut qemu = Command::new(&bench.board.qemu.program)
        .args(&bench.board.qemu.machine)
        .args([
            "-icount", "shift=0", "-display", "none", "-monitor", "none", "-serial", "stdio",
            "-net", "none",
        ])
        .arg("-kernel")
        .arg(&bench.elf)
        .args(["-device", &loader])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| BenchError::Start {
            program: bench.board.qemu.program.clone(),
            cause,
        })?;
    let serial = qemu.stdout.take();
    let watchdog = stop_after(PATIENCE, qemu.id());
    let result = read(serial, Decoder::open(&bench.elf)?);
    // It may have ended by itself; there is nothing to do about a kill that fails.
    let _ = qemu.kill();
    let _ = qemu.wait();
    drop(watchdog);
    result
}

/// Reads the program's log until it says that it is done.
fn read(
    serial: Option<impl std::io::Read>,
    mut decoder: Decoder,
) -> Result<Vec<PathCost>, BenchError> {
    let mut paths = Vec::new();
    let mut said = String::new();
    let mut buffer = [0; 4096];
    let mut serial = serial.into_iter();
    let Some(mut serial) = serial.next() else {
        return Err(no_result(said));
    };
    loop {
        let Ok(count @ 1..) = serial.read(&mut buffer) else {
            return Err(no_result(said));
        };
        for line in decoder.push(&buffer[..count]) {
            said.push_str(&line.text);
            said.push('\n');
            match line.text.split(' ').collect::<Vec<_>>()[..] {
                ["packet", "done"] => return Ok(paths),
                ["packet", path, instructions] => {
                    let instructions = instructions.parse().map_err(|_| no_result(said.clone()))?;
                    paths.push(PathCost {
                        path: path.into(),
                        instructions,
                    });
                }
                _ => {}
            }
        }
    }
}

/// Kills a process that hangs; the returned guard calls it off.
fn stop_after(patience: Duration, pid: u32) -> std::sync::mpsc::Sender<()> {
    let (guard, called_off) = std::sync::mpsc::channel::<()>();
    thread::spawn(move || {
        if called_off.recv_timeout(patience) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").arg(pid.to_string()).status();
        }
    });
    guard
}

fn no_result(said: String) -> BenchError {
    BenchError::NoResult {
        what: "the packet bench".into(),
        said,
    }
}

fn file(path: &Path, cause: std::io::Error) -> BenchError {
    BenchError::File {
        path: path.into(),
        cause,
    }
}

/// The program takes some seconds of a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
