//! The project's numbers, measured on the spot. Nothing here judges a number: tests assert, benches show.

#![forbid(unsafe_code)]

pub mod boots;
pub mod classify;
mod error;
pub mod failover;
pub mod flash;
pub mod goals;
pub mod handshake;
pub mod images;
mod mkosi;
pub mod packet;
pub mod peers;
mod subject;

pub use error::BenchError;
