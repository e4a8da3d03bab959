//! Emulated boards at virtual probes, and what belongs into them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use build::Firmware;
use flash::{FlashError, Image, Job, Options, Outcome, Report, selector};
use site::Boards;
use tempfile::TempDir;
use virtual_probe::Board;

/// The board that has debug probes.
pub const BOARD: &str = "mps2-an500";

const SITE: &str = include_str!("../../../examples/foobar/site.toml");

/// The repository.
#[must_use]
pub fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The board's firmware, built once for all tests.
pub static FIRMWARE: LazyLock<Firmware> = LazyLock::new(|| {
    build::program(&source(), BOARD, BOARD).unwrap_or_else(|error| {
        panic!("no firmware: {error:?}; `ravelin doctor` says what is missing")
    })
});

/// A powered board without firmware, with a probe at it.
///
/// # Panics
/// If QEMU is missing.
#[must_use]
pub fn board() -> Board {
    let qemu = FIRMWARE.board.emulator().expect("an emulated board");
    Board::power_up(&qemu.program, &qemu.machine, &[], None)
        .unwrap_or_else(|error| panic!("{error}; `apt-get install qemu-system-arm`"))
}

/// What belongs into an appliance, with this in the place of the site's advertisement interval.
///
/// # Panics
/// If the site is not good.
#[must_use]
pub fn image(appliance: &str, interval: &str) -> Image {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("config");
    fs::write(&path, configuration(appliance, interval)).expect("a file");
    Image::new(&FIRMWARE, &path).expect("an image")
}

/// Its compiled configuration.
///
/// # Panics
/// If the site is not good.
#[must_use]
pub fn configuration(appliance: &str, interval: &str) -> Vec<u8> {
    let text = SITE.replacen("= \"100ms\"", &format!("= \"{interval}\""), 1);
    let boards = Boards::new([(BOARD, FIRMWARE.board.ports)]);
    let plan = site::parse_on_board("site.toml", &text, &boards, BOARD).expect("a good site");
    let plan = plan.with_plain_checks();
    let configuration = build::configuration(&plan, appliance, FIRMWARE.board.config_size);
    configuration.expect("it fits")
}

/// Flashes one board.
pub fn flash_one(board: &Board, image: &Image, options: Options) -> Result<Outcome, FlashError> {
    let mut reports = flash_all(&[board], image, options);
    reports.remove(0).result.map(|done| done.outcome)
}

/// Flashes boards with the same, at once.
pub fn flash_all(boards: &[&Board], image: &Image, options: Options) -> Vec<Report> {
    let jobs = boards.iter().enumerate().map(|(index, board)| Job {
        appliance: format!("unit{index}"),
        probe: Some(selector(board)),
        image: image.clone(),
        issuer: None,
    });
    flash::run(jobs.collect(), options, &|_, _| {}, &|_| {})
}
