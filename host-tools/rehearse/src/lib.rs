//! The emulated rack: virtual cables, machines, scenarios and what they measure.

#![forbid(unsafe_code)]

pub mod cable;
pub mod observer;
pub mod switch;
