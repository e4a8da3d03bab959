//! `virtual_server` and what is in it.

use std::net::IpAddr;

use super::{At, Kind, Note, known, number, seconds};
use crate::conf::Statement;

/// A balanced address and port.
#[derive(Clone, Debug)]
pub struct VirtualServer {
    /// Virtual address.
    pub address: At<IpAddr>,
    /// Its port; none for all ports.
    pub port: Option<u16>,
    /// Whether it is UDP.
    pub udp: bool,
    /// `lvs_sched`, wlc unless said.
    pub scheduler: At<String>,
    /// `lvs_method`.
    pub method: Option<At<String>>,
    /// Seconds of persistence.
    pub persistence: Option<At<u32>>,
    /// Bits of an address that are one client.
    pub granularity: Option<At<u8>>,
    /// Total weight that must be alive.
    pub quorum: Option<At<u32>>,
    /// Who answers below it.
    pub sorry: Option<At<(IpAddr, Option<u16>)>>,
    /// The servers.
    pub servers: Vec<RealServer>,
}

/// A server behind it.
#[derive(Clone, Debug)]
pub struct RealServer {
    /// Its address.
    pub address: At<IpAddr>,
    /// Its port.
    pub port: Option<u16>,
    /// Its share, 1 unless said.
    pub weight: u32,
    /// `uthreshold`.
    pub max_flows: Option<u32>,
    /// How it is checked.
    pub checks: Vec<Check>,
}

/// One check of a server.
#[derive(Clone, Debug)]
pub struct Check {
    /// Where it stands, and its keyword.
    pub kind: At<CheckKind>,
    /// `connect_port`.
    pub port: Option<u16>,
    /// When it is done.
    pub timing: Timing,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// `TCP_CHECK`.
    Tcp,
    /// `HTTP_GET` and `SSL_GET`.
    Http {
        /// Whether over TLS.
        tls: bool,
        /// Of the first `url`.
        path: String,
        /// `virtualhost`.
        host: Option<String>,
        /// Good status codes, from and to.
        status: (u16, u16),
    },
    /// `DNS_CHECK`.
    Dns {
        /// Name that is asked for.
        name: String,
    },
    /// `PING_CHECK`.
    Ping,
}

/// When checks are done; what was not said is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// `delay_loop` in milliseconds.
    pub interval: Option<u32>,
    /// `connect_timeout` in milliseconds.
    pub timeout: Option<u32>,
    /// `retry`.
    pub retry: Option<u32>,
}

impl Timing {
    fn read(&mut self, line: &Statement, notes: &mut Vec<Note>) -> bool {
        match line.keyword() {
            "delay_loop" => self.interval = seconds(line, 100_000, notes),
            "connect_timeout" => self.timeout = seconds(line, 100_000, notes),
            "retry" | "nb_get_retry" => self.retry = number(line, 0, 10_000, notes),
            "delay_before_retry" => {
                let why = "a failed check is repeated at the next interval";
                notes.push(Note::new(Kind::Changed, line, why));
            }
            _ => return false,
        }
        true
    }
}

/// What is inherited by a check.
#[derive(Clone, Default)]
struct Defaults {
    timing: Timing,
    host: Option<String>,
}

pub(super) fn read(
    block: &Statement,
    groups: &[&Statement],
    notes: &mut Vec<Note>,
) -> Vec<VirtualServer> {
    let mut ends = Vec::new();
    match block.arguments() {
        [kind, name, ..] if kind == "group" => {
            let group = (groups.iter()).find(|group| group.arguments().first() == Some(name));
            let Some(group) = group else {
                notes.push(Note::new(Kind::Lost, block, "there is no such group"));
                return Vec::new();
            };
            for line in group.lines() {
                match end(&line.words) {
                    Some(end) => ends.push((At::new(end.0, line), end.1)),
                    None => notes.push(Note::new(
                        Kind::Lost,
                        line,
                        "services have single addresses: no ranges, no firewall marks",
                    )),
                }
            }
        }
        words => match end(words) {
            Some(end) => ends.push((At::new(end.0, block), end.1)),
            None => notes.push(Note::new(
                Kind::Lost,
                block,
                "a service has an address and a port: no firewall marks",
            )),
        },
    }
    let Some((address, port)) = ends.first().cloned() else {
        return Vec::new();
    };
    let Some(server) = virtual_server(block, address, port, notes) else {
        return Vec::new();
    };
    let others = ends.into_iter().map(|(address, port)| VirtualServer {
        address,
        port,
        ..server.clone()
    });
    others.collect()
}

/// Address and port.
fn end(words: &[String]) -> Option<(IpAddr, Option<u16>)> {
    let address = words.first()?.parse().ok()?;
    match words.get(1) {
        Some(port) => Some((address, Some(port.parse().ok()?).filter(|port| *port > 0))),
        None => Some((address, None)),
    }
}

fn virtual_server(
    block: &Statement,
    address: At<IpAddr>,
    port: Option<u16>,
    notes: &mut Vec<Note>,
) -> Option<VirtualServer> {
    if !block
        .lines()
        .iter()
        .any(|line| line.keyword() == "protocol")
    {
        let why = "says no protocol, which is UDP to keepalived";
        notes.push(Note::new(Kind::Changed, block, why));
    }
    let mut server = VirtualServer {
        address,
        port,
        udp: true,
        scheduler: At::new("wlc".to_owned(), block),
        method: None,
        persistence: None,
        granularity: None,
        quorum: None,
        sorry: None,
        servers: Vec::new(),
    };
    let mut defaults = Defaults::default();
    let word = |line: &Statement| {
        let word = line.arguments().first().cloned();
        At::new(word.unwrap_or_default(), line)
    };
    // What servers inherit may stand behind them.
    for line in block.lines() {
        match line.keyword() {
            "real_server" => {}
            "lvs_sched" | "lb_algo" => server.scheduler = word(line),
            "lvs_method" | "lb_kind" => server.method = Some(word(line)),
            "protocol" => match word(line).value.as_str() {
                "TCP" => server.udp = false,
                "UDP" => server.udp = true,
                _ => {
                    let why = "services are TCP or UDP";
                    notes.push(Note::new(Kind::Lost, block, why));
                    return None;
                }
            },
            "persistence_timeout" => {
                let seconds = match line.arguments() {
                    [] => Some(360),
                    _ => number(line, 1, i64::from(u32::MAX), notes),
                };
                server.persistence = seconds.map(|s| At::new(s, line));
            }
            "persistence_granularity" => {
                let bits = bits(&word(line).value);
                if bits.is_none() {
                    notes.push(Note::new(Kind::Lost, line, "not a netmask"));
                }
                server.granularity = bits.map(|bits| At::new(bits, line));
            }
            "virtualhost" => defaults.host = Some(word(line).value),
            "quorum" => {
                server.quorum =
                    number(line, 1, i64::from(u32::MAX), notes).map(|n| At::new(n, line));
            }
            "sorry_server" => match end(line.arguments()) {
                Some(end) => server.sorry = Some(At::new(end, line)),
                None => notes.push(Note::new(Kind::Lost, line, "not an address")),
            },
            "inhibit_on_failure" | "sorry_server_inhibit" => notes.push(Note::new(
                Kind::Changed,
                line,
                "flows of an unhealthy server go on until they end",
            )),
            "sorry_server_lvs_method" => {
                let why = "the sorry server is reached as the others are";
                notes.push(Note::new(Kind::Changed, line, why));
            }
            _ => {
                if !defaults.timing.read(line, notes) {
                    notes.push(known::note(line));
                }
            }
        }
    }
    for line in block.lines() {
        if line.keyword() == "real_server" {
            match end(line.arguments()) {
                Some((address, port)) => {
                    let address = At::new(address, line);
                    let defaults = defaults.clone();
                    server
                        .servers
                        .push(real_server(line, address, port, defaults, notes));
                }
                None => notes.push(Note::new(Kind::Lost, line, "not an address")),
            }
        }
    }
    Some(server)
}

fn bits(mask: &str) -> Option<u8> {
    if let Ok(bits) = mask.parse::<u8>() {
        return (1..=128).contains(&bits).then_some(bits);
    }
    let mask: std::net::Ipv4Addr = mask.parse().ok()?;
    let bits = mask.to_bits().leading_ones();
    (mask.to_bits().count_ones() == bits)
        .then(|| u8::try_from(bits).ok())
        .flatten()
}

fn real_server(
    block: &Statement,
    address: At<IpAddr>,
    port: Option<u16>,
    mut defaults: Defaults,
    notes: &mut Vec<Note>,
) -> RealServer {
    let mut server = RealServer {
        address,
        port,
        weight: 1,
        max_flows: None,
        checks: Vec::new(),
    };
    let is_check =
        |line: &Statement| line.keyword().ends_with("_CHECK") || line.keyword().ends_with("_GET");
    for line in block.lines().iter().filter(|line| !is_check(line)) {
        match line.keyword() {
            "weight" => server.weight = number(line, 0, 65_535, notes).unwrap_or(1),
            "uthreshold" => server.max_flows = number(line, 1, 16_777_216, notes),
            "virtualhost" => defaults.host = line.arguments().first().cloned(),
            "inhibit_on_failure" => notes.push(Note::new(
                Kind::Changed,
                line,
                "flows of an unhealthy server go on until they end",
            )),
            "lvs_method" => {
                let why = "all servers of a service are reached in the same way";
                notes.push(Note::new(Kind::Lost, line, why));
            }
            _ => {
                if !defaults.timing.read(line, notes) {
                    notes.push(known::note(line));
                }
            }
        }
    }
    for line in block.lines().iter().filter(|line| is_check(line)) {
        server.checks.extend(check(line, &defaults, notes));
    }
    server
}

fn check(block: &Statement, defaults: &Defaults, notes: &mut Vec<Note>) -> Option<Check> {
    let mut timing = defaults.timing;
    let mut port = None;
    let mut kind = match block.keyword() {
        "TCP_CHECK" => CheckKind::Tcp,
        "PING_CHECK" => CheckKind::Ping,
        // The root has an answer everywhere.
        "DNS_CHECK" => CheckKind::Dns {
            name: ".".to_owned(),
        },
        keyword @ ("HTTP_GET" | "SSL_GET") => CheckKind::Http {
            tls: keyword == "SSL_GET",
            path: "/".to_owned(),
            host: defaults.host.clone(),
            status: (200, 299),
        },
        _ => {
            let why = "appliances check by TCP, HTTP(S), DNS, ping and MySQL's greeting";
            notes.push(Note::new(Kind::Lost, block, why));
            return None;
        }
    };
    let mut urls = 0;
    for line in block.lines() {
        match (line.keyword(), &mut kind) {
            ("connect_port", _) => port = number(line, 1, 65_535, notes),
            ("name", CheckKind::Dns { name }) => {
                if let Some(word) = line.arguments().first() {
                    name.clone_from(word);
                }
            }
            ("type", CheckKind::Dns { .. }) => {
                let why = "DNS checks ask for an address";
                notes.push(Note::new(Kind::Changed, line, why));
            }
            ("virtualhost", CheckKind::Http { host, .. }) => {
                *host = line.arguments().first().cloned();
            }
            (
                "url",
                CheckKind::Http {
                    path, host, status, ..
                },
            ) => {
                urls += 1;
                if urls > 1 {
                    let why = "a check asks for one URL, the first";
                    notes.push(Note::new(Kind::Lost, line, why));
                    continue;
                }
                for line in line.lines() {
                    match line.keyword() {
                        "path" => *path = line.arguments().first().cloned().unwrap_or("/".into()),
                        "virtualhost" => *host = line.arguments().first().cloned(),
                        "status_code" => match codes(line.arguments()) {
                            Some(range) => *status = range,
                            None => {
                                let why = "a check has one range of good status codes";
                                notes.push(Note::new(Kind::Lost, line, why));
                            }
                        },
                        _ => notes.push(known::note(line)),
                    }
                }
            }
            _ => {
                if !timing.read(line, notes) {
                    notes.push(known::note(line));
                }
            }
        }
    }
    Some(Check {
        kind: At::new(kind, block),
        port,
        timing,
    })
}

fn codes(words: &[String]) -> Option<(u16, u16)> {
    let [word] = words else { return None };
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (100 <= range.0 && range.0 <= range.1 && range.1 <= 599).then_some(range)
}
