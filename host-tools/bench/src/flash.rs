//! How long flashing takes, at emulated boards behind virtual probes: one, ten at once, and one that has everything already.

use std::fs;
use std::path::Path;
use std::time::Instant;

use build::{Board, Firmware, configuration, emulated_boards, program};
use flash::{Image, Job, Options, Outcome, selector};
use serde::Serialize;
use site::Boards;
use virtual_probe::Board as Emulated;

use crate::BenchError;
use crate::goals::{Goal, Sense};

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The board.
    pub board: String,
    /// Bytes of firmware and configuration.
    pub bytes: u64,
    /// Seconds for one blank device: compare, write, read back, start, report.
    pub one_seconds: f64,
    /// How many were flashed at once.
    pub many: usize,
    /// Seconds until the last of them was done.
    pub many_seconds: f64,
    /// Seconds for a device with nothing to write.
    pub unchanged_seconds: f64,
    /// Bytes that are written when one line of the site file changes.
    pub one_line_bytes: u64,
    /// What was aimed at.
    pub goals: Vec<Goal>,
}

/// Devices at once.
const MANY: usize = 10;

/// Measures at the first emulated board that has a way for debug probes, with the reference site.
///
/// # Errors
/// If there is no firmware, no emulator, or a device fails.
pub fn measure(source: &Path) -> Result<Report, BenchError> {
    let site = |reason: String| BenchError::Site(reason);
    let has_probe = |name: &String| Board::read(source, name).is_ok_and(|b| b.probe.is_some());
    let name = emulated_boards(source).into_iter().find(has_probe);
    let name =
        name.ok_or_else(|| site("no emulated board has a way for debug probes".to_owned()))?;
    let firmware = program(source, &name, &name)?;
    let path = source.join("examples/foobar/site.toml");
    let text = fs::read_to_string(&path).map_err(|cause| BenchError::File { path, cause })?;
    let changed = text.replacen("= \"100ms\"", "= \"200ms\"", 1);
    let first = image(&firmware, &text)?;
    let program_bytes: usize = first.program.iter().map(|piece| piece.bytes.len()).sum();

    let one = [power_up(&firmware)?];
    let (one_seconds, _) = flash_all(&one, &first)?;
    let (unchanged_seconds, nothing) = flash_all(&one, &first)?;
    let (_, one_line_bytes) = flash_all(&one, &image(&firmware, &changed)?)?;
    drop(one);
    let many: Vec<Emulated> = (0..MANY)
        .map(|_| power_up(&firmware))
        .collect::<Result<_, _>>()?;
    let (many_seconds, _) = flash_all(&many, &first)?;
    let ratio = many_seconds / one_seconds;
    Ok(Report {
        board: name,
        bytes: (program_bytes + first.configuration.len()) as u64,
        one_seconds,
        many: MANY,
        many_seconds,
        unchanged_seconds,
        one_line_bytes,
        goals: vec![
            Goal::new("ten at once, in times of one", ratio, Sense::AtMost, 2.0),
            Goal::new(
                "bytes written to a device that has all",
                nothing as f64,
                Sense::AtMost,
                0.0,
            ),
        ],
    })
}

fn image(firmware: &Firmware, text: &str) -> Result<Image, BenchError> {
    let board = &firmware.board;
    let boards = Boards::new([(board.name.as_str(), board.ports)]);
    let plan = site::parse_on_board("site.toml", text, &boards, &board.name)
        .map_err(|error| BenchError::Site(error.to_string()))?
        .with_plain_checks();
    let folder = tempfile::tempdir().map_err(|cause| file("a temporary folder", cause))?;
    let path = folder.path().join("config");
    let bytes = configuration(&plan, "gw1", board.config_size)?;
    fs::write(&path, bytes).map_err(|cause| file("config", cause))?;
    Image::new(firmware, &path).map_err(failed)
}

fn file(name: &str, cause: std::io::Error) -> BenchError {
    BenchError::File {
        path: name.into(),
        cause,
    }
}

fn power_up(firmware: &Firmware) -> Result<Emulated, BenchError> {
    let qemu = firmware.board.emulator()?;
    Emulated::power_up(&qemu.program, &qemu.machine, &[], None)
        .map_err(|error| BenchError::Flash(error.to_string()))
}

/// Flashes all of them at once; seconds, and bytes written to each.
fn flash_all(devices: &[Emulated], image: &Image) -> Result<(f64, u64), BenchError> {
    let jobs = devices.iter().enumerate().map(|(index, device)| Job {
        appliance: format!("unit{index}"),
        probe: Some(selector(device)),
        image: image.clone(),
        issuer: None,
    });
    let jobs = jobs.collect();
    let begun = Instant::now();
    let reports = flash::run(jobs, Options::default(), &|_, _| {}, &|_| {});
    let seconds = begun.elapsed().as_secs_f64();
    let mut written = 0;
    for report in reports {
        written = match report.result.map_err(failed)?.outcome {
            Outcome::Done { bytes } => bytes,
            Outcome::UpToDate | Outcome::Differs { .. } | Outcome::Prepared { .. } => 0,
        };
    }
    Ok((seconds, written))
}

fn failed(error: flash::FlashError) -> BenchError {
    BenchError::Flash(error.to_string())
}
