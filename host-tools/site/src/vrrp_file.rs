//! `[vrrp]`, `[pair]`, `[[track]]` and what networks say of their virtual routers, as written.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use policy::{Announce, Checksum, HmacMode, Version};
use toml::de::DeValue;

use crate::{
    error::Problem,
    plan::Port,
    read::{At, Count, Interval, KeyId, Misses, Table, Value, Vrid, Wrong, number, text},
    service_file::part,
    value::milliseconds,
};

/// Settings of all virtual routers; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    pub(crate) interval: Option<At<Interval>>,
    pub(crate) preempt: Option<At<bool>>,
    pub(crate) preempt_delay: Option<At<Delay>>,
    pub(crate) start_delay: Option<At<Delay>>,
    pub(crate) version: Option<At<Version>>,
    pub(crate) accept: Option<At<bool>>,
    pub(crate) virtual_mac: Option<At<bool>>,
    pub(crate) checksum: Option<At<Checksum>>,
    pub(crate) strict_addresses: Option<At<bool>>,
    pub(crate) unicast: Option<At<bool>>,
    pub(crate) ttl: Option<At<Ttl>>,
    pub(crate) router_advertisement: Option<At<RouterAdvertisement>>,
    pub(crate) authentication: Option<AuthenticationEntry>,
    pub(crate) announce: Option<AnnounceEntry>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 14] = [
        "advertisement_interval",
        "preempt",
        "preempt_delay",
        "start_delay",
        "version",
        "accept",
        "virtual_mac",
        "checksum",
        "strict_addresses",
        "unicast",
        "ttl",
        "router_advertisement",
        "authentication",
        "announce",
    ];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Self {
        let authentication = part(
            table,
            "authentication",
            &AUTHENTICATION,
            authentication,
            problems,
        );
        let announce = part(table, "announce", &ANNOUNCE, announce, problems);
        Self {
            interval: table.required("advertisement_interval", problems),
            preempt: table.required("preempt", problems),
            preempt_delay: table.optional("preempt_delay", problems).flatten(),
            start_delay: table.optional("start_delay", problems).flatten(),
            version: table.optional("version", problems).flatten(),
            accept: table.optional("accept", problems).flatten(),
            virtual_mac: table.optional("virtual_mac", problems).flatten(),
            checksum: table.optional("checksum", problems).flatten(),
            strict_addresses: table.optional("strict_addresses", problems).flatten(),
            unicast: table.optional("unicast", problems).flatten(),
            ttl: table.optional("ttl", problems).flatten(),
            router_advertisement: table.optional("router_advertisement", problems).flatten(),
            authentication: authentication.flatten(),
            announce: announce.flatten(),
        }
    }
}

pub(crate) struct AuthenticationEntry {
    pub(crate) kind: At<AuthenticationKind>,
    pub(crate) file: Option<At<String>>,
    pub(crate) keys: Vec<KeyEntry>,
    pub(crate) mode: Option<At<HmacMode>>,
}

/// A key, and the file that it is in.
pub(crate) struct KeyEntry {
    pub(crate) id: At<KeyId>,
    pub(crate) file: At<String>,
}

pub(crate) const AUTHENTICATION: [&str; 4] = ["kind", "file", "keys", "mode"];
pub(crate) const KEY: [&str; 2] = ["id", "file"];

fn authentication(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<AuthenticationEntry> {
    let kind = table.required("kind", problems);
    let file = table.optional("file", problems);
    let mode = table.optional("mode", problems);
    let mut keys = Vec::new();
    for (place, entries) in table.array("keys", problems) {
        let table = Table::new("a key", place, entries, &KEY, problems);
        let id = table.required("id", problems);
        let file = table.required("file", problems);
        keys.push(KeyEntry {
            id: id?,
            file: file?,
        });
    }
    Some(AuthenticationEntry {
        kind: kind?,
        file: file?,
        keys,
        mode: mode?,
    })
}

#[derive(Default)]
pub(crate) struct AnnounceEntry {
    pub(crate) preset: Option<At<Preset>>,
    pub(crate) repeat: Option<At<Count>>,
    pub(crate) gap: Option<At<Gap>>,
    pub(crate) second: Option<At<Gap>>,
    pub(crate) refresh: Option<At<Refresh>>,
    pub(crate) rival: Option<At<Few>>,
    pub(crate) replies: Option<At<bool>>,
}

pub(crate) const ANNOUNCE: [&str; 7] = [
    "preset", "repeat", "gap", "second", "refresh", "rival", "replies",
];

fn announce(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<AnnounceEntry> {
    let preset = table.optional("preset", problems);
    let repeat = table.optional("repeat", problems);
    let gap = table.optional("gap", problems);
    let second = table.optional("second", problems);
    let refresh = table.optional("refresh", problems);
    let rival = table.optional("rival", problems);
    let replies = table.optional("replies", problems);
    Some(AnnounceEntry {
        preset: preset?,
        repeat: repeat?,
        gap: gap?,
        second: second?,
        refresh: refresh?,
        rival: rival?,
        replies: replies?,
    })
}

/// One virtual router: the network's own, or one of `routers`.
pub(crate) struct RouterEntry {
    pub(crate) vrid: At<Vrid>,
    /// The identifier of its IPv6 half, if another.
    pub(crate) vrid6: Option<At<Vrid>>,
    pub(crate) v4: Vec<At<Ipv4Addr>>,
    pub(crate) v6: Vec<At<Ipv6Addr>>,
    /// Of both versions, not listed in adverts.
    pub(crate) excluded: Vec<At<IpAddr>>,
}

pub(crate) const ROUTER: [&str; 5] = ["vrid", "vrid6", "virtual", "virtual6", "excluded"];

impl RouterEntry {
    /// The identifier of its IPv6 half.
    pub(crate) fn vrid6(&self) -> u8 {
        self.vrid6.as_ref().unwrap_or(&self.vrid).get_ref().0
    }
}

/// The `routers` of a network besides its own: `None` if one of them could not be read.
pub(crate) fn routers(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Vec<RouterEntry>> {
    let mut routers = Vec::new();
    for (place, entries) in table.array("routers", problems) {
        let table = Table::new("a virtual router", place, entries, &ROUTER, problems);
        let vrid = table.required("vrid", problems);
        let vrid6 = table.optional("vrid6", problems);
        let v4 = table.list("virtual", problems);
        let v6 = table.list("virtual6", problems);
        let excluded = table.list("excluded", problems);
        routers.push(RouterEntry {
            vrid: vrid?,
            vrid6: vrid6?,
            v4: v4?,
            v6: v6?,
            excluded: excluded?,
        });
    }
    Some(routers)
}

/// `[pair]`.
pub(crate) struct PairEntry {
    pub(crate) place: Range<usize>,
    pub(crate) heartbeat: Option<At<Heartbeat>>,
    pub(crate) misses: Option<At<Misses>>,
    pub(crate) networks: Vec<At<String>>,
    pub(crate) serial: Option<At<bool>>,
    pub(crate) sync: Option<At<bool>>,
    pub(crate) defer: Option<At<bool>>,
}

pub(crate) const PAIR: [&str; 6] = ["heartbeat", "misses", "networks", "serial", "sync", "defer"];

pub(crate) fn pair(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<PairEntry> {
    let heartbeat = table.optional("heartbeat", problems);
    let misses = table.optional("misses", problems);
    let networks = table.list("networks", problems);
    let serial = table.optional("serial", problems);
    let sync = table.optional("sync", problems);
    let defer = table.optional("defer", problems);
    Some(PairEntry {
        place: table.place.clone(),
        heartbeat: heartbeat?,
        misses: misses?,
        networks: networks?,
        serial: serial?,
        sync: sync?,
        defer: defer?,
    })
}

/// `[[track]]`.
pub(crate) struct TrackEntry {
    pub(crate) place: Range<usize>,
    pub(crate) port: Option<At<Port>>,
    pub(crate) neighbours: Option<At<String>>,
    pub(crate) service: Option<At<String>>,
    pub(crate) posted: Option<At<crate::read::Label>>,
    pub(crate) weight: Option<At<TrackWeight>>,
    pub(crate) reverse: Option<At<bool>>,
}

pub(crate) const TRACK: [&str; 6] = [
    "port",
    "neighbours",
    "service",
    "posted",
    "weight",
    "reverse",
];

pub(crate) fn track(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<TrackEntry> {
    let port = table.optional("port", problems);
    let neighbours = table.optional("neighbours", problems);
    let service = table.optional("service", problems);
    let posted = table.optional("posted", problems);
    let weight = table.optional("weight", problems);
    let reverse = table.optional("reverse", problems);
    Some(TrackEntry {
        place: table.place.clone(),
        port: port?,
        neighbours: neighbours?,
        service: service?,
        posted: posted?,
        weight: weight?,
        reverse: reverse?,
    })
}

fn wrong<T>(label: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Content(label.into()))
}

/// A delay in milliseconds.
pub(crate) struct Delay(pub(crate) u32);

impl Value for Delay {
    const WANTED: &'static str = "a time up to \"1000s\", such as \"30s\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match milliseconds(text(value)?)? {
            ms @ 0..=1_000_000 => Ok(Self(ms)),
            _ => wrong("longer than 1000 s"),
        }
    }
}

/// Between two heartbeats, in milliseconds.
pub(crate) struct Heartbeat(pub(crate) u16);

impl Value for Heartbeat {
    const WANTED: &'static str = "a time from \"1ms\" to \"1s\", such as \"50ms\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match u16::try_from(milliseconds(text(value)?)?) {
            Ok(ms @ 1..=1000) => Ok(Self(ms)),
            _ => wrong("not between 1 ms and 1 s"),
        }
    }
}

/// Between two announcements or bursts, in milliseconds.
pub(crate) struct Gap(pub(crate) u16);

impl Value for Gap {
    const WANTED: &'static str = "a time up to \"65s\", such as \"100ms\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match u16::try_from(milliseconds(text(value)?)?) {
            Ok(ms) => Ok(Self(ms)),
            Err(_) => wrong("longer than 65 s"),
        }
    }
}

/// Between two refreshing announcements, in seconds.
pub(crate) struct Refresh(pub(crate) u16);

impl Value for Refresh {
    const WANTED: &'static str = "a time up to \"18h\" in whole seconds, such as \"1m\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let ms = milliseconds(text(value)?)?;
        match u16::try_from(ms / 1000) {
            Ok(seconds) if ms % 1000 == 0 => Ok(Self(seconds)),
            _ => wrong("not whole seconds up to 18 h"),
        }
    }
}

/// Between two router advertisements, in seconds (RFC 4861 §6.2.1).
pub(crate) struct RouterAdvertisement(pub(crate) u16);

impl Value for RouterAdvertisement {
    const WANTED: &'static str = "a time from \"4s\" to \"30m\" in whole seconds";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match Refresh::read(value)? {
            Refresh(seconds @ 4..=1800) => Ok(Self(seconds)),
            Refresh(_) => wrong("not between 4 s and 30 min"),
        }
    }
}

/// How often something is done that need not be done.
pub(crate) struct Few(pub(crate) u8);

impl Value for Few {
    const WANTED: &'static str = "a whole number from 0 to 255";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let number = number(value, 0..=255)?;
        u8::try_from(number).map(Self).map_err(|_| Wrong::Type)
    }
}

/// What a condition costs or gives.
#[derive(Clone, Copy)]
pub(crate) struct TrackWeight(pub(crate) i16);

impl Value for TrackWeight {
    const WANTED: &'static str = "a whole number from -253 to 253";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let number = number(value, -253..=253)?;
        i16::try_from(number).map(Self).map_err(|_| Wrong::Type)
    }
}

/// TTLs that adverts may arrive with.
pub(crate) struct Ttl(pub(crate) u8, pub(crate) u8);

impl Value for Ttl {
    const WANTED: &'static str = "a TTL such as 255, or a range such as \"253-255\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if value.as_str().is_none() {
            let ttl = u8::try_from(number(value, 1..=255)?).map_err(|_| Wrong::Type)?;
            return Ok(Self(ttl, ttl));
        }
        let (first, last) = (text(value)?.split_once('-')).ok_or(Wrong::Type)?;
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Self(first, last)),
            _ => wrong("not a range of TTLs from 1 to 255"),
        }
    }
}

impl Value for Version {
    const WANTED: &'static str = "3 (RFC 9568), or 2 (RFC 3768) beside old routers";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match number(value, 2..=3)? {
            2 => Ok(Self::V2),
            _ => Ok(Self::V3),
        }
    }
}

impl Value for Checksum {
    const WANTED: &'static str =
        "\"rfc9568\" (over the message) or \"pseudo-header\" (as Debian's keepalived wants it)";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "rfc9568" => Ok(Self::Message),
            "pseudo-header" => Ok(Self::PseudoHeader),
            _ => wrong("not a form of the checksum"),
        }
    }
}

impl Value for HmacMode {
    const WANTED: &'static str = "\"enforce\", \"permissive\" or \"receive-only\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "enforce" => Ok(Self::Enforce),
            "permissive" => Ok(Self::Permissive),
            "receive-only" => Ok(Self::ReceiveOnly),
            _ => wrong("not a mode"),
        }
    }
}

/// How adverts are authenticated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthenticationKind {
    Password,
    Hmac,
}

impl Value for AuthenticationKind {
    const WANTED: &'static str = "\"hmac\" (version 3), or \"password\" (version 2)";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "password" => Ok(Self::Password),
            "hmac" => Ok(Self::Hmac),
            _ => wrong("adverts are not authenticated like this"),
        }
    }
}

/// How addresses are announced, as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    Quick,
    Normal,
    Patient,
}

impl Preset {
    pub(crate) fn announce(self) -> Announce {
        let normal = Announce::default();
        match self {
            // Often and soon: for networks that lose some.
            Self::Quick => Announce {
                repeat: 5,
                gap: 20,
                second: 1000,
                refresh: 10,
                rival: 5,
                ..normal
            },
            Self::Normal => normal,
            // For switches that limit ARP.
            Self::Patient => Announce {
                repeat: 2,
                gap: 500,
                second: 10_000,
                refresh: 300,
                rival: 1,
                ..normal
            },
        }
    }
}

impl Value for Preset {
    const WANTED: &'static str = "\"quick\", \"normal\" or \"patient\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "quick" => Ok(Self::Quick),
            "normal" => Ok(Self::Normal),
            "patient" => Ok(Self::Patient),
            _ => wrong("not a way to announce addresses"),
        }
    }
}

impl Value for IpAddr {
    const WANTED: &'static str = "an address such as \"203.0.113.11\" or \"2001:db8:1::11\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text(value)?.parse().or_else(|_| wrong("not an address"))
    }
}
