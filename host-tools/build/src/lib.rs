//! Firmware and OS images from a `Plan`, through a cache that is addressed by content.

#![forbid(unsafe_code)]

pub mod error;
pub mod places;
pub mod spec;

pub use error::BuildError;
pub use places::Places;
