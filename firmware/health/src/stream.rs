//! A TCP client that is as small as a check: it connects, says little, hears the answer in order and closes
//! (RFC 9293). It keeps no data: what it sends can be made again, what it hears is handed on at once.

use time::{Duration, Instant};
use wire::tcp::Flags;

use crate::Segment;

/// One connection to a server.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Our port.
    pub port: u16,
    phase: Phase,
    /// Number of the SYN; the first byte of data has the next.
    first: u32,
    /// The oldest number that is not acknowledged.
    unacknowledged: u32,
    /// The number of what is sent next.
    next: u32,
    /// The number that we expect from the server.
    expected: u32,
    /// The server has said all it will.
    ended: bool,
    /// When what is not acknowledged is sent again.
    resend: Option<Instant>,
    tries: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Our SYN is under way.
    Connecting,
    /// Both ways are open.
    Open,
    /// Our FIN was sent.
    Closing,
}

/// Header fields of a segment to send, and which bytes of our side's data it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Out {
    pub sequence: u32,
    pub acknowledgment: u32,
    pub flags: Flags,
    pub offset: u16,
    pub len: u16,
}

/// What a segment brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard<'a> {
    /// The next bytes of the answer.
    pub data: &'a [u8],
    /// The server has said all it will.
    pub end: bool,
    /// The server ended the connection.
    pub reset: Option<Ended>,
    /// It has to be acknowledged.
    pub acknowledge: bool,
    /// It belongs to a connection that ended long ago.
    pub stray: bool,
}

/// How a server ends a connection at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Refused,
    Reset,
}

/// Receive window that is announced. Each segment is consumed when it comes, so it never shrinks.
pub const WINDOW: u16 = 4096;
/// Most data in a segment: what everybody takes who did not announce more (RFC 9293 §3.7.1).
pub const MAX_SEGMENT: u16 = 536;
/// Time until the first repetition; each later one takes twice as long. Servers are near.
const RESEND: Duration = Duration::from_millis(200);
const MAX_TRIES: u8 = 5;

impl Stream {
    /// A connection from `port` with this initial sequence number, and its SYN.
    pub fn connect(now: Instant, port: u16, sequence: u32) -> (Self, Out) {
        let mut stream = Self {
            port,
            phase: Phase::Connecting,
            first: sequence,
            unacknowledged: sequence,
            next: sequence.wrapping_add(1),
            expected: 0,
            ended: false,
            resend: None,
            tries: 0,
        };
        stream.set_timer(now);
        let out = stream.syn();
        (stream, out)
    }

    /// Whether the server has accepted the connection.
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Connecting
    }

    /// Whether both sides have closed, and know it.
    pub fn is_over(&self) -> bool {
        self.ended && self.phase == Phase::Closing && self.unacknowledged == self.next
    }

    /// Whether the server has said all it will.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// When [`Self::repeat`] has work.
    pub fn deadline(&self) -> Option<Instant> {
        self.resend
    }

    /// Takes a segment of this connection.
    pub fn receive<'a>(&mut self, now: Instant, segment: &Segment<'a>) -> Heard<'a> {
        match self.phase {
            Phase::Connecting => self.connected(segment),
            Phase::Open | Phase::Closing => self.established(now, segment),
        }
    }

    /// What is to be sent now: data of ours that has `total` bytes in all, the end of it, or an acknowledgment
    /// if one is due. One piece of data is under way at a time.
    pub fn send(
        &mut self,
        now: Instant,
        total: u16,
        close: bool,
        acknowledge: bool,
    ) -> Option<Out> {
        if self.phase == Phase::Connecting {
            return None;
        }
        let sent = self.next.wrapping_sub(self.first.wrapping_add(1)) as u16;
        if self.phase == Phase::Open && self.unacknowledged == self.next {
            if sent < total {
                let len = (total - sent).min(MAX_SEGMENT);
                self.next = self.next.wrapping_add(len.into());
                self.tries = 0;
                self.set_timer(now);
                return Some(self.piece());
            }
            if close {
                self.phase = Phase::Closing;
                self.next = self.next.wrapping_add(1);
                self.tries = 0;
                self.set_timer(now);
                return Some(self.piece());
            }
        }
        acknowledge.then_some(Out {
            sequence: self.next,
            acknowledgment: self.expected,
            flags: Flags::ACK,
            offset: 0,
            len: 0,
        })
    }

    /// Sends again what was not acknowledged in time.
    pub fn repeat(&mut self, now: Instant) -> Option<Out> {
        if self.resend.is_none_or(|at| now < at) {
            return None;
        }
        if self.tries >= MAX_TRIES {
            self.resend = None;
            return None;
        }
        self.tries += 1;
        self.set_timer(now);
        Some(match self.phase {
            Phase::Connecting => self.syn(),
            Phase::Open | Phase::Closing => self.piece(),
        })
    }

    /// Ends the connection without further words.
    pub fn reset(&self) -> Out {
        Out {
            sequence: self.next,
            acknowledgment: self.expected,
            flags: Flags::RST.with(Flags::ACK),
            offset: 0,
            len: 0,
        }
    }

    /// RFC 9293 §3.10.7.3.
    fn connected<'a>(&mut self, segment: &Segment<'a>) -> Heard<'a> {
        let flags = Flags(segment.flags);
        if !flags.contains(Flags::ACK) {
            return Heard::default();
        }
        if segment.acknowledgment != self.next {
            // From before our last restart, perhaps: a reset makes room, then our SYN is sent again.
            return Heard {
                stray: !flags.contains(Flags::RST),
                ..Heard::default()
            };
        }
        if flags.contains(Flags::RST) {
            return Heard {
                reset: Some(Ended::Refused),
                ..Heard::default()
            };
        }
        if !flags.contains(Flags::SYN) {
            return Heard::default();
        }
        self.phase = Phase::Open;
        self.unacknowledged = self.next;
        self.expected = segment.sequence.wrapping_add(1);
        self.resend = None;
        Heard {
            acknowledge: true,
            ..Heard::default()
        }
    }

    /// RFC 9293 §3.10.7.4, with the stricter rules of RFC 5961 §3.2 and §4.2 for RST and SYN.
    fn established<'a>(&mut self, now: Instant, segment: &Segment<'a>) -> Heard<'a> {
        let flags = Flags(segment.flags);
        let mut heard = Heard::default();
        // How far the segment begins behind what is expected; "negative" if before.
        let ahead = segment.sequence.wrapping_sub(self.expected);
        let known = self.expected.wrapping_sub(segment.sequence);
        if flags.contains(Flags::RST) {
            match ahead {
                0 => heard.reset = Some(Ended::Reset),
                1..=WINDOW_END => heard.acknowledge = true,
                _ => {}
            }
            return heard;
        }
        if flags.contains(Flags::SYN) || (ahead > WINDOW_END && known > WINDOW_END) {
            heard.acknowledge = true;
            return heard;
        }
        if !flags.contains(Flags::ACK) || !self.acknowledged(now, segment.acknowledgment) {
            return heard;
        }
        let fin = flags.contains(Flags::FIN);
        if segment.data.is_empty() && !fin {
            // Keep-alives repeat a number (RFC 9293 §3.8.4) and want an answer.
            heard.acknowledge = ahead != 0;
            return heard;
        }
        heard.acknowledge = true;
        if ahead != 0 && ahead <= WINDOW_END {
            // Something is missing before it: the server will send both again.
            return heard;
        }
        let Some(data) = segment.data.get(known as usize..) else {
            return heard;
        };
        let count = data.len().min(WINDOW.into());
        heard.data = data.get(..count).unwrap_or_default();
        heard.end = fin && count == data.len() && !self.ended;
        self.ended |= heard.end;
        self.expected = self
            .expected
            .wrapping_add(count as u32)
            .wrapping_add(heard.end.into());
        heard
    }

    /// Takes an acknowledgment number; `false` if it is not believable.
    fn acknowledged(&mut self, now: Instant, number: u32) -> bool {
        let outstanding = self.next.wrapping_sub(self.unacknowledged);
        let gained = number.wrapping_sub(self.unacknowledged);
        if gained > outstanding {
            // An old one, or one for something never sent.
            return self.unacknowledged.wrapping_sub(number) <= WINDOW_END;
        }
        if gained > 0 {
            self.unacknowledged = number;
            self.tries = 0;
            self.set_timer(now);
        }
        if self.unacknowledged == self.next {
            self.resend = None;
        }
        true
    }

    fn set_timer(&mut self, now: Instant) {
        self.resend = Some(now + RESEND * (1 << u32::from(self.tries)));
    }

    fn syn(&self) -> Out {
        Out {
            sequence: self.first,
            acknowledgment: 0,
            flags: Flags::SYN,
            offset: 0,
            len: 0,
        }
    }

    /// Everything that is not acknowledged.
    fn piece(&self) -> Out {
        let fin = self.phase == Phase::Closing;
        let start = self.first.wrapping_add(1);
        let outstanding = self.next.wrapping_sub(self.unacknowledged) as u16;
        let len = outstanding.saturating_sub(fin.into());
        let mut flags = Flags::ACK;
        if len > 0 {
            flags = flags.with(Flags::PSH);
        }
        if fin {
            flags = flags.with(Flags::FIN);
        }
        Out {
            sequence: self.unacknowledged,
            acknowledgment: self.expected,
            flags,
            offset: self.unacknowledged.wrapping_sub(start) as u16,
            len,
        }
    }
}

const WINDOW_END: u32 = WINDOW as u32 - 1;
