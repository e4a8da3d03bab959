//! Answers to packets that are addressed to the appliance, sent back to the station that they came from.

use filter::{Drop, Packet};
use wire::Frame;
use wire::checksum::{self, Delta};
use wire::ethernet::{self, Mac, Received};
use wire::ipv4;
use wire::tcp::{self, Flags};
use zerocopy::FromBytes;

use crate::leg::Leg;
use crate::{Transmit, emit};

/// Tells the sender of a segment that its connection is gone (RFC 9293 §3.10.7.1).
pub fn reset(
    leg: &Leg,
    received: &Received,
    packet: &Packet,
    bytes: &[u8],
    out: &mut impl Transmit,
) {
    let Some(segment) = bytes.get(ipv4::HEADER_LEN..).and_then(tcp::Header::parse) else {
        return;
    };
    let tuple = packet.tuple;
    let answer = tcp::write(&tcp::Segment {
        source: (tuple.destination.to_be_bytes(), tuple.destination_port),
        destination: (tuple.source.to_be_bytes(), tuple.source_port),
        sequence: segment.acknowledgment.get(),
        acknowledgment: 0,
        flags: Flags::RST,
        window: 0,
    });
    emit::ipv4(leg, received.destination, received.source, &answer, out);
}

/// Answers a ping in place, to the station that it came from.
pub fn echo_reply(
    leg: &Leg,
    mac: Mac,
    received: &Received,
    packet: &Packet,
    mut frame: Frame<'_>,
    out: &mut impl Transmit,
) -> Result<(), Drop> {
    if checksum::of(transport(received, packet, &frame)) != 0 {
        return Err(Drop::Transport);
    }
    let bytes = frame
        .bytes_mut()
        .get_mut(received.payload..)
        .unwrap_or_default();
    let (ip, message) = ipv4::Header::mut_from_prefix(bytes).map_err(|_| Drop::Ipv4Header)?;
    let Some([kind, _, sum @ ..]) = message.first_chunk_mut::<4>() else {
        return Err(Drop::Transport);
    };
    let delta = Delta::NONE.word(u16::from(*kind) << 8, u16::from(filter::ECHO_REPLY) << 8);
    *kind = filter::ECHO_REPLY;
    *sum = delta.apply(u16::from_be_bytes(*sum)).to_be_bytes();
    let payload = packet.len - ipv4::HEADER_LEN;
    *ip = ipv4::Header::new(
        ip.destination,
        ip.source,
        ipv4::ICMP,
        tcp::DEFAULT_TTL,
        payload,
    );
    if !ethernet::rewrite(&mut frame, received, received.source, mac, leg.vlan) {
        return Err(Drop::Headroom);
    }
    frame.truncate(ethernet::header_len(leg.vlan) + packet.len);
    frame.pad(ethernet::MIN_LEN);
    out.transmit(leg.port, frame.bytes());
    Ok(())
}

/// The transport header and data of a packet.
pub fn transport<'f>(received: &Received, packet: &Packet, frame: &'f Frame<'_>) -> &'f [u8] {
    let start = received.payload + ipv4::HEADER_LEN;
    frame
        .bytes()
        .get(start..received.payload + packet.len)
        .unwrap_or_default()
}
