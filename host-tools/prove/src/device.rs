//! The device itself, in memory: the appliance's own code with the bytes that would be flashed.

use std::net::IpAddr;

use classifier::{Aligned, BlobError, LoadError};
use filter::{Drop, Filter, Hop, Unknown, Verdict};
use node::{Node, State, Tables, Transmit};
use time::{Duration, Instant};
use wire::Frame;
use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::icmp::Problem;

use crate::frame::{self, Numbers};
use crate::gate::Appliance;
use crate::packet::{Packet, Version};

/// Why there is no device to ask.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The configuration cannot be compiled for the board.
    #[error("{appliance}: {cause}")]
    Compile {
        /// Name of the appliance.
        appliance: String,
        /// Why.
        cause: BlobError,
    },
    /// The device would refuse what was compiled: a fault of the compiler.
    #[error("{appliance} would refuse its configuration: {cause}")]
    Load {
        /// Name of the appliance.
        appliance: String,
        /// Why.
        cause: LoadError,
    },
}

/// What one appliance is given, compiled, and read back as the device reads it.
#[derive(Debug)]
pub struct Device {
    bytes: Aligned,
    name: String,
}

/// What an appliance assumes about the moment in which a packet comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Servers that do not answer.
    pub down: Vec<String>,
    /// Servers that get no new flows.
    pub drained: Vec<String>,
    /// Whether the packet belongs to a flow that was opened before.
    pub established: bool,
    /// So many flows were opened by the same sender just before.
    pub after: u16,
    /// Whether the appliance became Active a moment ago.
    pub taken_over: bool,
}

/// The packet path of an Active appliance, and what it remembers.
#[derive(Debug)]
pub struct Running<'d> {
    device: &'d Device,
    filter: Box<Filter<'d>>,
    now: Instant,
    unknown: Unknown,
}

/// What an appliance did with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// What becomes of it.
    pub fate: Fate,
    /// The rule that decided, if one was asked.
    pub rule: Option<usize>,
}

/// What becomes of a packet at an appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, as this, to the next station.
    Forward(Packet, Hop),
    /// The appliance takes it in, and answers with this, if it does.
    Taken(Option<Packet>),
    /// It ends, and its sender gets this packet instead.
    Answer(Packet, Drop),
    /// It ends, and its sender is told what is wrong.
    Error(Problem, Drop),
    /// It ends.
    Drop(Drop),
}

impl Fate {
    /// Why the packet ends here, if it does.
    #[must_use]
    pub const fn reason(&self) -> Option<Drop> {
        match self {
            Self::Forward(..) | Self::Taken(_) => None,
            Self::Answer(_, reason) | Self::Error(_, reason) | Self::Drop(reason) => Some(*reason),
        }
    }
}

/// Room for flows, whatever the board has: more than a trace opens.
pub type Room = Tables<2048, 1024>;
/// Most flows that a trace opens before its packet.
pub const MOST_BEFORE: u16 = 1000;

impl Device {
    /// Compiles an appliance's configuration into at most `room` bytes.
    pub fn new(appliance: &Appliance, room: usize) -> Result<Self, DeviceError> {
        let name = appliance.config.name.to_string();
        let failed = |cause| DeviceError::Compile {
            appliance: name.clone(),
            cause,
        };
        let blob = classifier::blob(&appliance.config, &appliance.rules, room).map_err(failed)?;
        let bytes = Aligned::copy(&blob);
        classifier::load(&bytes).map_err(|cause| DeviceError::Load {
            appliance: name.clone(),
            cause,
        })?;
        Ok(Self { bytes, name })
    }

    fn policy(&self) -> Result<classifier::Policy<'_>, DeviceError> {
        classifier::load(&self.bytes).map_err(|cause| DeviceError::Load {
            appliance: self.name.clone(),
            cause,
        })
    }

    /// Turns it on: it is Active, all servers but those given as down are healthy, and no flow is known.
    pub fn start<'d>(
        &'d self,
        room: &'d mut Room,
        moment: &Moment,
    ) -> Result<Running<'d>, DeviceError> {
        let policy = self.policy()?;
        let mut filter = Box::new(Filter::new(&policy, room, SEED));
        filter.take_over(BOOT);
        for (service, of) in policy.config.services.iter().enumerate() {
            for (server, one) in of.servers.iter().enumerate() {
                let among = |list: &[String]| list.iter().any(|name| *name == one.name.as_str());
                filter.set_health(BOOT, service, server, !among(&moment.down));
                filter.drain(service, server, among(&moment.drained));
            }
        }
        Ok(Running {
            device: self,
            filter,
            now: BOOT + UPTIME,
            unknown: match moment.taken_over {
                true => Unknown::PickUp,
                false => Unknown::Refuse,
            },
        })
    }
}

impl Running<'_> {
    /// Makes one service choose this server and no other; the sorry server without one.
    pub fn choose(&mut self, service: usize, server: Option<usize>, servers: usize) {
        for other in 0..servers {
            match server {
                Some(server) => self.filter.drain(service, other, other != server),
                None => self.filter.set_health(self.now, service, other, false),
            }
        }
    }

    /// Hands it a packet that its sender has sent to its next station, a neighbour on `leg`.
    pub fn ingress(
        &mut self,
        leg: u8,
        packet: &Packet,
        numbers: Numbers,
    ) -> Result<Judged, DeviceError> {
        let bytes = frame::bytes(packet, numbers);
        let policy = self.device.policy()?;
        let interface = policy.config.interfaces.get(usize::from(leg));
        let to_itself = interface.is_some_and(|interface| {
            packet.destination == interface.address
                || (interface.address6).is_some_and(|own| packet.destination == own.address)
        });
        // What is for an address of its own comes to a MAC address of its own, past the packet path.
        if to_itself {
            let fate = self.itself(leg, &bytes, true)?;
            return Ok(Judged { fate, rule: None });
        }
        // So does what a neighbour says to a virtual one from its link-local address, which is never routed.
        let local =
            |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let ours = (policy.config.routers_on(leg.into()))
            .any(|router| router.addresses.contains(&packet.destination));
        if ours && (local(packet.source) || local(packet.destination)) {
            let fate = self.itself(leg, &bytes, false)?;
            return Ok(Judged { fate, rule: None });
        }
        let hits = self.filter.rule_hits().to_vec();
        let received = bytes.len();
        let mut buffer = bytes.clone();
        buffer.resize(received + ROOM, 0);
        let verdict = (self.filter).judge(self.now, leg, &mut buffer, received, self.unknown);
        let rule =
            (self.filter.rule_hits().iter().zip(&hits)).position(|(after, before)| after != before);
        let made = |len: usize| frame::read(buffer.get(..len)?);
        let fate = match verdict {
            Verdict::Forward { hop, len } => match made(len) {
                Some(packet) => Fate::Forward(packet, hop),
                None => Fate::Drop(Drop::Transport),
            },
            Verdict::Local => self.itself(leg, &bytes, false)?,
            Verdict::Answer { len, reason } => match made(len) {
                Some(packet) => Fate::Answer(packet, reason),
                None => Fate::Drop(reason),
            },
            Verdict::Splice { len } => match made(len) {
                Some(packet) => Fate::Answer(packet, Drop::Spliced),
                None => Fate::Drop(Drop::Spliced),
            },
            Verdict::Error(problem, reason) => Fate::Error(problem, reason),
            Verdict::Drop(reason) => Fate::Drop(reason),
        };
        Ok(Judged { fate, rule })
    }

    /// What the whole node does with a packet for itself; `own` if it came to the leg's own MAC address.
    fn itself(&self, leg: u8, packet: &[u8], own: bool) -> Result<Fate, DeviceError> {
        let policy = self.device.policy()?;
        let Some(interface) = policy.config.interfaces.get(usize::from(leg)).cloned() else {
            return Ok(Fate::Drop(Drop::UnknownVlan));
        };
        let version = match packet.first().map(|byte| byte >> 4) {
            Some(6) => Version::V6,
            _ => Version::V4,
        };
        let router = (policy.config.routers_on(leg.into()))
            .find(|router| router.is_v6() == (version == Version::V6));
        let station = match router {
            Some(router) if !own && router.virtual_mac => router.mac(),
            _ => interface.mac,
        };
        let mut room = Tables::<4, 4>::new();
        let mut node = Box::new(Node::new(Some(policy), &mut room, SEED, Instant::ZERO));
        let mut sent = Sent::default();
        let mut now = Instant::ZERO;
        while node.state() != Some(State::Active) && now < BOOT + UPTIME {
            now = node.deadline().max(now + Duration::from_micros(1));
            node.poll(now, &mut sent);
        }
        let before = node.counters().clone();
        sent.0.clear();
        let bytes = frame::ethernet(packet, NEIGHBOUR, station, interface.vlan);
        let mut buffer = [&[0; HEADROOM][..], &bytes, &[0; ROOM]].concat();
        if let Some(frame) = Frame::new(&mut buffer, HEADROOM, bytes.len()) {
            node.ingress(now, interface.port, frame, &mut sent);
        }
        let answer = sent.0.iter().find_map(|frame| {
            let received = ethernet::parse(frame)?;
            frame::read(frame.get(received.payload..)?)
        });
        let reason =
            (node.counters().drops()).find(|(reason, count)| before.dropped(*reason) != *count);
        Ok(match (reason, answer) {
            (None, answer) => Fate::Taken(answer),
            (Some((reason, _)), Some(answer)) => Fate::Answer(answer, reason),
            (Some((reason, _)), None) => Fate::Drop(reason),
        })
    }
}

/// What a node sends.
#[derive(Default)]
struct Sent(Vec<Vec<u8>>);

impl Transmit for Sent {
    fn transmit(&mut self, _: u8, frame: &[u8]) {
        self.0.push(frame.to_vec());
    }
}

/// Keys the device's hashes, so that a trace says the same every time.
const SEED: u64 = 1;
/// When servers became healthy.
const BOOT: Instant = Instant::from_micros(1_000_000);
/// Time since then: longer than any slow start.
const UPTIME: Duration = Duration::from_secs(24 * 3600);
/// Room for what is written over a packet and is longer.
const ROOM: usize = 128;
/// Whoever has sent a packet to the appliance.
const NEIGHBOUR: Mac = [2, 0, 0, 0, 0, 1];
