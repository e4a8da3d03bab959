//! The same policy twice: rendered to nftables in a network namespace, and run by our node in this process.
//! Whatever packet both get, both must send the same bytes, or [`known::ALL`] says why not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub mod compare;
pub mod kernel;
pub mod known;
pub mod model;
pub mod nft;
pub mod ours;
pub mod policies;
mod raw;
pub mod site;
pub mod stories;
pub mod story;

/// A frame that came out of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// The leg that it left by.
    pub leg: u8,
    /// The station that it is for.
    pub to: [u8; 6],
    /// The IP packet, without padding.
    pub packet: Vec<u8>,
}

impl Emission {
    /// Takes a frame apart.
    #[must_use]
    pub fn new(leg: u8, frame: &[u8]) -> Self {
        let to = frame
            .first_chunk()
            .copied()
            .expect("routers send whole headers");
        let payload = frame.get(14..).unwrap_or_default();
        let word = |at: usize| {
            Some(u16::from_be_bytes([
                *payload.get(at)?,
                *payload.get(at + 1)?,
            ]))
        };
        let len = match payload.first().map(|byte| byte >> 4) {
            Some(4) => word(2).map(usize::from),
            Some(6) => word(4).map(|len| 40 + usize::from(len)),
            _ => None,
        };
        let len = len.unwrap_or(payload.len()).min(payload.len());
        Self {
            leg,
            to,
            packet: payload[..len].to_vec(),
        }
    }
}

/// Source address of a packet, however broken the rest is.
fn source(packet: &[u8]) -> IpAddr {
    address(packet, 12, 8)
}

/// Destination address of a packet.
fn destination(packet: &[u8]) -> IpAddr {
    address(packet, 16, 24)
}

fn address(packet: &[u8], v4: usize, v6: usize) -> IpAddr {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => {
            let octets = packet
                .get(v6..v6 + 16)
                .and_then(|part| part.try_into().ok());
            IpAddr::V6(octets.map_or(Ipv6Addr::UNSPECIFIED, |octets: [u8; 16]| octets.into()))
        }
        _ => {
            let octets = packet.get(v4..v4 + 4).and_then(|part| part.try_into().ok());
            IpAddr::V4(octets.map_or(Ipv4Addr::UNSPECIFIED, |octets: [u8; 4]| octets.into()))
        }
    }
}
