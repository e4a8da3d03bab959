//! `site.toml` in, a checked [`Plan`] out. Pure: no files, no clocks, no network.

#![forbid(unsafe_code)]

pub mod plan;
pub use plan::Plan;
