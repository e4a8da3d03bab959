//! Connections that began with a cookie: the appliance has answered the client by itself, now opens the same
//! connection to the server and splices both, so that their sequence numbers differ by a constant.
//!
//! ```text
//! client                     appliance                      server
//!   SYN x, offer  ───────────▶                                        no memory used
//!                 ◀───────────  SYN-ACK c (cookie), window 0
//!   ACK c+1       ───────────▶  flow; SYN x, offer  ─────────▶        [`Phase::Opening`]
//!                               ACK s+1  ◀──────────────────▶  SYN-ACK s
//!                 ◀───────────  window update                         [`Phase::Spliced`]: s + (c - s)
//! ```
//!
//! The server sees the client's own sequence number, MSS and, if the client has timestamps, its window scale and
//! SACK. The client was promised a window scale of 7 and SACK, so the server's windows are converted.

use core::net::IpAddr;

use wire::checksum::{self, Delta};
use wire::tcp::{Flags, Header};
use wire::{ipv4, ipv6};
use zerocopy::IntoBytes;

use crate::cookie::{MAX_OPTIONS, Opened, Options, SCALE};
use crate::window;

/// Where a connection that began with a cookie stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The server has not answered the SYN yet.
    Opening(Opening),
    /// Segments pass with their numbers changed.
    Spliced(Splice),
}

/// What the server's answer will be compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    opened: Opened,
    /// The window field of the client's ACK, as it is scaled.
    window: u16,
}

/// How the numbers of the two connections differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Splice {
    /// The client's view of the server's sequence numbers, less the server's own.
    sequence: u32,
    /// The same for the server's timestamps.
    timestamp: u32,
    /// The server's window scale, if the client believes that it is [`SCALE`].
    scale: Option<u8>,
}

/// A segment without data that the appliance sends in the name of a client or server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Control bits.
    pub flags: Flags,
    /// Receive window, unscaled.
    pub window: u16,
    /// Options.
    pub options: Options,
}

/// What the server's SYN-ACK leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spliced {
    /// From now on.
    pub splice: Splice,
    /// For the server, in the client's name: completes its handshake.
    pub acknowledge: Segment,
    /// For the client, in the server's name: opens the window.
    pub update: Segment,
}

impl Opening {
    /// A connection whose client has sent a valid cookie in an ACK with this window field.
    #[must_use]
    pub const fn new(opened: Opened, window: u16) -> Self {
        Self { opened, window }
    }

    /// The SYN that the client would have sent to the server.
    #[must_use]
    pub fn syn(&self) -> Segment {
        let options = self.opened.options;
        let scale = u32::from(options.scale.unwrap_or(0));
        // A SYN's own window is not scaled.
        let window = (u32::from(self.window) << scale).min(u16::MAX.into());
        Segment {
            sequence: self.opened.sequence,
            acknowledgment: 0,
            flags: Flags::SYN,
            window: window as u16,
            options: Options {
                timestamp: options.timestamp.map(|(theirs, _)| (theirs, 0)),
                ..options
            },
        }
    }

    /// What the server's segment, a SYN-ACK, leads to; `None` if it is no answer to [`Self::syn`].
    #[must_use]
    pub fn answered(&self, tcp: &[u8]) -> Option<Spliced> {
        let header = Header::parse(tcp)?;
        let ours = self.opened.options;
        let next = self.opened.sequence.wrapping_add(1);
        let syn_ack = header.flags().contains(Flags::SYN.with(Flags::ACK));
        if !syn_ack || header.acknowledgment.get() != next {
            return None;
        }
        let theirs = Options::parse(tcp.get(HEADER_LEN..header.header_len())?);
        let scale = ours.scale.map(|_| theirs.scale.unwrap_or(0));
        let stamps = ours.timestamp.zip(theirs.timestamp);
        let server = header.sequence.get();
        let splice = Splice {
            sequence: self.opened.cookie.wrapping_sub(server),
            timestamp: stamps.map_or(0, |((_, us), (server, _))| us.wrapping_sub(server)),
            scale,
        };
        let stamp = |timestamp| Options {
            timestamp,
            ..Options::default()
        };
        // Where the server knows no scale, it takes the client's windows as they stand.
        let window = match (ours.scale, theirs.scale) {
            (Some(scale), None) => (u32::from(self.window) << scale).min(u16::MAX.into()) as u16,
            (Some(_) | None, _) => self.window,
        };
        let open = u32::from(header.window.get()) >> scale.map_or(0, |_| SCALE);
        Some(Spliced {
            splice,
            acknowledge: Segment {
                sequence: next,
                acknowledgment: server.wrapping_add(1),
                flags: Flags::ACK,
                window,
                options: stamp(stamps.map(|((client, _), (server, _))| (client, server))),
            },
            update: Segment {
                sequence: self.opened.cookie.wrapping_add(1),
                acknowledgment: next,
                flags: Flags::ACK,
                window: open as u16,
                options: stamp(ours.timestamp.map(|(client, us)| (us, client))),
            },
        })
    }

    /// [`Self::syn`] as the windows are told of it.
    #[must_use]
    pub fn as_sent(&self) -> window::Segment {
        let syn = self.syn();
        window::Segment {
            sequence: syn.sequence,
            end: syn.sequence.wrapping_add(1),
            acknowledgment: 0,
            window: syn.window,
            flags: syn.flags,
            scale: syn.options.scale,
        }
    }

    /// The server's answer, already spliced, as the windows are told of it: with the scale that the client was promised.
    #[must_use]
    pub fn as_answered(&self, answer: window::Segment) -> window::Segment {
        window::Segment {
            scale: self.opened.options.scale.map(|_| SCALE),
            ..answer
        }
    }

    /// Lets the client believe a server's refusal: a RST with the sequence number that it expects.
    pub fn refuse(&self, tcp: &mut [u8]) {
        let mut edit = Edit::of(tcp);
        edit.put(SEQUENCE, self.opened.cookie.wrapping_add(1));
        edit.close();
    }
}

impl Splice {
    /// A splice of these [`Self::parts`].
    #[must_use]
    pub const fn of(sequence: u32, timestamp: u32, scale: Option<u8>) -> Self {
        Self {
            sequence,
            timestamp,
            scale,
        }
    }

    /// What is added to sequence numbers and timestamps of the server's, and its window scale where the client believes in
    /// another.
    #[must_use]
    pub const fn parts(&self) -> (u32, u32, Option<u8>) {
        (self.sequence, self.timestamp, self.scale)
    }

    /// Changes a segment of the server's into what the client expects.
    pub fn reply(&self, tcp: &mut [u8]) {
        let Some((flags, len)) = Header::parse(tcp).map(|h| (h.flags(), h.header_len())) else {
            return;
        };
        let mut edit = Edit::of(tcp);
        edit.add(SEQUENCE, self.sequence);
        if let Some(scale) = self.scale
            && !flags.contains(Flags::SYN)
        {
            let window = u64::from(edit.half(WINDOW)) << scale >> SCALE;
            edit.put_half(WINDOW, window.min(u16::MAX.into()) as u16);
        }
        edit.options(len, |edit, kind, at, _| {
            if kind == TIMESTAMP {
                edit.add(at + 2, self.timestamp);
            }
        });
        edit.close();
    }

    /// Takes [`Self::reply`] back, as far as an ICMP error quotes the segment.
    pub fn quoted(&self, tcp: &mut [u8]) {
        let mut edit = Edit::of(tcp);
        edit.add(SEQUENCE, self.sequence.wrapping_neg());
        edit.close();
    }

    /// Changes a segment of the client's into what the server expects.
    pub fn original(&self, tcp: &mut [u8]) {
        let Some((flags, len)) = Header::parse(tcp).map(|h| (h.flags(), h.header_len())) else {
            return;
        };
        let back = self.sequence.wrapping_neg();
        let mut edit = Edit::of(tcp);
        if flags.contains(Flags::ACK) {
            edit.add(ACKNOWLEDGMENT, back);
        }
        edit.options(len, |edit, kind, at, end| match kind {
            TIMESTAMP => edit.add(at + 6, self.timestamp.wrapping_neg()),
            // Edges of blocks (RFC 2018 §3).
            SACK => (at + 2..end).step_by(4).for_each(|at| edit.add(at, back)),
            _ => {}
        });
        edit.close();
    }
}

impl Segment {
    /// Writes the segment as a whole packet; returns its length, or `None` if `buffer` is too short or the
    /// addresses are of two versions.
    pub fn write(
        &self,
        source: (IpAddr, u16),
        destination: (IpAddr, u16),
        buffer: &mut [u8],
    ) -> Option<usize> {
        let mut options = [0; MAX_OPTIONS];
        let options_len = self.options.write(&mut options);
        let len = HEADER_LEN + options_len;
        let (start, pseudo) = match (source.0, destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let ttl = wire::tcp::DEFAULT_TTL;
                let ip = ipv4::Header::new(source, destination, ipv4::TCP, ttl, len);
                buffer
                    .get_mut(..ipv4::HEADER_LEN)?
                    .copy_from_slice(ip.as_bytes());
                let sum = checksum::pseudo_header(source, destination, ipv4::TCP, len as u16);
                (ipv4::HEADER_LEN, sum)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.octets(), destination.octets());
                let limit = wire::tcp::DEFAULT_TTL;
                let ip = ipv6::Header::new(source, destination, ipv4::TCP, limit, len);
                buffer
                    .get_mut(..ipv6::HEADER_LEN)?
                    .copy_from_slice(ip.as_bytes());
                let sum = ipv6::pseudo_header(source, destination, ipv4::TCP, len as u16);
                (ipv6::HEADER_LEN, sum)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        let tcp = buffer.get_mut(start..start + len)?;
        let (header, rest) = tcp.split_first_chunk_mut::<HEADER_LEN>()?;
        rest.copy_from_slice(options.get(..options_len)?);
        let ([a, b], [c, d]) = (source.1.to_be_bytes(), destination.1.to_be_bytes());
        let [e, f, g, h] = self.sequence.to_be_bytes();
        let [i, j, k, l] = self.acknowledgment.to_be_bytes();
        let [w, x] = self.window.to_be_bytes();
        let offset = (len as u8 / 4) << 4;
        *header = [
            a,
            b,
            c,
            d,
            e,
            f,
            g,
            h,
            i,
            j,
            k,
            l,
            offset,
            self.flags.0,
            w,
            x,
            0,
            0,
            0,
            0,
        ];
        let [y, z] = pseudo.bytes(tcp).finish().to_be_bytes();
        tcp.get_mut(CHECKSUM..CHECKSUM + 2)?
            .copy_from_slice(&[y, z]);
        Some(start + len)
    }
}

/// Phases of up to `N` flows by their ids, in a hash table with linear probing.
#[derive(Debug)]
pub struct Splices<const N: usize> {
    places: [Option<(u32, Phase)>; N],
    used: usize,
}

impl<const N: usize> Splices<N> {
    /// No flow.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            places: [None; N],
            used: 0,
        }
    }

    /// Whether more connections may begin with a cookie. A quarter of the places stays empty, so that searches are
    /// short and handshakes under way still find room.
    #[must_use]
    pub const fn has_room(&self) -> bool {
        self.used < N / 4 * 3
    }

    /// The phase of a flow.
    #[must_use]
    pub fn get(&self, id: u32) -> Option<&Phase> {
        let (_, phase) = self.places.get(self.place(id)?)?.as_ref()?;
        Some(phase)
    }

    /// Notes the phase of a flow; `false` if there is no room.
    pub fn set(&mut self, id: u32, phase: Phase) -> bool {
        let at = match self.place(id) {
            Some(at) => at,
            None => {
                let free = Self::way(id).find(|at| matches!(self.places.get(*at), Some(None)));
                let Some(at) = free else { return false };
                self.used += 1;
                at
            }
        };
        if let Some(place) = self.places.get_mut(at) {
            *place = Some((id, phase));
        }
        true
    }

    /// Forgets a flow that is over.
    pub fn remove(&mut self, id: u32) {
        let Some(mut hole) = self.place(id) else {
            return;
        };
        self.used -= 1;
        // Those behind the hole that were pushed over it move back.
        let first = hole;
        for step in 1..N {
            let at = (first + step) % N;
            let Some((other, _)) = self.places.get(at).copied().flatten() else {
                break;
            };
            let home = Self::home(other);
            let reach = (at + N - home) % N;
            if reach >= (at + N - hole) % N {
                self.places.swap(hole, at);
                hole = at;
            }
        }
        if let Some(place) = self.places.get_mut(hole) {
            *place = None;
        }
    }

    fn place(&self, id: u32) -> Option<usize> {
        for at in Self::way(id) {
            match self.places.get(at)? {
                Some((other, _)) if *other == id => return Some(at),
                Some(_) => {}
                None => return None,
            }
        }
        None
    }

    fn way(id: u32) -> impl Iterator<Item = usize> {
        (0..N).map(move |step| (Self::home(id) + step) % N)
    }

    /// Ids are given out in turn, so they spread by themselves.
    const fn home(id: u32) -> usize {
        id.wrapping_mul(0x9e37_79b1) as usize % N
    }
}

impl<const N: usize> Default for Splices<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// Changes to a segment, and what they do to its checksum.
struct Edit<'a> {
    tcp: &'a mut [u8],
    delta: Delta,
}

impl<'a> Edit<'a> {
    fn of(tcp: &'a mut [u8]) -> Self {
        Self {
            tcp,
            delta: Delta::NONE,
        }
    }

    fn add(&mut self, at: usize, more: u32) {
        if let Some(bytes) = self.tcp.get(at..).and_then(<[u8]>::first_chunk) {
            self.put(at, u32::from_be_bytes(*bytes).wrapping_add(more));
        }
    }

    fn put(&mut self, at: usize, new: u32) {
        let Some(place) = self.tcp.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else {
            return;
        };
        let old = core::mem::replace(place, new.to_be_bytes());
        // Behind an odd number of option bytes, halves of words change places (RFC 1071 §2 B).
        let swap = |bytes: [u8; 4]| {
            let [a, b, c, d] = bytes;
            if at.is_multiple_of(2) {
                [a, b, c, d]
            } else {
                [b, a, d, c]
            }
        };
        self.delta = self.delta.address(swap(old), swap(new.to_be_bytes()));
    }

    fn half(&self, at: usize) -> u16 {
        let bytes = self.tcp.get(at..).and_then(<[u8]>::first_chunk);
        u16::from_be_bytes(bytes.copied().unwrap_or_default())
    }

    /// `at` is even.
    fn put_half(&mut self, at: usize, new: u16) {
        let Some(place) = self.tcp.get_mut(at..).and_then(<[u8]>::first_chunk_mut) else {
            return;
        };
        let old = core::mem::replace(place, new.to_be_bytes());
        self.delta = self.delta.word(u16::from_be_bytes(old), new);
    }

    /// Calls `change` with kind, beginning and end of each option of a header of `len` bytes.
    fn options(&mut self, len: usize, change: impl Fn(&mut Self, u8, usize, usize)) {
        let mut at = HEADER_LEN;
        while at < len {
            let kind = self.tcp.get(at).copied().unwrap_or(0);
            let size = match kind {
                0 => return,
                1 => 1,
                _ => usize::from(self.tcp.get(at + 1).copied().unwrap_or(0)),
            };
            let whole = match kind {
                TIMESTAMP => size == 10,
                SACK => size % 8 == 2,
                _ => size > 0,
            };
            if !whole || at + size > len {
                return;
            }
            change(self, kind, at, at + size);
            at += size;
        }
    }

    fn close(self) {
        let place = self.tcp.get_mut(CHECKSUM..);
        if let Some(place) = place.and_then(<[u8]>::first_chunk_mut) {
            *place = self.delta.apply(u16::from_be_bytes(*place)).to_be_bytes();
        }
    }
}

const HEADER_LEN: usize = wire::tcp::HEADER_LEN;
const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;
const TIMESTAMP: u8 = 8;
const SACK: u8 = 5;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const COOKIE: u32 = 0xf000_0000;
    const SERVER: u32 = 0x1234_5678;
    const CLIENT: u32 = 1000;

    fn opened(options: Options) -> Opened {
        Opened {
            cookie: COOKIE,
            sequence: CLIENT,
            options,
        }
    }

    fn linux() -> Options {
        Options {
            mss: Some(1460),
            scale: Some(9),
            sack: true,
            timestamp: Some((77, 5_000_000)),
        }
    }

    fn ends() -> ((IpAddr, u16), (IpAddr, u16)) {
        (
            ([203, 0, 113, 10].into(), 443),
            ([198, 51, 100, 7].into(), 40_000),
        )
    }

    fn tcp(segment: &Segment) -> Vec<u8> {
        let mut buffer = [0; 80];
        let (source, destination) = ends();
        let len = segment.write(source, destination, &mut buffer).unwrap();
        buffer[20..len].to_vec()
    }

    fn valid(tcp: &[u8]) -> bool {
        let pseudo =
            checksum::pseudo_header([203, 0, 113, 10], [198, 51, 100, 7], 6, tcp.len() as u16);
        pseudo.bytes(tcp).finish() == 0
    }

    fn syn_ack(options: Options) -> Segment {
        Segment {
            sequence: SERVER,
            acknowledgment: CLIENT + 1,
            flags: Flags::SYN.with(Flags::ACK),
            window: 65_160,
            options,
        }
    }

    #[test]
    fn a_connection_is_spliced() {
        let opening = Opening::new(opened(linux()), 500);
        let syn = opening.syn();
        assert_eq!(
            (syn.sequence, syn.flags, syn.window),
            (CLIENT, Flags::SYN, u16::MAX)
        );
        assert_eq!(
            syn.options,
            Options {
                timestamp: Some((77, 0)),
                ..linux()
            }
        );

        let theirs = Options {
            scale: Some(5),
            timestamp: Some((900, 77)),
            ..linux()
        };
        let spliced = opening.answered(&tcp(&syn_ack(theirs))).unwrap();
        let (ack, update) = (spliced.acknowledge, spliced.update);
        assert_eq!(
            (ack.sequence, ack.acknowledgment, ack.window),
            (CLIENT + 1, SERVER + 1, 500)
        );
        assert_eq!(ack.options.timestamp, Some((77, 900)));
        assert_eq!(
            (update.sequence, update.acknowledgment),
            (COOKIE + 1, CLIENT + 1)
        );
        assert_eq!(
            (update.window, update.options.timestamp),
            (65_160 >> 7, Some((5_000_000, 77)))
        );

        // The server's next segment continues where the update was.
        let mut reply = tcp(&Segment {
            sequence: SERVER + 1,
            acknowledgment: CLIENT + 100,
            flags: Flags::ACK,
            window: 4000,
            options: Options {
                timestamp: Some((950, 80)),
                ..Options::default()
            },
        });
        spliced.splice.reply(&mut reply);
        assert!(valid(&reply));
        let header = Header::parse(&reply).unwrap();
        assert_eq!(
            (header.sequence.get(), header.acknowledgment.get()),
            (COOKIE + 1, CLIENT + 100)
        );
        assert_eq!(header.window.get(), 1000, "4000 << 5 is 1000 << 7");
        assert_eq!(
            Options::parse(&reply[20..]).timestamp,
            Some((5_000_050, 80))
        );
    }

    #[test]
    fn what_is_no_answer_splices_nothing() {
        let opening = Opening::new(opened(linux()), 500);
        let good = syn_ack(linux());
        for (name, segment) in [
            (
                "no SYN",
                Segment {
                    flags: Flags::ACK,
                    ..good
                },
            ),
            (
                "no ACK",
                Segment {
                    flags: Flags::SYN,
                    ..good
                },
            ),
            (
                "another connection",
                Segment {
                    acknowledgment: 5,
                    ..good
                },
            ),
        ] {
            assert_eq!(opening.answered(&tcp(&segment)), None, "{name}");
        }
        assert_eq!(opening.answered(&[]), None);
    }

    #[test]
    fn a_server_that_knows_less_than_was_promised() {
        let opening = Opening::new(opened(linux()), 100);
        let plain = Options {
            mss: Some(1460),
            ..Options::default()
        };
        let spliced = opening.answered(&tcp(&syn_ack(plain))).unwrap();
        assert_eq!(spliced.acknowledge.window, 51_200);
        assert_eq!(spliced.acknowledge.options, Options::default());
        assert_eq!(spliced.splice.scale, Some(0));
        let mut reply = tcp(&Segment {
            flags: Flags::ACK,
            window: 256,
            ..syn_ack(Options::default())
        });
        spliced.splice.reply(&mut reply);
        assert_eq!(Header::parse(&reply).unwrap().window.get(), 2);
        // Without timestamps nothing was promised, and windows stay.
        let spliced = Opening::new(opened(plain), 100)
            .answered(&tcp(&syn_ack(plain)))
            .unwrap();
        assert_eq!(
            (spliced.splice.scale, spliced.update.window),
            (None, 65_160)
        );
    }

    #[test]
    fn a_refusal_is_believed() {
        let mut reset = tcp(&Segment {
            sequence: 0,
            flags: Flags::RST.with(Flags::ACK),
            ..syn_ack(Options::default())
        });
        Opening::new(opened(linux()), 1).refuse(&mut reset);
        assert!(valid(&reset));
        let header = Header::parse(&reset).unwrap();
        assert_eq!(
            (header.sequence.get(), header.acknowledgment.get()),
            (COOKIE + 1, CLIENT + 1)
        );
    }

    /// SACK blocks after an odd number of bytes, as some stacks align them.
    #[test]
    fn selective_acknowledgments_are_moved() {
        let splice = Splice {
            sequence: 100,
            timestamp: 7,
            scale: None,
        };
        for padding in 0..4 {
            let mut list = std::vec![1; padding];
            list.extend([5, 18, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 50, 0, 0, 0, 99]);
            list.resize(24, 0);
            let mut segment = tcp(&Segment {
                flags: Flags::ACK,
                ..syn_ack(Options::default())
            });
            segment.extend(&list);
            segment[12] = ((20 + 24) / 4) << 4;
            segment[16..18].fill(0);
            let pseudo = checksum::pseudo_header([203, 0, 113, 10], [198, 51, 100, 7], 6, 44);
            let sum = pseudo.bytes(&segment).finish();
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
            splice.original(&mut segment);
            assert!(valid(&segment), "{padding}");
            let edges: Vec<u32> = segment[22 + padding..38 + padding]
                .chunks(4)
                .map(|edge| u32::from_be_bytes(edge.try_into().unwrap()))
                .collect();
            assert_eq!(edges, [156, 412, 50_u32.wrapping_sub(100), u32::MAX]);
        }
    }

    proptest! {
        /// One side's change is the other's, backwards, and checksums stay valid.
        #[test]
        fn both_directions_agree(sequence: u32, timestamp: u32, number: u32, stamps: Option<(u32, u32)>) {
            let splice = Splice { sequence, timestamp, scale: None };
            let options = Options { timestamp: stamps, ..Options::default() };
            let mut reply = tcp(&Segment { sequence: number, flags: Flags::ACK, options, ..syn_ack(options) });
            splice.reply(&mut reply);
            prop_assert!(valid(&reply));
            let seen = Header::parse(&reply).unwrap().sequence.get();
            let stamp = Options::parse(&reply[20..]).timestamp;
            // The client acknowledges and echoes what it saw.
            let options = Options { timestamp: stamp.map(|(value, _)| (1, value)), ..Options::default() };
            let mut answer = tcp(&Segment { acknowledgment: seen, flags: Flags::ACK, options, ..syn_ack(options) });
            splice.original(&mut answer);
            prop_assert!(valid(&answer));
            prop_assert_eq!(Header::parse(&answer).unwrap().acknowledgment.get(), number);
            let echoed = Options::parse(&answer[20..]).timestamp.map(|(_, echo)| echo);
            prop_assert_eq!(echoed, stamps.map(|(value, _)| value));
        }

        #[test]
        fn odd_segments_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let opening = Opening::new(opened(linux()), 1);
            let _ = opening.answered(&bytes);
            let splice = Splice { sequence: 1, timestamp: 1, scale: Some(14) };
            splice.reply(&mut bytes);
            splice.original(&mut bytes);
            opening.refuse(&mut bytes);
        }

        /// The table against a map.
        #[test]
        fn same_answers_as_a_map(steps in prop::collection::vec((0_u32..40, any::<bool>(), any::<u32>()), 1..300)) {
            let mut splices = Splices::<16>::new();
            let mut map = HashMap::new();
            for (id, add, number) in steps {
                let phase = Phase::Spliced(Splice { sequence: number, ..Splice::default() });
                if add {
                    let added = splices.set(id, phase);
                    prop_assert_eq!(added, map.len() < 16 || map.contains_key(&id));
                    if added {
                        map.insert(id, phase);
                    }
                } else {
                    splices.remove(id);
                    map.remove(&id);
                }
                for id in 0..40 {
                    prop_assert_eq!(splices.get(id), map.get(&id));
                }
                prop_assert_eq!(splices.has_room(), map.len() < 12);
            }
        }
    }
}
