//! What happens to one packet at each hop, and why: appliances are asked themselves, in memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use policy::Nat;
use serde::Serialize;

use crate::device::{DeviceError, MOST_BEFORE, Moment};
use crate::gate::Translation;
use crate::packet::{Packet, flags, protocol};
use crate::prefix6;
use crate::rack::{Component, Rack};
use crate::reach::View;
use crate::space::Space;
use crate::walk::{Segment, Side, Walk};

/// What a trace is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// The packet.
    pub packet: Packet,
    /// Who sends it; without one, whoever has its source address.
    pub from: Option<Component>,
    /// The appliance that is Active, by its place in the plan.
    pub gate: usize,
    /// What was before.
    pub moment: Moment,
    /// Bytes that the appliance's board has for its configuration.
    pub room: usize,
    /// Where flows of the plan are written, by their names.
    pub places: BTreeMap<String, String>,
}

impl Question {
    /// About the first packet of a flow through an appliance whose servers are all healthy.
    #[must_use]
    pub fn new(packet: Packet, gate: usize) -> Self {
        Self {
            packet,
            from: None,
            gate,
            moment: Moment::default(),
            room: policy::MAX_BLOB,
            places: BTreeMap::new(),
        }
    }
}

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
    /// What the appliance did with it, if it got there.
    pub decision: Option<Decision>,
    /// The way of the answer that the receiver gives, if it gives one.
    pub answer: Option<Box<Trace>>,
    /// Whether the device's tables decide as its rules say. Anything else is a fault of the program.
    #[serde(skip)]
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

/// What an appliance did with a packet, for machines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The appliance.
    pub appliance: String,
    /// Name of the network that the packet came in from.
    pub from: String,
    /// The reason under which the appliance counts it, if it ends there.
    pub reason: Option<&'static str>,
    /// The rule that was asked.
    pub rule: Option<Ruling>,
    /// The service that the packet asked for.
    pub service: Option<String>,
    /// The server that the service chose.
    pub server: Option<String>,
    /// The new destination, if it was translated.
    pub destination: Option<String>,
    /// The new source, if it was translated.
    pub source: Option<String>,
    /// Name of the network by which the packet leaves.
    pub to: Option<String>,
    /// Address of the next station there.
    pub next: Option<IpAddr>,
}

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ruling {
    /// Its place among the appliance's rules.
    pub index: usize,
    /// Name of the flow that it follows from.
    pub name: String,
    /// Where the site file says so; `None` for what roles bring along.
    pub place: Option<String>,
    /// Why the flow exists.
    pub why: String,
}

impl Rack<'_> {
    /// Follows a packet. The first trace is what happens; if a service chose the server, others show what would happen
    /// if it chose each of its other servers.
    pub fn trace(&self, question: &Question) -> Result<Vec<Trace>, DeviceError> {
        let space = Space::new(question.packet.version());
        let mut view = View::new(self, &space);
        view.room = question.room;
        view.ask(question)
    }
}

impl View<'_> {
    /// Who sends a packet if nobody says so: whoever has its source address.
    #[must_use]
    pub fn sender(&self, packet: &Packet) -> Component {
        if let Some(server) = self.rack.host_at(packet.source) {
            return Component::Server(server);
        }
        let appliance = self.appliance_at(packet.source);
        appliance.map_or(Component::Internet, Component::Appliance)
    }

    /// The appliance with an own address.
    pub(crate) fn appliance_at(&self, address: IpAddr) -> Option<usize> {
        let mut appliances = self.rack.appliances.iter();
        appliances.position(|appliance| {
            appliance.config.interfaces.iter().any(|interface| {
                address == IpAddr::V4(interface.address)
                    || interface
                        .address6
                        .is_some_and(|own| address == IpAddr::V6(own.address))
            })
        })
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

    /// Follows the first packet of a flow from its sender, through `gate` where it needs an appliance, and there through
    /// `door` (what the appliance chooses if there is none).
    pub(crate) fn trace(
        &self,
        from: Component,
        packet: Packet,
        gate: usize,
        door: Option<usize>,
    ) -> Result<Trace, DeviceError> {
        let question = Question::new(packet, gate);
        let mut room = Box::default();
        let mut walk = Walk::new(self, &question, &mut room)?;
        if let Some(door) = door {
            walk.choose(&self.gates[gate].doors[door].by);
        }
        walk.journey(from, Segment::first(packet))
    }

    /// Follows a packet from its arrival on a leg of an appliance, whoever sent it.
    pub(crate) fn trace_from_leg(
        &self,
        gate: usize,
        leg: u8,
        packet: Packet,
    ) -> Result<Trace, DeviceError> {
        let question = Question::new(packet, gate);
        Walk::new(self, &question, &mut Box::default())?.arrival(leg, Segment::first(packet))
    }

    /// The same as [`Rack::trace`], for many questions; all with the room of the largest board.
    pub fn ask(&self, question: &Question) -> Result<Vec<Trace>, DeviceError> {
        let from = question
            .from
            .unwrap_or_else(|| self.sender(&question.packet));
        if question.moment.established {
            return Ok(vec![self.established(question, from)?]);
        }
        let mut room = Box::default();
        let mut walk = Walk::new(self, question, &mut room)?;
        walk.before(from, question.moment.after.min(MOST_BEFORE))?;
        let mut traces = vec![walk.round_trip(from, Segment::first(question.packet))?];
        for other in self.others(question, &traces[0]) {
            let mut room = Box::default();
            let mut walk = Walk::new(self, question, &mut room)?;
            walk.choose(&other);
            traces.push(walk.round_trip(from, Segment::first(question.packet))?);
        }
        Ok(traces)
    }

    /// The servers that a service might have chosen instead.
    fn others(&self, question: &Question, trace: &Trace) -> Vec<Translation> {
        let chosen = (trace.decision.as_ref())
            .and_then(|decision| Some((decision.service.as_ref()?, decision.server.as_ref()?)));
        let services = &self.rack.appliances[question.gate].config.services;
        let Some((name, chosen)) = chosen.filter(|_| question.moment.after == 0) else {
            return Vec::new();
        };
        let away = |server: &str| {
            let lists = [&question.moment.down, &question.moment.drained];
            lists
                .iter()
                .any(|list| list.iter().any(|one| one == server))
        };
        (services
            .iter()
            .filter(|service| service.name == name.as_str()))
        .flat_map(|service| &service.servers)
        .filter(|server| server.weight > 0 && server.name != chosen.as_str())
        .filter(|server| !away(&server.name))
        .map(|server| Translation::Service {
            service: name.clone(),
            server: server.name.to_string(),
        })
        .collect()
    }

    /// Follows a packet of a flow that was opened before, by its sender or by its receiver.
    fn established(&self, question: &Question, from: Component) -> Result<Trace, DeviceError> {
        let mut packet = question.packet;
        // A SYN opens a flow; in one that is known, segments acknowledge.
        if packet.protocol == protocol::TCP && packet.flags == flags::SYN {
            packet.flags = flags::ACK;
        }
        let mut refused = None;
        if packet.may_ask() {
            let mut room = Box::default();
            let mut walk = Walk::new(self, question, &mut room)?;
            let opened = walk.open(from, opening(&packet))?;
            if matches!(opened.end, End::Delivered { .. }) {
                return walk.round_trip(from, Segment::within(packet, Side::Client));
            }
            refused = Some(opened);
        }
        for opening in self.openings(question.gate, &packet) {
            let mut room = Box::default();
            let mut walk = Walk::new(self, question, &mut room)?;
            let client = self.sender(&opening);
            let opened = walk.open(client, opening)?;
            // What its receiver answers is this very packet's way.
            if matches!(opened.end, End::Delivered { .. }) && opened.seen.is_answered_by(&packet) {
                let mut trace = walk.journey(from, Segment::within(packet, Side::Server))?;
                let (place, what) = (
                    self.rack.name(client).to_owned(),
                    format!("had opened the flow before: {opening}"),
                );
                trace.steps.insert(0, Step { place, what });
                return Ok(trace);
            }
            refused.get_or_insert(opened);
        }
        let mut refused = match refused {
            Some(refused) => refused,
            None => Walk::new(self, question, &mut Box::default())?
                .journey(from, Segment::first(packet))?,
        };
        refused.steps.push(Step {
            place: self.rack.name(from).to_owned(),
            what: "can have no such flow: its first packet, shown here, does not get through"
                .to_owned(),
        });
        Ok(refused)
    }

    /// First packets that a packet may be the answer to, translated ones before the plain one. Whoever is hidden by a
    /// translation may be any of several.
    fn openings(&self, gate: usize, packet: &Packet) -> Vec<Packet> {
        let config = &self.rack.appliances[gate].config;
        let answered = opening(&packet.reversed());
        if !packet.may_answer() {
            return Vec::new();
        }
        let mut openings = Vec::new();
        let to = |address: IpAddr, port: u16| Packet {
            destination: address,
            destination_port: port,
            ..answered
        };
        let by = |address: IpAddr| Packet {
            source: address,
            ..answered
        };
        for service in &config.services {
            let is_server = (service.servers.iter().chain(&service.sorry))
                .any(|one| one.address == packet.source && one.port == packet.source_port);
            openings.extend(is_server.then(|| to(service.address, service.port)));
        }
        for nat in &config.nat {
            match *nat {
                Nat::Source { address, .. } if packet.destination == address => {
                    openings.extend(self.rack.inside().into_iter().map(by));
                }
                Nat::Destination {
                    address,
                    first,
                    server,
                    server_port,
                    ..
                } if server == packet.source => {
                    let offset = packet.source_port.checked_sub(server_port);
                    let port = offset.and_then(|offset| first.checked_add(offset));
                    openings.extend(port.map(|port| to(address, port)));
                }
                Nat::Prefix6 {
                    inside, outside, ..
                } => {
                    let other = |from, into, address| match address {
                        IpAddr::V6(address) => prefix6::translate(from, into, address),
                        IpAddr::V4(_) => None,
                    };
                    let outer = other(inside, outside, packet.source);
                    openings.extend(outer.map(|outer| to(outer.into(), answered.destination_port)));
                    let inner = other(outside, inside, packet.destination);
                    openings.extend(inner.map(|inner| by(inner.into())));
                }
                Nat::Source { .. } | Nat::Destination { .. } => {}
            }
        }
        openings.push(answered);
        openings
    }
}

/// The first packet of the flow that a packet belongs to, in the same direction.
fn opening(packet: &Packet) -> Packet {
    let mut first = *packet;
    first.hops = HOPS;
    match packet.protocol {
        protocol::TCP => first.flags = flags::SYN,
        protocol::ICMP | protocol::ICMP6 => first.destination_port = packet.echo_request(),
        _ => {}
    }
    first
}

/// What hosts begin with.
pub(crate) const HOPS: u8 = 64;

fn as_text<S: serde::Serializer>(packet: &Packet, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(packet)
}
