//! One packet's way from machine to machine: senders' and receivers' firewalls as they were read back, and between
//! them the appliance itself.

mod appliance;

use filter::{Drop, Hop};

use crate::device::{DeviceError, Room, Running};
use crate::frame::Numbers;
use crate::gate::{Gate, Translation};
use crate::nft::{State, Way};
use crate::packet::{Packet, flags, protocol};
use crate::rack::{Component, FIREWALL};
use crate::reach::View;
use crate::trace::{End, Question, Step, Trace};

/// A packet and where it stands in its connection.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    packet: Packet,
    numbers: Numbers,
    /// As servers' firewalls see it.
    state: State,
}

/// Who sends a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who opened the connection.
    Client,
    /// Who was asked.
    Server,
}

/// Numbers of the first segments of both sides.
const CLIENT: u32 = 1000;
const SERVER: u32 = 9000;

impl Segment {
    /// The first packet of a flow, or one of a flow that nobody knows.
    pub fn first(packet: Packet) -> Self {
        let acknowledges = packet.flags & flags::ACK != 0;
        Self {
            packet,
            numbers: match acknowledges {
                true => Self::within(packet, Side::Client).numbers,
                false => Numbers {
                    sequence: CLIENT,
                    acknowledgment: 0,
                },
            },
            state: State::New,
        }
    }

    /// A packet of a flow of which both sides have spoken.
    pub fn within(packet: Packet, side: Side) -> Self {
        let (sequence, acknowledgment) = match side {
            Side::Client => (CLIENT + 1, SERVER + 1),
            Side::Server => (SERVER + 1, CLIENT + 1),
        };
        Self {
            packet,
            numbers: Numbers {
                sequence,
                acknowledgment,
            },
            state: State::Established,
        }
    }

    /// The server's answer.
    fn answer(packet: Packet) -> Self {
        let mut segment = Self::within(packet, Side::Server);
        if packet.flags & flags::SYN != 0 {
            segment.numbers.sequence = SERVER;
        }
        segment
    }
}

/// A rack with an appliance that runs.
pub struct Walk<'v, 'a> {
    view: &'v View<'a>,
    question: &'v Question,
    appliance: Running<'v>,
}

impl<'v, 'a> Walk<'v, 'a> {
    /// The appliance keeps its flows in `room`.
    pub fn new(
        view: &'v View<'a>,
        question: &'v Question,
        room: &'v mut Room,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            view,
            question,
            appliance: view.device(question.gate)?.start(room, &question.moment)?,
        })
    }

    /// Makes a service choose this server.
    pub fn choose(&mut self, by: &Translation) {
        let Translation::Service { service, server } = by else {
            return;
        };
        let services = &self.view.rack.appliances[self.question.gate]
            .config
            .services;
        for (index, of) in services.iter().enumerate() {
            if of.name == service.as_str() {
                let place = of
                    .servers
                    .iter()
                    .position(|one| one.name == server.as_str());
                self.appliance.choose(index, place, of.servers.len());
            }
        }
    }

    /// Opens flows of the same sender, each from another port.
    pub fn before(&mut self, from: Component, count: u16) -> Result<(), DeviceError> {
        let Some(leg) = self.view.leg(self.question.gate, from) else {
            return Ok(());
        };
        for offset in 1..=count {
            let mut packet = self.question.packet;
            // Around the end of the range, never to the packet's own.
            let above = (packet.source_port.wrapping_add(offset)).max(offset);
            packet.source_port = above;
            let segment = Segment::first(packet);
            self.appliance
                .ingress(leg, &segment.packet, segment.numbers)?;
        }
        Ok(())
    }

    /// Lets both sides open a flow; the way of its first packet.
    pub fn open(&mut self, client: Component, first: Packet) -> Result<Trace, DeviceError> {
        let trace = self.round_trip(client, Segment::first(first))?;
        if trace.answer.is_some() && first.protocol == protocol::TCP {
            let acknowledges = Packet {
                flags: flags::ACK,
                ..first
            };
            self.journey(client, Segment::within(acknowledges, Side::Client))?;
        }
        Ok(trace)
    }

    /// There, and if somebody took it in, the answer's way back.
    pub fn round_trip(&mut self, from: Component, segment: Segment) -> Result<Trace, DeviceError> {
        let mut trace = self.journey(from, segment)?;
        let receiver = match &trace.end {
            End::Delivered { to } => self.view.rack.component(to),
            End::Dropped { .. } => None,
        };
        // An appliance's own answers, and answers to its checks, are its own affair.
        let hosts = [Some(from), receiver]
            .map(|one| one.filter(|one| !matches!(one, Component::Appliance(_))));
        if let ([Some(_), Some(receiver)], Some(answer)) = (hosts, trace.seen.answer()) {
            let answer = self.journey(receiver, Segment::answer(answer))?;
            trace.answer = Some(Box::new(answer));
        }
        Ok(trace)
    }

    /// From whoever sends it.
    pub fn journey(&mut self, from: Component, mut segment: Segment) -> Result<Trace, DeviceError> {
        // Servers know the flows that an appliance takes up in the middle.
        if self.question.moment.taken_over && !segment.packet.opens() {
            segment.state = State::Established;
        }
        let mut way = Leg::new(self, segment);
        let end = way.from(from)?;
        Ok(way.finish(end))
    }

    /// From its arrival on a leg of the appliance.
    pub fn arrival(&mut self, leg: u8, segment: Segment) -> Result<Trace, DeviceError> {
        let mut way = Leg::new(self, segment);
        let end = way.through(leg)?;
        Ok(way.finish(end))
    }
}

/// One packet under way.
struct Leg<'w, 'v, 'a> {
    walk: &'w mut Walk<'v, 'a>,
    segment: Segment,
    packet: Packet,
    trace: Trace,
}

/// How a packet ends, by machines; the error is that the question cannot be answered.
type Ends = Result<End, DeviceError>;

impl<'w, 'v, 'a> Leg<'w, 'v, 'a> {
    fn new(walk: &'w mut Walk<'v, 'a>, segment: Segment) -> Self {
        let packet = segment.packet;
        Self {
            walk,
            segment,
            packet,
            trace: Trace {
                sent: packet,
                seen: packet,
                steps: Vec::new(),
                end: End::Delivered { to: String::new() },
                decision: None,
                answer: None,
                agrees: true,
            },
        }
    }

    fn finish(mut self, end: End) -> Trace {
        self.trace.seen = self.packet;
        self.trace.end = end;
        self.trace
    }

    fn view(&self) -> &'v View<'a> {
        self.walk.view
    }

    fn gate(&self) -> usize {
        self.walk.question.gate
    }

    fn own(&self) -> &'v Gate<'a> {
        &self.view().gates[self.gate()]
    }

    fn from(&mut self, from: Component) -> Ends {
        let view = self.view();
        if let Component::Server(server) = from
            && let Err(end) = self.firewall(server, Way::Out)
        {
            return Ok(end);
        }
        let near = match from {
            Component::Server(_) => self.neighbour(from),
            Component::Appliance(index) => return Ok(self.checked_by(index)),
            Component::Internet => None,
        };
        if let Some(server) = near {
            self.step(
                view.rack.name(from),
                "sends it straight to its neighbour on the same network",
            );
            return Ok(self.received(server));
        }
        match view.leg(self.gate(), from) {
            Some(leg) => self.through(leg),
            None => {
                let name = view.rack.name(Component::Appliance(self.gate()));
                Ok(self.dropped(name, Drop::NoRoute.name()))
            }
        }
    }

    /// The server with the destination in the network of `from`.
    fn neighbour(&self, from: Component) -> Option<usize> {
        let rack = self.view().rack;
        let network = rack.network(from)?;
        let server = rack.host_at(self.packet.destination)?;
        let host = &rack.plan.servers[server];
        let is_own = host
            .addresses()
            .any(|address| address == self.packet.destination);
        (is_own && host.network == network.name).then_some(server)
    }

    fn checked_by(&mut self, index: usize) -> End {
        let rack = self.view().rack;
        let name = rack.name(Component::Appliance(index));
        let Some(server) = rack.host_at(self.packet.destination) else {
            return self.dropped(name, "appliances talk to servers only");
        };
        self.step(name, "sends it from its own leg in the server's network");
        self.received(server)
    }

    /// At the far side of an appliance.
    fn arrive(&mut self, hop: Hop) -> End {
        let rack = self.view().rack;
        if let Some(server) = rack
            .plan
            .servers
            .iter()
            .position(|server| server.addresses().any(|address| address == hop.address))
        {
            return self.received(server);
        }
        if let Some(peer) = self.view().appliance_at(hop.address) {
            return End::Delivered {
                to: rack.name(Component::Appliance(peer)).to_owned(),
            };
        }
        if self.is_internet(hop.leg) {
            return End::Delivered {
                to: rack.name(Component::Internet).to_owned(),
            };
        }
        let network = self.network(hop.leg);
        let nobody = format!("no machine of {network} has this address");
        self.dropped(&network, &nobody)
    }

    /// At a server's network card.
    fn received(&mut self, server: usize) -> End {
        let name = self.view().rack.hosts[server].name.clone();
        if self.walk.question.moment.down.contains(&name) {
            return self.dropped(&name, "the server is down");
        }
        match self.firewall(server, Way::In) {
            Ok(()) => End::Delivered { to: name },
            Err(end) => end,
        }
    }

    fn firewall(&mut self, server: usize, way: Way) -> Result<(), End> {
        let view = self.view();
        let host = &view.rack.hosts[server];
        let judgement = (host.firewall).judge(view.space, way, self.segment.state, &self.packet);
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

    fn is_internet(&self, leg: u8) -> bool {
        self.view().leg(self.gate(), Component::Internet) == Some(leg)
    }

    fn network(&self, leg: u8) -> String {
        let legs = &self.view().rack.plan.appliances[self.gate()].legs;
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
