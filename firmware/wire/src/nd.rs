//! Neighbour discovery for IPv6 (RFC 4861): solicitations and advertisements, checked and written.

use zerocopy::IntoBytes;

use crate::ethernet::Mac;
use crate::ipv6::{self, Header};

/// ICMPv6 type of a router solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a router advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// ICMPv6 type of a neighbour solicitation.
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// ICMPv6 type of a redirect.
pub const REDIRECT: u8 = 137;

/// All nodes on the link.
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
/// All routers on the link.
pub const ALL_ROUTERS: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// The only hop limit that a message may arrive with: it cannot have passed a router.
pub const HOP_LIMIT: u8 = 255;

/// A valid message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Somebody asks for the MAC address of `target`, or whether anybody has it.
    Solicitation {
        /// The address in question.
        target: [u8; 16],
        /// MAC address of the sender; absent while it has no address yet (RFC 4862 §5.4.2).
        source: Option<Mac>,
    },
    /// Somebody says that it has `target`.
    Advertisement(Advertisement),
}

/// A neighbour advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The address that it is about.
    pub target: [u8; 16],
    /// MAC address of the target, if it says so.
    pub mac: Option<Mac>,
    /// The sender is a router.
    pub router: bool,
    /// It answers a solicitation.
    pub solicited: bool,
    /// It replaces what is known about the target.
    pub overrides: bool,
}

/// Why a message is discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It may come from beyond this link.
    #[error("hop limit is {0} instead of {HOP_LIMIT}")]
    HopLimit(u8),
    /// The checksum is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// Neither a neighbour solicitation nor an advertisement.
    #[error("ICMPv6 type {0} is not one of a neighbour")]
    Type(u8),
    /// The code is not zero.
    #[error("code {0} is unknown")]
    Code(u8),
    /// Shorter than a target, or an option runs beyond the end.
    #[error("truncated")]
    Truncated,
    /// An option of length zero, or a link-layer address that is no station's MAC address.
    #[error("option {0} is malformed")]
    Option(u8),
    /// The target is a multicast address.
    #[error("the target is a multicast address")]
    Target,
    /// A sender without an address says its MAC address, or asks one station only.
    #[error("the source is unspecified")]
    Source,
    /// An answer that goes to everybody.
    #[error("a solicited advertisement to a multicast address")]
    Solicited,
}

impl Message {
    /// Checks a received ICMPv6 message as RFC 4861 §7.1.1 and §7.1.2 say. `message` has no Ethernet
    /// padding. No fragment header may have come before it (RFC 6980 §5): that is for the caller.
    pub fn parse(ip: &Header, message: &[u8]) -> Result<Self, ParseError> {
        if ip.hop_limit != HOP_LIMIT {
            return Err(ParseError::HopLimit(ip.hop_limit));
        }
        let len = u16::try_from(message.len()).map_err(|_| ParseError::Truncated)?;
        let sum = ipv6::pseudo_header(ip.source, ip.destination, ipv6::ICMP, len).bytes(message);
        if sum.finish() != 0 {
            return Err(ParseError::Checksum);
        }
        let (fixed, options) = message
            .split_first_chunk::<FIXED>()
            .ok_or(ParseError::Truncated)?;
        let [kind, code, _, _, flags, _, _, _, target @ ..] = *fixed;
        let wanted = match kind {
            NEIGHBOUR_SOLICITATION => SOURCE_ADDRESS,
            NEIGHBOUR_ADVERTISEMENT => TARGET_ADDRESS,
            other => return Err(ParseError::Type(other)),
        };
        if code != 0 {
            return Err(ParseError::Code(code));
        }
        if target[0] == MULTICAST {
            return Err(ParseError::Target);
        }
        let mac = mac_option(options, wanted)?;
        if kind == NEIGHBOUR_SOLICITATION {
            let nobody = ip.source == [0; 16];
            if nobody && (mac.is_some() || ip.destination != solicited_node(target)) {
                return Err(ParseError::Source);
            }
            return Ok(Self::Solicitation {
                target,
                source: mac,
            });
        }
        let solicited = flags & SOLICITED != 0;
        if solicited && ip.destination[0] == MULTICAST {
            return Err(ParseError::Solicited);
        }
        Ok(Self::Advertisement(Advertisement {
            target,
            mac,
            router: flags & ROUTER != 0,
            solicited,
            overrides: flags & OVERRIDE != 0,
        }))
    }
}

/// Length of the packets that the writers make.
pub const PACKET_LEN: usize = ipv6::HEADER_LEN + FIXED + OPTION;

/// A packet that asks for the MAC address of `target`: all that may have it, or the station at `destination`
/// whether it still does (RFC 4861 §7.3.3).
#[must_use]
pub fn solicitation(
    source: [u8; 16],
    mac: Mac,
    destination: [u8; 16],
    target: [u8; 16],
) -> [u8; PACKET_LEN] {
    let option = (SOURCE_ADDRESS, mac);
    packet(
        source,
        destination,
        NEIGHBOUR_SOLICITATION,
        0,
        target,
        option,
    )
}

/// A packet with an advertisement that has a MAC address, from its target.
#[must_use]
pub fn advertisement(advert: &Advertisement, mac: Mac, destination: [u8; 16]) -> [u8; PACKET_LEN] {
    let flags = [
        (advert.router, ROUTER),
        (advert.solicited, SOLICITED),
        (advert.overrides, OVERRIDE),
    ];
    let flags = flags.iter().filter(|(on, _)| *on).map(|(_, bit)| bit).sum();
    let option = (TARGET_ADDRESS, mac);
    packet(
        advert.target,
        destination,
        NEIGHBOUR_ADVERTISEMENT,
        flags,
        advert.target,
        option,
    )
}

/// The group in which whoever has `address` listens (RFC 4291 §2.7.1).
#[must_use]
pub const fn solicited_node(address: [u8; 16]) -> [u8; 16] {
    let [.., a, b, c] = address;
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]
}

/// The MAC address of a multicast address (RFC 2464 §7).
#[must_use]
pub const fn multicast_mac(group: [u8; 16]) -> Mac {
    let [.., a, b, c, d] = group;
    [0x33, 0x33, a, b, c, d]
}

/// The link-local address that goes with a MAC address (RFC 4291 §2.5.6 and appendix A).
#[must_use]
pub const fn link_local(mac: Mac) -> [u8; 16] {
    let [a, b, c, d, e, f] = mac;
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ]
}

/// Type, code, checksum, flags and target.
const FIXED: usize = 24;
/// A link-layer address option for Ethernet (RFC 2464 §6).
const OPTION: usize = 8;
pub(crate) const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
pub(crate) const MULTICAST: u8 = 0xff;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The first link-layer address of this kind; every option must be sound, unknown ones too.
pub(crate) fn mac_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, ParseError> {
    let mut found = None;
    while let [kind, words, ..] = *options {
        let len = usize::from(words) * 8;
        if len == 0 {
            return Err(ParseError::Option(kind));
        }
        let (option, rest) = options.split_at_checked(len).ok_or(ParseError::Truncated)?;
        if kind == wanted {
            let mac = match *option {
                [_, _, a, b, c, d, e, f] => [a, b, c, d, e, f],
                _ => return Err(ParseError::Option(kind)),
            };
            if mac[0] & 1 == 1 || mac == [0; 6] {
                return Err(ParseError::Option(kind));
            }
            found = found.or(Some(mac));
        }
        options = rest;
    }
    match options {
        [] => Ok(found),
        _ => Err(ParseError::Truncated),
    }
}

fn packet(
    source: [u8; 16],
    destination: [u8; 16],
    kind: u8,
    flags: u8,
    target: [u8; 16],
    (option, mac): (u8, Mac),
) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    let len = FIXED + OPTION;
    let header = Header::new(source, destination, ipv6::ICMP, HOP_LIMIT, len);
    let (front, message) = packet.split_at_mut(ipv6::HEADER_LEN);
    front.copy_from_slice(header.as_bytes());
    message[0] = kind;
    message[4] = flags;
    message[8..24].copy_from_slice(&target);
    message[24..26].copy_from_slice(&[option, 1]);
    message[26..].copy_from_slice(&mac);
    let sum = ipv6::pseudo_header(source, destination, ipv6::ICMP, len as u16).bytes(message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    packet
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv6Packet, Icmpv6Repr, NdiscRepr};

    use super::*;

    const A: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa];
    const B: [u8; 16] = [
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78,
    ];
    const MAC: Mac = [2, 0, 0, 0xab, 0, 1];

    fn parsed(packet: &[u8]) -> Result<Message, ParseError> {
        let header = Header::parse(packet).unwrap();
        Message::parse(header, &packet[ipv6::HEADER_LEN..])
    }

    /// A packet with this message, checksum mended.
    fn sealed(source: [u8; 16], destination: [u8; 16], message: &[u8]) -> Vec<u8> {
        let header = Header::new(source, destination, ipv6::ICMP, HOP_LIMIT, message.len());
        let mut message = message.to_vec();
        message[2..4].fill(0);
        let sum = ipv6::pseudo_header(source, destination, ipv6::ICMP, message.len() as u16)
            .bytes(&message)
            .finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        [header.as_bytes(), &message].concat()
    }

    #[test]
    fn solicitations_are_read_as_written() {
        let packet = solicitation(A, MAC, solicited_node(B), B);
        let expected = Message::Solicitation {
            target: B,
            source: Some(MAC),
        };
        assert_eq!(parsed(&packet), Ok(expected));
    }

    #[test]
    fn advertisements_are_read_as_written() {
        for bits in 0..8 {
            let advert = Advertisement {
                target: B,
                mac: Some(MAC),
                router: bits & 1 != 0,
                solicited: bits & 2 != 0,
                overrides: bits & 4 != 0,
            };
            let packet = advertisement(&advert, MAC, A);
            assert_eq!(parsed(&packet), Ok(Message::Advertisement(advert)));
            let to_all = advertisement(&advert, MAC, ALL_NODES);
            let expected = match advert.solicited {
                true => Err(ParseError::Solicited),
                false => Ok(Message::Advertisement(advert)),
            };
            assert_eq!(parsed(&to_all), expected);
        }
    }

    /// Another implementation understands what we write.
    #[test]
    fn smoltcp_reads_the_same() {
        let advert = Advertisement {
            target: B,
            mac: Some(MAC),
            router: true,
            solicited: true,
            overrides: true,
        };
        for (packet, from, to) in [
            (
                solicitation(A, MAC, solicited_node(B), B),
                A,
                solicited_node(B),
            ),
            (advertisement(&advert, MAC, A), B, A),
        ] {
            let view = Icmpv6Packet::new_checked(&packet[ipv6::HEADER_LEN..]).unwrap();
            let (from, to) = (from.into(), to.into());
            let repr =
                Icmpv6Repr::parse(&from, &to, &view, &ChecksumCapabilities::default()).unwrap();
            match repr {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
                    target_addr,
                    lladdr,
                }) => {
                    assert_eq!(
                        (target_addr.octets(), lladdr.unwrap().as_bytes()),
                        (B, &MAC[..])
                    );
                }
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert {
                    flags,
                    target_addr,
                    lladdr,
                }) => {
                    assert_eq!(
                        (target_addr.octets(), lladdr.unwrap().as_bytes()),
                        (B, &MAC[..])
                    );
                    assert_eq!(flags.bits(), ROUTER | SOLICITED | OVERRIDE);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_host_that_looks_for_duplicates_is_understood() {
        let mut message = [0; FIXED];
        message[0] = NEIGHBOUR_SOLICITATION;
        message[8..].copy_from_slice(&B);
        let expected = Message::Solicitation {
            target: B,
            source: None,
        };
        let packet = sealed([0; 16], solicited_node(B), &message);
        assert_eq!(parsed(&packet), Ok(expected));
        let to_one = sealed([0; 16], B, &message);
        assert_eq!(parsed(&to_one), Err(ParseError::Source));
        let with_mac = [&message[..], &[1, 1], &MAC].concat();
        let with_mac = sealed([0; 16], solicited_node(B), &with_mac);
        assert_eq!(parsed(&with_mac), Err(ParseError::Source));
    }

    #[test]
    fn refusals() {
        type Change = fn(&mut Vec<u8>);
        let table: [(&str, Change, ParseError); 11] = [
            ("code", |m| m[1] = 1, ParseError::Code(1)),
            ("a router's", |m| m[0] = 134, ParseError::Type(134)),
            ("a ping", |m| m[0] = 128, ParseError::Type(128)),
            (
                "cut in the target",
                |m| m.truncate(23),
                ParseError::Truncated,
            ),
            (
                "cut in the option",
                |m| m.truncate(31),
                ParseError::Truncated,
            ),
            ("one byte too many", |m| m.push(1), ParseError::Truncated),
            ("length zero", |m| m[25] = 0, ParseError::Option(1)),
            (
                "an unknown option of length zero",
                |m| m.extend_from_slice(&[200, 0, 0, 0, 0, 0, 0, 0]),
                ParseError::Option(200),
            ),
            (
                "an address of another medium",
                |m| {
                    m[25] = 2;
                    m.extend_from_slice(&[0; 8]);
                },
                ParseError::Option(1),
            ),
            ("a multicast MAC", |m| m[26] |= 1, ParseError::Option(1)),
            ("a multicast target", |m| m[8] = 0xff, ParseError::Target),
        ];
        let packet = solicitation(A, MAC, solicited_node(B), B);
        for (name, change, error) in table {
            let mut message = packet[ipv6::HEADER_LEN..].to_vec();
            change(&mut message);
            let sent = sealed(A, solicited_node(B), &message);
            assert_eq!(parsed(&sent), Err(error), "{name}");
        }
    }

    #[test]
    fn routed_messages_and_flipped_bits_are_refused() {
        let packet = solicitation(A, MAC, solicited_node(B), B);
        for hop_limit in 0..=254 {
            let mut routed = packet;
            routed[7] = hop_limit;
            assert_eq!(parsed(&routed), Err(ParseError::HopLimit(hop_limit)));
        }
        for bit in 8 * 8..8 * PACKET_LEN {
            let mut damaged = packet;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parsed(&damaged), Err(ParseError::Checksum), "bit {bit}");
        }
    }

    #[test]
    fn derived_addresses() {
        let group = solicited_node(B);
        assert_eq!(group[11..], [1, 0xff, 0x34, 0x56, 0x78]);
        assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x34, 0x56, 0x78]);
        assert_eq!(multicast_mac(ALL_NODES), [0x33, 0x33, 0, 0, 0, 1]);
        // RFC 4291 appendix A turns the universal bit around.
        let address = link_local([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
        assert_eq!(
            address,
            [
                0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x36, 0x56, 0x78, 0xff, 0xfe, 0x9a, 0xbc, 0xde
            ]
        );
    }
}
