//! The world around the node: a client behind the uplink router, and the first server of a service.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use classifier::{Addresses, Key, State, Tables};
use policy::{Config, Interface, Transport};
use wire::ethernet::Mac;
use wire::ipv4;
use wire::tcp::{DEFAULT_TTL, Flags};

use crate::packet::{Content, Packet};
use crate::station::STATION;

/// The client of every flow, on IPv4.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
/// The client on IPv6.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7);

pub const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);

/// A service as its client and its server see it.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub client: IpAddr,
    pub service: (IpAddr, u16),
    pub server: (IpAddr, u16),
    udp: bool,
    outside: Leg,
    inside: Leg,
}

/// How frames reach and leave the node on one leg.
#[derive(Clone, Copy, Debug)]
struct Leg {
    index: u8,
    vlan: Option<u16>,
    /// The virtual router's, that frames come in to.
    shared: Mac,
    /// The appliance's, that frames leave from.
    own: Mac,
}

impl World {
    /// The world of the first such service.
    pub fn new(config: &Config, transport: Transport, ipv6: bool) -> Option<Self> {
        let mut services = config.services.iter();
        let service = services.find(|s| s.transport == transport && s.address.is_ipv6() == ipv6)?;
        let server = service.servers.first()?;
        Some(Self {
            client: if ipv6 { CLIENT6.into() } else { CLIENT.into() },
            service: (service.address, service.port),
            server: (server.address, server.port),
            udp: transport == Transport::Udp,
            outside: Leg::of(config, service.address)?,
            inside: Leg::of(config, server.address)?,
        })
    }

    /// The same without a service: the client sends to the server's own address.
    pub fn straight(&self, port: u16) -> Self {
        let service = (self.server.0, port);
        Self { service, ..*self }
    }

    /// The same at another port of the virtual address.
    pub fn at(&self, port: u16) -> Self {
        let service = (self.service.0, port);
        Self { service, ..*self }
    }

    /// A port of the server that no rule knows of.
    pub fn refused_port(&self, tables: &Tables<'_>) -> Option<u16> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.client, self.server.0) else {
            return None;
        };
        let key = |destination_port| Key {
            addresses: Addresses::V4 {
                source: source.to_bits(),
                destination: destination.to_bits(),
            },
            source_port: crate::PORT,
            destination_port,
            protocol: ipv4::TCP,
            from: self.outside.index,
            to: self.inside.index,
            state: State::New,
        };
        (1..=u16::MAX).find(|port| tables.lookup(&key(*port)).is_none())
    }

    /// As it comes from the client.
    pub fn client_sends(&self, port: u16, flags: Flags) -> Packet {
        let stations = (self.outside.shared, STATION);
        let ends = ((self.client, port), self.service);
        self.packet(self.outside.vlan, stations, ends, flags, DEFAULT_TTL)
    }

    /// The same as it should reach the server.
    pub fn server_gets(&self, port: u16, flags: Flags) -> Packet {
        let stations = (STATION, self.inside.own);
        let ends = ((self.client, port), self.server);
        self.packet(self.inside.vlan, stations, ends, flags, DEFAULT_TTL - 1)
    }

    /// As it comes from the server.
    pub fn server_sends(&self, port: u16, flags: Flags) -> Packet {
        let stations = (self.inside.shared, STATION);
        let ends = (self.server, (self.client, port));
        self.packet(self.inside.vlan, stations, ends, flags, DEFAULT_TTL)
    }

    /// The same as it should reach the client.
    pub fn client_gets(&self, port: u16, flags: Flags) -> Packet {
        let stations = (STATION, self.outside.own);
        let ends = (self.service, (self.client, port));
        self.packet(self.outside.vlan, stations, ends, flags, DEFAULT_TTL - 1)
    }

    /// Sequence numbers are of a connection whose handshake began at 0 on both sides.
    fn packet(
        &self,
        vlan: Option<u16>,
        stations: (Mac, Mac),
        (from, to): ((IpAddr, u16), (IpAddr, u16)),
        flags: Flags,
        ttl: u8,
    ) -> Packet {
        let sequence = u32::from(!flags.contains(Flags::SYN));
        let acknowledgment = u32::from(flags.contains(Flags::ACK));
        let tcp = (sequence, acknowledgment, flags);
        let content = Content {
            from,
            to,
            tcp: (!self.udp).then_some(tcp),
            ttl,
        };
        Packet::new(stations, vlan, content.ethertype(), |space| {
            content.write(space)
        })
        .expect("there is room, and both ends are of one version")
    }
}

impl Leg {
    /// The leg whose network has this address.
    fn of(config: &Config, address: IpAddr) -> Option<Self> {
        let near = |leg: &Interface| match address {
            IpAddr::V4(address) => leg.subnet().contains(address),
            IpAddr::V6(address) => leg.subnet6().is_some_and(|net| net.contains(address)),
        };
        let index = config.interfaces.iter().position(near)?;
        let interface = config.interfaces.get(index)?;
        let mut routers = config.routers_on(index);
        let router = routers.find(|router| router.is_v6() == address.is_ipv6())?;
        Some(Self {
            index: index as u8,
            vlan: interface.vlan,
            own: interface.mac,
            shared: router.mac(),
        })
    }
}
