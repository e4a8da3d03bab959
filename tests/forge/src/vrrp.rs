//! VRRP advertisements of all versions.

use std::net::IpAddr;

use crate::Sum;
use crate::transport::{Transport, pseudo};

/// A VRRP advertisement (RFC 9568 §5.2, RFC 3768 §5.3).
#[derive(Clone, Debug)]
pub struct Vrrp {
    /// Version.
    pub version: u8,
    /// Type.
    pub kind: u8,
    /// Virtual router identifier.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// How many addresses it says it has; `None` for as many as it has.
    pub count: Option<u8>,
    /// Bytes 4 and 5: reserved bits and centiseconds; of version 2 authentication type and seconds.
    pub interval: u16,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// What follows the addresses and is summed up with them: authentication data of version 2.
    pub authentication: Vec<u8>,
    /// What follows all of that. The checksum of IPv6 is over it too (RFC 8200 §8.1), that of IPv4 is not.
    pub trailer: Vec<u8>,
    /// Whether the checksum is over a pseudo-header too; `None` as the RFC of the version says.
    pub pseudo_header: Option<bool>,
    /// Checksum.
    pub checksum: Sum,
}

impl Default for Vrrp {
    fn default() -> Self {
        Self {
            version: 3,
            kind: 1,
            vrid: 1,
            priority: 100,
            count: None,
            interval: 100,
            addresses: Vec::new(),
            authentication: Vec::new(),
            trailer: Vec::new(),
            pseudo_header: None,
            checksum: Sum::Good,
        }
    }
}

impl Transport for Vrrp {
    fn protocol(&self, _: (IpAddr, IpAddr)) -> u8 {
        112
    }

    fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let count = self.count.unwrap_or(self.addresses.len() as u8);
        let mut bytes = vec![self.version << 4 | self.kind & 15, self.vrid];
        bytes.extend([self.priority, count]);
        bytes.extend(self.interval.to_be_bytes());
        bytes.extend([0, 0]);
        for address in &self.addresses {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        bytes.extend(&self.authentication);
        let message = bytes.len();
        bytes.extend(&self.trailer);
        let summed = if ends.0.is_ipv6() {
            bytes.len()
        } else {
            message
        };
        let sum = match self.pseudo_header.unwrap_or(ends.0.is_ipv6()) {
            true => self
                .checksum
                .of(&[&pseudo(ends, 112, summed), &bytes[..summed]]),
            false => self.checksum.of(&[&bytes[..summed]]),
        };
        bytes[6..8].copy_from_slice(&sum);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Captured from keepalived: the same advertisement with and without pseudo-header, and one of version 2.
    #[test]
    fn what_keepalived_sends() {
        let ends = (
            Ipv4Addr::new(10, 44, 0, 1).into(),
            Ipv4Addr::new(224, 0, 0, 18).into(),
        );
        let addresses = [254, 253].map(|host| Ipv4Addr::new(10, 44, 0, host).into());
        let advert = Vrrp {
            vrid: 44,
            priority: 200,
            addresses: addresses.into(),
            ..Vrrp::default()
        };
        let rest = *b"\x0a\x2c\x00\xfe\x0a\x2c\x00\xfd";
        let message = [&b"\x31\x2c\xc8\x02\x00\x64\xf0\x19"[..], &rest].concat();
        assert_eq!(advert.bytes(ends), message);
        let old = Vrrp {
            pseudo_header: Some(true),
            ..advert.clone()
        };
        let message = [&b"\x31\x2c\xc8\x02\x00\x64\x05\x5a"[..], &rest].concat();
        assert_eq!(old.bytes(ends), message);
        let two = Vrrp {
            version: 2,
            interval: 0x0101,
            authentication: b"secret12".to_vec(),
            ..advert
        };
        let message = [&b"\x21\x2c\xc8\x02\x01\x01\x91\xfe"[..], &rest, b"secret12"].concat();
        assert_eq!(two.bytes(ends), message);
    }
}
