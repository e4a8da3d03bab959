//! What the site file asks for, as sets of packets: read from the plan alone, not from what was rendered.

use ipnet::IpNet;
use policy::{IpPrefix, Prefix, Prefix6};
use site::Plan;
use site::plan::{Action, Flow, Network, Party, PortRange, Traffic};

use crate::gate;
use crate::packet::{Version, icmp, protocol};
use crate::rack::{Component, Rack};
use crate::space::{Field, Set, Space};

/// The flows of a plan in the header space of one version. Destinations are those after services and port
/// forwarding have chosen, sources those before masquerading.
#[derive(Debug)]
pub struct Intent {
    /// First packets of accepted flows.
    pub allowed: Set,
    /// What each flow is about, whatever stands before it.
    pub flows: Vec<Set>,
    /// Sources and destinations that a host can have.
    pub ordinary: Set,
    /// What servers may take in to keep the network itself going: neighbour discovery on one cable.
    pub upkeep: Set,
    /// The same for what they send.
    pub upkeep_out: Set,
}

impl Intent {
    /// Reads the flows of a plan.
    #[must_use]
    pub fn new(plan: &Plan, space: &Space) -> Self {
        let flows: Vec<Set> = plan
            .flows
            .iter()
            .map(|flow| flow_set(plan, space, flow))
            .collect();
        let (mut allowed, mut open) = (space.none(), space.opening());
        for (flow, set) in plan.flows.iter().zip(&flows) {
            match flow.action {
                Action::Accept => allowed = allowed.or(&open.and(set)),
                Action::Drop | Action::Reject => {}
            }
            open = open.minus(set);
        }
        Self {
            allowed,
            flows,
            ordinary: ordinary(plan, space),
            upkeep: neighbours(space).and(&space.equals(Field::Hops, 255)),
            upkeep_out: neighbours(space).or(&groups(space)),
        }
    }
}

/// Sources that a component has.
#[must_use]
pub fn sources(rack: &Rack<'_>, space: &Space, component: Component) -> Set {
    addresses(rack, space, component, Field::Source)
}

/// Destinations that are a component.
#[must_use]
pub fn destinations(rack: &Rack<'_>, space: &Space, component: Component) -> Set {
    let field = Field::Destination;
    let all = addresses(rack, space, component, field);
    match component {
        // The appliances' own addresses on wan are not the Internet, though senders there may have them.
        Component::Internet => all.minus(&own(rack.plan, space, field)),
        Component::Appliance(_) | Component::Server(_) => all,
    }
}

fn addresses(rack: &Rack<'_>, space: &Space, component: Component, field: Field) -> Set {
    match component {
        Component::Internet => outside(rack.plan, space, field),
        Component::Appliance(index) => {
            let legs = rack.plan.appliances[index].legs.iter();
            space.any(legs.flat_map(|leg| {
                [Some(leg.address.into()), leg.address6.map(Into::into)]
                    .into_iter()
                    .flatten()
                    .map(|address| space.host(field, address))
            }))
        }
        Component::Server(index) => {
            let addresses = rack.hosts[index].addresses.iter();
            space.any(addresses.map(|address| space.host(field, *address)))
        }
    }
}

/// Whoever is not behind the appliances.
fn outside(plan: &Plan, space: &Space, field: Field) -> Set {
    let (four, six) = plan.inside();
    let four = four.into_iter().map(IpNet::V4);
    let inside = four.chain(six.into_iter().map(IpNet::V6));
    space
        .any(inside.map(|net| space.prefix(field, prefix(net))))
        .not()
}

/// A prefix as policies have it.
pub(crate) fn prefix(net: IpNet) -> IpPrefix {
    match net {
        IpNet::V4(net) => IpPrefix::V4(Prefix::of(net.network(), net.prefix_len())),
        IpNet::V6(net) => IpPrefix::V6(Prefix6::of(net.network(), net.prefix_len())),
    }
}

/// The subnets of a network.
pub(crate) fn subnets(network: &Network) -> impl Iterator<Item = IpPrefix> {
    let six = network.subnet6.map(|net| prefix(IpNet::V6(net)));
    [prefix(IpNet::V4(network.subnet))].into_iter().chain(six)
}

fn flow_set(plan: &Plan, space: &Space, flow: &Flow) -> Set {
    let carried = carried(space, &flow.traffic);
    let ends = match (&flow.from, &flow.to) {
        (Party::Appliances, Party::Appliances) => space.none(),
        // Appliances talk from the leg in the other's network.
        (Party::Appliances, other) => {
            let other = party(plan, space, other, Field::Destination);
            on_legs(plan, space, Field::Source, Field::Destination).and(&other)
        }
        (other, Party::Appliances) => {
            let other = party(plan, space, other, Field::Source);
            on_legs(plan, space, Field::Destination, Field::Source).and(&other)
        }
        (from, to) => {
            party(plan, space, from, Field::Source).and(&party(plan, space, to, Field::Destination))
        }
    };
    ends.and(&carried)
}

fn party(plan: &Plan, space: &Space, party: &Party, field: Field) -> Set {
    match party {
        Party::Internet => outside(plan, space, field),
        Party::Role(_) | Party::Servers | Party::Server(_) => {
            let addresses = plan
                .servers
                .iter()
                .flat_map(|server| plan.addresses_in(party, server));
            space.any(addresses.map(|address| space.host(field, address)))
        }
        Party::Set(_) | Party::Address(_) => {
            let prefixes = plan.prefixes_of(party).iter();
            space.any(prefixes.map(|net| space.prefix(field, prefix(*net))))
        }
        Party::Appliances => space.none(),
    }
}

/// An appliance's own address in `own`, and a neighbour on that leg in `other`.
fn on_legs(plan: &Plan, space: &Space, own: Field, other: Field) -> Set {
    let legs = plan.appliances.iter().flat_map(|appliance| &appliance.legs);
    space.any(legs.filter_map(|leg| {
        let network = plan.network(&leg.network)?;
        let near = space.any(subnets(network).map(|subnet| space.prefix(other, subnet)));
        let address = space.host(own, leg.address.into());
        let address6 = leg.address6.map(|address| space.host(own, address.into()));
        Some(address.or(&address6.unwrap_or(space.none())).and(&near))
    }))
}

fn carried(space: &Space, traffic: &Traffic) -> Set {
    let ports = |number: u8, ports: &site::plan::Ports| {
        let ranges =
            |ranges: &[PortRange]| -> Vec<_> { ranges.iter().map(|range| range.range()).collect() };
        space
            .protocols(&[number])
            .and(&space.ports(Field::DestinationPort, &ranges(&ports.destination)))
            .and(&space.ports(Field::SourcePort, &ranges(&ports.source)))
    };
    let types = |version, number: u8, kinds: &[u8]| {
        let of = space
            .when(space.version() == version)
            .and(&space.protocols(&[number]));
        if kinds.is_empty() {
            return of;
        }
        of.and(
            &space.any(
                kinds
                    .iter()
                    .map(|kind| space.equals(Field::IcmpType, (*kind).into())),
            ),
        )
    };
    match traffic {
        Traffic::Any => space.all(),
        Traffic::Tcp(of) => ports(protocol::TCP, of),
        Traffic::Udp(of) => ports(protocol::UDP, of),
        Traffic::Ping => types(Version::V4, protocol::ICMP, &[icmp::ECHO]).or(&types(
            Version::V6,
            protocol::ICMP6,
            &[icmp::ECHO6],
        )),
        Traffic::Icmp(kinds) => types(Version::V4, protocol::ICMP, kinds),
        Traffic::Icmp6(kinds) => types(Version::V6, protocol::ICMP6, kinds),
        Traffic::Number(number) => space.protocols(&[*number]),
    }
}

/// Neither reserved addresses, nor edges of subnets, nor the appliances' own as sources.
fn ordinary(plan: &Plan, space: &Space) -> Set {
    let subnets = plan.networks.iter().flat_map(subnets);
    let none: Vec<IpPrefix> = gate::special()
        .chain(subnets.flat_map(gate::edges))
        .collect();
    let any = |field| space.any(none.iter().map(|prefix| space.prefix(field, *prefix)));
    let own = own(plan, space, Field::Source);
    any(Field::Source)
        .or(&any(Field::Destination))
        .or(&own)
        .not()
}

/// Addresses of the appliances, own and virtual.
fn own(plan: &Plan, space: &Space, field: Field) -> Set {
    let legs = plan.appliances.iter().flat_map(|appliance| &appliance.legs);
    let legs = legs.flat_map(|leg| [Some(leg.address.into()), leg.address6.map(Into::into)]);
    let networks = (plan.networks.iter()).flat_map(Network::virtual_addresses);
    space.any(
        legs.flatten()
            .chain(networks)
            .map(|address| space.host(field, address)),
    )
}

/// Neighbour solicitations and advertisements. What takes them in has to see to it that no router has passed
/// them on (RFC 4861 §7.1).
fn neighbours(space: &Space) -> Set {
    icmp6(space).and(&space.range(Field::IcmpType, 135..=136))
}

/// Reports about multicast groups (RFC 3810 §5.2).
fn groups(space: &Space) -> Set {
    icmp6(space).and(&space.equals(Field::IcmpType, 143))
}

fn icmp6(space: &Space) -> Set {
    space
        .when(space.version() == Version::V6)
        .and(&space.protocols(&[protocol::ICMP6]))
}
