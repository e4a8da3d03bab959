//! What the device is configured to be, and what the others on its cable are called.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use policy::{
    Announce, Authentication, Checksum, Config, Hmac, HmacMode, Interface, Interface6, Key, Name,
    Version, VirtualRouter,
};

use crate::frame::Mac;

/// One configuration of the device.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Devices of the same name are alike.
    pub name: &'static str,
    /// From the plain configuration of its IP version.
    change: fn(&mut Config),
    six: bool,
}

impl Profile {
    const fn v4(name: &'static str, change: fn(&mut Config)) -> Self {
        Self {
            name,
            change,
            six: false,
        }
    }

    const fn v6(name: &'static str, change: fn(&mut Config)) -> Self {
        Self {
            name,
            change,
            six: true,
        }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> Config {
        let mut config = Config {
            name: name("dut"),
            interfaces: [leg()].into_iter().collect(),
            routers: [if self.six { router6() } else { router4() }]
                .into_iter()
                .collect(),
            ..Config::default()
        };
        config.availability.priority = PRIORITY;
        config.availability.announce = Announce {
            repeat: 1,
            gap: 50,
            second: 0,
            refresh: 0,
            ..Announce::default()
        };
        (self.change)(&mut config);
        config
    }

    /// The same as a device reads it.
    ///
    /// # Panics
    /// If it is not valid.
    #[must_use]
    pub fn blob(&self) -> Vec<u8> {
        let blob = classifier::blob(&self.config(), &[], policy::MAX_BLOB);
        blob.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What follows from it on the wire.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let config = self.config();
        let router = &config.routers[0];
        Facts {
            version: match router.version {
                Version::V2 => 2,
                Version::V3 => 3,
            },
            vrid: router.vrid,
            priority: config.availability.priority,
            interval: Duration::from_millis(10 * u64::from(router.advertisement_interval)),
            addresses: router.addresses.to_vec(),
            // Of RFC 9568 §7.3, written once more.
            router_mac: match (router.virtual_mac, self.six) {
                (true, false) => [0, 0, 0x5e, 0, 1, router.vrid],
                (true, true) => [0, 0, 0x5e, 0, 2, router.vrid],
                (false, _) => OWN_MAC,
            },
            own: match self.six {
                false => OWN.into(),
                true => OWN_LINK_LOCAL.into(),
            },
            unicast: !router.peers.is_empty(),
            authentication: router.authentication.clone(),
        }
    }
}

/// What the tester has to know of the device.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Version of the protocol.
    pub version: u8,
    /// Virtual router.
    pub vrid: u8,
    /// Priority.
    pub priority: u8,
    /// Advertisement_Interval.
    pub interval: Duration,
    /// Virtual addresses in their order.
    pub addresses: Vec<IpAddr>,
    /// The MAC address that goes with them.
    pub router_mac: Mac,
    /// The address that adverts come from.
    pub own: IpAddr,
    /// Whether adverts go to one other alone.
    pub unicast: bool,
    /// How other routers are authenticated.
    pub authentication: Authentication,
}

impl Facts {
    /// Whether it is about IPv6.
    #[must_use]
    pub fn six(&self) -> bool {
        self.own.is_ipv6()
    }

    /// Where adverts to the device go: address and MAC address.
    #[must_use]
    pub fn group(&self) -> (IpAddr, Mac) {
        if self.unicast {
            return (self.own, OWN_MAC);
        }
        self.multicast()
    }

    /// The group of virtual routers: address and MAC address.
    #[must_use]
    pub fn multicast(&self) -> (IpAddr, Mac) {
        match self.six() {
            false => (
                Ipv4Addr::new(224, 0, 0, 18).into(),
                [1, 0, 0x5e, 0, 0, 0x12],
            ),
            true => (
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).into(),
                [0x33, 0x33, 0, 0, 0, 0x12],
            ),
        }
    }

    /// Another router's primary address: one that loses a tie against the device, or one that wins it.
    #[must_use]
    pub fn peer(&self, wins: bool) -> IpAddr {
        match (self.six(), wins) {
            (false, false) => PEER.into(),
            // Negative if it is read as a signed number.
            (false, true) => Ipv4Addr::new(192, 0, 2, 200).into(),
            (true, false) => PEER6.into(),
            (true, true) => Ipv6Addr::new(0xfe80, 0, 0, 0, 0xff00, 0, 0, 3).into(),
        }
    }

    /// Skew_Time with this interval of the Active (RFC 9568 §6.1, RFC 3768 §6.1).
    #[must_use]
    pub fn skew(&self, interval: Duration) -> Duration {
        let of = match self.version {
            2 => Duration::from_secs(1),
            _ => interval,
        };
        of * (256 - u32::from(self.priority)) / 256
    }

    /// Active_Down_Interval with this interval of the Active.
    #[must_use]
    pub fn active_down(&self, interval: Duration) -> Duration {
        3 * interval + self.skew(interval)
    }

    /// An interval in the form of the field.
    #[must_use]
    pub fn field(&self, interval: Duration) -> u16 {
        match self.version {
            2 => interval.as_secs() as u16,
            _ => (interval.as_millis() / 10) as u16,
        }
    }
}

/// A plain virtual router.
pub const V4: Profile = Profile::v4("v4", |_| {});
/// Of higher priority.
pub const STRONG: Profile = Profile::v4("v4-strong", |config| config.availability.priority = 250);
/// With Preempt_Mode false.
pub const NO_PREEMPT: Profile =
    Profile::v4("v4-nopreempt", |config| config.availability.preempt = false);
/// One that waits before it takes over from a weaker one.
pub const PREEMPT_DELAY: Profile = Profile::v4("v4-preempt-delay", |config| {
    config.availability.preempt_delay = PREEMPT_DELAY_MILLIS;
});
/// One that only listens in the beginning.
pub const START_DELAY: Profile = Profile::v4("v4-start-delay", |config| {
    config.availability.start_delay = START_DELAY_MILLIS;
});
/// The owner of the virtual addresses.
pub const OWNER: Profile = Profile::v4("v4-owner", |config| {
    config.availability.priority = 255;
    config.routers[0].addresses = [OWN.into()].into_iter().collect();
});
/// With the pseudo-header in the checksum.
pub const PSEUDO_HEADER: Profile = Profile::v4("v4-pseudo-header", |config| {
    config.routers[0].checksum = Checksum::PseudoHeader;
});
/// One that minds the list of addresses.
pub const STRICT: Profile = Profile::v4("v4-strict", |config| {
    config.routers[0].strict_addresses = true
});
/// With Accept_Mode false.
pub const NO_ACCEPT: Profile =
    Profile::v4("v4-no-accept", |config| config.routers[0].accept = false);
/// Without a virtual MAC address.
pub const OWN_MAC_ONLY: Profile =
    Profile::v4("v4-own-mac", |config| config.routers[0].virtual_mac = false);
/// One that lists some of its addresses only.
pub const EXCLUDED: Profile = Profile::v4("v4-excluded", |config| config.routers[0].advertised = 1);
/// One that announces its addresses in bursts.
pub const BURSTS: Profile = Profile::v4("v4-bursts", |config| {
    config.availability.announce = BURST;
});
/// Version 2.
pub const V2: Profile = Profile::v4("v2", |config| {
    config.routers[0].version = Version::V2;
    config.routers[0].advertisement_interval = 100;
});
/// Eight virtual routers of each IP version, with the same identifiers.
pub const SIXTEEN: Profile = Profile::v4("sixteen", |config| {
    let router = |vrid: u8, addresses: &[IpAddr]| VirtualRouter {
        advertisement_interval: INTERVAL,
        ..VirtualRouter::new(0, vrid, addresses.iter().copied())
    };
    config.routers.clear();
    for vrid in 51..59 {
        let host = 0x100 + u16::from(vrid);
        let addresses = [[192, 0, 2, vrid].into()];
        config.routers.push(router(vrid, &addresses)).expect("room");
        let addresses = [
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into(),
        ];
        config.routers.push(router(vrid, &addresses)).expect("room");
    }
});
/// One virtual router on the cable and one in a VLAN on it.
pub const TAGGED: Profile = Profile::v4("v4-tagged", |config| {
    let leg = Interface {
        name: name("tagged"),
        vlan: Some(VLAN),
        address: Ipv4Addr::new(198, 51, 100, 2),
        address6: None,
        ..leg()
    };
    config.interfaces.push(leg).expect("room");
    let router = VirtualRouter {
        advertisement_interval: INTERVAL,
        ..VirtualRouter::new(1, 52, [TAGGED_VIRTUAL.into()])
    };
    config.routers.push(router).expect("room");
});
/// The VLAN of [`TAGGED`].
pub const VLAN: u16 = 30;
/// The virtual address in it.
pub const TAGGED_VIRTUAL: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Version 2 with a password.
pub const V2_PASSWORD: Profile = Profile::v4("v2-password", |config| {
    config.routers[0].version = Version::V2;
    config.routers[0].advertisement_interval = 100;
    config.routers[0].authentication = Authentication::Password(PASSWORD);
});
/// One that takes signed adverts only.
pub const SIGNED: Profile = Profile::v4("v4-signed", |config| {
    config.routers[0].authentication = Authentication::Hmac(hmac(HmacMode::Enforce));
});
/// IPv6 that takes signed adverts only.
pub const V6_SIGNED: Profile = Profile::v6("v6-signed", |config| {
    config.routers[0].authentication = Authentication::Hmac(hmac(HmacMode::Enforce));
});
/// One that takes unsigned adverts too.
pub const PERMISSIVE: Profile = Profile::v4("v4-permissive", |config| {
    config.routers[0].authentication = Authentication::Hmac(hmac(HmacMode::Permissive));
});
/// One that verifies signatures and makes none.
pub const RECEIVE_ONLY: Profile = Profile::v4("v4-receive-only", |config| {
    config.routers[0].authentication = Authentication::Hmac(hmac(HmacMode::ReceiveOnly));
});
/// One that speaks to one other alone.
pub const UNICAST: Profile = Profile::v4("v4-unicast", |config| {
    config.routers[0].peers = [IpAddr::V4(PEER)].into_iter().collect();
    config.routers[0].ttl = (254, 255);
});
/// IPv6 that speaks to one other alone.
pub const V6_UNICAST: Profile = Profile::v6("v6-unicast", |config| {
    config.routers[0].peers = [IpAddr::V6(PEER6)].into_iter().collect();
    config.routers[0].ttl = (254, 255);
});
/// IPv6 with router advertisements.
pub const V6_ADVERTISED: Profile = Profile::v6("v6-advertised", |config| {
    config.availability.announce.router_advertisement = 4;
});
/// IPv6.
pub const V6: Profile = Profile::v6("v6", |_| {});
/// IPv6 with Accept_Mode false.
pub const V6_NO_ACCEPT: Profile =
    Profile::v6("v6-no-accept", |config| config.routers[0].accept = false);
/// IPv6, announced in bursts.
pub const V6_BURSTS: Profile = Profile::v6("v6-bursts", |config| {
    config.availability.announce = BURST;
});

/// The bursts of [`BURSTS`].
pub const BURST: Announce = Announce {
    repeat: 3,
    gap: 60,
    second: 1000,
    refresh: 2,
    rival: 2,
    replies: false,
    router_advertisement: 0,
};
/// The delay of [`PREEMPT_DELAY`].
pub const PREEMPT_DELAY_MILLIS: u32 = 1500;
/// The delay of [`START_DELAY`].
pub const START_DELAY_MILLIS: u32 = 1500;

/// The password of [`V2_PASSWORD`].
pub const PASSWORD: [u8; 8] = *b"secret12";
/// The keys of [`SIGNED`] by their numbers; it signs with the first one.
pub const KEYS: [(u8, [u8; 32]); 2] = [(7, [0x17; 32]), (9, [0x29; 32])];

fn hmac(mode: HmacMode) -> Hmac {
    let keys = KEYS.map(|(id, secret)| Key {
        id,
        secret: secret.into_iter().collect(),
    });
    Hmac {
        keys: keys.into_iter().collect(),
        mode,
    }
}

/// The device's priority.
pub const PRIORITY: u8 = 100;
/// The device's MAC address.
pub const OWN_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// The device's address.
pub const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// What RFC 4291 appendix A makes of its MAC address.
pub const OWN_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x00ff, 0xfe00, 2);
/// The device's global address of IPv6.
pub const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// A host on the link.
pub const HOST: (Mac, Ipv4Addr) = ([2, 0, 0, 0, 0, 100], Ipv4Addr::new(192, 0, 2, 100));
/// The same host's address of IPv6.
pub const HOST6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 100);
/// The other router, which loses a tie against the device.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same of IPv6.
pub const PEER6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// MAC address of the other routers where they do not use the virtual one.
pub const PEER_MAC: Mac = [2, 0, 0, 0, 0, 3];

fn name(text: &str) -> Name {
    Name::try_from(text).expect("a short name")
}

fn leg() -> Interface {
    Interface {
        name: name("lan"),
        mac: OWN_MAC,
        address: OWN,
        prefix: 24,
        address6: Some(Interface6 {
            address: OWN6,
            prefix: 64,
        }),
        ..Interface::default()
    }
}

fn router4() -> VirtualRouter {
    VirtualRouter {
        vrid: 51,
        advertisement_interval: INTERVAL,
        addresses: [10, 11]
            .map(|host| IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)))
            .into_iter()
            .collect(),
        ..VirtualRouter::default()
    }
}

fn router6() -> VirtualRouter {
    let addresses = [
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 10),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10),
    ];
    VirtualRouter {
        vrid: 61,
        advertisement_interval: INTERVAL,
        addresses: addresses.map(IpAddr::V6).into_iter().collect(),
        ..VirtualRouter::default()
    }
}

/// Advertisement_Interval in centiseconds.
const INTERVAL: u16 = 20;
