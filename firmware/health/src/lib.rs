//! Real-server checks as a pure state machine: a half-open TCP probe (SYN, SYN-ACK, RST) per server and
//! check port. Time and received segments go in; segments to send and changes of health come out.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::net::Ipv4Addr;

mod checker;
mod random;
#[cfg(test)]
mod tests;

pub use checker::Checker;

/// Every probe comes from a port in this range; segments to other ports are none of the checker's business.
pub const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 49152..=65535;

/// What the checker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed. Before [`Checker::deadline`] nothing happens.
    Timer,
    /// A TCP segment to the appliance's own address and one of [`SOURCE_PORTS`] arrived, checksum good.
    Segment(Segment),
}

/// Header fields of a received TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// IP source address.
    pub source: Ipv4Addr,
    /// TCP source port.
    pub source_port: u16,
    /// TCP destination port.
    pub destination_port: u16,
    /// The flags byte of the TCP header (FIN 1, SYN 2, RST 4, PSH 8, ACK 16).
    pub flags: u8,
    /// Acknowledgment number.
    pub acknowledgment: u32,
}

/// What has to happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Send a SYN without options or data from the appliance's own address on the leg towards the server.
    SendSyn(Probe),
    /// Send a RST (no ACK flag) to end the half-open connection.
    SendReset(Probe),
    /// A server became healthy or unhealthy, the first result included; `Checker::healthy` and `choice`
    /// already tell the new state.
    Changed {
        /// Address of the server.
        server: Ipv4Addr,
        /// Port that was checked.
        port: u16,
        /// Whether it may get new flows now.
        healthy: bool,
    },
}

/// A segment to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Probe {
    /// Destination address.
    pub server: Ipv4Addr,
    /// Destination port.
    pub port: u16,
    /// Source port.
    pub source_port: u16,
    /// Sequence number.
    pub sequence: u32,
}

/// All effects of one step. A [`Input::Timer`] step handles a bounded number of probes: call it again
/// while the deadline is not in the future.
pub type Actions = heapless::Vec<Action, 8>;
