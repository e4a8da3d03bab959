//! What changes in a packet on its way through, checksums included (RFC 1624).

use core::net::IpAddr;

use wire::checksum;
use wire::ipv4;
use wire::ipv6;
use wire::tcp;
use zerocopy::FromZeros;

use crate::address::{Address, V4, V6};
use crate::packet::{Class, FrontV4, FrontV6, Kind, Packet, Ports, Tuple, fold, half, word};

/// How a checksum changes when words that it covers change: `~m + m'` of RFC 1624 equation 3, folded. Its bytes are in
/// the order in which they lie in memory, like the words: sums do not mind (RFC 1071 §2 B).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Change(u16);

impl Change {
    /// No change.
    pub const NONE: Self = Self(0);

    /// One step of the TTL down: the word of TTL and protocol loses 0x0100.
    const TTL_STEP: u16 = u16::from_ne_bytes([0xfe, 0xff]);

    /// This change and the one from `old` to `new`, as they lie in memory.
    #[must_use]
    #[inline(always)]
    pub const fn word(self, old: u32, new: u32) -> Self {
        Self(fold(self.0 as u64 + !old as u64 + new as u64))
    }

    /// The checksum after the change and the one of both ports.
    #[must_use]
    #[inline(always)]
    pub const fn apply_with(self, old: Ports, new: Ports, checksum: u16) -> u16 {
        let (sum, carry) = (!old.0).overflowing_add(new.0);
        // The carry of a sum has room in it.
        let sum = sum.wrapping_add(carry as u32);
        let sum = (sum & 0xffff) + (sum >> 16) + self.0 as u32;
        !fold_short(sum + !checksum as u32)
    }

    /// This change and the one from address `old` to `new`.
    #[must_use]
    pub fn address<A: Address>(self, old: A, new: A) -> Self {
        let words = old.words().iter().zip(new.words());
        words.fold(self, |sum, (old, new)| sum.word(*old, *new))
    }

    /// This change and the one of a word of 16 bits.
    #[must_use]
    pub const fn half(self, old: u16, new: u16) -> Self {
        self.word(old as u32, new as u32)
    }

    /// The change that takes this one back.
    #[must_use]
    #[inline(always)]
    pub const fn reversed(self) -> Self {
        Self(!self.0)
    }

    /// The checksum after the change, as it lies in memory.
    #[must_use]
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold_short(!checksum as u32 + self.0 as u32)
    }

    /// The IPv4 header checksum after the change and one step of the TTL.
    #[inline(always)]
    const fn apply_and_age(self, checksum: u16) -> u16 {
        !fold_short(!checksum as u32 + self.0 as u32 + Self::TTL_STEP as u32)
    }

    /// The same as [`Self::apply_with`] for UDP, where zero means that there is none (RFC 768).
    #[inline(always)]
    pub const fn apply_unless_zero(self, old: Ports, new: Ports, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply_with(old, new, checksum) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Folds a sum of a few words of 16 bits.
#[inline(always)]
const fn fold_short(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}

/// Gives a packet with an IPv4 header without options new addresses and ports, and takes one from its TTL.
#[inline(always)]
pub fn readdress_v4(front: &mut FrontV4, leaves: &Tuple<V4>, change: Change) {
    front[8] = front[8].wrapping_sub(1);
    let sum = half(front, 10);
    front[10..12].copy_from_slice(&change.apply_and_age(sum).to_ne_bytes());
    front[12..16].copy_from_slice(&leaves.source.0.to_ne_bytes());
    front[16..20].copy_from_slice(&leaves.destination.0.to_ne_bytes());
    front[20..].copy_from_slice(&leaves.ports.0.to_ne_bytes());
}

/// The same for IPv6.
#[inline(always)]
pub fn readdress_v6(front: &mut FrontV6, leaves: &Tuple<V6>) {
    front[7] = front[7].wrapping_sub(1);
    let [a, b, c, d] = leaves.source.0;
    let [e, f, g, h] = leaves.destination.0;
    let words = [a, b, c, d, e, f, g, h, leaves.ports.0];
    for (place, word) in front[8..].as_chunks_mut().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
}

/// Gives any packet new addresses and ports, and takes one from its TTL. `change` is that of the addresses.
pub fn translate<A: Address>(
    bytes: &mut [u8],
    packet: &Packet<A>,
    class: Class,
    leaves: &Tuple<A>,
    change: Change,
) {
    A::age(bytes);
    A::readdress(bytes, leaves.source, leaves.destination);
    let end = usize::from(packet.len).min(bytes.len());
    let payload = bytes.get_mut(packet.transport.into()..end);
    let (old, new) = (packet.tuple.ports, leaves.ports);
    transport::<A>(payload.unwrap_or_default(), class, old, new, change);
}

/// New ports in the transport header at the front of `payload`, and its checksum after these and the change of the
/// addresses. What the payload is too short for is left out.
fn transport<A: Address>(payload: &mut [u8], class: Class, old: Ports, new: Ports, change: Change) {
    match class {
        Class::Tcp => {
            put(payload, 0, &new.0.to_ne_bytes());
            update(payload, TCP_CHECKSUM, |sum| {
                change.apply_with(old, new, sum)
            });
        }
        Class::Udp => {
            put(payload, 0, &new.0.to_ne_bytes());
            update(payload, UDP_CHECKSUM, |sum| {
                change.apply_unless_zero(old, new, sum)
            });
        }
        Class::Echo => {
            let (old, new) = (old.source().to_be(), new.source().to_be());
            let addresses = match A::ICMP {
                ipv6::ICMP => change,
                // IPv4's covers no addresses.
                _ => Change::NONE,
            };
            put(payload, ECHO_ID, &new.to_ne_bytes());
            update(payload, ICMP_CHECKSUM, |sum| {
                addresses.half(old, new).apply(sum)
            });
        }
        Class::Other => {}
    }
}

/// Translates an ICMP error (its outer addresses to `leaves`, the quoted packet to what its sender sent), takes one from
/// its TTL and renews the checksums. `quoted` is the quoted packet's transport header from the beginning of the quote.
pub fn translate_error<A: Address>(
    bytes: &mut [u8],
    packet: &Packet<A>,
    class: Class,
    quoted: usize,
    leaves: (A, A),
    (saw, sent): (&Tuple<A>, &Tuple<A>),
) {
    A::age(bytes);
    A::readdress(bytes, leaves.0, leaves.1);
    let end = usize::from(packet.len).min(bytes.len());
    let message = bytes.get_mut(packet.transport.into()..end);
    let message = message.unwrap_or_default();
    if let Some((_, quote)) = message.split_at_mut_checked(ICMP_HEADER_LEN) {
        A::readdress(quote, sent.source, sent.destination);
        let change = Change::NONE
            .address(saw.source, sent.source)
            .address(saw.destination, sent.destination);
        let payload = quote.get_mut(quoted..).unwrap_or_default();
        transport::<A>(payload, class, saw.ports, sent.ports, change);
    }
    put(message, ICMP_CHECKSUM, &[0, 0]);
    let sum = A::icmp_checksum(leaves.0, leaves.1, message);
    put(message, ICMP_CHECKSUM, &sum.to_be_bytes());
}

/// Whether the checksum of a TCP segment, a UDP datagram or anything else is right: what is damaged gets no answer. Of a
/// piece nobody can tell, so that it gets none either.
pub fn is_sound<A: Address>(bytes: &[u8], packet: &Packet<A>) -> bool {
    let protocol = match packet.kind {
        Kind::Tcp(_) => ipv4::TCP,
        Kind::Udp => ipv4::UDP,
        Kind::EchoRequest
        | Kind::EchoReply
        | Kind::Error
        | Kind::Control
        | Kind::Part
        | Kind::Other => return packet.fragment.is_none(),
    };
    let transport = bytes.get(packet.transport.into()..packet.len.into());
    let ends = (packet.tuple.source.into(), packet.tuple.destination.into());
    packet.fragment.is_none() && transport.is_some_and(|it| is_intact(ends, protocol, it))
}

/// Whether the checksum of a whole TCP segment or UDP datagram between two addresses is right.
#[must_use]
pub fn is_intact(ends: (IpAddr, IpAddr), protocol: u8, transport: &[u8]) -> bool {
    // Without a checksum, as tunnels may send it in IPv6 too (RFC 6935).
    if protocol == ipv4::UDP && transport.get(6..8) == Some(&[0, 0]) {
        return true;
    }
    let pseudo = match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let len = transport.len() as u16;
            checksum::pseudo_header(source.octets(), destination.octets(), protocol, len)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let len = transport.len() as u16;
            ipv6::pseudo_header(source.octets(), destination.octets(), protocol, len)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
    };
    pseudo.bytes(transport).finish() == 0
}

/// Turns a TCP segment into the RST that tells its sender that there is no such connection (RFC 9293 §3.10.7.1). The length
/// of the answer.
pub fn reset<A: Address>(bytes: &mut [u8], packet: &Packet<A>) -> Option<usize> {
    let at = usize::from(packet.transport);
    let segment = tcp::Header::parse(bytes.get(at..packet.len.into())?)?;
    let flags = segment.flags();
    let data = usize::from(packet.len) - at - segment.header_len();
    let length = data as u32
        + u32::from(flags.contains(tcp::Flags::SYN))
        + u32::from(flags.contains(tcp::Flags::FIN));
    let (sequence, acknowledgment, answer) = match flags.contains(tcp::Flags::ACK) {
        true => (segment.acknowledgment.get(), 0, tcp::Flags::RST),
        false => (
            0,
            segment.sequence.get().wrapping_add(length),
            tcp::Flags::RST.with(tcp::Flags::ACK),
        ),
    };
    let to = packet.tuple.reversed();
    A::segment(bytes, &to, sequence, acknowledgment, answer)
}

impl V4 {
    /// New addresses in an IPv4 header.
    pub(crate) fn put_addresses(bytes: &mut [u8], source: Self, destination: Self) {
        let Some(head) = bytes.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
            return;
        };
        let change = Change::NONE
            .word(word(head, 12), source.0)
            .word(word(head, 16), destination.0);
        head[12..16].copy_from_slice(&source.octets());
        head[16..20].copy_from_slice(&destination.octets());
        update(head, IPV4_CHECKSUM, |sum| change.apply(sum));
    }

    /// One less in the TTL.
    pub(crate) fn step_ttl(bytes: &mut [u8]) {
        let Some(head) = bytes.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
            return;
        };
        head[8] = head[8].saturating_sub(1);
        update(head, IPV4_CHECKSUM, |sum| Change::NONE.apply_and_age(sum));
    }

    /// A segment without data in place of the packet.
    pub(crate) fn put_segment(
        bytes: &mut [u8],
        tuple: &Tuple<Self>,
        sequence: u32,
        acknowledgment: u32,
        flags: tcp::Flags,
    ) -> Option<usize> {
        let segment = tcp::write(&tcp::Segment {
            source: (tuple.source.octets(), tuple.source_port()),
            destination: (tuple.destination.octets(), tuple.destination_port()),
            sequence,
            acknowledgment,
            flags,
            window: 0,
        });
        bytes.get_mut(..segment.len())?.copy_from_slice(&segment);
        Some(segment.len())
    }
}

impl V6 {
    /// New addresses in an IPv6 header.
    pub(crate) fn put_addresses(bytes: &mut [u8], source: Self, destination: Self) {
        put(bytes, 8, &source.octets());
        put(bytes, 24, &destination.octets());
    }

    /// One less in the hop limit.
    pub(crate) fn step_hop_limit(bytes: &mut [u8]) {
        if let Some(limit) = bytes.get_mut(7) {
            *limit = limit.saturating_sub(1);
        }
    }

    /// A segment without data in place of the packet.
    pub(crate) fn put_segment(
        bytes: &mut [u8],
        tuple: &Tuple<Self>,
        sequence: u32,
        acknowledgment: u32,
        flags: tcp::Flags,
    ) -> Option<usize> {
        let (source, destination) = (tuple.source.octets(), tuple.destination.octets());
        // The segment is the same in both versions, only its checksum is not.
        let four = tcp::write(&tcp::Segment {
            source: ([0; 4], tuple.source_port()),
            destination: ([0; 4], tuple.destination_port()),
            sequence,
            acknowledgment,
            flags,
            window: 0,
        });
        let (_, segment) = four.split_at(ipv4::HEADER_LEN);
        let len = ipv6::HEADER_LEN + segment.len();
        let ip = ipv6::Header::new(
            source,
            destination,
            ipv4::TCP,
            tcp::DEFAULT_TTL,
            segment.len(),
        );
        let out = bytes.get_mut(..len)?;
        let (front, back) = out.split_at_mut(ipv6::HEADER_LEN);
        front.copy_from_slice(zerocopy::IntoBytes::as_bytes(&ip));
        back.copy_from_slice(segment);
        put(back, TCP_CHECKSUM, &[0, 0]);
        let sum = ipv6::pseudo_header(source, destination, ipv4::TCP, segment.len() as u16);
        let sum = sum.bytes(back).finish();
        put(back, TCP_CHECKSUM, &sum.to_be_bytes());
        Some(len)
    }

    /// The checksum of an ICMPv6 message.
    pub(crate) fn message_checksum(source: Self, destination: Self, message: &[u8]) -> u16 {
        let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
        let pseudo = ipv6::pseudo_header(source.octets(), destination.octets(), ipv6::ICMP, len);
        pseudo.bytes(message).finish()
    }
}

impl V4 {
    /// The checksum of an ICMP message.
    pub(crate) fn message_checksum(message: &[u8]) -> u16 {
        checksum::of(message)
    }
}

fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + new.len()) {
        place.copy_from_slice(new);
    }
}

/// Most errors quote 8 bytes only, so the checksum may not be there.
fn update(bytes: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = change(u16::from_ne_bytes(*field)).to_ne_bytes();
    }
}

const IPV4_CHECKSUM: usize = 10;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
const ICMP_CHECKSUM: usize = 2;
const ICMP_HEADER_LEN: usize = 8;
const ECHO_ID: usize = 4;
