//! What an operator asks of an appliance over the network: how it is, to hand over, to stay out of the way.
//!
//! Both ends are here and pure. The appliance names a *challenge*; a command is sealed for that challenge, and when one has been
//! opened the challenge is another, so that no recording of it does anything. A command whose answer was lost can be sent
//! again as it is: it gets the same answer, and is not done twice.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod client;
mod desk;
pub mod events;
mod message;
mod seal;
#[cfg(test)]
mod tests;

pub use client::{Client, Heard};
pub use desk::{Desk, Received};
pub use message::{
    Demotion, Digest, Member, MemberStatus, Objection, PART, PathStatus, Peer, PeerStatus, Refusal,
    Request, Response, Running, State, Statistics, Status,
};

/// UDP port of the appliances.
pub const PORT: u16 = 3782;
/// Longest datagram: with its headers the smallest MTU that a site may have, 1280.
pub const MAX_DATAGRAM: usize = 1252;
