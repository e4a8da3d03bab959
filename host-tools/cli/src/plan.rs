//! `ravelin plan`: what will exist.

use std::{path::Path, process::ExitCode};

use policy::rule::{Legs, Protocol, Rule, Sharing};
use serde_json::{Value, json};
use site::{
    Plan,
    plan::{Authentication, Flow, Leg, Nat, Party, Port, PortRange, Tracked},
};

use crate::{
    args::Json,
    failure::{Failure, Message},
    site_file::SiteFile,
    source, table,
};

/// Prints the plan, and what is compiled from it for the appliances.
pub fn plan(site: Option<&Path>, options: &Json) -> Result<ExitCode, Failure> {
    let boards = source::boards(&source::root()?)?;
    let file = SiteFile::read(site)?;
    let plan = file.plan(&boards)?;
    let mut policies = Vec::new();
    for appliance in &plan.appliances {
        let policy = render::appliance::policy(&plan, &appliance.name)
            .map_err(|error| Failure::input(Message::new(error.to_string())))?;
        policies.push(policy);
    }
    if options.json {
        let images: Vec<String> = plan
            .servers
            .iter()
            .map(|server| image(&server.name))
            .collect();
        let appliances: Vec<Value> = policies
            .iter()
            .map(|(config, rules)| {
                let mut appliance = json!(config);
                appliance["rules"] = json!(rules);
                appliance
            })
            .collect();
        println!(
            "{:#}",
            json!({ "plan": plan, "cables": cables(&plan), "appliances": appliances, "images": images })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: https://{}/", plan.name, plan.domain);
    networks(&plan);
    addresses(&plan);
    let rows: Vec<Vec<String>> = cables(&plan).into_iter().map(Vec::from).collect();
    table::print("Cables", &["from", "to", "carries"], &rows);
    routers(&plan);
    pair(&plan);
    tracks(&plan);
    services(&plan);
    sets(&plan);
    flows(&plan);
    nat(&plan);
    protection(&plan.protection);
    if let Some((config, list)) = policies.first() {
        rules(&plan, config, list);
    }
    images(&plan);
    Ok(ExitCode::SUCCESS)
}

fn networks(plan: &Plan) {
    let row = |network: &site::plan::Network| {
        vec![
            network.name.clone(),
            both(Some(network.subnet), network.subnet6),
            tag(network.vlan),
            network.vrid.to_string(),
            both(Some(network.virtual_address), network.virtual6),
            both(network.uplink, network.uplink6),
            network.mtu.to_string(),
        ]
    };
    let rows: Vec<_> = plan.networks.iter().map(row).collect();
    table::print(
        "Networks",
        &[
            "name",
            "subnet",
            "vlan",
            "vrid",
            "virtual address",
            "uplink",
            "mtu",
        ],
        &rows,
    );
}

fn addresses(plan: &Plan) {
    let mut rows = Vec::new();
    for appliance in &plan.appliances {
        for leg in &appliance.legs {
            rows.push(vec![
                appliance.name.clone(),
                format!("{}, priority {}", appliance.board, appliance.priority),
                leg.network.clone(),
                both(Some(leg.address), leg.address6),
                mac(leg.mac),
            ]);
        }
    }
    for foreign in &plan.foreign {
        for leg in &foreign.legs {
            rows.push(vec![
                foreign.name.clone(),
                format!("keepalived, priority {}", foreign.priority),
                leg.network.clone(),
                both(Some(leg.address), leg.address6),
                String::new(),
            ]);
        }
    }
    for server in &plan.servers {
        let role = server.role.name().to_owned();
        rows.push(vec![
            server.name.clone(),
            role,
            server.network.clone(),
            both(Some(server.address), server.address6),
            mac(server.mac),
        ]);
    }
    table::print(
        "Addresses",
        &["machine", "is a", "network", "address", "mac"],
        &rows,
    );
}

/// Every cable: both ends and the networks on it.
fn cables(plan: &Plan) -> Vec<[String; 3]> {
    let mut cables = Vec::new();
    for appliance in &plan.appliances {
        let mut ports: Vec<u8> = appliance.legs.iter().map(|leg| leg.port).collect();
        ports.dedup();
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let legs = || appliance.legs.iter().filter(move |leg| leg.port == port);
            let is_wan = |leg: &Leg| {
                plan.network(&leg.network)
                    .is_some_and(|network| network.port == Port::Wan)
            };
            let side = match (legs().any(is_wan), legs().all(is_wan)) {
                (_, true) => "uplink switch",
                (true, false) => "uplink and rack switch",
                (false, false) => "rack switch",
            };
            let carried: Vec<String> = legs()
                .map(|leg| format!("{} {}", leg.network, tag(leg.vlan)))
                .collect();
            cables.push([
                format!("{} port {port}", appliance.name),
                side.to_owned(),
                carried.join(", "),
            ]);
        }
    }
    for foreign in &plan.foreign {
        let legs = foreign.legs.iter();
        let carried = legs.map(|leg| format!("{} {}", leg.network, tag(leg.vlan)));
        cables.push([
            foreign.name.clone(),
            "uplink and rack switch".to_owned(),
            carried.collect::<Vec<_>>().join(", "),
        ]);
    }
    for server in &plan.servers {
        cables.push([
            server.name.clone(),
            "rack switch".to_owned(),
            format!("{} untagged", server.network),
        ]);
    }
    cables
}

fn routers(plan: &Plan) {
    let mut rows = Vec::new();
    for network in &plan.networks {
        for router in &network.routers {
            let (listed, excluded) = (router.addresses)
                .split_at_checked(router.advertised.into())
                .unwrap_or((&router.addresses, &[]));
            rows.push(vec![
                network.name.clone(),
                router.vrid.to_string(),
                match router.version {
                    policy::Version::V2 => "2".to_owned(),
                    policy::Version::V3 => "3".to_owned(),
                },
                list(listed),
                list(excluded),
                traits(plan, router),
            ]);
        }
    }
    let columns = [
        "network",
        "vrid",
        "version",
        "addresses",
        "not listed",
        "how",
    ];
    table::print("Virtual routers (VRRP)", &columns, &rows);
}

fn list(addresses: &[std::net::IpAddr]) -> String {
    let words: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    words.join(", ")
}

/// What else there is to know about a virtual router.
fn traits(plan: &Plan, router: &site::plan::Router) -> String {
    let interval = (router.advertisement_interval).unwrap_or(plan.vrrp.advertisement_interval);
    let mut words = vec![format!("every {} ms", u32::from(interval) * 10)];
    match (&plan.vrrp.authentication, router.version) {
        (Authentication::Password(_), policy::Version::V2) => words.push("password".to_owned()),
        (Authentication::Hmac { .. }, policy::Version::V3) => words.push("HMAC".to_owned()),
        (Authentication::None | Authentication::Password(_) | Authentication::Hmac { .. }, _) => {}
    }
    for (word, applies) in [
        ("unicast", router.unicast),
        ("own MAC address", !router.virtual_mac),
        ("not accepting", !router.accept),
    ] {
        if applies {
            words.push(word.to_owned());
        }
    }
    words.join(", ")
}

fn pair(plan: &Plan) {
    let Some(pair) = &plan.pair else { return };
    let yes = |is| if is { "yes" } else { "no" }.to_owned();
    let dead = u32::from(pair.heartbeat) * u32::from(pair.misses);
    let rows = [
        ["paths".to_owned(), pair.networks.join(", ")],
        ["serial line".to_owned(), yes(pair.serial)],
        [
            "heartbeat".to_owned(),
            format!("every {} ms, dead after {dead} ms", pair.heartbeat),
        ],
        ["flows shared".to_owned(), yes(pair.sync)],
        ["first packets wait for that".to_owned(), yes(pair.defer)],
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    table::print("Pair", &["what", "how"], &rows);
}

fn tracks(plan: &Plan) {
    let row = |track: &site::plan::Track| {
        let what = match &track.what {
            Tracked::Port(Port::Wan) => "carrier of wan".to_owned(),
            Tracked::Port(Port::Lan) => "carrier of lan".to_owned(),
            Tracked::Neighbours(network) => format!("neighbours in {network}"),
            Tracked::Service(service) => format!("quorum of {service}"),
            Tracked::Posted(name) => format!("posted value {name}"),
        };
        let (good, bad) = match track.reverse {
            false => ("while good", "while bad"),
            true => ("while bad", "while good"),
        };
        let cost = match track.weight {
            0 => format!("fault {bad}"),
            weight @ 1.. => format!("+{weight} {good}"),
            weight => format!("{weight} {bad}"),
        };
        vec![what, cost]
    };
    let rows: Vec<_> = plan.tracks.iter().map(row).collect();
    if !rows.is_empty() {
        table::print("Watched", &["what", "priority"], &rows);
    }
}

fn services(plan: &Plan) {
    let row = |service: &site::plan::Service| {
        let member = |member: &site::plan::Member| match member.weight {
            0 => format!("{} drains", member.server),
            1 => member.server.clone(),
            weight => format!("{} x{weight}", member.server),
        };
        let servers: Vec<String> = service.servers.iter().map(member).collect();
        let transport = match service.transport {
            policy::Transport::Tcp => "tcp",
            policy::Transport::Udp => "udp",
        };
        vec![
            service.name.clone(),
            format!(
                "{} {transport} {}",
                both(Some(service.address), service.address6),
                service.port
            ),
            format!("{} port {}", servers.join(", "), service.server_port),
            balance(service),
            check(&service.check),
        ]
    };
    let rows: Vec<_> = plan.services.iter().map(row).collect();
    table::print(
        "Services",
        &["name", "users connect to", "servers", "balance", "check"],
        &rows,
    );
}

fn balance(service: &site::plan::Service) -> String {
    let mut words = vec![
        match service.balance {
            policy::Balance::Failover => "failover",
            policy::Balance::RoundRobin => "round-robin",
            policy::Balance::LeastConnections => "least-connections",
            policy::Balance::SourceHash => "source-hash",
            policy::Balance::Maglev => "maglev",
        }
        .to_owned(),
    ];
    match service.forwarding {
        policy::Forwarding::Nat => {}
        policy::Forwarding::DirectReturn => words.push("direct return".to_owned()),
    }
    if let Some(persistence) = service.persistence {
        let (prefix, prefix6) = (persistence.prefix, persistence.prefix6);
        words.push(format!(
            "/{prefix} /{prefix6} stay {} s",
            persistence.seconds
        ));
    }
    if let Some(sorry) = &service.sorry {
        words.push(format!(
            "below {}: {} port {}",
            service.quorum, sorry.server, sorry.port
        ));
    }
    words.join(", ")
}

fn check(check: &policy::Check) -> String {
    let what = match &check.kind {
        policy::CheckKind::Ping => "ping".to_owned(),
        policy::CheckKind::Tcp => format!("tcp {}", check.port),
        policy::CheckKind::Http { host, path, .. } => {
            format!("http://{host}:{}{path}", check.port)
        }
        policy::CheckKind::Https {
            host, path, trust, ..
        } => {
            let verified = match trust {
                policy::Trust::Anchor(_) => "",
                policy::Trust::Anybody => " (certificate not verified)",
            };
            format!("https://{host}:{}{path}{verified}", check.port)
        }
        policy::CheckKind::Dns { name } => format!("dns {name} at {}", check.port),
        policy::CheckKind::Mysql => format!("mysql {}", check.port),
    };
    format!(
        "{what} every {} ms, rise {}, fall {}",
        check.interval_ms, check.rise, check.fall
    )
}

fn sets(plan: &Plan) {
    let row = |set: &site::plan::Set| {
        let prefixes = set.prefixes.iter().map(|p| Party::Address(*p).to_string());
        vec![set.name.clone(), prefixes.collect::<Vec<_>>().join(", ")]
    };
    let rows: Vec<_> = plan.sets.iter().map(row).collect();
    if !rows.is_empty() {
        table::print("Sets", &["name", "addresses"], &rows);
    }
}

fn flows(plan: &Plan) {
    let row = |flow: &Flow| {
        vec![
            flow.name.clone(),
            flow.from.to_string(),
            flow.to.to_string(),
            flow.traffic.to_string(),
            action(flow),
            flow.why.clone(),
        ]
    };
    let rows: Vec<_> = plan.flows.iter().map(row).collect();
    table::print(
        "Flows (the first that fits decides; all else is dropped)",
        &["name", "from", "to", "carries", "action", "why"],
        &rows,
    );
}

fn action(flow: &Flow) -> String {
    let mut words = vec![flow.action.to_string()];
    if flow.log {
        words.push("log".to_owned());
    }
    let limits = [flow.rate, flow.max_flows].into_iter().flatten();
    words.extend(limits.map(|limit| limit.to_string()));
    words.extend(match flow.sharing {
        Sharing::Usual => None,
        Sharing::Never => Some("not synced".to_owned()),
        Sharing::Deferred => Some("deferred".to_owned()),
    });
    words.join(", ")
}

fn nat(plan: &Plan) {
    let row = |nat: &Nat| match nat {
        Nat::Masquerade {
            name,
            sources,
            network,
            ports,
        } => {
            let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
            [
                name.clone(),
                "masquerade".to_owned(),
                sources.join(", "),
                format!("virtual address of {network}, ports {ports}"),
            ]
        }
        Nat::Forward {
            name,
            transport,
            network,
            ports,
            server,
            server_port,
        } => {
            let transport = match transport {
                policy::Transport::Tcp => "tcp",
                policy::Transport::Udp => "udp",
            };
            let last = server_port.saturating_add(ports.last - ports.first);
            let inner = PortRange {
                first: *server_port,
                last,
            };
            [
                name.clone(),
                "forward".to_owned(),
                format!("virtual address of {network}, {transport} {ports}"),
                format!("{server} port {inner}"),
            ]
        }
        Nat::Prefix6 {
            name,
            network,
            inside,
            outside,
        } => [
            name.clone(),
            "prefix6".to_owned(),
            inside.to_string(),
            format!("{outside} on {network}"),
        ],
    };
    let rows: Vec<Vec<String>> = plan.nat.iter().map(|nat| row(nat).into()).collect();
    if !rows.is_empty() {
        table::print(
            "Address translation",
            &["name", "kind", "from", "becomes"],
            &rows,
        );
    }
}

fn protection(protection: &policy::Protection) {
    let yes = |is| if is { "yes" } else { "no" };
    let rows = [
        [
            "SYN cookies above".to_owned(),
            format!("{} half-open connections", protection.syn_cookies_above),
        ],
        [
            "windows held strictly".to_owned(),
            yes(protection.strict_windows).to_owned(),
        ],
        [
            "ICMP errors".to_owned(),
            format!("{} per second", protection.icmp_errors_per_second),
        ],
        [
            "MSS lowered".to_owned(),
            yes(protection.clamp_mss).to_owned(),
        ],
        [
            "rejects answered".to_owned(),
            yes(protection.answer_rejects).to_owned(),
        ],
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    table::print("Protection", &["what", "how"], &rows);
}

/// Addresses as people call them: a server by its name where all of its addresses are meant.
fn called(plan: &Plan, prefixes: &[policy::IpPrefix]) -> String {
    if prefixes.is_empty() {
        return "any".to_owned();
    }
    let meant = |server: &&site::plan::Server| {
        let mut addresses = server.addresses().map(policy::IpPrefix::host);
        addresses.all(|address| prefixes.contains(&address))
    };
    let mut names: Vec<String> = Vec::new();
    for one in prefixes {
        let server = plan.servers.iter().filter(meant).find(|server| {
            let mut addresses = server.addresses().map(policy::IpPrefix::host);
            addresses.any(|address| address == *one)
        });
        let name = server.map_or_else(|| prefix(one), |server| server.name.clone());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

fn rules(plan: &Plan, config: &policy::Config, rules: &[Rule]) {
    let end = |legs: Legs, prefixes: &[policy::IpPrefix]| {
        let names = (0..).zip(&config.interfaces);
        let names: Vec<&str> = names
            .filter(|(index, _)| legs.contains(*index))
            .map(|(_, interface)| interface.name.as_str())
            .collect();
        let addresses = called(plan, prefixes);
        format!("{} {addresses}", names.join("+"))
    };
    let row = |rule: &Rule| {
        vec![
            rule.name.to_string(),
            end(rule.from, &rule.sources),
            end(rule.to, &rule.destinations),
            protocol(&rule.protocol),
            format!("{:?}", rule.action).to_lowercase(),
        ]
    };
    let rows: Vec<_> = rules.iter().map(row).collect();
    table::print(
        "Rules on each appliance",
        &["flow", "from", "to", "carries", "action"],
        &rows,
    );
}

fn images(plan: &Plan) {
    let row = |server: &site::plan::Server| {
        vec![
            server.name.clone(),
            server.role.name().to_owned(),
            image(&server.name),
        ]
    };
    let rows: Vec<_> = plan.servers.iter().map(row).collect();
    table::print("Images", &["server", "role", "disk image"], &rows);
}

fn image(server: &str) -> String {
    format!(".ravelin/images/{server}/disk.raw")
}

/// What there is of both versions of IP.
fn both<A: ToString, B: ToString>(v4: Option<A>, v6: Option<B>) -> String {
    let there = [v4.map(|a| a.to_string()), v6.map(|b| b.to_string())];
    let there: Vec<String> = there.into_iter().flatten().collect();
    there.join(", ")
}

fn prefix(prefix: &policy::IpPrefix) -> String {
    let text = prefix.to_string();
    let host = match prefix {
        policy::IpPrefix::V4(_) => text.strip_suffix("/32"),
        policy::IpPrefix::V6(_) => text.strip_suffix("/128"),
    };
    host.map_or_else(|| text.clone(), str::to_owned)
}

fn protocol(protocol: &Protocol) -> String {
    let ports = |word: &str, ports: &policy::rule::Ports| {
        let list = |ranges: &[std::ops::RangeInclusive<u16>]| {
            let ranges = ranges.iter().map(|range| PortRange {
                first: *range.start(),
                last: *range.end(),
            });
            ranges.collect::<Vec<_>>()
        };
        let ports = site::plan::Ports {
            source: list(&ports.source),
            destination: list(&ports.destination),
        };
        format!("{word}{ports}")
    };
    let types = |word: &str, types: &[u8]| {
        let types: String = types.iter().map(|kind| format!(" {kind}")).collect();
        format!("{word}{types}")
    };
    match protocol {
        Protocol::Any => "any".to_owned(),
        Protocol::Tcp(list) => ports("tcp", list),
        Protocol::Udp(list) => ports("udp", list),
        Protocol::Icmp(list) => types("icmp", list),
        Protocol::Icmp6(list) => types("icmp6", list),
        Protocol::Number(number) => format!("protocol {number}"),
    }
}

fn tag(vlan: Option<u16>) -> String {
    vlan.map_or_else(|| "untagged".to_owned(), |vlan| vlan.to_string())
}

/// As everybody writes it.
pub fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
