//! Addresses of both IP versions as the packet path compares them: words in wire order, never swapped.

use core::fmt::Debug;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wire::tcp::Flags;
use zerocopy::FromZeros;

use crate::Drop;
use crate::gone::Gone;
use crate::packet::{self, Class, Packet, Quoted, Tuple};
use crate::rewrite::{self, Change};
use crate::route::{Family, Routes};

/// An address of one IP version.
pub trait Address: Copy + Eq + Debug + Default + Into<IpAddr> {
    /// The unspecified address: all zeros.
    const ZERO: Self;
    /// Protocol number of this version's ICMP.
    const ICMP: u8;

    /// Length of an IP header without options or extensions.
    const HEADER_LEN: usize;
    /// ICMP type of an echo request.
    const ECHO_REQUEST: u8;

    /// This version's address in `address`, if it is one.
    fn from_ip(address: IpAddr) -> Option<Self>;

    /// The words of the address as they lie in memory and on the wire.
    fn words(&self) -> &[u32];

    /// The part of the address that `mask` covers.
    #[must_use]
    fn masked(self, mask: Self) -> Self;

    /// The mask of a prefix.
    #[must_use]
    fn mask(prefix: u8) -> Self;

    /// Whether no router may forward from or to this address (RFC 6890 §2.2.2 and §2.2.3).
    fn is_special(self) -> bool;

    /// Whether the address stands for all hosts of the network with this mask, or for none of them.
    fn is_broadcast_of(self, mask: Self) -> bool;

    /// Where addresses of this version live.
    fn family(routes: &Routes) -> &Family<Self>;

    /// Remembers a flow of this version that is no more.
    fn bury<const N: usize>(
        v4: &mut Gone<V4, N>,
        v6: &mut Gone<V6, N>,
        tuple: &Tuple<Self>,
        class: Class,
    );

    /// Reads any packet of this version at the front of `bytes`.
    ///
    /// # Errors
    /// Why it must be dropped.
    fn parse(bytes: &[u8]) -> Result<Packet<Self>, Drop>;

    /// The first bytes of a packet: an IP header without options, and both ports.
    type Front: Debug;

    /// The front of a packet, and what comes after it.
    fn front(packet: &mut [u8]) -> Option<(&mut Self::Front, &mut [u8])>;

    /// Looks at the IP header of a packet that has `room` bytes: its length, or `None` if anything is unusual about it.
    fn plain(front: &Self::Front, room: usize) -> Option<usize>;

    /// Addresses and ports.
    fn tuple(front: &Self::Front) -> Tuple<Self>;

    /// Reads the packet that an ICMP error quotes.
    fn quoted(quote: &[u8]) -> Option<Quoted<Self>>;

    /// Gives a packet that [`Self::plain`] accepts new addresses and ports, and takes one from its TTL or hop limit.
    /// `change` is that of the addresses.
    fn readdress_fast(front: &mut Self::Front, leaves: &Tuple<Self>, change: Change);

    /// Puts new addresses into the IP header, and renews its checksum.
    fn readdress(bytes: &mut [u8], source: Self, destination: Self);

    /// Takes one from TTL or hop limit.
    fn age(bytes: &mut [u8]);

    /// The checksum of an ICMP message whose checksum field is zero.
    fn icmp_checksum(source: Self, destination: Self, message: &[u8]) -> u16;

    /// Writes a TCP segment without data and options over the packet; its length.
    fn segment(
        bytes: &mut [u8],
        tuple: &Tuple<Self>,
        sequence: u32,
        acknowledgment: u32,
        flags: Flags,
    ) -> Option<usize>;
}

/// An IPv4 address, as four bytes in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct V4(pub u32);

/// An IPv6 address, as sixteen bytes in wire order.
#[derive(Clone, Copy, Debug, Default, Eq, FromZeros)]
pub struct V6(pub [u32; 4]);

/// Word by word: a comparison of arrays is a call.
impl PartialEq for V6 {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        d == h && c == g && b == f && a == e
    }
}

impl V4 {
    /// The address in the order of a number.
    #[must_use]
    pub const fn to_bits(self) -> u32 {
        u32::from_be(self.0)
    }

    /// The address of a number.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits.to_be())
    }

    /// The four bytes on the wire.
    #[must_use]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// The address of four bytes.
    #[must_use]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }
}

impl V6 {
    /// The sixteen bytes on the wire.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (place, word) in octets.as_chunks_mut().0.iter_mut().zip(self.0) {
            *place = word.to_ne_bytes();
        }
        octets
    }

    /// The address of sixteen bytes.
    #[must_use]
    #[inline]
    pub fn from_octets(octets: &[u8; 16]) -> Self {
        let mut words = [0; 4];
        for (word, place) in words.iter_mut().zip(octets.as_chunks().0) {
            *word = u32::from_ne_bytes(*place);
        }
        Self(words)
    }
}

impl Address for V4 {
    const ZERO: Self = Self(0);
    const ICMP: u8 = wire::ipv4::ICMP;
    const HEADER_LEN: usize = wire::ipv4::HEADER_LEN;
    const ECHO_REQUEST: u8 = packet::ECHO_REQUEST;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(address) => Some(address.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn words(&self) -> &[u32] {
        core::slice::from_ref(&self.0)
    }

    fn masked(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    fn mask(prefix: u8) -> Self {
        let host = 32 - u32::from(prefix.min(32));
        Self::from_bits(u32::MAX.checked_shl(host).unwrap_or(0))
    }

    /// "This network", loopback, link-local, multicast, reserved and broadcast.
    fn is_special(self) -> bool {
        let [a, b, ..] = self.octets();
        matches!(a, 0 | 127 | 224..=255) || (a, b) == (169, 254)
    }

    /// Network address or directed broadcast (RFC 1812 §5.3.5); a /31 or /32 has neither.
    fn is_broadcast_of(self, mask: Self) -> bool {
        let hosts = !mask.to_bits();
        let host = self.to_bits() & hosts;
        hosts > 1 && (host == 0 || host == hosts)
    }

    fn family(routes: &Routes) -> &Family<Self> {
        routes.v4()
    }

    fn bury<const N: usize>(
        v4: &mut Gone<V4, N>,
        _: &mut Gone<V6, N>,
        tuple: &Tuple<Self>,
        class: Class,
    ) {
        v4.bury(*tuple, class);
    }

    fn parse(bytes: &[u8]) -> Result<Packet<Self>, Drop> {
        packet::parse_v4(bytes)
    }

    type Front = packet::FrontV4;

    #[inline(always)]
    fn front(packet: &mut [u8]) -> Option<(&mut Self::Front, &mut [u8])> {
        packet.split_first_chunk_mut()
    }

    #[inline(always)]
    fn plain(front: &Self::Front, room: usize) -> Option<usize> {
        packet::plain_v4(front, room)
    }

    #[inline(always)]
    fn tuple(front: &Self::Front) -> Tuple<Self> {
        packet::tuple_v4(front)
    }

    fn quoted(quote: &[u8]) -> Option<Quoted<Self>> {
        packet::quoted_v4(quote)
    }

    #[inline(always)]
    fn readdress_fast(front: &mut Self::Front, leaves: &Tuple<Self>, change: Change) {
        rewrite::readdress_v4(front, leaves, change);
    }

    fn readdress(bytes: &mut [u8], source: Self, destination: Self) {
        Self::put_addresses(bytes, source, destination);
    }

    fn age(bytes: &mut [u8]) {
        Self::step_ttl(bytes);
    }

    fn icmp_checksum(_: Self, _: Self, message: &[u8]) -> u16 {
        Self::message_checksum(message)
    }

    fn segment(
        bytes: &mut [u8],
        tuple: &Tuple<Self>,
        sequence: u32,
        acknowledgment: u32,
        flags: Flags,
    ) -> Option<usize> {
        Self::put_segment(bytes, tuple, sequence, acknowledgment, flags)
    }
}

impl Address for V6 {
    const ZERO: Self = Self([0; 4]);
    const ICMP: u8 = wire::ipv6::ICMP;
    const HEADER_LEN: usize = wire::ipv6::HEADER_LEN;
    const ECHO_REQUEST: u8 = packet::ECHO_REQUEST_V6;

    fn from_ip(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.into()),
        }
    }

    fn words(&self) -> &[u32] {
        &self.0
    }

    fn masked(self, mask: Self) -> Self {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, mask.0);
        Self([a & e, b & f, c & g, d & h])
    }

    fn mask(prefix: u8) -> Self {
        let host = 128 - u32::from(prefix.min(128));
        let bits = u128::MAX.checked_shl(host).unwrap_or(0);
        Self::from_octets(&bits.to_be_bytes())
    }

    /// Unspecified, loopback, IPv4-mapped, link-local and multicast.
    fn is_special(self) -> bool {
        let address = Ipv6Addr::from(self.octets());
        address.is_unspecified()
            || address.is_loopback()
            || address.is_multicast()
            || address.is_unicast_link_local()
            || address.to_ipv4_mapped().is_some()
    }

    /// The routers' anycast address (RFC 4291 §2.6.1) is no host's.
    fn is_broadcast_of(self, mask: Self) -> bool {
        let [a, b, c, d] = mask.0.map(|word| !word);
        let hosts = Self([a, b, c, d]);
        let long = u32::from_be(d) > 1;
        long && self.masked(hosts) == Self::default()
    }

    fn family(routes: &Routes) -> &Family<Self> {
        routes.v6()
    }

    fn bury<const N: usize>(
        _: &mut Gone<V4, N>,
        v6: &mut Gone<V6, N>,
        tuple: &Tuple<Self>,
        class: Class,
    ) {
        v6.bury(*tuple, class);
    }

    fn parse(bytes: &[u8]) -> Result<Packet<Self>, Drop> {
        packet::parse_v6(bytes)
    }

    type Front = packet::FrontV6;

    #[inline(always)]
    fn front(packet: &mut [u8]) -> Option<(&mut Self::Front, &mut [u8])> {
        packet.split_first_chunk_mut()
    }

    #[inline(always)]
    fn plain(front: &Self::Front, room: usize) -> Option<usize> {
        packet::plain_v6(front, room)
    }

    #[inline(always)]
    fn tuple(front: &Self::Front) -> Tuple<Self> {
        packet::tuple_v6(front)
    }

    fn quoted(quote: &[u8]) -> Option<Quoted<Self>> {
        packet::quoted_v6(quote)
    }

    #[inline(always)]
    fn readdress_fast(front: &mut Self::Front, leaves: &Tuple<Self>, _: Change) {
        rewrite::readdress_v6(front, leaves);
    }

    fn readdress(bytes: &mut [u8], source: Self, destination: Self) {
        Self::put_addresses(bytes, source, destination);
    }

    fn age(bytes: &mut [u8]) {
        Self::step_hop_limit(bytes);
    }

    fn icmp_checksum(source: Self, destination: Self, message: &[u8]) -> u16 {
        Self::message_checksum(source, destination, message)
    }

    fn segment(
        bytes: &mut [u8],
        tuple: &Tuple<Self>,
        sequence: u32,
        acknowledgment: u32,
        flags: Flags,
    ) -> Option<usize> {
        Self::put_segment(bytes, tuple, sequence, acknowledgment, flags)
    }
}

impl From<Ipv4Addr> for V4 {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_octets(address.octets())
    }
}

impl From<Ipv6Addr> for V6 {
    fn from(address: Ipv6Addr) -> Self {
        Self::from_octets(&address.octets())
    }
}

impl From<V4> for IpAddr {
    #[inline]
    fn from(address: V4) -> Self {
        Self::V4(address.octets().into())
    }
}

impl From<V6> for IpAddr {
    #[inline]
    fn from(address: V6) -> Self {
        Self::V6(address.octets().into())
    }
}
