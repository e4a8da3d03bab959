//! Why a device was not flashed, and what mends that.

use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

/// Why a device was not flashed.
#[derive(Debug, Error, Diagnostic)]
pub enum FlashError {
    /// The board cannot be flashed by a probe.
    #[error("board {board} has no way for debug probes")]
    #[diagnostic(help(
        "boards with [probe] in their board.toml have one; others are started by their own boot loader"
    ))]
    NoWay {
        /// The board.
        board: String,
    },
    /// The board keeps nothing over a reset.
    #[error("board {board} does not keep how it failed")]
    #[diagnostic(help("boards with record_address in their board.toml do"))]
    NoRecord {
        /// The board.
        board: String,
    },
    /// What the board's folder says about its chip is not understood.
    #[error("the chip of {board}: {message}")]
    #[diagnostic(help("see [probe] in boards/{board}/board.toml"))]
    Chip {
        /// The board.
        board: String,
        /// What is wrong.
        message: String,
    },
    /// A file of the firmware cannot be read.
    #[error("{path}: {message}")]
    #[diagnostic(help("`ravelin build` makes it"))]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// It does not fit, which is known before anything is written.
    #[error("{what} takes {start:#x} to {end:#x}, the flash of {board} there ends at {limit:#x}")]
    #[diagnostic(help("nothing was written; make it smaller, or take a board with more flash"))]
    TooLarge {
        /// Firmware or configuration.
        what: &'static str,
        /// The board.
        board: String,
        /// Where it begins.
        start: u64,
        /// Where it ends.
        end: u64,
        /// Where it should.
        limit: u64,
    },
    /// No probe answers to what was asked for.
    #[error("no debug probe is {selector}")]
    #[diagnostic(help("`ravelin flash --list` shows those that are connected"))]
    NoProbe {
        /// What was asked for.
        selector: String,
    },
    /// The probe is there, and cannot be had.
    #[error("the probe cannot be opened: {reason}")]
    #[diagnostic(help(
        "another program may hold it (a debugger, another `ravelin`): end that; or you may not use it: see `ravelin flash --list`"
    ))]
    Held {
        /// What the driver said.
        reason: String,
    },
    /// Nobody answers on the wire.
    #[error("the target does not answer: {reason}")]
    #[diagnostic(help(
        "is it powered, and the cable the right way round? The probe does not power it"
    ))]
    NoPower {
        /// What the driver said.
        reason: String,
    },
    /// It is another chip than the board has.
    #[error("this is not {board}: its chip says {found:#010x}, {wanted:#010x} is wanted")]
    #[diagnostic(help(
        "nothing was written; choose the appliance that this board is for with --appliance, or the other probe"
    ))]
    WrongChip {
        /// The board.
        board: String,
        /// What the chip says.
        found: u32,
        /// What it should say.
        wanted: u32,
    },
    /// It cannot be given a key.
    #[error("no identity for it: {reason}")]
    #[diagnostic(help("nothing was written; `ravelin pki show` lists the site's authorities"))]
    NoIdentity {
        /// Why.
        reason: String,
    },
    /// Its flash cannot be read.
    #[error("the chip is locked: its flash cannot be read at {address:#x}")]
    #[diagnostic(help("`--erase-all` unlocks it by erasing all that is in it"))]
    Locked {
        /// Where.
        address: u64,
    },
    /// The flash algorithm failed, or did not come back.
    #[error("the flash cannot be written: {reason}")]
    #[diagnostic(help(
        "run the same command again; if it fails at the same place, the flash is worn out or write-protected"
    ))]
    Write {
        /// What it said.
        reason: String,
    },
    /// What was written is not what is read back.
    #[error("read back {found:#04x} at {address:#x}, where {wanted:#04x} was written")]
    #[diagnostic(help(
        "run the same command again; if it fails at the same place, the flash is worn out: replace the board"
    ))]
    ReadBack {
        /// Where.
        address: u64,
        /// What was written.
        wanted: u8,
        /// What is there.
        found: u8,
    },
    /// The probe is gone, or the target behind it.
    #[error("the link to the device broke while {during}: {reason}")]
    #[diagnostic(help(
        "put the cable back and run the same command again: it goes on with what is missing"
    ))]
    LinkLost {
        /// What was going on.
        during: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// The probe's driver says nothing any more.
    #[error("the probe has said nothing for {} seconds while {during}", patience.as_secs())]
    #[diagnostic(help(
        "unplug the probe and plug it in again, then run the same command: it goes on with what is missing"
    ))]
    Silent {
        /// What was going on.
        during: &'static str,
        /// For how long.
        patience: Duration,
    },
    /// Written and verified, but the firmware does not say that it lives.
    #[error("the firmware does not report within {} seconds{}", patience.as_secs(), said(log))]
    #[diagnostic(help("what is in the flash is right; `ravelin logs` shows what the board says"))]
    NotAlive {
        /// How long it had.
        patience: Duration,
        /// The last that it said.
        log: Vec<String>,
    },
    /// The firmware runs with something else.
    #[error("the firmware reports `{found}`, not `{wanted}`")]
    #[diagnostic(help("is another board behind this probe? Run the same command again"))]
    OtherAlive {
        /// What it says.
        found: String,
        /// What it should.
        wanted: String,
    },
    /// The emulated board of a dry run could not be started.
    #[error("no emulated board for the dry run: {reason}")]
    #[diagnostic(help("install QEMU (Debian package qemu-system-arm)"))]
    Emulation {
        /// Why.
        reason: String,
    },
}

fn said(log: &[String]) -> String {
    match log {
        [] => "; it says nothing at all".to_owned(),
        lines => format!("; its last words: {}", lines.join(" / ")),
    }
}
