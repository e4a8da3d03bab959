//! The emulated rack: virtual cables, machines, scenarios and what they measure.

#![forbid(unsafe_code)]

pub mod cable;
pub mod client;
pub mod observer;
pub mod probe;
pub mod process;
pub mod qmp;
pub mod switch;
pub mod uplink;
