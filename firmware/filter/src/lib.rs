//! The packet filter as a pure function: a checked packet goes in, one verdict comes out. Rules judge
//! the first packet of a flow, the flow table all others; the node alone turns verdicts into frames.

#![no_std]
#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr};

use policy::{Config, MAX_SERVERS, MAX_SERVICES};
use time::Instant;
use wire::checksum::Delta;
use wire::ipv4;
use wire::tcp::Flags;

mod drop;
mod flow;
mod packet;
mod rewrite;
mod route;
mod rule;
mod track;

pub use drop::Drop;
pub use packet::{ECHO_REPLY, ECHO_REQUEST, Kind, Packet, Tuple};
pub use rewrite::{Quoted, Rewrite, Translation};
pub use route::{Hop, Routes};

use flow::{Flow, Flows, InsertError};
use rule::Rules;
use track::{Direction, State, Ticks};

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Forward(Forward),
    /// It is addressed to the appliance itself.
    Local,
    /// A segment to a service that belongs to no connection, as after the loss of its server: it ends
    /// here, and its sender is told by RST (RFC 9293 §3.10.7.1).
    Reset,
    /// It ends here.
    Drop(Drop),
}

/// How a packet goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Out of which leg, to which station.
    pub hop: Hop,
    /// What changes in it.
    pub rewrite: Rewrite,
}

/// How TCP segments of unknown flows are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// Only a SYN opens a flow.
    Refuse,
    /// The appliance became Active a moment ago: connections that the rules accept are taken up in the
    /// middle, whichever side speaks first.
    PickUp,
}

/// Rules, services and flows of one appliance, with room for `FLOWS` flows (a power of two).
#[derive(Debug)]
pub struct Filter<const FLOWS: usize> {
    routes: Routes,
    rules: Rules,
    services: heapless::Vec<Service, MAX_SERVICES>,
    flows: Flows<FLOWS>,
}

#[derive(Clone, Debug)]
struct Service {
    address: u32,
    port: u16,
    servers: heapless::Vec<Server, MAX_SERVERS>,
}

#[derive(Clone, Copy, Debug)]
struct Server {
    address: u32,
    port: u16,
    healthy: bool,
}

/// Where a new flow goes: a service's server, or just the packet's destination.
#[derive(Clone, Copy, Debug)]
struct Target {
    address: u32,
    port: u16,
    service: u8,
    choice: u8,
}

impl<const FLOWS: usize> Filter<FLOWS> {
    /// The filter of a validated configuration. No server is healthy yet. `seed` keys the flow hash.
    #[must_use]
    pub fn new(config: &Config, seed: u64) -> Self {
        let services = config.services.iter().map(|service| {
            let servers = service.servers.iter().map(|server| Server {
                address: bits(server.address),
                port: server.port,
                healthy: false,
            });
            Service {
                address: bits(service.address),
                port: service.port,
                servers: servers.collect(),
            }
        });
        Self {
            routes: Routes::new(config),
            rules: Rules::new(&config.rules),
            services: services.collect(),
            flows: Flows::new(seed),
        }
    }

    /// Where addresses live.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// How many flows are known.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.flows.len()
    }

    /// How many first packets each rule decided, in the order of the configuration.
    #[must_use]
    pub fn rule_hits(&self) -> &[u32] {
        self.rules.hits()
    }

    /// Judges a packet that came in from `leg`, addressed to a virtual router.
    #[inline]
    pub fn judge(&mut self, now: Instant, leg: u8, packet: &Packet, unknown: Unknown) -> Verdict {
        let now = Ticks::at(now);
        let known = match self.flows.find(&packet.tuple) {
            Some((id, direction)) => self.known(now, leg, packet, id, direction),
            None => None,
        };
        let verdict = match known {
            Some(verdict) => verdict,
            None => self
                .first(now, leg, packet, unknown)
                .unwrap_or_else(Verdict::Drop),
        };
        match verdict {
            Verdict::Forward(_) if packet.ttl <= 1 => Verdict::Drop(Drop::Ttl),
            verdict => verdict,
        }
    }

    /// Tells whether a server gets new flows. The flows of one that no longer does are forgotten, so
    /// that their clients' next attempts reach another.
    pub fn set_health(&mut self, service: usize, server: usize, healthy: bool) {
        let Some(entry) = self
            .services
            .get_mut(service)
            .and_then(|s| s.servers.get_mut(server))
        else {
            return;
        };
        let was = core::mem::replace(&mut entry.healthy, healthy);
        if was && !healthy {
            self.flows.remove_where(|flow| {
                usize::from(flow.service) == service && usize::from(flow.choice) == server
            });
        }
    }

    /// Forgets flows whose time is over; a bounded amount of work.
    pub fn sweep(&mut self, now: Instant) {
        self.flows.sweep(Ticks::at(now), SWEEP_BUDGET);
    }

    /// Forgets all flows: for a router that is no longer Active, since its successor may change them.
    pub fn forget(&mut self) {
        self.flows.remove_where(|_| true);
    }

    /// A packet of a flow; `None` if it has to be judged as a first one.
    #[inline]
    fn known(
        &mut self,
        now: Ticks,
        leg: u8,
        packet: &Packet,
        id: u32,
        direction: Direction,
    ) -> Option<Verdict> {
        let flow = self.flows.get_mut(id)?;
        let reopens =
            flow.state == State::Closed && matches!(packet.kind, Kind::Tcp(f) if f.opens());
        if now.until(flow.expiry) <= 0 || reopens {
            self.flows.remove(id);
            return None;
        }
        let from = match direction {
            Direction::Original => flow.client_leg,
            Direction::Reply => flow.server_leg,
        };
        if leg != from {
            return Some(Verdict::Drop(Drop::ReversePath));
        }
        let state = flow.state.next(direction, packet.kind);
        // A closed flow is not kept alive by what still trickles in.
        if state != State::Closed || flow.state != State::Closed {
            flow.expiry = now.after(state.timeout());
        }
        flow.state = state;
        Some(Verdict::Forward(flow.forward(direction)))
    }

    /// The first packet of a flow, or one that belongs to none.
    fn first(
        &mut self,
        now: Ticks,
        leg: u8,
        packet: &Packet,
        unknown: Unknown,
    ) -> Result<Verdict, Drop> {
        let tuple = packet.tuple;
        self.routes.check(leg, tuple.source, tuple.destination)?;
        match packet.kind {
            Kind::Error(about) => {
                if let Some(verdict) = self.related(leg, &tuple, &about) {
                    return Ok(verdict);
                }
                return if self.routes.is_ours(tuple.destination) {
                    Ok(Verdict::Local)
                } else {
                    Err(Drop::IcmpUnrelated)
                };
            }
            Kind::Tcp(_) | Kind::Udp if tuple.source_port == 0 || tuple.destination_port == 0 => {
                return Err(Drop::Transport);
            }
            Kind::Tcp(flags) if !flags.opens() && !self.is_appliance(&tuple) => {
                if !flags.contains(Flags::ACK)
                    || flags.contains(Flags::RST)
                    || flags.contains(Flags::SYN)
                {
                    return Err(Drop::NoFlow);
                }
                return match unknown {
                    Unknown::PickUp => self.pick_up(now, leg, packet),
                    Unknown::Refuse if self.service(&tuple).is_some() => Ok(Verdict::Reset),
                    Unknown::Refuse => Err(Drop::NoFlow),
                };
            }
            Kind::EchoReply if !self.routes.is_ours(tuple.destination) => {
                return Err(Drop::IcmpUnrelated);
            }
            Kind::Tcp(_) | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::Other => {}
        }
        if self.is_appliance(&tuple) {
            return Ok(Verdict::Local);
        }
        let (target, decision) = self.target(&tuple)?;
        let flow = self.accept(leg, packet, target, &decision)?;
        self.open(now, flow, Direction::Original)
    }

    /// Whether a tuple ends at the appliance: one of its addresses, and no service there.
    fn is_appliance(&self, tuple: &Tuple) -> bool {
        self.routes.is_ours(tuple.destination) && self.service(tuple).is_none()
    }

    fn service(&self, tuple: &Tuple) -> Option<(usize, &Service)> {
        let mut services = self.services.iter().enumerate();
        services.find(|(_, service)| {
            tuple.protocol == ipv4::TCP
                && service.address == tuple.destination
                && service.port == tuple.destination_port
        })
    }

    /// Where a tuple leads, and the tuple that the rules see.
    fn target(&self, tuple: &Tuple) -> Result<(Target, Tuple), Drop> {
        let Some((index, service)) = self.service(tuple) else {
            let (address, port) = (tuple.destination, tuple.destination_port);
            return Ok((
                Target {
                    address,
                    port,
                    service: Flow::NO_SERVICE,
                    choice: 0,
                },
                *tuple,
            ));
        };
        let mut servers = service.servers.iter().enumerate();
        let (choice, server) = servers
            .find(|(_, s)| s.healthy)
            .ok_or(Drop::NoHealthyServer)?;
        let target = Target {
            address: server.address,
            port: server.port,
            service: index as u8,
            choice: choice as u8,
        };
        let seen = Tuple {
            destination: server.address,
            destination_port: server.port,
            ..*tuple
        };
        Ok((target, seen))
    }

    /// Asks the rules about the flow that a packet from the client's side would open.
    fn accept(
        &mut self,
        leg: u8,
        packet: &Packet,
        target: Target,
        decision: &Tuple,
    ) -> Result<Flow, Drop> {
        let hop = self.routes.lookup(target.address).ok_or(Drop::NoRoute)?;
        self.rules.decide(leg, hop.leg, decision)?;
        let back = self
            .routes
            .lookup(packet.tuple.source)
            .ok_or(Drop::NoRoute)?;
        Ok(flow(&packet.tuple, target, packet.kind, back, hop))
    }

    /// Enters a flow and lets the packet that opened it go on.
    fn open(&mut self, now: Ticks, mut flow: Flow, direction: Direction) -> Result<Verdict, Drop> {
        flow.expiry = now.after(flow.state.timeout());
        match self.flows.insert(now, flow) {
            Ok(_) => Ok(Verdict::Forward(flow.forward(direction))),
            Err(InsertError::Clash) => Err(Drop::FlowClash),
            Err(InsertError::Full) => Err(Drop::FlowTableFull),
        }
    }

    /// Takes up a connection in the middle. Ports are never changed and the choice of a server depends
    /// on health alone, so a packet of either side tells all that the former Active knew.
    fn pick_up(&mut self, now: Ticks, leg: u8, packet: &Packet) -> Result<Verdict, Drop> {
        let tuple = packet.tuple;
        if let Some(verdict) = self.pick_up_answer(now, leg, packet) {
            return verdict;
        }
        if self.service(&tuple).is_none() && self.routes.is_ours(tuple.destination) {
            return Ok(Verdict::Local);
        }
        let forward = self
            .target(&tuple)
            .and_then(|(target, decision)| self.accept(leg, packet, target, &decision));
        match forward {
            Ok(flow) => self.open(now, flow, Direction::Original),
            Err(refusal) => match self.reversed(leg, packet, None) {
                Ok(flow) => self.open(now, flow, Direction::Reply),
                Err(_) => Err(refusal),
            },
        }
    }

    /// A server's answer to a client of a service: translated back to what the client connected to.
    fn pick_up_answer(
        &mut self,
        now: Ticks,
        leg: u8,
        packet: &Packet,
    ) -> Option<Result<Verdict, Drop>> {
        let source = (packet.tuple.source, packet.tuple.source_port);
        let (service, choice) = self
            .services
            .iter()
            .enumerate()
            .find_map(|(index, service)| {
                let choice = service
                    .servers
                    .iter()
                    .position(|s| (s.address, s.port) == source)?;
                Some((index, choice))
            })?;
        let flow = self.reversed(leg, packet, Some((service, choice))).ok()?;
        Some(self.open(now, flow, Direction::Reply))
    }

    /// Asks the rules about the flow whose answer this packet is.
    fn reversed(
        &mut self,
        leg: u8,
        packet: &Packet,
        service: Option<(usize, usize)>,
    ) -> Result<Flow, Drop> {
        let decision = packet.tuple.reversed();
        let client = self.routes.lookup(decision.source).ok_or(Drop::NoRoute)?;
        let server = self
            .routes
            .lookup(decision.destination)
            .ok_or(Drop::NoRoute)?;
        self.rules.decide(client.leg, leg, &decision)?;
        let (address, port) = (decision.destination, decision.destination_port);
        let mut original = decision;
        let mut target = Target {
            address,
            port,
            service: Flow::NO_SERVICE,
            choice: 0,
        };
        if let Some((index, choice)) = service
            && let Some(service) = self.services.get(index)
        {
            original.destination = service.address;
            original.destination_port = service.port;
            target.service = index as u8;
            target.choice = choice as u8;
        }
        Ok(flow(&original, target, packet.kind, client, server))
    }

    /// An ICMP error about a packet of a known flow travels as that flow's packets in its direction do.
    fn related(&mut self, leg: u8, tuple: &Tuple, about: &Tuple) -> Option<Verdict> {
        let (id, direction) = self.flows.find(&about.reversed())?;
        let flow = *self.flows.get_mut(id)?;
        let (from, sender, receiver) = match direction {
            Direction::Original => (flow.client_leg, flow.client, flow.address),
            Direction::Reply => (flow.server_leg, flow.server, flow.client),
        };
        if leg != from || tuple.destination != receiver {
            return None;
        }
        let mut forward = flow.forward(direction);
        if flow.service != Flow::NO_SERVICE {
            forward.rewrite = match direction {
                Direction::Original => Rewrite::Error {
                    source: None,
                    destination: Some(flow.server.to_be_bytes()),
                    quoted: Quoted::Source(flow.server.to_be_bytes(), flow.server_port),
                },
                Direction::Reply => Rewrite::Error {
                    source: (tuple.source == sender).then(|| flow.address.to_be_bytes()),
                    destination: None,
                    quoted: Quoted::Destination(flow.address.to_be_bytes(), flow.port),
                },
            };
        }
        Some(Verdict::Forward(forward))
    }
}

impl Flow {
    /// How packets of one direction go on.
    #[inline]
    fn forward(&self, direction: Direction) -> Forward {
        match direction {
            Direction::Original => Forward {
                hop: Hop {
                    leg: self.server_leg,
                    address: Ipv4Addr::from_bits(self.server_hop),
                },
                rewrite: if self.service == Self::NO_SERVICE {
                    Rewrite::Route
                } else {
                    Rewrite::Destination(Translation {
                        address: self.server.to_be_bytes(),
                        port: self.server_port,
                        ip: self.address_delta,
                        tcp: self.transport_delta,
                    })
                },
            },
            Direction::Reply => Forward {
                hop: Hop {
                    leg: self.client_leg,
                    address: Ipv4Addr::from_bits(self.client_hop),
                },
                rewrite: if self.service == Self::NO_SERVICE {
                    Rewrite::Route
                } else {
                    Rewrite::Source(Translation {
                        address: self.address.to_be_bytes(),
                        port: self.port,
                        ip: self.address_delta.reversed(),
                        tcp: self.transport_delta.reversed(),
                    })
                },
            },
        }
    }
}

/// The flow of a packet whose `original` tuple is the client's, before DNAT.
fn flow(original: &Tuple, target: Target, kind: Kind, client: Hop, server: Hop) -> Flow {
    let address_delta = Delta::NONE.address(
        original.destination.to_be_bytes(),
        target.address.to_be_bytes(),
    );
    Flow {
        client: original.source,
        address: original.destination,
        server: target.address,
        client_hop: client.address.to_bits(),
        server_hop: server.address.to_bits(),
        client_port: original.source_port,
        port: original.destination_port,
        server_port: target.port,
        protocol: original.protocol,
        state: State::first(kind),
        client_leg: client.leg,
        server_leg: server.leg,
        service: target.service,
        choice: target.choice,
        address_delta,
        transport_delta: address_delta.word(original.destination_port, target.port),
        expiry: Ticks::default(),
    }
}

/// The address as a number; IPv6 is not balanced yet.
fn bits(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(_) => 0,
    }
}

/// Flows that one sweep looks at.
const SWEEP_BUDGET: u32 = 32;

#[cfg(test)]
mod tests;
