//! One look at an IPv4 packet: all checks that need no state, and the fields that judging needs.

use wire::checksum;
use wire::ipv4::{self, Header, ParseError};
use wire::tcp::{self, Flags, UdpHeader};
use zerocopy::FromBytes;

use crate::Drop;

/// Addresses and ports as they stand in a packet. Echo messages have their identifier in both ports,
/// other protocols zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub source: u32,
    /// Destination address.
    pub destination: u32,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl Tuple {
    /// The tuple of an answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            protocol: self.protocol,
        }
    }
}

/// A packet that passed all checks that need no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Addresses and ports.
    pub tuple: Tuple,
    /// Time to live as received, at least 1.
    pub ttl: u8,
    /// Length of header and payload, without Ethernet padding.
    pub len: usize,
    /// What the payload is.
    pub kind: Kind,
}

/// What the filter distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment with possible flags.
    Tcp(Flags),
    /// A UDP datagram.
    Udp,
    /// ICMP echo request.
    EchoRequest,
    /// ICMP echo reply.
    EchoReply,
    /// ICMP destination unreachable or time exceeded about a packet with this tuple; checksum good.
    Error(Tuple),
    /// Any other protocol than TCP, UDP and ICMP.
    Other,
}

impl Packet {
    /// Reads the packet at the front of `bytes`. No options, no fragments (see the README).
    pub fn parse(bytes: &[u8]) -> Result<Self, Drop> {
        let (header, header_len) = Header::parse(bytes).map_err(|error| match error {
            ParseError::Truncated { .. } | ParseError::Version(_) | ParseError::HeaderLength(_) => {
                Drop::Ipv4Header
            }
            ParseError::Checksum => Drop::Ipv4Checksum,
        })?;
        if header_len != ipv4::HEADER_LEN {
            return Err(Drop::Ipv4Options);
        }
        if header.is_fragment() {
            return Err(Drop::Fragment);
        }
        if header.ttl == 0 {
            return Err(Drop::Ttl);
        }
        let len = usize::from(header.total_len.get());
        let payload = bytes.get(header_len..len).unwrap_or_default();
        let (kind, source_port, destination_port) = transport(header.protocol, payload)?;
        let tuple = Tuple {
            source: u32::from_be_bytes(header.source),
            destination: u32::from_be_bytes(header.destination),
            source_port,
            destination_port,
            protocol: header.protocol,
        };
        Ok(Self {
            tuple,
            ttl: header.ttl,
            len,
            kind,
        })
    }
}

fn transport(protocol: u8, payload: &[u8]) -> Result<(Kind, u16, u16), Drop> {
    match protocol {
        ipv4::TCP => {
            let tcp = tcp::Header::parse(payload).ok_or(Drop::Transport)?;
            if !tcp.flags().valid() {
                return Err(Drop::TcpFlags);
            }
            Ok((
                Kind::Tcp(tcp.flags()),
                tcp.source.get(),
                tcp.destination.get(),
            ))
        }
        ipv4::UDP => {
            let (udp, _) = UdpHeader::ref_from_prefix(payload).map_err(|_| Drop::Transport)?;
            let len = usize::from(udp.length.get());
            if len < tcp::UDP_HEADER_LEN || len > payload.len() {
                return Err(Drop::Transport);
            }
            Ok((Kind::Udp, udp.source.get(), udp.destination.get()))
        }
        ipv4::ICMP => icmp(payload),
        _ => Ok((Kind::Other, 0, 0)),
    }
}

fn icmp(message: &[u8]) -> Result<(Kind, u16, u16), Drop> {
    let [kind, _, _, _, id_high, id_low, _, _, quote @ ..] = message else {
        return Err(Drop::Transport);
    };
    let id = u16::from_be_bytes([*id_high, *id_low]);
    match *kind {
        ECHO_REQUEST => Ok((Kind::EchoRequest, id, id)),
        ECHO_REPLY => Ok((Kind::EchoReply, id, id)),
        UNREACHABLE | TIME_EXCEEDED => {
            if checksum::of(message) != 0 {
                return Err(Drop::Transport);
            }
            let quoted = quoted(quote).ok_or(Drop::IcmpUnrelated)?;
            Ok((Kind::Error(quoted), 0, 0))
        }
        _ => Err(Drop::IcmpType),
    }
}

/// The tuple of the packet that an ICMP error quotes: its header and 8 bytes (RFC 792).
fn quoted(quote: &[u8]) -> Option<Tuple> {
    let (header, rest) = Header::ref_from_prefix(quote).ok()?;
    if header.header_len() != ipv4::HEADER_LEN || header.is_fragment() {
        return None;
    }
    let [a, b, c, d, e, f, _, _, ..] = *rest else {
        return None;
    };
    let (source_port, destination_port) = match header.protocol {
        ipv4::TCP | ipv4::UDP => (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
        ipv4::ICMP if a == ECHO_REQUEST || a == ECHO_REPLY => {
            (u16::from_be_bytes([e, f]), u16::from_be_bytes([e, f]))
        }
        ipv4::ICMP => return None,
        _ => (0, 0),
    };
    Some(Tuple {
        source: u32::from_be_bytes(header.source),
        destination: u32::from_be_bytes(header.destination),
        source_port,
        destination_port,
        protocol: header.protocol,
    })
}

/// ICMP type of an echo request (RFC 792).
pub const ECHO_REQUEST: u8 = 8;
/// ICMP type of an echo reply.
pub const ECHO_REPLY: u8 = 0;
const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
