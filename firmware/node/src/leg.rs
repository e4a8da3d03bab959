//! The appliance's legs: which frames belong to which, and what the appliance is called there.

use core::net::Ipv4Addr;

use policy::{Config, Interface, MAX_INTERFACES, MAX_TRACKED, MAX_VIRTUAL_ADDRESSES, Name};
use wire::ethernet::Mac;

/// One leg in the form that frames are compared with.
#[derive(Clone, Debug)]
pub struct Leg {
    pub name: Name,
    pub port: u8,
    pub vlan: Option<u16>,
    pub mac: Mac,
    pub address: Ipv4Addr,
    pub router: Option<Router>,
    pub track: heapless::Vec<Ipv4Addr, MAX_TRACKED>,
}

/// The leg's virtual router.
#[derive(Clone, Debug)]
pub struct Router {
    pub vrid: u8,
    pub mac: Mac,
    pub interval: u16,
    pub addresses: heapless::Vec<Ipv4Addr, MAX_VIRTUAL_ADDRESSES>,
}

/// Whom on a leg a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Station {
    /// The appliance itself.
    Own,
    /// The virtual router.
    Virtual,
    /// Anybody else.
    Other,
}

impl Leg {
    fn new(interface: &Interface) -> Self {
        let router = interface.router.as_ref().map(|router| Router {
            vrid: router.vrid,
            // RFC 9568 §7.3.
            mac: [0x00, 0x00, 0x5e, 0x00, 0x01, router.vrid],
            interval: router.advertisement_interval,
            addresses: router.addresses.clone(),
        });
        Self {
            name: interface.name.clone(),
            port: interface.port,
            vlan: interface.vlan,
            mac: interface.mac,
            address: interface.address,
            router,
            track: interface.track.clone(),
        }
    }

    pub fn station(&self, mac: Mac) -> Station {
        match &self.router {
            Some(router) if router.mac == mac => Station::Virtual,
            _ if self.mac == mac => Station::Own,
            _ => Station::Other,
        }
    }

    /// The MAC address that goes with one of the leg's addresses: the virtual one with virtual ones.
    pub fn mac_of(&self, address: Ipv4Addr) -> Option<Mac> {
        if address == self.address {
            return Some(self.mac);
        }
        self.router
            .as_ref()
            .filter(|router| router.addresses.contains(&address))
            .map(|r| r.mac)
    }
}

/// All legs of an appliance.
#[derive(Clone, Debug)]
pub struct Legs(heapless::Vec<Leg, MAX_INTERFACES>);

impl Legs {
    pub fn new(config: &Config) -> Self {
        Self(config.interfaces.iter().map(Leg::new).collect())
    }

    pub fn get(&self, leg: u8) -> Option<&Leg> {
        self.0.get(usize::from(leg))
    }

    /// Which leg frames with this tag on this port belong to.
    pub fn find(&self, port: u8, vlan: Option<u16>) -> Option<u8> {
        let mut legs = self.0.iter();
        let leg = legs.position(|leg| leg.port == port && leg.vlan == vlan)?;
        u8::try_from(leg).ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, &Leg)> {
        (0..).zip(&self.0)
    }
}
