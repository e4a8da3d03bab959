//! What happens to one packet at each hop, and why.

use std::net::IpAddr;

use classifier::CompileError;
use policy::rule::{Action, State as RuleState};
use policy::{Balance, Nat};
use serde::Serialize;

use crate::device::Device;
use crate::gate::{self, Door, Gate, Translation};
use crate::nft::{State, Way};
use crate::packet::{Packet, Version, protocol};
use crate::rack::{Component, FIREWALL, Rack};
use crate::reach::View;
use crate::space::Space;

/// The way of one packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The packet as it was sent.
    #[serde(serialize_with = "as_text")]
    pub sent: Packet,
    /// The packet as it was seen last.
    #[serde(serialize_with = "as_text")]
    pub seen: Packet,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// How it ended.
    pub end: End,
    /// The rule of the appliance that decided, if one did.
    pub rule: Option<usize>,
    /// Whether the device's tables decide as its rules say. Anything else is a fault of the program.
    pub agrees: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The machine.
    pub place: String,
    /// What it did.
    pub what: String,
}

/// How a packet's way ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "end")]
pub enum End {
    /// A machine takes it in.
    Delivered {
        /// The machine.
        to: String,
    },
    /// It is gone.
    Dropped {
        /// Where.
        at: String,
        /// The reason, on appliances as they count it.
        why: String,
    },
}

/// Reasons of an appliance, in the words of its counters.
mod why {
    pub const MARTIAN: &str = "martian address";
    pub const REVERSE_PATH: &str = "reverse path";
    pub const LAND: &str = "land attack";
    pub const NOT_FOR_US: &str = "no such service on the appliance";
    pub const NO_ROUTE: &str = "no route";
    pub const TTL: &str = "ttl expired";
    pub const NO_FLOW: &str = "tcp without flow";
    pub const ICMP: &str = "unrelated icmp";
    pub const NO_RULE: &str = "default deny";
    pub const RULE: &str = "rule";
    pub const TRANSPORT: &str = "bad transport header";
}

/// All reasons that a trace can name, for comparison with the appliance's own.
pub const REASONS: [&str; 11] = [
    why::MARTIAN,
    why::REVERSE_PATH,
    why::LAND,
    why::NOT_FOR_US,
    why::NO_ROUTE,
    why::TTL,
    why::NO_FLOW,
    why::ICMP,
    why::NO_RULE,
    why::RULE,
    why::TRANSPORT,
];

impl Rack<'_> {
    /// Follows a packet that belongs to no flow yet through appliance `gate`, once for each server that it may be given
    /// to. Without `from`, whoever has its source address sends it. Rules are decided by the tables that the device gets.
    pub fn trace(
        &self,
        from: Option<Component>,
        packet: Packet,
        gate: usize,
    ) -> Result<Vec<Trace>, CompileError> {
        let space = Space::new(packet.version());
        let device = Device::new(&self.appliances[gate].rules)?;
        let mut view = View::new(self, &space);
        view.device = Some(device);
        let from = from.unwrap_or_else(|| view.sender(&packet));
        let leg = view.leg(gate, from);
        let doors = leg.map_or(Vec::new(), |leg| view.doors(gate, leg, &packet));
        let translated = |door: &usize| view.gates[gate].doors[*door].by != Translation::None;
        if doors.iter().any(translated) {
            return Ok(doors
                .into_iter()
                .map(|door| view.trace(from, packet, gate, Some(door)))
                .collect());
        }
        Ok(vec![view.trace(from, packet, gate, None)])
    }
}

/// A trace that is being written.
struct Walk<'v, 'a> {
    view: &'v View<'a>,
    packet: Packet,
    trace: Trace,
}

impl View<'_> {
    /// Who sends a packet if nobody says so: whoever has its source address.
    #[must_use]
    pub fn sender(&self, packet: &Packet) -> Component {
        if let Some(server) = self.rack.host_at(packet.source) {
            return Component::Server(server);
        }
        let own = |index: &usize| {
            let config = &self.rack.appliances[*index].config;
            config.interfaces.iter().any(|interface| {
                packet.source == IpAddr::V4(interface.address)
                    || interface
                        .address6
                        .is_some_and(|own| packet.source == IpAddr::V6(own.address))
            })
        };
        let appliance = (0..self.rack.appliances.len()).find(own);
        appliance.map_or(Component::Internet, Component::Appliance)
    }

    /// The doors of an appliance that a packet from one of its legs may go through.
    #[must_use]
    pub fn doors(&self, gate: usize, leg: u8, packet: &Packet) -> Vec<usize> {
        let own = &self.gates[gate];
        (own.doors.iter().enumerate())
            .filter(|(_, door)| door.from.is_none_or(|from| from == leg))
            .filter(|(_, door)| self.space.contains(&door.arrives, packet))
            .map(|(index, _)| index)
            .collect()
    }

    /// Follows a packet that belongs to no flow yet from its sender, through `gate` where it needs an appliance, and
    /// there through `door` (the first that fits if there is none).
    #[must_use]
    pub fn trace(
        &self,
        from: Component,
        packet: Packet,
        gate: usize,
        door: Option<usize>,
    ) -> Trace {
        let mut walk = Walk::new(self, packet);
        let end = walk.run(from, gate, door);
        walk.finish(end)
    }

    /// Follows a packet from its arrival on a leg of an appliance, whoever sent it.
    #[must_use]
    pub fn trace_from_leg(&self, gate: usize, leg: u8, packet: Packet) -> Trace {
        let mut walk = Walk::new(self, packet);
        let end = walk.through(gate, leg, None);
        walk.finish(end)
    }
}

impl<'v, 'a> Walk<'v, 'a> {
    fn new(view: &'v View<'a>, packet: Packet) -> Self {
        Self {
            view,
            packet,
            trace: Trace {
                sent: packet,
                seen: packet,
                steps: Vec::new(),
                end: End::Delivered { to: String::new() },
                rule: None,
                agrees: true,
            },
        }
    }

    fn finish(mut self, end: Result<String, End>) -> Trace {
        self.trace.seen = self.packet;
        self.trace.end = match end {
            Ok(to) => End::Delivered { to },
            Err(end) => end,
        };
        self.trace
    }

    fn run(&mut self, from: Component, gate: usize, door: Option<usize>) -> Result<String, End> {
        let rack = self.view.rack;
        if let Component::Server(server) = from {
            self.firewall(server, Way::Out)?;
        }
        let near = match from {
            Component::Server(_) => self.neighbour(from),
            Component::Appliance(index) => return self.checked_by(index),
            Component::Internet => None,
        };
        if let Some(server) = near {
            self.step(
                rack.name(from),
                "sends it straight to its neighbour on the same network",
            );
            self.firewall(server, Way::In)?;
            return Ok(rack.hosts[server].name.clone());
        }
        let Some(leg) = self.view.leg(gate, from) else {
            let name = rack.name(Component::Appliance(gate));
            return Err(self.dropped(name, why::NO_ROUTE));
        };
        self.through(gate, leg, door)
    }

    /// The server with the destination in the network of `from`.
    fn neighbour(&self, from: Component) -> Option<usize> {
        let network = self.view.rack.network(from)?;
        let server = self.view.rack.host_at(self.packet.destination)?;
        let host = &self.view.rack.plan.servers[server];
        let is_own = host
            .addresses()
            .any(|address| address == self.packet.destination);
        (is_own && host.network == network.name).then_some(server)
    }

    fn checked_by(&mut self, index: usize) -> Result<String, End> {
        let name = self.view.rack.name(Component::Appliance(index)).to_owned();
        let Some(server) = self.view.rack.host_at(self.packet.destination) else {
            return Err(self.dropped(&name, "appliances talk to servers only"));
        };
        self.step(&name, "sends it from its own leg in the server's network");
        self.firewall(server, Way::In)?;
        Ok(self.view.rack.hosts[server].name.clone())
    }

    fn through(&mut self, gate: usize, leg: u8, door: Option<usize>) -> Result<String, End> {
        let view = self.view;
        let own = &view.gates[gate];
        let name = view.rack.name(Component::Appliance(gate)).to_owned();
        self.step(
            &name,
            format!(
                "gets it on {}, TTL {}",
                self.leg_name(gate, leg),
                self.packet.hops
            ),
        );
        self.enters(own, &name, leg)?;
        let door = match door {
            Some(door) => &own.doors[door],
            None => match view.doors(gate, leg, &self.packet).first() {
                Some(door) => &own.doors[*door],
                None => return self.local(&name),
            },
        };
        if !self.packet.opens() {
            let reason = if self.packet.protocol == protocol::TCP {
                why::NO_FLOW
            } else {
                why::ICMP
            };
            return Err(self.dropped(&name, reason));
        }
        self.translate(own, &name, door);
        let Some(to) = door.to.or_else(|| own.leg_to(self.packet.destination)) else {
            return Err(self.dropped(&name, why::NO_ROUTE));
        };
        self.rules(gate, leg, to)?;
        self.mask(own, &name, door, leg, to);
        if self.packet.hops <= 1 {
            return Err(self.dropped(&name, why::TTL));
        }
        self.packet.hops -= 1;
        self.step(
            &name,
            format!(
                "sends it out on {}, TTL {}",
                self.leg_name(gate, to),
                self.packet.hops
            ),
        );
        self.arrive(gate, to, door)
    }

    /// Odd addresses and reverse path, as the appliance looks at them before anything else.
    fn enters(&mut self, own: &Gate<'_>, name: &str, leg: u8) -> Result<(), End> {
        let (source, destination) = (self.packet.source, self.packet.destination);
        if source == destination {
            return Err(self.dropped(name, why::LAND));
        }
        let config = &own.appliance.config;
        let special = |address| {
            gate::special().any(|prefix| prefix.contains(address))
                || gate::subnets(config)
                    .flat_map(|(_, subnet)| gate::edges(subnet))
                    .any(|edge| edge.contains(address))
        };
        let is_own = gate::addresses(config).any(|address| address == source);
        if special(source) || special(destination) || is_own {
            return Err(self.dropped(name, why::MARTIAN));
        }
        let back = own.leg_to(source);
        if back != Some(leg) {
            let place = back.map_or("nowhere".to_owned(), |back| {
                config.interfaces[usize::from(back)].name.to_string()
            });
            self.step(name, format!("answers to {source} would go to {place}"));
            return Err(self.dropped(name, why::REVERSE_PATH));
        }
        let has_ports = matches!(self.packet.protocol, protocol::TCP | protocol::UDP);
        if has_ports && (self.packet.source_port == 0 || self.packet.destination_port == 0) {
            return Err(self.dropped(name, why::TRANSPORT));
        }
        Ok(())
    }

    /// A packet to the appliance itself.
    fn local(&mut self, name: &str) -> Result<String, End> {
        if self.view.space.contains(&self.view.pings(), &self.packet) {
            self.step(name, "answers pings to its own addresses");
            return Ok(name.to_owned());
        }
        Err(self.dropped(name, why::NOT_FOR_US))
    }

    fn translate(&mut self, own: &Gate<'_>, name: &str, door: &Door) {
        let what = match &door.by {
            Translation::None => return,
            Translation::Service { service, server } => {
                let servers = own.appliance.config.services.iter();
                let of = servers.filter(|known| known.name == service.as_str());
                let (mut balance, mut others) = ("", Vec::new());
                for known in of {
                    balance = self::balance(known.balance);
                    others.extend((known.servers.iter()).map(|server| server.name.to_string()));
                }
                others.dedup();
                format!(
                    "service `{service}` chooses {server} (of {}; {balance})",
                    others.join(", ")
                )
            }
            Translation::Forward(index) => match own.appliance.config.nat[*index] {
                Nat::Prefix6 {
                    inside, outside, ..
                } => {
                    format!("prefix translation of {outside} to {inside}")
                }
                Nat::Source { .. } | Nat::Destination { .. } => "port forwarding".to_owned(),
            },
        };
        if let Some((address, port)) = door.target {
            self.packet.destination = address;
            self.packet.destination_port = port.unwrap_or(self.packet.destination_port);
            let to = end(address, self.packet.destination_port);
            self.step(name, format!("{what}: destination becomes {to}"));
        } else {
            self.step(
                name,
                format!("{what}, which answers directly: the destination stays"),
            );
        }
    }

    fn rules(&mut self, gate: usize, from: u8, to: u8) -> Result<(), End> {
        let own = &self.view.gates[gate];
        let name = self.view.rack.name(Component::Appliance(gate)).to_owned();
        let legs = format!(
            "{} to {}",
            self.leg_name(gate, from),
            self.leg_name(gate, to)
        );
        let fits = (own.appliance.rules.iter().enumerate()).find(|(index, rule)| {
            rule.state != RuleState::Invalid
                && rule.from.contains(from)
                && rule.to.contains(to)
                && self.view.space.contains(own.rule(*index), &self.packet)
        });
        let fits = fits.map(|(index, _)| index);
        let decided = match &self.view.device {
            Some(device) => device.rule(&self.packet, from, to),
            None => fits,
        };
        self.trace.agrees &= decided == fits;
        let Some((index, rule)) =
            decided.and_then(|index| Some((index, own.appliance.rules.get(index)?)))
        else {
            self.step(&name, format!("no rule from {legs} accepts it"));
            return Err(self.dropped(&name, why::NO_RULE));
        };
        self.trace.rule = Some(index);
        let does = match rule.action {
            Action::Accept => "accepts",
            Action::Drop => "drops",
            Action::Reject => "rejects",
        };
        let limits = [
            rule.rate.map(|_| "while its rate limit lasts"),
            rule.flows
                .map(|_| "while its limit of flows is not reached"),
        ];
        let mut text = format!("rule {index} `{}` {does} it ({legs})", rule.name);
        for limit in limits.into_iter().flatten() {
            text.push_str(&format!(", {limit}"));
        }
        self.step(&name, text);
        match rule.action {
            Action::Accept => Ok(()),
            Action::Drop | Action::Reject => Err(self.dropped(&name, why::RULE)),
        }
    }

    fn mask(&mut self, own: &Gate<'_>, name: &str, door: &Door, from: u8, to: u8) {
        let masks = own.masks(door, from, to);
        let fits = masks
            .iter()
            .find(|mask| self.view.space.contains(&mask.applies, &self.packet));
        if let Some(mask) = fits {
            self.packet.source = mask.address;
            let ports = match &mask.ports {
                Some(ports) if !ports.contains(&self.packet.source_port) => {
                    self.packet.source_port = *ports.start();
                    format!(", a port of {}-{}", ports.start(), ports.end())
                }
                Some(_) | None => String::new(),
            };
            self.step(name, format!("source becomes {}{ports}", mask.address));
        }
    }

    /// At the far side of an appliance.
    fn arrive(&mut self, gate: usize, leg: u8, door: &Door) -> Result<String, End> {
        let rack = self.view.rack;
        let network = self.leg_name(gate, leg);
        let direct = match (&door.by, door.target) {
            (Translation::Service { server, .. }, None) => rack.component(server),
            _ => None,
        };
        let server = match direct {
            Some(Component::Server(server)) => Some(server),
            Some(_) | None => rack.host_at(self.packet.destination),
        };
        if let Some(server) = server {
            self.firewall(server, Way::In)?;
            return Ok(rack.hosts[server].name.clone());
        }
        if self.view.leg(gate, Component::Internet) == Some(leg) {
            return Ok(rack.name(Component::Internet).to_owned());
        }
        let nobody = format!("no machine of {network} has this address");
        Err(self.dropped(&network, &nobody))
    }

    fn firewall(&mut self, server: usize, way: Way) -> Result<(), End> {
        let host = &self.view.rack.hosts[server];
        let judgement = host
            .firewall
            .judge(self.view.space, way, State::New, &self.packet);
        let does = match (way, judgement.accepted) {
            (Way::In, true) => "takes it in",
            (Way::In, false) => "does not take it in",
            (Way::Out | Way::Through, true) => "lets it out",
            (Way::Out | Way::Through, false) => "does not let it out",
        };
        let place = match judgement.line {
            Some(line) => format!("{FIREWALL} line {line}: {}", judgement.text),
            None => format!("{FIREWALL}: {}", judgement.text),
        };
        self.step(&host.name, format!("{does}: {place}"));
        if judgement.accepted {
            return Ok(());
        }
        Err(End::Dropped {
            at: host.name.clone(),
            why: place,
        })
    }

    fn leg_name(&self, gate: usize, leg: u8) -> String {
        let legs = &self.view.rack.plan.appliances[gate].legs;
        legs.get(usize::from(leg))
            .map_or("?".to_owned(), |leg| leg.network.clone())
    }

    fn step(&mut self, place: &str, what: impl Into<String>) {
        self.trace.steps.push(Step {
            place: place.to_owned(),
            what: what.into(),
        });
    }

    /// The end of the packet, in the words of a counter.
    fn dropped(&mut self, at: &str, why: &str) -> End {
        self.step(at, format!("drops it: {why}"));
        End::Dropped {
            at: at.to_owned(),
            why: why.to_owned(),
        }
    }
}

fn balance(balance: Balance) -> &'static str {
    match balance {
        Balance::Failover => "the first healthy one",
        Balance::RoundRobin => "in turn",
        Balance::LeastConnections => "the one with the fewest flows",
        Balance::SourceHash => "by the client's address",
        Balance::Maglev => "by the client's address and port",
    }
}

fn end(address: IpAddr, port: u16) -> String {
    match Version::of(address) {
        Version::V4 => format!("{address}:{port}"),
        Version::V6 => format!("[{address}]:{port}"),
    }
}

fn as_text<S: serde::Serializer>(packet: &Packet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(packet)
}
