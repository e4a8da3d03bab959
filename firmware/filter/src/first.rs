//! The first packet of a flow: where it leads, whether the rules accept it, and the flow that it opens.

use core::net::IpAddr;

use wire::tcp::Flags;

use crate::address::Address;
use crate::flow::{Flow, Owner};
use crate::packet::{Class, Kind, Packet, Ports, Tuple};
use crate::rewrite;
use crate::table::{Flows, InsertError};
use crate::track::{Direction, State, Ticks};
use crate::window::{Segment, Windows};
use crate::{Drop, Service, Shared, Unknown, Verdict};

/// Where a new flow goes: a service's server, or just the packet's destination.
#[derive(Clone, Copy, Debug)]
struct Target<A> {
    address: A,
    port: u16,
    owner: Owner,
}

impl Shared<'_> {
    /// The first packet of a flow, or one that belongs to none.
    pub(crate) fn first<A: Address, const N: usize>(
        &mut self,
        flows: &mut Flows<A, N>,
        now: Ticks,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
        unknown: Unknown,
    ) -> Result<Verdict, Drop> {
        let tuple = &packet.tuple;
        let routes = A::family(&self.routes);
        routes.check(leg, tuple.source, tuple.destination)?;
        let ours = routes.is_ours(tuple.destination);
        let appliance = ours && self.service(tuple, packet.kind).is_none();
        match packet.kind {
            Kind::Error => {
                return match self.related(flows, leg, packet, bytes) {
                    Some(verdict) => Ok(verdict),
                    None if ours => Ok(Verdict::Local),
                    None => Err(Drop::IcmpUnrelated),
                };
            }
            Kind::Control if ours => return Ok(Verdict::Local),
            Kind::Control => return Err(Drop::IcmpType),
            Kind::Part => return Err(Drop::Fragment),
            Kind::Tcp(_) | Kind::Udp
                if tuple.source_port() == 0 || tuple.destination_port() == 0 =>
            {
                return Err(Drop::Transport);
            }
            Kind::Tcp(flags) if !flags.opens() && !appliance => {
                if !flags.contains(Flags::ACK)
                    || flags.contains(Flags::RST)
                    || flags.contains(Flags::SYN)
                {
                    return Err(Drop::NoFlow);
                }
                return match unknown {
                    Unknown::PickUp => self.pick_up(flows, now, leg, packet, bytes),
                    // A connection to a service that is gone, as after the loss of its server.
                    Unknown::Refuse if self.service(tuple, packet.kind).is_some() => {
                        let len = rewrite::reset(bytes, packet).ok_or(Drop::NoFlow)?;
                        let reason = Drop::NoFlow;
                        Ok(Verdict::Answer { len, reason })
                    }
                    Unknown::Refuse => Err(Drop::NoFlow),
                };
            }
            Kind::EchoReply if !ours => return Err(Drop::IcmpUnrelated),
            Kind::Tcp(_) | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::Other => {}
        }
        if appliance {
            return Ok(Verdict::Local);
        }
        let target = self.target(tuple, packet.kind)?;
        let flow = self.accept(leg, packet, target)?;
        self.open(flows, now, flow, Direction::Original, packet, bytes)
    }

    fn service<A: Address>(&self, tuple: &Tuple<A>, kind: Kind) -> Option<(usize, &Service)> {
        let destination: IpAddr = tuple.destination.into();
        let mut services = self.services.iter().enumerate();
        services.find(|(_, service)| {
            matches!(kind, Kind::Tcp(_))
                && service.port == tuple.destination_port()
                && service.address == destination
        })
    }

    /// Where a tuple leads.
    fn target<A: Address>(&self, tuple: &Tuple<A>, kind: Kind) -> Result<Target<A>, Drop> {
        let Some((index, service)) = self.service(tuple, kind) else {
            return Ok(Target {
                address: tuple.destination,
                port: tuple.destination_port(),
                owner: Owner::NONE,
            });
        };
        let mut servers = service.servers.iter().enumerate();
        let (choice, server) = servers
            .find(|(_, s)| s.healthy)
            .ok_or(Drop::NoHealthyServer)?;
        Ok(Target {
            address: A::from_ip(server.address).ok_or(Drop::NoHealthyServer)?,
            port: server.port,
            owner: Owner::new(index, choice),
        })
    }

    /// Asks the rules about the flow that a packet from the client's side would open.
    fn accept<A: Address>(
        &mut self,
        leg: u8,
        packet: &Packet<A>,
        target: Target<A>,
    ) -> Result<Flow<A>, Drop> {
        let routes = A::family(&self.routes);
        let original = packet.tuple;
        let to = routes.lookup(target.address).ok_or(Drop::NoRoute)?.path;
        let from = routes.lookup(original.source).ok_or(Drop::NoRoute)?.path;
        let decision = Tuple {
            source: original.source,
            destination: target.address,
            ports: Ports::new(original.source_port(), target.port),
        };
        let class = packet.kind.class().unwrap_or(Class::Other);
        self.rules.decide(leg, to.leg, &decision, class)?;
        let state = State::first(packet.kind);
        let flow = Flow::new(original, decision.reversed(), state, from, to);
        Ok(flow.owned_by(target.owner))
    }

    /// Enters a flow and lets the packet that opened it go on.
    fn open<A: Address, const N: usize>(
        &mut self,
        flows: &mut Flows<A, N>,
        now: Ticks,
        mut flow: Flow<A>,
        direction: Direction,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Result<Verdict, Drop> {
        if let Some(refusal) = self.problem(packet, flow.path(direction.opposite()).leg) {
            return Ok(refusal);
        }
        flow.expiry = now.after(flow.state.timeout());
        if matches!(packet.kind, Kind::Tcp(_)) {
            let segment = bytes.get(packet.transport.into()..packet.len.into());
            let segment = segment.and_then(Segment::parse).ok_or(Drop::Transport)?;
            flow.windows = Windows::first(direction, &segment);
        }
        match flows.insert(now, flow, self) {
            Ok(_) => Ok(self.pass(&flow, direction, packet, bytes)),
            Err(InsertError::Clash) => Err(Drop::FlowClash),
            Err(InsertError::Full) => Err(Drop::FlowTableFull),
        }
    }

    /// Takes up a connection in the middle. Ports are never changed and the choice of a server depends
    /// on health alone, so a packet of either side tells all that the former Active knew.
    fn pick_up<A: Address, const N: usize>(
        &mut self,
        flows: &mut Flows<A, N>,
        now: Ticks,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Result<Verdict, Drop> {
        let tuple = &packet.tuple;
        if let Some(owner) = self.server(tuple)
            && let Ok(flow) = self.reversed(leg, packet, owner)
        {
            return self.open(flows, now, flow, Direction::Reply, packet, bytes);
        }
        if self.service(tuple, packet.kind).is_none()
            && A::family(&self.routes).is_ours(tuple.destination)
        {
            return Ok(Verdict::Local);
        }
        let forward = self
            .target(tuple, packet.kind)
            .and_then(|target| self.accept(leg, packet, target));
        match forward {
            Ok(flow) => self.open(flows, now, flow, Direction::Original, packet, bytes),
            Err(refusal) => match self.reversed(leg, packet, Owner::NONE) {
                Ok(flow) => self.open(flows, now, flow, Direction::Reply, packet, bytes),
                Err(_) => Err(refusal),
            },
        }
    }

    /// The server of a service that a packet comes from.
    fn server<A: Address>(&self, tuple: &Tuple<A>) -> Option<Owner> {
        let source: (IpAddr, u16) = (tuple.source.into(), tuple.source_port());
        let mut services = self.services.iter().enumerate();
        services.find_map(|(index, service)| {
            let mut servers = service.servers.iter();
            let choice = servers.position(|s| (s.address, s.port) == source)?;
            Some(Owner::new(index, choice))
        })
    }

    /// Asks the rules about the flow whose answer this packet is: translated back to what the client of a service
    /// connected to.
    fn reversed<A: Address>(
        &mut self,
        leg: u8,
        packet: &Packet<A>,
        owner: Owner,
    ) -> Result<Flow<A>, Drop> {
        let decision = packet.tuple.reversed();
        let routes = A::family(&self.routes);
        let from = routes.lookup(decision.source).ok_or(Drop::NoRoute)?.path;
        let to = routes
            .lookup(decision.destination)
            .ok_or(Drop::NoRoute)?
            .path;
        let class = packet.kind.class().unwrap_or(Class::Other);
        self.rules.decide(from.leg, leg, &decision, class)?;
        let mut original = decision;
        if let Some((index, _)) = owner.get()
            && let Some(service) = self.services.get(index)
            && let Some(address) = A::from_ip(service.address)
        {
            original.destination = address;
            original.ports = Ports::new(decision.source_port(), service.port);
        }
        let state = State::first(packet.kind);
        Ok(Flow::new(original, packet.tuple, state, from, to).owned_by(owner))
    }
}
