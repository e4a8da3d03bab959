//! How IPv6 hosts find their router (RFC 4861 §4.1, §4.2): solicitations checked, advertisements written.

use zerocopy::IntoBytes;

use crate::ethernet::Mac;
use crate::ipv6::{self, Header};
use crate::nd::{
    self, HOP_LIMIT, MULTICAST, ParseError, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION,
    SOURCE_ADDRESS,
};

/// Checks a router solicitation as RFC 4861 §6.1.1 says; the MAC address that its sender says it has. `message` has no Ethernet
/// padding.
pub fn solicitation(ip: &Header, message: &[u8]) -> Result<Option<Mac>, ParseError> {
    if ip.hop_limit != HOP_LIMIT {
        return Err(ParseError::HopLimit(ip.hop_limit));
    }
    let len = u16::try_from(message.len()).map_err(|_| ParseError::Truncated)?;
    let sum = ipv6::pseudo_header(ip.source, ip.destination, ipv6::ICMP, len).bytes(message);
    if sum.finish() != 0 {
        return Err(ParseError::Checksum);
    }
    let (fixed, options) = message
        .split_first_chunk::<8>()
        .ok_or(ParseError::Truncated)?;
    let [kind, code, ..] = *fixed;
    if kind != ROUTER_SOLICITATION {
        return Err(ParseError::Type(kind));
    }
    if code != 0 {
        return Err(ParseError::Code(code));
    }
    let mac = nd::mac_option(options, SOURCE_ADDRESS)?;
    if ip.source[0] == MULTICAST || ip.source == [0; 16] && mac.is_some() {
        return Err(ParseError::Source);
    }
    Ok(mac)
}

/// A router advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// The router's link-local address, and what hosts enter as their router.
    pub source: [u8; 16],
    /// Its MAC address.
    pub mac: Mac,
    /// Seconds for which it may be used as a default router; 0 for not any more.
    pub lifetime: u16,
    /// Hop limit for what hosts send; 0 leaves it to them.
    pub hop_limit: u8,
    /// MTU of the link.
    pub mtu: u32,
    /// A prefix of the link.
    pub prefix: Option<Prefix>,
}

/// A prefix whose addresses are on the link (RFC 4861 §4.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its first address.
    pub address: [u8; 16],
    /// Its length in bits.
    pub length: u8,
    /// Whether hosts may make themselves addresses in it (RFC 4862).
    pub autonomous: bool,
    /// Seconds for which it is valid.
    pub valid: u32,
    /// Seconds for which addresses of it are preferred.
    pub preferred: u32,
}

/// Length of the longest packet.
pub const MAX_LEN: usize = ipv6::HEADER_LEN + 16 + 8 + 8 + 32;

impl RouterAdvertisement {
    /// Writes a packet to `destination` to the front of `buffer`.
    pub fn write<'b>(&self, destination: [u8; 16], buffer: &'b mut [u8; MAX_LEN]) -> &'b [u8] {
        let (front, message) = buffer.split_at_mut(ipv6::HEADER_LEN);
        let len = if self.prefix.is_some() { 64 } else { 32 };
        let (message, _) = message.split_at_mut(len);
        message.fill(0);
        message[0] = ROUTER_ADVERTISEMENT;
        message[4] = self.hop_limit;
        message[6..8].copy_from_slice(&self.lifetime.to_be_bytes());
        message[16..18].copy_from_slice(&[SOURCE_ADDRESS, 1]);
        message[18..24].copy_from_slice(&self.mac);
        message[24..26].copy_from_slice(&[MTU, 1]);
        message[28..32].copy_from_slice(&self.mtu.to_be_bytes());
        if let Some((prefix, option)) = self.prefix.zip(message.get_mut(32..64)) {
            let flags = ON_LINK | if prefix.autonomous { AUTONOMOUS } else { 0 };
            option[..4].copy_from_slice(&[PREFIX, 4, prefix.length, flags]);
            option[4..8].copy_from_slice(&prefix.valid.to_be_bytes());
            option[8..12].copy_from_slice(&prefix.preferred.to_be_bytes());
            option[16..].copy_from_slice(&prefix.address);
        }
        let sum =
            ipv6::pseudo_header(self.source, destination, ipv6::ICMP, len as u16).bytes(message);
        message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        let header = Header::new(self.source, destination, ipv6::ICMP, HOP_LIMIT, len);
        front.copy_from_slice(header.as_bytes());
        &buffer[..ipv6::HEADER_LEN + len]
    }
}

const PREFIX: u8 = 3;
const MTU: u8 = 5;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv6Packet, Icmpv6Repr, NdiscPrefixInfoFlags, NdiscRepr};

    use super::*;
    use crate::nd::{ALL_NODES, ALL_ROUTERS};

    const ROUTER: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const HOST: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    const MAC: Mac = [0, 0, 0x5e, 0, 2, 7];
    const PREFIX: Prefix = Prefix {
        address: [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        length: 64,
        autonomous: false,
        valid: 86_400,
        preferred: 14_400,
    };

    /// Another implementation understands what we write.
    #[test]
    fn smoltcp_reads_the_same() {
        for (prefix, lifetime) in [(None, 1800), (Some(PREFIX), 0)] {
            let advert = RouterAdvertisement {
                source: ROUTER,
                mac: MAC,
                lifetime,
                hop_limit: 64,
                mtu: 1500,
                prefix,
            };
            let mut buffer = [0xaa; MAX_LEN];
            let packet = advert.write(ALL_NODES, &mut buffer);
            let header = Header::parse(packet).unwrap();
            assert_eq!((header.total_len(), header.hop_limit), (packet.len(), 255));
            let view = Icmpv6Packet::new_checked(&packet[ipv6::HEADER_LEN..]).unwrap();
            let (from, to) = (ROUTER.into(), ALL_NODES.into());
            let repr =
                Icmpv6Repr::parse(&from, &to, &view, &ChecksumCapabilities::default()).unwrap();
            let Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
                hop_limit,
                flags,
                router_lifetime,
                lladdr,
                mtu,
                prefix_info,
                ..
            }) = repr
            else {
                panic!("{repr:?}");
            };
            assert_eq!((hop_limit, flags.bits(), mtu), (64, 0, Some(1500)));
            assert_eq!(router_lifetime.secs(), u64::from(lifetime));
            assert_eq!(lladdr.unwrap().as_bytes(), MAC);
            assert_eq!(prefix_info.is_some(), prefix.is_some());
            if let Some(info) = prefix_info {
                assert_eq!(
                    (info.prefix.octets(), info.prefix_len),
                    (PREFIX.address, 64)
                );
                assert_eq!(info.flags, NdiscPrefixInfoFlags::ON_LINK);
                assert_eq!(
                    (info.valid_lifetime.secs(), info.preferred_lifetime.secs()),
                    (86_400, 14_400)
                );
            }
        }
    }

    #[test]
    fn solicitations() {
        let plain = [133, 0, 0, 0, 0, 0, 0, 0];
        let with_mac = [&plain[..], &[1, 1, 2, 0, 0, 0, 0, 9]].concat();
        let mac = [2, 0, 0, 0, 0, 9];
        type Row<'a> = (
            &'a str,
            [u8; 16],
            u8,
            Vec<u8>,
            Result<Option<Mac>, ParseError>,
        );
        let table: [Row<'_>; 9] = [
            ("plain", HOST, 255, plain.to_vec(), Ok(None)),
            (
                "with a MAC address",
                HOST,
                255,
                with_mac.clone(),
                Ok(Some(mac)),
            ),
            ("from nobody", [0; 16], 255, plain.to_vec(), Ok(None)),
            (
                "from nobody, with a MAC address",
                [0; 16],
                255,
                with_mac.clone(),
                Err(ParseError::Source),
            ),
            (
                "from a group",
                ALL_NODES,
                255,
                plain.to_vec(),
                Err(ParseError::Source),
            ),
            (
                "routed",
                HOST,
                254,
                plain.to_vec(),
                Err(ParseError::HopLimit(254)),
            ),
            (
                "short",
                HOST,
                255,
                plain[..7].to_vec(),
                Err(ParseError::Truncated),
            ),
            (
                "code",
                HOST,
                255,
                [&[133, 1], &plain[2..]].concat(),
                Err(ParseError::Code(1)),
            ),
            (
                "half an option",
                HOST,
                255,
                with_mac[..12].to_vec(),
                Err(ParseError::Truncated),
            ),
        ];
        for (name, source, hop_limit, mut message, result) in table {
            let len = message.len() as u16;
            let sum = ipv6::pseudo_header(source, ALL_ROUTERS, ipv6::ICMP, len).bytes(&message);
            message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
            let ip = Header::new(source, ALL_ROUTERS, ipv6::ICMP, hop_limit, message.len());
            assert_eq!(solicitation(&ip, &message), result, "{name}");
            message[3] ^= 1;
            assert!(solicitation(&ip, &message).is_err(), "{name}");
        }
    }
}
