//! keepalived's trailer (`auth_hmac`, draft-cassen-vrrp-auth-hmac), written once more.

use std::net::IpAddr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::cable::Moment;

/// The number of a moment: seconds since 1970, 16 bits of a fraction, and room for a counter.
#[must_use]
pub fn number(now: Moment) -> u64 {
    // Finer than the fraction: two within one of its steps differ in the counter.
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    now.as_secs() << 32 | fraction
}

/// The trailer of a message: type 1, key, number, and half of the HMAC over what identifies the sender, the message without its
/// checksum, and the trailer without the digest.
#[must_use]
pub fn trailer(source: IpAddr, message: &[u8], key: (u8, [u8; 32]), number: u64) -> Vec<u8> {
    let mut start = vec![1, key.0, 0, 0];
    start.extend(number.to_be_bytes());
    let (version, mut address) = match source {
        IpAddr::V4(address) => (4, address.octets().to_vec()),
        IpAddr::V6(address) => (6, address.octets().to_vec()),
    };
    address.resize(16, 0);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.1).expect("any length is good");
    mac.update(&[version, message[0] >> 4, message[1], 0]);
    mac.update(&address);
    mac.update(&message[..6]);
    mac.update(&[0, 0]);
    mac.update(&message[8..]);
    mac.update(&start);
    mac.update(&[0; 16]);
    let digest = mac.finalize().into_bytes();
    [&start[..], &digest[..16]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the draft's appendix.
    #[test]
    fn as_the_draft_has_it() {
        let message = [0x31, 0x33, 0xc8, 1, 0, 0x64, 0x44, 2, 0xc0, 0, 2, 0x64];
        let key = std::array::from_fn(|index| index as u8);
        let source = "198.51.100.10".parse().expect("an address");
        let trailer = trailer(source, &message, (1, key), 0x6800_0000_8000_0000);
        let digest = 0x1b84_bc4e_8e43_892d_c6d9_8448_f8ee_2265_u128;
        assert_eq!(trailer[12..], digest.to_be_bytes());
    }
}
