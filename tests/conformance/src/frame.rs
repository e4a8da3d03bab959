//! What the device has sent, read by `etherparse`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{NetSlice, SlicedPacket};

use crate::cable::Moment;

/// A MAC address.
pub type Mac = [u8; 6];

/// A frame of the device.
#[derive(Clone)]
pub struct Frame {
    /// When it left.
    pub at: Moment,
    /// To whom.
    pub destination: Mac,
    /// From whom.
    pub source: Mac,
    /// What is in it.
    pub body: Body,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// What a frame carries.
#[derive(Clone, Debug)]
pub enum Body {
    /// An ARP message.
    Arp(Arp),
    /// An IP packet.
    Ip(Ip),
    /// Something else.
    Other,
}

/// An ARP message about IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 for a request, 2 for a reply.
    pub operation: u16,
    /// Whose addresses it tells.
    pub sender: (Mac, Ipv4Addr),
    /// Whom it asks for, or tells.
    pub target: (Mac, Ipv4Addr),
}

/// An IP packet.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// What the payload is, behind extension headers.
    pub protocol: u8,
    /// Options, or extension headers.
    pub options: Vec<u8>,
    /// Whether it is a part of a packet.
    pub fragment: bool,
    /// Whether the header's checksum is right; IPv6 has none.
    pub intact: bool,
    /// The payload, without padding of the frame.
    pub payload: Vec<u8>,
}

/// A VRRP advertisement.
#[derive(Clone, Copy, Debug)]
pub struct Advert<'a> {
    /// The message.
    pub message: &'a [u8],
}

/// A neighbour advertisement (RFC 4861 §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourAdvert {
    /// R, S, O.
    pub flags: (bool, bool, bool),
    /// What it is about.
    pub target: Ipv6Addr,
    /// Target link-layer address option.
    pub mac: Option<Mac>,
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Panics
    /// If it is not one: a device must not send such.
    #[must_use]
    pub fn read(at: Moment, bytes: Vec<u8>) -> Self {
        assert!(
            bytes.len() >= 60,
            "a frame shorter than the cable allows: {bytes:02x?}"
        );
        let body = Body::read(&bytes);
        let mac = |at: usize| bytes[at..at + 6].try_into().expect("six bytes");
        Self {
            at,
            destination: mac(0),
            source: mac(6),
            body,
            bytes,
        }
    }

    /// The ARP message in it.
    #[must_use]
    pub fn arp(&self) -> Option<&Arp> {
        match &self.body {
            Body::Arp(arp) => Some(arp),
            Body::Ip(_) | Body::Other => None,
        }
    }

    /// The packet in it.
    #[must_use]
    pub fn ip(&self) -> Option<&Ip> {
        match &self.body {
            Body::Ip(ip) => Some(ip),
            Body::Arp(_) | Body::Other => None,
        }
    }

    /// The advertisement in it.
    #[must_use]
    pub fn advert(&self) -> Option<Advert<'_>> {
        let ip = self.ip().filter(|ip| ip.protocol == 112)?;
        Some(Advert {
            message: &ip.payload,
        })
    }

    /// The neighbour advertisement in it, if it is a good one.
    #[must_use]
    pub fn neighbour_advert(&self) -> Option<NeighbourAdvert> {
        let ip = self.ip().filter(|ip| ip.icmp6() == Some(136))?;
        assert!(ip.intact6(), "a wrong checksum: {self:?}");
        assert_eq!(ip.hops, 255, "{self:?}");
        let body = &ip.payload;
        let target: [u8; 16] = body[8..24].try_into().expect("16 bytes");
        let option = body.get(24..32).filter(|option| option[..2] == [2, 1]);
        let bit = |mask: u8| body[4] & mask != 0;
        Some(NeighbourAdvert {
            flags: (bit(0x80), bit(0x40), bit(0x20)),
            target: target.into(),
            mac: option.map(|option| option[2..].try_into().expect("six bytes")),
        })
    }

    /// Whether it is gratuitous ARP or an unsolicited neighbour advertisement, and about what.
    #[must_use]
    pub fn announced(&self) -> Option<IpAddr> {
        if let Some(arp) = self.arp() {
            return (arp.sender.1 == arp.target.1).then_some(arp.sender.1.into());
        }
        let advert = self.neighbour_advert()?;
        (!advert.flags.1).then_some(advert.target.into())
    }
}

impl Body {
    fn read(bytes: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(bytes)
            .unwrap_or_else(|error| panic!("a frame that is none: {error}: {bytes:02x?}"));
        match &sliced.net {
            Some(NetSlice::Arp(arp)) => Self::Arp(Arp::read(arp.slice())),
            Some(NetSlice::Ipv4(packet)) => {
                let header = packet.header();
                Self::Ip(Ip {
                    source: header.source_addr().into(),
                    destination: header.destination_addr().into(),
                    hops: header.ttl(),
                    protocol: packet.payload_ip_number().0,
                    options: header.options().to_vec(),
                    fragment: packet.is_payload_fragmented(),
                    intact: header.to_header().calc_header_checksum() == header.header_checksum(),
                    payload: packet.payload().payload.to_vec(),
                })
            }
            Some(NetSlice::Ipv6(packet)) => Self::Ip(Ip {
                source: packet.header().source_addr().into(),
                destination: packet.header().destination_addr().into(),
                hops: packet.header().hop_limit(),
                protocol: packet.payload().ip_number.0,
                options: packet.extensions().slice().to_vec(),
                fragment: packet.is_payload_fragmented(),
                intact: true,
                payload: packet.payload().payload.to_vec(),
            }),
            None => Self::Other,
        }
    }
}

impl Arp {
    fn read(bytes: &[u8]) -> Self {
        assert_eq!(bytes[..6], [0, 1, 8, 0, 6, 4], "ARP for IPv4 over Ethernet");
        let mac = |at: usize| bytes[at..at + 6].try_into().expect("six bytes");
        let ip = |at: usize| {
            <[u8; 4]>::try_from(&bytes[at..at + 4])
                .expect("four bytes")
                .into()
        };
        Self {
            operation: u16::from_be_bytes([bytes[6], bytes[7]]),
            sender: (mac(8), ip(14)),
            target: (mac(18), ip(24)),
        }
    }
}

impl Ip {
    /// Type of the ICMPv6 message in it.
    #[must_use]
    pub fn icmp6(&self) -> Option<u8> {
        let is_it = self.protocol == 58 && self.source.is_ipv6();
        self.payload.first().copied().filter(|_| is_it)
    }

    /// Whether the payload's checksum, with the pseudo-header of IPv6, is right.
    #[must_use]
    pub fn intact6(&self) -> bool {
        self.sum(true, &self.payload) == 0
    }

    /// The checksum over a part of the payload, with or without pseudo-header; 0 if one is in there and right.
    #[must_use]
    pub fn sum(&self, pseudo_header: bool, message: &[u8]) -> u16 {
        let mut bytes = Vec::new();
        if pseudo_header {
            for end in [self.source, self.destination] {
                match end {
                    IpAddr::V4(address) => bytes.extend(address.octets()),
                    IpAddr::V6(address) => bytes.extend(address.octets()),
                }
            }
            bytes.extend((message.len() as u32).to_be_bytes());
            bytes.extend([0, 0, 0, self.protocol]);
        }
        forge::checksum(&[&bytes, message])
    }
}

impl Advert<'_> {
    /// Priority field; 0 where it is missing.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.message.get(2).copied().unwrap_or(0)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |mac: &Mac| mac.map(|byte| format!("{byte:02x}")).join(":");
        write!(f, "{} > {} ", mac(&self.source), mac(&self.destination))?;
        match &self.body {
            Body::Arp(arp) => write!(f, "{arp:?}"),
            Body::Ip(ip) => write!(
                f,
                "{} > {} hops {} protocol {} {:02x?}",
                ip.source, ip.destination, ip.hops, ip.protocol, ip.payload
            ),
            Body::Other => write!(f, "{:02x?}", &self.bytes[12..]),
        }
    }
}
