//! What one appliance lets through: routes, reverse path, translations and rules of its own configuration.
//!
//! The rules see a packet after the translation of its destination and before that of its source; sets of
//! such packets are called "between" here.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use policy::rule::{Action, Protocol, Rule, State};
use policy::{Config, Forwarding, IpPrefix, Nat, Prefix, Prefix6, Transport, VirtualRouter};

use crate::packet::{Version, protocol};
use crate::prefix6;
use crate::space::{Field, Set, Space};

/// An appliance: its configuration and the ordered rules that are compiled for it.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// Everything but the rules.
    pub config: Config,
    /// The rules, first match first.
    pub rules: Vec<Rule>,
}

/// An appliance in the header space of one version.
#[derive(Debug)]
pub struct Gate<'a> {
    /// The appliance.
    pub appliance: &'a Appliance,
    /// The header space.
    pub space: &'a Space,
    /// Sources and destinations that no router may forward, own addresses as sources among them.
    refused: Set,
    /// Destinations that are the appliance itself.
    own: Set,
    /// Destinations by leg, after the longest matching route.
    behind: Vec<Reach>,
    /// First packets that may come in, by leg.
    entering: Vec<Set>,
    /// Translations of destinations in the order in which they are tried.
    pub doors: Vec<Door>,
    /// What each rule matches, whatever the legs.
    rules: Vec<Set>,
    /// Packets between that are accepted from one leg to another.
    accepted: RefCell<BTreeMap<(u8, u8), Rc<Set>>>,
}

/// Sources and destinations behind a leg.
#[derive(Clone, Debug)]
struct Reach {
    source: Set,
    destination: Set,
}

/// One way for a packet's destination: as it is, or translated.
#[derive(Clone, Debug)]
pub struct Door {
    /// What translates.
    pub by: Translation,
    /// Packets that it applies to, as they arrive.
    pub arrives: Set,
    /// Only packets from this leg, if set.
    pub from: Option<u8>,
    /// New destination, and new port unless it is kept; `None` if the destination stays.
    pub target: Option<(IpAddr, Option<u16>)>,
    /// The leg that the packet leaves by; `None` if its destination says so.
    pub to: Option<u8>,
}

/// What translates a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translation {
    /// Nothing.
    None,
    /// A service, to one of its servers.
    Service {
        /// Name of the service.
        service: String,
        /// Name of the server.
        server: String,
    },
    /// Entry of [`Config::nat`].
    Forward(usize),
}

impl<'a> Gate<'a> {
    /// Looks at an appliance. `inside` are the addresses whose translated prefixes matter.
    #[must_use]
    pub fn new(appliance: &'a Appliance, space: &'a Space, inside: &[IpAddr]) -> Self {
        let config = &appliance.config;
        let own =
            space.any(addresses(config).map(|address| space.host(Field::Destination, address)));
        let mut gate = Self {
            appliance,
            space,
            refused: refused(config, space),
            own,
            behind: behind(config, space),
            entering: Vec::new(),
            doors: Vec::new(),
            rules: appliance
                .rules
                .iter()
                .map(|rule| rule_set(space, rule))
                .collect(),
            accepted: RefCell::default(),
        };
        let good = space
            .opening()
            .minus(&gate.refused)
            .minus(&space.equals(Field::Hops, 1));
        gate.entering = (gate.behind.iter())
            .map(|reach| reach.source.and(&good))
            .collect();
        gate.doors = gate.all_doors(inside);
        gate
    }

    /// Number of legs.
    #[must_use]
    pub fn legs(&self) -> u8 {
        self.behind.len() as u8
    }

    /// The leg that leads to an address.
    #[must_use]
    pub fn leg_to(&self, address: IpAddr) -> Option<u8> {
        leg_to(&self.appliance.config, address)
    }

    /// First packets that may come in from a leg: reverse path and odd addresses.
    #[must_use]
    pub fn enters(&self, leg: u8) -> Set {
        let known = self.entering.get(usize::from(leg));
        known.cloned().unwrap_or(self.space.none())
    }

    /// Packets between that leave by a leg, having come through a door.
    #[must_use]
    pub fn leaves(&self, door: &Door, leg: u8) -> Set {
        if let Some(to) = door.to {
            return self.space.when(to == leg);
        }
        let reach = self.behind.get(usize::from(leg));
        reach.map_or(self.space.none(), |reach| {
            reach.destination.minus(&self.refused)
        })
    }

    /// Packets of a state that may come in from one leg and leave by another, as rules see them.
    #[must_use]
    pub fn possible(&self, from: u8, to: u8, state: State) -> Set {
        let opening = self.space.opening();
        let of_state = match state {
            State::New => opening,
            State::Invalid => self.space.packets().minus(&opening),
            State::Any => self.space.packets(),
        };
        let (Some(source), Some(destination)) = (
            self.behind.get(usize::from(from)),
            self.behind.get(usize::from(to)),
        ) else {
            return self.space.none();
        };
        // A service with direct return keeps its virtual address, which may be on any leg.
        let direct = self
            .doors
            .iter()
            .filter(|door| door.to == Some(to) && door.target.is_none());
        let direct = self.space.any(direct.map(|door| door.arrives.clone()));
        source
            .source
            .and(&destination.destination.minus(&self.own).or(&direct))
            .and(&of_state)
            .minus(&self.refused)
    }

    /// Packets to the appliance itself.
    #[must_use]
    pub fn own(&self) -> &Set {
        &self.own
    }

    /// Packets between that come in from `from`, leave by `to` and that a rule accepts.
    #[must_use]
    pub fn accepts(&self, from: u8, to: u8) -> Rc<Set> {
        if let Some(known) = self.accepted.borrow().get(&(from, to)) {
            return Rc::clone(known);
        }
        let (mut accepted, mut open) = (self.space.none(), self.space.all());
        for (rule, set) in self.between(from, to, State::New) {
            match rule.action {
                Action::Accept => accepted = accepted.or(&open.and(set)),
                Action::Drop | Action::Reject => {}
            }
            open = open.minus(set);
        }
        let accepted = Rc::new(accepted);
        self.accepted
            .borrow_mut()
            .insert((from, to), Rc::clone(&accepted));
        accepted
    }

    /// The rules that look at packets of a state between two legs, in their order.
    pub fn between(
        &self,
        from: u8,
        to: u8,
        state: State,
    ) -> impl Iterator<Item = (&'a Rule, &Set)> {
        (self.appliance.rules.iter().zip(&self.rules)).filter(move |(rule, _)| {
            let sees = match rule.state {
                State::Any => true,
                State::New | State::Invalid => rule.state == state,
            };
            sees && rule.from.contains(from) && rule.to.contains(to)
        })
    }

    /// What a rule matches, whatever the legs.
    #[must_use]
    pub fn rule(&self, index: usize) -> &Set {
        &self.rules[index]
    }

    /// Packets between that arrived through a door.
    #[must_use]
    pub fn through(&self, door: &Door, arriving: &Set) -> Set {
        let set = arriving.and(&door.arrives);
        let Some((address, port)) = door.target else {
            return set;
        };
        let space = self.space;
        let address = space.host(Field::Destination, address);
        match port {
            None => space.forget(&set, &[Field::Destination]).and(&address),
            Some(port) => space
                .forget(&set, &[Field::Destination, Field::DestinationPort])
                .and(&address)
                .and(&space.equals(Field::DestinationPort, port.into())),
        }
    }

    /// The arriving packets that a door turns into packets of `between`.
    #[must_use]
    pub fn before(&self, door: &Door, between: &Set) -> Set {
        let space = self.space;
        let Some((address, port)) = door.target else {
            return between.and(&door.arrives);
        };
        let set = between.and(&space.host(Field::Destination, address));
        let set = match port {
            None => space.forget(&set, &[Field::Destination]),
            Some(port) => space.forget(
                &set.and(&space.equals(Field::DestinationPort, port.into())),
                &[Field::Destination, Field::DestinationPort],
            ),
        };
        set.and(&door.arrives)
    }

    /// Packets between of which `received` is what arrives in the end: the translation of sources undone.
    #[must_use]
    pub fn unmasked(&self, door: &Door, from: u8, to: u8, received: &Set) -> Set {
        let space = self.space;
        let (mut open, mut all) = (space.all(), space.none());
        for mask in self.masks(door, from, to) {
            let after = received.and(&space.host(Field::Source, mask.address)).and(
                &mask.ports.as_ref().map_or(space.all(), |range| {
                    space.ports(Field::SourcePort, std::slice::from_ref(range))
                }),
            );
            let fields: &[Field] = match mask.ports {
                Some(_) => &[Field::Source, Field::SourcePort],
                None => &[Field::Source],
            };
            let before = space.forget(&after, fields).and(&mask.applies);
            all = all.or(&open.and(&before));
            open = open.minus(&mask.applies);
        }
        all.or(&open.and(received))
    }

    /// What packets between look like after the translation of their sources, as far as that changes them.
    #[must_use]
    pub fn masked(&self, between: &Set) -> Set {
        let space = self.space;
        let mut all = space.none();
        let mut done: Vec<&Translation> = Vec::new();
        for door in &self.doors {
            if done.contains(&&door.by) {
                continue;
            }
            done.push(&door.by);
            for (from, to) in
                (0..self.legs()).flat_map(|from| (0..self.legs()).map(move |to| (from, to)))
            {
                for mask in self.masks(door, from, to) {
                    let before = between
                        .and(&mask.applies)
                        .and(&self.behind[usize::from(to)].destination);
                    let source = space.host(Field::Source, mask.address);
                    let after = match &mask.ports {
                        None => space.forget(&before, &[Field::Source]),
                        Some(range) => space
                            .forget(&before, &[Field::Source, Field::SourcePort])
                            .and(&space.ports(Field::SourcePort, std::slice::from_ref(range))),
                    };
                    all = all.or(&after.and(&source));
                }
            }
        }
        all
    }

    /// Translations of sources of packets between, in their order.
    #[must_use]
    pub fn masks(&self, door: &Door, from: u8, to: u8) -> Vec<Mask> {
        let space = self.space;
        let mut masks = Vec::new();
        for (index, nat) in self.appliance.config.nat.iter().enumerate() {
            match *nat {
                Nat::Source {
                    source,
                    to: leaves,
                    address,
                    first,
                    last,
                } if leaves == to => {
                    let ports = space.protocols(&[protocol::TCP, protocol::UDP]);
                    let of = space.prefix(Field::Source, IpPrefix::V4(source));
                    masks.push(Mask {
                        nat: index,
                        applies: of.and(&ports),
                        address: address.into(),
                        ports: Some(first..=last),
                    });
                    masks.push(Mask {
                        nat: index,
                        applies: of.minus(&ports),
                        address: address.into(),
                        ports: None,
                    });
                }
                // Hairpin: the server's answers have to come back through the appliance.
                Nat::Destination { .. } if door.by == Translation::Forward(index) && from == to => {
                    if let Some(address) = self.virtual_address(to) {
                        masks.push(Mask {
                            nat: index,
                            applies: space.all(),
                            address,
                            ports: None,
                        });
                    }
                }
                Nat::Source { .. } | Nat::Destination { .. } | Nat::Prefix6 { .. } => {}
            }
        }
        masks
    }

    /// The first virtual address of a leg in this version.
    fn virtual_address(&self, leg: u8) -> Option<IpAddr> {
        let routers = self.appliance.config.routers_on(leg.into());
        let v6 = self.space.version() == Version::V6;
        let mut addresses = routers.flat_map(routed).filter(|own| own.is_ipv6() == v6);
        addresses.next()
    }

    fn all_doors(&self, inside: &[IpAddr]) -> Vec<Door> {
        let (space, config) = (self.space, &self.appliance.config);
        let mut doors = Vec::new();
        let mut open = space.all();
        let number = |transport| match transport {
            Transport::Tcp => protocol::TCP,
            Transport::Udp => protocol::UDP,
        };
        for service in &config.services {
            let arrives = space
                .host(Field::Destination, service.address)
                .and(&space.protocols(&[number(service.transport)]))
                .and(&space.equals(Field::DestinationPort, service.port.into()))
                .and(&open);
            for server in service.servers.iter().chain(&service.sorry) {
                let direct = service.forwarding == Forwarding::DirectReturn;
                doors.push(Door {
                    by: Translation::Service {
                        service: service.name.to_string(),
                        server: server.name.to_string(),
                    },
                    arrives: arrives.clone(),
                    from: None,
                    target: (!direct).then_some((server.address, Some(server.port))),
                    to: self.leg_to(server.address),
                });
            }
            open = open.minus(&arrives);
        }
        for (index, nat) in config.nat.iter().enumerate() {
            match *nat {
                Nat::Destination {
                    transport,
                    address,
                    first,
                    last,
                    server,
                    server_port,
                } => {
                    let at = space
                        .host(Field::Destination, address)
                        .and(&space.protocols(&[number(transport)]))
                        .and(&open);
                    let mut door = |ports: std::ops::RangeInclusive<u16>, port| {
                        doors.push(Door {
                            by: Translation::Forward(index),
                            arrives: at.and(&space.ports(Field::DestinationPort, &[ports])),
                            from: None,
                            target: Some((server, port)),
                            to: self.leg_to(server),
                        });
                    };
                    if first == server_port {
                        door(first..=last, None);
                    } else {
                        for port in first..=last {
                            door(
                                port..=port,
                                Some((port - first).saturating_add(server_port)),
                            );
                        }
                    }
                    open =
                        open.minus(&at.and(&space.ports(Field::DestinationPort, &[first..=last])));
                }
                Nat::Prefix6 {
                    to,
                    inside: own,
                    outside,
                } => {
                    for address in inside {
                        let IpAddr::V6(address) = *address else {
                            continue;
                        };
                        let Some(outer) = prefix6::translate(own, outside, address) else {
                            continue;
                        };
                        let arrives = space.host(Field::Destination, outer.into()).and(&open);
                        doors.push(Door {
                            by: Translation::Forward(index),
                            arrives,
                            from: Some(to),
                            target: Some((address.into(), None)),
                            to: self.leg_to(address.into()),
                        });
                    }
                }
                Nat::Source { .. } => {}
            }
        }
        doors.push(Door {
            by: Translation::None,
            arrives: open.minus(&self.own),
            from: None,
            target: None,
            to: None,
        });
        doors
    }
}

/// A translation of sources.
#[derive(Clone, Debug)]
pub struct Mask {
    /// Index in [`Config::nat`].
    pub nat: usize,
    /// Packets between that it changes.
    pub applies: Set,
    /// The new source.
    pub address: IpAddr,
    /// Ports that the new source may have; `None` if it is kept.
    pub ports: Option<std::ops::RangeInclusive<u16>>,
}

/// The leg that leads to an address: the subnet that it is in, else the default route's.
#[must_use]
pub fn leg_to(config: &Config, address: IpAddr) -> Option<u8> {
    let mut subnets = subnets(config);
    let direct = subnets.find(|(_, subnet)| subnet.contains(address));
    direct
        .map(|(leg, _)| leg)
        .or_else(|| default_leg(config, Version::of(address)))
}

fn default_leg(config: &Config, version: Version) -> Option<u8> {
    match version {
        Version::V4 => {
            let router = IpAddr::V4(config.default_route?);
            subnets(config)
                .find(|(_, subnet)| subnet.contains(router))
                .map(|(leg, _)| leg)
        }
        // A link-local router is a neighbour on the first interface.
        Version::V6 => {
            let router = IpAddr::V6(config.default_route6?);
            let direct = subnets(config).find(|(_, subnet)| subnet.contains(router));
            Some(direct.map_or(0, |(leg, _)| leg))
        }
    }
}

/// Every leg's subnets.
pub(crate) fn subnets(config: &Config) -> impl Iterator<Item = (u8, IpPrefix)> {
    (0_u8..)
        .zip(&config.interfaces)
        .flat_map(|(leg, interface)| {
            let six = interface
                .address6
                .map(|own| (leg, IpPrefix::V6(Prefix6::of(own.address, own.prefix))));
            [(leg, IpPrefix::V4(interface.subnet()))]
                .into_iter()
                .chain(six)
        })
}

/// The addresses of a virtual router that packets are routed to: not the link-local one.
fn routed(router: &VirtualRouter) -> impl Iterator<Item = IpAddr> {
    (router.addresses.iter().copied())
        .filter(|own| !matches!(own, IpAddr::V6(own) if own.is_unicast_link_local()))
}

/// Every address of the appliance, own and virtual, but for link-local ones.
pub(crate) fn addresses(config: &Config) -> impl Iterator<Item = IpAddr> {
    let own = config.interfaces.iter().flat_map(|interface| {
        let own = [IpAddr::V4(interface.address)];
        let own6 = interface.address6.map(|own| IpAddr::V6(own.address));
        own.into_iter().chain(own6)
    });
    own.chain(config.routers.iter().flat_map(routed))
}

fn behind(config: &Config, space: &Space) -> Vec<Reach> {
    let set = |field| {
        let mut open = space.all();
        let mut legs = vec![space.none(); config.interfaces.len()];
        for (leg, subnet) in subnets(config) {
            let of = space.prefix(field, subnet);
            legs[usize::from(leg)] = legs[usize::from(leg)].or(&of.and(&open));
            open = open.minus(&of);
        }
        if let Some(leg) = default_leg(config, space.version()) {
            legs[usize::from(leg)] = legs[usize::from(leg)].or(&open);
        }
        legs
    };
    let (sources, destinations) = (set(Field::Source), set(Field::Destination));
    (sources.into_iter().zip(destinations))
        .map(|(source, destination)| Reach {
            source,
            destination,
        })
        .collect()
}

/// Packets with an address that no router may forward (RFC 6890 §2.2), or from an address of ours.
fn refused(config: &Config, space: &Space) -> Set {
    let both = |prefix: IpPrefix| {
        space
            .prefix(Field::Source, prefix)
            .or(&space.prefix(Field::Destination, prefix))
    };
    let special = space.any(special().map(both));
    let own = space.any(addresses(config).map(|address| space.host(Field::Source, address)));
    let edges = space.any(
        subnets(config)
            .flat_map(|(_, subnet)| edges(subnet))
            .map(both),
    );
    special.or(&own).or(&edges)
}

/// Prefixes that are no hosts of any network.
pub(crate) fn special() -> impl Iterator<Item = IpPrefix> {
    let four = SPECIAL.map(|(address, length)| IpPrefix::V4(Prefix::of(address.into(), length)));
    let six = SPECIAL6.map(|(address, length)| IpPrefix::V6(Prefix6::of(address.into(), length)));
    four.into_iter().chain(six)
}

/// Network address and directed broadcast of an IPv4 subnet.
pub(crate) fn edges(subnet: IpPrefix) -> Vec<IpPrefix> {
    match subnet {
        IpPrefix::V4(subnet) if subnet.length < 31 => [subnet.address, subnet.last()]
            .map(|address: Ipv4Addr| IpPrefix::V4(Prefix::of(address, 32)))
            .into(),
        IpPrefix::V4(_) | IpPrefix::V6(_) => Vec::new(),
    }
}

const SPECIAL: [([u8; 4], u8); 4] = [
    ([0, 0, 0, 0], 8),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([224, 0, 0, 0], 3),
];

/// Unspecified and loopback, link-local, multicast.
const SPECIAL6: [([u16; 8], u8); 3] = [
    ([0, 0, 0, 0, 0, 0, 0, 0], 127),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
];

/// Packets between that a rule matches, whatever the legs and the state.
#[must_use]
pub fn rule_set(space: &Space, rule: &Rule) -> Set {
    let addresses = |field, prefixes: &[IpPrefix]| {
        if prefixes.is_empty() {
            return space.all();
        }
        space.any(prefixes.iter().map(|prefix| space.prefix(field, *prefix)))
    };
    carried(space, &rule.protocol)
        .and(&addresses(Field::Destination, &rule.destinations))
        .and(&addresses(Field::Source, &rule.sources))
}

fn carried(space: &Space, protocol: &Protocol) -> Set {
    let types = |number: u8, types: &[u8]| {
        let of = space.protocols(&[number]);
        if types.is_empty() {
            return of;
        }
        of.and(
            &space.any(
                types
                    .iter()
                    .map(|kind| space.equals(Field::IcmpType, (*kind).into())),
            ),
        )
    };
    match protocol {
        Protocol::Any => space.all(),
        Protocol::Tcp(ports) | Protocol::Udp(ports) => {
            let number = if matches!(protocol, Protocol::Tcp(_)) {
                protocol::TCP
            } else {
                protocol::UDP
            };
            space
                .protocols(&[number])
                .and(&space.ports(Field::DestinationPort, &ports.destination))
                .and(&space.ports(Field::SourcePort, &ports.source))
        }
        Protocol::Icmp(kinds) => space
            .when(space.version() == Version::V4)
            .and(&types(protocol::ICMP, kinds)),
        Protocol::Icmp6(kinds) => space
            .when(space.version() == Version::V6)
            .and(&types(protocol::ICMP6, kinds)),
        Protocol::Number(number) => space.protocols(&[*number]),
    }
}
