//! The appliance's legs: which frames belong to which, and what the appliance is called there.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use policy::{
    Config, Interface, Interface6, MAX_INTERFACES, MAX_TRACKED, MAX_VIRTUAL_ADDRESSES, Name,
    Prefix6,
};
use wire::ethernet::{self, Mac};
use wire::nd;

/// One leg in the form that frames are compared with.
#[derive(Clone, Debug)]
pub struct Leg {
    pub name: Name,
    pub port: u8,
    pub vlan: Option<u16>,
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub six: Option<Six>,
    pub mtu: usize,
    pub router: Option<Router>,
    pub track: heapless::Vec<Ipv4Addr, MAX_TRACKED>,
}

/// What a leg with IPv6 is called.
#[derive(Clone, Copy, Debug)]
pub struct Six {
    pub address: Ipv6Addr,
    pub link_local: Ipv6Addr,
    pub prefix: Prefix6,
}

/// The leg's virtual router.
#[derive(Clone, Debug)]
pub struct Router {
    pub vrid: u8,
    pub mac: Mac,
    pub mac6: Mac,
    pub interval: u16,
    pub addresses: heapless::Vec<Ipv4Addr, MAX_VIRTUAL_ADDRESSES>,
    pub addresses6: heapless::Vec<Ipv6Addr, MAX_VIRTUAL_ADDRESSES>,
}

/// Whom on a leg a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// The appliance itself.
    Own,
    /// The virtual router, by its MAC address of either version.
    Virtual,
    /// Anybody else.
    Other,
}

impl Leg {
    fn new(interface: &Interface) -> Self {
        let router = interface.router.as_ref().map(|router| Router {
            vrid: router.vrid,
            mac: router.mac(),
            mac6: router.mac6(),
            interval: router.advertisement_interval,
            addresses: router.addresses.clone(),
            addresses6: router.addresses6.clone(),
        });
        let six = |Interface6 { address, prefix }| Six {
            address,
            link_local: nd::link_local(interface.mac).into(),
            prefix: Prefix6::of(address, prefix),
        };
        Self {
            name: interface.name.clone(),
            port: interface.port,
            vlan: interface.vlan,
            mac: interface.mac,
            address: interface.address,
            six: interface.address6.map(six),
            mtu: interface.mtu.into(),
            router,
            track: interface.track.clone(),
        }
    }

    pub fn station(&self, mac: Mac) -> Station {
        match &self.router {
            Some(router) if router.mac == mac || router.mac6 == mac => Station::Virtual,
            _ if self.mac == mac => Station::Own,
            _ => Station::Other,
        }
    }

    /// Whether `address` is the appliance's own here, whatever its state.
    pub fn is_own(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address == self.address,
            IpAddr::V6(address) => self
                .six
                .is_some_and(|six| address == six.address || address == six.link_local),
        }
    }

    /// The MAC address that goes with one of the leg's addresses: the virtual one with virtual ones.
    pub fn mac_of(&self, address: IpAddr) -> Option<Mac> {
        if self.is_own(address) {
            return Some(self.mac);
        }
        let router = self.router.as_ref()?;
        match address {
            IpAddr::V4(address) => router.addresses.contains(&address).then_some(router.mac),
            IpAddr::V6(address) => router.addresses6.contains(&address).then_some(router.mac6),
        }
    }

    /// The own address that speaks to `neighbour`; `None` without IPv6.
    pub fn own6(&self, neighbour: Ipv6Addr) -> Option<Ipv6Addr> {
        let six = self.six?;
        Some(match neighbour.is_unicast_link_local() {
            true => six.link_local,
            false => six.address,
        })
    }

    /// Whether `address` can be another station's on this link. The first address of the subnet belongs to
    /// all its routers (RFC 4291 §2.6.1), so to nobody alone.
    pub fn is_neighbour6(&self, address: Ipv6Addr) -> bool {
        let Some(six) = self.six else { return false };
        let host = address != six.prefix.address || six.prefix.length > 126;
        (address.is_unicast_link_local() || six.prefix.contains(address) && host)
            && self.mac_of(address.into()).is_none()
    }

    /// Whether a frame to this multicast address is listened to: all nodes, and the groups that addresses
    /// answered for belong to.
    pub fn listens(&self, group: Mac, active: bool) -> bool {
        let Some(six) = self.six else { return false };
        let router = self.router.iter().filter(|_| active);
        let addresses = router
            .flat_map(|router| &router.addresses6)
            .chain([&six.address, &six.link_local]);
        addresses
            .map(|address| nd::solicited_node(address.octets()))
            .chain([nd::ALL_NODES])
            .any(|address| nd::multicast_mac(address) == group)
    }
}

/// All legs of an appliance. What every packet needs stands first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Legs {
    lanes: [Lane; MAX_INTERFACES],
    exits: [Exit; MAX_INTERFACES],
    legs: heapless::Vec<Leg, MAX_INTERFACES>,
}

/// What frames to a leg's virtual router are known by: the port, the VLAN id or 0, the VRID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lane(u32);

impl Lane {
    /// No frame's.
    const NONE: Self = Self(u32::MAX);

    #[inline(always)]
    fn new(port: u8, vlan: u16, vrid: u8) -> Self {
        Self(u32::from(port) << 24 | u32::from(vlan) << 8 | u32::from(vrid))
    }

    fn of(leg: &Leg) -> Self {
        match &leg.router {
            Some(router) => Self::new(leg.port, leg.vlan.unwrap_or(0), router.vrid),
            None => Self::NONE,
        }
    }
}

/// How frames leave by a leg.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exit {
    /// What their header has between destination and EtherType: the source and, where there is one, the tag.
    pub middle: [u8; 10],
    /// Whether there is a tag.
    pub tagged: bool,
    /// The port.
    pub port: u8,
}

impl Exit {
    fn of(leg: &Leg) -> Self {
        let mut middle = [0; 10];
        let (source, tag) = middle.split_at_mut(6);
        source.copy_from_slice(&leg.mac);
        let [vlan, rest] = leg.vlan.unwrap_or(0).to_be_bytes();
        let [tpid, id] = ethernet::VLAN.to_be_bytes();
        tag.copy_from_slice(&[tpid, id, vlan, rest]);
        Self {
            middle,
            tagged: leg.vlan.is_some(),
            port: leg.port,
        }
    }
}

/// A frame to a virtual router that carries IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The leg that it came in by.
    pub leg: u8,
    /// Where its payload begins.
    pub payload: u8,
    /// IP version by its EtherType.
    pub version: u8,
    /// What the IP header says that follows it.
    pub protocol: u8,
}

impl Legs {
    pub fn new(config: &Config) -> Self {
        let legs: heapless::Vec<_, _> = config.interfaces.iter().map(Leg::new).collect();
        let mut lanes = [Lane::NONE; MAX_INTERFACES];
        let mut exits = [Exit::default(); MAX_INTERFACES];
        for ((lane, exit), leg) in lanes.iter_mut().zip(&mut exits).zip(&legs) {
            (*lane, *exit) = (Lane::of(leg), Exit::of(leg));
        }
        Self { lanes, exits, legs }
    }

    #[inline(always)]
    pub fn get(&self, leg: u8) -> Option<&Leg> {
        self.legs.get(usize::from(leg))
    }

    /// How frames leave by a leg that exists.
    #[inline(always)]
    pub fn exit(&self, leg: u8) -> &Exit {
        &self.exits[usize::from(leg) % MAX_INTERFACES]
    }

    /// Reads the header of a frame to a leg's virtual router (RFC 9568 §7.3) that carries IP; `None` for all others,
    /// good or not.
    #[inline(always)]
    pub fn arrival(&self, port: u8, frame: &[u8]) -> Option<Arrival> {
        // With a tag, and up to IPv4's protocol, which is the tenth byte of its header.
        let head = frame.first_chunk::<{ ethernet::HEADER_LEN + ethernet::TAG_LEN + 10 }>()?;
        let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let prefix = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]);
        let version = matches!(head[4], 1 | 2);
        if prefix != u32::from_ne_bytes([0, 0, 0x5e, 0]) || !version || head[6] & 1 != 0 {
            return None;
        }
        let (vlan, ethertype, payload) = match half(12) {
            ethernet::VLAN => (half(14) & 0x0fff, half(16), 18_u8),
            ethertype => (0, ethertype, 14),
        };
        let (version, protocol) = match ethertype {
            ethernet::IPV4 => (4, head[usize::from(payload) + 9]),
            ethernet::IPV6 => (6, head[usize::from(payload) + 6]),
            _ => return None,
        };
        let lane = Lane::new(port, vlan, head[5]);
        let leg = self.lanes.iter().position(|known| *known == lane)?;
        Some(Arrival {
            leg: leg as u8,
            payload,
            version,
            protocol,
        })
    }

    /// Which leg frames with this tag on this port belong to.
    pub fn find(&self, port: u8, vlan: Option<u16>) -> Option<u8> {
        let mut legs = self.legs.iter();
        let leg = legs.position(|leg| leg.port == port && leg.vlan == vlan)?;
        u8::try_from(leg).ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, &Leg)> {
        (0..).zip(&self.legs)
    }
}

#[cfg(test)]
mod tests {
    use policy::VirtualRouter;

    use super::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
    const SHARED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0xaa, 0xbbcc);
    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn leg() -> Leg {
        let router = VirtualRouter {
            vrid: 7,
            addresses: [Ipv4Addr::new(192, 0, 2, 9)].into_iter().collect(),
            addresses6: [SHARED].into_iter().collect(),
            ..VirtualRouter::default()
        };
        let address6 = Interface6 {
            address: OWN,
            prefix: 64,
        };
        Leg::new(&Interface {
            mac: MAC,
            address6: Some(address6),
            router: Some(router),
            ..Interface::default()
        })
    }

    #[test]
    fn stations() {
        let table = [
            (MAC, Station::Own),
            ([0, 0, 0x5e, 0, 1, 7], Station::Virtual),
            ([0, 0, 0x5e, 0, 2, 7], Station::Virtual),
            ([0, 0, 0x5e, 0, 2, 8], Station::Other),
            ([2, 0, 0, 0, 0, 2], Station::Other),
        ];
        for (mac, station) in table {
            assert_eq!(leg().station(mac), station, "{mac:02x?}");
        }
    }

    /// What the short look at a header says is what the long one does.
    #[test]
    fn arrivals() {
        let router = |vrid| {
            Some(VirtualRouter {
                vrid,
                ..VirtualRouter::default()
            })
        };
        let leg = |port, vlan, vrid| Interface {
            port,
            vlan,
            router: router(vrid),
            ..Interface::default()
        };
        let legs = Legs::new(&Config {
            interfaces: [leg(0, Some(7), 1), leg(0, None, 2), leg(1, Some(7), 3)]
                .into_iter()
                .collect(),
            ..Config::default()
        });
        let stranger = [2, 0, 0, 0, 0, 9];
        let mut taken = 0;
        for port in 0..3 {
            for vlan in [None, Some(0), Some(7), Some(8)] {
                for (vrid, version) in [(1, 1), (1, 2), (2, 1), (3, 2), (3, 3)] {
                    for ethertype in [ethernet::IPV4, ethernet::IPV6, ethernet::ARP] {
                        let mac = [0, 0, 0x5e, 0, version, vrid];
                        let mut frame = [0; 60];
                        ethernet::write(&mut frame, mac, stranger, vlan, ethertype).unwrap();
                        let received = ethernet::parse(&frame).unwrap();
                        let expected = legs.find(port, received.vlan).filter(|leg| {
                            legs.get(*leg).unwrap().station(mac) == Station::Virtual
                                && ethertype != ethernet::ARP
                        });
                        let arrival = legs.arrival(port, &frame);
                        assert_eq!(arrival.map(|a| a.leg), expected);
                        if let Some(arrival) = arrival {
                            taken += 1;
                            assert_eq!(usize::from(arrival.payload), received.payload);
                            let ethertype = if arrival.version == 4 {
                                ethernet::IPV4
                            } else {
                                ethernet::IPV6
                            };
                            assert_eq!(ethertype, received.ethertype);
                        }
                        frame[6] |= 1;
                        assert_eq!(legs.arrival(port, &frame), None);
                        assert_eq!(legs.arrival(port, &frame[..27]), None);
                    }
                }
            }
        }
        assert!(taken > 5);
    }

    #[test]
    fn each_address_has_its_mac() {
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
        let table = [
            ("192.0.2.1", Some(MAC)),
            ("192.0.2.9", Some([0, 0, 0x5e, 0, 1, 7])),
            ("192.0.2.8", None),
            ("2001:db8:1::2", Some(MAC)),
            ("2001:db8:1::aa:bbcc", Some([0, 0, 0x5e, 0, 2, 7])),
            ("2001:db8:1::3", None),
            ("fe80::ff:fe00:1", Some(MAC)),
            ("fe80::1", None),
        ];
        for (address, mac) in table {
            assert_eq!(leg().mac_of(address.parse().unwrap()), mac, "{address}");
        }
        assert_eq!(leg().six.unwrap().link_local, link_local);
    }

    #[test]
    fn neighbours_are_on_the_link_and_not_us() {
        let table = [
            ("2001:db8:1::3", true),
            ("2001:db8:1::", false),
            ("2001:db8:2::3", false),
            ("2001:db8:1::2", false),
            ("2001:db8:1::aa:bbcc", false),
            ("fe80::1", true),
            ("fe80::ff:fe00:1", false),
            ("::", false),
            ("ff02::1", false),
        ];
        for (address, neighbour) in table {
            let address = address.parse().unwrap();
            assert_eq!(leg().is_neighbour6(address), neighbour, "{address}");
        }
    }

    #[test]
    fn groups_of_virtual_addresses_are_heard_while_active() {
        let table = [
            ([0x33, 0x33, 0, 0, 0, 1], true, true),
            ([0x33, 0x33, 0xff, 0, 0, 2], true, true),
            ([0x33, 0x33, 0xff, 0, 0, 1], true, true),
            ([0x33, 0x33, 0xff, 0xaa, 0xbb, 0xcc], false, true),
            ([0x33, 0x33, 0, 0, 0, 2], false, false),
            ([0x33, 0x33, 0xff, 0, 0, 3], false, false),
        ];
        for (group, backup, active) in table {
            assert_eq!(leg().listens(group, false), backup, "{group:02x?}");
            assert_eq!(leg().listens(group, true), active, "{group:02x?}");
        }
    }
}
