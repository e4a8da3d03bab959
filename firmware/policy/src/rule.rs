//! The language of filter rules. The host compiles a list of them to tables; the device never sees whole
//! rules, which therefore need the feature `alloc`.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;
#[cfg(feature = "alloc")]
use core::ops::RangeInclusive;

#[cfg(feature = "alloc")]
use crate::{IpPrefix, Name};

/// Most filter rules of one appliance.
pub const MAX_RULES: usize = 4096;

/// One filter rule. The first rule that matches decides; what no rule accepts is dropped.
///
/// Rules see a packet between both translations: its destination after DNAT, its source before SNAT.
#[cfg(feature = "alloc")]
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

/// A set of interfaces, one bit for each index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Let the flow through.
    Accept,
    /// Drop silently and count.
    Drop,
    /// Drop, count, and tell the sender: TCP by RST, others by ICMP (RFC 1812 §5.2.7.1, code 13).
    Reject,
}
