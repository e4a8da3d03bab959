//! Frames that the appliance itself originates.

use core::net::{IpAddr, Ipv4Addr};

use filter::Hop;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use wire::ethernet::{self, BROADCAST, Mac};
use wire::ipv4;
use wire::vrrp::{MULTICAST, MULTICAST_MAC, NewAdvert, TTL};
use zerocopy::IntoBytes;

use crate::Transmit;
use crate::leg::{Leg, Legs, Router};

/// Asks for the MAC address of a neighbour: everybody, or only the station that had it last.
pub fn arp_request(legs: &Legs, hop: Hop, unicast: Option<Mac>, out: &mut impl Transmit) {
    let (Some(leg), IpAddr::V4(address)) = (legs.get(hop.leg), hop.address) else {
        return;
    };
    arp(
        leg,
        unicast.unwrap_or(BROADCAST),
        request(leg.mac, leg.address, address),
        out,
    );
}

/// Tells everybody on the leg, and its switches, where a virtual address is (RFC 9568 §6.4.2).
pub fn gratuitous_arp(leg: &Leg, router: &Router, address: Ipv4Addr, out: &mut impl Transmit) {
    arp(leg, BROADCAST, request(router.mac, address, address), out);
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

/// Advertises the leg's virtual router with this priority.
pub fn advert(leg: &Leg, router: &Router, priority: u8, out: &mut impl Transmit) {
    let advert = NewAdvert {
        vrid: router.vrid,
        priority,
        interval: router.interval,
        addresses: &router.addresses,
    };
    let source = leg.address.octets();
    let mut message = [0; 64];
    let Some(message) = advert.write(source, &mut message) else {
        return;
    };
    let header = ipv4::Header::new(source, MULTICAST, ipv4::VRRP, TTL, message.len());
    frame(
        leg,
        MULTICAST_MAC,
        router.mac,
        ethernet::IPV4,
        &[header.as_bytes(), message],
        out,
    );
}

/// Sends a complete packet.
pub fn ipv4(leg: &Leg, from: Mac, to: Mac, packet: &[u8], out: &mut impl Transmit) {
    frame(leg, to, from, ethernet::IPV4, &[packet], out);
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
    let mut buffer = [0; 128];
    let Some(mut end) = ethernet::write(&mut buffer, destination, source, leg.vlan, ethertype)
    else {
        return;
    };
    for part in payload {
        let Some(place) = buffer.get_mut(end..end + part.len()) else {
            return;
        };
        place.copy_from_slice(part);
        end += part.len();
    }
    let end = end.max(ethernet::MIN_LEN);
    out.transmit(leg.port, buffer.get(..end).unwrap_or_default());
}
