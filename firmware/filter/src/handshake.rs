//! TCP connections that leave the usual path: begun with a cookie, spliced, or answered by the server directly.

use core::net::IpAddr;

use time::Duration;
use wire::tcp::Flags;

use crate::address::Address;
use crate::cookie::Opened;
use crate::flow::Flow;
use crate::packet::{Kind, Packet};
use crate::synproxy::{Opening, Phase, Segment};
use crate::table::Flows;
use crate::track::{Direction, State, Ticks};
use crate::window::{self, Windows};
use crate::{Drop, Hop, Shared, Verdict, rewrite};

/// A window update that a client waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Update {
    hop: Hop,
    source: (IpAddr, u16),
    destination: (IpAddr, u16),
    segment: Segment,
}

impl Update {
    /// Writes the packet; where it goes, and its length.
    pub(crate) fn write(&self, buffer: &mut [u8]) -> Option<(Hop, usize)> {
        let len = self.segment.write(self.source, self.destination, buffer)?;
        Some((self.hop, len))
    }
}

impl Shared<'_> {
    /// The answer with a cookie to a SYN that could be accepted, while too many connections are half-open; `None` if a
    /// flow is opened as usual. SYNs to services are answered before the rules are asked, so that a flood costs little: the
    /// rules judge who comes back.
    pub(crate) fn cookie<A: Address>(
        &mut self,
        flows: &Flows<'_, A>,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Option<Result<Verdict, Drop>> {
        if flows.half_open() < self.cookies_above || !self.splices.has_room() {
            return None;
        }
        match self.service(packet) {
            // Nobody sees the server's answer.
            Some(service) if self.services.is_direct(service) => return None,
            Some(service) if !self.services.balancer.serves(service) => {
                return Some(Err(Drop::NoHealthyServer));
            }
            Some(_) => {}
            None => {
                let accepted = self
                    .target(packet)
                    .and_then(|target| self.accept(flows, leg, packet, target));
                if let Err(refusal) = accepted {
                    return Some(Err(refusal));
                }
            }
        }
        let mss = self.routes.mtu(leg).saturating_sub(headers::<A>());
        let at = packet.transport.into();
        let Some(len) = self.cookies.answer(self.now, bytes, at, mss) else {
            return Some(Err(Drop::Transport));
        };
        self.cookies_until = self.now + COOKIE_LIFE;
        self.cookies_are_out = true;
        let reason = Drop::SynCookie;
        Some(Ok(Verdict::Answer { len, reason }))
    }

    /// What the cookie says that an ACK brings back, if cookies were given of late.
    pub(crate) fn opened_by<A: Address>(&self, packet: &Packet<A>, bytes: &[u8]) -> Option<Opened> {
        if self.now >= self.cookies_until {
            return None;
        }
        let whole = bytes.get(..packet.len.into())?;
        let at = packet.transport.into();
        let theirs = || self.inherited?.check(self.now, whole, at);
        self.cookies.check(self.now, whole, at).or_else(theirs)
    }

    /// Opens the flow of a client that has brought its cookie back: the ACK becomes the SYN for the server.
    pub(crate) fn begin<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
        opened: Opened,
    ) -> Result<Verdict, Drop> {
        let syn = Packet {
            kind: Kind::Tcp(Flags::SYN),
            ..*packet
        };
        let window = self.segment(packet, bytes).ok_or(Drop::Transport)?.window;
        let target = self.target(&syn)?;
        let mut flow = self.accept(flows, leg, &syn, target)?.special();
        let id = self.enter(flows, now, &mut flow)?;
        let opening = Opening::new(opened, window);
        if !self.splices.set(key::<A>(id), Phase::Opening(opening)) {
            flows.remove(id, self);
            return Err(Drop::FlowTableFull);
        }
        self.send(&flow, Direction::Original, &opening.syn(), bytes)
    }

    /// A packet of a flow that is special. `None`: it is judged like any other, and [`Self::splice`]d.
    pub(crate) fn special<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        packet: &Packet<A>,
        bytes: &mut [u8],
        (id, direction): (u32, Direction),
    ) -> Option<Verdict> {
        match self.splices.get(key::<A>(id)).copied() {
            Some(Phase::Spliced(splice)) => {
                // Who is told of a problem gets what he sent.
                let out = flows.get_mut(id)?.path(direction.opposite()).leg;
                if let Some(refusal) = self.problem(packet, out) {
                    return Some(refusal);
                }
                if direction == Direction::Reply
                    && let Some(tcp) = payload(packet, bytes)
                {
                    splice.reply(tcp);
                }
                None
            }
            Some(Phase::Opening(opening)) => {
                let place = (id, direction);
                let verdict = self.opening(flows, now, packet, bytes, place, &opening);
                Some(verdict.unwrap_or_else(Verdict::Drop))
            }
            None => {
                let flow = flows.get_mut(id)?;
                if direction == Direction::Reply {
                    // The server has the client's view of the connection, and another way to it.
                    return Some(Verdict::Drop(Drop::ReversePath));
                }
                let state = one_sided(flow.state, packet.kind);
                flow.expiry = now.after(state.timeout());
                let flow = *flow;
                flows.set_state(id, state);
                let out = flow.path(Direction::Reply).leg;
                Some(match self.problem(packet, out) {
                    Some(refusal) => refusal,
                    None => self.direct(&flow, packet, bytes),
                })
            }
        }
    }

    /// Changes a client's segment, which has been judged, into what its server expects.
    pub(crate) fn splice<A: Address>(&self, id: u32, packet: &Packet<A>, bytes: &mut [u8]) {
        if let Some(Phase::Spliced(splice)) = self.splices.get(key::<A>(id))
            && let Some(tcp) = payload(packet, bytes)
        {
            splice.original(tcp);
        }
    }

    /// A flow of this id is over.
    pub(crate) fn unsplice<A: Address>(&mut self, id: u32) {
        self.splices.remove(key::<A>(id));
    }

    /// Gives the server's segment that an ICMP error quotes, as it left for the client, the numbers that the server sent.
    pub(crate) fn unsplice_quote<A: Address>(&self, id: u32, tcp: &mut [u8]) {
        if let Some(Phase::Spliced(splice)) = self.splices.get(key::<A>(id)) {
            splice.quoted(tcp);
        }
    }

    /// A packet of a connection whose server has not answered yet.
    fn opening<A: Address>(
        &mut self,
        flows: &mut Flows<'_, A>,
        now: Ticks,
        packet: &Packet<A>,
        bytes: &mut [u8],
        (id, direction): (u32, Direction),
        opening: &Opening,
    ) -> Result<Verdict, Drop> {
        let Kind::Tcp(flags) = packet.kind else {
            return Err(Drop::NotSpliced);
        };
        let flow = *flows.get_mut(id).ok_or(Drop::NotSpliced)?;
        if flags.contains(Flags::RST) {
            if direction == Direction::Reply
                && let Some(tcp) = payload(packet, bytes)
            {
                opening.refuse(tcp);
            }
            let verdict = self.pass(&flow, direction, packet, bytes);
            flows.remove(id, self);
            return Ok(verdict);
        }
        if direction == Direction::Original {
            // The client asks what is the matter, so its SYN may be lost.
            return match flags.contains(Flags::SYN) {
                true => Err(Drop::NotSpliced),
                false => self.send(&flow, direction, &opening.syn(), bytes),
            };
        }
        let tcp = payload(packet, bytes).ok_or(Drop::NotSpliced)?;
        let spliced = opening.answered(tcp).ok_or(Drop::NotSpliced)?;
        let phase = Phase::Spliced(spliced.splice);
        if !self.splices.set(key::<A>(id), phase) {
            return Err(Drop::NotSpliced);
        }
        spliced.splice.reply(tcp);
        let answer = window::Segment::parse(tcp).ok_or(Drop::NotSpliced)?;
        if let Some(flow) = flows.get_mut(id) {
            flow.windows = Windows::first(Direction::Original, &opening.as_sent());
            flow.windows
                .check(Direction::Reply, &opening.as_answered(answer), true);
            flow.expiry = now.after(State::Established.timeout());
        }
        flows.set_state(id, State::Established);
        let client = flow.leaves(Direction::Reply);
        self.update = Some(Update {
            hop: flow.hop(&self.routes, Direction::Reply),
            source: (client.source.into(), client.source_port()),
            destination: (client.destination.into(), client.destination_port()),
            segment: spliced.update,
        });
        let sent = self.send(&flow, Direction::Original, &spliced.acknowledge, bytes)?;
        match sent {
            Verdict::Forward { len, .. } => Ok(Verdict::Splice { len }),
            verdict => Ok(verdict),
        }
    }

    /// Puts a segment of ours in place of a packet, as it leaves in one direction of a flow.
    fn send<A: Address>(
        &self,
        flow: &Flow<A>,
        direction: Direction,
        segment: &Segment,
        bytes: &mut [u8],
    ) -> Result<Verdict, Drop> {
        let leaves = flow.leaves(direction);
        let hop = flow.hop(&self.routes, direction);
        let mut segment = *segment;
        let most = self.routes.mtu(hop.leg).saturating_sub(headers::<A>());
        segment.options.mss = segment.options.mss.map(|mss| mss.min(most));
        let source = (leaves.source.into(), leaves.source_port());
        let destination = (leaves.destination.into(), leaves.destination_port());
        let len = segment.write(source, destination, bytes);
        let len = len.ok_or(Drop::Headroom)?;
        Ok(Verdict::Forward { hop, len })
    }

    /// Lets a packet go on to a server that answers directly: only its station changes.
    pub(crate) fn direct<A: Address>(
        &self,
        flow: &Flow<A>,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Verdict {
        let Some((server, _)) = self.services.server(flow.owner()) else {
            return Verdict::Drop(Drop::NoHealthyServer);
        };
        let leaves = flow.leaves(Direction::Original);
        let class = flow.state.class();
        let change = flow.change(Direction::Original);
        rewrite::translate(bytes, packet, class, &leaves, change);
        Verdict::Forward {
            hop: Hop {
                leg: flow.path(Direction::Reply).leg,
                address: server,
            },
            len: packet.len.into(),
        }
    }

    fn segment<A: Address>(&self, packet: &Packet<A>, bytes: &[u8]) -> Option<window::Segment> {
        window::Segment::parse(bytes.get(packet.transport.into()..packet.len.into())?)
    }
}

/// The state of a connection of which only the client's segments are seen: as sure as that can be.
const fn one_sided(state: State, kind: Kind) -> State {
    let Kind::Tcp(flags) = kind else {
        return State::Talking;
    };
    if flags.contains(Flags::RST) {
        State::Closed
    } else if flags.contains(Flags::FIN) {
        State::CloseWait
    } else if flags.contains(Flags::SYN) {
        State::SynSent
    } else {
        match state {
            // Acknowledgments of what the server still sends.
            State::CloseWait | State::Closed => state,
            _ => State::Established,
        }
    }
}

fn payload<'p, A: Address>(packet: &Packet<A>, bytes: &'p mut [u8]) -> Option<&'p mut [u8]> {
    bytes.get_mut(packet.transport.into()..packet.len.into())
}

/// A flow's name among the splices, which both versions share.
pub(crate) fn key<A: Address>(id: u32) -> u32 {
    id << 1 | u32::from(A::ICMP == wire::ipv6::ICMP)
}

/// Length of the headers of a TCP segment without options.
pub(crate) const fn headers<A: Address>() -> u16 {
    let ip = match A::ICMP == wire::ipv6::ICMP {
        true => wire::ipv6::HEADER_LEN,
        false => wire::ipv4::HEADER_LEN,
    };
    (ip + wire::tcp::HEADER_LEN) as u16
}

/// No cookie is valid for longer.
const COOKIE_LIFE: Duration = Duration::from_secs(135);
