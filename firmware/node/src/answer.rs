//! Answers to packets that are addressed to the appliance, sent back to the station that they came from.

use core::net::IpAddr;

use filter::Drop;
use wire::Frame;
use wire::checksum::{Delta, Sum};
use wire::ethernet::{self, Mac, Received};
use wire::tcp;
use wire::{ipv4, ipv6};
use zerocopy::IntoBytes;

use crate::Transmit;
use crate::leg::Leg;
use crate::local::Local;

/// Answers a ping in place, to the station that it came from.
pub fn echo_reply(
    leg: &Leg,
    mac: Mac,
    received: &Received,
    local: &Local,
    mut frame: Frame<'_>,
    out: &mut impl Transmit,
) -> Result<(), Drop> {
    let bytes = frame.bytes_mut();
    let packet = bytes.get_mut(received.payload..).unwrap_or_default();
    let packet = packet.get_mut(..local.len).unwrap_or_default();
    let Some((ip, message)) = packet.split_at_mut_checked(local.header) else {
        return Err(Drop::Transport);
    };
    let len = u16::try_from(message.len()).map_err(|_| Drop::TooLong)?;
    let (sum, request, reply) = match (local.source, local.destination) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let pseudo = ipv6::pseudo_header(from.octets(), to.octets(), ipv6::ICMP, len);
            (pseudo, ECHO_REQUEST_6, ECHO_REPLY_6)
        }
        _ => (Sum::default(), filter::ECHO_REQUEST, filter::ECHO_REPLY),
    };
    if sum.bytes(message).finish() != 0 {
        return Err(Drop::Transport);
    }
    let [kind, _, sum @ ..] = message
        .first_chunk_mut::<4>()
        .filter(|_| len >= ECHO_LEN)
        .ok_or(Drop::Transport)?;
    if *kind != request {
        return Err(Drop::NotForUs);
    }
    // The addresses change places, which leaves the pseudo-header's sum as it is.
    let delta = Delta::NONE.word(u16::from(request) << 8, u16::from(reply) << 8);
    *kind = reply;
    *sum = delta.apply(u16::from_be_bytes(*sum)).to_be_bytes();
    let (ttl, len) = (tcp::DEFAULT_TTL, message.len());
    match (local.source, local.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = ipv4::Header::new(to.octets(), from.octets(), ipv4::ICMP, ttl, len);
            ip.copy_from_slice(header.as_bytes());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = ipv6::Header::new(to.octets(), from.octets(), ipv6::ICMP, ttl, len);
            ip.copy_from_slice(header.as_bytes());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(Drop::NotForUs);
        }
    }
    if !ethernet::rewrite(&mut frame, received, received.source, mac, leg.vlan) {
        return Err(Drop::Headroom);
    }
    frame.truncate(ethernet::header_len(leg.vlan) + local.len);
    frame.pad(ethernet::MIN_LEN);
    out.transmit(leg.port, frame.bytes());
    Ok(())
}

/// Length of an echo message without data.
const ECHO_LEN: u16 = 8;
/// ICMPv6 type of an echo request (RFC 4443 §4.1).
pub const ECHO_REQUEST_6: u8 = 128;
/// ICMPv6 type of an echo reply.
const ECHO_REPLY_6: u8 = 129;
