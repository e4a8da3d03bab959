//! Real-server checks as a pure state machine. Time and received packets go in; packets to send and changes of health
//! come out.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::net::IpAddr;

pub mod agent;
mod checker;
pub mod dns;
mod exchange;
pub mod http;
pub mod mysql;
mod random;
mod reason;
mod standing;
mod stream;
mod target;
#[cfg(test)]
mod tests;
mod tunnel;

pub use checker::Checker;
pub use exchange::{Exchange, Progress};
pub use reason::{Flaw, Reason};
pub use standing::Standing;
pub use stream::WINDOW;
pub use tunnel::{Ask, NoTunnel, Tunnel};

/// Every check comes from a port in this range; packets to other ports are none of the checker's business.
pub const SOURCE_PORTS: core::ops::RangeInclusive<u16> = 49152..=65535;

/// Longest payload of a packet that a check sends, in bytes.
pub const MAX_PAYLOAD: usize = stream::MAX_SEGMENT as usize;

/// What the checker is told. Packets are those to the appliance's own addresses, checksums good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input<'a> {
    /// Time has passed. Before [`Checker::deadline`] nothing happens.
    Timer,
    /// A TCP segment to one of [`SOURCE_PORTS`].
    Segment(Segment<'a>),
    /// A UDP datagram to one of [`SOURCE_PORTS`].
    Datagram(Datagram<'a>),
    /// An ICMP or ICMPv6 echo reply.
    EchoReply(EchoReply<'a>),
}

/// A received TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// IP source address.
    pub source: IpAddr,
    /// TCP source port.
    pub source_port: u16,
    /// TCP destination port.
    pub destination_port: u16,
    /// The flags byte of the TCP header (FIN 1, SYN 2, RST 4, PSH 8, ACK 16).
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// What follows the header.
    pub data: &'a [u8],
}

/// A received UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// IP source address.
    pub source: IpAddr,
    /// UDP source port.
    pub source_port: u16,
    /// UDP destination port.
    pub destination_port: u16,
    /// What follows the header.
    pub data: &'a [u8],
}

/// A received echo reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoReply<'a> {
    /// IP source address.
    pub source: IpAddr,
    /// Identifier.
    pub id: u16,
    /// Sequence number.
    pub sequence: u16,
    /// What follows them.
    pub data: &'a [u8],
}

/// What has to happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Send a packet from the appliance's own address on the leg towards the server.
    Send(Packet),
    /// A server passed or failed its check, the first result included; [`Checker::standing`] already tells the new
    /// state.
    Changed {
        /// Address of the server.
        server: IpAddr,
        /// Port that was checked; 0 for ping.
        port: u16,
        /// `None` if it is healthy now, otherwise why not.
        failure: Option<Reason>,
    },
    /// An agent said something new about its server; [`Checker::standing`] already tells the new state.
    Agent {
        /// Address of the server.
        server: IpAddr,
        /// The agent's port.
        port: u16,
        /// All that it ever said, put together; why nothing is heard from it otherwise.
        said: Result<agent::Said, Reason>,
    },
}

/// A packet to send. [`Checker::payload`] has its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Packet {
    /// Destination address.
    pub server: IpAddr,
    /// What its transport header says.
    pub header: Header,
    /// What follows that.
    pub payload: Payload,
}

/// Transport header of a packet to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Header {
    /// TCP without options, window [`WINDOW`].
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgment number.
        acknowledgment: u32,
        /// The flags byte.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or ICMPv6 echo request.
    Echo {
        /// Identifier.
        id: u16,
        /// Sequence number.
        sequence: u16,
    },
}

/// What a packet to send carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Payload {
    /// Nothing.
    None,
    /// These bytes of what check number `check` asks over a connection.
    Request {
        /// Index of the check.
        check: u8,
        /// The first of the bytes.
        offset: u16,
        /// How many.
        len: u16,
    },
    /// These bytes of what the tunnel sends.
    Tunnel {
        /// The first of the bytes.
        offset: u16,
        /// How many.
        len: u16,
    },
    /// The DNS query of check number `check`.
    Query {
        /// Index of the check.
        check: u8,
        /// Its transaction id.
        id: u16,
    },
    /// Bytes that nobody can know in advance.
    Token(u64),
}

/// All effects of one step. A [`Input::Timer`] step handles a bounded number of checks: call it again
/// while the deadline is not in the future.
pub type Actions = heapless::Vec<Action, 8>;
