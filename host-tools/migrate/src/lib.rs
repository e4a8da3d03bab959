//! From keepalived's configuration to a site file, and from a site to the configuration of a keepalived that stands in for one
//! of its appliances. Pure: files are read by whoever asks.

#![forbid(unsafe_code)]

mod agree;
pub mod conf;
pub mod export;
pub mod import;
pub mod model;

pub use agree::disagreements;
