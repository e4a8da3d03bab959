//! The appliance's legs: which frames belong to which, and what the appliance is called there.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::Deref;

use policy::{
    Config, Interface, Interface6, MAX_INTERFACES, MAX_ROUTERS, MAX_TRACKED, Name, Prefix6,
    VirtualRouter,
};
use wire::ethernet::{self, Mac};
use wire::nd;

/// One leg in the form that frames are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    pub name: Name,
    pub port: u8,
    pub vlan: Option<u16>,
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub six: Option<Six>,
    pub mtu: usize,
    pub track: heapless::Vec<Ipv4Addr, MAX_TRACKED>,
}

/// What a leg with IPv6 is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Six {
    pub address: Ipv6Addr,
    pub link_local: Ipv6Addr,
    pub prefix: Prefix6,
}

/// A virtual router with its MAC address at hand.
#[derive(Clone, Debug)]
pub struct Router {
    pub leg: u8,
    /// The one that goes with its addresses.
    pub mac: Mac,
    pub config: VirtualRouter,
}

impl Router {
    fn new(config: &VirtualRouter, interface: &Interface) -> Self {
        Self {
            leg: config.interface,
            mac: match config.virtual_mac {
                true => config.mac(),
                false => interface.mac,
            },
            config: config.clone(),
        }
    }

    /// Whether it answers for `address`.
    pub fn has(&self, address: IpAddr) -> bool {
        self.config.addresses.contains(&address)
    }
}

/// A leg and the virtual routers on it.
#[derive(Clone, Copy, Debug)]
pub struct On<'a> {
    leg: &'a Leg,
    index: u8,
    routers: &'a [Router],
}

impl<'a> On<'a> {
    /// The leg itself.
    pub fn leg(self) -> &'a Leg {
        self.leg
    }
}

impl Deref for On<'_> {
    type Target = Leg;

    fn deref(&self) -> &Leg {
        self.leg
    }
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
            track: interface.track.clone(),
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

    /// The own address that speaks to `neighbour`; `None` without IPv6.
    pub fn own6(&self, neighbour: Ipv6Addr) -> Option<Ipv6Addr> {
        let six = self.six?;
        Some(match neighbour.is_unicast_link_local() {
            true => six.link_local,
            false => six.address,
        })
    }
}

impl<'a> On<'a> {
    /// The virtual routers on this leg.
    pub fn routers(self) -> impl Iterator<Item = &'a Router> {
        let index = self.index;
        (self.routers.iter()).filter(move |router| router.leg == index)
    }

    pub fn station(self, mac: Mac) -> Station {
        // Without a virtual MAC address the own one comes first.
        if self.leg.mac == mac {
            return Station::Own;
        }
        match self.routers().any(|router| router.mac == mac) {
            true => Station::Virtual,
            false => Station::Other,
        }
    }

    /// The virtual router that answers for `address` here.
    pub fn router_of(self, address: IpAddr) -> Option<&'a Router> {
        self.routers().find(|router| router.has(address))
    }

    /// The MAC address that answers for one of the leg's addresses; `None` if that is somebody else's. The Active answers with the
    /// virtual one also for virtual addresses that it owns (RFC 9568 §6.4.3).
    pub fn answers_for(self, address: IpAddr, active: bool) -> Option<Mac> {
        match self.router_of(address).filter(|_| active) {
            Some(router) => Some(router.mac),
            None => self.leg.is_own(address).then_some(self.leg.mac),
        }
    }

    /// The MAC address that goes with one of the leg's addresses: the virtual one with virtual ones.
    pub fn mac_of(self, address: IpAddr) -> Option<Mac> {
        match self.leg.is_own(address) {
            true => Some(self.leg.mac),
            false => Some(self.router_of(address)?.mac),
        }
    }

    /// Whether a packet that came to the own MAC address may be for a virtual router: one that has no other MAC address, unless it
    /// is for the appliance itself.
    pub fn is_for_router(self, packet: Option<&[u8]>) -> bool {
        let six = match packet.and_then(|packet| packet.first()) {
            Some(first) => first >> 4 == 6,
            None => return false,
        };
        let mut routers = self.routers().map(|router| &router.config);
        if !routers.any(|config| !config.virtual_mac && config.is_v6() == six) {
            return false;
        }
        let packet = packet.unwrap_or_default();
        let destination = match six {
            false => packet
                .get(16..20)
                .and_then(<[u8]>::first_chunk::<4>)
                .map(|bytes| IpAddr::from(*bytes)),
            true => packet
                .get(24..40)
                .and_then(<[u8]>::first_chunk::<16>)
                .map(|bytes| IpAddr::from(*bytes)),
        };
        destination.is_some_and(|address| !self.leg.is_own(address))
    }

    /// Whether `address` can be another station's on this link. The first address of the subnet belongs to
    /// all its routers (RFC 4291 §2.6.1), so to nobody alone.
    pub fn is_neighbour6(self, address: Ipv6Addr) -> bool {
        let Some(six) = self.leg.six else {
            return false;
        };
        let host = address != six.prefix.address || six.prefix.length > 126;
        (address.is_unicast_link_local() || six.prefix.contains(address) && host)
            && self.mac_of(address.into()).is_none()
    }

    /// Whether a frame to this multicast address is listened to: all nodes, and the groups that addresses
    /// answered for belong to.
    pub fn listens(self, group: Mac, active: bool) -> bool {
        let Some(six) = self.leg.six else {
            return false;
        };
        let shared = self.routers().filter(|_| active);
        let shared = shared.flat_map(|router| &router.config.addresses);
        let shared = shared.filter_map(|address| match address {
            IpAddr::V6(address) => Some(*address),
            IpAddr::V4(_) => None,
        });
        shared
            .chain([six.address, six.link_local])
            .map(|address| nd::solicited_node(address.octets()))
            .chain([nd::ALL_NODES])
            .any(|address| nd::multicast_mac(address) == group)
    }
}

/// All legs of an appliance. What every packet needs stands first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Legs {
    /// Of every router with a virtual MAC address, leg by leg.
    lanes: [Lane; MAX_ROUTERS],
    /// The leg of each lane.
    lane_legs: [u8; MAX_ROUTERS],
    exits: [Exit; MAX_INTERFACES],
    legs: heapless::Vec<Leg, MAX_INTERFACES>,
    routers: heapless::Vec<Router, MAX_ROUTERS>,
}

/// What frames to a virtual router are known by: the port, the VLAN id or 0, and the last two bytes of its MAC address, which say
/// IP version and VRID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lane(u32);

impl Lane {
    /// No frame's: there is no such version.
    const NONE: Self = Self(u32::MAX);

    /// There are no more ports than four bits tell apart ([`crate::superloop::MAX_PORTS`]).
    #[inline(always)]
    fn new(port: u8, vlan: u16, version_vrid: u16) -> Self {
        Self(u32::from(port) << 28 | u32::from(vlan) << 16 | u32::from(version_vrid))
    }

    fn of(leg: &Leg, router: &Router) -> Self {
        let [.., version, vrid] = router.mac;
        let version_vrid = u16::from_be_bytes([version, vrid]);
        Self::new(leg.port, leg.vlan.unwrap_or(0), version_vrid)
    }
}

const _: () = assert!(crate::superloop::MAX_PORTS <= 16);

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
        let interface = |router: &VirtualRouter| {
            let interface = config.interfaces.get(usize::from(router.interface))?;
            Some(Router::new(router, interface))
        };
        let mut all = Self {
            lanes: [Lane::NONE; MAX_ROUTERS],
            lane_legs: [0; MAX_ROUTERS],
            exits: [Exit::default(); MAX_INTERFACES],
            legs: config.interfaces.iter().map(Leg::new).collect(),
            routers: config.routers.iter().filter_map(interface).collect(),
        };
        let mut places = all.lanes.iter_mut().zip(&mut all.lane_legs);
        for (index, leg) in (0..).zip(&all.legs) {
            let routers = all.routers.iter().filter(|router| router.leg == index);
            for router in routers.filter(|router| router.config.virtual_mac) {
                if let Some((lane, of)) = places.next() {
                    (*lane, *of) = (Lane::of(leg, router), index);
                }
            }
        }
        for (exit, leg) in all.exits.iter_mut().zip(&all.legs) {
            *exit = Exit::of(leg);
        }
        all
    }

    #[inline(always)]
    pub fn get(&self, leg: u8) -> Option<On<'_>> {
        Some(On {
            leg: self.legs.get(usize::from(leg))?,
            index: leg,
            routers: &self.routers,
        })
    }

    /// All virtual routers, in the order of the configuration, with their legs.
    pub fn routers(&self) -> impl Iterator<Item = (On<'_>, &Router)> {
        (self.routers.iter()).filter_map(|router| Some((self.get(router.leg)?, router)))
    }

    /// One of them.
    pub fn router(&self, index: u8) -> Option<(On<'_>, &Router)> {
        let router = self.routers.get(usize::from(index))?;
        Some((self.get(router.leg)?, router))
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
        if prefix != u32::from_ne_bytes([0, 0, 0x5e, 0]) || head[6] & 1 != 0 {
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
        let lane = Lane::new(port, vlan, half(4));
        let place = self.lanes.iter().position(|known| *known == lane)?;
        let leg = self.lane_legs[place % MAX_ROUTERS];
        Some(Arrival {
            leg,
            payload,
            version,
            protocol,
        })
    }

    /// The first leg that another configuration does not have as it is, but for what it tracks: legs are what they are as long as
    /// the appliance runs.
    pub fn differs(&self, config: &Config) -> Option<Name> {
        let mut others = config.interfaces.iter();
        for leg in &self.legs {
            let Some(other) = others.next().map(Leg::new) else {
                return Some(leg.name.clone());
            };
            let track = leg.track.clone();
            if *leg != (Leg { track, ..other }) {
                return Some(leg.name.clone());
            }
        }
        others.next().map(|new| new.name.clone())
    }

    /// The router that another configuration has for the same identifier.
    pub fn known(&self, router: &VirtualRouter) -> Option<u8> {
        let key = |config: &VirtualRouter| (config.interface, config.vrid, config.is_v6());
        let mut routers = self.routers.iter();
        let index = routers.position(|old| key(&old.config) == key(router))?;
        u8::try_from(index).ok()
    }

    /// Which leg frames with this tag on this port belong to.
    pub fn find(&self, port: u8, vlan: Option<u16>) -> Option<u8> {
        let mut legs = self.legs.iter();
        let leg = legs.position(|leg| leg.port == port && leg.vlan == vlan)?;
        u8::try_from(leg).ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, On<'_>)> {
        (0..self.legs.len() as u8).filter_map(|leg| Some((leg, self.get(leg)?)))
    }
}

#[cfg(test)]
mod tests {
    use policy::VirtualRouter;

    use super::*;

    const OWN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
    const SHARED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0xaa, 0xbbcc);
    const MAC: Mac = [2, 0, 0, 0, 0, 1];

    fn legs() -> Legs {
        let router = |address: IpAddr| VirtualRouter {
            vrid: 7,
            addresses: [address].into_iter().collect(),
            ..VirtualRouter::default()
        };
        let address6 = Interface6 {
            address: OWN,
            prefix: 64,
        };
        Legs::new(&Config {
            interfaces: [Interface {
                mac: MAC,
                address6: Some(address6),
                ..Interface::default()
            }]
            .into_iter()
            .collect(),
            routers: [
                router(Ipv4Addr::new(192, 0, 2, 9).into()),
                router(SHARED.into()),
            ]
            .into_iter()
            .collect(),
            ..Config::default()
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
            assert_eq!(legs().get(0).unwrap().station(mac), station, "{mac:02x?}");
        }
    }

    /// What the short look at a header says is what the long one does.
    #[test]
    fn arrivals() {
        let router = |interface, vrid, address: IpAddr| VirtualRouter {
            interface,
            vrid,
            addresses: [address].into_iter().collect(),
            ..VirtualRouter::default()
        };
        let both = |interface, vrid| {
            let v4 = Ipv4Addr::new(192, 0, 2, 9).into();
            [
                router(interface, vrid, v4),
                router(interface, vrid, SHARED.into()),
            ]
        };
        // A second one on a leg, and one that has no MAC address of its own.
        let more = [
            router(0, 4, Ipv4Addr::new(192, 0, 2, 10).into()),
            VirtualRouter {
                virtual_mac: false,
                ..router(1, 5, SHARED.into())
            },
        ];
        let leg = |port, vlan| Interface {
            port,
            vlan,
            ..Interface::default()
        };
        let legs = Legs::new(&Config {
            interfaces: [leg(0, Some(7)), leg(0, None), leg(1, Some(7))]
                .into_iter()
                .collect(),
            routers: [both(0, 1), both(1, 2), both(2, 3), more]
                .concat()
                .into_iter()
                .collect(),
            ..Config::default()
        });
        let stranger = [2, 0, 0, 0, 0, 9];
        let mut taken = 0;
        for port in 0..3 {
            for vlan in [None, Some(0), Some(7), Some(8)] {
                for (vrid, version) in [
                    (1, 1),
                    (1, 2),
                    (2, 1),
                    (3, 2),
                    (3, 3),
                    (4, 1),
                    (4, 2),
                    (5, 2),
                    (0, 0),
                    (255, 255),
                ] {
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
            assert_eq!(
                legs().get(0).unwrap().mac_of(address.parse().unwrap()),
                mac,
                "{address}"
            );
        }
        assert_eq!(legs().get(0).unwrap().six.unwrap().link_local, link_local);
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
            assert_eq!(
                legs().get(0).unwrap().is_neighbour6(address),
                neighbour,
                "{address}"
            );
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
            assert_eq!(
                legs().get(0).unwrap().listens(group, false),
                backup,
                "{group:02x?}"
            );
            assert_eq!(
                legs().get(0).unwrap().listens(group, true),
                active,
                "{group:02x?}"
            );
        }
    }
}
