//! From one component to another: through the sender's firewall, an appliance, the receiver's firewall.

use std::cell::OnceCell;
use std::net::IpAddr;

use crate::device::{Device, DeviceError};
use crate::gate::{Door, Gate, Translation};
use crate::intent::{self, Intent};
use crate::nft::{State, Way};
use crate::packet::{icmp, protocol};
use crate::rack::{Component, Rack};
use crate::space::{Field, Set, Space};

/// A rack in the header space of one version.
#[derive(Debug)]
pub struct View<'a> {
    /// The machines.
    pub rack: &'a Rack<'a>,
    /// The header space.
    pub space: &'a Space,
    /// The appliances.
    pub gates: Vec<Gate<'a>>,
    /// What the plan asks for.
    pub intent: Intent,
    /// What each server takes in, and lets out.
    firewalls: Vec<(Set, Set)>,
    /// The appliances themselves, from the first trace on that needs them.
    devices: Vec<OnceCell<Result<Device, DeviceError>>>,
    /// Bytes that an appliance's configuration may have.
    pub(crate) room: usize,
}

/// One way from a component to another.
#[derive(Clone, Debug)]
pub struct Route {
    /// The appliance and its door; `None` between neighbours.
    pub gate: Option<(usize, usize)>,
    /// Packets as the rules see them.
    pub between: Set,
    /// The same as their sender sends them.
    pub sent: Set,
}

impl<'a> View<'a> {
    /// Looks at a rack.
    #[must_use]
    pub fn new(rack: &'a Rack<'a>, space: &'a Space) -> Self {
        let inside = rack.inside();
        let gates = rack
            .appliances
            .iter()
            .map(|appliance| Gate::new(appliance, space, &inside));
        let firewalls = rack.hosts.iter().map(|host| {
            let set = |way| {
                host.firewall
                    .accepts(space, way, State::New)
                    .and(&space.packets())
            };
            (set(Way::In), set(Way::Out))
        });
        Self {
            rack,
            space,
            gates: gates.collect(),
            intent: Intent::new(rack.plan, space),
            firewalls: firewalls.collect(),
            devices: rack.appliances.iter().map(|_| OnceCell::new()).collect(),
            room: policy::MAX_BLOB,
        }
    }

    /// An appliance itself.
    pub(crate) fn device(&self, gate: usize) -> Result<&Device, DeviceError> {
        let compile = || Device::new(&self.rack.appliances[gate], self.room);
        self.devices[gate]
            .get_or_init(compile)
            .as_ref()
            .map_err(Clone::clone)
    }

    /// New packets that a server takes in, for its own addresses.
    #[must_use]
    pub fn taken_in(&self, server: usize) -> Set {
        let (taken, _) = &self.firewalls[server];
        taken.and(&intent::destinations(
            self.rack,
            self.space,
            Component::Server(server),
        ))
    }

    /// New packets that a server lets out.
    #[must_use]
    pub fn let_out(&self, server: usize) -> &Set {
        &self.firewalls[server].1
    }

    /// What a component can send.
    fn sends(&self, component: Component) -> Set {
        match component {
            Component::Internet => self.space.packets(),
            Component::Appliance(index) => {
                intent::sources(self.rack, self.space, Component::Appliance(index))
                    .and(&self.space.packets())
            }
            Component::Server(index) => self.let_out(index).clone(),
        }
    }

    /// What a component takes in, if it arrives.
    fn takes(&self, component: Component) -> Set {
        match component {
            Component::Internet => intent::destinations(self.rack, self.space, component),
            // Appliances answer pings to any of their addresses, and nothing else.
            Component::Appliance(index) => {
                let own = self.gates[index].own();
                own.and(&self.pings())
            }
            Component::Server(index) => self.taken_in(index),
        }
    }

    /// Echo requests.
    #[must_use]
    pub fn pings(&self) -> Set {
        let space = self.space;
        space
            .protocols(&[protocol::ICMP])
            .and(&space.equals(Field::IcmpType, icmp::ECHO.into()))
            .or(&space
                .protocols(&[protocol::ICMP6])
                .and(&space.equals(Field::IcmpType, icmp::ECHO6.into())))
    }

    /// The leg of an appliance that a component is behind.
    #[must_use]
    pub fn leg(&self, gate: usize, component: Component) -> Option<u8> {
        let network = self.rack.network(component)?;
        let legs = &self.rack.plan.appliances[gate].legs;
        let leg = legs.iter().position(|leg| leg.network == network.name)?;
        u8::try_from(leg).ok()
    }

    /// Whether two components are in one network and need no appliance.
    #[must_use]
    pub fn are_neighbours(&self, from: Component, to: Component) -> bool {
        match (from, to) {
            (Component::Server(a), Component::Server(b)) => {
                self.rack.hosts[a].network == self.rack.hosts[b].network
            }
            (Component::Appliance(_), Component::Server(_))
            | (Component::Server(_) | Component::Internet, Component::Appliance(_)) => true,
            (Component::Internet, Component::Server(_) | Component::Internet)
            | (Component::Server(_), Component::Internet)
            | (Component::Appliance(_), Component::Internet | Component::Appliance(_)) => false,
        }
    }

    /// Whether the pair is looked at: not oneself, and not what is on the provider's side or between the appliances.
    #[must_use]
    pub fn concerns(&self, from: Component, to: Component) -> bool {
        from != to
            && !matches!(
                (from, to),
                (
                    Component::Appliance(_),
                    Component::Appliance(_) | Component::Internet
                )
            )
    }

    /// All packets that get from one component to another without an appliance between.
    #[must_use]
    pub fn direct(&self, from: Component, to: Component) -> Option<Route> {
        if !self.are_neighbours(from, to) {
            return None;
        }
        let mut set = self.sends(from).and(&self.takes(to));
        // Appliances send from the leg that the server is on; what servers send to one, they send to that leg.
        if let (Component::Appliance(gate), Component::Server(server)) = (from, to) {
            set = set.and(&self.on_leg(gate, server, Field::Source));
        }
        let set = set.minus(&self.intent.upkeep);
        Some(Route {
            gate: None,
            between: set.clone(),
            sent: set,
        })
    }

    fn on_leg(&self, gate: usize, server: usize, field: Field) -> Set {
        let network = &self.rack.hosts[server].network;
        let legs = self.rack.plan.appliances[gate].legs.iter();
        let addresses = legs.filter(|leg| leg.network == *network).flat_map(|leg| {
            [
                Some(IpAddr::from(leg.address)),
                leg.address6.map(IpAddr::from),
            ]
        });
        self.space.any(
            addresses
                .flatten()
                .map(|address| self.space.host(field, address)),
        )
    }

    /// All packets that get from one component to another through an appliance, by door.
    #[must_use]
    pub fn routes(&self, gate: usize, from: Component, to: Component) -> Vec<Route> {
        let (Some(enters), Some(leaves)) = (self.leg(gate, from), self.leg(gate, to)) else {
            return Vec::new();
        };
        let own = &self.gates[gate];
        let takes = self.takes(to);
        if takes.is_empty() {
            return Vec::new();
        }
        let arriving = self.sends(from).and(&own.enters(enters));
        if arriving.is_empty() {
            return Vec::new();
        }
        // One hop has been taken: what arrives has not 255 left.
        let space = self.space;
        let fresh = space.equals(Field::Hops, 255);
        let received = space.forget(&takes.minus(&fresh), &[Field::Hops]);
        let mut routes = Vec::new();
        for (index, door) in own.doors.iter().enumerate() {
            if door.from.is_some_and(|from| from != enters)
                || door.to.is_some_and(|to| to != leaves)
                || !self.leads_to(door, to)
            {
                continue;
            }
            let between = own
                .through(door, &arriving)
                .and(&own.leaves(door, leaves))
                .and(&own.accepts(enters, leaves));
            if between.is_empty() {
                continue;
            }
            let between = between.and(&own.unmasked(door, enters, leaves, &received));
            if between.is_empty() {
                continue;
            }
            let sent = own.before(door, &between).and(&arriving);
            routes.push(Route {
                gate: Some((gate, index)),
                between,
                sent,
            });
        }
        routes
    }

    /// Whether a door can lead to a component; saves the work for those that cannot.
    fn leads_to(&self, door: &Door, to: Component) -> bool {
        match (to, &door.by, door.target) {
            (Component::Server(index), _, Some((address, _))) => {
                self.rack.hosts[index].addresses.contains(&address)
            }
            (Component::Server(index), Translation::Service { server, .. }, None) => {
                self.rack.hosts[index].name == *server
            }
            (_, _, Some(_)) => false,
            (_, _, None) => true,
        }
    }

    /// The packets with translated destinations that the plan wants to get from one component to a server, as
    /// their sender sends them.
    #[must_use]
    pub fn wanted_doors(&self, from: Component, server: usize) -> Set {
        let (space, plan) = (self.space, self.rack.plan);
        let host = &self.rack.hosts[server];
        let wanted = self.allowed(from, Component::Server(server));
        if wanted.is_empty() {
            return wanted;
        }
        let transport = |transport| match transport {
            policy::Transport::Tcp => protocol::TCP,
            policy::Transport::Udp => protocol::UDP,
        };
        let mut all = space.none();
        for service in &plan.services {
            let sorry = service
                .sorry
                .as_ref()
                .map(|sorry| (&sorry.server, sorry.port));
            let members = service
                .servers
                .iter()
                .map(|member| (&member.server, service.server_port));
            let ports = members.chain(sorry).filter(|(name, _)| **name == host.name);
            let virtual_addresses = [
                Some(IpAddr::V4(service.address)),
                service.address6.map(IpAddr::V6),
            ];
            for (port, address) in ports.flat_map(|(_, port)| {
                virtual_addresses
                    .into_iter()
                    .flatten()
                    .map(move |address| (port, address))
            }) {
                let at = space
                    .host(Field::Destination, address)
                    .and(&space.equals(Field::DestinationPort, service.port.into()));
                let of = wanted.and(&space.protocols(&[transport(service.transport)]));
                let of = match service.forwarding {
                    policy::Forwarding::DirectReturn => of,
                    policy::Forwarding::Nat => {
                        let real = of.and(&space.equals(Field::DestinationPort, port.into()));
                        space.forget(&real, &[Field::Destination, Field::DestinationPort])
                    }
                };
                all = all.or(&of.and(&at));
            }
        }
        for nat in &plan.nat {
            let site::plan::Nat::Forward {
                transport: of,
                network,
                ports,
                server,
                server_port,
                ..
            } = nat
            else {
                continue;
            };
            let Some(network) = plan.network(network).filter(|_| *server == host.name) else {
                continue;
            };
            let addresses = [
                Some(IpAddr::V4(network.virtual_address)),
                network.virtual6.map(IpAddr::V6),
            ];
            let at = space.any(
                addresses
                    .into_iter()
                    .flatten()
                    .map(|address| space.host(Field::Destination, address)),
            );
            let of = wanted.and(&space.protocols(&[transport(*of)]));
            for port in ports.range() {
                let real = (port - ports.first).saturating_add(*server_port);
                let real = of.and(&space.equals(Field::DestinationPort, real.into()));
                if real.is_empty() {
                    continue;
                }
                let freed = space.forget(&real, &[Field::Destination, Field::DestinationPort]);
                let here = space.equals(Field::DestinationPort, port.into());
                all = all.or(&freed.and(&at).and(&here));
            }
        }
        all
    }

    /// What the plan lets get from one component to another, as rules see it.
    #[must_use]
    pub fn allowed(&self, from: Component, to: Component) -> Set {
        let ends = intent::sources(self.rack, self.space, from)
            .and(&intent::destinations(self.rack, self.space, to));
        let mut allowed = self.intent.allowed.and(&ends);
        if let (Component::Appliance(gate), Component::Server(server)) = (from, to) {
            allowed = allowed.and(&self.on_leg(gate, server, Field::Source));
        }
        if let (Component::Server(server), Component::Appliance(gate)) = (from, to) {
            allowed = allowed.and(&self.on_leg(gate, server, Field::Destination));
        }
        allowed
    }

    /// Those packets of `set` that a component has a right to send: reserved addresses and the appliances' own are
    /// refused as anybody else's source.
    #[must_use]
    pub fn rightful(&self, from: Component, set: &Set) -> Set {
        match from {
            Component::Appliance(_) => set.clone(),
            Component::Internet | Component::Server(_) => set.and(&self.intent.ordinary),
        }
    }
}
