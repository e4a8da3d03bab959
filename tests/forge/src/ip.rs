//! IPv4 and IPv6 headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Sum, Transport};

/// An IPv4 header (RFC 791). `None` in a field is the value that fits the rest.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Time to live.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// The three flags and the fragment offset in units of 8 bytes, as they stand in the header.
    pub fragment: u16,
    /// Options, filled up with zeros to a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Header length in 4 bytes.
    pub header_len: Option<u8>,
    /// Total length.
    pub total_len: Option<u16>,
    /// Protocol number.
    pub protocol: Option<u8>,
    /// Version.
    pub version: u8,
    /// Header checksum.
    pub checksum: Sum,
}

impl Default for Ipv4 {
    fn default() -> Self {
        Self {
            source: Ipv4Addr::new(192, 0, 2, 1),
            destination: Ipv4Addr::new(192, 0, 2, 2),
            ttl: 64,
            tos: 0,
            id: 0x1234,
            fragment: 0,
            options: Vec::new(),
            header_len: None,
            total_len: None,
            protocol: None,
            version: 4,
            checksum: Sum::Good,
        }
    }
}

impl Ipv4 {
    /// Don't fragment.
    pub const DF: u16 = 0x4000;
    /// More fragments.
    pub const MF: u16 = 0x2000;

    /// A header between these addresses.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr) -> Self {
        Self {
            source,
            destination,
            ..Self::default()
        }
    }

    /// The packet with this transport.
    #[must_use]
    pub fn around(&self, transport: &dyn Transport) -> Vec<u8> {
        let ends = (IpAddr::V4(self.source), IpAddr::V4(self.destination));
        self.raw(transport.protocol(ends), &transport.bytes(ends))
    }

    /// The packet with any payload.
    #[must_use]
    pub fn raw(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let header = 20 + options.len();
        let words = self.header_len.unwrap_or((header / 4) as u8);
        let total = self.total_len.unwrap_or((header + payload.len()) as u16);
        let mut bytes = vec![self.version << 4 | words & 15, self.tos];
        bytes.extend(total.to_be_bytes());
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([self.ttl, self.protocol.unwrap_or(protocol), 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(options);
        let sum = self.checksum.of(&[&bytes]);
        bytes[10..12].copy_from_slice(&sum);
        bytes.extend(payload);
        bytes
    }

    /// The same payload cut into fragments at these places (multiples of 8 in an honest packet).
    #[must_use]
    pub fn fragments(&self, transport: &dyn Transport, cuts: &[usize]) -> Vec<Vec<u8>> {
        let ends = (IpAddr::V4(self.source), IpAddr::V4(self.destination));
        let payload = transport.bytes(ends);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let stops = cuts.iter().copied().chain([payload.len()]);
        let piece = |(start, stop): (usize, usize)| {
            let more = if stop < payload.len() { Self::MF } else { 0 };
            let fragment = self.fragment & !Self::DF | more | (start / 8) as u16;
            let header = Self {
                fragment,
                ..self.clone()
            };
            header.raw(transport.protocol(ends), &payload[start..stop])
        };
        starts.zip(stops).map(piece).collect()
    }
}

/// An IPv6 header with its extension headers (RFC 8200).
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Traffic class.
    pub class: u8,
    /// Flow label.
    pub label: u32,
    /// Extension headers in their order.
    pub extensions: Vec<Extension>,
    /// Payload length.
    pub payload_len: Option<u16>,
    /// Last next-header value.
    pub protocol: Option<u8>,
    /// Version.
    pub version: u8,
}

/// An IPv6 extension header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options: the options, filled up with Pad1.
    HopByHop(Vec<u8>),
    /// Destination options.
    Destination(Vec<u8>),
    /// Routing: type, segments left, data filled up with zeros.
    Routing(u8, u8, Vec<u8>),
    /// Fragment: offset in 8 bytes, more to come, identification.
    Fragment(u16, bool, u32),
    /// Any bytes after the next-header byte, under this number.
    Raw(u8, Vec<u8>),
}

impl Extension {
    fn number(&self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Destination(_) => 60,
            Self::Routing(..) => 43,
            Self::Fragment(..) => 44,
            Self::Raw(number, _) => *number,
        }
    }

    fn bytes(&self, next: u8) -> Vec<u8> {
        let mut bytes = vec![next];
        match self {
            Self::HopByHop(options) | Self::Destination(options) => {
                bytes.push(0);
                bytes.extend(options);
                close(&mut bytes);
            }
            Self::Routing(kind, left, data) => {
                bytes.extend([0, *kind, *left]);
                bytes.extend(data);
                close(&mut bytes);
            }
            Self::Fragment(offset, more, id) => {
                bytes.push(0);
                bytes.extend((offset << 3 | u16::from(*more)).to_be_bytes());
                bytes.extend(id.to_be_bytes());
            }
            Self::Raw(_, rest) => bytes.extend(rest),
        }
        bytes
    }
}

/// Fills up to 8 bytes and writes the length.
fn close(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes[1] = (bytes.len() / 8 - 1) as u8;
}

impl Default for Ipv6 {
    fn default() -> Self {
        Self {
            source: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
            hop_limit: 64,
            class: 0,
            label: 0,
            extensions: Vec::new(),
            payload_len: None,
            protocol: None,
            version: 6,
        }
    }
}

impl Ipv6 {
    /// A header between these addresses.
    #[must_use]
    pub fn new(source: Ipv6Addr, destination: Ipv6Addr) -> Self {
        Self {
            source,
            destination,
            ..Self::default()
        }
    }

    /// The packet with this transport.
    #[must_use]
    pub fn around(&self, transport: &dyn Transport) -> Vec<u8> {
        let ends = (IpAddr::V6(self.source), IpAddr::V6(self.destination));
        self.raw(transport.protocol(ends), &transport.bytes(ends))
    }

    /// The packet with any payload.
    #[must_use]
    pub fn raw(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut next = self.protocol.unwrap_or(protocol);
        let mut chain = payload.to_vec();
        for extension in self.extensions.iter().rev() {
            chain = [extension.bytes(next), chain].concat();
            next = extension.number();
        }
        let first =
            u32::from(self.version) << 28 | u32::from(self.class) << 20 | self.label & 0xf_ffff;
        let mut bytes = first.to_be_bytes().to_vec();
        bytes.extend(self.payload_len.unwrap_or(chain.len() as u16).to_be_bytes());
        bytes.extend([next, self.hop_limit]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(chain);
        bytes
    }

    /// The same payload cut into fragments at these places.
    #[must_use]
    pub fn fragments(&self, transport: &dyn Transport, id: u32, cuts: &[usize]) -> Vec<Vec<u8>> {
        let ends = (IpAddr::V6(self.source), IpAddr::V6(self.destination));
        let payload = transport.bytes(ends);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let stops = cuts.iter().copied().chain([payload.len()]);
        let piece = |(start, stop): (usize, usize)| {
            let mut header = self.clone();
            let fragment = Extension::Fragment((start / 8) as u16, stop < payload.len(), id);
            header.extensions.push(fragment);
            header.raw(transport.protocol(ends), &payload[start..stop])
        };
        starts.zip(stops).map(piece).collect()
    }
}

/// A header of either version between two addresses, otherwise as usual.
#[derive(Clone, Debug)]
pub enum Ip {
    /// IPv4.
    V4(Ipv4),
    /// IPv6.
    V6(Ipv6),
}

impl Ip {
    /// A header between these addresses.
    ///
    /// # Panics
    /// If they are of different versions.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr) -> Self {
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Self::V4(Ipv4::new(source, destination))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                Self::V6(Ipv6::new(source, destination))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                panic!("{source} and {destination} are of different versions")
            }
        }
    }

    /// The packet with this transport.
    #[must_use]
    pub fn around(&self, transport: &dyn Transport) -> Vec<u8> {
        match self {
            Self::V4(ip) => ip.around(transport),
            Self::V6(ip) => ip.around(transport),
        }
    }

    /// The packet with any payload.
    #[must_use]
    pub fn raw(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::V4(ip) => ip.raw(protocol, payload),
            Self::V6(ip) => ip.raw(protocol, payload),
        }
    }

    /// Sets time to live or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        match &mut self {
            Self::V4(ip) => ip.ttl = ttl,
            Self::V6(ip) => ip.hop_limit = ttl,
        }
        self
    }
}

/// One line about a packet for a person who looks at a failed test.
#[must_use]
pub fn read(packet: &[u8]) -> String {
    let byte = |at: usize| packet.get(at).copied().unwrap_or(0);
    let word = |at: usize| u16::from_be_bytes([byte(at), byte(at + 1)]);
    let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
    let (mut text, protocol, at) = match byte(0) >> 4 {
        4 => {
            let address = |at: usize| Ipv4Addr::from_bits(long(at));
            let text = format!(
                "{} > {} ttl {} id {:#06x} frag {:#06x} len {}/{}",
                address(12),
                address(16),
                byte(8),
                word(4),
                word(6),
                word(2),
                packet.len(),
            );
            (text, byte(9), usize::from(byte(0) & 15) * 4)
        }
        6 => {
            let address = |at: usize| {
                let octets: Vec<u8> = (at..at + 16).map(byte).collect();
                <[u8; 16]>::try_from(octets).map_or(Ipv6Addr::UNSPECIFIED, Ipv6Addr::from)
            };
            let (source, destination) = (address(8), address(24));
            let text = format!(
                "{source} > {destination} hops {} len {}/{}",
                byte(7),
                word(4),
                packet.len()
            );
            (text, byte(6), 40)
        }
        version => return format!("version {version}, {} bytes", packet.len()),
    };
    text += &match protocol {
        6 => format!(
            " tcp {} > {} {} seq {} ack {} win {} offset {} sum {:#06x}",
            word(at),
            word(at + 2),
            flag_names(byte(at + 13)),
            long(at + 4),
            long(at + 8),
            word(at + 14),
            byte(at + 12) >> 4,
            word(at + 16),
        ),
        17 => format!(
            " udp {} > {} len {} sum {:#06x}",
            word(at),
            word(at + 2),
            word(at + 4),
            word(at + 6)
        ),
        1 | 58 => {
            let quote = packet
                .get(at + 8..)
                .filter(|_| {
                    [3, 4, 5, 11, 12].contains(&byte(at)) || protocol == 58 && byte(at) < 128
                })
                .map(|quote| format!(" about [{}]", read(quote)));
            format!(
                " icmp {}/{} sum {:#06x} rest {:#010x}{}",
                byte(at),
                byte(at + 1),
                word(at + 2),
                long(at + 4),
                quote.unwrap_or_default()
            )
        }
        other => format!(" protocol {other}"),
    };
    text
}

fn flag_names(flags: u8) -> String {
    let names = ["F", "S", "R", "P", ".", "U", "E", "C"];
    let set = (0..8).filter(|bit| flags >> bit & 1 == 1);
    let text: String = set.map(|bit| names[bit]).collect();
    if text.is_empty() { "none".into() } else { text }
}
