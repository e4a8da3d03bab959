//! The bytes in which appliances tell each other what they know. Numbers in network byte order. They are the same in every
//! version of the protocol: new kinds may come, old ones stay.

use core::net::IpAddr;

use sync::MAX_RECORD;

use crate::address::Address;
use crate::flow::Flow;
use crate::packet::{Class, Ports, Tuple};
use crate::synproxy::Splice;
use crate::track::State;
use crate::window::{Side, Window, Windows};

/// First byte of each record.
pub mod kind {
    /// A flow of IPv4.
    pub const FLOW: u8 = 1;
    /// A flow of IPv6.
    pub const FLOW6: u8 = 2;
    /// A flow of IPv4 that is no more.
    pub const GONE: u8 = 3;
    /// A flow of IPv6 that is no more.
    pub const GONE6: u8 = 4;
    /// What is left of a rate.
    pub const RATE: u8 = 5;
    /// A client that stays with its server.
    pub const CLIENT: u8 = 6;
    /// How to recognise cookies.
    pub const COOKIES: u8 = 7;
}

/// A flow, as far as the other appliance can use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRecord<A> {
    /// What packets of either side carry when they arrive.
    pub tuples: [Tuple<A>; 2],
    /// Protocol and state.
    pub state: State,
    /// Legs of both sides.
    pub paths: u8,
    /// The service and its server.
    pub owner: u8,
    /// The limit, and whether the flow is special.
    pub extra: u8,
    /// TCP's sequence numbers.
    pub windows: Windows,
    /// How the numbers of both sides differ.
    pub splice: Option<Splice>,
}

/// Tokens that are used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The limit.
    pub limit: u8,
    /// The source prefix, or `None` for the limit's own account.
    pub source: Option<[u32; 4]>,
    /// Nanoseconds until all are back.
    pub left: u64,
}

/// A client that stays with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its service.
    pub service: u8,
    /// The server.
    pub choice: u8,
    /// Its prefix.
    pub client: [u32; 4],
    /// Seconds for which it stays.
    pub left: u32,
}

/// What the other appliance's cookies are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The key.
    pub key: [u32; 2],
    /// The other's time since boot, in microseconds.
    pub clock: u64,
    /// Seconds for which cookies may come back.
    pub left: u16,
}

impl<A: Address> FlowRecord<A> {
    /// The record of a flow.
    #[must_use]
    pub fn new(flow: &Flow<A>, splice: Option<Splice>) -> Self {
        let (paths, owner, extra) = flow.bits();
        Self {
            tuples: flow.tuples,
            state: flow.state,
            paths,
            owner,
            extra,
            windows: flow.windows,
            splice,
        }
    }

    /// Writes it; the length.
    pub fn write(&self, buffer: &mut [u8; MAX_RECORD]) -> usize {
        let mut out = Writer::new(buffer);
        out.put([version::<A>(kind::FLOW)]);
        out.put([
            self.state as u8,
            self.paths,
            self.owner,
            self.extra,
            self.splice.is_some().into(),
        ]);
        for tuple in &self.tuples {
            out.tuple(tuple);
        }
        if self.state.class() == Class::Tcp {
            for side in self.windows.sides {
                out.put(side.end.to_be_bytes());
                out.put(side.limit.wrapping_sub(side.end).to_be_bytes());
            }
            for window in self.windows.announced {
                out.put(window.bits().to_be_bytes());
            }
        }
        if let Some(splice) = self.splice {
            let (sequence, timestamp, scale) = splice.parts();
            out.put(sequence.to_be_bytes());
            out.put(timestamp.to_be_bytes());
            out.put([scale.unwrap_or(NO_SCALE)]);
        }
        out.len()
    }

    /// Reads what follows the kind.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let [state, paths, owner, extra, spliced] = from.take()?;
        let state = State::shared(state)?;
        let tuples = [from.tuple()?, from.tuple()?];
        let mut windows = Windows::NONE;
        if state.class() == Class::Tcp {
            for side in &mut windows.sides {
                let (end, room) = (from.word()?, from.word()?);
                let limit = end.wrapping_add(room);
                *side = Side { end, limit };
            }
            for window in &mut windows.announced {
                *window = Window::from_bits(u16::from_be_bytes(from.take()?));
            }
        }
        let splice = match spliced {
            0 => None,
            _ => {
                let (sequence, timestamp) = (from.word()?, from.word()?);
                let [scale] = from.take()?;
                let scale = (scale != NO_SCALE).then_some(scale & 0xf);
                Some(Splice::of(sequence, timestamp, scale))
            }
        };
        Some(Self {
            tuples,
            state,
            paths,
            owner,
            extra,
            windows,
            splice,
        })
    }
}

/// Writes the record of a flow that is no more; the length.
pub fn write_gone<A: Address>(
    tuple: &Tuple<A>,
    class: Class,
    buffer: &mut [u8; MAX_RECORD],
) -> usize {
    let mut out = Writer::new(buffer);
    out.put([version::<A>(kind::GONE), class as u8]);
    out.tuple(tuple);
    out.len()
}

/// Reads what follows the kind.
#[must_use]
pub fn read_gone<A: Address>(bytes: &[u8]) -> Option<(Tuple<A>, Class)> {
    let mut from = Reader(bytes);
    let class = match from.take()? {
        [0] => Class::Tcp,
        [1] => Class::Udp,
        [2] => Class::Echo,
        [3] => Class::Other,
        [_] => return None,
    };
    Some((from.tuple()?, class))
}

impl Rate {
    /// Writes it; the length.
    pub fn write(&self, buffer: &mut [u8; MAX_RECORD]) -> usize {
        let mut out = Writer::new(buffer);
        out.put([kind::RATE, self.limit, self.source.is_some().into()]);
        out.put(self.left.to_be_bytes());
        for word in self.source.iter().flatten() {
            out.put(word.to_be_bytes());
        }
        out.len()
    }

    /// Reads what follows the kind.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let [limit, has_source] = from.take()?;
        let left = u64::from_be_bytes(from.take()?);
        let source = match has_source {
            0 => None,
            _ => Some([from.word()?, from.word()?, from.word()?, from.word()?]),
        };
        Some(Self {
            limit,
            source,
            left,
        })
    }
}

impl Client {
    /// Writes it; the length.
    pub fn write(&self, buffer: &mut [u8; MAX_RECORD]) -> usize {
        let mut out = Writer::new(buffer);
        out.put([kind::CLIENT, self.service, self.choice]);
        for word in self.client {
            out.put(word.to_be_bytes());
        }
        out.put(self.left.to_be_bytes());
        out.len()
    }

    /// Reads what follows the kind.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let [service, choice] = from.take()?;
        Some(Self {
            service,
            choice,
            client: [from.word()?, from.word()?, from.word()?, from.word()?],
            left: from.word()?,
        })
    }
}

impl Secret {
    /// Writes it; the length.
    pub fn write(&self, buffer: &mut [u8; MAX_RECORD]) -> usize {
        let mut out = Writer::new(buffer);
        out.put([kind::COOKIES]);
        for word in self.key {
            out.put(word.to_be_bytes());
        }
        out.put(self.clock.to_be_bytes());
        out.put(self.left.to_be_bytes());
        out.len()
    }

    /// Reads what follows the kind.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        Some(Self {
            key: [from.word()?, from.word()?],
            clock: u64::from_be_bytes(from.take()?),
            left: u16::from_be_bytes(from.take()?),
        })
    }
}

/// The kind for the version of an address: IPv6 has the next number.
fn version<A: Address>(kind: u8) -> u8 {
    kind + u8::from(A::ZERO.words().len() > 1)
}

struct Writer<'b> {
    buffer: &'b mut [u8; MAX_RECORD],
    len: usize,
}

impl<'b> Writer<'b> {
    const fn new(buffer: &'b mut [u8; MAX_RECORD]) -> Self {
        Self { buffer, len: 0 }
    }

    /// The longest record, a spliced flow of IPv6, has 107 bytes.
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        if let Some(place) = self.buffer.get_mut(self.len..self.len + N) {
            place.copy_from_slice(&bytes);
            self.len += N;
        }
    }

    /// Addresses and ports lie in memory as on the wire.
    fn tuple<A: Address>(&mut self, tuple: &Tuple<A>) {
        let addresses = tuple.source.words().iter().chain(tuple.destination.words());
        for word in addresses.chain(&[tuple.ports.0]) {
            self.put(word.to_ne_bytes());
        }
    }

    const fn len(self) -> usize {
        self.len
    }
}

struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn word(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take()?))
    }

    fn address<A: Address>(&mut self) -> Option<A> {
        A::from_ip(match A::ZERO.words().len() {
            1 => IpAddr::from(self.take::<4>()?),
            _ => IpAddr::from(self.take::<16>()?),
        })
    }

    fn tuple<A: Address>(&mut self) -> Option<Tuple<A>> {
        Some(Tuple {
            source: self.address()?,
            destination: self.address()?,
            ports: Ports(u32::from_ne_bytes(self.take()?)),
        })
    }
}

/// In place of a window scale.
const NO_SCALE: u8 = 0xff;

#[cfg(test)]
mod tests;
