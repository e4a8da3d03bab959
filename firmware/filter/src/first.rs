//! The first packet of a flow: where it leads, whether the rules accept it, and the flow that it opens.

use wire::checksum::Delta;
use wire::ipv4;
use wire::tcp::Flags;

use crate::flow::{Flow, InsertError};
use crate::track::{Direction, State, Ticks};
use crate::{Drop, Filter, Hop, Kind, Packet, Service, Tuple, Unknown, Verdict};

/// Where a new flow goes: a service's server, or just the packet's destination.
#[derive(Clone, Copy, Debug)]
struct Target {
    address: u32,
    port: u16,
    service: u8,
    choice: u8,
}

impl<const FLOWS: usize> Filter<'_, FLOWS> {
    /// The first packet of a flow, or one that belongs to none.
    pub(crate) fn first(
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
        client_hop: crate::bits(client.address),
        server_hop: crate::bits(server.address),
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
