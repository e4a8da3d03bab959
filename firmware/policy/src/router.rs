//! Virtual routers (RFC 9568 §5.2, §6.1), and how an appliance shares them with its peer.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::Name;

/// Most virtual routers of one appliance: eight of each IP version.
pub const MAX_ROUTERS: usize = 16;
/// Most virtual addresses of one IP version on one interface.
pub const MAX_SHARED: usize = 32;
/// Most addresses that one virtual router answers for.
pub const MAX_VIRTUAL_ADDRESSES: usize = 20;
/// Most routers that adverts are sent to one by one.
pub const MAX_PEERS: usize = 4;
/// Most keys that one virtual router accepts.
pub const MAX_KEYS: usize = 2;
/// Most conditions that an appliance watches.
pub const MAX_TRACKS: usize = 16;
/// Most paths between two appliances of a pair.
pub const MAX_PATHS: usize = 4;

/// One virtual router, of one IP version. All routers of an appliance move together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualRouter {
    /// Index of the interface.
    pub interface: u8,
    /// Virtual router identifier, 1 to 255.
    pub vrid: u8,
    /// The protocol that is spoken.
    pub version: Version,
    /// Advertisement interval in centiseconds, 1 to 4095; of version 2 whole seconds.
    pub advertisement_interval: u16,
    /// Addresses that the Active answers for, all of one IP version. Of IPv6 the first one is link-local (RFC 9568 §5.2.9).
    pub addresses: Vec<IpAddr, MAX_VIRTUAL_ADDRESSES>,
    /// How many of them, from the first on, adverts list; the others are only answered for.
    pub advertised: u8,
    /// Accept_Mode: whether packets to the addresses are taken when this appliance does not own them.
    pub accept: bool,
    /// Whether the addresses have the virtual router MAC address (RFC 9568 §7.3) or the appliance's own.
    pub virtual_mac: bool,
    /// What adverts' checksums are over. Both forms are understood.
    pub checksum: Checksum,
    /// Whether adverts that list other addresses are dropped, not only reported.
    pub strict_addresses: bool,
    /// The other routers, if adverts go to each of them instead of to the multicast group.
    pub peers: Vec<IpAddr, MAX_PEERS>,
    /// TTLs or hop limits, from and to, that adverts may arrive with.
    pub ttl: (u8, u8),
    /// How adverts are authenticated.
    pub authentication: Authentication,
}

impl Default for VirtualRouter {
    /// A router of version 3 without identifier and addresses, for tests to fill in.
    fn default() -> Self {
        Self {
            interface: 0,
            vrid: 0,
            version: Version::V3,
            advertisement_interval: 100,
            addresses: Vec::new(),
            advertised: MAX_VIRTUAL_ADDRESSES as u8,
            accept: true,
            virtual_mac: true,
            checksum: Checksum::Message,
            strict_addresses: false,
            peers: Vec::new(),
            ttl: (255, 255),
            authentication: Authentication::None,
        }
    }
}

impl VirtualRouter {
    /// A router of version 3 for `addresses` (at most [`MAX_VIRTUAL_ADDRESSES`], all of one IP version), usual in all else.
    #[must_use]
    pub fn new(interface: u8, vrid: u8, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            interface,
            vrid,
            addresses: addresses.into_iter().take(MAX_VIRTUAL_ADDRESSES).collect(),
            ..Self::default()
        }
    }

    /// The link-local address that goes with a virtual router MAC address for IPv6 (RFC 4291, appendix A).
    #[must_use]
    pub const fn link_local(vrid: u8) -> Ipv6Addr {
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            0x0200,
            0x5eff,
            0xfe00,
            0x0200 | vrid as u16,
        )
    }

    /// The address that packets are routed to: the first one that is not link-local.
    #[must_use]
    pub fn routed(&self) -> Option<IpAddr> {
        let link_local =
            |address: &IpAddr| matches!(address, IpAddr::V6(own) if own.is_unicast_link_local());
        self.addresses.iter().find(|own| !link_local(own)).copied()
    }

    /// Whether it is one of IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        self.addresses.first().is_some_and(IpAddr::is_ipv6)
    }

    /// The virtual router MAC address (RFC 9568 §7.3).
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        [
            0x00,
            0x00,
            0x5e,
            0x00,
            if self.is_v6() { 2 } else { 1 },
            self.vrid,
        ]
    }

    /// The addresses that adverts list.
    #[must_use]
    pub fn listed(&self) -> &[IpAddr] {
        let count = usize::from(self.advertised).min(self.addresses.len());
        self.addresses.get(..count).unwrap_or_default()
    }
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Version {
    /// RFC 3768, for IPv4 only.
    V2,
    /// RFC 9568.
    V3,
}

/// What the checksum of an IPv4 advert of version 3 is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Checksum {
    /// The message alone (RFC 9568 §5.2.8).
    Message,
    /// Also a pseudo-header, as RFC 5798 was read by many.
    PseudoHeader,
}

/// How adverts of a virtual router are authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authentication {
    /// Not at all (RFC 9568 §9).
    None,
    /// Version 2's simple text password (RFC 2338 §10.2): keeps accidents away, not attackers.
    Password([u8; 8]),
    /// keepalived's HMAC-SHA256 trailer.
    Hmac(Hmac),
}

/// Keys of the HMAC trailer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hmac {
    /// The first one signs, all are accepted.
    pub keys: Vec<Key, MAX_KEYS>,
    /// What becomes of adverts without a trailer.
    pub mode: HmacMode,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Key identifier, 1 to 255.
    pub id: u8,
    /// Its bytes.
    pub secret: Vec<u8, 64>,
}

/// How strictly HMAC trailers are asked for: the steps of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HmacMode {
    /// Nothing is signed; trailers are verified.
    ReceiveOnly,
    /// Adverts are signed; those without a trailer are taken.
    Permissive,
    /// Adverts without a valid trailer are dropped.
    Enforce,
}

/// How this appliance shares the virtual routers with others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Availability {
    /// Priority of all routers, 1 to 254, or 255 for the owner of their addresses.
    pub priority: u8,
    /// Preempt_Mode: whether a router of higher priority takes over from an Active of lower priority.
    pub preempt: bool,
    /// How long an appliance that could take over from a weaker Active waits, in milliseconds up to 1000 s.
    pub preempt_delay: u32,
    /// How long an appliance only listens after its start, or after links came back, in milliseconds up to 1000 s.
    pub start_delay: u32,
    /// How the network is told where the addresses are.
    pub announce: Announce,
    /// What is watched, and what it costs.
    pub tracks: Vec<Track, MAX_TRACKS>,
    /// The other appliance, if it is one of ours.
    pub pair: Option<Pair>,
}

impl Default for Availability {
    fn default() -> Self {
        Self {
            priority: 100,
            preempt: true,
            preempt_delay: 0,
            start_delay: 0,
            announce: Announce::default(),
            tracks: Vec::new(),
            pair: None,
        }
    }
}

/// Gratuitous ARP, or unsolicited neighbour advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// How often each address is announced in one burst, at least once.
    pub repeat: u8,
    /// Milliseconds between two announcements of a burst.
    pub gap: u16,
    /// Milliseconds from the first to the second burst; 0 for none.
    pub second: u16,
    /// Seconds between two announcements while Active; 0 for never.
    pub refresh: u16,
    /// How often they are announced again after another router was Active as well.
    pub rival: u8,
    /// Whether IPv4 addresses are announced by ARP replies too, for stations that do not learn from requests.
    pub replies: bool,
    /// Seconds between two router advertisements on legs with IPv6 (RFC 4861 §6.2.1); 0 for none.
    pub router_advertisement: u16,
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            repeat: 3,
            gap: 100,
            second: 5000,
            refresh: 60,
            rival: 2,
            replies: false,
            router_advertisement: 0,
        }
    }
}

/// A condition, and what it costs while it is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// What is watched.
    pub what: Tracked,
    /// −253 to 253: added to the priority while the condition is good if it is positive, while it is bad if it is negative
    /// (keepalived's arithmetic). With 0 a bad condition is a fault.
    pub weight: i16,
    /// Whether good and bad change places.
    pub reverse: bool,
}

/// What can be watched. Links of all ports are watched anyway: a port without carrier is a fault unless it has a weight here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tracked {
    /// The carrier of a physical port.
    Port(u8),
    /// Whether any of an interface's tracked neighbours answers.
    Neighbours(u8),
    /// Whether a service has its quorum.
    Service(u8),
    /// A value that a program of the operator's posts now and then (by its index); without news it is bad.
    Posted(u8),
}

/// The other appliance of a pair, and how the two talk apart from VRRP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// Its name.
    pub peer: Name,
    /// Which of the two this one is; the peer is the other one.
    pub first: bool,
    /// Paths between the two, the one for the flows first.
    pub paths: Vec<Path, MAX_PATHS>,
    /// Whether a serial line is one more path.
    pub serial: bool,
    /// Milliseconds between two heartbeats on each path, 1 to 1000.
    pub heartbeat: u16,
    /// How many heartbeats must be missing on every path for a dead peer, 2 to 255.
    pub misses: u8,
    /// Whether the peer knows this appliance's flows.
    pub sync: bool,
    /// Whether first packets wait, for a moment at most, until the peer knows their flows.
    pub defer: bool,
    /// The secret of the two.
    pub key: [u8; 32],
    /// The secret that operators' commands are sealed with.
    pub operator: [u8; 32],
    /// Digest of all that the two must agree about.
    pub fingerprint: u64,
}

/// One path between two appliances: a leg of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// Index of this appliance's interface.
    pub interface: u8,
    /// The peer's MAC address there.
    pub mac: [u8; 6],
    /// The peer's own address there.
    pub address: Ipv4Addr,
}
