//! The ways in which two routers can be one virtual router, and how each side is told.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use policy::{
    Authentication, Checksum, Config, Interface, Interface6, Name, Version, VirtualRouter,
};

use crate::{Lab, Router, Side, WAN_VIRTUAL, WAN_VRID, virtual_mac};

/// What stands beside our appliance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Debian's keepalived.
    Keepalived,
    /// FRR's vrrpd.
    Frr,
}

/// One way.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// For people.
    pub name: &'static str,
    /// Who is the other one.
    pub peer: Peer,
    /// Of the protocol.
    pub version: Version,
    /// Whether it is about IPv4, IPv6, or both.
    pub addresses: Addresses,
    /// Of our adverts of IPv4, where nothing else was learned; both peers of Debian 12 know only one form.
    pub checksum: Checksum,
    /// Whether adverts go to each other instead of to the group.
    pub unicast: bool,
    /// Whether keepalived has the virtual MAC address too; FRR always has.
    pub virtual_mac: bool,
    /// Whether there is a password.
    pub password: bool,
    /// Advertisement interval.
    pub centiseconds: u16,
}

/// Versions of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    Four,
    /// IPv6.
    Six,
    /// One virtual router of each.
    Both,
}

impl Addresses {
    fn has_four(self) -> bool {
        self != Self::Six
    }

    fn has_six(self) -> bool {
        self != Self::Four
    }
}

/// The link-local virtual address.
pub const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10);
/// The virtual address of IPv6 that users know.
pub const GLOBAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// Virtual router identifier of the one of IPv6.
pub const VRID6: u8 = 61;

/// keepalived and FRR have the pseudo-header.
const PLAIN: Mode = Mode {
    name: "",
    peer: Peer::Keepalived,
    version: Version::V3,
    addresses: Addresses::Four,
    checksum: Checksum::PseudoHeader,
    unicast: false,
    virtual_mac: false,
    password: false,
    centiseconds: 10,
};

/// All of them.
pub const ALL: &[Mode] = &[
    Mode {
        name: "keepalived, version 3",
        ..PLAIN
    },
    Mode {
        name: "keepalived, version 2",
        version: Version::V2,
        centiseconds: 100,
        ..PLAIN
    },
    Mode {
        name: "keepalived, version 2 with a password",
        version: Version::V2,
        centiseconds: 100,
        password: true,
        ..PLAIN
    },
    Mode {
        name: "keepalived with the virtual MAC address",
        virtual_mac: true,
        ..PLAIN
    },
    Mode {
        name: "keepalived, unicast",
        unicast: true,
        ..PLAIN
    },
    Mode {
        name: "keepalived, IPv6",
        addresses: Addresses::Six,
        ..PLAIN
    },
    Mode {
        name: "keepalived, IPv6 with the virtual MAC address",
        addresses: Addresses::Six,
        virtual_mac: true,
        ..PLAIN
    },
    Mode {
        name: "keepalived, IPv6 unicast",
        addresses: Addresses::Six,
        unicast: true,
        ..PLAIN
    },
    Mode {
        name: "keepalived, IPv4 and IPv6",
        addresses: Addresses::Both,
        ..PLAIN
    },
    Mode {
        name: "vrrpd of FRR",
        peer: Peer::Frr,
        ..PLAIN
    },
    Mode {
        name: "keepalived, unicast, checksum learned",
        unicast: true,
        checksum: Checksum::Message,
        ..PLAIN
    },
    Mode {
        name: "vrrpd of FRR, IPv6",
        peer: Peer::Frr,
        addresses: Addresses::Six,
        ..PLAIN
    },
    Mode {
        name: "vrrpd of FRR, version 2",
        peer: Peer::Frr,
        version: Version::V2,
        centiseconds: 100,
        ..PLAIN
    },
];

/// The virtual routers' password.
const PASSWORD: &[u8; 8] = b"secret12";

impl Mode {
    /// Advertisement interval.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_millis(10 * u64::from(self.centiseconds))
    }

    /// How long a Backup of this priority waits.
    #[must_use]
    pub fn take_over(&self, priority: u8) -> Duration {
        self.interval() * (4 * 256 - u32::from(priority)) / 256
    }

    /// What users on the WAN ask for.
    #[must_use]
    pub fn virtual_addresses(&self) -> Vec<IpAddr> {
        let mut all = Vec::new();
        if self.addresses.has_four() {
            all.push(WAN_VIRTUAL.into());
        }
        if self.addresses.has_six() {
            all.push(GLOBAL.into());
        }
        all
    }

    /// Our appliance's configuration.
    #[must_use]
    pub fn config(&self, side: Side, priority: u8) -> Config {
        let name = |text: &str| Name::try_from(text).expect("a short name");
        let leg = Interface {
            name: name("wan"),
            mac: side.mac(false),
            address: own(side),
            prefix: 24,
            address6: Some(Interface6 {
                address: own6(side),
                prefix: 64,
            }),
            ..Interface::default()
        };
        let mut config = Config {
            name: name(side.name()),
            interfaces: [leg].into_iter().collect(),
            ..Config::default()
        };
        config.availability.priority = priority;
        let mut push = |vrid, addresses: &[IpAddr], peer: IpAddr| {
            let router = VirtualRouter {
                version: self.version,
                advertisement_interval: self.centiseconds,
                checksum: self.checksum,
                // keepalived 2.2 sends its unicast adverts of IPv6 with the kernel's usual hop limit.
                ttl: match self.unicast && peer.is_ipv6() {
                    true => (64, 255),
                    false => (255, 255),
                },
                peers: self.unicast.then_some(peer).into_iter().collect(),
                authentication: match self.password {
                    true => Authentication::Password(*PASSWORD),
                    false => Authentication::None,
                },
                ..VirtualRouter::new(0, vrid, addresses.iter().copied())
            };
            config.routers.push(router).expect("room");
        };
        let other = side.other();
        if self.addresses.has_four() {
            push(WAN_VRID, &[WAN_VIRTUAL.into()], own(other).into());
        }
        if self.addresses.has_six() {
            push(
                VRID6,
                &[LINK_LOCAL.into(), GLOBAL.into()],
                link_local(other).into(),
            );
        }
        config
    }

    /// keepalived's.
    fn keepalived_conf(&self, side: Side, priority: u8) -> String {
        let version = match self.version {
            Version::V2 => 2,
            Version::V3 => 3,
        };
        let interval = self.interval().as_secs_f64();
        let (mut instances, mut members) = (String::new(), String::new());
        let mut add = |name: &str, vrid: u8, own: IpAddr, peer: IpAddr, addresses: &str| {
            let mut options = String::new();
            if self.virtual_mac {
                options += &format!("    use_vmac vr{vrid}\n");
            }
            if self.unicast {
                options += &format!(
                    "    unicast_src_ip {own}\n    unicast_peer {{\n        {peer}\n    }}\n"
                );
            }
            if self.password {
                let password = String::from_utf8_lossy(PASSWORD);
                options += &format!(
                    "    authentication {{\n        auth_type PASS\n        auth_pass {password}\n    }}\n"
                );
            }
            members += &format!("        {name}\n");
            instances += &format!(
                "vrrp_instance {name} {{
    state BACKUP
    interface wan
    virtual_router_id {vrid}
    priority {priority}
    advert_int {interval}
{options}    virtual_ipaddress {{
{addresses}    }}
}}
"
            );
        };
        let other = side.other();
        if self.addresses.has_four() {
            let addresses = format!("        {WAN_VIRTUAL}/24\n");
            add(
                "four",
                WAN_VRID,
                own(side).into(),
                own(other).into(),
                &addresses,
            );
        }
        if self.addresses.has_six() {
            let addresses = format!("        {LINK_LOCAL}/64\n        {GLOBAL}/64\n");
            add(
                "six",
                VRID6,
                link_local(side).into(),
                link_local(other).into(),
                &addresses,
            );
        }
        format!(
            "global_defs {{
    vrrp_version {version}
    vrrp_garp_master_refresh 0
}}
vrrp_sync_group all {{
    group {{
{members}    }}
}}
{instances}"
        )
    }

    /// vrrpd's.
    fn frr_conf(&self, priority: u8) -> String {
        let version = match self.version {
            Version::V2 => 2,
            Version::V3 => 3,
        };
        let mut lines = String::from("log stdout\ninterface wan\n");
        let mut add = |vrid: u8, addresses: &[String]| {
            lines += &format!(" vrrp {vrid} version {version}\n");
            lines += &format!(" vrrp {vrid} priority {priority}\n");
            lines += &format!(
                " vrrp {vrid} advertisement-interval {}\n",
                self.interval().as_millis()
            );
            for address in addresses {
                lines += &format!(" vrrp {vrid} {address}\n");
            }
        };
        if self.addresses.has_four() {
            add(WAN_VRID, &[format!("ip {WAN_VIRTUAL}")]);
        }
        if self.addresses.has_six() {
            // Its link-local address is the one that its adverts come from: it shares none.
            add(VRID6, &[format!("ipv6 {GLOBAL}")]);
        }
        lines
    }
}

/// A running peer.
#[derive(Debug)]
pub struct Rival<'a> {
    lab: &'a Lab,
    mode: Mode,
    side: Side,
    /// Its processes.
    pub router: Router,
}

impl<'a> Rival<'a> {
    /// Starts what the mode names in a router's place.
    #[must_use]
    pub fn start(lab: &'a Lab, mode: Mode, side: Side, priority: u8) -> Self {
        prepare(lab, side);
        let file = lab.path("rival.conf");
        let text = match mode.peer {
            Peer::Keepalived => mode.keepalived_conf(side, priority),
            Peer::Frr => mode.frr_conf(priority),
        };
        fs::write(&file, text).expect("a writable directory");
        let router = match mode.peer {
            Peer::Keepalived => lab.keepalived_with(side, &file),
            Peer::Frr => {
                macvlans(lab, side, mode);
                lab.frr_with(side, &file)
            }
        };
        Self {
            lab,
            mode,
            side,
            router,
        }
    }

    /// Whether it says of every virtual router that it is Active, or that it is Backup.
    #[must_use]
    pub fn says(&self, active: bool) -> bool {
        match self.mode.peer {
            Peer::Keepalived => {
                let log = self.router.log();
                let names = [
                    ("four", self.mode.addresses.has_four()),
                    ("six", self.mode.addresses.has_six()),
                ];
                let state = if active {
                    "MASTER STATE"
                } else {
                    "BACKUP STATE"
                };
                names
                    .iter()
                    .filter(|(_, is_there)| *is_there)
                    .all(|(name, _)| {
                        let mut lines = log
                            .lines()
                            .rev()
                            .filter(|line| line.contains(&format!("({name}) Entering")));
                        lines.next().is_some_and(|line| line.contains(state))
                    })
            }
            Peer::Frr => {
                let text = self.vtysh(&["show vrrp"]);
                let state = if active { "Master" } else { "Backup" };
                let status = |version: &str| {
                    let line = format!("Status ({version})");
                    text.lines()
                        .any(|text| text.trim_start().starts_with(&line) && text.contains(state))
                };
                (!self.mode.addresses.has_four() || status("v4"))
                    && (!self.mode.addresses.has_six() || status("v6"))
            }
        }
    }

    /// Gives it another priority while it runs.
    pub fn set_priority(&self, priority: u8) {
        match self.mode.peer {
            Peer::Keepalived => {
                let text = self.mode.keepalived_conf(self.side, priority);
                fs::write(self.lab.path("rival.conf"), text).expect("a writable directory");
                self.router.reload();
            }
            Peer::Frr => {
                let vrid = if self.mode.addresses.has_four() {
                    WAN_VRID
                } else {
                    VRID6
                };
                let line = format!("vrrp {vrid} priority {priority}");
                self.vtysh(&["configure terminal", "interface wan", &line]);
            }
        }
    }

    /// Its processes are killed and its addresses are gone, as if its power were lost.
    pub fn power_off(self) {
        let Self {
            lab, side, router, ..
        } = self;
        router.power_off();
        clear(lab, side);
    }

    /// It is asked to end.
    pub fn stop(self) {
        let Self {
            lab, side, router, ..
        } = self;
        router.stop();
        clear(lab, side);
    }

    fn vtysh(&self, lines: &[&str]) -> String {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(self.lab.path("frr"));
        for line in lines {
            command.args(["-c", line]);
        }
        let output = command.output().expect("vtysh is there");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// The kernel has a router's own addresses, and speaks IPv6.
fn prepare(lab: &Lab, side: Side) {
    clear(lab, side);
    lab.speak_ipv6(side.name(), "wan", true);
    lab.add(side.name(), &format!("{}/24", own(side)), "wan");
    lab.add(side.name(), &format!("{}/64", own6(side)), "wan");
}

/// The kernel has nothing any more that could answer beside an appliance.
pub(crate) fn clear(lab: &Lab, side: Side) {
    for link in ["vrrp4", "vrrp6", "vr51", "vr61"] {
        lab.delete_link(side.name(), link);
    }
    lab.speak_ipv6(side.name(), "wan", false);
    lab.flush(side.name(), "wan");
}

/// The interfaces that FRR wants to find: the virtual addresses on top of the virtual MAC address.
fn macvlans(lab: &Lab, side: Side, mode: Mode) {
    let space = lab.space(side.name());
    let at_once = ["-qw", "net.ipv6.conf.default.accept_dad=0"];
    space.run("sysctl", &at_once, "").expect("root may");
    if mode.addresses.has_four() {
        let mac = virtual_mac(WAN_VRID);
        let lines = format!(
            "link add vrrp4 link wan type macvlan mode bridge\nlink set vrrp4 address {mac}\n\
             addr add {WAN_VIRTUAL}/24 dev vrrp4\nlink set vrrp4 up\n"
        );
        space.ip_all(&lines).expect("the kernel has macvlan");
    }
    if mode.addresses.has_six() {
        let lines = format!(
            "link add vrrp6 link wan type macvlan mode bridge\nlink set vrrp6 address 00:00:5e:00:02:{VRID6:02x}\n\
             addr add {GLOBAL}/64 dev vrrp6 nodad\nlink set vrrp6 up\n"
        );
        space.ip_all(&lines).expect("the kernel has macvlan");
    }
}

fn own(side: Side) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, side.host_number())
}

fn own6(side: Side) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, side.host_number().into())
}

/// What RFC 4291 makes of a router's MAC address.
fn link_local(side: Side) -> Ipv6Addr {
    Ipv6Addr::new(
        0xfe80,
        0,
        0,
        0,
        0,
        0x00ff,
        0xfe00,
        side.host_number().into(),
    )
}
