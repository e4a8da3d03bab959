//! Firmware and OS images from a `Plan`, through a cache that is addressed by content.

#![forbid(unsafe_code)]

mod board;
mod cache;
mod cpio;
pub mod defmt_log;
mod disk;
mod error;
mod firmware;
mod images;
mod mirror;
mod modules;
pub mod pki;
mod places;
mod programs;
mod progress;
mod roots;
mod sandbox;
pub mod secrets;
pub mod spec;
mod trees;
pub mod trust;

pub use board::{Board, Budget, Qemu, Ram};
pub use disk::Sizes;
pub use error::BuildError;
pub use firmware::{
    ApplianceFirmware, Firmware, FirmwareError, Size, boards, configuration, firmware, libraries,
    program, write_configuration,
};
pub use images::{Options, ServerImage, images};
pub use places::Places;
pub use progress::{Progress, Step};
pub use render::server::HostFile;
