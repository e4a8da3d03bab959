//! SYN cookies (RFC 4987 §3.6): everything that a half-open connection needs to know lies in the sequence number
//! and the timestamp of the answer, so that a SYN costs no memory.
//!
//! | bits of the sequence number | content |
//! |---|---|
//! | 31 | parity of the minute (of 67 s) in which the cookie was made |
//! | 28–30 | index of the client's MSS, rounded down |
//! | 0–27 | keyed hash of addresses, ports, minute and MSS; plus the client's sequence number (its low bits) |
//!
//! A guess is right once in 2^27; a cookie lasts for one to two minutes. Window scale and SACK fit only into a
//! timestamp, as in Linux: its lowest six bits say what the client offered. Clients without timestamps get neither.

use time::Instant;
use wire::checksum::{self, Sum};
use wire::tcp::{Flags, Header};
use wire::{ipv4, ipv6};
use zerocopy::FromBytes;

use crate::hash::Key;
use crate::record::Secret;

/// Makes and recognises cookies of one appliance.
#[derive(Clone, Copy, Debug)]
pub struct Cookies {
    key: Key,
}

/// The cookies of the appliance that was Active before.
#[derive(Clone, Copy, Debug)]
pub struct Inherited {
    cookies: Cookies,
    /// What the other's clock said at a moment of ours.
    clock: (u64, Instant),
}

impl Inherited {
    /// Cookies as the other has just told of them.
    #[must_use]
    pub const fn new(now: Instant, secret: &Secret) -> Self {
        Self {
            cookies: Cookies::new(Key::from_words(secret.key)),
            clock: (secret.clock, now),
        }
    }

    /// See [`Cookies::check`].
    #[must_use]
    pub fn check(&self, now: Instant, packet: &[u8], transport: usize) -> Option<Opened> {
        let (clock, at) = self.clock;
        let theirs = Instant::from_micros(clock) + now.since(at);
        self.cookies.check(theirs, packet, transport)
    }
}

/// What a SYN offers besides its sequence number (RFC 9293 §3.2, RFC 7323, RFC 2018).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale.
    pub scale: Option<u8>,
    /// Whether selective acknowledgments are permitted.
    pub sack: bool,
    /// Timestamp value and echo reply.
    pub timestamp: Option<(u32, u32)>,
}

/// What a valid cookie says about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The appliance's initial sequence number towards the client: the cookie itself.
    pub cookie: u32,
    /// The client's initial sequence number.
    pub sequence: u32,
    /// What the client had offered. Its timestamp is the one of its ACK, together with ours that it echoes.
    pub options: Options,
}

impl Cookies {
    /// `key` is secret: who knows it can open connections from addresses that are not his.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self { key }
    }

    /// What the other appliance needs to recognise these cookies for `left` seconds more.
    #[must_use]
    pub const fn secret(&self, now: Instant, left: u16) -> Secret {
        Secret {
            key: self.key.words(),
            clock: now.as_micros(),
            left,
        }
    }

    /// Turns the SYN at the front of `buffer`, whose TCP header begins at `transport`, into its answer: a SYN-ACK with
    /// a cookie and a closed window. Returns the answer's length. `mss` is the largest that we can take.
    ///
    /// The answer may be up to four bytes longer than the SYN; options that `buffer` has no room for are left out.
    /// `None` if this is no SYN, or one behind extension headers.
    pub fn answer(
        &self,
        now: Instant,
        buffer: &mut [u8],
        transport: usize,
        mss: u16,
    ) -> Option<usize> {
        let room = buffer.len().checked_sub(transport)?;
        let segment = buffer.get(transport..)?;
        let tcp = Header::parse(segment)?;
        let offer = Options::parse(segment.get(HEADER_LEN..tcp.header_len())?);
        let (ports, sequence) = (ports(tcp), tcp.sequence.get());
        let index = mss_index(offer.mss.unwrap_or(DEFAULT_MSS));
        let minute = minute(now);
        let hash = match transport {
            ipv4::HEADER_LEN => self.hash_v4(buffer, ports, minute, index)?,
            ipv6::HEADER_LEN => self.hash_v6(buffer, ports, minute, index)?,
            _ => return None,
        };
        let cookie = cookie(hash, minute, index, sequence);

        let mut options = [0; MAX_OPTIONS];
        let answer = Options {
            mss: Some(mss),
            scale: offer.timestamp.and(offer.scale).map(|_| SCALE),
            sack: offer.timestamp.is_some() && offer.sack,
            timestamp: offer
                .timestamp
                .map(|(theirs, _)| (offer.to_timestamp(now), theirs)),
        };
        let len = [answer, answer.plain(), Options::default()]
            .iter()
            .map(|options_of| options_of.write(&mut options))
            .find(|len| HEADER_LEN + len <= room)?;
        let segment = buffer.get_mut(transport..transport + HEADER_LEN + len)?;
        let (header, rest) = segment.split_first_chunk_mut::<HEADER_LEN>()?;
        rest.copy_from_slice(options.get(..len)?);
        turn(header, cookie, sequence.wrapping_add(1), len);
        match transport {
            ipv4::HEADER_LEN => answer_v4(buffer, HEADER_LEN + len)?,
            _ => answer_v6(buffer, HEADER_LEN + len)?,
        }
        Some(transport + HEADER_LEN + len)
    }

    /// What the cookie that an ACK carries says; `None` if it carries none of ours, or an old one. The ACK may be a
    /// window probe, which has the sequence number before the next.
    #[must_use]
    pub fn check(&self, now: Instant, packet: &[u8], transport: usize) -> Option<Opened> {
        let segment = packet.get(transport..)?;
        let tcp = Header::parse(segment)?;
        let cookie = tcp.acknowledgment.get().wrapping_sub(1);
        let index = cookie >> MSS_SHIFT & 7;
        // Of the last two minutes the one of the right parity.
        let current = minute(now);
        let minute = current.wrapping_sub((current ^ cookie >> MINUTE_SHIFT) & 1);
        let hash = match transport {
            ipv4::HEADER_LEN => self.hash_v4(packet, ports(tcp), minute, index)?,
            ipv6::HEADER_LEN => self.hash_v6(packet, ports(tcp), minute, index)?,
            _ => return None,
        };
        let sequence = [1, 0]
            .map(|before| tcp.sequence.get().wrapping_sub(before))
            .into_iter()
            .find(|sequence| cookie == self::cookie(hash, minute, index, *sequence))?;
        let sent = Options::parse(segment.get(HEADER_LEN..tcp.header_len())?);
        let mut options = Options {
            mss: MSS.get(index as usize).copied(),
            ..Options::default()
        };
        if let Some((theirs, ours)) = sent.timestamp {
            options = options.with_timestamp(theirs, ours);
        }
        Some(Opened {
            cookie,
            sequence,
            options,
        })
    }

    fn hash_v4(&self, packet: &[u8], ports: u32, minute: u32, index: u32) -> Option<u32> {
        let [source, destination] = words(packet, 12)?;
        let last = minute << 3 | index;
        Some(self.key.hash([source, destination, ports, last]))
    }

    fn hash_v6(&self, packet: &[u8], ports: u32, minute: u32, index: u32) -> Option<u32> {
        let [a, b, c, d, e, f, g, h] = words(packet, 8)?;
        let last = minute << 3 | index;
        Some(self.key.hash([a, b, c, d, e, f, g, h, ports, last]))
    }
}

impl Options {
    /// Reads the options between a TCP header and its data; what is malformed ends the list.
    #[must_use]
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self::default();
        loop {
            bytes = match *bytes {
                // Padding.
                [1, ref rest @ ..] => rest,
                [2, 4, high, low, ref rest @ ..] => {
                    options.mss = Some(u16::from_be_bytes([high, low]));
                    rest
                }
                // RFC 7323 §2.3: more than 14 counts as 14.
                [3, 3, scale, ref rest @ ..] => {
                    options.scale = Some(scale.min(14));
                    rest
                }
                [4, 2, ref rest @ ..] => {
                    options.sack = true;
                    rest
                }
                [8, 10, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                    let value = u32::from_be_bytes([a, b, c, d]);
                    options.timestamp = Some((value, u32::from_be_bytes([e, f, g, h])));
                    rest
                }
                [0, ..] | [] => return options,
                [_, len, ..] if len >= 2 => match bytes.get(usize::from(len)..) {
                    Some(rest) => rest,
                    None => return options,
                },
                [..] => return options,
            };
        }
    }

    /// Writes the options as Linux arranges them, padded to a multiple of four; returns their length.
    pub fn write(&self, buffer: &mut [u8; MAX_OPTIONS]) -> usize {
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(place) = buffer.get_mut(len..len + bytes.len()) {
                place.copy_from_slice(bytes);
                len += bytes.len();
            }
        };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            put(&[2, 4, high, low]);
        }
        if let Some((value, echo)) = self.timestamp {
            put(if self.sack {
                &[4, 2, 8, 10]
            } else {
                &[1, 1, 8, 10]
            });
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        } else if self.sack {
            put(&[1, 1, 4, 2]);
        }
        if let Some(scale) = self.scale {
            put(&[1, 3, 3, scale]);
        }
        len
    }

    /// Only the maximum segment size.
    const fn plain(self) -> Self {
        Self {
            scale: None,
            sack: false,
            timestamp: None,
            ..self
        }
    }

    /// Our timestamp, in units of milliseconds, whose lowest bits say what the client offered.
    const fn to_timestamp(self, now: Instant) -> u32 {
        let scale = match self.scale {
            Some(scale) => scale,
            None => NO_SCALE,
        };
        milliseconds(now) & !0x3f | (self.sack as u32) << 4 | scale as u32
    }

    /// With what the client offered, as our timestamp says that it echoes.
    const fn with_timestamp(self, theirs: u32, ours: u32) -> Self {
        let scale = (ours & 0xf) as u8;
        Self {
            scale: if scale == NO_SCALE { None } else { Some(scale) },
            sack: ours >> 4 & 1 != 0,
            timestamp: Some((theirs, ours)),
            ..self
        }
    }
}

/// Longest list of options that we write.
pub const MAX_OPTIONS: usize = 20;
/// The window scale that we promise for every server: Linux's own with default buffers.
pub const SCALE: u8 = 7;

/// Turns a TCP header around, without its checksum.
fn turn(header: &mut [u8; HEADER_LEN], sequence: u32, acknowledgment: u32, options: usize) {
    let [a, b, c, d, ..] = *header;
    let flags = Flags::SYN.with(Flags::ACK).0;
    let [e, f, g, h] = sequence.to_be_bytes();
    let [i, j, k, l] = acknowledgment.to_be_bytes();
    let offset = ((HEADER_LEN + options) as u8 / 4) << 4;
    *header = [
        c, d, a, b, e, f, g, h, i, j, k, l, offset, flags, 0, 0, 0, 0, 0, 0,
    ];
}

/// Gives the segment back to its sender: IPv4.
fn answer_v4(buffer: &mut [u8], len: usize) -> Option<()> {
    let (header, segment) = ipv4::Header::mut_from_prefix(buffer).ok()?;
    let new = ipv4::Header::new(
        header.destination,
        header.source,
        ipv4::TCP,
        wire::tcp::DEFAULT_TTL,
        len,
    );
    let segment = segment.get_mut(..len)?;
    let pseudo = checksum::pseudo_header(new.source, new.destination, ipv4::TCP, len as u16);
    *header = new;
    close(segment, pseudo)
}

/// The same: IPv6.
fn answer_v6(buffer: &mut [u8], len: usize) -> Option<()> {
    let (header, segment) = ipv6::Header::mut_from_prefix(buffer).ok()?;
    let new = ipv6::Header::new(
        header.destination,
        header.source,
        ipv4::TCP,
        wire::tcp::DEFAULT_TTL,
        len,
    );
    let segment = segment.get_mut(..len)?;
    let pseudo = ipv6::pseudo_header(new.source, new.destination, ipv4::TCP, len as u16);
    *header = new;
    close(segment, pseudo)
}

/// Writes the checksum of a segment whose checksum is zero.
fn close(segment: &mut [u8], pseudo: Sum) -> Option<()> {
    let sum = pseudo.bytes(segment).finish();
    *segment.get_mut(16..)?.first_chunk_mut()? = sum.to_be_bytes();
    Some(())
}

/// `N` big-endian words at `at`.
fn words<const N: usize>(bytes: &[u8], at: usize) -> Option<[u32; N]> {
    let (words, _) = bytes.get(at..)?.as_chunks::<4>();
    let words: &[[u8; 4]; N] = words.first_chunk()?;
    Some(words.map(u32::from_be_bytes))
}

fn ports(tcp: &Header) -> u32 {
    u32::from(tcp.source.get()) << 16 | u32::from(tcp.destination.get())
}

const fn cookie(hash: u32, minute: u32, index: u32, sequence: u32) -> u32 {
    let low = hash.wrapping_add(sequence) & ((1 << MSS_SHIFT) - 1);
    (minute & 1) << MINUTE_SHIFT | index << MSS_SHIFT | low
}

/// Periods of 2^26 µs, 67 seconds.
const fn minute(now: Instant) -> u32 {
    (now.as_micros() >> 26) as u32
}

const fn milliseconds(now: Instant) -> u32 {
    (now.as_micros() / 1000) as u32
}

fn mss_index(mss: u16) -> u32 {
    let larger = MSS.iter().skip(1).filter(|entry| **entry <= mss);
    larger.count() as u32
}

/// What a client that does not say its MSS gets (RFC 9293 §3.7.1).
const DEFAULT_MSS: u16 = 536;
/// Default, IPv6 minimum, tunnels, PPPoE and Ethernet with either version; what is between is rounded down.
const MSS: [u16; 8] = [536, 1220, 1340, 1400, 1420, 1440, 1452, 1460];
const MSS_SHIFT: u32 = 28;
const MINUTE_SHIFT: u32 = 31;
const NO_SCALE: u8 = 15;
const HEADER_LEN: usize = wire::tcp::HEADER_LEN;

#[cfg(test)]
pub(crate) mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use time::Duration;
    use zerocopy::IntoBytes;

    use super::*;

    const NOW: Instant = Instant::from_micros(5_000_000_000);
    const CLIENT: [u8; 4] = [198, 51, 100, 7];
    const SERVICE: [u8; 4] = [203, 0, 113, 10];

    /// A segment of the client's, of either version.
    pub(crate) fn segment(
        six: bool,
        sequence: u32,
        acknowledgment: u32,
        flags: Flags,
        options: &Options,
    ) -> Vec<u8> {
        let mut list = [0; MAX_OPTIONS];
        let len = options.write(&mut list);
        let mut tcp = Vec::new();
        tcp.extend(40_000_u16.to_be_bytes());
        tcp.extend(443_u16.to_be_bytes());
        tcp.extend(sequence.to_be_bytes());
        tcp.extend(acknowledgment.to_be_bytes());
        tcp.extend([
            ((HEADER_LEN + len) as u8 / 4) << 4,
            flags.0,
            2,
            0,
            0,
            0,
            0,
            0,
        ]);
        tcp.extend(&list[..len]);
        let total = tcp.len();
        let (client, service) = (v6(CLIENT), v6(SERVICE));
        let pseudo = if six {
            ipv6::pseudo_header(client, service, ipv4::TCP, total as u16)
        } else {
            checksum::pseudo_header(CLIENT, SERVICE, ipv4::TCP, total as u16)
        };
        close(&mut tcp, pseudo).unwrap();
        let header = if six {
            ipv6::Header::new(client, service, ipv4::TCP, 60, total)
                .as_bytes()
                .to_vec()
        } else {
            ipv4::Header::new(CLIENT, SERVICE, ipv4::TCP, 60, total)
                .as_bytes()
                .to_vec()
        };
        [header, tcp].concat()
    }

    fn v6(address: [u8; 4]) -> [u8; 16] {
        let mut whole = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        whole[12..].copy_from_slice(&address);
        whole
    }

    fn transport(six: bool) -> usize {
        if six {
            ipv6::HEADER_LEN
        } else {
            ipv4::HEADER_LEN
        }
    }

    /// The TCP header of an answer after everything else was verified: lengths, addresses, checksums.
    fn verified(six: bool, packet: &[u8]) -> (Header, Options) {
        let (header_len, pseudo) = if six {
            let header = ipv6::Header::parse(packet).unwrap();
            assert_eq!(header.total_len(), packet.len());
            assert_eq!(
                (header.source, header.destination),
                (v6(SERVICE), v6(CLIENT))
            );
            let len = packet.len() - ipv6::HEADER_LEN;
            (
                40,
                ipv6::pseudo_header(header.source, header.destination, 6, len as u16),
            )
        } else {
            let (header, len) = ipv4::Header::parse(packet).unwrap();
            assert_eq!(usize::from(header.total_len.get()), packet.len());
            assert_eq!((header.source, header.destination), (SERVICE, CLIENT));
            let rest = packet.len() - len;
            (
                len,
                checksum::pseudo_header(header.source, header.destination, 6, rest as u16),
            )
        };
        let segment = &packet[header_len..];
        assert_eq!(pseudo.bytes(segment).finish(), 0);
        let tcp = *Header::parse(segment).unwrap();
        assert_eq!((tcp.source.get(), tcp.destination.get()), (443, 40_000));
        (tcp, Options::parse(&segment[20..tcp.header_len()]))
    }

    fn answer(cookies: &Cookies, now: Instant, six: bool, syn: &[u8], slack: usize) -> Vec<u8> {
        let mut buffer = syn.to_vec();
        buffer.resize(syn.len() + slack, 0);
        let len = cookies
            .answer(now, &mut buffer, transport(six), 1460)
            .unwrap();
        buffer.truncate(len);
        buffer
    }

    fn linux() -> Options {
        Options {
            mss: Some(1460),
            scale: Some(9),
            sack: true,
            timestamp: Some((77, 0)),
        }
    }

    #[test]
    fn a_handshake() {
        let cookies = Cookies::new(Key::secret(1, 0));
        for six in [false, true] {
            let syn = segment(six, 1000, 0, Flags::SYN, &linux());
            let answer = answer(&cookies, NOW, six, &syn, 0);
            let (tcp, options) = verified(six, &answer);
            assert_eq!(tcp.flags(), Flags::SYN.with(Flags::ACK));
            assert_eq!((tcp.acknowledgment.get(), tcp.window.get()), (1001, 0));
            let (ours, theirs) = options.timestamp.unwrap();
            assert_eq!(
                (options.mss, options.scale, options.sack, theirs),
                (Some(1460), Some(SCALE), true, 77)
            );

            let sent = Options {
                timestamp: Some((80, ours)),
                ..Options::default()
            };
            for (probe, sequence) in [(false, 1001), (true, 1000)] {
                let next = tcp.sequence.get().wrapping_add(1);
                let ack = segment(six, sequence, next, Flags::ACK, &sent);
                let opened = cookies.check(NOW + Duration::from_secs(60), &ack, transport(six));
                let expected = Opened {
                    cookie: tcp.sequence.get(),
                    sequence: 1000,
                    options: Options {
                        timestamp: Some((80, ours)),
                        ..linux()
                    },
                };
                assert_eq!(opened, Some(expected), "probe: {probe}");
            }
        }
    }

    #[test]
    fn options_that_do_not_fit_are_left_out() {
        let cookies = Cookies::new(Key::secret(1, 0));
        for six in [false, true] {
            let bare = segment(six, 1000, 0, Flags::SYN, &Options::default());
            let (_, options) = verified(six, &answer(&cookies, NOW, six, &bare, 3));
            assert_eq!(options, Options::default());
            let (_, options) = verified(six, &answer(&cookies, NOW, six, &bare, 6));
            assert_eq!(
                options,
                Options {
                    mss: Some(1460),
                    ..Options::default()
                }
            );
        }
    }

    #[test]
    fn cookies_are_good_for_their_own_connection_and_time_only() {
        let cookies = Cookies::new(Key::secret(1, 0));
        let syn = segment(false, 1000, 0, Flags::SYN, &linux());
        let (tcp, _) = verified(false, &answer(&cookies, NOW, false, &syn, 0));
        let next = tcp.sequence.get().wrapping_add(1);
        let ack = segment(false, 1001, next, Flags::ACK, &Options::default());
        let good = |now, packet: &[u8]| cookies.check(now, packet, 20).is_some();
        assert!(good(NOW, &ack));
        assert!(good(NOW + Duration::from_secs(67), &ack));
        assert!(!good(NOW + Duration::from_secs(135), &ack));
        assert!(
            Cookies::new(Key::secret(2, 0))
                .check(NOW, &ack, 20)
                .is_none()
        );
        // Addresses, ports, both sequence numbers: any other bit is another connection.
        for byte in (12..20).chain(20..32) {
            for bit in 0..8 {
                let mut other = ack.clone();
                other[byte] ^= 1 << bit;
                // The lowest bits tell a window probe from an ACK, and the highest four of the sequence number
                // are not in the cookie.
                let free = byte == 24 && bit >= 4 || matches!((byte, bit), (27 | 31, 0));
                if !free {
                    assert!(!good(NOW, &other), "byte {byte}, bit {bit}");
                }
            }
        }
    }

    #[test]
    fn segment_sizes_are_rounded_down() {
        for (mss, index) in [
            (0, 0),
            (536, 0),
            (1219, 0),
            (1220, 1),
            (1459, 6),
            (1460, 7),
            (9000, 7),
        ] {
            assert_eq!(mss_index(mss), index, "{mss}");
        }
    }

    proptest! {
        /// What is offered comes back, as far as an answer can keep it.
        #[test]
        fn offers_come_back(
            seed: u64, sequence: u32, mss in prop::option::of(536_u16..), scale in prop::option::of(0_u8..=14),
            sack: bool, value in prop::option::of(any::<u32>()), six: bool, later in 0_u64..67,
        ) {
            let cookies = Cookies::new(Key::secret(seed, 0));
            let offer = Options { mss, scale, sack, timestamp: value.map(|value| (value, 0)) };
            let syn = segment(six, sequence, 0, Flags::SYN, &offer);
            let (tcp, options) = verified(six, &answer(&cookies, NOW, six, &syn, 20));
            let sent = Options {
                timestamp: options.timestamp.map(|(ours, theirs)| (theirs.wrapping_add(1), ours)),
                ..Options::default()
            };
            let next = tcp.sequence.get().wrapping_add(1);
            let ack = segment(six, sequence.wrapping_add(1), next, Flags::ACK, &sent);
            let now = NOW + Duration::from_secs(later);
            let opened = cookies.check(now, &ack, transport(six)).unwrap();
            prop_assert_eq!(opened.sequence, sequence);
            prop_assert!(opened.options.mss.unwrap() <= mss.unwrap_or(536));
            let kept = if value.is_some() { (scale, sack) } else { (None, false) };
            prop_assert_eq!((opened.options.scale, opened.options.sack), kept);
        }

        /// Whatever a SYN says, the answer is well-formed or there is none.
        #[test]
        fn odd_packets_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..90), at in 0_usize..60) {
            let cookies = Cookies::new(Key::secret(1, 0));
            let _ = cookies.check(NOW, &bytes, at);
            let room = bytes.len();
            let len = cookies.answer(NOW, &mut bytes, at, 1460);
            prop_assert!(len.is_none_or(|len| len <= room));
        }

        #[test]
        fn options_written_are_options_read(mss: Option<u16>, scale in prop::option::of(0_u8..=14), sack: bool, timestamp: Option<(u32, u32)>) {
            let options = Options { mss, scale, sack, timestamp };
            let mut bytes = [0; MAX_OPTIONS];
            let len = options.write(&mut bytes);
            prop_assert_eq!(len % 4, 0);
            prop_assert_eq!(Options::parse(&bytes[..len]), options);
        }
    }
}
