//! Firmware and OS images from a `Plan`, through a cache that is addressed by content.

#![forbid(unsafe_code)]

mod board;
mod boot_keys;
mod bundle;
mod cache;
mod compare;
mod cpio;
mod debs;
pub mod defmt_log;
mod disk;
mod error;
mod firmware;
mod host;
mod images;
#[cfg(test)]
mod inputs;
mod layout;
mod lock;
pub mod maintenance;
mod mirror;
mod modules;
mod oci;
pub mod operator;
mod packages;
mod payload;
pub mod pki;
mod places;
mod programs;
mod progress;
mod recipes;
mod release;
mod resolve;
mod role_image;
mod roots;
mod sandbox;
mod sbom;
pub mod secrets;
pub mod spec;
mod ssh;
mod trees;
pub mod trust;
mod verify;

pub use board::{Board, Budget, Id, Probe, Qemu, Ram};
pub use bundle::{Bundle, Contents};
pub use compare::Difference;
pub use disk::Sizes;
pub use error::BuildError;
pub use firmware::{
    ApplianceFirmware, Firmware, FirmwareError, Size, boards, cargo, configuration,
    emulated_boards, firmware, libraries, program, write_configuration,
};
pub use host::identity;
pub use images::{Options, ServerImage, identities, images};
pub use lock::{Change, Lock};
pub use mirror::lines as mirror_lines;
pub use packages::{Choice, Locked, lock as lock_packages};
pub use places::Places;
pub use progress::{Progress, Step};
pub use render::server::HostFile;
pub use role_image::Release;
pub use ssh::write_known_hosts;
pub use verify::{Verification, verify};
