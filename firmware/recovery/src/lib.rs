//! How a firmware that fails comes back: what it leaves behind for its next start and for whoever looks into it, when its watchdog
//! is fed, and how long it stands back afterwards. Boards call this; the host reads what they left by the same code.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod crash;
mod kept;
mod text;
mod vigil;

pub use crash::{Cause, Crash, Fault, MAX_REGISTERS, Register};
pub use kept::{HEALTHY, Identity, Kept, Reset, SIZE, Start, last};
pub use text::Text;
pub use vigil::{PATIENCE, Part, Vigil};
