//! Instructions per packet on the Cortex-M7, and the size of each firmware image.
//!
//! QEMU runs the bench program of the board under `-icount shift=0`: every instruction takes one nanosecond of
//! guest time, so the program counts its own instructions with its own timer, and the count is the same on any host.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use build::defmt_log::{Decoder, Line};
use build::{Firmware, boards, emulated_boards, program};
use rehearse::process::Process;
use serde::Serialize;

use crate::BenchError;
use crate::classify;
use crate::goals::{self, Goal, PathCost};
use crate::handshake::{self, Handshake};
use crate::peers::{self, Peers};
use crate::subject::{RULES, subject};

/// Builds the program of this name of the first emulated board that has one.
pub(crate) fn bench_program(source: &Path, name: &str) -> Result<Firmware, BenchError> {
    let of_board = format!("src/bin/{name}.rs");
    let has_it = |board: &&String| source.join("boards").join(board).join(&of_board).exists();
    let boards = emulated_boards(source);
    let board = boards.iter().find(has_it);
    let board = board.ok_or_else(|| BenchError::Site(format!("no emulated board has {name}")))?;
    Ok(program(source, board, name)?)
}

/// What `bench packet` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Instruction set and core.
    pub core: &'static str,
    /// Instructions per packet; frames come from memory, driver and MAC are not included.
    pub paths: Vec<PathCost>,
    /// Looking a packet up in compiled rules.
    pub rules: Vec<classify::Cost>,
    /// Bytes of a flow, both directions and its share of the index: IPv4, IPv6.
    pub flow_bytes: Option<[u32; 2]>,
    /// A check over HTTPS.
    pub handshake: Handshake,
    /// Every board's appliance.
    pub images: Vec<Image>,
    /// This machine's processor: ours and others'.
    pub peers: Peers,
    /// What else was aimed at.
    pub goals: Vec<Goal>,
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
    /// Flows of IPv4 that it has room for.
    pub flows: u32,
    /// Flows of IPv6.
    pub flows6: u32,
}

/// Builds the bench programs and all boards, and measures. `program_of_ours` is the running one, for [`peers::tread`].
///
/// # Errors
/// If something does not build, QEMU is missing, or a program ends early.
pub fn measure(source: &Path, program_of_ours: &Path) -> Result<Report, BenchError> {
    let images = boards(source)
        .into_iter()
        .map(|board| {
            let firmware = program(source, &board, &board)?;
            Ok(Image {
                board,
                flash: firmware.size.flash,
                ram: firmware.size.ram,
                flows: firmware.board.flows,
                flows6: firmware.board.flows6,
            })
        })
        .collect::<Result<_, BenchError>>()?;
    let bench = bench_program(source, "packet-bench")?;
    let runs = RULES
        .into_iter()
        .map(|count| Ok((count, results(&bench, count)?)))
        .collect::<Result<Vec<_>, BenchError>>()?;
    let rules = classify::measure(source)?;
    let peers = peers::measure(source, program_of_ours)?;
    Ok(Report {
        core: "Cortex-M7 (thumbv7em)",
        goals: goals::others(&runs, &rules, peers.established()),
        paths: goals::paths(&runs),
        flow_bytes: goals::flow_bytes(&runs),
        rules,
        handshake: handshake::measure(source)?,
        images,
        peers,
    })
}

/// The names of all paths with their instructions, and of the sizes with their bytes, with so many rules.
fn results(bench: &Firmware, rules: usize) -> Result<Vec<(String, u32)>, BenchError> {
    let (config, list) = subject(rules)?;
    let blob = classifier::blob(&config, &list, bench.board.config_size)
        .map_err(|error| BenchError::Site(format!("{rules} rules: {error}")))?;
    emulate(bench, &blob, read)
}

/// Runs a bench program with these bytes in the configuration's place until its log has a result.
pub(crate) fn emulate<T>(
    bench: &Firmware,
    placed_bytes: &[u8],
    result: impl Fn(&[Line]) -> Option<T>,
) -> Result<T, BenchError> {
    let directory =
        tempfile::tempdir().map_err(|cause| file(Path::new("a temporary directory"), cause))?;
    let placed = directory.path().join("config.bin");
    fs::write(&placed, placed_bytes).map_err(|cause| file(&placed, cause))?;

    let loader = format!(
        "loader,file={},addr={:#x},force-raw=on",
        placed.display(),
        bench.board.config_address
    );
    let serial = directory.path().join("serial");
    let qemu = bench.board.emulator()?;
    let mut arguments = qemu.machine.clone();
    arguments.extend(
        [
            "-icount", "shift=0", "-display", "none", "-monitor", "none", "-net", "none",
        ]
        .map(String::from),
    );
    arguments.extend(["-serial".into(), format!("file:{}", serial.display())]);
    arguments.extend(["-kernel".into(), bench.elf.display().to_string()]);
    arguments.extend(["-device".into(), loader]);
    let mut decoder = Decoder::open(&bench.elf)?;
    let emulator = &qemu.program;
    let log = directory.path().join("qemu.log");
    let mut qemu = Process::spawn(Path::new(emulator), &arguments, 0, &log).map_err(|cause| {
        BenchError::Start {
            program: emulator.clone(),
            cause,
        }
    })?;
    let begun = Instant::now();
    let (mut lines, mut read) = (Vec::new(), 0);
    loop {
        let ended = qemu.exited().is_some();
        // Until QEMU has opened it there is no file, and so no output.
        let output = fs::read(&serial).unwrap_or_default();
        lines.extend(decoder.push(output.get(read..).unwrap_or_default()));
        read = output.len();
        if let Some(result) = result(&lines) {
            return Ok(result);
        }
        if ended || begun.elapsed() > PATIENCE {
            let lines = lines.iter().map(|line| line.text.clone());
            return Err(BenchError::NoResult {
                what: "the bench program".into(),
                said: lines.chain([qemu.tail()]).collect::<Vec<_>>().join("\n"),
            });
        }
        sleep(Duration::from_millis(100));
    }
}

/// What the program's log says, once it says that it is done.
fn read(lines: &[Line]) -> Option<Vec<(String, u32)>> {
    let mut results = Vec::new();
    for line in lines {
        match line.text.split(' ').collect::<Vec<_>>()[..] {
            ["packet", "done"] => return Some(results),
            ["packet", what, number] => results.push((what.into(), number.parse().ok()?)),
            _ => {}
        }
    }
    None
}

fn file(path: &Path, cause: std::io::Error) -> BenchError {
    BenchError::File {
        path: path.into(),
        cause,
    }
}

/// The program takes some seconds of a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
