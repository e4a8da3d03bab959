//! Flows of the plan: who may talk to whom, carrying what, how much of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use crate::plan::{Plan, Port, Role, Server};

/// One statement about first packets from `from` to `to`; answers follow. The first flow that fits decides, what
/// no flow accepts is dropped. It holds for both versions of IP, as far as both ends have addresses of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Short name for rules and counters, such as `haproxy-nginx`.
    pub name: String,
    /// Who opens the connection.
    pub from: Party,
    /// Who is connected to, after services and port forwarding have chosen.
    pub to: Party,
    /// What is carried.
    pub traffic: Traffic,
    /// What happens to it.
    pub action: Action,
    /// Whether the appliances report each match.
    pub log: bool,
    /// New flows per second, on the appliances.
    pub rate: Option<policy::Limit>,
    /// Flows at a time, on the appliances.
    pub max_flows: Option<policy::Limit>,
    /// What the other appliance of a pair is told of the flows.
    pub sharing: policy::rule::Sharing,
    /// Why this flow exists, in the operator's words.
    pub why: String,
}

/// An end of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// Anyone on the Internet.
    Internet,
    /// Every server of a role.
    Role(Role),
    /// Every server.
    Servers,
    /// One server, by its name.
    Server(String),
    /// The appliances themselves (health checks), from their own addresses.
    Appliances,
    /// Whoever has an address of this one of [`Plan::sets`].
    Set(String),
    /// Whoever has an address of this prefix.
    Address(IpNet),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Internet => f.write_str("internet"),
            Self::Role(role) => f.write_str(role.name()),
            Self::Servers => f.write_str("servers"),
            Self::Appliances => f.write_str("appliances"),
            Self::Server(name) | Self::Set(name) => f.write_str(name),
            Self::Address(prefix) if prefix.prefix_len() == prefix.max_prefix_len() => {
                prefix.addr().fmt(f)
            }
            Self::Address(prefix) => prefix.fmt(f),
        }
    }
}

/// A named set of addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Set {
    /// Name, unlike every server's and role's.
    pub name: String,
    /// Its prefixes, of both versions.
    pub prefixes: Vec<IpNet>,
}

/// What a flow carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Any IP packet.
    Any,
    /// TCP.
    Tcp(Ports),
    /// UDP.
    Udp(Ports),
    /// Echo requests of ICMP and ICMPv6.
    Ping,
    /// ICMP of these types; empty for any. Only echo requests can be accepted.
    Icmp(Vec<u8>),
    /// ICMPv6 of these types; empty for any. Only echo requests can be accepted.
    Icmp6(Vec<u8>),
    /// Another IP protocol, by its number.
    Number(u8),
}

impl Traffic {
    /// TCP to one port.
    pub fn tcp(port: u16) -> Self {
        Self::Tcp(Ports::to(PortRange::one(port)))
    }

    /// TCP or UDP to these ports.
    pub fn to(transport: policy::Transport, ports: PortRange) -> Self {
        match transport {
            policy::Transport::Tcp => Self::Tcp(Ports::to(ports)),
            policy::Transport::Udp => Self::Udp(Ports::to(ports)),
        }
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types =
            |types: &[u8]| -> String { types.iter().map(|kind| format!(" {kind}")).collect() };
        match self {
            Self::Any => f.write_str("any"),
            Self::Tcp(ports) => write!(f, "tcp{ports}"),
            Self::Udp(ports) => write!(f, "udp{ports}"),
            Self::Ping => f.write_str("ping"),
            Self::Icmp(kinds) => write!(f, "icmp{}", types(kinds)),
            Self::Icmp6(kinds) => write!(f, "icmp6{}", types(kinds)),
            Self::Number(number) => write!(f, "protocol {number}"),
        }
    }
}

/// Ports of both sides; an empty list means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ports {
    /// Of the side that opens the connection.
    pub source: Vec<PortRange>,
    /// Of the side that is connected to.
    pub destination: Vec<PortRange>,
}

impl Ports {
    /// From any port to these.
    pub fn to(range: PortRange) -> Self {
        Self {
            source: Vec::new(),
            destination: vec![range],
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ranges: &[PortRange]| {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            ranges.join(", ")
        };
        if !self.destination.is_empty() {
            write!(f, " {}", list(&self.destination))?;
        }
        if !self.source.is_empty() {
            write!(f, " from {}", list(&self.source))?;
        }
        Ok(())
    }
}

/// Ports `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below `first`.
    pub last: u16,
}

impl PortRange {
    /// A single port.
    pub const fn one(port: u16) -> Self {
        Self {
            first: port,
            last: port,
        }
    }

    /// As rules have it.
    pub const fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It passes.
    Accept,
    /// It is dropped silently.
    Drop,
    /// It is dropped, and the sender is told.
    Reject,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Reject => "reject",
        })
    }
}

impl Plan {
    /// The prefixes of a [`Party::Set`] or [`Party::Address`]; none for the others.
    pub fn prefixes_of<'a>(&'a self, party: &'a Party) -> &'a [IpNet] {
        match party {
            Party::Set(name) => (self.sets.iter())
                .find(|set| set.name == *name)
                .map_or(&[], |set| &set.prefixes),
            Party::Address(prefix) => std::slice::from_ref(prefix),
            Party::Internet
            | Party::Role(_)
            | Party::Servers
            | Party::Server(_)
            | Party::Appliances => &[],
        }
    }

    /// Those addresses of `server` that a party of a flow stands for.
    pub fn addresses_in<'a>(
        &'a self,
        party: &'a Party,
        server: &'a Server,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        server.addresses().filter(move |address| match party {
            Party::Role(role) => server.role == *role,
            Party::Servers => true,
            Party::Server(name) => server.name == *name,
            Party::Internet | Party::Appliances => false,
            Party::Set(_) | Party::Address(_) => {
                (self.prefixes_of(party).iter()).any(|prefix| prefix.contains(address))
            }
        })
    }

    /// The servers that a party of a flow stands for; none for the Internet and the appliances.
    pub fn servers_in<'a>(&'a self, party: &'a Party) -> impl Iterator<Item = &'a Server> {
        (self.servers.iter()).filter(|server| self.addresses_in(party, server).next().is_some())
    }

    /// Virtual addresses that `server` has itself, because it answers clients of a service directly.
    pub fn returned_directly_by<'a>(
        &'a self,
        server: &'a Server,
    ) -> impl Iterator<Item = IpAddr> + 'a {
        (self.services.iter())
            .filter(|service| service.forwarding == policy::Forwarding::DirectReturn)
            .filter(|service| {
                let mut members = service.servers.iter();
                members.any(|member| member.server == server.name)
            })
            .flat_map(|service| {
                let v6 = server.address6.and(service.address6);
                [Some(IpAddr::V4(service.address)), v6.map(IpAddr::V6)]
            })
            .flatten()
    }

    /// The subnets behind the appliances, of both versions: whoever else there is, is the Internet.
    pub fn inside(&self) -> (Vec<Ipv4Net>, Vec<Ipv6Net>) {
        let lan = || {
            self.networks
                .iter()
                .filter(|network| network.port == Port::Lan)
        };
        (
            lan().map(|network| network.subnet).collect(),
            lan().filter_map(|network| network.subnet6).collect(),
        )
    }
}

/// The address at position `host` of a subnet.
pub(crate) fn host_address(subnet: Ipv4Net, host: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(subnet.network().to_bits().wrapping_add(host))
}

/// The IPv6 address that reads like host number `host`: its decimal digits become the last digits of the
/// address, so that 10.20.1.11 goes with 2001:db8:1::11.
pub(crate) fn host_address6(subnet: Ipv6Net, host: u32) -> Ipv6Addr {
    let mut digits = 0_u128;
    let (mut rest, mut shift) = (host, 0);
    while rest > 0 {
        digits |= u128::from(rest % 10) << shift;
        rest /= 10;
        shift += 4;
    }
    Ipv6Addr::from_bits(subnet.network().to_bits() | digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_numbers_keep_their_digits() {
        let subnet = "2001:db8:1::/64".parse().expect("a subnet");
        for (host, text) in [
            (2, "2001:db8:1::2"),
            (11, "2001:db8:1::11"),
            (254, "2001:db8:1::254"),
            (16_777_214, "2001:db8:1::1677:7214"),
        ] {
            assert_eq!(host_address6(subnet, host).to_string(), text);
        }
    }

    #[test]
    fn traffic_reads_like_the_site_file() {
        let ports = Ports {
            source: vec![PortRange::one(53)],
            destination: vec![
                PortRange::one(80),
                PortRange {
                    first: 8000,
                    last: 8010,
                },
            ],
        };
        assert_eq!(Traffic::Udp(ports).to_string(), "udp 80, 8000-8010 from 53");
        assert_eq!(Traffic::Icmp(vec![3, 8]).to_string(), "icmp 3 8");
        assert_eq!(Traffic::tcp(443).to_string(), "tcp 443");
    }
}
