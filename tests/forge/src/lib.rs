//! Packets of any shape for tests: every field can be what a real sender would write, or a lie.
//!
//! Shares no code with the firmware, so that a mistake there is not made here again.

#![forbid(unsafe_code)]

mod ip;
mod transport;
mod vrrp;

pub use ip::{Extension, Ip, Ipv4, Ipv6, read};
pub use transport::{Icmp, Tcp, Transport, Udp, flags};
pub use vrrp::Vrrp;

/// What stands in a checksum field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sum {
    /// The right one.
    #[default]
    Good,
    /// The right one with these bits flipped.
    Flipped(u16),
    /// Zero, which in UDP over IPv4 means that there is none.
    Zero,
}

impl Sum {
    fn of(self, parts: &[&[u8]]) -> [u8; 2] {
        match self {
            Self::Good => checksum(parts).to_be_bytes(),
            Self::Flipped(bits) => (checksum(parts) ^ bits).to_be_bytes(),
            Self::Zero => [0, 0],
        }
    }
}

/// The Internet checksum (RFC 1071) over parts, of which all but the last have even lengths.
#[must_use]
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    !(sum as u16)
}

/// An Ethernet frame without tag, padded to the 60 bytes that a cable carries at least.
#[must_use]
pub fn ethernet(to: [u8; 6], from: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to[..], &from, &ethertype.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// The Ethertype that goes with a packet's version.
#[must_use]
pub fn ethertype(packet: &[u8]) -> u16 {
    match packet.first().map(|byte| byte >> 4) {
        Some(6) => 0x86dd,
        _ => 0x0800,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Example of RFC 1071 §3.
    #[test]
    fn checksum_of_the_rfc() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&bytes]), !0xddf2);
        assert_eq!(checksum(&[&bytes[..2], &bytes[2..]]), !0xddf2);
    }

    #[test]
    fn whole_packets_sum_up_to_zero() {
        let tcp = Tcp {
            payload: b"odd".to_vec(),
            ..Tcp::default()
        };
        let v4 = Ipv4::default().around(&tcp);
        assert_eq!(checksum(&[&v4[..20]]), 0);
        let [a, b] = (v4.len() as u16 - 20).to_be_bytes();
        assert_eq!(checksum(&[&v4[12..20], &[0, 6, a, b], &v4[20..]]), 0);
        let v6 = Ipv6::default().around(&tcp);
        let [a, b] = (v6.len() as u16 - 40).to_be_bytes();
        assert_eq!(
            checksum(&[&v6[8..40], &[0, 0, a, b, 0, 0, 0, 6], &v6[40..]]),
            0
        );
    }
}
