//! Why a measurement could not be made.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum BenchError {
    /// The firmware does not build.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Firmware(#[from] build::FirmwareError),
    /// The images do not build.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Images(#[from] build::BuildError),
    /// The rack does not start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rehearse(#[from] rehearse::RehearseError),
    /// A log of the firmware cannot be read.
    #[error(transparent)]
    Log(#[from] build::defmt_log::LogError),
    /// A namespace was not made, or something in it did not run.
    #[error(transparent)]
    #[diagnostic(help("`./ravelin doctor` lists what is missing"))]
    Namespace(#[from] netns::Error),
    /// The lab cannot be used.
    #[error(transparent)]
    #[diagnostic(help("`./ravelin doctor` lists what is missing"))]
    Lab(#[from] lab::Error),
    /// The site's keys cannot be made.
    #[error("{0}")]
    Keys(String),
    /// The site does not fit an appliance.
    #[error("the site does not fit the bench: {0}")]
    Site(String),
    /// A program could not be started.
    #[error("cannot start {program}: {cause}")]
    #[diagnostic(help("`./ravelin doctor` lists what is missing"))]
    Start {
        /// Which.
        program: String,
        /// What the system answered.
        cause: io::Error,
    },
    /// A file could not be written or read.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// The measured program ended early or says nothing.
    #[error("{what} gave no result; it said:\n{said}")]
    NoResult {
        /// What was measured.
        what: String,
        /// Its output so far.
        said: String,
    },
    /// A device could not be flashed.
    #[error("flashing: {0}")]
    Flash(String),
    /// Namespaces need root.
    #[error("two pairs side by side need network namespaces, and those need root")]
    #[diagnostic(help("run `sudo ./ravelin bench failover`"))]
    NeedsRoot,
}
