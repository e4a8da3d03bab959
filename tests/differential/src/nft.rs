//! The policy in the words of nftables, written independently of what servers get.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use policy::rule::{Action, Legs, Ports, Protocol, Rule, State};
use policy::{IpPrefix, LimitKind, Nat, Prefix, Prefix6, Scope, Transport};

use crate::site::{LEGS, NAMES, Site};

/// What our node does of its own accord and netfilter only when told: the policy's other half.
const EARLY: &str = "
        ip hdrlength != 5 drop comment \"options, RFC 7126\"
        ip saddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } drop comment \"RFC 6890\"
        ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } drop
        ip saddr { NETWORKS } drop comment \"old broadcast addresses, RFC 1812 section 5.3.5.3\"
        ip daddr { NETWORKS } drop
        meta nfproto ipv6 fib saddr . iif oif missing drop comment \"strict reverse path\"
        rt type 0 drop
        rt seg-left != 0 drop
";

/// The same for what stands behind the IP header. It has to wait until fragments are put together (priority -400): where a later
/// fragment of IPv6 has no transport header, nftables reads from the start of the packet, and a flow label of 0 is port 0.
const WHOLE: &str = "
        ip protocol icmp icmp type != { echo-request, echo-reply, destination-unreachable, time-exceeded, parameter-problem } drop
        icmpv6 type { 5-127, 130-132, 137-255 } drop
        tcp flags & (syn | urg) == syn | urg drop comment \"no TCP sends it\"
        tcp sport 0 drop
        tcp dport 0 drop
        udp sport 0 drop
        udp dport 0 drop
";

/// A complete ruleset.
#[must_use]
pub fn render(site: &Site) -> String {
    let mut text = String::from("flush ruleset\ntable inet ravelin {\n");
    text += &accounts(site);
    let networks = LEGS.map(|leg| Prefix::of(leg.own.0, leg.own.1).address.to_string());
    let early = EARLY.replace("NETWORKS", &networks.join(", "));
    let _ = writeln!(
        text,
        "    chain early {{\n        type filter hook prerouting priority -450; policy accept;{early}    }}\n    \
         chain whole {{\n        type filter hook prerouting priority -350; policy accept;{WHOLE}    }}"
    );
    text += "    chain forward {\n        type filter hook forward priority 0; policy drop;\n";
    if site.config.protection.clamp_mss {
        text += "        tcp flags & syn == syn tcp option maxseg size set rt mtu\n";
    }
    text += "        ct state established accept\n";
    // Lengths that contradict each other.
    text += "        ct state invalid meta l4proto udp drop\n";
    // Nobody answers an answer or an error (RFC 1122 section 3.2.2).
    text += "        ct state invalid meta l4proto { icmp, ipv6-icmp } drop\n";
    text += "        ct state related ip protocol icmp accept\n";
    text += "        ct state related meta l4proto ipv6-icmp accept\n";
    for rule in &site.rules {
        for line in lines(site, rule) {
            let _ = writeln!(text, "        {line} comment \"{}\"", rule.name);
        }
    }
    text += "    }\n    chain input {\n        type filter hook input priority 0; policy drop;\n";
    text += "        ct state invalid meta l4proto udp drop\n";
    for (index, leg) in LEGS.iter().enumerate() {
        let mut own = vec![leg.own.0.to_string()];
        own.extend(leg.virtuals.iter().map(ToString::to_string));
        let mut own6 = vec![leg.own6.0.to_string()];
        own6.extend(leg.virtuals6.iter().map(ToString::to_string));
        let name = NAMES[index];
        let _ = writeln!(
            text,
            "        iifname {name} ip daddr {{ {own} }} icmp type echo-request accept\n        \
             iifname {name} ip6 daddr {{ {own6} }} icmpv6 type echo-request accept\n        \
             iifname {name} ip daddr {{ {own} }} ip protocol udp reject with icmp port-unreachable\n        \
             iifname {name} ip6 daddr {{ {own6} }} meta l4proto udp reject with icmpv6 port-unreachable",
            own = own.join(", "),
            own6 = own6.join(", ")
        );
    }
    for service in &site.config.services {
        if cookies(site) {
            // The segment size and the window scale that our node offers.
            let mss = if service.address.is_ipv4() {
                1460
            } else {
                1440
            };
            let _ = writeln!(
                text,
                "        {} {} tcp dport {} ct state {{ invalid, untracked }} \
                 synproxy mss {mss} wscale 7 timestamp sack-perm",
                family(service.address),
                service.address,
                service.port
            );
            continue;
        }
        // A segment to a service that belongs to no connection is told so.
        if service.transport == Transport::Tcp {
            let _ = writeln!(
                text,
                "        ct state invalid tcp flags & (syn|rst|ack) == ack {} {} tcp dport {} \
                 reject with tcp reset",
                family(service.address),
                service.address,
                service.port
            );
        }
    }
    text += "    }\n";
    if cookies(site) {
        text += "    chain cookies {\n        type filter hook prerouting priority -300; policy accept;\n";
        for service in &site.config.services {
            let _ = writeln!(
                text,
                "        {} {} tcp dport {} tcp flags & (fin|syn|rst|ack) == syn notrack",
                family(service.address),
                service.address,
                service.port
            );
        }
        text += "    }\n";
    }
    text += "}\n";
    for (table, is_v4) in [("ip", true), ("ip6", false)] {
        text += &translations(site, table, is_v4);
    }
    text
}

/// Whether services' SYNs are always answered with cookies.
fn cookies(site: &Site) -> bool {
    site.config.protection.syn_cookies_above == 0
}

fn translations(site: &Site, table: &str, is_v4: bool) -> String {
    let mut text = format!("table {table} ravelin-nat {{\n");
    let mut hooks = vec![("pre", "prerouting")];
    if cookies(site) {
        // The SYN proxy's own SYNs.
        hooks.push(("out", "output"));
    }
    for (chain, hook) in hooks {
        let _ = writeln!(
            text,
            "    chain {chain} {{\n        type nat hook {hook} priority -100; policy accept;"
        );
        text += &destinations(site, is_v4);
        text += "    }\n";
    }
    text += "    chain post {\n        type nat hook postrouting priority 100; policy accept;\n";
    text += &sources(site, is_v4);
    text += "    }\n}\n";
    text
}

/// Where flows to virtual addresses go.
fn destinations(site: &Site, is_v4: bool) -> String {
    let mut text = String::new();
    for service in &site.config.services {
        if let (true, Some(server)) = (service.address.is_ipv4() == is_v4, service.servers.first())
        {
            let _ = writeln!(
                text,
                "        {} {} {} dport {} dnat to {}",
                family(service.address),
                service.address,
                transport(service.transport),
                service.port,
                socket(server.address, server.port)
            );
        }
    }
    for nat in &site.config.nat {
        let Nat::Destination {
            transport: over,
            address,
            first,
            last,
            server,
            server_port,
        } = nat
        else {
            continue;
        };
        if address.is_ipv4() != is_v4 {
            continue;
        }
        for port in *first..=*last {
            let to = socket(*server, server_port + (port - first));
            let _ = writeln!(
                text,
                "        {} {address} {} dport {port} dnat to {to}",
                family(*address),
                transport(*over)
            );
        }
    }
    text
}

/// What flows are seen to come from.
fn sources(site: &Site, is_v4: bool) -> String {
    let mut text = String::new();
    // Who is forwarded to a server on its own leg would be answered without us otherwise (RFC 4787 REQ-9).
    for (leg, name) in LEGS.iter().zip(NAMES) {
        let address = match is_v4 {
            true => leg.virtuals[0].to_string(),
            false => leg.virtuals6[0].to_string(),
        };
        let _ = writeln!(
            text,
            "        iifname {name} oifname {name} ct status dnat snat to {address}"
        );
    }
    for nat in &site.config.nat {
        if let (
            true,
            Nat::Source {
                source,
                to,
                address,
                first,
                last,
            },
        ) = (is_v4, nat)
        {
            let leg = NAMES[usize::from(*to)];
            let _ = writeln!(
                text,
                "        ip saddr {source} oifname {leg} meta l4proto {{ tcp, udp }} snat to {address}:{first}-{last}\n        \
                 ip saddr {source} oifname {leg} snat to {address}"
            );
        }
    }
    text
}

/// A rule as some lines: nftables wants to know the version when it compares addresses, and how to reject.
fn lines(site: &Site, rule: &Rule) -> Vec<String> {
    let any = rule.sources.is_empty() && rule.destinations.is_empty();
    let versions: &[Option<bool>] = if any {
        &[None]
    } else {
        &[Some(true), Some(false)]
    };
    let matches = versions.iter().filter_map(|version| {
        let mut words = Vec::new();
        words.extend(legs("iifname", rule.from));
        words.extend(legs("oifname", rule.to));
        if let Some(v4) = version {
            words.extend(addresses("saddr", *v4, &rule.sources)?);
            words.extend(addresses("daddr", *v4, &rule.destinations)?);
        }
        words.extend(protocol(&rule.protocol));
        match rule.state {
            State::New => words.push("ct state new".into()),
            State::Invalid => words.push("ct state invalid".into()),
            State::Any => words.push("ct state { new, invalid }".into()),
        }
        Some((*version, words.join(" ")))
    });
    let (reset, prohibited) = (
        "reject with tcp reset",
        "reject with icmpx admin-prohibited",
    );
    let verdicts: &[&str] = match (rule.action, &rule.protocol) {
        (Action::Accept, _) => &["accept"],
        (Action::Drop, _) => &["drop"],
        (Action::Reject, Protocol::Tcp(_)) => &[reset],
        (Action::Reject, Protocol::Any) => &["meta l4proto tcp reject with tcp reset", prohibited],
        (Action::Reject, _) => &[prohibited],
    };
    let mut lines = Vec::new();
    for (version, words) in matches {
        for limit in rule.flows.iter().chain(&rule.rate) {
            let excess = excess(site, *limit, version);
            lines.extend(excess.map(|excess| format!("{words} {excess} drop")));
        }
        lines.extend(verdicts.iter().map(|verdict| format!("{words} {verdict}")));
    }
    lines
}

/// Where the limits of rules are kept account of: rules that refer to the same limit share it.
fn accounts(site: &Site) -> String {
    let mut text = String::new();
    for (index, limit) in site.config.limits.iter().enumerate() {
        let sets: &[(&str, &str)] = match (limit.scope, limit.kind) {
            (Scope::Rule, LimitKind::Rate { per_second, burst }) => {
                let _ = writeln!(
                    text,
                    "    limit limit{index} {{ rate over {per_second}/second burst {burst} packets; }}"
                );
                &[]
            }
            // Nobody sets the mark: all have the same.
            (Scope::Rule, LimitKind::Flows { .. }) => &[("", "mark")],
            (Scope::Source { .. }, _) => &[("", "ipv4_addr"), ("v6", "ipv6_addr")],
        };
        for (version, key) in sets {
            let _ = writeln!(
                text,
                "    set limit{index}{version} {{ type {key}; flags dynamic; size 65535; }}"
            );
        }
    }
    text
}

/// What exceeds a limit, in the words of each version that a rule may match.
fn excess(site: &Site, index: u8, version: Option<bool>) -> impl Iterator<Item = String> {
    let limit = site.config.limits[usize::from(index)];
    let what = match limit.kind {
        LimitKind::Rate { per_second, burst } => {
            format!("limit rate over {per_second}/second burst {burst} packets")
        }
        LimitKind::Flows { max } => format!("ct count over {max}"),
    };
    let texts = match (limit.scope, limit.kind) {
        (Scope::Rule, LimitKind::Rate { .. }) => vec![format!("limit name limit{index}")],
        (Scope::Rule, LimitKind::Flows { .. }) => {
            vec![format!("add @limit{index} {{ meta mark {what} }}")]
        }
        (Scope::Source { prefix, prefix6 }, _) => {
            let mask = Prefix::of([255; 4].into(), prefix).address;
            let mask6 = Prefix6::of([u16::MAX; 8].into(), prefix6).address;
            let v4 = format!("add @limit{index} {{ ip saddr & {mask} {what} }}");
            let v6 = format!("add @limit{index}v6 {{ ip6 saddr & {mask6} {what} }}");
            match version {
                Some(true) => vec![v4],
                Some(false) => vec![v6],
                None => vec![v4, v6],
            }
        }
    };
    texts.into_iter()
}

fn legs(word: &str, legs: Legs) -> Option<String> {
    if legs == Legs::ANY {
        return None;
    }
    let names = (0..3).filter(|leg| legs.contains(*leg));
    let names: Vec<&str> = names.map(|leg| NAMES[usize::from(leg)]).collect();
    Some(format!("{word} {{ {} }}", names.join(", ")))
}

/// `None` if the list has addresses of the other version alone.
fn addresses(word: &str, v4: bool, list: &[IpPrefix]) -> Option<Option<String>> {
    if list.is_empty() {
        return Some(Some(format!(
            "meta nfproto {}",
            if v4 { "ipv4" } else { "ipv6" }
        )));
    }
    let same = list
        .iter()
        .filter(|prefix| matches!(prefix, IpPrefix::V4(_)) == v4);
    let texts: Vec<String> = same.map(ToString::to_string).collect();
    if texts.is_empty() {
        return None;
    }
    let version = if v4 { "ip" } else { "ip6" };
    // Overlapping prefixes are no set for nftables.
    let sorted = texts.join(", ");
    Some(Some(format!("{version} {word} {{ {sorted} }}")))
}

fn protocol(protocol: &Protocol) -> Vec<String> {
    let ports = |name: &str, ports: &Ports| {
        let mut words = vec![format!("meta l4proto {name}")];
        words.extend(ranges(&format!("{name} sport"), &ports.source));
        words.extend(ranges(&format!("{name} dport"), &ports.destination));
        words
    };
    let types = |name: &str, list: &[u8]| {
        let mut words = vec![format!(
            "meta l4proto {}",
            if name == "icmp" { 1 } else { 58 }
        )];
        if !list.is_empty() {
            let numbers: Vec<String> = list.iter().map(ToString::to_string).collect();
            words.push(format!("{name} type {{ {} }}", numbers.join(", ")));
        }
        words
    };
    match protocol {
        Protocol::Any => Vec::new(),
        Protocol::Tcp(list) => ports("tcp", list),
        Protocol::Udp(list) => ports("udp", list),
        Protocol::Icmp(list) => types("icmp", list),
        Protocol::Icmp6(list) => types("icmpv6", list),
        Protocol::Number(number) => vec![format!("meta l4proto {number}")],
    }
}

fn ranges(word: &str, list: &[RangeInclusive<u16>]) -> Option<String> {
    if list.is_empty() {
        return None;
    }
    let texts = list.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    });
    let texts: Vec<String> = texts.collect();
    Some(format!("{word} {{ {} }}", texts.join(", ")))
}

fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ip daddr",
        IpAddr::V6(_) => "ip6 daddr",
    }
}

const fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    }
}

fn socket(address: IpAddr, port: u16) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}
