//! `[http]`: what HAProxy asks of users, and what it promises their browsers.

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::Serialize;
use toml::de::DeValue;

use crate::{
    app::Path,
    error::Problem,
    file::SiteFile,
    flow,
    plan::{Flow, Party, Role, Traffic, ports},
    read::{At, Number, Table, Value, Wrong, text},
    value::milliseconds,
};

/// How users are treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Http {
    /// Most requests of one client; none for any number.
    pub rate_limit: Option<RequestRate>,
    /// Most connections of one client at a time.
    pub connections: u16,
    /// Seconds that browsers shall use nothing but TLS; none to tell them nothing.
    pub hsts: Option<u32>,
    /// Seconds in which connections may come to their end when a balancer stops.
    pub drain: u16,
    /// Seconds that connections may go on that began before a reload, which new certificates need.
    pub old_connections: u32,
    /// Paths under which users may change to another protocol than HTTP, such as WebSocket.
    pub upgrade: Vec<String>,
    /// Whether HAProxy tells Nginx the client's address by the PROXY protocol, and not by a header.
    pub proxy_protocol: bool,
    /// Balancers in front of the site, which say by the PROXY protocol whom they speak for.
    pub accept_proxy: Vec<IpNet>,
}

/// So many requests in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RequestRate {
    /// How many.
    pub requests: u32,
    /// In how many seconds.
    pub seconds: u32,
}

/// `[http]` as written; what is absent has a default.
#[derive(Default)]
pub(crate) struct Entry {
    rate_limit: Option<At<Limit>>,
    connections: Option<At<Number>>,
    hsts: Option<At<Hsts>>,
    drain: Option<At<Drain>>,
    old_connections: Option<At<Old>>,
    upgrade: Vec<At<Path>>,
    proxy_protocol: Option<At<bool>>,
    accept_proxy: Vec<At<String>>,
}

impl Entry {
    pub(crate) const KEYS: [&str; 8] = [
        "rate_limit",
        "connections",
        "hsts",
        "drain",
        "old_connections",
        "upgrade",
        "proxy_protocol",
        "accept_proxy",
    ];

    pub(crate) fn read(table: &Table<'_>, problems: &mut Vec<Problem>) -> Option<Self> {
        let rate_limit = table.optional("rate_limit", problems);
        let connections = table.optional("connections", problems);
        let hsts = table.optional("hsts", problems);
        let drain = table.optional("drain", problems);
        let old_connections = table.optional("old_connections", problems);
        let upgrade = table.list("upgrade", problems);
        let proxy_protocol = table.optional("proxy_protocol", problems);
        let accept_proxy = table.list("accept_proxy", problems);
        Some(Self {
            rate_limit: rate_limit?,
            connections: connections?,
            hsts: hsts?,
            drain: drain?,
            old_connections: old_connections?,
            upgrade: upgrade?,
            proxy_protocol: proxy_protocol?,
            accept_proxy: accept_proxy?,
        })
    }
}

/// Who may say whom he speaks for must be a set or addresses.
pub(crate) fn check(file: &SiteFile, problems: &mut Vec<Problem>) {
    for party in &file.http.accept_proxy {
        match flow::party(file, party.get_ref()) {
            Some(Party::Set(_) | Party::Address(_)) => {}
            None => problems.push(flow::unknown_party(file, "`accept_proxy`", party)),
            Some(
                Party::Internet
                | Party::Appliances
                | Party::Servers
                | Party::Role(_)
                | Party::Server(_),
            ) => problems.push(
                Problem::new(
                    "site::forgeable_address",
                    "anybody could say that he is somebody else",
                )
                .at(party.span(), "not addresses of balancers")
                .help(
                    "write the addresses of the balancers in front of the site, or a set of them",
                ),
            ),
        }
    }
}

/// What follows from the file.
pub(crate) fn settings(file: &SiteFile) -> Http {
    let entry = &file.http;
    let prefixes = |party: &At<String>| match flow::party(file, party.get_ref()) {
        Some(Party::Address(prefix)) => vec![prefix],
        Some(Party::Set(name)) => (flow::sets(file).into_iter())
            .find(|set| set.name == name)
            .map_or_else(Vec::new, |set| set.prefixes),
        Some(
            Party::Internet
            | Party::Appliances
            | Party::Servers
            | Party::Role(_)
            | Party::Server(_),
        )
        | None => Vec::new(),
    };
    Http {
        rate_limit: (entry.rate_limit.as_ref()).map_or(Some(RATE_LIMIT), |limit| limit.get_ref().0),
        connections: (entry.connections.as_ref()).map_or(CONNECTIONS, |most| most.get_ref().0),
        hsts: (entry.hsts.as_ref()).map_or(Some(HSTS), |time| time.get_ref().0),
        drain: (entry.drain.as_ref()).map_or(DRAIN, |time| time.get_ref().0),
        old_connections: (entry.old_connections.as_ref())
            .map_or(OLD_CONNECTIONS, |time| time.get_ref().0),
        upgrade: (entry.upgrade.iter())
            .map(|path| path.get_ref().0.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        proxy_protocol: (entry.proxy_protocol.as_ref()).is_some_and(|yes| *yes.get_ref()),
        accept_proxy: entry.accept_proxy.iter().flat_map(prefixes).collect(),
    }
}

/// What the balancers tell each other about clients.
pub(crate) fn flows(file: &SiteFile) -> Vec<Flow> {
    let balancers = (file.servers.entries.iter())
        .filter(|(_, server)| server.role.get_ref() == Role::Haproxy.name());
    if balancers.count() < 2 {
        return Vec::new();
    }
    let haproxy = Party::Role(Role::Haproxy);
    vec![flow::plain(
        PEERS.to_owned(),
        haproxy.clone(),
        haproxy,
        Traffic::tcp(ports::HAPROXY_PEERS),
        "a balancer that takes over knows who has asked how much",
    )]
}

/// Name of that flow.
pub(crate) const PEERS: &str = "haproxy-peers";

/// Requests of one client: many pages, little of an attack.
const RATE_LIMIT: RequestRate = RequestRate {
    requests: 500,
    seconds: 10,
};
const CONNECTIONS: u16 = 100;
const HSTS: u32 = 365 * DAY;
const DRAIN: u16 = 15;
const OLD_CONNECTIONS: u32 = 30 * 60;
const DAY: u32 = 24 * 60 * 60;

/// `"100/10s"`, or `"none"`.
struct Limit(Option<RequestRate>);

impl Value for Limit {
    const WANTED: &'static str =
        "requests and a time from \"1s\" to \"1h\", such as \"100/10s\"; or \"none\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        if text == NONE {
            return Ok(Self(None));
        }
        let wrong = |label: &str| Wrong::Content(label.to_owned());
        let (requests, time) =
            (text.split_once('/')).ok_or_else(|| wrong("not a number of requests and a time"))?;
        let requests = (requests.trim().parse::<u32>().ok())
            .filter(|number| (1..=1_000_000).contains(number))
            .ok_or_else(|| wrong("a limit is a number from 1 to 1000000"))?;
        let milliseconds = milliseconds(time)?;
        if milliseconds % 1000 != 0 || !(1_000..=3_600_000).contains(&milliseconds) {
            return Err(wrong("not whole seconds between 1 s and 1 h"));
        }
        let seconds = milliseconds / 1000;
        Ok(Self(Some(RequestRate { requests, seconds })))
    }
}

/// `"365d"`, or `"none"`.
struct Hsts(Option<u32>);

impl Value for Hsts {
    const WANTED: &'static str = "days from \"1d\" to \"3650d\", such as \"365d\"; or \"none\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        if text == NONE {
            return Ok(Self(None));
        }
        let days = (text.strip_suffix('d')).and_then(|days| days.trim().parse::<u32>().ok());
        match days.filter(|days| (1..=3650).contains(days)) {
            Some(days) => Ok(Self(Some(days * DAY))),
            None => Err(Wrong::Content("not a number of days".to_owned())),
        }
    }
}

/// Whole seconds.
struct Drain(u16);

impl Value for Drain {
    const WANTED: &'static str = "a time from \"1s\" to \"5m\" in whole seconds";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let time = milliseconds(text(value)?)?;
        match u16::try_from(time / 1000) {
            Ok(seconds) if (1..=300).contains(&seconds) && time % 1000 == 0 => Ok(Self(seconds)),
            _ => Err(Wrong::Content(
                "not whole seconds between 1 s and 5 min".to_owned(),
            )),
        }
    }
}

/// Whole seconds, up to a day.
struct Old(u32);

impl Value for Old {
    const WANTED: &'static str = "a time from \"1s\" to \"24h\" in whole seconds, such as \"30m\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let time = milliseconds(text(value)?)?;
        match time / 1000 {
            seconds @ 1..=DAY if time % 1000 == 0 => Ok(Self(seconds)),
            _ => Err(Wrong::Content(
                "not whole seconds between 1 s and 24 h".to_owned(),
            )),
        }
    }
}

const NONE: &str = "none";
