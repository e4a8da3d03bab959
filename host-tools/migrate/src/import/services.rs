//! `virtual_server` becomes a service, `real_server` a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml_edit::{InlineTable, Item, Table};

use super::{
    networks::Net,
    write::{put, put_item, time, to_do},
};
use crate::{
    conf::Place,
    model::{At, Check, CheckKind, Keepalived, Kind, Note, RealServer, VirtualServer},
};

/// All services and servers.
pub(super) struct Balanced<'a> {
    pub(super) services: Vec<Service<'a>>,
    servers: Vec<Server>,
}

/// A service, of one or both versions of IP.
pub(super) struct Service<'a> {
    name: String,
    of: &'a VirtualServer,
    v6: Option<&'a VirtualServer>,
}

struct Server {
    name: String,
    address: At<Ipv4Addr>,
    address6: Option<Ipv6Addr>,
    /// Whether it serves `https` or `http`, which are HAProxy's.
    is_public: bool,
}

impl Balanced<'_> {
    fn server(&self, address: IpAddr) -> Option<&Server> {
        self.servers.iter().find(|server| {
            IpAddr::V4(server.address.value) == address
                || server.address6.map(IpAddr::V6) == Some(address)
        })
    }
}

/// Names the services and servers of a configuration.
pub(super) fn of<'a>(
    keepalived: &'a Keepalived,
    nets: &[Net],
    notes: &mut Vec<Note>,
) -> Balanced<'a> {
    let mut all = Balanced {
        services: Vec::new(),
        servers: Vec::new(),
    };
    let (v4, v6): (Vec<_>, Vec<_>) =
        (keepalived.balanced.iter()).partition(|one| one.address.value.is_ipv4());
    for server in v4 {
        if server.port.is_none() {
            notes.push(lost(
                &server.address.place,
                server,
                "a service has one port",
            ));
            continue;
        }
        let name = name(server, nets, &all);
        for real in &server.servers {
            let IpAddr::V4(address) = real.address.value else {
                notes.push(lost(
                    &real.address.place,
                    server,
                    "its servers are of the same version of IP",
                ));
                continue;
            };
            server_of(
                &mut all,
                address,
                &real.address.place,
                matches!(name.as_str(), "https" | "http"),
            );
        }
        if let Some(sorry) = &server.sorry
            && let IpAddr::V4(address) = sorry.value.0
        {
            server_of(&mut all, address, &sorry.place, false);
        }
        all.services.push(Service {
            name,
            of: server,
            v6: None,
        });
    }
    for server in v6 {
        let twin = all.services.iter_mut().find(|service| {
            let same = (service.of.port, service.of.udp, service.of.servers.len())
                == (server.port, server.udp, server.servers.len());
            same && service.v6.is_none()
        });
        let Some(twin) = twin else {
            notes.push(lost(
                &server.address.place,
                server,
                "a service on IPv6 is one on IPv4 too, with the same servers in the same order",
            ));
            continue;
        };
        twin.v6 = Some(server);
        for (real, real6) in twin.of.servers.iter().zip(&server.servers) {
            let known = (all.servers.iter_mut())
                .find(|one| IpAddr::V4(one.address.value) == real.address.value);
            if let (Some(known), IpAddr::V6(address)) = (known, real6.address.value) {
                known.address6.get_or_insert(address);
            }
        }
        notes.push(Note {
            place: server.address.place.clone(),
            kind: Kind::Changed,
            what: what(server),
            why: format!(
                "is one service with {}, whose other settings hold",
                what(twin.of)
            ),
        });
    }
    all
}

fn what(server: &VirtualServer) -> String {
    let port = server
        .port
        .map_or_else(|| "any port".to_owned(), |port| port.to_string());
    format!("virtual_server {} {port}", server.address.value)
}

fn lost(place: &Place, server: &VirtualServer, why: &str) -> Note {
    Note {
        place: place.clone(),
        kind: Kind::Lost,
        what: what(server),
        why: why.to_owned(),
    }
}

/// The appliances offer https and http without being asked, so that these names are theirs.
fn name(server: &VirtualServer, nets: &[Net], all: &Balanced<'_>) -> String {
    let wan = nets
        .iter()
        .find(|net| net.port() == Some("wan"))
        .or(nets.first());
    let at_wan = wan.and_then(|net| net.first(false)) == Some(server.address.value);
    let port = server.port.unwrap_or(0);
    let word = match (server.udp, port, at_wan) {
        (false, 443, true) => "https".to_owned(),
        (false, 80, true) => "http".to_owned(),
        (false, port, _) => format!("tcp-{port}"),
        (true, port, _) => format!("udp-{port}"),
    };
    let taken = |name: &str| all.services.iter().any(|service| service.name == name);
    let names = std::iter::once(word.clone()).chain((2..).map(|n| format!("{word}-{n}")));
    names.into_iter().find(|name| !taken(name)).unwrap_or(word)
}

fn server_of(all: &mut Balanced<'_>, address: Ipv4Addr, place: &Place, is_public: bool) {
    if let Some(known) = all
        .servers
        .iter_mut()
        .find(|one| one.address.value == address)
    {
        known.is_public |= is_public;
        return;
    }
    all.servers.push(Server {
        name: format!("rs{}", all.servers.len() + 1),
        address: At {
            value: address,
            place: place.clone(),
        },
        address6: None,
        is_public,
    });
}

/// `[servers]`.
pub(super) fn servers(all: &Balanced<'_>, nets: &[Net]) -> Table {
    let mut table = Table::new();
    table
        .decor_mut()
        .set_prefix("\n# Every role has a server: haproxy, nginx, app, db and monitor.\n");
    for server in &all.servers {
        let mut entry = InlineTable::new();
        entry.insert(
            "role",
            match server.is_public {
                // What answers users on 443 and 80.
                true => "haproxy".into(),
                false => super::write::open("haproxy, nginx, app, db or monitor").into(),
            },
        );
        let net = nets.iter().find(|net| net.contains(server.address.value));
        entry.insert(
            "network",
            match net {
                Some(net) => net.name.as_str().into(),
                None => super::write::open("that it is in").into(),
            },
        );
        entry.insert("address", server.address.value.to_string().into());
        if let Some(address) = server.address6 {
            entry.insert("address6", address.to_string().into());
        }
        put_item(&mut table, &server.name, entry, Some(&server.address.place));
    }
    if all.servers.is_empty() {
        let mut entry = InlineTable::new();
        for (key, hint) in [
            ("role", "haproxy, nginx, app, db or monitor"),
            ("network", "that it is in"),
            ("address", "its own"),
        ] {
            entry.insert(key, super::write::open(hint).into());
        }
        put_item(&mut table, "rs1", entry, None);
    }
    table
}

/// `[services]`.
pub(super) fn tables(all: &Balanced<'_>, nets: &[Net], notes: &mut Vec<Note>) -> Table {
    let mut services = Table::new();
    services.set_implicit(true);
    for service in &all.services {
        let table = table(service, all, nets, notes);
        services.insert(&service.name, Item::Table(table));
    }
    services
}

fn table(service: &Service<'_>, all: &Balanced<'_>, nets: &[Net], notes: &mut Vec<Note>) -> Table {
    let of = service.of;
    let place = &of.address.place;
    let is_public = matches!(service.name.as_str(), "https" | "http");
    let mut table = Table::new();
    let server_port = of.servers.iter().find_map(|server| server.port).or(of.port);
    let net = nets
        .iter()
        .find(|net| net.addresses().any(|ip| ip == of.address.value));
    if !is_public {
        put(
            &mut table,
            "port",
            i64::from(of.port.unwrap_or(0)),
            Some(place),
        );
        if server_port != of.port {
            put(
                &mut table,
                "server_port",
                i64::from(server_port.unwrap_or(0)),
                None,
            );
        }
        if of.udp {
            put(&mut table, "transport", "udp", None);
        }
        match net {
            Some(net) if net.port() == Some("wan") => {}
            Some(net) => put(&mut table, "network", net.name.as_str(), None),
            None => to_do(&mut table, "network", "whose virtual address it is"),
        }
    } else if server_port != of.port {
        notes.push(Note {
            kind: Kind::Changed,
            ..lost(place, of, "HAProxy of our images listens on the same port")
        });
    }
    if net.and_then(|net| net.first(false)) != Some(of.address.value) {
        put(
            &mut table,
            "address",
            of.address.value.to_string(),
            Some(place),
        );
        if net.is_none() {
            notes.push(lost(place, of, "no virtual router has this address: add it to `virtual` or `excluded` of its network"));
        }
    }
    if let Some(v6) = service.v6
        && net.and_then(|net| net.first(true)) != Some(v6.address.value)
    {
        put(
            &mut table,
            "address6",
            v6.address.value.to_string(),
            Some(&v6.address.place),
        );
    }
    if let Some(other) = of
        .servers
        .iter()
        .find(|server| server.port.or(of.port) != server_port)
    {
        notes.push(lost(
            &other.address.place,
            of,
            "all servers of a service have the same port",
        ));
    }
    let (balance, weights) = scheduler(&of.scheduler, notes);
    put(&mut table, "balance", balance, Some(&of.scheduler.place));
    let inside = !is_public && net.is_some_and(|net| net.port() == Some("lan"));
    forwarding(of, inside, &mut table, notes);
    if let Some(seconds) = &of.persistence {
        table.insert("persistence", persistence(of, seconds));
    }
    quorum(of, all, is_public, &mut table, notes);
    if let Some(check) = check(of, notes) {
        table.insert("check", Item::Table(check));
    }
    table.insert("servers", Item::Table(members(of, all, balance, weights)));
    table
}

/// How a server is chosen, and whether weights count.
fn scheduler(scheduler: &At<String>, notes: &mut Vec<Note>) -> (&'static str, bool) {
    let (balance, weights, why) = match scheduler.value.as_str() {
        "rr" => ("round-robin", false, None),
        "wrr" => ("round-robin", true, None),
        "lc" => ("least-connections", false, None),
        "wlc" => ("least-connections", true, None),
        "sh" => ("source-hash", true, None),
        "mh" => ("maglev", true, None),
        "fo" => ("failover", false, None),
        "sed" | "nq" => (
            "least-connections",
            true,
            Some("least-connections is the nearest"),
        ),
        "dh" => (
            "maglev",
            true,
            Some("the client decides, not the destination: maglev is the nearest"),
        ),
        _ => (
            "least-connections",
            true,
            Some("not a way that appliances choose: least-connections is the nearest"),
        ),
    };
    if let Some(why) = why {
        notes.push(Note {
            place: scheduler.place.clone(),
            kind: Kind::Changed,
            what: format!("lvs_sched {}", scheduler.value),
            why: why.to_owned(),
        });
    }
    (balance, weights)
}

/// Direct return is for users in the servers' own network; from outside, the appliance is on the way.
fn forwarding(of: &VirtualServer, inside: bool, table: &mut Table, notes: &mut Vec<Note>) {
    let Some(method) = &of.method else { return };
    let (kind, why) = match (method.value.as_str(), inside) {
        ("NAT", _) => return,
        ("DR", true) => {
            put(table, "forwarding", "direct-return", Some(&method.place));
            return;
        }
        ("DR", false) => (
            Kind::Changed,
            "by NAT: users come from outside, and the appliance is the servers' gateway",
        ),
        _ => (
            Kind::Lost,
            "there are no tunnels: by NAT, the appliance is the servers' gateway",
        ),
    };
    notes.push(Note {
        place: method.place.clone(),
        kind,
        what: format!("lvs_method {}", method.value),
        why: why.to_owned(),
    });
}

fn persistence(of: &VirtualServer, seconds: &At<u32>) -> Item {
    let mut table = InlineTable::new();
    // As long as a site file can say.
    table.insert(
        "time",
        format!("{}s", seconds.value.clamp(1, 64_800)).into(),
    );
    if let Some(bits) = &of.granularity {
        table.insert("prefix", i64::from(bits.value.min(32)).into());
    }
    let mut value = toml_edit::Value::InlineTable(table);
    value
        .decor_mut()
        .set_suffix(format!("  # {}", seconds.place));
    Item::Value(value)
}

fn quorum(
    of: &VirtualServer,
    all: &Balanced<'_>,
    is_public: bool,
    table: &mut Table,
    notes: &mut Vec<Note>,
) {
    if let Some(quorum) = &of.quorum {
        let most = u32::try_from(of.servers.len()).unwrap_or(u32::MAX).max(1);
        let weighed = of.servers.iter().any(|server| server.weight != 1);
        if weighed || quorum.value > most {
            notes.push(Note {
                place: quorum.place.clone(),
                kind: Kind::Changed,
                what: format!("quorum {}", quorum.value),
                why: "counts servers, not their weights".to_owned(),
            });
        }
        put(
            table,
            "quorum",
            i64::from(quorum.value.min(most)),
            Some(&quorum.place),
        );
    }
    let Some(sorry) = &of.sorry else { return };
    match all.server(sorry.value.0) {
        Some(server) => {
            let mut entry = InlineTable::new();
            entry.insert("server", server.name.as_str().into());
            if let Some(port) = sorry
                .value
                .1
                .filter(|port| Some(*port) != of.port || is_public)
            {
                entry.insert("port", i64::from(port).into());
            }
            let mut value = toml_edit::Value::InlineTable(entry);
            value.decor_mut().set_suffix(format!("  # {}", sorry.place));
            table.insert("sorry", Item::Value(value));
        }
        None => notes.push(lost(
            &sorry.place,
            of,
            "its sorry server has another version of IP",
        )),
    }
}

/// The check of a service: that of its first server. Without one, keepalived does not check, and appliances do.
fn check(of: &VirtualServer, notes: &mut Vec<Note>) -> Option<Table> {
    let first = of.servers.iter().find_map(|server| server.checks.first());
    let Some(first) = first else {
        notes.push(Note {
            kind: Kind::Changed,
            ..lost(
                &of.address.place,
                of,
                "has no check, and gets one: appliances ask every second whether the port is open",
            )
        });
        return None;
    };
    for server in &of.servers {
        let same = |one: &Check| {
            (one.kind.value == first.kind.value)
                && (one.port, one.timing) == (first.port, first.timing)
        };
        let others = server
            .checks
            .iter()
            .skip(1)
            .chain(server.checks.first().filter(|one| !same(one)));
        for other in others {
            notes.push(Note {
                place: other.kind.place.clone(),
                kind: Kind::Lost,
                what: format!("check of {}", server.address.value),
                why: format!("a service has one check, as in {}", first.kind.place),
            });
        }
    }
    let mut check = Table::new();
    let from = Some(&first.kind.place);
    match &first.kind.value {
        CheckKind::Tcp => put(&mut check, "kind", "tcp", from),
        CheckKind::Ping => put(&mut check, "kind", "ping", from),
        CheckKind::Dns { name } => {
            put(&mut check, "kind", "dns", from);
            put(&mut check, "name", name.as_str(), None);
        }
        CheckKind::Http {
            tls,
            path,
            host,
            status,
        } => {
            put(
                &mut check,
                "kind",
                if *tls { "https" } else { "http" },
                from,
            );
            if let Some(host) = host {
                put(&mut check, "host", host.as_str(), None);
            }
            put(&mut check, "path", path.as_str(), None);
            put(
                &mut check,
                "status",
                format!("{}-{}", status.0, status.1),
                None,
            );
            if *tls {
                // As keepalived does.
                put(&mut check, "verify", false, None);
            }
        }
    }
    if let (Some(port), false) = (first.port, first.kind.value == CheckKind::Ping) {
        put(&mut check, "port", i64::from(port), None);
    }
    timing(of, first, &mut check, notes);
    Some(check)
}

fn timing(of: &VirtualServer, check: &Check, table: &mut Table, notes: &mut Vec<Note>) {
    let wanted = check.timing.interval.unwrap_or(60_000);
    let interval = wanted.clamp(100, 60_000);
    if interval != wanted {
        notes.push(Note {
            kind: Kind::Changed,
            ..lost(
                &check.kind.place,
                of,
                "servers are checked every 100 ms to 60 s",
            )
        });
    }
    put(table, "interval", time(interval), None);
    let timeout = check.timing.timeout.unwrap_or(5000).clamp(100, interval);
    put(table, "timeout", time(timeout), None);
    let retry = check.timing.retry.unwrap_or(match check.kind.value {
        CheckKind::Dns { .. } => 3,
        CheckKind::Tcp | CheckKind::Http { .. } | CheckKind::Ping => 1,
    });
    put(table, "rise", 1, None);
    put(table, "fall", i64::from((retry + 1).min(255)), None);
}

/// The servers and their settings, in the order in which they are preferred.
fn members(of: &VirtualServer, all: &Balanced<'_>, balance: &str, weights: bool) -> Table {
    let mut servers: Vec<&RealServer> = of.servers.iter().collect();
    // Keepalived's fail-over prefers the heaviest.
    if balance == "failover" {
        servers.sort_by_key(|server| std::cmp::Reverse(server.weight));
    }
    let mut table = Table::new();
    for real in servers {
        let Some(server) = all.server(real.address.value) else {
            continue;
        };
        let mut entry = InlineTable::new();
        match real.weight {
            0 => {
                entry.insert("drain", true.into());
            }
            weight if weights && weight != 1 => {
                entry.insert("weight", i64::from(weight.min(255)).into());
            }
            _ => {}
        }
        if let Some(most) = real.max_flows {
            entry.insert("max_flows", i64::from(most).into());
        }
        put_item(&mut table, &server.name, entry, Some(&real.address.place));
    }
    table
}
