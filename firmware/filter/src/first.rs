//! The first packet of a flow: where it leads, whether the rules accept it, and the flow that it opens.

use core::net::IpAddr;

use policy::rule::Sharing;
use wire::icmp::Problem;
use wire::tcp::Flags;

use crate::address::{Address, V6};
use crate::flow::{Flow, Owner};
use crate::packet::{Class, Kind, Packet, Ports, Tuple};
use crate::ports;
use crate::rewrite;
use crate::rule::{self, Allowed};
use crate::services::transport;
use crate::table::{Flows, InsertError};
use crate::track::{Direction, State, Ticks};
use crate::window::{Segment, Windows};
use crate::{Drop, Logged, Shared, Unknown, Verdict, hash};

/// Where a new flow goes: a service's server, a forwarded port, or just the packet's destination.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<A> {
    address: A,
    port: u16,
    owner: Owner,
    way: Way,
}

/// How packets reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As they are.
    Routed,
    /// With the destination translated.
    Translated,
    /// As they are, though the destination is ours: the server has it too.
    Direct,
}

impl Shared<'_> {
    /// The first packet of a flow, or one that belongs to none.
    pub(crate) fn first<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
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
        let appliance = ours && !self.is_served(packet);
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
            Kind::Part => return Err(Drop::FragmentOrder),
            Kind::Tcp(_) | Kind::Udp
                if tuple.source_port() == 0 || tuple.destination_port() == 0 =>
            {
                return Err(Drop::Transport);
            }
            Kind::Tcp(flags) if !flags.opens() && !appliance => {
                return self.stray(flows, now, leg, packet, bytes, (flags, unknown));
            }
            Kind::EchoReply if !ours => return Err(Drop::IcmpUnrelated),
            Kind::Tcp(_) | Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::Other => {}
        }
        if appliance {
            return Ok(Verdict::Local);
        }
        if matches!(packet.kind, Kind::Tcp(_))
            && let Some(answer) = self.cookie(flows, leg, packet, bytes)
        {
            return answer;
        }
        let target = self.target(packet)?;
        let flow = self.accept(flows, leg, packet, target)?;
        self.open(flows, now, flow, Direction::Original, packet, bytes)
    }

    /// A TCP segment that is no SYN, and of no flow.
    fn stray<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
        (flags, unknown): (Flags, Unknown),
    ) -> Result<Verdict, Drop> {
        if !flags.contains(Flags::ACK) || flags.contains(Flags::RST) {
            return Err(Drop::NoFlow);
        }
        if flags.contains(Flags::SYN) {
            return match unknown {
                // The answer to a SYN that somebody else sent in our name.
                Unknown::Refuse if self.service(packet).is_none() => self.disown(leg, packet),
                Unknown::Refuse | Unknown::PickUp => Err(Drop::NoFlow),
            };
        }
        if let Some(opened) = self.opened_by(packet, bytes) {
            return self.begin(flows, now, leg, packet, bytes, opened);
        }
        match unknown {
            Unknown::PickUp => self.pick_up(flows, now, leg, packet, bytes),
            // A connection to a service that is gone, as after the loss of its server.
            Unknown::Refuse if self.service(packet).is_some() => {
                if !rewrite::is_sound(bytes, packet) {
                    return Err(Drop::NoFlow);
                }
                let len = rewrite::reset(bytes, packet).ok_or(Drop::NoFlow)?;
                let reason = Drop::NoFlow;
                Ok(Verdict::Answer { len, reason })
            }
            Unknown::Refuse => self.disown(leg, packet),
        }
    }

    /// Asks the rules about a segment that no flow knows and that asks for no service: they may drop or reject it, but never
    /// accept it. They see where it would go.
    fn disown<A: Address>(&mut self, leg: u8, packet: &Packet<A>) -> Result<Verdict, Drop> {
        let target = self.target(packet)?;
        let routes = A::family(&self.routes);
        let to = routes.lookup(target.address).ok_or(Drop::NoRoute)?;
        let legs = (leg, to.path.leg);
        let decision = Tuple {
            source: packet.tuple.source,
            destination: target.address,
            ports: Ports::new(packet.tuple.source_port(), target.port),
        };
        match self.decide(legs, &decision, Class::Tcp, rule::State::Invalid) {
            Ok(_) | Err(Drop::NoRule) => Err(Drop::NoFlow),
            Err(reason) => Err(reason),
        }
    }

    /// Asks the rules, and takes notes: for the log if they want one, and of who is told of the flow.
    fn decide<A: Address>(
        &mut self,
        (from, to): (u8, u8),
        tuple: &Tuple<A>,
        class: Class,
        state: rule::State,
    ) -> Result<Allowed, Drop> {
        let (found, answer) = self.rules.decide(from, to, tuple, class, state);
        if let Some(found) = found
            && found.log
        {
            self.logged = Some(Logged {
                rule: found.rule,
                accepted: answer.is_ok(),
                leg: from,
                source: tuple.source.into(),
                destination: tuple.destination.into(),
                ports: tuple.ports,
                protocol: class.protocol::<A>(tuple.ports),
            });
        }
        if let Ok(allowed) = &answer {
            self.sharing = allowed.sharing;
        }
        answer
    }

    /// The verdict on a packet that is refused: the senders of rejected ones are told, TCP by RST.
    pub(crate) fn refuse<A: Address>(
        &self,
        packet: &Packet<A>,
        bytes: &mut [u8],
        reason: Drop,
    ) -> Verdict {
        let answers = reason == Drop::Rejected && self.answer_rejects;
        if !answers || !rewrite::is_sound(bytes, packet) {
            return Verdict::Drop(reason);
        }
        let Kind::Tcp(flags) = packet.kind else {
            return Verdict::Error(Problem::Prohibited, reason);
        };
        // Never a RST for a RST (RFC 9293 §3.10.7.1).
        if flags.contains(Flags::RST) {
            return Verdict::Drop(reason);
        }
        match rewrite::reset(bytes, packet) {
            Some(len) => Verdict::Answer { len, reason },
            None => Verdict::Drop(reason),
        }
    }

    /// Whether somebody behind the appliance serves what a packet asks for at its destination.
    fn is_served<A: Address>(&self, packet: &Packet<A>) -> bool {
        let address: IpAddr = packet.tuple.destination.into();
        let port = packet.tuple.destination_port();
        self.services.find(address, port, packet.kind).is_some()
            || transport(packet.kind)
                .is_some_and(|t| self.translations.forwarding(t, address, port).is_some())
    }

    /// The service that a packet asks for.
    pub(crate) fn service<A: Address>(&self, packet: &Packet<A>) -> Option<usize> {
        let tuple = &packet.tuple;
        let address: IpAddr = tuple.destination.into();
        self.services
            .find(address, tuple.destination_port(), packet.kind)
    }

    /// Where a packet leads.
    pub(crate) fn target<A: Address>(&mut self, packet: &Packet<A>) -> Result<Target<A>, Drop> {
        let tuple = &packet.tuple;
        let (address, port) = (tuple.destination.into(), tuple.destination_port());
        if let Some(service) = self.service(packet) {
            let client = hash::number(tuple.source.into());
            let owner = self
                .services
                .choose(self.now, service, client, tuple.source_port())?;
            let (server, port) = self.services.server(owner).ok_or(Drop::NoHealthyServer)?;
            let way = match self.services.is_direct(service) {
                true => Way::Direct,
                false => Way::Translated,
            };
            return Ok(Target {
                address: A::from_ip(server).ok_or(Drop::NoHealthyServer)?,
                port,
                owner,
                way,
            });
        }
        let forwarding = transport(packet.kind)
            .and_then(|transport| self.translations.forwarding(transport, address, port));
        let (address, port, way) = match forwarding {
            Some((server, port)) => {
                let server = A::from_ip(server).ok_or(Drop::NoRoute)?;
                (server, port, Way::Translated)
            }
            None => (tuple.destination, port, Way::Routed),
        };
        Ok(Target {
            address,
            port,
            owner: Owner::NONE,
            way,
        })
    }

    /// Asks the rules and their limits about the flow that a packet from the client's side would open.
    pub(crate) fn accept<A: Address>(
        &mut self,
        flows: &Flows<'_, A>,
        leg: u8,
        packet: &Packet<A>,
        target: Target<A>,
    ) -> Result<Flow<A>, Drop> {
        let routes = A::family(&self.routes);
        let original = packet.tuple;
        let to = routes.lookup(target.address).ok_or(Drop::NoRoute)?.path;
        let from = routes.lookup(original.source).ok_or(Drop::NoRoute)?.path;
        let class = packet.kind.class().unwrap_or(Class::Other);
        let decision = match target.way {
            // No translation, so the rules see the address that clients connect to.
            Way::Direct => original,
            Way::Routed | Way::Translated => Tuple {
                source: original.source,
                destination: target.address,
                ports: Ports::new(original.source_port(), target.port),
            },
        };
        let allowed = self.decide((leg, to.leg), &decision, class, rule::State::New)?;
        let source = hash::number(original.source.into());
        if let Some(limit) = allowed.flows
            && !self.limits.has_room(limit, source)
        {
            return Err(Drop::FlowLimit);
        }
        if let Some(limit) = allowed.rate
            && !self.limits.take(self.now, limit, source)
        {
            return Err(Drop::RateLimit);
        }
        let state = State::first(packet.kind);
        let flow = match target.way {
            Way::Direct => Flow::new(original, original.reversed(), state, from, to).special(),
            Way::Routed | Way::Translated => {
                // Without this, a server on the client's own leg would answer it directly.
                let hairpin = target.way == Way::Translated && to.leg == leg && !to.routed;
                let leaves = self.source(flows, &decision, class, to.leg, hairpin)?;
                Flow::new(original, leaves.reversed(), state, from, to)
            }
        };
        Ok(flow.owned_by(target.owner).limited_by(allowed.flows))
    }

    /// What the packets of a new flow carry when they leave by `leg`: with another source, if it has to be.
    fn source<A: Address>(
        &mut self,
        flows: &Flows<'_, A>,
        decision: &Tuple<A>,
        class: Class,
        leg: u8,
        hairpin: bool,
    ) -> Result<Tuple<A>, Drop> {
        let (address, first, last) = if hairpin {
            let address = A::family(&self.routes).virtual_address(leg);
            (address.ok_or(Drop::NoRoute)?, FIRST_PORT, u16::MAX)
        } else {
            let IpAddr::V4(source) = decision.source.into() else {
                return Ok(*decision);
            };
            let Some(new) = self.translations.source(source.to_bits(), leg) else {
                return Ok(*decision);
            };
            let address = A::from_ip(IpAddr::V4(new.address.into())).ok_or(Drop::NoRoute)?;
            (address, new.first, new.last)
        };
        let with = |port: u16| {
            let ports = match class {
                Class::Tcp | Class::Udp => Ports::new(port, decision.destination_port()),
                // Both say the identifier.
                Class::Echo => Ports::new(port, port),
                Class::Other => decision.ports,
            };
            Tuple {
                source: address,
                destination: decision.destination,
                ports,
            }
        };
        let (first, last) = match class {
            // Identifiers are not ports (RFC 5508 §3.1).
            Class::Echo => (0, u16::MAX),
            Class::Tcp | Class::Udp | Class::Other => (first, last),
        };
        let own = decision.source_port();
        if class == Class::Other {
            return Ok(with(own));
        }
        let is_free = |port| flows.find(&with(port).reversed(), class).is_none();
        let random = self.random();
        let port = ports::choose_port(own, first, last, random, is_free).ok_or(Drop::NoPort)?;
        Ok(with(port))
    }

    /// Enters a flow and lets the packet that opened it go on.
    pub(crate) fn open<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        mut flow: Flow<A>,
        direction: Direction,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Result<Verdict, Drop> {
        if let Some(refusal) = self.problem(packet, flow.path(direction.opposite()).leg) {
            return Ok(refusal);
        }
        if matches!(packet.kind, Kind::Tcp(_)) {
            let segment = bytes.get(packet.transport.into()..packet.len.into());
            let segment = segment.and_then(Segment::parse).ok_or(Drop::Transport)?;
            flow.windows = Windows::first(direction, &segment);
        }
        self.enter(flows, now, &mut flow)?;
        Ok(match flow.is_special() {
            true => self.direct(&flow, packet, bytes),
            false => self.pass(&flow, direction, packet, bytes),
        })
    }

    /// Enters a flow; its id.
    pub(crate) fn enter<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        flow: &mut Flow<A>,
    ) -> Result<u32, Drop> {
        flow.expiry = now.after(flow.state.timeout());
        let id = flows
            .insert(now, *flow, self)
            .map_err(|error| match error {
                InsertError::Clash => Drop::FlowClash,
                InsertError::Full => Drop::FlowTableFull,
            })?;
        match self.sharing {
            Sharing::Never => flows.set_private(id, true),
            Sharing::Usual | Sharing::Deferred => self.opened = Some((A::ICMP == V6::ICMP, id)),
        }
        Ok(id)
    }

    /// Takes up a connection in the middle. Its ports were kept if they were free, and where the choice of a server
    /// follows from health and the client alone, a packet of either side tells all that the former Active knew.
    fn pick_up<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Result<Verdict, Drop> {
        let source = (packet.tuple.source.into(), packet.tuple.source_port());
        if let Some(owner) = self.services.owner(source, packet.kind)
            && let Ok(flow) = self.reversed(leg, packet, owner)
        {
            return self.open(flows, now, flow, Direction::Reply, packet, bytes);
        }
        let ours = A::family(&self.routes).is_ours(packet.tuple.destination);
        if ours && !self.is_served(packet) {
            return Ok(Verdict::Local);
        }
        let forward = self
            .target(packet)
            .and_then(|target| self.accept(flows, leg, packet, target));
        match forward {
            Ok(flow) => self.open(flows, now, flow, Direction::Original, packet, bytes),
            Err(refusal) => match self.reversed(leg, packet, Owner::NONE) {
                Ok(flow) => self.open(flows, now, flow, Direction::Reply, packet, bytes),
                Err(_) => Err(refusal),
            },
        }
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
        let allowed = self.decide((from.leg, leg), &decision, class, rule::State::New)?;
        let mut original = decision;
        if let Some((index, _)) = owner.get()
            && let Some((address, port)) = self.services.address(index)
            && let Some(address) = A::from_ip(address)
        {
            original.destination = address;
            original.ports = Ports::new(decision.source_port(), port);
        }
        let state = State::first(packet.kind);
        let flow = Flow::new(original, packet.tuple, state, from, to);
        Ok(flow.owned_by(owner).limited_by(allowed.flows))
    }
}

/// First port of a hairpin's new source.
const FIRST_PORT: u16 = 1024;
