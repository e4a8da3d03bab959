//! The site file as written: right types, known keys, nothing compared with anything else yet.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Range,
};

use ipnet::{Ipv4Net, Ipv6Net};
use toml::de::DeTable;

use crate::{
    app, database, derive,
    error::Problem,
    events, flow, http, monitoring, nat, nginx,
    plan::Port,
    read::{At, Domain, Host, Interval, Label, Mtu, Number, Priority, Table, Vlan},
    service_file, ssh,
    value::Prefixes,
    vrrp_file::{self, PairEntry, RouterEntry, TrackEntry},
};

/// What could be read of a site file; absent parts were reported.
#[derive(Default)]
pub(crate) struct SiteFile {
    pub(crate) name: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) certificate: Option<At<String>>,
    pub(crate) key: Option<At<String>>,
    pub(crate) vrrp: vrrp_file::Entry,
    pub(crate) pair: Option<PairEntry>,
    pub(crate) tracks: Vec<TrackEntry>,
    pub(crate) networks: Section<Network>,
    pub(crate) appliances: Section<Appliance>,
    pub(crate) servers: Section<Server>,
    pub(crate) sets: Vec<(At<String>, Option<At<Prefixes>>)>,
    pub(crate) flows: Vec<flow::Entry>,
    pub(crate) services: Section<service_file::Entry>,
    pub(crate) nat: Vec<nat::Entry>,
    pub(crate) protection: policy::Protection,
    pub(crate) http: http::Entry,
    pub(crate) nginx: nginx::Entry,
    pub(crate) events: events::Entry,
    pub(crate) db: database::Entry,
    pub(crate) monitoring: monitoring::Entry,
    pub(crate) app: app::Entry,
    pub(crate) ssh: Option<ssh::Entry>,
}

/// Named entries in the order of the file.
pub(crate) struct Section<T> {
    /// Place of the section's own name.
    pub(crate) place: Range<usize>,
    /// All names, also of entries that could not be read.
    pub(crate) names: Vec<At<String>>,
    /// The entries that could be read.
    pub(crate) entries: Vec<(At<String>, T)>,
}

impl<T> Default for Section<T> {
    fn default() -> Self {
        Self {
            place: 0..0,
            names: Vec::new(),
            entries: Vec::new(),
        }
    }
}

impl<T> Section<T> {
    /// Whether every entry could be read, so that what is missing is missing in the file.
    pub(crate) fn is_complete(&self) -> bool {
        !self.place.is_empty() && self.names.len() == self.entries.len()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.entries
            .iter()
            .find(|(key, _)| key.get_ref() == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known.get_ref() == name)
    }
}

pub(crate) struct Network {
    pub(crate) port: At<Port>,
    pub(crate) subnet: At<Ipv4Net>,
    pub(crate) vlan: Option<At<Vlan>>,
    /// The virtual router whose first addresses are the network's own.
    pub(crate) router: RouterEntry,
    /// Others in the same network.
    pub(crate) routers: Vec<RouterEntry>,
    pub(crate) uplink: Option<At<Ipv4Addr>>,
    pub(crate) subnet6: Option<At<Ipv6Net>>,
    pub(crate) uplink6: Option<At<Ipv6Addr>>,
    pub(crate) mtu: Option<At<Mtu>>,
    pub(crate) interval: Option<At<Interval>>,
    pub(crate) accept: Option<At<bool>>,
    pub(crate) virtual_mac: Option<At<bool>>,
    pub(crate) peers: Vec<At<IpAddr>>,
    pub(crate) neighbours: Vec<At<Ipv4Addr>>,
}

impl Network {
    /// All virtual routers, the network's own first.
    pub(crate) fn all_routers(&self) -> impl Iterator<Item = &RouterEntry> {
        std::iter::once(&self.router).chain(&self.routers)
    }
}

pub(crate) struct Appliance {
    pub(crate) board: At<String>,
    pub(crate) priority: At<Priority>,
    pub(crate) host: At<Host>,
}

impl Appliance {
    /// Whether it is a Debian machine with keepalived instead of one of ours.
    pub(crate) fn is_foreign(&self) -> bool {
        self.board.get_ref() == KEEPALIVED
    }
}

/// What stands for a board where there is none.
pub(crate) const KEEPALIVED: &str = "keepalived";

pub(crate) struct Server {
    /// A name until `check` has compared it with the roles that exist.
    pub(crate) role: At<String>,
    pub(crate) network: At<String>,
    pub(crate) address: At<Ipv4Addr>,
    pub(crate) address6: Option<At<Ipv6Addr>>,
}

/// Reads all that can be read and reports the rest.
pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> SiteFile {
    let (document, errors) = DeTable::parse_recoverable(text);
    if let Some(first) = errors.first() {
        // Later ones, and all that follows from a broken document, would only confuse.
        problems.push(syntax(first));
        return SiteFile::default();
    }
    let keys = [
        "site",
        "vrrp",
        "pair",
        "track",
        "networks",
        "appliances",
        "servers",
        "sets",
        "flows",
        "services",
        "nat",
        "protection",
        "http",
        "nginx",
        "events",
        "db",
        "monitoring",
        "app",
        "ssh",
    ];
    let root = Table::new("the site file", 0..0, document.get_ref(), &keys, problems);
    let mut file = SiteFile::default();
    if let Some(site) = root.table("site", &SITE, problems) {
        file.name = site
            .required::<Label>("name", problems)
            .map(|name| name.into_inner().0);
        file.domain = site
            .required::<Domain>("domain", problems)
            .map(|name| name.into_inner().0);
        file.certificate = site.optional("certificate", problems).flatten();
        file.key = site.optional("key", problems).flatten();
    }
    if let Some(vrrp) = root.table("vrrp", &vrrp_file::Entry::KEYS, problems) {
        file.vrrp = vrrp_file::Entry::read(&vrrp, problems);
    }
    if let Some(pair) = root.optional_table("pair", &vrrp_file::PAIR, problems) {
        file.pair = vrrp_file::pair(&pair, problems);
    }
    for (place, entries) in root.array("track", problems) {
        let table = Table::new("[[track]]", place, entries, &vrrp_file::TRACK, problems);
        file.tracks.extend(vrrp_file::track(&table, problems));
    }
    file.networks = section(&root, "networks", &NETWORK, network, problems);
    file.appliances = section(&root, "appliances", &APPLIANCE, appliance, problems);
    file.servers = section(&root, "servers", &SERVER, server, problems);
    if let Some(sets) = root.optional_section("sets", problems) {
        file.sets = sets.values(problems);
    }
    for (place, entries) in root.array("flows", problems) {
        let table = Table::new("[[flows]]", place, entries, &flow::Entry::KEYS, problems);
        file.flows.extend(flow::Entry::read(&table, problems));
    }
    if root.has("services") {
        let keys = &service_file::Entry::KEYS;
        file.services = section(&root, "services", keys, service_file::Entry::read, problems);
    }
    for (place, entries) in root.array("nat", problems) {
        let table = Table::new("[[nat]]", place, entries, &nat::Entry::KEYS, problems);
        file.nat.extend(nat::Entry::read(&table, problems));
    }
    if let Some(table) = root.optional_table("protection", &PROTECTION, problems) {
        file.protection = protection(&table, problems);
    }
    if let Some(table) = root.optional_table("http", &http::Entry::KEYS, problems) {
        file.http = http::Entry::read(&table, problems).unwrap_or_default();
    }
    if let Some(table) = root.optional_table("nginx", &nginx::Entry::KEYS, problems) {
        file.nginx = nginx::Entry::read(&table, problems).unwrap_or_default();
    }
    if let Some(table) = root.optional_table("events", &events::Entry::KEYS, problems) {
        file.events = events::Entry::read(&table, problems);
    }
    if let Some(table) = root.optional_table("db", &database::DB, problems) {
        file.db = database::Entry::read(&table, problems);
    }
    if let Some(table) = root.optional_table("monitoring", &monitoring::KEYS, problems) {
        file.monitoring = monitoring::read(&table, problems);
    }
    if let Some(table) = root.optional_table("app", &app::Entry::KEYS, problems) {
        file.app = app::Entry::read(&table, problems).unwrap_or_default();
    }
    if let Some(table) = root.optional_table("ssh", &ssh::Entry::KEYS, problems) {
        file.ssh = ssh::Entry::read(&table, problems);
    }
    file
}

fn syntax(error: &toml::de::Error) -> Problem {
    let problem = Problem::new("site::syntax", format!("not TOML: {}", error.message())).help("each line is key = value, a [heading] that appears once, or a # comment; texts stand in double quotes");
    match error.span() {
        Some(place) => problem.at(place, "here"),
        None => problem,
    }
}

type Entry<T> = fn(&Table<'_>, &mut Vec<Problem>) -> Option<T>;

fn section<T>(
    root: &Table<'_>,
    key: &'static str,
    keys: &[&'static str],
    entry: Entry<T>,
    problems: &mut Vec<Problem>,
) -> Section<T> {
    let mut section = Section::default();
    let Some(table) = root.section(key, problems) else {
        return section;
    };
    section.place = table.place.clone();
    for (name, entries) in table.tables(problems) {
        if let Some(fault) = Label::fault(name.get_ref()) {
            problems.push(derive::bad_name(&name, fault));
        }
        if let Some(entries) = entries {
            let title = format!("[{key}.{}]", name.get_ref());
            let table = Table::new(title, name.span(), entries, keys, problems);
            section
                .entries
                .extend(entry(&table, problems).map(|value| (name.clone(), value)));
        }
        section.names.push(name);
    }
    section
}

const SITE: [&str; 4] = ["name", "domain", "certificate", "key"];
const NETWORK: [&str; 18] = [
    "port",
    "subnet",
    "vlan",
    "vrid",
    "vrid6",
    "virtual",
    "excluded",
    "routers",
    "uplink",
    "subnet6",
    "virtual6",
    "uplink6",
    "mtu",
    "advertisement_interval",
    "accept",
    "virtual_mac",
    "peers",
    "neighbours",
];

fn network(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Network> {
    let port = table.required("port", problems);
    let subnet = table.required("subnet", problems);
    let vlan = table.optional("vlan", problems);
    let vrid = table.required("vrid", problems);
    let vrid6 = table.optional("vrid6", problems);
    let v4 = table.required_list("virtual", problems);
    let excluded = table.list("excluded", problems);
    let routers = vrrp_file::routers(table, problems);
    let uplink = table.optional("uplink", problems);
    let subnet6 = table.optional("subnet6", problems);
    let v6 = table.list("virtual6", problems);
    let uplink6 = table.optional("uplink6", problems);
    let mtu = table.optional("mtu", problems);
    let interval = table.optional("advertisement_interval", problems);
    let accept = table.optional("accept", problems);
    let virtual_mac = table.optional("virtual_mac", problems);
    let peers = table.list("peers", problems);
    let neighbours = table.list("neighbours", problems);
    Some(Network {
        port: port?,
        subnet: subnet?,
        vlan: vlan?,
        router: RouterEntry {
            vrid: vrid?,
            vrid6: vrid6?,
            v4: v4?,
            v6: v6?,
            excluded: excluded?,
        },
        routers: routers?,
        uplink: uplink?,
        subnet6: subnet6?,
        uplink6: uplink6?,
        mtu: mtu?,
        interval: interval?,
        accept: accept?,
        virtual_mac: virtual_mac?,
        peers: peers?,
        neighbours: neighbours?,
    })
}

const APPLIANCE: [&str; 3] = ["board", "priority", "host"];

fn appliance(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Appliance> {
    let board = table.required("board", problems);
    let priority = table.required("priority", problems);
    let host = table.required("host", problems);
    Some(Appliance {
        board: board?,
        priority: priority?,
        host: host?,
    })
}

const SERVER: [&str; 4] = ["role", "network", "address", "address6"];

fn server(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Server> {
    let role = table.required("role", problems);
    let network = table.required("network", problems);
    let address = table.required("address", problems);
    let address6 = table.optional("address6", problems);
    Some(Server {
        role: role?,
        network: network?,
        address: address?,
        address6: address6?,
    })
}

const PROTECTION: [&str; 5] = [
    "syn_cookies_above",
    "strict_windows",
    "icmp_errors_per_second",
    "clamp_mss",
    "answer_rejects",
];

/// What is not written keeps its default.
fn protection(table: &Table<'_>, problems: &mut Vec<Problem>) -> policy::Protection {
    let mut protection = policy::Protection::default();
    if let Some(above) = table
        .optional::<Number>("syn_cookies_above", problems)
        .flatten()
    {
        protection.syn_cookies_above = above.get_ref().0;
    }
    if let Some(most) = table
        .optional::<Number>("icmp_errors_per_second", problems)
        .flatten()
    {
        protection.icmp_errors_per_second = most.get_ref().0;
    }
    for (key, value) in [
        ("strict_windows", &mut protection.strict_windows),
        ("clamp_mss", &mut protection.clamp_mss),
        ("answer_rejects", &mut protection.answer_rejects),
    ] {
        if let Some(written) = table.optional(key, problems).flatten() {
            *value = *written.get_ref();
        }
    }
    protection
}

#[cfg(test)]
mod tests {
    use crate::{Boards, parse};

    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/site-file.md");

    #[test]
    fn the_reference_names_every_key() {
        let keys = [
            &SITE[..],
            &vrrp_file::Entry::KEYS,
            &vrrp_file::AUTHENTICATION,
            &vrrp_file::KEY,
            &vrrp_file::ANNOUNCE,
            &vrrp_file::ROUTER,
            &vrrp_file::PAIR,
            &vrrp_file::TRACK,
            &NETWORK,
            &APPLIANCE,
            &SERVER,
            &flow::Entry::KEYS,
            &service_file::Entry::KEYS,
            &service_file::MEMBER,
            &service_file::PERSISTENCE,
            &service_file::SORRY,
            &service_file::CHECK,
            &nat::Entry::KEYS,
            &PROTECTION,
            &http::Entry::KEYS,
            &nginx::Entry::KEYS,
            &events::Entry::KEYS,
            &database::DB,
            &database::BACKUP,
            &monitoring::KEYS,
            &monitoring::ALERTS,
            &monitoring::EMAIL,
            &monitoring::SUMO,
            &app::Entry::KEYS,
            &ssh::Entry::KEYS,
        ];
        for key in keys.concat() {
            let named = format!("`{key}`");
            assert!(REFERENCE.contains(&named), "{named} is not explained");
            let used = REFERENCE.contains(&format!("{key} = "));
            let table = REFERENCE.contains(&format!(".{key}]"));
            assert!(used || table, "{key} has no example");
        }
    }

    #[test]
    fn the_examples_of_the_reference_are_a_site() {
        let blocks = REFERENCE.split("```toml\n").skip(1);
        let text: String = blocks
            .filter_map(|block| block.split("```").next())
            .collect();
        let plan = parse("site-file.md", &text, &Boards::new([("zynq7000", 2)]));
        let plan = plan.unwrap_or_else(|errors| panic!("{errors:?}\n{text}"));
        assert_eq!(plan.services.len(), 4);
    }
}
