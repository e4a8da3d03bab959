//! The path that nearly every packet takes: plain TCP segments and UDP datagrams of flows in their usual state.
//!
//! Nothing is changed before it is certain that the packet goes on, so that whatever is unusual about a packet is left
//! to `known.rs`, which decides the same for all packets and takes its time.

use wire::ipv4;
use wire::tcp::Flags;

use crate::Hop;
use crate::address::Address;
use crate::flow::Flow;
use crate::packet::{Class, Ports, Tuple};
use crate::rewrite::Change;
use crate::route::Routes;
use crate::table::Flows;
use crate::track::{Direction, State, Ticks};
use crate::window::Segment;

/// What the fast path has to know of an IP header that it accepts.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    /// Length of the whole packet.
    pub len: usize,
    /// What follows the header.
    pub protocol: u8,
}

/// Lets a packet from `leg` go on, if it is a usual one and `resolve` knows its next station. Returns what `resolve` says
/// and the packet's length.
#[inline(always)]
pub fn pass<A: Address, R, const N: usize>(
    flows: &mut Flows<A, N>,
    routes: &Routes,
    now: Ticks,
    leg: u8,
    bytes: &mut [u8],
    resolve: impl FnOnce(Hop) -> Option<R>,
) -> Option<(R, usize)> {
    let room = bytes.len();
    let (ip, rest) = bytes.split_at_mut_checked(A::HEADER_LEN)?;
    let plain = A::plain(ip, room)?;
    let payload = plain.len.checked_sub(A::HEADER_LEN)?;
    let way = Way {
        routes,
        now,
        leg,
        len: plain.len,
    };
    let found = match plain.protocol {
        ipv4::TCP => segment(flows, &way, ip, rest, payload, resolve)?,
        ipv4::UDP => datagram(flows, &way, ip, rest, payload, resolve)?,
        _ => return None,
    };
    Some((found, plain.len))
}

/// What all packets are compared with.
struct Way<'r> {
    routes: &'r Routes,
    now: Ticks,
    leg: u8,
    len: usize,
}

impl Way<'_> {
    /// Where a packet of this flow goes, if nothing is unusual about it.
    #[inline(always)]
    fn out<A: Address>(&self, flow: &Flow<A>, direction: Direction) -> Option<Hop> {
        let hop = flow.hop(self.routes, direction);
        let usual = flow.path(direction).leg == self.leg
            && !flow.is_special()
            && self.now.until(flow.expiry) > 0
            && self.len <= usize::from(self.routes.mtu(hop.leg));
        usual.then_some(hop)
    }
}

#[inline(always)]
fn segment<A: Address, R, const N: usize>(
    flows: &mut Flows<A, N>,
    way: &Way<'_>,
    ip: &mut [u8],
    rest: &mut [u8],
    payload: usize,
    resolve: impl FnOnce(Hop) -> Option<R>,
) -> Option<R> {
    let tcp = rest.first_chunk_mut::<20>()?;
    let word = |at: usize| u32::from_ne_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
    let header = usize::from(tcp[12] >> 4) * 4;
    if header < 20 || tcp[13] & CONTROL != Flags::ACK.0 {
        return None;
    }
    let data = payload.checked_sub(header)?;
    let sequence = u32::from_be(word(4));
    let segment = Segment {
        sequence,
        end: sequence.wrapping_add(data as u32),
        acknowledgment: u32::from_be(word(8)),
        window: u16::from_be_bytes([tcp[14], tcp[15]]),
        flags: Flags::ACK,
        scale: None,
    };
    let (source, destination) = A::ends(ip);
    let ports = Ports(word(0));
    let tuple = Tuple {
        source,
        destination,
        ports,
    };
    let (id, direction) = flows.find(&tuple, Class::Tcp)?;
    let flow = flows.get_mut(id)?;
    if flow.state != State::Established {
        return None;
    }
    let found = resolve(way.out(flow, direction)?)?;
    if !flow.windows.advance(direction, &segment) {
        return None;
    }
    flow.expiry = way.now.after(const { State::Established.timeout() });
    let (leaves, change) = (flow.leaves(direction), flow.change(direction));
    A::readdress_fast(ip, leaves.source, leaves.destination, change);
    tcp[..4].copy_from_slice(&leaves.ports.0.to_ne_bytes());
    let sum = u16::from_ne_bytes([tcp[16], tcp[17]]);
    let sum = change.ports(ports, leaves.ports).apply(sum);
    tcp[16..18].copy_from_slice(&sum.to_ne_bytes());
    Some(found)
}

#[inline(always)]
fn datagram<A: Address, R, const N: usize>(
    flows: &mut Flows<A, N>,
    way: &Way<'_>,
    ip: &mut [u8],
    rest: &mut [u8],
    payload: usize,
    resolve: impl FnOnce(Hop) -> Option<R>,
) -> Option<R> {
    let udp = rest.first_chunk_mut::<8>()?;
    let len = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    if len < 8 || len > payload {
        return None;
    }
    let (source, destination) = A::ends(ip);
    let ports = Ports(u32::from_ne_bytes([udp[0], udp[1], udp[2], udp[3]]));
    let tuple = Tuple {
        source,
        destination,
        ports,
    };
    let (id, direction) = flows.find(&tuple, Class::Udp)?;
    let flow = flows.get_mut(id)?;
    let timeout = match (flow.state, direction) {
        (State::Talking, _) => const { State::Talking.timeout() },
        (State::Sent, Direction::Original) => const { State::Sent.timeout() },
        _ => return None,
    };
    let found = resolve(way.out(flow, direction)?)?;
    flow.expiry = way.now.after(timeout);
    let (leaves, change) = (flow.leaves(direction), flow.change(direction));
    A::readdress_fast(ip, leaves.source, leaves.destination, change);
    udp[..4].copy_from_slice(&leaves.ports.0.to_ne_bytes());
    let sum = u16::from_ne_bytes([udp[6], udp[7]]);
    let sum = change.ports(ports, leaves.ports).apply_unless_zero(sum);
    udp[6..8].copy_from_slice(&sum.to_ne_bytes());
    Some(found)
}

impl Change {
    /// This change and the one of both ports.
    #[inline(always)]
    const fn ports(self, old: Ports, new: Ports) -> Self {
        self.word(old.0, new.0)
    }
}

/// The flags that move a connection on.
const CONTROL: u8 = Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0 | Flags::ACK.0;
