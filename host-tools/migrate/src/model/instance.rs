//! `vrrp_instance`.

use std::net::IpAddr;

use super::{At, Globals, Keepalived, Kind, Note, address, is_on, known, number, seconds};
use crate::conf::{Place, Statement};

/// One virtual router.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// The network interface.
    pub interface: Option<At<String>>,
    /// Whether it begins as MASTER: then `nopreempt` and `preempt_delay` mean nothing to keepalived.
    pub master: bool,
    /// `virtual_router_id`.
    pub vrid: Option<At<u8>>,
    /// 1 to 255, 100 unless said.
    pub priority: At<u8>,
    /// `advert_int` in centiseconds, a second unless said.
    pub interval: At<u16>,
    /// 2 or 3.
    pub version: u8,
    /// Whether a better router takes over.
    pub preempt: bool,
    /// The line with `nopreempt`, where it counts.
    pub nopreempt: Option<Place>,
    /// In milliseconds.
    pub preempt_delay: Option<At<u32>>,
    /// Accept_Mode.
    pub accept: bool,
    /// `use_vmac`.
    pub virtual_mac: bool,
    /// Whether the checksum of version 3 is over the message alone.
    pub checksum_as_v2: bool,
    /// Listed in adverts.
    pub addresses: Vec<At<Address>>,
    /// Not listed.
    pub excluded: Vec<At<Address>>,
    /// Source of adverts.
    pub source: Option<At<IpAddr>>,
    /// `unicast_peer`.
    pub peers: Vec<At<Peer>>,
    /// The default route that the Active sets.
    pub routes: Vec<At<Route>>,
    /// How adverts are authenticated.
    pub authentication: Option<At<Authentication>>,
    /// Gratuitous ARP.
    pub garp: Garp,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Itself.
    pub ip: IpAddr,
    /// Bits of its subnet, if said.
    pub prefix: Option<u8>,
    /// The interface, if another than the instance's.
    pub device: Option<String>,
}

/// A router that adverts are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address.
    pub ip: IpAddr,
    /// `min_ttl` and `max_ttl`.
    pub ttl: Option<(u8, u8)>,
}

/// A default route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The next router.
    pub via: IpAddr,
}

/// How adverts are authenticated. The secrets themselves are left where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// `auth_type PASS`.
    Password,
    /// `auth_hmac`: identifiers of the keys, the sending one first; and the mode.
    Hmac {
        /// Identifiers of the keys, the one that signs first.
        keys: Vec<u8>,
        /// enforce, permissive or receive-only.
        mode: String,
    },
}

/// The knobs of gratuitous ARP; what was not said is `None`.
#[derive(Clone, Debug, Default)]
pub struct Garp {
    /// `garp_master_delay` in seconds.
    pub delay: Option<At<u8>>,
    /// `garp_master_repeat`.
    pub repeat: Option<At<u8>>,
    /// `garp_master_refresh` in seconds.
    pub refresh: Option<At<u16>>,
    /// `garp_lower_prio_repeat`.
    pub lower: Option<At<u8>>,
    /// `vrrp_garp_interval` in milliseconds.
    pub gap: Option<At<u32>>,
}

impl Garp {
    /// Takes a line that is about it.
    pub(super) fn read(&mut self, keyword: &str, line: &Statement, notes: &mut Vec<Note>) -> bool {
        match keyword {
            "garp_master_delay" => {
                self.delay = number(line, 0, 65, notes).map(|n| At::new(n, line));
            }
            "garp_master_repeat" => {
                self.repeat = number(line, 1, 255, notes).map(|n| At::new(n, line));
            }
            "garp_master_refresh" => {
                self.refresh = number(line, 0, 65_535, notes).map(|n| At::new(n, line));
            }
            "garp_lower_prio_repeat" => {
                self.lower = number(line, 0, 255, notes).map(|n| At::new(n, line));
            }
            "garp_master_refresh_repeat" | "garp_lower_prio_delay" => {
                let why = "as often and as late as after a take-over";
                notes.push(Note::new(Kind::Changed, line, why));
            }
            _ => return false,
        }
        true
    }
}

pub(super) fn read(block: &Statement, globals: &Globals, all: &mut Keepalived) -> Instance {
    let mut instance = Instance {
        name: block.arguments().first().cloned().unwrap_or_default(),
        place: block.place.clone(),
        interface: None,
        master: false,
        vrid: None,
        priority: At::new(100, block),
        interval: At::new(100, block),
        version: globals.version.unwrap_or(2),
        preempt: true,
        nopreempt: None,
        preempt_delay: None,
        accept: !globals.strict && !globals.no_accept,
        virtual_mac: false,
        checksum_as_v2: globals.v3_checksum_as_v2,
        addresses: Vec::new(),
        excluded: Vec::new(),
        source: None,
        peers: Vec::new(),
        routes: Vec::new(),
        authentication: None,
        garp: globals.garp.clone(),
    };
    for line in block.lines() {
        line_of(&mut instance, line, all);
    }
    // An instance is of the family of its addresses, and version 2 knows IPv4 only.
    if instance.is_v6() {
        instance.version = 3;
    }
    if instance.master && !instance.preempt {
        if let Some(place) = instance.nopreempt.take() {
            all.notes.push(Note {
                place,
                kind: Kind::Changed,
                what: "nopreempt".to_owned(),
                why: "keepalived ignores it, because its state is MASTER: preempt = true"
                    .to_owned(),
            });
        }
        instance.preempt = true;
    }
    instance
}

fn line_of(instance: &mut Instance, line: &Statement, all: &mut Keepalived) {
    let notes = &mut all.notes;
    match line.keyword() {
        "interface" => {
            instance.interface = line.arguments().first().map(|n| At::new(n.clone(), line));
        }
        "state" => instance.master = line.arguments().first().is_some_and(|s| s == "MASTER"),
        "virtual_router_id" => {
            instance.vrid = number(line, 1, 255, notes).map(|n| At::new(n, line));
        }
        "priority" => {
            if let Some(priority) = number(line, 1, 255, notes) {
                instance.priority = At::new(priority, line);
            }
        }
        "advert_int" => {
            // Version 3 has 12 bits of centiseconds; finer parts keepalived rounds as well.
            let ms = seconds(line, 255, notes).map(|ms| ms.div_ceil(10).max(1));
            if let Some(interval) = ms.and_then(|cs| u16::try_from(cs).ok()) {
                instance.interval = At::new(interval, line);
            }
        }
        "version" => {
            if let Some(version) = number(line, 2, 3, notes) {
                instance.version = version;
            }
        }
        "nopreempt" => {
            instance.preempt = false;
            instance.nopreempt = Some(line.place.clone());
        }
        "preempt" => {
            instance.preempt = true;
            instance.nopreempt = None;
        }
        "preempt_delay" => {
            instance.preempt_delay = seconds(line, 1000, notes).map(|ms| At::new(ms, line));
        }
        "accept" => instance.accept = true,
        "no_accept" => instance.accept = false,
        "strict_mode" => instance.accept &= !is_on(line),
        "use_vmac" => instance.virtual_mac = true,
        "v3_checksum_as_v2" => instance.checksum_as_v2 = is_on(line),
        "virtual_ipaddress" => addresses(line, &mut instance.addresses, notes),
        "virtual_ipaddress_excluded" => addresses(line, &mut instance.excluded, notes),
        "unicast_src_ip" | "mcast_src_ip" => instance.source = address(line, notes),
        "unicast_peer" => {
            for line in line.lines() {
                instance.peers.extend(peer(line, notes));
            }
        }
        "virtual_routes" => {
            for line in line.lines() {
                match default_route(line) {
                    Some(route) => instance.routes.push(At::new(route, line)),
                    None => notes.push(Note::new(
                        Kind::Lost,
                        line,
                        "an appliance knows its networks and one default route, the `uplink` of the wan",
                    )),
                }
            }
        }
        "authentication" => {
            let kind = line.lines().iter().find(|l| l.keyword() == "auth_type");
            match kind
                .and_then(|line| line.arguments().first())
                .map(String::as_str)
            {
                Some("PASS") => {
                    instance.authentication = Some(At::new(Authentication::Password, line));
                }
                _ => notes.push(Note::new(
                    Kind::Lost,
                    line,
                    "only PASS has a counterpart: RFC 3768 took AH out of VRRP",
                )),
            }
        }
        "auth_hmac" => instance.authentication = Some(At::new(hmac(line, notes), line)),
        keyword => {
            if !instance.garp.read(keyword, line, notes) {
                let tracks = ["track_interface", "track_script", "track_file"];
                if tracks.contains(&keyword) {
                    all.tracked(line);
                } else {
                    all.notes.push(known::note(line));
                }
            }
        }
    }
}

impl Instance {
    /// Whether its adverts are IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        (self.addresses.iter().chain(&self.excluded))
            .next()
            .is_some_and(|address| address.value.ip.is_ipv6())
    }
}

fn addresses(block: &Statement, into: &mut Vec<At<Address>>, notes: &mut Vec<Note>) {
    for line in block.lines() {
        let (ip, prefix) = match line.keyword().split_once('/') {
            Some((ip, prefix)) => (ip, prefix.parse::<u8>().ok()),
            None => (line.keyword(), None),
        };
        let Ok(ip) = ip.parse::<IpAddr>() else {
            notes.push(Note::new(Kind::Lost, line, "not an address"));
            continue;
        };
        let whole = if ip.is_ipv6() { 128 } else { 32 };
        let words = line.arguments();
        let device = words.iter().position(|word| word == "dev");
        let address = Address {
            ip,
            // The whole address says nothing about its subnet.
            prefix: prefix.filter(|bits| *bits < whole),
            device: device.and_then(|at| words.get(at + 1)).cloned(),
        };
        into.push(At::new(address, line));
    }
}

fn peer(line: &Statement, notes: &mut Vec<Note>) -> Option<At<Peer>> {
    let Ok(ip) = line.keyword().parse() else {
        notes.push(Note::new(Kind::Lost, line, "not an address"));
        return None;
    };
    let words = line.arguments();
    let ttl = |key: &str| {
        let at = words.iter().position(|word| word == key)?;
        words.get(at + 1)?.parse().ok()
    };
    let (min, max) = (ttl("min_ttl"), ttl("max_ttl"));
    let ttl = (min.is_some() || max.is_some()).then(|| (min.unwrap_or(0), max.unwrap_or(255)));
    Some(At::new(Peer { ip, ttl }, line))
}

/// The next router of a default route.
fn default_route(line: &Statement) -> Option<Route> {
    let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
    let all = ["default", "0.0.0.0/0", "0/0", "::/0"];
    let is_default = words.iter().any(|word| all.contains(word));
    let via = (words.iter()).position(|word| matches!(*word, "via" | "gw"))?;
    let special = words.iter().any(|word| matches!(*word, "table" | "or"));
    let via = words.get(via + 1)?.parse().ok()?;
    (is_default && !special).then_some(Route { via })
}

fn hmac(block: &Statement, notes: &mut Vec<Note>) -> Authentication {
    let mut keys = Vec::new();
    let mut active = None;
    let mut mode = "enforce".to_owned();
    for line in block.lines() {
        match line.keyword() {
            "key" => keys.extend(number::<u8>(line, 1, 255, notes)),
            "active_key" => active = number::<u8>(line, 1, 255, notes),
            "mode" => mode = line.arguments().first().cloned().unwrap_or(mode),
            _ => notes.push(known::note(line)),
        }
    }
    // The one that signs comes first.
    if let Some(at) = active.and_then(|active| keys.iter().position(|key| *key == active)) {
        keys[..=at].rotate_right(1);
    }
    Authentication::Hmac { keys, mode }
}
