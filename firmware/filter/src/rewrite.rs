//! What changes in a packet on its way through, checksums included.

use wire::checksum::{self, Delta};
use wire::ipv4::{self, Header};
use zerocopy::FromBytes;

/// The changes of one forwarded packet. The TTL step is part of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Only the TTL.
    Route,
    /// Destination address and port become the real server's.
    Destination(Translation),
    /// Source address and port become those that the client connected to.
    Source(Translation),
    /// An ICMP error about a translated packet: the quoted packet changes back to what its sender sent.
    Error {
        /// New source address of the error, if the server itself sent it.
        source: Option<[u8; 4]>,
        /// New destination of the error, if it goes to the server.
        destination: Option<[u8; 4]>,
        /// New destination (or source) address and port of the quoted packet.
        quoted: Quoted,
    },
}

/// A new address and port, and what that does to the checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// New address.
    pub address: [u8; 4],
    /// New port.
    pub port: u16,
    /// Change of the IP header checksum.
    pub ip: Delta,
    /// Change of the TCP checksum.
    pub tcp: Delta,
}

/// Which end of a quoted packet changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    /// Source address and port.
    Source([u8; 4], u16),
    /// Destination address and port.
    Destination([u8; 4], u16),
}

impl Rewrite {
    /// Applies the changes to the packet that was judged.
    pub fn apply(&self, packet: &mut [u8]) {
        let Ok((header, payload)) = Header::mut_from_prefix(packet) else {
            return;
        };
        header.ttl = header.ttl.saturating_sub(1);
        match self {
            Self::Route => update(&mut header.checksum, Delta::TTL_STEP),
            Self::Destination(new) => {
                header.destination = new.address;
                update(&mut header.checksum, new.ip.and(Delta::TTL_STEP));
                port(payload, DESTINATION_PORT, new.port);
                tcp_checksum(payload, new.tcp);
            }
            Self::Source(new) => {
                header.source = new.address;
                update(&mut header.checksum, new.ip.and(Delta::TTL_STEP));
                port(payload, SOURCE_PORT, new.port);
                tcp_checksum(payload, new.tcp);
            }
            Self::Error {
                source,
                destination,
                quoted,
            } => {
                let mut delta = Delta::TTL_STEP;
                if let Some(new) = *source {
                    delta = delta.address(header.source, new);
                    header.source = new;
                }
                if let Some(new) = *destination {
                    delta = delta.address(header.destination, new);
                    header.destination = new;
                }
                update(&mut header.checksum, delta);
                let len = usize::from(header.total_len.get()).saturating_sub(ipv4::HEADER_LEN);
                error(payload.get_mut(..len).unwrap_or_default(), *quoted);
            }
        }
    }
}

/// Translates the quoted packet of an ICMP error and renews the message's checksum.
fn error(message: &mut [u8], quoted: Quoted) {
    let Some((_, quote)) = message.split_at_mut_checked(ICMP_HEADER_LEN) else {
        return;
    };
    let Ok((header, payload)) = Header::mut_from_prefix(quote) else {
        return;
    };
    let (old, new, place, new_port) = match quoted {
        Quoted::Source(new, port) => (
            core::mem::replace(&mut header.source, new),
            new,
            SOURCE_PORT,
            port,
        ),
        Quoted::Destination(new, port) => (
            core::mem::replace(&mut header.destination, new),
            new,
            DESTINATION_PORT,
            port,
        ),
    };
    let delta = Delta::NONE.address(old, new);
    update(&mut header.checksum, delta);
    let old_port = port(payload, place, new_port);
    // Most errors quote 8 bytes only, so the TCP checksum may not be there.
    tcp_checksum(payload, delta.word(old_port, new_port));
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&[0, 0]);
    }
    let sum = checksum::of(message);
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

fn update(field: &mut zerocopy::byteorder::network_endian::U16, delta: Delta) {
    field.set(delta.apply(field.get()));
}

/// Replaces a port and returns the old one.
fn port(payload: &mut [u8], place: usize, new: u16) -> u16 {
    let Some(field) = payload.get_mut(place..).and_then(<[u8]>::first_chunk_mut) else {
        return new;
    };
    u16::from_be_bytes(core::mem::replace(field, new.to_be_bytes()))
}

fn tcp_checksum(payload: &mut [u8], delta: Delta) {
    let Some(field) = payload
        .get_mut(TCP_CHECKSUM..)
        .and_then(<[u8]>::first_chunk_mut)
    else {
        return;
    };
    *field = delta.apply(u16::from_be_bytes(*field)).to_be_bytes();
}

const SOURCE_PORT: usize = 0;
const DESTINATION_PORT: usize = 2;
const TCP_CHECKSUM: usize = 16;
const ICMP_HEADER_LEN: usize = 8;
