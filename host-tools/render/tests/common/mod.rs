//! The plan of the reference site, and secrets that are none.

#![allow(dead_code)] // not every test file uses all of it

use policy::rule::Legs;
use render::{Identity, Material};
use site::plan::{Role, Server};
use site::{Boards, Plan};

/// The plan of `examples/foobar/site.toml`.
pub fn foobar() -> Plan {
    let text = include_str!("../../../../examples/foobar/site.toml");
    let boards = Boards::new([("zynq7000", 2), ("mps2-an500", 1), ("linux", 2)]);
    site::parse("site.toml", text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The plan of `examples/dualstack/site.toml`.
pub fn dualstack() -> Plan {
    let text = include_str!("../../../../examples/dualstack/site.toml");
    let boards = Boards::new([("zynq7000", 2)]);
    site::parse("site.toml", text, &boards).unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// What the tool's PKI would give a server.
pub fn material(server: &Server) -> Material {
    let identity = |name: &str, purpose: &str| Identity {
        certificate: format!("({purpose} certificate of {name})\n"),
        key: format!("({purpose} key of {name})\n"),
    };
    let own = |purpose| Some(identity(&server.name, purpose));
    let anchor = |role: Role| format!("(certificate of the authority of {})\n", role.name());
    Material {
        ca: "(certificate of the root)\n".into(),
        tiers: Role::ALL.map(|role| (role, anchor(role))).into(),
        server: own("server"),
        client: own("client"),
        peer: matches!(server.role, Role::Db | Role::Monitor)
            .then(|| identity(&server.name, "peer")),
        site: (server.role == Role::Haproxy).then(|| identity("www.foobar.com", "site")),
        sumo_url: None,
        mail: None,
        ssh_host_key: Some("its host key\n".to_owned()),
        database_password: matches!(server.role, Role::App | Role::Db).then(|| "s3cret".into()),
    }
}

/// One rule a line, with the networks' names.
pub fn listed(config: &policy::Config, rules: &[policy::rule::Rule]) -> String {
    let end = |legs: Legs, prefixes: &[policy::IpPrefix]| {
        let legs = (0..)
            .zip(&config.interfaces)
            .filter(|(index, _)| legs.contains(*index))
            .map(|(_, leg)| leg.name.to_string());
        let prefixes = prefixes.iter().map(ToString::to_string);
        legs.chain(prefixes).collect::<Vec<_>>().join(" ")
    };
    let line = |rule: &policy::rule::Rule| {
        format!(
            "{}: {} -> {} {:?} {:?}{}{}{}",
            rule.name,
            end(rule.from, &rule.sources),
            end(rule.to, &rule.destinations),
            rule.protocol,
            rule.action,
            if rule.log { " log" } else { "" },
            rule.rate
                .map_or(String::new(), |index| format!(" rate {index}")),
            rule.flows
                .map_or(String::new(), |index| format!(" flows {index}")),
        )
    };
    rules.iter().map(line).collect::<Vec<_>>().join("\n")
}
