//! What the uplink lets in at its end of the cable: what is meant for the uplink or for the Internet behind it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use smoltcp::wire::{
    ArpOperation, ArpPacket, EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet,
    IpProtocol, Ipv4Packet, Ipv6Packet,
};

use crate::card::Filter;
use crate::knock::Door;

/// What comes in at the uplink's end.
pub(super) struct End {
    /// The uplink's addresses.
    pub(super) own: Vec<IpAddr>,
    /// The wan network; who is not in it is in the Internet.
    pub(super) subnet: IpNet,
    pub(super) door: Door,
    /// Knocks whose answers came in.
    pub(super) answered: Vec<u32>,
}

impl Filter for End {
    fn takes(&mut self, frame: &mut [u8]) -> bool {
        if let Some(n) = self.door.answered(frame) {
            self.answered.push(n);
            return false;
        }
        let is_ours = self.is_ours(frame);
        if is_ours {
            hear_announcement(frame);
        }
        is_ours
    }
}

impl End {
    /// smoltcp stands in for the whole Internet and takes any address for its own, so this decides.
    fn is_ours(&self, frame: &[u8]) -> bool {
        let Ok(ethernet) = EthernetFrame::new_checked(frame) else {
            return false;
        };
        match ethernet.ethertype() {
            EthernetProtocol::Arp => ArpPacket::new_checked(ethernet.payload()).is_ok_and(|arp| {
                let target = <[u8; 4]>::try_from(arp.target_protocol_addr());
                arp.operation() == ArpOperation::Reply
                    || target.is_ok_and(|target| self.own.contains(&target.into()))
                    || is_announcement(&arp)
            }),
            EthernetProtocol::Ipv4 => Ipv4Packet::new_checked(ethernet.payload())
                .is_ok_and(|packet| self.is_behind(packet.dst_addr().into())),
            EthernetProtocol::Ipv6 => {
                Ipv6Packet::new_checked(ethernet.payload()).is_ok_and(|packet| {
                    match solicited(&packet) {
                        Some(target) => self.own.contains(&target.into()),
                        None => {
                            packet.dst_addr() == ALL_NODES
                                || self.is_behind(packet.dst_addr().into())
                        }
                    }
                })
            }
            _ => false,
        }
    }

    fn is_behind(&self, to: IpAddr) -> bool {
        let on_the_cable = match to {
            IpAddr::V4(to) => to.is_broadcast() || to.is_link_local(),
            IpAddr::V6(to) => to.is_unicast_link_local(),
        };
        self.own.contains(&to) || !(to.is_multicast() || on_the_cable || self.subnet.contains(&to))
    }
}

/// The address that a neighbour solicitation asks for (RFC 4861 §4.3).
fn solicited<T: AsRef<[u8]> + ?Sized>(packet: &Ipv6Packet<&T>) -> Option<Ipv6Addr> {
    if packet.next_header() != IpProtocol::Icmpv6 {
        return None;
    }
    let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
    (message.msg_type() == Icmpv6Message::NeighborSolicit).then(|| message.target_addr())
}

/// Gratuitous ARP as a request (RFC 5227 §3): whoever has the address says so to everybody.
fn is_announcement<T: AsRef<[u8]>>(arp: &ArpPacket<T>) -> bool {
    arp.operation() == ArpOperation::Request
        && arp.source_protocol_addr() == arp.target_protocol_addr()
}

/// A router takes the sender of an announcement into its table and does not answer. smoltcp does that with
/// replies, while it would answer a request, because it stands in for every client's address.
fn hear_announcement(frame: &mut [u8]) {
    let mut ethernet = EthernetFrame::new_unchecked(frame);
    if ethernet.ethertype() != EthernetProtocol::Arp {
        return;
    }
    if let Ok(mut arp) = ArpPacket::new_checked(ethernet.payload_mut())
        && is_announcement(&arp)
    {
        arp.set_operation(ArpOperation::Reply);
    }
}

/// Where a router announces its addresses (RFC 4861 §7.2.6).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{Icmpv6Repr, IpRepr, NdiscRepr};

    use super::*;

    #[test]
    fn the_uplink_takes_what_is_for_itself_and_for_the_internet() {
        let four = end(&["203.0.113.1"], "203.0.113.0/24");
        for (to, ours, name) in [
            ("203.0.113.1", true, "itself"),
            ("198.51.100.7", true, "a user"),
            ("192.0.2.1", true, "anybody"),
            ("203.0.113.2", false, "a neighbour"),
            ("224.0.0.18", false, "VRRP"),
            ("255.255.255.255", false, "everybody"),
        ] {
            assert_eq!(four.is_ours(&packet("203.0.113.2", to)), ours, "{name}");
        }
        let six = end(&["fe80::1", "2001:db8:0:1::52"], "2001:db8:0:1::/64");
        for (to, ours, name) in [
            ("fe80::1", true, "itself"),
            ("2001:db8:0:1::52", true, "itself in the network"),
            ("2001:db8:9::80", true, "anybody"),
            ("ff02::1", true, "all nodes"),
            ("2001:db8:0:1::2", false, "a neighbour"),
            ("fe80::2", false, "a neighbour's link-local address"),
            ("ff02::12", false, "VRRP"),
        ] {
            assert_eq!(six.is_ours(&packet("2001:db8:0:1::2", to)), ours, "{name}");
        }
    }

    /// Solicitations come to a group that others are in too.
    #[test]
    fn the_uplink_is_found_by_its_own_addresses_alone() {
        let six = end(&["fe80::1", "2001:db8:0:1::52"], "2001:db8:0:1::/64");
        assert!(six.is_ours(&solicitation("fe80::1")));
        assert!(six.is_ours(&solicitation("2001:db8:0:1::52")));
        assert!(!six.is_ours(&solicitation("2001:db8:0:1::1")));
        assert!(!six.is_ours(&solicitation("2001:db8:c:100::1")));
    }

    fn end(own: &[&str], subnet: &str) -> End {
        let own: Vec<IpAddr> = own.iter().map(|own| address(own)).collect();
        End {
            subnet: subnet.parse().expect("a network"),
            door: Door {
                from_mac: [2, 0, 0, 0, 0, 1],
                from: own.clone(),
                to_mac: [2, 0, 0, 0, 0, 2],
                to: own[0],
                port: 443,
            },
            own,
            answered: Vec::new(),
        }
    }

    fn packet(from: &str, to: &str) -> Vec<u8> {
        let (from, to) = (address(from).into(), address(to).into());
        frame(&IpRepr::new(from, to, IpProtocol::Udp, 0, 64))
    }

    fn solicitation(target: &str) -> Vec<u8> {
        let IpAddr::V6(target_addr) = address(target) else {
            panic!("{target} is not of IPv6")
        };
        let from: Ipv6Addr = "2001:db8:0:1::2".parse().expect("an address");
        let group: Ipv6Addr = "ff02::1:ff00:1".parse().expect("an address");
        let message = Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit {
            target_addr,
            lladdr: None,
        });
        let length = message.buffer_len();
        let ip = IpRepr::new(from.into(), group.into(), IpProtocol::Icmpv6, length, 255);
        let mut frame = frame(&ip);
        let mut packet = Icmpv6Packet::new_unchecked(&mut frame[14 + ip.header_len()..]);
        message.emit(&from, &group, &mut packet, &ChecksumCapabilities::default());
        frame
    }

    fn frame(ip: &IpRepr) -> Vec<u8> {
        let mut frame = vec![0; 14 + ip.buffer_len()];
        let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
        ethernet.set_ethertype(match ip {
            IpRepr::Ipv4(_) => EthernetProtocol::Ipv4,
            IpRepr::Ipv6(_) => EthernetProtocol::Ipv6,
        });
        ip.emit(ethernet.payload_mut(), &ChecksumCapabilities::default());
        frame
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }
}
