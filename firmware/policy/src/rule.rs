//! The language of filter rules. The host compiles a list of them to tables; the device never sees whole
//! rules, which therefore need the feature `alloc`.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
#[cfg(feature = "alloc")]
use core::ops::RangeInclusive;

use serde::Serialize;

#[cfg(feature = "alloc")]
use crate::{Config, IpPrefix, LimitKind, Name, Prefix, Prefix6};

/// Most filter rules of one appliance.
pub const MAX_RULES: usize = 4096;

/// One filter rule. The first rule that matches decides; what no rule accepts is dropped.
///
/// Rules see a packet between both translations: its destination after DNAT, its source before SNAT.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Name for counters and logs.
    pub name: Name,
    /// Interfaces the packet may come in from.
    pub from: Legs,
    /// Interfaces the packet would leave by.
    pub to: Legs,
    /// Source addresses; empty for any of both versions.
    pub sources: Vec<IpPrefix>,
    /// Destination addresses; empty for any of both versions.
    pub destinations: Vec<IpPrefix>,
    /// What it carries.
    pub protocol: Protocol,
    /// Which packets are compared with the rule.
    pub state: State,
    /// What happens.
    pub action: Action,
    /// Whether a match becomes an event (their rate is bounded).
    pub log: bool,
    /// Index of the limit ([`crate::LimitKind::Rate`]) on new flows; what exceeds it is dropped.
    pub rate: Option<u8>,
    /// Index of the limit ([`crate::LimitKind::Flows`]) on flows at a time; what exceeds it is dropped.
    pub flows: Option<u8>,
    /// What the other appliance of a pair is told of the flows.
    pub sharing: Sharing,
}

/// What the other appliance of a pair is told of the flows that a rule accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// What it is told of all others; first packets wait for that if those of the whole pair do ([`crate::Pair::defer`]).
    #[default]
    Usual,
    /// Nothing: they are over before it could matter, like questions to name servers.
    Never,
    /// First packets wait until it knows the flow.
    Deferred,
}

/// A set of interfaces, one bit for each index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Legs(pub u8);

impl Legs {
    /// Every interface.
    pub const ANY: Self = Self(u8::MAX);

    /// One interface.
    #[must_use]
    pub const fn one(index: u8) -> Self {
        Self(1 << (index & 7))
    }

    /// Whether the set has this interface.
    #[must_use]
    pub const fn contains(self, index: u8) -> bool {
        self.0 >> (index & 7) & 1 != 0
    }
}

/// Protocol part of a rule. Empty lists of ports and types mean any.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Protocol {
    /// Any IP packet.
    Any,
    /// TCP.
    Tcp(Ports),
    /// UDP.
    Udp(Ports),
    /// ICMP with one of these types; only echo requests (8) can open a flow.
    Icmp(Vec<u8>),
    /// ICMPv6 with one of these types; only echo requests (128) can open a flow.
    Icmp6(Vec<u8>),
    /// Another IP protocol, by its number.
    Number(u8),
}

/// Ports of both sides.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// Source ports.
    pub source: Vec<RangeInclusive<u16>>,
    /// Destination ports.
    pub destination: Vec<RangeInclusive<u16>>,
}

#[cfg(feature = "alloc")]
impl Ports {
    /// Any source port, one destination port.
    #[must_use]
    pub fn to(port: u16) -> Self {
        Self {
            source: Vec::new(),
            destination: [port..=port].into(),
        }
    }
}

/// Which packets a rule looks at. Packets of known flows never see the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum State {
    /// First packets of flows.
    #[default]
    New,
    /// Packets that belong to no flow and cannot open one, such as a TCP ACK out of nowhere. They can
    /// be dropped or rejected, never accepted.
    Invalid,
    /// Both.
    Any,
}

/// Verdict of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Let the flow through.
    Accept,
    /// Drop silently and count.
    Drop,
    /// Drop, count, and tell the sender: TCP by RST, others by ICMP (RFC 1812 §5.2.7.1, code 13).
    Reject,
}

/// What is wrong with a list of rules. Rules are named by their index.
#[cfg(feature = "alloc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(
    missing_docs,
    reason = "the message of each variant says what it means"
)]
pub enum RuleError {
    #[error("{count} rules, an appliance takes {MAX_RULES}")]
    TooMany { count: usize },
    #[error("rule {rule}: no packet can match, it has no interface on one side")]
    NoLegs { rule: usize },
    #[error("rule {rule}: {prefix} is longer than an address")]
    PrefixLength { rule: usize, prefix: IpPrefix },
    #[error("rule {rule}: {prefix} has bits beyond the prefix")]
    HostBits { rule: usize, prefix: IpPrefix },
    #[error("rule {rule}: port range {first}-{last} is reversed")]
    Ports { rule: usize, first: u16, last: u16 },
    #[error("rule {rule}: it accepts packets that cannot open a flow")]
    AcceptsInvalid { rule: usize },
    #[error(
        "rule {rule}: limit {limit} on new flows is not one of the configuration's {limits} limits, or of another kind"
    )]
    Rate {
        rule: usize,
        limit: u8,
        limits: usize,
    },
    #[error(
        "rule {rule}: limit {limit} on flows is not one of the configuration's {limits} limits, or of another kind"
    )]
    Flows {
        rule: usize,
        limit: u8,
        limits: usize,
    },
}

/// Checks everything about rules that the types cannot say.
///
/// # Errors
/// With the first thing that is wrong.
#[cfg(feature = "alloc")]
pub fn validate(rules: &[Rule], config: &Config) -> Result<(), RuleError> {
    if rules.len() > MAX_RULES {
        return Err(RuleError::TooMany { count: rules.len() });
    }
    let kind = |index: u8| {
        config
            .limits
            .get(usize::from(index))
            .map(|limit| limit.kind)
    };
    let limits = config.limits.len();
    for (index, rule) in rules.iter().enumerate() {
        if rule.from.0 == 0 || rule.to.0 == 0 {
            return Err(RuleError::NoLegs { rule: index });
        }
        for prefix in rule.sources.iter().chain(&rule.destinations) {
            check_prefix(index, *prefix)?;
        }
        match &rule.protocol {
            Protocol::Tcp(ports) | Protocol::Udp(ports) => check_ports(index, ports)?,
            Protocol::Any | Protocol::Icmp(_) | Protocol::Icmp6(_) | Protocol::Number(_) => {}
        }
        let invalid = match rule.state {
            State::New => false,
            State::Invalid | State::Any => true,
        };
        if invalid && rule.action == Action::Accept {
            return Err(RuleError::AcceptsInvalid { rule: index });
        }
        if let Some(limit) = rule.rate
            && !matches!(kind(limit), Some(LimitKind::Rate { .. }))
        {
            return Err(RuleError::Rate {
                rule: index,
                limit,
                limits,
            });
        }
        if let Some(limit) = rule.flows
            && !matches!(kind(limit), Some(LimitKind::Flows { .. }))
        {
            return Err(RuleError::Flows {
                rule: index,
                limit,
                limits,
            });
        }
    }
    Ok(())
}

#[cfg(feature = "alloc")]
fn check_prefix(rule: usize, prefix: IpPrefix) -> Result<(), RuleError> {
    let (length, most, clean) = match prefix {
        IpPrefix::V4(it) => (it.length, 32, Prefix::of(it.address, it.length) == it),
        IpPrefix::V6(it) => (it.length, 128, Prefix6::of(it.address, it.length) == it),
    };
    if length > most {
        return Err(RuleError::PrefixLength { rule, prefix });
    }
    if !clean {
        return Err(RuleError::HostBits { rule, prefix });
    }
    Ok(())
}

#[cfg(feature = "alloc")]
fn check_ports(rule: usize, ports: &Ports) -> Result<(), RuleError> {
    let mut ranges = ports.source.iter().chain(&ports.destination);
    match ranges.find(|range| range.start() > range.end()) {
        Some(range) => Err(RuleError::Ports {
            rule,
            first: *range.start(),
            last: *range.end(),
        }),
        None => Ok(()),
    }
}
