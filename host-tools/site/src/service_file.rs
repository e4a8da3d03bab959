//! `[services]` as written: right types, known keys.

use std::net::{Ipv4Addr, Ipv6Addr};

use policy::{Balance, Forwarding, Transport};

use crate::{
    error::Problem,
    flow::Terms,
    read::{At, Bits, Bits6, Count, Jitter, Most, PortNumber, Table, Weight},
    value::{CheckKind, CheckText, CheckTime, Seconds, Status},
};

/// Settings of one service; what is absent has a default.
pub(crate) struct Entry {
    pub(crate) port: Option<At<PortNumber>>,
    pub(crate) server_port: Option<At<PortNumber>>,
    pub(crate) transport: Option<At<Transport>>,
    pub(crate) network: Option<At<String>>,
    pub(crate) address: Option<At<Ipv4Addr>>,
    pub(crate) address6: Option<At<Ipv6Addr>>,
    pub(crate) role: Option<At<String>>,
    pub(crate) members: Vec<(At<String>, MemberEntry)>,
    pub(crate) from: Option<At<String>>,
    pub(crate) forwarding: Option<At<Forwarding>>,
    pub(crate) balance: Option<At<Balance>>,
    pub(crate) persistence: Option<PersistenceEntry>,
    pub(crate) quorum: Option<At<Count>>,
    pub(crate) sorry: Option<SorryEntry>,
    pub(crate) slow_start: Option<At<Seconds>>,
    pub(crate) check: Option<CheckEntry>,
    pub(crate) agent: Option<At<PortNumber>>,
    pub(crate) terms: Terms,
    pub(crate) why: Option<At<String>>,
}

#[derive(Default)]
pub(crate) struct MemberEntry {
    pub(crate) weight: Option<At<Weight>>,
    pub(crate) max_flows: Option<At<Most>>,
    pub(crate) drain: Option<At<bool>>,
}

pub(crate) struct PersistenceEntry {
    pub(crate) prefix: Option<At<Bits>>,
    pub(crate) prefix6: Option<At<Bits6>>,
    pub(crate) time: At<Seconds>,
}

pub(crate) struct SorryEntry {
    pub(crate) server: At<String>,
    pub(crate) port: Option<At<PortNumber>>,
}

pub(crate) struct CheckEntry {
    pub(crate) kind: At<CheckKind>,
    pub(crate) port: Option<At<PortNumber>>,
    pub(crate) host: Option<At<CheckText>>,
    pub(crate) path: Option<At<CheckText>>,
    pub(crate) status: Option<At<Status>>,
    pub(crate) name: Option<At<CheckText>>,
    pub(crate) interval: Option<At<CheckTime>>,
    pub(crate) timeout: Option<At<CheckTime>>,
    pub(crate) rise: Option<At<Count>>,
    pub(crate) fall: Option<At<Count>>,
    pub(crate) jitter: Option<At<Jitter>>,
    pub(crate) ca: Option<At<String>>,
    pub(crate) verify: Option<At<bool>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 23] = [
        "port",
        "server_port",
        "transport",
        "network",
        "address",
        "address6",
        "role",
        "servers",
        "from",
        "forwarding",
        "balance",
        "persistence",
        "quorum",
        "sorry",
        "slow_start",
        "check",
        "agent",
        "log",
        "rate",
        "max_flows",
        "sync",
        "defer",
        "why",
    ];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let port = table.optional("port", problems);
        let server_port = table.optional("server_port", problems);
        let transport = table.optional("transport", problems);
        let network = table.optional("network", problems);
        let address = table.optional("address", problems);
        let address6 = table.optional("address6", problems);
        let role = table.optional("role", problems);
        let members = members(table, problems);
        let from = table.optional("from", problems);
        let forwarding = table.optional("forwarding", problems);
        let balance = table.optional("balance", problems);
        let persistence = part(table, "persistence", &PERSISTENCE, persistence, problems);
        let quorum = table.optional("quorum", problems);
        let sorry = part(table, "sorry", &SORRY, sorry, problems);
        let slow_start = table.optional("slow_start", problems);
        let check = part(table, "check", &CHECK, check_entry, problems);
        let agent = table.optional("agent", problems);
        let terms = Terms::read(table, problems);
        let why = table.optional("why", problems);
        Some(Self {
            port: port?,
            server_port: server_port?,
            transport: transport?,
            network: network?,
            address: address?,
            address6: address6?,
            role: role?,
            members: members?,
            from: from?,
            forwarding: forwarding?,
            balance: balance?,
            persistence: persistence?,
            quorum: quorum?,
            sorry: sorry?,
            slow_start: slow_start?,
            check: check?,
            agent: agent?,
            terms: terms?,
            why: why?,
        })
    }
}

pub(crate) type Part<T> = fn(&Table<'_>, &mut Vec<Problem>) -> Option<T>;

/// A sub-table that may be absent: `None` if it is there but wrong.
pub(crate) fn part<T>(
    table: &Table<'_>,
    key: &'static str,
    keys: &[&'static str],
    read: Part<T>,
    problems: &mut Vec<Problem>,
) -> Option<Option<T>> {
    if !table.has(key) {
        return Some(None);
    }
    let table = table.table(key, keys, problems)?;
    read(&table, problems).map(Some)
}

pub(crate) const PERSISTENCE: [&str; 3] = ["time", "prefix", "prefix6"];

fn persistence(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<PersistenceEntry> {
    let time = table.required("time", problems);
    let prefix = table.optional("prefix", problems);
    let prefix6 = table.optional("prefix6", problems);
    Some(PersistenceEntry {
        prefix: prefix?,
        prefix6: prefix6?,
        time: time?,
    })
}

pub(crate) const SORRY: [&str; 2] = ["server", "port"];

fn sorry(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<SorryEntry> {
    let server = table.required("server", problems);
    let port = table.optional("port", problems);
    Some(SorryEntry {
        server: server?,
        port: port?,
    })
}

pub(crate) const CHECK: [&str; 13] = [
    "kind", "port", "host", "path", "status", "name", "interval", "timeout", "rise", "fall",
    "jitter", "ca", "verify",
];

fn check_entry(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<CheckEntry> {
    let kind = table.required("kind", problems);
    let port = table.optional("port", problems);
    let host = table.optional("host", problems);
    let path = table.optional("path", problems);
    let status = table.optional("status", problems);
    let name = table.optional("name", problems);
    let interval = table.optional("interval", problems);
    let timeout = table.optional("timeout", problems);
    let rise = table.optional("rise", problems);
    let fall = table.optional("fall", problems);
    let jitter = table.optional("jitter", problems);
    let ca = table.optional("ca", problems);
    let verify = table.optional("verify", problems);
    Some(CheckEntry {
        kind: kind?,
        port: port?,
        host: host?,
        path: path?,
        status: status?,
        name: name?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        jitter: jitter?,
        ca: ca?,
        verify: verify?,
    })
}

pub(crate) const MEMBER: [&str; 3] = ["weight", "max_flows", "drain"];

/// `servers`: a list of names, or a table of names with settings.
fn members(
    table: &Table<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Vec<(At<String>, MemberEntry)>> {
    if let Some(names) = table.names("servers", problems) {
        let names = names?.into_iter();
        return Some(names.map(|name| (name, MemberEntry::default())).collect());
    }
    let Some(section) = table.optional_section("servers", problems) else {
        return (!table.has("servers")).then(Vec::new);
    };
    let mut members = Vec::new();
    for (name, entries) in section.tables(problems) {
        let title = format!("settings of `{}`", name.get_ref());
        let table = Table::new(title, name.span(), entries?, &MEMBER, problems);
        let weight = table.optional("weight", problems);
        let max_flows = table.optional("max_flows", problems);
        let drain = table.optional("drain", problems);
        let settings = MemberEntry {
            weight: weight?,
            max_flows: max_flows?,
            drain: drain?,
        };
        members.push((name, settings));
    }
    Some(members)
}
