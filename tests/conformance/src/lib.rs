//! A black-box suite for virtual routers: cases as data, each with the section of the RFC that it holds the device to.
//!
//! The tester is everyone else on the device's cable. It builds its frames by `forge` and reads the device's by `etherparse`;
//! neither shares code with the firmware. The same cases run against every board that a [`Bench`] can start.
//!
//! No case knows how fast the device's clock runs: each device is first asked how long its own interval takes, and all
//! times are multiples of that. A time that is too short is a failure; one that is too long is measured again, because a busy
//! machine can make everything late but nothing early.

#![forbid(unsafe_code)]

mod cable;
mod cases;
mod device;
mod frame;
pub mod linux;
mod profile;
mod questions;
mod run;
mod signature;
mod tester;

pub use cable::Cable;
pub use device::{Bench, Device};
pub use profile::Profile;
pub use run::run;
