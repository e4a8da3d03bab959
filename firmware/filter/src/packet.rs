//! One look at a packet of either IP version: all checks that need no state, and the fields that judging needs.

use core::net::IpAddr;

use wire::checksum;
use wire::ipv4::{self, ParseError};
use wire::ipv6::{self, WalkError};
use wire::tcp::{self, Flags, UdpHeader};
use zerocopy::{FromBytes, FromZeros};

use crate::Drop;
use crate::address::{Address, V4, V6};

/// Both ports as they lie in memory, source first. Echo messages have their identifier in both, other
/// protocols than TCP, UDP and ICMP their protocol number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Ports(pub u32);

impl Ports {
    /// Two ports.
    #[must_use]
    pub const fn new(source: u16, destination: u16) -> Self {
        let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
        Self(u32::from_ne_bytes([a, b, c, d]))
    }

    /// The first.
    #[must_use]
    pub const fn source(self) -> u16 {
        let [a, b, ..] = self.0.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// The second.
    #[must_use]
    pub const fn destination(self) -> u16 {
        let [_, _, a, b] = self.0.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// The ports of an answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self(self.0.rotate_left(16))
    }
}

/// Addresses and ports as they stand in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
pub struct Tuple<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Both ports.
    pub ports: Ports,
}

impl<A: Address> Tuple<A> {
    /// All zeros.
    pub const ZERO: Self = Self {
        source: A::ZERO,
        destination: A::ZERO,
        ports: Ports(0),
    };

    /// The tuple of an answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ports: self.ports.reversed(),
        }
    }

    /// Source port, or what stands for it.
    #[must_use]
    pub const fn source_port(&self) -> u16 {
        self.ports.source()
    }

    /// Destination port, or what stands for it.
    #[must_use]
    pub const fn destination_port(&self) -> u16 {
        self.ports.destination()
    }
}

/// Protocols as the flow table tells them apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6 echo.
    Echo,
    /// Any other; the protocol number stands in both ports.
    Other,
}

impl Class {
    /// The IP protocol number of a flow with these ports.
    #[must_use]
    pub const fn protocol<A: Address>(self, ports: Ports) -> u8 {
        match self {
            Self::Tcp => ipv4::TCP,
            Self::Udp => ipv4::UDP,
            Self::Echo => A::ICMP,
            Self::Other => ports.source() as u8,
        }
    }
}

/// A packet that passed all checks that need no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<A> {
    /// Addresses and ports.
    pub tuple: Tuple<A>,
    /// What the payload is.
    pub kind: Kind,
    /// Time to live or hop limit as received, at least 1.
    pub ttl: u8,
    /// IP protocol number of the transport.
    pub protocol: u8,
    /// Length of the IP packet, without Ethernet padding.
    pub len: u16,
    /// Where the transport header begins.
    pub transport: u16,
    /// Whether routers may not fragment it.
    pub whole: bool,
    /// What the packet is a part of.
    pub fragment: Option<Fragment>,
}

/// Which part of a larger packet a packet is. Its ports are read from the first part only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The same in all parts.
    pub id: u32,
    /// Where this part's bytes belong, in bytes.
    pub offset: u16,
    /// Whether more parts follow.
    pub more: bool,
    /// Where this part's bytes begin in the packet that carries it.
    pub data: u16,
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
    /// ICMP error (unreachable, time exceeded, parameter problem, packet too big); its checksum is good.
    Error,
    /// Any other ICMP message.
    Control,
    /// A part of a packet that is not its first, so that nobody can see its transport.
    Part,
    /// Any other protocol than TCP, UDP and ICMP.
    Other,
}

impl Kind {
    /// Which flows a packet of this kind can belong to.
    #[must_use]
    pub const fn class(self) -> Option<Class> {
        match self {
            Self::Tcp(_) => Some(Class::Tcp),
            Self::Udp => Some(Class::Udp),
            Self::EchoRequest | Self::EchoReply => Some(Class::Echo),
            Self::Other => Some(Class::Other),
            Self::Error | Self::Control | Self::Part => None,
        }
    }
}

/// What the node has to know of a packet that is addressed to the appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// Who sent it.
    pub source: IpAddr,
    /// Which of our addresses it is for.
    pub destination: IpAddr,
    /// Both ports.
    pub ports: Ports,
    /// What it is.
    pub kind: Kind,
    /// IP protocol number of the transport.
    pub protocol: u8,
    /// Length of the IP packet, without Ethernet padding.
    pub len: usize,
    /// Where the transport header begins.
    pub transport: usize,
}

impl<A: Address> Packet<A> {
    /// The packet as the node sees it.
    #[must_use]
    pub fn local(&self) -> Local {
        Local {
            source: self.tuple.source.into(),
            destination: self.tuple.destination.into(),
            ports: self.tuple.ports,
            kind: self.kind,
            protocol: self.protocol,
            len: self.len.into(),
            transport: self.transport.into(),
        }
    }
}

/// An IPv4 header without options, and both ports.
pub type FrontV4 = [u8; ipv4::HEADER_LEN + 4];
/// An IPv6 header, and both ports.
pub type FrontV6 = [u8; ipv6::HEADER_LEN + 4];

/// Looks at an IPv4 header: no options, no fragment, a right checksum, and a TTL that another hop may take from. The length
/// of the packet; `None` for all others, good or not.
#[inline(always)]
pub fn plain_v4(ip: &FrontV4, room: usize) -> Option<usize> {
    let words = [
        word(ip, 0),
        word(ip, 4),
        word(ip, 8),
        word(ip, 12),
        word(ip, 16),
    ];
    let sum = words
        .iter()
        .fold(0, |sum, word| sum + (word & 0xffff) + (word >> 16));
    // Ten halves: a multiple of 0xffff becomes 0xffff in one step.
    let is_right = (sum + (sum >> 16)) & 0xffff == 0xffff;
    let len = usize::from(u16::from_be(half(ip, 2)));
    let fragment = half(ip, 6) & u16::from_ne_bytes([0x3f, 0xff]);
    let usual = ip[0] == 0x45 && fragment == 0 && len <= room && ip[8] > 1 && is_right;
    usual.then_some(len)
}

/// The same for IPv6: the transport follows at once.
#[inline(always)]
pub fn plain_v6(ip: &FrontV6, room: usize) -> Option<usize> {
    let len = usize::from(u16::from_be(half(ip, 4))) + ipv6::HEADER_LEN;
    let usual = ip[0] >> 4 == 6 && len <= room && ip[7] > 1;
    usual.then_some(len)
}

/// Addresses and ports of an IPv4 packet.
#[inline(always)]
pub fn tuple_v4(ip: &FrontV4) -> Tuple<V4> {
    Tuple {
        source: V4(word(ip, 12)),
        destination: V4(word(ip, 16)),
        ports: Ports(word(ip, 20)),
    }
}

/// Addresses and ports of an IPv6 packet without extension headers.
#[inline(always)]
pub fn tuple_v6(ip: &FrontV6) -> Tuple<V6> {
    Tuple {
        source: V6([word(ip, 8), word(ip, 12), word(ip, 16), word(ip, 20)]),
        destination: V6([word(ip, 24), word(ip, 28), word(ip, 32), word(ip, 36)]),
        ports: Ports(word(ip, 40)),
    }
}

/// Four bytes as they lie in memory; 0 behind the end.
#[inline(always)]
pub fn word(bytes: &[u8], at: usize) -> u32 {
    // Taken as one, not byte by byte: that is one load.
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(word) => u32::from_ne_bytes(*word),
        None => 0,
    }
}

/// The same for two bytes.
#[inline(always)]
pub fn half(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..).and_then(<[u8]>::first_chunk) {
        Some(half) => u16::from_ne_bytes(*half),
        None => 0,
    }
}

/// Reads any IPv4 packet at the front of `bytes`. Packets with options are refused (RFC 7126).
pub fn parse_v4(bytes: &[u8]) -> Result<Packet<V4>, Drop> {
    let (header, header_len) = ipv4::Header::parse(bytes).map_err(|error| match error {
        ParseError::Truncated { .. } | ParseError::Version(_) | ParseError::HeaderLength(_) => {
            Drop::Ipv4Header
        }
        ParseError::Checksum => Drop::Ipv4Checksum,
    })?;
    if header_len != ipv4::HEADER_LEN {
        let options = bytes.get(ipv4::HEADER_LEN..header_len).unwrap_or_default();
        return Err(match has_source_route(options) {
            true => Drop::SourceRoute,
            false => Drop::Ipv4Options,
        });
    }
    if header.ttl == 0 {
        return Err(Drop::Ttl);
    }
    let fragment = header.is_fragment().then(|| Fragment {
        id: header.id.get().into(),
        offset: header.fragment_offset(),
        more: header.more_fragments(),
        data: ipv4::HEADER_LEN as u16,
    });
    let payload = bytes.get(header_len..header.total_len.get().into());
    let payload = payload.unwrap_or_default();
    let (kind, ports) = match fragment {
        Some(part) if part.offset != 0 => (Kind::Part, Ports::default()),
        _ => transport(header.protocol, payload, fragment.is_some(), |message| {
            icmp_v4(message)
        })?,
    };
    Ok(Packet {
        tuple: Tuple {
            source: V4::from_octets(header.source),
            destination: V4::from_octets(header.destination),
            ports,
        },
        kind,
        ttl: header.ttl,
        protocol: header.protocol,
        len: header.total_len.get(),
        transport: ipv4::HEADER_LEN as u16,
        whole: header.dont_fragment(),
        fragment,
    })
}

/// Reads any IPv6 packet at the front of `bytes`, behind its extension headers.
pub fn parse_v6(bytes: &[u8]) -> Result<Packet<V6>, Drop> {
    let header = ipv6::Header::parse(bytes).map_err(|_| Drop::Ipv6Header)?;
    let len = u16::try_from(header.total_len()).map_err(|_| Drop::Ipv6Header)?;
    let chain = ipv6::walk(header, bytes).map_err(|error| match error {
        WalkError::Routing(_) => Drop::RoutingHeader,
        WalkError::Truncated | WalkError::TooLong | WalkError::Misplaced(_) => {
            Drop::ExtensionHeaders
        }
    })?;
    if header.hop_limit == 0 {
        return Err(Drop::Ttl);
    }
    // A "fragment" that is the whole packet is just that (RFC 6946).
    let fragment = chain.fragment.filter(|part| !part.is_atomic());
    let fragment = fragment.map(|part| Fragment {
        id: part.id,
        offset: part.offset,
        more: part.more,
        data: (part.place + FRAGMENT_HEADER) as u16,
    });
    let payload = bytes.get(chain.offset..len.into()).unwrap_or_default();
    let (kind, ports) = match fragment {
        Some(part) if part.offset != 0 => (Kind::Part, Ports::default()),
        _ => transport(chain.protocol, payload, fragment.is_some(), |message| {
            icmp_v6(header, message)
        })?,
    };
    Ok(Packet {
        tuple: Tuple {
            source: V6::from_octets(&header.source),
            destination: V6::from_octets(&header.destination),
            ports,
        },
        kind,
        ttl: header.hop_limit,
        protocol: chain.protocol,
        len,
        transport: u16::try_from(chain.offset).map_err(|_| Drop::ExtensionHeaders)?,
        whole: true,
        fragment,
    })
}

/// `part`: the payload ends before the datagram does.
fn transport(
    protocol: u8,
    payload: &[u8],
    part: bool,
    icmp: impl FnOnce(&[u8]) -> Result<(Kind, u16), Drop>,
) -> Result<(Kind, Ports), Drop> {
    // Whoever cuts a header in two hides something (RFC 1858 §3, RFC 7112).
    let bad = match part {
        true => Drop::FragmentTiny,
        false => Drop::Transport,
    };
    match protocol {
        ipv4::TCP => {
            let tcp = tcp::Header::parse(payload).ok_or(bad)?;
            if !tcp.flags().valid() {
                return Err(Drop::TcpFlags);
            }
            let ports = Ports::new(tcp.source.get(), tcp.destination.get());
            Ok((Kind::Tcp(tcp.flags()), ports))
        }
        ipv4::UDP => {
            let (udp, _) = UdpHeader::ref_from_prefix(payload).map_err(|_| bad)?;
            let len = usize::from(udp.length.get());
            if len < tcp::UDP_HEADER_LEN || !part && len > payload.len() {
                return Err(bad);
            }
            Ok((
                Kind::Udp,
                Ports::new(udp.source.get(), udp.destination.get()),
            ))
        }
        ipv4::ICMP | ipv6::ICMP => {
            let (kind, id) = icmp(payload).map_err(|error| match error {
                Drop::Transport => bad,
                error => error,
            })?;
            Ok((kind, Ports::new(id, id)))
        }
        other => Ok((Kind::Other, Ports::new(other.into(), other.into()))),
    }
}

fn icmp_v4(message: &[u8]) -> Result<(Kind, u16), Drop> {
    let [kind, code, _, _, id_high, id_low, _, _, ..] = message else {
        return Err(Drop::Transport);
    };
    let id = u16::from_be_bytes([*id_high, *id_low]);
    match *kind {
        // Echo messages have the code 0 (RFC 792).
        ECHO_REQUEST | ECHO_REPLY if *code != 0 => Ok((Kind::Control, 0)),
        ECHO_REQUEST => Ok((Kind::EchoRequest, id)),
        ECHO_REPLY => Ok((Kind::EchoReply, id)),
        3 | 11 | 12 if checksum::of(message) != 0 => Err(Drop::Transport),
        3 | 11 | 12 => Ok((Kind::Error, 0)),
        _ => Ok((Kind::Control, 0)),
    }
}

fn icmp_v6(header: &ipv6::Header, message: &[u8]) -> Result<(Kind, u16), Drop> {
    let [kind, code, _, _, id_high, id_low, _, _, ..] = message else {
        return Err(Drop::Transport);
    };
    let id = u16::from_be_bytes([*id_high, *id_low]);
    match *kind {
        ECHO_REQUEST_V6 | ECHO_REPLY_V6 if *code != 0 => Ok((Kind::Control, 0)),
        ECHO_REQUEST_V6 => Ok((Kind::EchoRequest, id)),
        ECHO_REPLY_V6 => Ok((Kind::EchoReply, id)),
        1..=4 => {
            let (from, to) = (header.source, header.destination);
            let len = u16::try_from(message.len()).map_err(|_| Drop::Transport)?;
            let sum = ipv6::pseudo_header(from, to, ipv6::ICMP, len).bytes(message);
            match sum.finish() {
                0 => Ok((Kind::Error, 0)),
                _ => Err(Drop::Transport),
            }
        }
        _ => Ok((Kind::Control, 0)),
    }
}

/// A packet quoted in an ICMP error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<A> {
    /// Its addresses and ports.
    pub tuple: Tuple<A>,
    /// What it carried.
    pub class: Class,
    /// Where its transport header begins, from the beginning of the quote.
    pub transport: usize,
}

/// The IPv4 packet that an ICMP error quotes: its header and 8 bytes (RFC 792). May be the first fragment of one: errors about
/// pieces that did not arrive in time quote that.
#[must_use]
pub fn quoted_v4(quote: &[u8]) -> Option<Quoted<V4>> {
    let (header, rest) = ipv4::Header::ref_from_prefix(quote).ok()?;
    if header.header_len() != ipv4::HEADER_LEN || header.fragment_offset() != 0 {
        return None;
    }
    let (class, ports) = quoted_transport::<V4>(header.protocol, rest, ECHO_REQUEST, ECHO_REPLY)?;
    Some(Quoted {
        tuple: Tuple {
            source: V4::from_octets(header.source),
            destination: V4::from_octets(header.destination),
            ports,
        },
        class,
        transport: ipv4::HEADER_LEN,
    })
}

/// The IPv6 packet that an ICMPv6 error quotes.
#[must_use]
pub fn quoted_v6(quote: &[u8]) -> Option<Quoted<V6>> {
    let (header, _) = ipv6::Header::ref_from_prefix(quote).ok()?;
    let chain = ipv6::walk(header, quote).ok()?;
    if chain.fragment.is_some_and(|part| part.offset != 0) {
        return None;
    }
    let rest = quote.get(chain.offset..)?;
    let (class, ports) =
        quoted_transport::<V6>(chain.protocol, rest, ECHO_REQUEST_V6, ECHO_REPLY_V6)?;
    Some(Quoted {
        tuple: Tuple {
            source: V6::from_octets(&header.source),
            destination: V6::from_octets(&header.destination),
            ports,
        },
        class,
        transport: chain.offset,
    })
}

fn quoted_transport<A: Address>(
    protocol: u8,
    rest: &[u8],
    request: u8,
    reply: u8,
) -> Option<(Class, Ports)> {
    let [a, b, c, d, e, f, _, _, ..] = *rest else {
        return None;
    };
    let ports = Ports(u32::from_ne_bytes([a, b, c, d]));
    if protocol == A::ICMP {
        let id = u16::from_be_bytes([e, f]);
        return (a == request || a == reply).then_some((Class::Echo, Ports::new(id, id)));
    }
    Some(match protocol {
        ipv4::TCP => (Class::Tcp, ports),
        ipv4::UDP => (Class::Udp, ports),
        other => (Class::Other, Ports::new(other.into(), other.into())),
    })
}

/// Whether options say which way a packet should take (RFC 7126 §4.3 and §4.4).
fn has_source_route(mut options: &[u8]) -> bool {
    loop {
        options = match options {
            [131 | 137, ..] => return true,
            [] | [0, ..] => return false,
            [1, rest @ ..] => rest,
            [_, len, ..] if *len >= 2 => match options.get(usize::from(*len)..) {
                Some(rest) => rest,
                None => return false,
            },
            [_, ..] => return false,
        };
    }
}

/// Adds the halves of a sum of words until 16 bits are left; the order of bytes is that of the words.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    // Below 2^33: its carry goes back into the low half.
    let sum = (sum as u32).wrapping_add((sum >> 32) as u32);
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// Length of IPv6's fragment header.
const FRAGMENT_HEADER: usize = 8;
/// ICMP type of an echo request (RFC 792).
pub const ECHO_REQUEST: u8 = 8;
/// ICMP type of an echo reply.
pub const ECHO_REPLY: u8 = 0;
/// ICMPv6 type of an echo request (RFC 4443 §4).
pub const ECHO_REQUEST_V6: u8 = 128;
/// ICMPv6 type of an echo reply.
pub const ECHO_REPLY_V6: u8 = 129;
