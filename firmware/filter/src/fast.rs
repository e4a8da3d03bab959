//! The path that nearly every packet takes: plain TCP segments and UDP datagrams of flows in their usual state.
//!
//! Nothing is changed before it is certain that the packet goes on, so that whatever is unusual about a packet is left
//! to `known.rs`, which decides the same for all packets and takes its time. What a Cortex-M7 does here for each packet
//! is counted by `ravelin bench packet`: both directions have code of their own, numbers are read when they are needed and
//! not before, and references are taken once.

use wire::tcp::Flags;

use crate::address::Address;
use crate::flow::Flow;
use crate::packet::{Class, Ports, half, word};
use crate::rewrite::Change;
use crate::table::{Flows, Miss};
use crate::track::{Direction, State, Ticks};
use crate::window::Segment;
use crate::{Drop, Shared};

/// Whoever knows the stations on the legs' networks.
pub trait Stations {
    /// What it says of one.
    type Station;

    /// The station with this address on this leg, if it is known.
    fn find<A: Address>(self, leg: u8, address: A) -> Option<Self::Station>;
}

/// Why a packet did not go on the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Something is unusual about it.
    Unusual,
    /// It belongs to no flow, and is dropped for this reason.
    Refused(Drop),
}

/// What all packets are compared with.
pub struct Way<'r, 't> {
    /// What stays the same.
    pub shared: &'r Shared<'t>,
    /// When they came in.
    pub now: Ticks,
    /// Which leg they came in from.
    pub leg: u8,
    /// How much of their buffer they are.
    pub received: usize,
}

impl Way<'_, '_> {
    /// What becomes of a packet of no flow.
    #[inline(always)]
    fn refuse<A: Address>(&self, front: &A::Front, class: Class, opens: bool) -> Left {
        match self.shared.refuses::<A>(self.leg, front, class, opens) {
            Some(reason) => Left::Refused(reason),
            None => Left::Unusual,
        }
    }

    /// The next station of a packet of this flow, if nothing is unusual about it.
    #[inline(always)]
    fn next<A: Address, S: Stations>(
        &self,
        flow: &Flow<A>,
        direction: Direction,
        len: usize,
        stations: S,
    ) -> Option<S::Station> {
        let out = flow.path(direction.opposite());
        let usual = flow.path(direction).leg == self.leg
            && !flow.is_special()
            && self.now.until(flow.expiry) > 0
            && len <= usize::from(self.shared.routes.mtu(out.leg));
        if !usual {
            return None;
        }
        let destination = flow.tuple(direction.opposite()).source;
        stations.find(
            out.leg,
            A::family(&self.shared.routes).next(out, destination),
        )
    }
}

/// Lets a TCP segment go on, if it is a usual one and its next station is known. Returns that, and the packet's length.
///
/// # Errors
/// If it is none, or belongs to no flow.
#[inline(always)]
pub fn segment<A: Address, S: Stations>(
    flows: &mut Flows<'_, A>,
    way: &Way<'_, '_>,
    buffer: &mut [u8],
    stations: S,
) -> Result<(S::Station, usize), Left> {
    let (front, rest) = A::front(buffer).ok_or(Left::Unusual)?;
    let rest = rest.first_chunk_mut().ok_or(Left::Unusual)?;
    let len = A::plain(front, way.received).ok_or(Left::Unusual)?;
    let opens = match word(rest, 8) & control(CONTROL) {
        ACK => false,
        SYN => {
            let port = A::tuple(front).destination_port();
            // Most of those are wanted.
            if way.shared.doors.may_be(Class::Tcp, port) {
                return Err(Left::Unusual);
            }
            true
        }
        _ => return Err(Left::Unusual),
    };
    let (flow, direction) = match flows.find_usual(front, Class::Tcp) {
        Ok(found) if !opens => found,
        Err(Miss::Nobody) if is_whole::<A>(rest, len) => {
            return Err(way.refuse::<A>(front, Class::Tcp, opens));
        }
        Ok(_) | Err(_) => return Err(Left::Unusual),
    };
    let tcp = Tcp { front, rest, len };
    let station = match direction {
        Direction::Original => tcp.pass(flow, Direction::Original, way, stations),
        Direction::Reply => tcp.pass(flow, Direction::Reply, way, stations),
    };
    Ok((station.ok_or(Left::Unusual)?, len))
}

/// Whether the header of a segment is inside its packet, and no sender's mistake (a SYN is not urgent).
#[inline(always)]
fn is_whole<A: Address>(rest: &[u8; 16], len: usize) -> bool {
    let header = usize::from(rest[8] >> 4) * 4;
    header >= TCP_HEADER_LEN && A::HEADER_LEN + header <= len && Flags(rest[9]).valid()
}

/// A segment, and the length of its packet.
struct Tcp<'p, A: Address> {
    front: &'p mut A::Front,
    /// What follows the ports.
    rest: &'p mut [u8; 16],
    len: usize,
}

impl<A: Address> Tcp<'_, A> {
    #[inline(always)]
    fn pass<S: Stations>(
        self,
        flow: &mut Flow<A>,
        direction: Direction,
        way: &Way<'_, '_>,
        stations: S,
    ) -> Option<S::Station> {
        let Self { front, rest, len } = self;
        let station = way.next(flow, direction, len, stations)?;
        let shape = u32::from_be(word(rest, 8));
        let header = (shape >> 28) as usize * 4;
        let data = len.checked_sub(A::HEADER_LEN + header)?;
        if header < TCP_HEADER_LEN {
            return None;
        }
        let sequence = u32::from_be(word(rest, 0));
        let segment = Segment {
            sequence,
            end: sequence.wrapping_add(data as u32),
            acknowledgment: u32::from_be(word(rest, 4)),
            window: shape as u16,
            flags: Flags::ACK,
            scale: None,
        };
        if !flow.windows.advance(direction, &segment) {
            return None;
        }
        flow.expiry = way.now.after(const { State::Established.timeout() });
        let (old, new, change) = readdress(flow, direction, front);
        let sum = change.apply_with(old, new, half(rest, 12));
        rest[12..14].copy_from_slice(&sum.to_ne_bytes());
        Some(station)
    }
}

/// The same for a UDP datagram.
#[inline(always)]
pub fn datagram<A: Address, S: Stations>(
    flows: &mut Flows<'_, A>,
    way: &Way<'_, '_>,
    buffer: &mut [u8],
    stations: S,
) -> Result<(S::Station, usize), Left> {
    let (front, rest) = A::front(buffer).ok_or(Left::Unusual)?;
    let rest = rest.first_chunk_mut::<4>().ok_or(Left::Unusual)?;
    let len = A::plain(front, way.received).ok_or(Left::Unusual)?;
    let inner = usize::from(u16::from_be(half(rest, 0)));
    if inner < 8 || A::HEADER_LEN + inner > len {
        return Err(Left::Unusual);
    }
    let (flow, direction) = match flows.find_usual(front, Class::Udp) {
        Ok(found) => found,
        Err(Miss::Nobody) => return Err(way.refuse::<A>(front, Class::Udp, true)),
        Err(Miss::Unusual) => return Err(Left::Unusual),
    };
    let udp = Udp { front, rest, len };
    let station = match direction {
        Direction::Original => udp.pass(flow, Direction::Original, way, stations),
        Direction::Reply => udp.pass(flow, Direction::Reply, way, stations),
    };
    Ok((station.ok_or(Left::Unusual)?, len))
}

/// A datagram, and the length of its packet.
struct Udp<'p, A: Address> {
    front: &'p mut A::Front,
    /// What follows the ports.
    rest: &'p mut [u8; 4],
    len: usize,
}

impl<A: Address> Udp<'_, A> {
    #[inline(always)]
    fn pass<S: Stations>(
        self,
        flow: &mut Flow<A>,
        direction: Direction,
        way: &Way<'_, '_>,
        stations: S,
    ) -> Option<S::Station> {
        let Self { front, rest, len } = self;
        let timeout = match (flow.state, direction) {
            (State::Talking, _) => const { State::Talking.timeout() },
            (State::Sent, Direction::Original) => const { State::Sent.timeout() },
            _ => return None,
        };
        let station = way.next(flow, direction, len, stations)?;
        flow.expiry = way.now.after(timeout);
        let (old, new, change) = readdress(flow, direction, front);
        let sum = change.apply_unless_zero(old, new, half(rest, 2));
        rest[2..].copy_from_slice(&sum.to_ne_bytes());
        Some(station)
    }
}

/// Gives a packet new addresses and ports, and takes one from its TTL: what they were and are, and what happens to
/// checksums over the addresses.
#[inline(always)]
fn readdress<A: Address>(
    flow: &Flow<A>,
    direction: Direction,
    front: &mut A::Front,
) -> (Ports, Ports, Change) {
    let (leaves, change) = (flow.leaves(direction), flow.change(direction));
    A::readdress_fast(front, &leaves, change);
    (flow.tuple(direction).ports, leaves.ports, change)
}

const TCP_HEADER_LEN: usize = wire::tcp::HEADER_LEN;

/// The flags that move a connection on.
const CONTROL: Flags = Flags(Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0 | Flags::ACK.0);
const ACK: u32 = control(Flags::ACK);
const SYN: u32 = control(Flags::SYN);

/// Flags in the word of offset, flags and window.
const fn control(flags: Flags) -> u32 {
    u32::from_ne_bytes([0, flags.0, 0, 0])
}
