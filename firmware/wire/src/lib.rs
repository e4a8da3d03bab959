//! Packet views and emitters that `smoltcp::wire` does not have, and the frame buffer they work on.

#![no_std]
#![forbid(unsafe_code)]

pub mod frame;
pub use frame::Frame;
