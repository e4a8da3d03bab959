//! From what keepalived was asked to do to a site file that asks for the same.
//!
//! The result is a whole site file. What the configuration cannot know stands there as `"TODO: …"`, which `ravelin check`
//! refuses until it is filled in.

use std::collections::BTreeSet;

use toml_edit::{ArrayOfTables, DocumentMut, InlineTable, Item, Table};

use crate::{
    agree::{differences, key},
    conf::Place,
    model::{Authentication, Instance, Keepalived, Kind, Note, Tracked},
};

mod networks;
mod services;
mod write;

use networks::{Net, nets};
use write::{put, put_item, time, to_do};

/// One keepalived, and what the appliance in its place will be called.
#[derive(Clone, Debug)]
pub struct Node {
    /// A name as site files have them.
    pub name: String,
    /// What it was asked to do.
    pub keepalived: Keepalived,
}

/// A site file, and what its reader has to know.
#[derive(Clone, Debug)]
pub struct Import {
    /// The text of the site file.
    pub site: String,
    /// Lines of the configurations that are not in it, or not alike, in their order.
    pub notes: Vec<Note>,
}

/// The site file of one keepalived or of both of a pair; the first one is the model, the other one is compared with it.
#[must_use]
pub fn site(nodes: &[Node]) -> Import {
    let mut notes: Vec<Note> = Vec::new();
    for node in nodes {
        notes.extend(node.keepalived.notes.iter().cloned());
    }
    let Some(first) = nodes.first() else {
        return Import {
            site: String::new(),
            notes,
        };
    };
    let nets = nets(&first.keepalived, &mut notes);
    let mut document = DocumentMut::new();
    let root = document.as_table_mut();
    root.insert("site", Item::Table(about()));
    root.insert("vrrp", Item::Table(vrrp(&first.keepalived, &mut notes)));
    let watched = watched(&first.keepalived, &nets, &mut notes);
    let mut networks = Table::new();
    networks.set_implicit(true);
    for net in &nets {
        let table = networks::table(net, &nets, &first.keepalived, &watched);
        networks.insert(&net.name, Item::Table(table));
    }
    if let Some((name, table)) = networks::other_side(&nets) {
        networks.insert(name, Item::Table(table));
    }
    root.insert("networks", Item::Table(networks));
    root.insert(
        "appliances",
        Item::Table(appliances(nodes, &nets, &mut notes)),
    );
    let balanced = services::of(&first.keepalived, &nets, &mut notes);
    root.insert("servers", Item::Table(services::servers(&balanced, &nets)));
    if !watched.tracks.is_empty() {
        let tracks: ArrayOfTables = watched.tracks.into_iter().collect();
        root.insert("track", Item::ArrayOfTables(tracks));
    }
    if !balanced.services.is_empty() {
        let services = services::tables(&balanced, &nets, &mut notes);
        root.insert("services", Item::Table(services));
    }
    if let Some(other) = nodes.get(1) {
        compare(&first.keepalived, &other.keepalived, &mut notes);
    }
    notes.sort();
    notes.dedup();
    let files: BTreeSet<String> = (nodes.iter())
        .flat_map(|node| &node.keepalived.instances)
        .map(|instance| instance.place.file.clone())
        .collect();
    let files: Vec<String> = files.into_iter().collect();
    let head = format!(
        "# From {} by `ravelin import`. Comments name the lines that values come from. What still says TODO was not\n\
         # in there: `ravelin check` points at each.\n\n",
        if files.is_empty() {
            "a keepalived.conf".to_owned()
        } else {
            files.join(" and ")
        }
    );
    Import {
        site: format!("{head}{document}"),
        notes,
    }
}

fn about() -> Table {
    let mut table = Table::new();
    to_do(&mut table, "name", "of the site: letters, digits, hyphens");
    to_do(&mut table, "domain", "the name users type");
    table
}

/// What all virtual routers share; instances that differ are noted.
fn vrrp(keepalived: &Keepalived, notes: &mut Vec<Note>) -> Table {
    let mut table = Table::new();
    let instances = &keepalived.instances;
    let Some(first) = instances.first() else {
        to_do(&mut table, "advertisement_interval", "such as \"1s\"");
        put(&mut table, "preempt", true, None);
        return table;
    };
    let interval = &first.interval;
    put(
        &mut table,
        "advertisement_interval",
        time(u32::from(interval.value) * 10),
        Some(&interval.place),
    );
    put(
        &mut table,
        "preempt",
        first.preempt,
        first.nopreempt.as_ref(),
    );
    if let Some(delay) = &first.preempt_delay {
        let ignored = match (first.master, first.preempt) {
            (true, _) => Some("its state is MASTER"),
            (false, false) => Some("it has nopreempt"),
            (false, true) => None,
        };
        match ignored {
            Some(why) => notes.push(Note {
                place: delay.place.clone(),
                kind: Kind::Changed,
                what: "preempt_delay".to_owned(),
                why: format!("keepalived ignores it, because {why}"),
            }),
            None => put(
                &mut table,
                "preempt_delay",
                time(delay.value),
                Some(&delay.place),
            ),
        }
    }
    if let Some(delay) = &keepalived.start_delay {
        put(
            &mut table,
            "start_delay",
            time(delay.value),
            Some(&delay.place),
        );
    }
    let v4 = instances.iter().find(|instance| !instance.is_v6());
    match v4 {
        Some(v4) if v4.version == 2 => put(&mut table, "version", 2, None),
        Some(v4) if !v4.checksum_as_v2 => put(&mut table, "checksum", "pseudo-header", None),
        Some(_) | None => {}
    }
    if !first.accept {
        put(&mut table, "accept", false, None);
    }
    put(&mut table, "virtual_mac", first.virtual_mac, None);
    if let Some((peer, at)) = instances.iter().find_map(|i| Some((i.peers.first()?, i))) {
        put(&mut table, "unicast", true, Some(&peer.place));
        if let Some((lowest, highest)) = peer.value.ttl {
            put(
                &mut table,
                "ttl",
                format!("{}-{highest}", lowest.max(1)),
                Some(&peer.place),
            );
        } else {
            // Without limits keepalived takes any.
            put(&mut table, "ttl", "1-255", Some(&at.place));
        }
    }
    if let Some(authentication) = &first.authentication {
        table.insert(
            "authentication",
            Item::Table(authenticated(
                &authentication.value,
                &authentication.place,
                v4,
                notes,
            )),
        );
    }
    let announce = announce(first);
    if !announce.is_empty() {
        table.insert("announce", Item::Table(announce));
    }
    for other in instances.iter().skip(1) {
        unlike(first, other, notes);
    }
    table
}

fn authenticated(
    authentication: &Authentication,
    place: &Place,
    v4: Option<&Instance>,
    notes: &mut Vec<Note>,
) -> Table {
    let mut table = Table::new();
    let mut note = |kind, why: &str| {
        notes.push(Note {
            place: place.clone(),
            kind,
            what: "authentication".to_owned(),
            why: why.to_owned(),
        });
    };
    match authentication {
        Authentication::Password => {
            put(&mut table, "kind", "password", Some(place));
            put(&mut table, "file", "vrrp.password", None);
            note(
                Kind::Changed,
                "put the password into the file `vrrp.password` beside the site file (chmod 600)",
            );
            if v4.is_some_and(|v4| v4.version == 3) {
                note(
                    Kind::Lost,
                    "version 3 has no passwords (RFC 9568 §9): use version = 2 or an HMAC",
                );
            }
        }
        Authentication::Hmac { keys, mode } => {
            put(&mut table, "kind", "hmac", Some(place));
            let files = keys.iter().take(policy::MAX_KEYS).map(|id| {
                let mut key = InlineTable::new();
                key.insert("id", i64::from(*id).into());
                key.insert("file", format!("vrrp-{id}.key").into());
                key
            });
            put(
                &mut table,
                "keys",
                files.collect::<toml_edit::Array>(),
                None,
            );
            put(&mut table, "mode", mode.as_str(), None);
            note(
                Kind::Changed,
                "put each key into its file `vrrp-ID.key` beside the site file (chmod 600), as keepalived's `file:` has them",
            );
            if keys.len() > policy::MAX_KEYS {
                note(
                    Kind::Lost,
                    "an appliance knows two keys: the one that signs, and one more",
                );
            }
        }
    }
    table
}

/// Only what was said: the defaults of appliances announce at least as well.
fn announce(instance: &Instance) -> Table {
    let mut table = Table::new();
    let garp = &instance.garp;
    if let Some(repeat) = &garp.repeat {
        put(
            &mut table,
            "repeat",
            i64::from(repeat.value),
            Some(&repeat.place),
        );
    }
    if let Some(gap) = &garp.gap {
        put(&mut table, "gap", time(gap.value.max(1)), Some(&gap.place));
    }
    for (key, seconds) in [
        (
            "second",
            garp.delay.as_ref().map(|d| (u16::from(d.value), &d.place)),
        ),
        (
            "refresh",
            garp.refresh.as_ref().map(|r| (r.value, &r.place)),
        ),
    ] {
        if let Some((seconds, place)) = seconds {
            put(&mut table, key, format!("{seconds}s"), Some(place));
        }
    }
    if let Some(lower) = &garp.lower {
        put(
            &mut table,
            "rival",
            i64::from(lower.value),
            Some(&lower.place),
        );
    }
    table
}

/// What two instances of one machine do differently and a site does for all alike.
fn unlike(first: &Instance, other: &Instance, notes: &mut Vec<Note>) {
    let mut note = |what: &str, differs: bool| {
        if differs {
            notes.push(Note {
                place: other.place.clone(),
                kind: Kind::Changed,
                what: format!("{what} of {}", other.name),
                why: format!(
                    "as in {}: it is the same for all virtual routers of a site",
                    first.name
                ),
            });
        }
    };
    let kind = |instance: &Instance| instance.authentication.as_ref().map(|a| a.value.clone());
    note("preempt", other.preempt != first.preempt);
    note(
        "version",
        !other.is_v6() && !first.is_v6() && other.version != first.version,
    );
    note("priority", other.priority.value != first.priority.value);
    note("unicast", other.peers.is_empty() != first.peers.is_empty());
    note("authentication", kind(other) != kind(first));
    let delay = |instance: &Instance| match (&instance.preempt_delay, instance.master) {
        (Some(delay), false) if instance.preempt => delay.value,
        _ => 0,
    };
    note("preempt_delay", delay(other) != delay(first));
}

/// What is watched: tables of `[[track]]`, and neighbours that networks name.
struct Watched {
    tracks: Vec<Table>,
    /// Network and address.
    neighbours: Vec<(String, std::net::Ipv4Addr, Place)>,
}

fn watched(keepalived: &Keepalived, nets: &[Net], notes: &mut Vec<Note>) -> Watched {
    let mut watched = Watched {
        tracks: Vec::new(),
        neighbours: Vec::new(),
    };
    let mut ports: BTreeSet<&str> = BTreeSet::new();
    for track in &keepalived.tracks {
        let name = &track.name.value;
        let mut note = |kind, why: String| {
            notes.push(Note {
                place: track.name.place.clone(),
                kind,
                what: name.clone(),
                why,
            });
        };
        let default = match track.what {
            Tracked::Interface => None,
            Tracked::Script => (keepalived.scripts.iter())
                .find(|script| script.name == *name)
                .map(|script| (script.weight, script.reverse)),
            Tracked::File => (keepalived.files.iter())
                .find(|(file, _)| file == name)
                .map(|(_, weight)| (*weight, false)),
        };
        let weight = (track.weight).or(default.map(|(weight, _)| weight));
        let preempts = keepalived
            .instances
            .first()
            .is_none_or(|first| first.preempt);
        if !preempts && weight.is_some_and(|weight| weight != 0) {
            let why =
                "with nopreempt nobody takes over from a weaker one: it never moved the addresses";
            note(Kind::Changed, why.to_owned());
            continue;
        }
        let mut entry = Table::new();
        match track.what {
            Tracked::Interface => {
                let Some(net) = nets.iter().find(|net| net.interface == *name) else {
                    note(
                        Kind::Lost,
                        "no virtual router is on this interface".to_owned(),
                    );
                    continue;
                };
                match (track.weight, net.port()) {
                    (None | Some(0), _) => {
                        let why = "a port without carrier is a fault by itself";
                        note(Kind::Needless, why.to_owned());
                        continue;
                    }
                    (Some(_), Some(port)) if !ports.insert(port) => {
                        note(Kind::Changed, format!("the port {port} is watched already"));
                        continue;
                    }
                    (Some(_), Some(port)) => put(&mut entry, "port", port, Some(&track.name.place)),
                    (Some(_), None) => to_do(&mut entry, "port", "wan or lan"),
                }
            }
            Tracked::Script => {
                let script = keepalived
                    .scripts
                    .iter()
                    .find(|script| script.name == *name);
                let command = script.and_then(|script| script.command.as_ref());
                let pinged = command.and_then(|command| pinged(&command.value));
                let net = pinged.and_then(|ip| nets.iter().find(|net| net.contains(ip)));
                let (Some(ip), Some(net), Some(command)) = (pinged, net, command) else {
                    let command = command.map_or("", |command| command.value.as_str());
                    note(Kind::Lost, format!("`{command}`: {}", why_lost(command)));
                    continue;
                };
                if Some(ip) != net.uplink.as_ref().map(|uplink| uplink.value) {
                    watched
                        .neighbours
                        .push((net.name.clone(), ip, command.place.clone()));
                }
                put(
                    &mut entry,
                    "neighbours",
                    net.name.as_str(),
                    Some(&command.place),
                );
                note(
                    Kind::Changed,
                    format!("{ip} is asked by ARP instead of `{}`", command.value),
                );
            }
            Tracked::File => {
                put(
                    &mut entry,
                    "posted",
                    write::label(name),
                    Some(&track.name.place),
                );
                let why = "a program posts good or bad under this name; its numbers are no weights";
                note(Kind::Changed, why.to_owned());
            }
        }
        match weight.unwrap_or(0) {
            0 => to_do(
                &mut entry,
                "weight",
                "was a fault of keepalived; write less than minus the difference of the priorities, so that one appliance is left if both are cut off",
            ),
            weight => put(
                &mut entry,
                "weight",
                i64::from(weight.clamp(-253, 253)),
                Some(&track.name.place),
            ),
        }
        if track.reverse || default.is_some_and(|(_, reverse)| reverse) {
            put(&mut entry, "reverse", true, Some(&track.name.place));
        }
        watched.tracks.push(entry);
    }
    watched
}

/// The address that a script does nothing but ping.
fn pinged(command: &str) -> Option<std::net::Ipv4Addr> {
    let mut words = command.split_whitespace();
    let program = words.next()?;
    let is_ping = program
        .rsplit('/')
        .next()
        .is_some_and(|name| matches!(name, "ping" | "arping" | "fping"));
    let mut addresses = words.clone().filter_map(|word| word.parse().ok());
    let plain = words.all(|word| !word.contains([';', '|', '&', '`', '$']));
    let address = addresses.next()?;
    (is_ping && plain && addresses.next().is_none()).then_some(address)
}

fn why_lost(command: &str) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| command.contains(word));
    if has(&["killall", "pidof", "pgrep", "systemctl", "service "]) {
        "no daemons run on an appliance; the services' own checks watch those of the servers"
    } else if has(&["curl", "wget", "nc ", "/dev/tcp", "check_tcp", "check_http"]) {
        "servers are watched by the checks of services: [[track]] service = \"…\" asks for their quorum"
    } else {
        "appliances run no programs; one elsewhere can post what it finds: [[track]] posted = \"…\""
    }
}

fn appliances(nodes: &[Node], nets: &[Net], notes: &mut Vec<Note>) -> Table {
    let mut table = Table::new();
    let hosts: Vec<Option<(u32, Place)>> = (nodes.iter())
        .map(|node| networks::host(&node.keepalived, nets))
        .collect();
    for (node, host) in nodes.iter().zip(&hosts) {
        let first = node.keepalived.instances.first();
        let mut entry = InlineTable::new();
        entry.insert(
            "board",
            write::open("a folder of boards/, or keepalived while it stays as it is").into(),
        );
        match first {
            Some(first) => entry.insert("priority", i64::from(first.priority.value).into()),
            None => entry.insert("priority", write::open("1 to 254").into()),
        };
        entry.insert(
            "host",
            match host {
                Some((host, _)) => i64::from(*host).into(),
                None => write::open("last part of its own address in each network").into(),
            },
        );
        put_item(
            &mut table,
            &node.name,
            entry,
            first.map(|first| &first.priority.place),
        );
        if let Some(first) = first.filter(|first| first.priority.value == 255) {
            notes.push(Note {
                place: first.priority.place.clone(),
                kind: Kind::Changed,
                what: "priority 255".to_owned(),
                why: "is for an appliance that has every virtual address as its own".to_owned(),
            });
        }
    }
    if let [only] = nodes {
        let peer = networks::peer_host(&only.keepalived, nets);
        let mut entry = InlineTable::new();
        entry.insert(
            "board",
            write::open("a folder of boards/, or keepalived while it stays as it is").into(),
        );
        entry.insert(
            "priority",
            write::open("another than the first's, as its keepalived.conf says").into(),
        );
        entry.insert(
            "host",
            match &peer {
                Some((host, _)) => i64::from(*host).into(),
                None => write::open("last part of its own address in each network").into(),
            },
        );
        let name = if only.name == "gw2" { "gw1" } else { "gw2" };
        put_item(
            &mut table,
            name,
            entry,
            peer.as_ref().map(|(_, place)| place),
        );
    }
    table
}

/// What keepalived lets differ between two machines until they both want the addresses.
fn compare(first: &Keepalived, other: &Keepalived, notes: &mut Vec<Note>) {
    let lost = |place: &Place, what: String, why: String| Note {
        place: place.clone(),
        kind: Kind::Lost,
        what,
        why,
    };
    for one in &other.instances {
        let Some(twin) = (first.instances.iter()).find(|twin| key(twin) == key(one)) else {
            let why = "the other machine has no such virtual router".to_owned();
            notes.push(lost(&one.place, one.name.clone(), why));
            continue;
        };
        for what in differences(one, twin) {
            notes.push(lost(
                &one.place,
                format!("{what} of {}", one.name),
                format!("differs from {}: that of the first is taken", twin.place),
            ));
        }
        if one.priority.value == twin.priority.value {
            notes.push(lost(
                &one.priority.place,
                format!("priority of {}", one.name),
                format!(
                    "is that of {} too: `check` asks for different ones",
                    twin.priority.place
                ),
            ));
        }
    }
    for one in &first.instances {
        if !other.instances.iter().any(|twin| key(twin) == key(one)) {
            notes.push(lost(
                &one.place,
                one.name.clone(),
                "the other machine has no such virtual router".to_owned(),
            ));
        }
    }
}
