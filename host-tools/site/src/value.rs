//! Values of flows, services and translations as they are written: ports, rates, times, prefixes.

use ipnet::{IpNet, Ipv6Net};
use policy::{Balance, Forwarding, Limit, LimitKind, Scope, Transport};
use std::net::{IpAddr, Ipv6Addr};
use toml::de::DeValue;

use crate::{
    plan::{Action, PortRange},
    read::{Value, Wrong, number, text},
};

/// Bits of a source address that count as one source: an IPv6 customer has a /64 at least.
const SOURCE: Scope = Scope::Source {
    prefix: 32,
    prefix6: 64,
};

fn wrong<T>(label: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong::Content(label.into()))
}

/// A port or a range of ports.
impl Value for PortRange {
    const WANTED: &'static str = "a port such as 443, or a range such as \"8000-8010\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if value.as_str().is_none() {
            let port = number(value, 1..=65535)?;
            return u16::try_from(port).map(Self::one).map_err(|_| Wrong::Type);
        }
        let text = text(value)?;
        let port = |text: &str| match text.trim().parse::<u16>() {
            Ok(port) if port > 0 => Ok(port),
            _ => wrong("a port is a number from 1 to 65535"),
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return wrong("ends before it begins");
        }
        Ok(Self { first, last })
    }
}

/// Several ports and ranges.
pub(crate) struct PortList(pub(crate) Vec<PortRange>);

impl Value for PortList {
    const WANTED: &'static str =
        "a port such as 443, a range such as \"8000-8010\", or a list of them in [ ]";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let mut ranges: Vec<PortRange> = one_or_more(value)?;
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].first <= pair[0].last) {
            return wrong(format!("{} and {} overlap", pair[0], pair[1]));
        }
        Ok(Self(ranges))
    }
}

/// One value, or a list of them that is not empty.
fn one_or_more<T: Value>(value: &DeValue<'_>) -> Result<Vec<T>, Wrong> {
    let Some(list) = value.as_array() else {
        return T::read(value).map(|one| vec![one]);
    };
    if list.is_empty() {
        return wrong("an empty list");
    }
    list.iter().map(|item| T::read(item.get_ref())).collect()
}

/// Addresses and prefixes of both versions.
pub(crate) struct Prefixes(pub(crate) Vec<IpNet>);

impl Value for Prefixes {
    const WANTED: &'static str =
        "a list of addresses and prefixes such as [\"198.51.100.7\", \"2001:db8:7::/48\"]";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_or_more(value).map(Self)
    }
}

impl Value for IpNet {
    const WANTED: &'static str = "an address or prefix such as \"198.51.100.0/24\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match prefix(text(value)?) {
            Some(prefix) if prefix.addr() == prefix.network() => Ok(prefix),
            Some(prefix) => wrong(format!(
                "has bits set after the first {}: {} is the prefix",
                prefix.prefix_len(),
                prefix.trunc()
            )),
            None => wrong("neither an address nor a prefix"),
        }
    }
}

/// The prefix that `text` says; an address is the longest one.
pub(crate) fn prefix(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(address.into()),
        Err(_) => text.parse().ok(),
    }
}

impl Value for Ipv6Net {
    const WANTED: &'static str =
        "an IPv6 subnet with the length of its prefix, such as \"2001:db8:1::/64\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text(value)?
            .parse()
            .or_else(|_| wrong("not an IPv6 subnet"))
    }
}

impl Value for Ipv6Addr {
    const WANTED: &'static str = "an IPv6 address such as \"2001:db8:1::11\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        text(value)?
            .parse()
            .or_else(|_| wrong("not an IPv6 address"))
    }
}

/// The protocol of a flow, before its ports are known.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Any,
    Tcp,
    Udp,
    Ping,
    Icmp,
    Icmp6,
    Number(u8),
}

impl Value for Protocol {
    const WANTED: &'static str = "\"tcp\", \"udp\", \"ping\", \"icmp\", \"icmp6\", \"any\" or the number of another IP protocol, such as 47";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if value.as_str().is_none() {
            return match u8::try_from(number(value, 0..=255)?) {
                Ok(1) => wrong("this is ICMP: write \"icmp\""),
                Ok(6) => wrong("this is TCP: write \"tcp\""),
                Ok(17) => wrong("this is UDP: write \"udp\""),
                Ok(58) => wrong("this is ICMPv6: write \"icmp6\""),
                Ok(number) => Ok(Self::Number(number)),
                Err(_) => Err(Wrong::Type),
            };
        }
        match text(value)? {
            "any" => Ok(Self::Any),
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "ping" => Ok(Self::Ping),
            "icmp" => Ok(Self::Icmp),
            "icmp6" => Ok(Self::Icmp6),
            _ => wrong("not a protocol that rules know"),
        }
    }
}

/// Types of ICMP messages by number, or by the names that both versions have.
pub(crate) struct IcmpTypes(pub(crate) Vec<IcmpType>);

/// One of them.
#[derive(Clone, Copy)]
pub(crate) enum IcmpType {
    EchoRequest,
    EchoReply,
    Number(u8),
}

impl IcmpType {
    /// Its number in ICMP (RFC 792) or ICMPv6 (RFC 4443).
    pub(crate) fn number(self, version6: bool) -> u8 {
        match (self, version6) {
            (Self::EchoRequest, false) => 8,
            (Self::EchoReply, false) => 0,
            (Self::EchoRequest, true) => 128,
            (Self::EchoReply, true) => 129,
            (Self::Number(number), _) => number,
        }
    }
}

impl Value for IcmpType {
    const WANTED: &'static str = "a number from 0 to 255, \"echo-request\" or \"echo-reply\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value.as_str() {
            Some("echo-request") => Ok(Self::EchoRequest),
            Some("echo-reply") => Ok(Self::EchoReply),
            Some(_) => wrong("write other types as numbers"),
            None => u8::try_from(number(value, 0..=255)?)
                .map(Self::Number)
                .map_err(|_| Wrong::Type),
        }
    }
}

impl Value for IcmpTypes {
    const WANTED: &'static str =
        "a list of types such as [\"echo-request\", 13]: numbers, \"echo-request\", \"echo-reply\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        one_or_more(value).map(Self)
    }
}

impl Value for Action {
    const WANTED: &'static str =
        "\"accept\", \"drop\" (silently) or \"reject\" (the sender is told)";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "accept" => Ok(Self::Accept),
            "drop" => Ok(Self::Drop),
            "reject" => Ok(Self::Reject),
            _ => wrong("not something a rule can do"),
        }
    }
}

impl Value for Transport {
    const WANTED: &'static str = "\"tcp\" or \"udp\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => wrong("services have no other transport"),
        }
    }
}

impl Value for Balance {
    const WANTED: &'static str =
        "\"failover\", \"round-robin\", \"least-connections\", \"source-hash\" or \"maglev\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "failover" => Ok(Self::Failover),
            "round-robin" => Ok(Self::RoundRobin),
            "least-connections" => Ok(Self::LeastConnections),
            "source-hash" => Ok(Self::SourceHash),
            "maglev" => Ok(Self::Maglev),
            _ => wrong("not a way to choose a server"),
        }
    }
}

impl Value for Forwarding {
    const WANTED: &'static str = "\"nat\" or \"direct-return\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "nat" => Ok(Self::Nat),
            "direct-return" => Ok(Self::DirectReturn),
            _ => wrong("not a way to reach a server"),
        }
    }
}

/// New flows per second.
pub(crate) struct Rate(pub(crate) Limit);

impl Value for Rate {
    const WANTED: &'static str =
        "\"100/s\", \"100/s burst 200\", \"10/s burst 20 per source\" or \"… per /24 /56\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        let (amount, scope) = scoped(text)?;
        let mut words = amount.split_whitespace();
        let per_second = match words.next().and_then(|rate| rate.strip_suffix("/s")) {
            Some(rate) => amount_of(rate)?,
            None => return wrong("not a number of flows per second"),
        };
        let burst = match (words.next(), words.next(), words.next()) {
            (None, _, _) => per_second,
            (Some("burst"), Some(burst), None) => amount_of(burst)?,
            _ => return wrong("not a rate and its burst"),
        };
        let kind = LimitKind::Rate { per_second, burst };
        Ok(Self(Limit { kind, scope }))
    }
}

/// Flows at a time.
pub(crate) struct MaxFlows(pub(crate) Limit);

impl Value for MaxFlows {
    const WANTED: &'static str = "a number such as 1000, or \"20 per source\", \"100 per /24 /56\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (max, scope) = match value.as_str() {
            None => {
                let max = number(value, 1..=65535)?;
                (u16::try_from(max).map_err(|_| Wrong::Type)?, Scope::Rule)
            }
            Some(text) => {
                let (amount, scope) = scoped(text)?;
                (amount_of(amount)?, scope)
            }
        };
        let kind = LimitKind::Flows { max };
        Ok(Self(Limit { kind, scope }))
    }
}

fn amount_of(text: &str) -> Result<u16, Wrong> {
    match text.trim().parse::<u16>() {
        Ok(amount) if amount > 0 => Ok(amount),
        _ => wrong("a limit is a number from 1 to 65535"),
    }
}

/// Parts "20 per source" into the amount and for whom it is.
fn scoped(text: &str) -> Result<(&str, Scope), Wrong> {
    let Some((amount, who)) = text.split_once(" per ") else {
        return Ok((text.trim(), Scope::Rule));
    };
    let who = who.trim();
    if who == "source" {
        return Ok((amount.trim(), SOURCE));
    }
    let bits = |word: Option<&str>, most: u8, other: u8| match word.map(|w| w.strip_prefix('/')) {
        None => Ok(other),
        Some(Some(bits)) => match bits.parse::<u8>() {
            Ok(bits) if (1..=most).contains(&bits) => Ok(bits),
            _ => wrong(format!("not a prefix of 1 to {most} bits")),
        },
        Some(None) => wrong("after \"per\" stands \"source\", or /24 /56"),
    };
    let mut words = who.split_whitespace();
    let prefix = bits(words.next(), 32, 32)?;
    let prefix6 = bits(words.next(), 128, 64)?;
    match words.next() {
        None => Ok((amount.trim(), Scope::Source { prefix, prefix6 })),
        Some(_) => wrong("after \"per\" stands \"source\", or /24 /56"),
    }
}

/// Milliseconds in a text such as "900ms", "5s", "10m" or "2h".
pub(crate) fn milliseconds(text: &str) -> Result<u32, Wrong> {
    let text = text.trim();
    let units = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
    let Some((digits, scale)) = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, *scale)))
    else {
        return wrong("no unit: ms, s, m or h");
    };
    match digits.trim().parse::<u32>() {
        Ok(number) => Ok(number.saturating_mul(scale)),
        Err(_) => wrong("not a whole number of ms, s, m or h"),
    }
}

/// Time of a check, in milliseconds.
pub(crate) struct CheckTime(pub(crate) u16);

impl Value for CheckTime {
    const WANTED: &'static str = "a time from \"100ms\" to \"60s\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match u16::try_from(milliseconds(text(value)?)?) {
            Ok(time) if (100..=60_000).contains(&time) => Ok(Self(time)),
            _ => wrong("not between 100 ms and 60 s"),
        }
    }
}

/// A time in whole seconds.
pub(crate) struct Seconds(pub(crate) u16);

impl Value for Seconds {
    const WANTED: &'static str = "a time from \"1s\" to \"18h\" in whole seconds";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let time = milliseconds(text(value)?)?;
        match u16::try_from(time / 1000) {
            Ok(seconds) if seconds > 0 && time % 1000 == 0 => Ok(Self(seconds)),
            _ => wrong("not whole seconds between 1 s and 18 h"),
        }
    }
}

/// Status codes of HTTP that are good.
pub(crate) struct Status(pub(crate) u16, pub(crate) u16);

impl Value for Status {
    const WANTED: &'static str = "a status such as 200, or a range such as \"200-299\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let PortRange { first, last } = match value.as_str() {
            Some(_) => PortRange::read(value).or_else(|_| wrong("not a range of status codes"))?,
            None => u16::try_from(number(value, 100..=599)?)
                .map(PortRange::one)
                .map_err(|_| Wrong::Type)?,
        };
        if first < 100 || last > 599 {
            return wrong("a status has three digits, 100 to 599");
        }
        Ok(Self(first, last))
    }
}

/// What a check asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckKind {
    Tcp,
    Http,
    Https,
    Ping,
    Dns,
    Mysql,
}

impl Value for CheckKind {
    const WANTED: &'static str = "\"tcp\", \"http\", \"https\", \"ping\", \"dns\" or \"mysql\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "tcp" => Ok(Self::Tcp),
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            "ping" => Ok(Self::Ping),
            "dns" => Ok(Self::Dns),
            "mysql" => Ok(Self::Mysql),
            _ => wrong("not a check that appliances know"),
        }
    }
}

/// A host name or path of a check: what fits [`policy::Text`], and one line of a request.
pub(crate) struct CheckText(pub(crate) policy::Text);

impl Value for CheckText {
    const WANTED: &'static str = "a text of at most 63 letters, digits and signs";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value)?;
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("must have letters, digits and signs only");
        }
        policy::Text::try_from(text)
            .map(Self)
            .or_else(|_| wrong(format!("{} characters", text.len())))
    }
}

/// What a `[[nat]]` entry does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NatKind {
    Masquerade,
    Forward,
    Prefix6,
}

impl Value for NatKind {
    const WANTED: &'static str = "\"masquerade\", \"forward\" or \"prefix6\"";
    fn read(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value)? {
            "masquerade" => Ok(Self::Masquerade),
            "forward" => Ok(Self::Forward),
            "prefix6" => Ok(Self::Prefix6),
            _ => wrong("not a translation that appliances know"),
        }
    }
}
