//! What the tests of emulated boards share: a board in QEMU with its cables' other ends in our hands, and
//! frames that are built and checked by smoltcp, not by the code under test.

#![forbid(unsafe_code)]

mod emulated;
pub mod frames;
mod site;
pub mod web;

pub use emulated::{Emulated, firmware};
pub use site::{Neighbours, SITE, blob, config, mac_of, plan, policy_of, router, shared};
