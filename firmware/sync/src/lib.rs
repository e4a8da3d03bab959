//! What two appliances of a pair tell each other apart from VRRP: that they live, how they are, and which flows they know.
//!
//! A [`Session`] is pure: datagrams, time and the appliance's own standing go in, datagrams and events come out. Datagrams are
//! sealed with keys that both make of the pair's secret and of numbers that are used once; what is not the peer's changes
//! nothing.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod exchange;
mod hello;
mod message;
mod path;
mod seal;
mod serial;
mod session;
mod store;
#[cfg(test)]
mod tests;

pub use exchange::{Counters as ExchangeCounters, Lag};
pub use message::{Standing, State};
pub use path::{PATHS, Path};
pub use serial::{Deframer, MAX_FRAME, MAX_SERIAL, frame};
pub use session::{
    Counters, Deferred, Event, Events, Input, Peer, Remote, Session, Settings, Status,
};
pub use store::{MAX_RECORD, Nothing, Store, Terms};

/// UDP port of both appliances.
pub const PORT: u16 = 3781;
/// Longest datagram.
pub const MAX_DATAGRAM: usize = 1200;
/// Oldest and newest version of the protocol that this firmware speaks.
pub const VERSIONS: (u8, u8) = (1, 1);
