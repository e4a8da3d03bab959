//! What must fit together in `[services]`, by itself and in the plan.

use std::net::IpAddr;

use policy::Forwarding;

use crate::{
    authority, derive,
    error::Problem,
    file::{Section, SiteFile},
    flow,
    plan::{Member, Party, Plan, Port, Role, Server, Service},
    read::At,
    service::{MAX_NAME, is_public, resolved, time},
    service_file::{CheckEntry, Entry},
    value::CheckKind,
};

/// Reports what is wrong with services by themselves.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    for (name, entry) in &file.services.entries {
        if is_public(name.get_ref()) {
            fixed(name, entry, problems);
        } else {
            own(name, entry, problems);
        }
        if name.get_ref().len() > MAX_NAME {
            problems.push(long_name(name));
        }
        references(file, name, entry, problems);
        who_serves(file, name, entry, problems);
        entry.terms.check(file, problems);
        if let Some(check) = &entry.check {
            check_of(file, name, check, problems);
            authority::check(file, name, check, problems);
        }
    }
}

/// A name that leaves no room for `internet-` in front of it.
pub(crate) fn long_name(name: &At<String>) -> Problem {
    Problem::new(
        "site::bad_name",
        format!("`{}` is too long a name", name.get_ref()),
    )
    .at(name.span(), format!("{} characters", name.get_ref().len()))
    .help(format!(
        "use at most {MAX_NAME} characters: its flows are called internet-NAME and check-NAME"
    ))
}

/// What the roles' own services do is not for the operator to say.
fn fixed(name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let places = [
        (entry.port.as_ref().map(At::span), "port"),
        (entry.server_port.as_ref().map(At::span), "server_port"),
        (entry.transport.as_ref().map(At::span), "transport"),
        (entry.role.as_ref().map(At::span), "role"),
        (entry.network.as_ref().map(At::span), "network"),
        (entry.forwarding.as_ref().map(At::span), "forwarding"),
    ];
    for (place, key) in places {
        let Some(place) = place else { continue };
        problems.push(
            Problem::new(
                "site::fixed_service",
                format!("`{key}` of service `{}` cannot be chosen", name.get_ref()),
            )
            .at(name.span(), "brought along by the haproxy role")
            .at(place, "which says this")
            .help(format!("remove `{key}`, or make a service of another name")),
        );
    }
}

/// A service of the operator's own says where it is and who serves it.
fn own(name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let service = name.get_ref();
    let lacks = |key: &str, help: &str| {
        Problem::new(
            "site::missing_key",
            format!("[services.{service}] lacks `{key}`"),
        )
        .at(name.span(), format!("needs `{key}`"))
        .help(help)
    };
    if entry.port.is_none() {
        problems.push(lacks(
            "port",
            "add port = …, the port that users connect to",
        ));
    }
    if entry.role.is_none() && entry.members.is_empty() {
        problems.push(lacks(
            "servers",
            "add servers = [\"…\"], the real servers in the order of preference, or role = \"…\"",
        ));
    }
}

/// Networks, parties and servers that settings name must be there.
fn references(file: &SiteFile, name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let service = name.get_ref();
    if let Some(network) = &entry.network {
        unknown_network(file, &format!("service `{service}`"), network, problems);
    }
    if let Some(from) = &entry.from {
        match flow::party(file, from.get_ref()) {
            None => problems.push(flow::unknown_party(
                file,
                &format!("service `{service}`"),
                from,
            )),
            Some(Party::Appliances) => problems.push(
                Problem::new(
                    "site::impossible_flow",
                    format!("nobody can use service `{service}`"),
                )
                .at(from.span(), "not possible as `from`")
                .help("the appliances use no service: write who does"),
            ),
            Some(
                Party::Internet
                | Party::Role(_)
                | Party::Servers
                | Party::Server(_)
                | Party::Set(_)
                | Party::Address(_),
            ) => {}
        }
    }
    let sorry = entry.sorry.as_ref().map(|sorry| &sorry.server);
    for server in entry.members.iter().map(|(name, _)| name).chain(sorry) {
        unknown_server(file, &format!("service `{service}`"), server, problems);
    }
    if let Some(role) = &entry.role
        && derive::role(role.get_ref()).is_none()
    {
        problems.push(
            Problem::new(
                "site::unknown_role",
                format!(
                    "service `{service}` has an unknown role `{}`",
                    role.get_ref()
                ),
            )
            .at(role.span(), "no server can do this")
            .suggest(role.get_ref(), Role::ALL.into_iter().map(Role::name)),
        );
    }
}

/// Reports a server that does not exist.
pub(crate) fn unknown_server(
    file: &SiteFile,
    what: &str,
    server: &At<String>,
    problems: &mut Vec<Problem>,
) {
    let word = server.get_ref();
    if !file.servers.has(word) {
        let known = file
            .servers
            .names
            .iter()
            .map(|name| name.get_ref().as_str());
        problems.push(
            Problem::new(
                "site::unknown_server",
                format!("{what} names an unknown server `{word}`"),
            )
            .at(server.span(), "there is no such server")
            .suggest(word, known),
        );
    }
}

/// Reports a network that does not exist.
pub(crate) fn unknown_network(
    file: &SiteFile,
    what: &str,
    network: &At<String>,
    problems: &mut Vec<Problem>,
) {
    let word = network.get_ref();
    if !file.networks.has(word) {
        let known = file
            .networks
            .names
            .iter()
            .map(|name| name.get_ref().as_str());
        problems.push(
            Problem::new(
                "site::unknown_network",
                format!("{what} is in an unknown network `{word}`"),
            )
            .at(network.span(), "there is no such network")
            .suggest(word, known),
        );
    }
}

/// The servers of a service: each once, of its role, as many as it needs and fit.
fn who_serves(file: &SiteFile, name: &At<String>, entry: &Entry, problems: &mut Vec<Problem>) {
    let service = name.get_ref();
    let role = resolved(file, service).and_then(|service| service.role);
    for (position, (member, settings)) in entry.members.iter().enumerate() {
        let word = member.get_ref();
        let earlier = &entry.members[..position];
        if let Some((first, _)) = earlier.iter().find(|(other, _)| other.get_ref() == word) {
            problems.push(
                Problem::new(
                    "site::duplicate_name",
                    format!("service `{service}` has server `{word}` twice"),
                )
                .at(first.span(), "the first")
                .at(member.span(), "another")
                .help("remove one: a larger share is said by `weight`"),
            );
        }
        if let (Some(weight), Some(drain)) = (&settings.weight, &settings.drain)
            && *drain.get_ref()
        {
            problems.push(
                Problem::new(
                    "site::contradiction",
                    format!("`{word}` has a share of `{service}` and gets nothing"),
                )
                .at(weight.span(), "its share of new flows")
                .at(drain.span(), "no new flows")
                .help("remove one of them"),
            );
        }
        if let (Some(role), Some(server)) = (role, file.servers.get(word))
            && server.role.get_ref() != role.name()
        {
            problems.push(
                Problem::new(
                    "site::wrong_role",
                    format!("`{word}` does not serve `{service}`"),
                )
                .at(server.role.span(), "its role")
                .at(member.span(), format!("not one of role {}", role.name()))
                .help("name servers of that role here; the others serve nothing of it"),
            );
        }
    }
    let count = match role {
        Some(role) => (file.servers.entries.iter())
            .filter(|(_, server)| server.role.get_ref() == role.name())
            .count(),
        None => entry.members.len(),
    };
    let place = entry.role.as_ref().map_or(name.span(), At::span);
    if count > policy::MAX_SERVERS && !is_public(service) {
        problems.push(
            Problem::new(
                "site::too_many_servers",
                format!("{count} servers behind `{service}`"),
            )
            .at(place, "too many for one service")
            .help(format!(
                "an appliance balances over at most {} servers",
                policy::MAX_SERVERS
            )),
        );
    }
    if let Some(quorum) = &entry.quorum
        && count > 0
        && usize::from(quorum.get_ref().0) > count
    {
        problems.push(
            Problem::new(
                "site::contradiction",
                format!("service `{service}` can never have its quorum"),
            )
            .at(quorum.span(), "more than it has servers")
            .help(format!("write a number from 1 to {count}")),
        );
    }
}

fn check_of(file: &SiteFile, name: &At<String>, check: &CheckEntry, problems: &mut Vec<Problem>) {
    let kind = *check.kind.get_ref();
    let http = matches!(kind, CheckKind::Http | CheckKind::Https);
    let idle = [
        (check.host.as_ref().map(At::span), "host", http),
        (check.path.as_ref().map(At::span), "path", http),
        (check.status.as_ref().map(At::span), "status", http),
        (
            check.name.as_ref().map(At::span),
            "name",
            kind == CheckKind::Dns,
        ),
        (
            check.port.as_ref().map(At::span),
            "port",
            kind != CheckKind::Ping,
        ),
        (
            check.ca.as_ref().map(At::span),
            "ca",
            kind == CheckKind::Https,
        ),
        (
            check.verify.as_ref().map(At::span),
            "verify",
            kind == CheckKind::Https,
        ),
    ];
    for (place, key, meant) in idle {
        if let (Some(place), false) = (place, meant) {
            problems.push(
                Problem::new(
                    "site::contradiction",
                    format!("the check of `{}` has no use for `{key}`", name.get_ref()),
                )
                .at(check.kind.span(), "this kind asks nothing of the sort")
                .at(place, "so this means nothing")
                .help(format!("remove `{key}`, or choose another `kind`")),
            );
        }
    }
    if let Some(path) = check
        .path
        .as_ref()
        .filter(|path| !path.get_ref().0.starts_with('/'))
    {
        problems.push(
            Problem::new("site::wrong_value", "`path` has an impossible value")
                .at(path.span(), "has no slash in front")
                .help("write the path as a browser asks for it, such as \"/healthz\""),
        );
    }
    // Names in DNS have labels of 1 to 63 bytes (RFC 1035 §2.3.4).
    let is_name = |name: &str| {
        let mut labels = name.trim_end_matches('.').split('.');
        name == "." || labels.all(|label| (1..=63).contains(&label.len()))
    };
    if let Some(asked) = check.name.as_ref().filter(|n| !is_name(&n.get_ref().0)) {
        problems.push(
            Problem::new("site::wrong_value", "`name` has an impossible value")
                .at(asked.span(), "not a DNS name")
                .help("write the name that is asked for, such as \"www.example.com\""),
        );
    }
    let (key, given) = match kind {
        CheckKind::Dns => ("name", check.name.is_some()),
        CheckKind::Http | CheckKind::Https => ("host", check.host.is_some()),
        CheckKind::Tcp | CheckKind::Ping | CheckKind::Mysql => ("", true),
    };
    let domain = file.domain.as_deref().unwrap_or_default();
    if !given && policy::Text::try_from(domain).is_err() {
        problems.push(
            Problem::new(
                "site::missing_key",
                format!("the check of `{}` lacks `{key}`", name.get_ref()),
            )
            .at(
                check.kind.span(),
                "asks for the domain of the site, which is too long",
            )
            .help(format!("add `{key}`, of at most 63 characters")),
        );
    }
    let defaults = policy::Check::default();
    let interval = time(check.interval.as_ref(), defaults.interval_ms);
    let timeout = time(check.timeout.as_ref(), defaults.timeout_ms.min(interval));
    if let Some(given) = check.timeout.as_ref().filter(|_| timeout > interval) {
        let place = check.interval.as_ref().map_or(name.span(), At::span);
        problems.push(
            Problem::new(
                "site::contradiction",
                format!("the check of `{}` outlasts its interval", name.get_ref()),
            )
            .at(place, format!("asks every {interval} ms"))
            .at(given.span(), "and waits longer")
            .help(format!("write a timeout of at most \"{interval}ms\"")),
        );
    }
}

/// What only the whole plan shows about services: clashes, sizes, and ways on which answers come back.
pub(crate) fn fit(plan: &Plan, file: &SiteFile) -> Option<Problem> {
    let place = |name: &str| {
        let names: &Section<Entry> = &file.services;
        (names.names.iter())
            .find(|known| known.get_ref() == name)
            .map_or(names.place.clone(), At::span)
    };
    for (position, service) in plan.services.iter().enumerate() {
        let same = |other: &&Service| {
            (other.address, other.port, other.transport)
                == (service.address, service.port, service.transport)
        };
        if let Some(other) = plan.services[..position].iter().find(same) {
            let problem = Problem::new(
                "site::duplicate_service",
                format!(
                    "services `{}` and `{}` are the same",
                    other.name, service.name
                ),
            );
            return Some(
                problem
                    .at(
                        place(&service.name),
                        format!(
                            "{} port {}, as `{}` has it",
                            service.address, service.port, other.name
                        ),
                    )
                    .help("give one of them another port, or put both into one"),
            );
        }
        if let Some(problem) = elsewhere(plan, file, service) {
            return Some(problem);
        }
        if let Some(problem) = way_back(plan, file, service, place(&service.name)) {
            return Some(problem);
        }
    }
    let on_appliance = |service: &Service| 1 + usize::from(has_version6(plan, service));
    let count: usize = plan.services.iter().map(on_appliance).sum();
    (count > policy::MAX_SERVICES).then(|| {
        Problem::new(
            "site::too_many_services",
            format!("the appliances would have {count} services"),
        )
        .at(
            file.services.place.clone(),
            "each counts for every version of IP",
        )
        .help(format!(
            "an appliance has room for {}",
            policy::MAX_SERVICES
        ))
    })
}

/// Whether a service is offered on IPv6 too.
fn has_version6(plan: &Plan, service: &Service) -> bool {
    let has = |member: &Member| {
        plan.server(&member.server)
            .is_some_and(|server| server.address6.is_some())
    };
    service.address6.is_some() && service.servers.iter().any(has)
}

/// A service at an address that its network does not have.
fn elsewhere(plan: &Plan, file: &SiteFile, service: &Service) -> Option<Problem> {
    let entry = file.services.get(&service.name)?;
    let network = match &entry.network {
        Some(network) => plan.network(network.get_ref())?,
        None => (plan.networks.iter()).find(|network| network.port == Port::Wan)?,
    };
    let v4 = (entry.address.as_ref()).map(|at| (at.span(), IpAddr::V4(*at.get_ref())));
    let v6 = (entry.address6.as_ref()).map(|at| (at.span(), IpAddr::V6(*at.get_ref())));
    let has = |address: IpAddr| network.virtual_addresses().any(|own| own == address);
    let (place, _) = [v4, v6]
        .into_iter()
        .flatten()
        .find(|(_, address)| !has(*address))?;
    Some(
        Problem::new(
            "site::not_virtual",
            format!("service `{}` is at no virtual address", service.name),
        )
        .at(place, format!("`{}` does not have it", network.name))
        .help("use an address of `virtual`, `virtual6`, `excluded` or `routers` of its network"),
    )
}

/// Translated answers must pass the appliances again; those of direct return must not have to.
fn way_back(
    plan: &Plan,
    file: &SiteFile,
    service: &Service,
    place: std::ops::Range<usize>,
) -> Option<Problem> {
    let of = resolved(file, &service.name)?;
    let members: Vec<&Server> = (service.servers.iter())
        .filter_map(|member| plan.server(&member.server))
        .collect();
    let home = (plan.networks.iter())
        .find(|network| (network.virtual_addresses()).any(|address| address == service.address))
        .map(|network| network.name.as_str());
    let clients: Vec<&Server> = plan.servers_in(&of.from).collect();
    match service.forwarding {
        Forwarding::Nat => {
            let pair = clients.iter().find_map(|client| {
                let neighbour = |server: &&&Server| server.network == client.network;
                members
                    .iter()
                    .find(neighbour)
                    .map(|server| (client, server))
            });
            let (client, server) = pair?;
            Some(
                Problem::new(
                    "site::no_way_back",
                    format!("`{}` would get no answers from service `{}`", client.name, service.name),
                )
                .at(
                    place,
                    format!("`{}` is its neighbour and would answer past the appliance", server.name),
                )
                .help("put clients and servers into different networks, or use forwarding = \"direct-return\""),
            )
        }
        Forwarding::DirectReturn => {
            let away = (clients.iter().chain(&members))
                .find(|server| Some(server.network.as_str()) != home)
                .map(|server| format!("`{}` is in another network", server.name));
            let outside = clients
                .is_empty()
                .then(|| "its users are outside the rack".to_owned());
            let port = (service.port != service.server_port)
                .then(|| "the port cannot change on the way".to_owned());
            let label = outside.or(away).or(port)?;
            Some(
                Problem::new(
                    "site::no_way_back",
                    format!("service `{}` cannot be direct-return", service.name),
                )
                .at(place, label)
                .help("its users and servers must be in the network of its virtual address, and both ports the same: otherwise leave forwarding = \"nat\""),
            )
        }
    }
}
