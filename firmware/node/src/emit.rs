//! Frames that the appliance itself originates.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter::Hop;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use wire::checksum;
use wire::ethernet::{self, BROADCAST, Mac};
use wire::nd::{self, Advertisement};
use wire::tcp::{self, UDP_HEADER_LEN, UdpHeader};
use wire::{ipv4, ipv6};
use zerocopy::IntoBytes;

use crate::Transmit;
use crate::error::version;
use crate::held::MTU;
use crate::leg::{Leg, Legs};

/// Asks for the MAC address of a neighbour: everybody, or only the station that had it last.
pub fn ask(legs: &Legs, hop: Hop, unicast: Option<Mac>, out: &mut impl Transmit) {
    let Some(leg) = legs.get(hop.leg) else { return };
    match hop.address {
        IpAddr::V4(address) => arp(
            &leg,
            unicast.unwrap_or(BROADCAST),
            request(leg.mac, leg.address, address),
            out,
        ),
        IpAddr::V6(address) => solicit(&leg, address, unicast, out),
    }
}

/// Asks by neighbour discovery (RFC 4861 §7.2.2): the group that the address belongs to, or one station.
fn solicit(leg: &Leg, target: Ipv6Addr, unicast: Option<Mac>, out: &mut impl Transmit) {
    let Some(source) = leg.own6(target) else {
        return;
    };
    let target = target.octets();
    let group = nd::solicited_node(target);
    let (destination, to) = match unicast {
        Some(mac) => (target, mac),
        None => (group, nd::multicast_mac(group)),
    };
    let packet = nd::solicitation(source.octets(), leg.mac, destination, target);
    frame(leg, to, leg.mac, ethernet::IPV6, &[&packet], out);
}

/// Answers a neighbour solicitation: the one who asked, or everybody if it has no address yet
/// (RFC 4861 §7.2.4).
pub fn neighbour_advert(
    leg: &Leg,
    mine: (Mac, Ipv6Addr),
    to: Option<(Mac, Ipv6Addr)>,
    out: &mut impl Transmit,
) {
    let advert = Advertisement {
        target: mine.1.octets(),
        mac: Some(mine.0),
        router: true,
        solicited: to.is_some(),
        overrides: true,
    };
    let (mac, destination) = match to {
        Some((mac, address)) => (mac, address.octets()),
        None => (nd::multicast_mac(nd::ALL_NODES), nd::ALL_NODES),
    };
    let packet = nd::advertisement(&advert, mine.0, destination);
    frame(leg, mac, mine.0, ethernet::IPV6, &[&packet], out);
}

/// Tells everybody on the leg, and its switches, where an IPv4 address is (RFC 9568 §6.4.2); `reply` for stations that do not
/// learn from requests.
pub fn gratuitous_arp(
    leg: &Leg,
    mac: Mac,
    address: Ipv4Addr,
    reply: bool,
    out: &mut impl Transmit,
) {
    let repr = match reply {
        false => request(mac, address, address),
        true => ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: EthernetAddress(mac),
            source_protocol_addr: address,
            target_hardware_addr: EthernetAddress(BROADCAST),
            target_protocol_addr: address,
        },
    };
    arp(leg, BROADCAST, repr, out);
}

/// Answers an ARP request.
pub fn arp_reply(leg: &Leg, mine: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), out: &mut impl Transmit) {
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(mine.0),
        source_protocol_addr: mine.1,
        target_hardware_addr: EthernetAddress(to.0),
        target_protocol_addr: to.1,
    };
    arp(leg, to.0, reply, out);
}

/// Sends a packet with an advertisement of a virtual router.
pub fn advert(leg: &Leg, from: Mac, to: Mac, packet: &[u8], out: &mut impl Transmit) {
    write(
        &mut [0; LONG],
        leg,
        to,
        from,
        ethertype(packet),
        &[packet],
        out,
    );
}

/// Sends a packet of the appliance's own to a group on the leg.
pub fn to_group(leg: &Leg, to: Mac, packet: &[u8], out: &mut impl Transmit) {
    write(
        &mut [0; LONG],
        leg,
        to,
        leg.mac,
        ethertype(packet),
        &[packet],
        out,
    );
}

/// Sends a datagram from the own address to a neighbour's.
pub fn datagram(
    leg: &Leg,
    to: (Mac, IpAddr),
    ports: (u16, u16),
    data: &[u8],
    out: &mut impl Transmit,
) {
    let len = UDP_HEADER_LEN + data.len();
    let Ok(length) = u16::try_from(len) else {
        return;
    };
    let mut udp = UdpHeader {
        source: ports.0.into(),
        destination: ports.1.into(),
        length: length.into(),
        checksum: 0.into(),
    };
    let (four, six);
    let (sum, header, ethertype) = match to.1 {
        IpAddr::V4(destination) => {
            let (source, destination) = (leg.address.octets(), destination.octets());
            four = ipv4::Header::new(source, destination, ipv4::UDP, tcp::DEFAULT_TTL, len);
            let sum = checksum::pseudo_header(source, destination, ipv4::UDP, length);
            (sum, four.as_bytes(), ethernet::IPV4)
        }
        IpAddr::V6(destination) => {
            let Some(source) = leg.own6(destination) else {
                return;
            };
            let (source, destination) = (source.octets(), destination.octets());
            six = ipv6::Header::new(source, destination, ipv4::UDP, tcp::DEFAULT_TTL, len);
            let sum = ipv6::pseudo_header(source, destination, ipv4::UDP, length);
            (sum, six.as_bytes(), ethernet::IPV6)
        }
    };
    let sum = sum.bytes(udp.as_bytes()).bytes(data).finish();
    // Zero would say that there is none (RFC 768).
    udp.checksum = if sum == 0 { u16::MAX } else { sum }.into();
    let parts = [header, udp.as_bytes(), data];
    write(
        &mut [0; HEADER + MTU],
        leg,
        to.0,
        leg.mac,
        ethertype,
        &parts,
        out,
    );
}

/// Sends a complete packet of either version.
pub fn packet(leg: &Leg, from: Mac, to: Mac, packet: &[u8], out: &mut impl Transmit) {
    let ethertype = ethertype(packet);
    if packet.len() <= SMALL - HEADER {
        return frame(leg, to, from, ethertype, &[packet], out);
    }
    long(leg, to, from, ethertype, packet, out);
}

#[inline(never)]
fn long(leg: &Leg, to: Mac, from: Mac, ethertype: u16, packet: &[u8], out: &mut impl Transmit) {
    write(
        &mut [0; HEADER + MTU],
        leg,
        to,
        from,
        ethertype,
        &[packet],
        out,
    );
}

/// Sends a complete packet of any length up to [`MTU`] that is longer than the leg carries, in fragments: for
/// IPv4 without "don't fragment" (RFC 791 §3.2). Whether all left.
#[inline(never)]
pub fn fragments(leg: &Leg, to: Mac, packet: &[u8], out: &mut impl Transmit) -> bool {
    let Ok((header, ipv4::HEADER_LEN)) = ipv4::Header::parse(packet) else {
        return false;
    };
    if header.dont_fragment() {
        return false;
    }
    let total = usize::from(header.total_len.get());
    let payload = packet.get(ipv4::HEADER_LEN..total).unwrap_or_default();
    let step = leg.mtu.saturating_sub(ipv4::HEADER_LEN) & !7;
    if step == 0 {
        return false;
    }
    let mut buffer = [0; HEADER + MTU];
    let mut offset = 0;
    for part in payload.chunks(step) {
        let more = offset + part.len() < payload.len();
        let ip = header.fragment(offset, part.len(), more);
        let parts = [ip.as_bytes(), part];
        if !write(&mut buffer, leg, to, leg.mac, ethernet::IPV4, &parts, out) {
            return false;
        }
        offset += part.len();
    }
    true
}

fn ethertype(packet: &[u8]) -> u16 {
    match version(packet) {
        Some(6) => ethernet::IPV6,
        _ => ethernet::IPV4,
    }
}

fn request(mac: Mac, from: Ipv4Addr, about: Ipv4Addr) -> ArpRepr {
    ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: EthernetAddress(mac),
        source_protocol_addr: from,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: about,
    }
}

fn arp(leg: &Leg, destination: Mac, repr: ArpRepr, out: &mut impl Transmit) {
    let ArpRepr::EthernetIpv4 {
        source_hardware_addr,
        ..
    } = repr
    else {
        return;
    };
    let mut body = [0; 28];
    repr.emit(&mut ArpPacket::new_unchecked(&mut body));
    frame(
        leg,
        destination,
        source_hardware_addr.0,
        ethernet::ARP,
        &[&body],
        out,
    );
}

fn frame(
    leg: &Leg,
    destination: Mac,
    source: Mac,
    ethertype: u16,
    payload: &[&[u8]],
    out: &mut impl Transmit,
) {
    write(
        &mut [0; SMALL],
        leg,
        destination,
        source,
        ethertype,
        payload,
        out,
    );
}

/// Puts a frame together in `buffer` and sends it, if it fits.
fn write(
    buffer: &mut [u8],
    leg: &Leg,
    destination: Mac,
    source: Mac,
    ethertype: u16,
    payload: &[&[u8]],
    out: &mut impl Transmit,
) -> bool {
    let Some(mut end) = ethernet::write(buffer, destination, source, leg.vlan, ethertype) else {
        return false;
    };
    for part in payload {
        let Some(place) = buffer.get_mut(end..end + part.len()) else {
            return false;
        };
        place.copy_from_slice(part);
        end += part.len();
    }
    if let Some(padding) = buffer.get_mut(end..ethernet::MIN_LEN) {
        padding.fill(0);
    }
    let end = end.max(ethernet::MIN_LEN);
    out.transmit(leg.port, buffer.get(..end).unwrap_or_default());
    true
}

const HEADER: usize = ethernet::HEADER_LEN + ethernet::TAG_LEN;
/// Enough for nearly everything that the appliance says of itself.
const SMALL: usize = 128;
/// Enough for what lists many addresses.
const LONG: usize = 480;
