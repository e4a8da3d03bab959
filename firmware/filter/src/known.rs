//! Packets of known flows, whatever they are. (Nearly all of them take the path in `fast.rs`.)

use wire::icmp::Problem;
use wire::tcp::Flags;

use crate::address::Address;
use crate::flow::Flow;
use crate::handshake::headers;
use crate::packet::{Kind, Packet};
use crate::rewrite;
use crate::table::Flows;
use crate::track::{Direction, State, Step, Ticks};
use crate::window::Segment;
use crate::{Drop, Shared, Unknown, Verdict, mss, part};

/// Judges a packet of one IP version.
#[inline(never)]
pub fn judge<A: Address>(
    flows: &mut Flows<'_, A>,
    shared: &mut Shared<'_>,
    now: Ticks,
    leg: u8,
    bytes: &mut [u8],
    received: usize,
    unknown: Unknown,
) -> Verdict {
    let packet = match A::parse(bytes.get(..received).unwrap_or_default()) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(reason),
    };
    let piece = match &packet.fragment {
        Some(fragment) if packet.kind == Kind::Part => {
            let verdict = shared.follows(leg, &packet, fragment, bytes);
            return verdict.unwrap_or_else(Verdict::Drop);
        }
        Some(fragment) => {
            let piece = part::piece(leg, &packet, fragment);
            if let Err(reason) = shared.fragments.begin(shared.now, &piece) {
                return Verdict::Drop(reason);
            }
            Some(piece)
        }
        None => None,
    };
    let class = packet.kind.class();
    let found = class.and_then(|class| flows.find(&packet.tuple, class));
    let known = found.and_then(|(id, direction)| {
        known(
            flows, shared, now, leg, &packet, bytes, unknown, id, direction,
        )
    });
    let verdict = match known {
        Some(verdict) => verdict,
        None => shared
            .first(flows, now, leg, &packet, bytes, unknown)
            .unwrap_or_else(|reason| shared.refuse(&packet, bytes, reason)),
    };
    if let Some(piece) = &piece {
        shared.leads::<A>(piece, bytes, &verdict);
    }
    verdict
}

/// Any packet of a flow; `None` if it has to be judged as a first one.
#[expect(
    clippy::too_many_arguments,
    reason = "the packet path hands everything down"
)]
fn known<A: Address>(
    flows: &mut Flows<'_, A>,
    shared: &mut Shared<'_>,
    now: Ticks,
    leg: u8,
    packet: &Packet<A>,
    bytes: &mut [u8],
    unknown: Unknown,
    id: u32,
    direction: Direction,
) -> Option<Verdict> {
    let flow = flows.get_mut(id)?;
    if now.until(flow.expiry) <= 0 {
        flows.remove(id, shared);
        return None;
    }
    if flow.path(direction).leg != leg {
        return Some(Verdict::Drop(Drop::ReversePath));
    }
    let special = flow.is_special();
    if special && let Some(verdict) = shared.special(flows, now, packet, bytes, (id, direction)) {
        return Some(verdict);
    }
    let flow = flows.get_mut(id)?;
    let before = flow.state;
    let after = match packet.kind {
        Kind::Tcp(flags) => match before.step(direction, flags) {
            Step::Reopen => {
                flows.remove(id, shared);
                return None;
            }
            Step::Invalid => return Some(Verdict::Drop(Drop::TcpState)),
            Step::To(state) => state,
            Step::Keep => before,
        },
        // Only who asked first is answered: a question against it would share the flow without the rules' consent.
        Kind::EchoRequest if direction == Direction::Reply => {
            return Some(Verdict::Drop(Drop::IcmpUnrelated));
        }
        Kind::EchoReply if direction == Direction::Original => {
            return Some(Verdict::Drop(Drop::IcmpUnrelated));
        }
        _ => before.next(direction),
    };
    if let Some(refusal) = shared.problem(packet, flow.path(direction.opposite()).leg) {
        return Some(refusal);
    }
    let mut doubtful = false;
    let inside = match packet.kind {
        Kind::Tcp(flags) if is_compared(before, after, direction, flags) => {
            let segment = bytes.get(packet.transport.into()..packet.len.into());
            let segment = segment.and_then(Segment::parse);
            // A reset in the window that is not the next segment may be a guess. Its receiver asks back (RFC 5961 §3.2), so
            // that it passes and ends nothing here.
            doubtful = !before.is_half_open()
                && segment.is_some_and(|s| flow.windows.is_doubtful(direction, &s));
            let mut windows = flow.windows;
            if unknown == Unknown::PickUp
                && let Some(segment) = &segment
            {
                windows.catch_up(direction, segment);
            }
            let inside =
                segment.is_some_and(|s| windows.check(direction, &s, before.is_half_open()));
            if !doubtful {
                flow.windows = windows;
            }
            inside
        }
        _ => true,
    };
    if !inside {
        match (shared.is_lenient(), before) {
            (true, State::Inherited) => renew(flow, direction, packet, bytes),
            (true, _) => {}
            (false, _) if shared.strict => return Some(Verdict::Drop(Drop::OutsideWindow)),
            (false, _) => {}
        }
        shared.outside = shared.outside.wrapping_add(1);
    }
    if special && direction == Direction::Original {
        shared.splice(id, packet, bytes);
    }
    let verdict = shared.pass(flow, direction, packet, bytes);
    let after = match after {
        // What nobody of the connection can have sent does not change its state.
        _ if !inside || doubtful => before,
        State::PickedUp if flow.windows.are_known() => State::Established,
        State::Inherited if flow.windows.are_fresh() && !shared.is_lenient() => State::Established,
        state => state,
    };
    // A connection that is over is not kept by what still trickles in.
    if !(before.is_over() && after.is_over()) {
        let timeout = match after {
            // To its receiver it may come next, for nobody knows here what arrived there. If it does not, the receiver asks
            // back, which shows that the connection lives.
            State::Established | State::Inherited if doubtful && inside => State::DOUBTED,
            _ => after.timeout(),
        };
        flow.expiry = now.after(timeout);
    }
    flows.set_state(id, after);
    Some(verdict)
}

/// Learns the windows of an inherited connection from a segment that does not fit what was learned so far: it may be the
/// first one whose way nothing was lost on.
fn renew<A: Address>(flow: &mut Flow<A>, direction: Direction, packet: &Packet<A>, bytes: &[u8]) {
    let segment = bytes.get(packet.transport.into()..packet.len.into());
    if let Some(segment) = segment.and_then(Segment::parse)
        && !segment.flags.contains(Flags::RST)
    {
        flow.windows.renew(direction, &segment);
    }
}

/// Whether a packet that was let through belongs to a flow that is translated, or to none.
pub fn is_translated<A: Address>(flows: &mut Flows<'_, A>, packet: &[u8]) -> bool {
    let Ok(packet) = A::parse(packet) else {
        return true;
    };
    let class = packet.kind.class();
    let answered = class.and_then(|class| flows.find(&packet.tuple.reversed(), class));
    let flow = answered.and_then(|(id, _)| flows.get_mut(id));
    flow.is_none_or(|flow| flow.is_translated())
}

/// Whether a segment's numbers say anything: not those of a SYN or its answer for a connection that exists already, nor
/// those with which both ends of a half-open connection find out about it (RFC 9293 §3.5.1).
fn is_compared(before: State, after: State, direction: Direction, flags: Flags) -> bool {
    let opening = before.is_half_open();
    if flags.contains(Flags::SYN) {
        return opening;
    }
    match (before, direction) {
        (State::SynSent, Direction::Original) => false,
        (State::SynSent | State::SynSent2, _) => after != before,
        _ => true,
    }
}

impl Shared<'_> {
    /// What keeps a packet from leaving by a leg, besides rules.
    pub(crate) fn problem<A: Address>(&self, packet: &Packet<A>, leg: u8) -> Option<Verdict> {
        let mtu = self.routes.mtu(leg);
        if packet.ttl <= 1 {
            return Some(Verdict::Error(Problem::HopLimit, Drop::Ttl));
        }
        // What may be fragmented is: by the node, when it is on its way out.
        (packet.whole && packet.len > mtu)
            .then_some(Verdict::Error(Problem::TooBig { mtu }, Drop::TooBig))
    }

    /// Whether the appliance has taken over a moment ago, so that windows are not what they were.
    pub(crate) fn is_lenient(&self) -> bool {
        self.now < self.lenient_until
    }

    /// Lets a packet of a flow go on.
    pub(crate) fn pass<A: Address>(
        &self,
        flow: &Flow<A>,
        direction: Direction,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Verdict {
        let leaves = flow.leaves(direction);
        let class = flow.state.class();
        rewrite::translate(bytes, packet, class, &leaves, flow.change(direction));
        if self.clamp_mss
            && let Kind::Tcp(flags) = packet.kind
            && flags.contains(Flags::SYN)
            && let Some(tcp) = bytes.get_mut(packet.transport.into()..packet.len.into())
        {
            let mtus = [Direction::Original, Direction::Reply]
                .map(|side| self.routes.mtu(flow.path(side).leg));
            let [one, other] = mtus.map(|mtu| mtu.saturating_sub(headers::<A>()));
            mss::clamp(tcp, one.min(other));
        }
        self.forward(flow, direction, packet)
    }

    fn forward<A: Address>(
        &self,
        flow: &Flow<A>,
        direction: Direction,
        packet: &Packet<A>,
    ) -> Verdict {
        Verdict::Forward {
            hop: flow.hop(&self.routes, direction),
            len: packet.len.into(),
        }
    }

    /// An ICMP error about a packet of a known flow travels as that flow's packets in its direction do.
    pub(crate) fn related<A: Address>(
        &self,
        flows: &mut Flows<'_, A>,
        leg: u8,
        packet: &Packet<A>,
        bytes: &mut [u8],
    ) -> Option<Verdict> {
        let quote = usize::from(packet.transport) + ICMP_HEADER_LEN;
        let quoted = A::quoted(bytes.get(quote..packet.len.into())?)?;
        let (id, direction) = flows.find(&quoted.tuple.reversed(), quoted.class)?;
        let flow = flows.get_mut(id)?;
        let arrives = flow.tuple(direction);
        if leg != flow.path(direction).leg || packet.tuple.destination != arrives.destination {
            return None;
        }
        if let Some(refusal) = self.problem(packet, flow.path(direction.opposite()).leg) {
            return Some(refusal);
        }
        let leaves = flow.leaves(direction);
        // Routers behind a translated address have none that the other side knows.
        let source = match leaves.source == arrives.source {
            true => packet.tuple.source,
            false => leaves.source,
        };
        let sent = flow.tuple(direction.opposite());
        let outer = (source, leaves.destination);
        let (class, transport) = (quoted.class, quoted.transport);
        if flow.is_special()
            && direction == Direction::Original
            && let Some(tcp) = bytes.get_mut(quote + transport..packet.len.into())
        {
            self.unsplice_quote::<A>(id, tcp);
        }
        rewrite::translate_error(
            bytes,
            packet,
            class,
            transport,
            outer,
            (&quoted.tuple, sent),
        );
        Some(self.forward(flow, direction, packet))
    }
}

const ICMP_HEADER_LEN: usize = 8;
