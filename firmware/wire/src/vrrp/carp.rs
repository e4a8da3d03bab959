//! CARP of the BSDs, which shares VRRP's protocol number, group and MAC addresses: recognized, so that a person can be told.

use crate::checksum;

use super::Ends;

/// What a CARP advertisement says in the clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carp {
    /// Its virtual host id: it has the MAC address of the virtual router with this VRID.
    pub vhid: u8,
    /// Seconds between two advertisements.
    pub base: u8,
    /// 256ths of a second on top of them: higher is weaker.
    pub skew: u8,
}

/// Reads what follows an IP header; `None` for everything else, VRRP included. Both say version 2 and type 1, but CARP's byte of
/// "addresses" is the length of its authentication in words, always 7, and a message of VRRP with seven addresses is longer.
#[must_use]
pub fn parse(ends: &Ends, payload: &[u8]) -> Option<Carp> {
    let message: &[u8; LEN] = payload.try_into().ok()?;
    let [VERSION_TYPE, vhid, skew, AUTHENTICATION, _, base, ..] = *message else {
        return None;
    };
    let intact = checksum::of(message) == 0 || ends.pseudo_header(LEN).bytes(message).finish() == 0;
    intact.then_some(Carp { vhid, base, skew })
}

/// Header, counter and a SHA-1 digest.
const LEN: usize = 36;
const VERSION_TYPE: u8 = 0x21;
/// Counter and digest, in words.
const AUTHENTICATION: u8 = 7;
