//! TCP's windows as seen from the middle (van Rooij, "Real stateful TCP packet filtering in IP Filter", 2001): which
//! sequence and acknowledgment numbers either side can send.

use wire::tcp::{self, Flags};
use zerocopy::FromZeros;

use crate::track::Direction;

/// The sequence numbers of one side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
pub struct Side {
    /// Behind the last byte that it sent.
    pub end: u32,
    /// Behind the last byte that it may send: the other side's acknowledgment plus window.
    pub limit: u32,
}

/// The largest window that a side has announced, and its scale: twelve bits that count in units of 16, four bits of
/// scale. Always a little more than what was announced, never less. Zero before the side's first segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Window(u16);

impl Side {
    /// No segment is half of all numbers long: that stands for a limit that nobody knows.
    const AGED: u32 = 1 << 31;

    const fn aged(self) -> Self {
        Self {
            end: self.end,
            limit: self.end.wrapping_add(Self::AGED),
        }
    }

    const fn is_aged(self) -> bool {
        self.limit.wrapping_sub(self.end) == Self::AGED
    }
}

impl Window {
    /// The window field of a segment, and the scale that goes with it.
    #[must_use]
    pub const fn new(window: u16, scale: u8) -> Self {
        let window = if window < 16 { 16 } else { window };
        Self(window & !0xf | (scale & 0xf) as u16)
    }

    /// A window of these [`Self::bits`].
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Window and scale as one number.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the side has not been heard yet.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 == 0
    }

    /// The number of bits that window fields are shifted by (RFC 7323 §2.2).
    #[must_use]
    #[inline(always)]
    pub const fn scale(self) -> u32 {
        (self.0 & 0xf) as u32
    }

    /// At least as many bytes as the side has ever announced.
    #[must_use]
    #[inline(always)]
    pub const fn bytes(self) -> u32 {
        ((self.0 | 0xf) as u32 + 1) << self.scale()
    }
}

/// What both sides of a connection have sent and announced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
pub struct Windows {
    /// Sequence numbers of the side that opened, and of the other.
    pub sides: [Side; 2],
    /// Windows of the side that opened, and of the other.
    pub announced: [Window; 2],
}

/// The numbers of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number.
    pub sequence: u32,
    /// Sequence number behind its last byte; SYN and FIN count as one.
    pub end: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Window field, unscaled.
    pub window: u16,
    /// Control bits.
    pub flags: Flags,
    /// Window scale option of a SYN.
    pub scale: Option<u8>,
}

impl Segment {
    /// Reads the segment at the front of `bytes`, which the packet's checks have passed.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = tcp::Header::parse(bytes)?;
        let flags = header.flags();
        let data = bytes.len() - header.header_len();
        let control =
            u32::from(flags.0 & Flags::SYN.0 != 0) + u32::from(flags.0 & Flags::FIN.0 != 0);
        let sequence = header.sequence.get();
        let syn = flags.contains(Flags::SYN);
        let options = bytes.get(tcp::HEADER_LEN..header.header_len());
        Some(Self {
            sequence,
            end: sequence.wrapping_add(data as u32).wrapping_add(control),
            acknowledgment: header.acknowledgment.get(),
            window: header.window.get(),
            flags,
            scale: options.filter(|_| syn).and_then(scale),
        })
    }
}

/// The window scale among a SYN's options (RFC 7323 §2.2); larger ones count as 14 (§2.3).
fn scale(mut options: &[u8]) -> Option<u8> {
    loop {
        options = match options {
            [3, 3, scale, ..] => return Some((*scale).min(MAX_SCALE)),
            [] | [0, ..] => return None,
            [1, rest @ ..] => rest,
            [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..)?,
            [_, ..] => return None,
        };
    }
}

impl Windows {
    /// Nobody was heard yet.
    pub const NONE: Self = Self {
        sides: [Side { end: 0, limit: 0 }; 2],
        announced: [Window(0); 2],
    };

    /// The windows after the first segment of a flow; `from` sent it.
    #[must_use]
    pub fn first(from: Direction, segment: &Segment) -> Self {
        let mut windows = Self::default();
        windows.hear(from, segment);
        windows
    }

    /// Whether both sides have been heard.
    #[must_use]
    pub const fn are_known(&self) -> bool {
        !self.announced[0].is_unknown() && !self.announced[1].is_unknown()
    }

    /// Whether a segment is a reset that does not follow at once on what its side has sent.
    #[must_use]
    pub fn is_doubtful(&self, from: Direction, segment: &Segment) -> bool {
        let me = from as usize & 1;
        segment.flags.contains(Flags::RST)
            && !self.announced[me].is_unknown()
            && segment.sequence != self.sides[me].end
    }

    /// The same, as somebody knows them who has not seen what was sent since: what the sides have announced still holds.
    #[must_use]
    pub const fn aged(mut self) -> Self {
        self.sides[0] = self.sides[0].aged();
        self.sides[1] = self.sides[1].aged();
        self
    }

    /// Whether what both sides have sent is known.
    #[must_use]
    pub const fn are_fresh(&self) -> bool {
        !self.sides[0].is_aged() && !self.sides[1].is_aged()
    }

    /// Takes a segment as one that its side sent, whatever was known of it.
    pub fn renew(&mut self, from: Direction, segment: &Segment) {
        let other = from.opposite() as usize & 1;
        self.hear_again(from, segment);
        if segment.flags.contains(Flags::ACK) {
            // It may acknowledge what went another way.
            if after(segment.acknowledgment, self.sides[other].end) {
                self.sides[other].end = segment.acknowledgment;
            }
            self.advance(from, segment);
        }
    }

    /// Takes the first segment of a side whose windows are aged.
    fn hear_again(&mut self, from: Direction, segment: &Segment) {
        let (me, other) = (from as usize & 1, from.opposite() as usize & 1);
        let room = self.announced[other].bytes();
        self.sides[me] = Side {
            end: segment.end,
            limit: segment.end.wrapping_add(room),
        };
    }

    /// Takes the first segment of one side.
    fn hear(&mut self, from: Direction, segment: &Segment) {
        let (me, other) = (from as usize & 1, from.opposite() as usize & 1);
        self.sides[me].end = segment.end;
        self.sides[me].limit = segment.end;
        if segment.flags.contains(Flags::SYN) {
            // A SYN's own window is not scaled (RFC 7323 §2.2).
            let scale = segment.scale.unwrap_or(0);
            self.announced[me] = Window::new(unscaled(segment.window, scale.into()), scale);
            let theirs = self.announced[other];
            if segment.scale.is_none() && !theirs.is_unknown() {
                // Both sides must offer it (RFC 7323 §1.3).
                self.announced[other] = Window::new(theirs.bytes().min(0xffff) as u16, 0);
            }
            // What the other side's SYN has announced may be used at once.
            if !theirs.is_unknown() {
                let room = self.announced[other].bytes();
                self.sides[me].limit = segment.end.wrapping_add(room);
            }
        } else {
            // Taken up in the middle: nobody knows the scale, so it may be the largest.
            self.announced[me] = Window::new(segment.window, MAX_SCALE);
            self.sides[me].limit = segment.end.wrapping_add(self.announced[me].bytes());
            if self.announced[other].is_unknown() {
                self.sides[other] = Side {
                    end: segment.acknowledgment,
                    limit: segment.acknowledgment,
                };
            }
        }
    }

    /// For a while after a take-over: what a side acknowledges was sent, though not through here. If what was sent last before is
    /// heard again first, the acknowledgments of all that followed it would otherwise never pass.
    pub fn catch_up(&mut self, from: Direction, segment: &Segment) {
        let other = &mut self.sides[from.opposite() as usize & 1];
        let acknowledgment = segment.acknowledgment;
        if segment.flags.contains(Flags::ACK)
            && !segment.flags.contains(Flags::RST)
            && !other.is_aged()
            && after(acknowledgment, other.end)
            && !after(acknowledgment, other.limit)
        {
            other.end = acknowledgment;
        }
    }

    /// Compares any segment with the windows and moves them. `true`: it is inside.
    ///
    /// A side's first segment is taken as it is, a SYN may be sent anew with other numbers, and a RST without ACK is
    /// judged by its sequence number alone.
    pub fn check(&mut self, from: Direction, segment: &Segment, opening: bool) -> bool {
        let (me, other) = (from as usize & 1, from.opposite() as usize & 1);
        let mut segment = *segment;
        let ack = segment.flags.contains(Flags::ACK);
        let syn = segment.flags.contains(Flags::SYN);
        if !ack {
            segment.acknowledgment = self.sides[other].end;
        }
        if self.announced[me].is_unknown() {
            if segment.flags.contains(Flags::RST) {
                // Nothing is known of its sender but what it acknowledges (RFC 9293 §3.10.7.3).
                return ack && segment.acknowledgment == self.sides[other].end;
            }
            self.hear(from, &segment);
            if syn && !ack {
                return true;
            }
        } else if self.sides[me].is_aged() {
            if segment.flags.contains(Flags::RST) {
                return true;
            }
            self.hear_again(from, &segment);
        } else if syn && opening && after(segment.end, self.sides[me].end) {
            self.hear(from, &segment);
        }
        if ack && self.sides[other].is_aged() {
            let end = segment.acknowledgment;
            self.sides[other] = Side { end, limit: end }.aged();
        }
        if syn {
            segment.window = unscaled(segment.window, self.announced[me].scale());
        }
        self.advance(from, &segment)
    }

    /// Compares a segment that has an ACK with the windows and moves them.
    #[inline(always)]
    pub fn advance(&mut self, from: Direction, segment: &Segment) -> bool {
        let (me, other) = (from as usize & 1, from.opposite() as usize & 1);
        let (sequence, end) = (segment.sequence, segment.end);
        let (sender, received) = (self.sides[me], self.announced[other]);
        if after(sequence, sender.limit) || after(sender.end.wrapping_sub(received.bytes()), end) {
            return false;
        }
        let acknowledgment = segment.acknowledgment;
        let (receiver, sent) = (self.sides[other], self.announced[me]);
        // As much of what the receiver sent may be acknowledged late.
        let late = sent.bytes().max(MIN_LATE);
        if after(acknowledgment, receiver.end)
            || after(receiver.end.wrapping_sub(late), acknowledgment)
        {
            return false;
        }
        let window = segment.window;
        if window > sent.0 | 0xf {
            self.announced[me] = Window(window & !0xf | sent.0 & 0xf);
        }
        // A window of zero still admits a probe of one byte (RFC 9293 §3.8.6.1).
        let room = (u32::from(window) << sent.scale()).max(1);
        let limit = acknowledgment.wrapping_add(room);
        if after(limit, receiver.limit) {
            self.sides[other].limit = limit;
        }
        if after(end, sender.end) {
            self.sides[me].end = end;
            if after(end, sender.limit) {
                self.exceeded(other, end.wrapping_sub(sender.limit));
            }
        }
        true
    }

    /// A segment that began inside the window and ends beyond it may be sent again: as if it had been announced.
    #[cold]
    fn exceeded(&mut self, receiver: usize, by: u32) {
        let window = self.announced[receiver & 1];
        if window.is_unknown() {
            return;
        }
        let units = (by >> window.scale()).saturating_add(1);
        let raised = u32::from(window.0 & !0xf)
            .saturating_add(units)
            .next_multiple_of(16);
        self.announced[receiver & 1] = Window(raised.min(0xfff0) as u16 | window.0 & 0xf);
    }
}

/// The window field of a SYN as later segments would say it.
const fn unscaled(window: u16, scale: u32) -> u16 {
    (window as u32).div_ceil(1 << scale) as u16
}

/// Whether `a` comes after `b` in the circle of sequence numbers (RFC 9293 §3.4).
#[inline(always)]
const fn after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a).cast_signed() < 0
}

/// Largest scale (RFC 7323 §2.3).
const MAX_SCALE: u8 = 14;
/// Acknowledgments may lag behind by this much at least: segments in flight when a window shrinks.
const MIN_LATE: u32 = 66_000;

#[cfg(test)]
mod tests;
