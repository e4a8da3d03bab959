//! What the filter remembers of a conversation: its state, TCP's windows, and for how long.

use time::Instant;
use wire::tcp::Flags;
use zerocopy::FromZeros;

use crate::packet::{Class, Kind};

/// Who sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// The side that opened the flow.
    Original,
    /// The side that answers.
    Reply,
}

impl Direction {
    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// State of a flow. TCP's are those of netfilter: they follow the states of RFC 9293 §3.3.2 as far as one can tell from
/// the middle, without asking which side closed first. The upper half of the number is the [`Class`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(u8)]
pub enum State {
    /// No flow.
    #[default]
    Free = 0x0f,
    /// SYN seen, no answer yet.
    SynSent = 0x00,
    /// SYN seen from both sides: a simultaneous open (RFC 9293 §3.5).
    SynSent2 = 0x01,
    /// SYN answered.
    SynReceived = 0x02,
    /// Data may flow.
    Established = 0x03,
    /// FIN seen from one side.
    FinWait = 0x04,
    /// That FIN acknowledged.
    CloseWait = 0x05,
    /// FIN seen from both sides.
    LastAck = 0x06,
    /// The last FIN acknowledged.
    TimeWait = 0x07,
    /// RST seen.
    Closed = 0x08,
    /// Taken up in the middle after a take-over; only one side heard so far.
    PickedUp = 0x09,
    /// Established at the former Active. Its windows are learned anew before they count.
    Inherited = 0x0a,
    /// UDP, no answer yet.
    Sent = 0x10,
    /// UDP, answered.
    Talking = 0x11,
    /// Ping without an answer yet.
    Pinged = 0x20,
    /// Ping, answered.
    Answered = 0x21,
    /// Another protocol, no answer yet.
    Asked = 0x30,
    /// Another protocol, answered.
    Mutual = 0x31,
}

/// What a TCP segment does to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The state is now this.
    To(State),
    /// Nothing; it passes. The other side knows what to make of it.
    Keep,
    /// No TCP sends that in this state.
    Invalid,
    /// It opens a new connection in the place of one that is over.
    Reopen,
}

impl State {
    /// How long an established connection lives behind a reset that may have ended it, if nobody of it goes on: as one that is
    /// partially closed (RFC 5382 REQ-5).
    pub const DOUBTED: Ticks = Ticks::from_secs(240);

    /// The state that the first packet of a flow begins with.
    #[must_use]
    pub const fn first(kind: Kind) -> Self {
        match kind {
            Kind::Tcp(flags) if flags.opens() => Self::SynSent,
            Kind::Tcp(_) => Self::PickedUp,
            Kind::Udp => Self::Sent,
            Kind::EchoRequest | Kind::EchoReply => Self::Pinged,
            Kind::Error | Kind::Control | Kind::Part | Kind::Other => Self::Asked,
        }
    }

    /// Which protocol's flow this is.
    #[must_use]
    pub const fn class(self) -> Class {
        match self as u8 >> 4 {
            0 => Class::Tcp,
            1 => Class::Udp,
            2 => Class::Echo,
            _ => Class::Other,
        }
    }

    /// The state with this number, if it is one that the appliances of a pair tell each other of.
    #[must_use]
    pub const fn shared(number: u8) -> Option<Self> {
        Some(match number {
            0x00 => Self::SynSent,
            0x01 => Self::SynSent2,
            0x02 => Self::SynReceived,
            0x03 => Self::Established,
            0x04 => Self::FinWait,
            0x05 => Self::CloseWait,
            0x06 => Self::LastAck,
            0x07 => Self::TimeWait,
            0x08 => Self::Closed,
            0x0a => Self::Inherited,
            0x10 => Self::Sent,
            0x11 => Self::Talking,
            0x20 => Self::Pinged,
            0x21 => Self::Answered,
            0x30 => Self::Asked,
            0x31 => Self::Mutual,
            _ => return None,
        })
    }

    /// The state of a flow without connections after one more packet.
    #[must_use]
    pub const fn next(self, direction: Direction) -> Self {
        match (self, direction) {
            (Self::Sent, Direction::Reply) => Self::Talking,
            (Self::Pinged, Direction::Reply) => Self::Answered,
            (Self::Asked, Direction::Reply) => Self::Mutual,
            (state, _) => state,
        }
    }

    /// What a segment with possible flags does.
    #[must_use]
    pub const fn step(self, direction: Direction, flags: Flags) -> Step {
        if flags.contains(Flags::RST) {
            return match (self, direction) {
                // A client answers so to what an old connection's server says (RFC 9293 §3.5.1). It does not end
                // its own attempt by that.
                (Self::SynSent, Direction::Original) => match flags.contains(Flags::ACK) {
                    true => Step::Invalid,
                    false => Step::Keep,
                },
                _ => Step::To(Self::Closed),
            };
        }
        if flags.contains(Flags::SYN) {
            return match flags.contains(Flags::ACK) {
                true => self.syn_ack(direction),
                false => self.syn(direction),
            };
        }
        if flags.contains(Flags::FIN) {
            return match self {
                Self::SynReceived | Self::Established | Self::PickedUp | Self::Inherited => {
                    Step::To(Self::FinWait)
                }
                Self::FinWait | Self::CloseWait => Step::To(Self::LastAck),
                Self::LastAck | Self::TimeWait | Self::Closed => Step::Keep,
                _ => Step::Invalid,
            };
        }
        match (self, direction) {
            (Self::SynReceived, Direction::Original) => Step::To(Self::Established),
            (Self::FinWait, _) => Step::To(Self::CloseWait),
            (Self::LastAck, _) => Step::To(Self::TimeWait),
            // The answer of a host that has another connection with these ports: the client resets it
            // (RFC 9293 §3.5.2).
            (Self::SynSent | Self::SynSent2, Direction::Reply) => Step::Keep,
            (Self::SynSent | Self::SynSent2 | Self::Free, _) => Step::Invalid,
            _ => Step::Keep,
        }
    }

    const fn syn(self, direction: Direction) -> Step {
        match (self, direction) {
            (Self::TimeWait | Self::Closed, Direction::Original) => Step::Reopen,
            (Self::TimeWait, Direction::Reply) => Step::Reopen,
            (Self::SynSent, Direction::Reply) => Step::To(Self::SynSent2),
            // A repetition, or an attempt of somebody who has forgotten the connection: the other side
            // answers with what it expects (RFC 5961 §4).
            (_, Direction::Original) | (Self::SynSent2, _) => Step::Keep,
            _ => Step::Invalid,
        }
    }

    const fn syn_ack(self, direction: Direction) -> Step {
        match (self, direction) {
            (Self::SynSent, Direction::Reply) | (Self::SynSent2, _) => Step::To(Self::SynReceived),
            (Self::SynReceived, Direction::Original) => Step::To(Self::SynReceived),
            (_, Direction::Reply) => Step::Keep,
            _ => Step::Invalid,
        }
    }

    /// How long the flow lives without another packet.
    #[must_use]
    pub const fn timeout(self) -> Ticks {
        match self {
            Self::Free => Ticks(0),
            // RFC 5382 REQ-5 would have 4 minutes; clients repeat their SYN after 1, 3 and 7 s, servers their answer,
            // and half-open flows are what a flood leaves behind.
            Self::SynSent | Self::SynSent2 => Ticks::from_secs(8),
            Self::SynReceived => Ticks::from_secs(16),
            // RFC 5382 REQ-5: not less than 2 hours 4 minutes.
            Self::Established | Self::Inherited => Ticks::from_secs(7_440),
            Self::PickedUp => Ticks::from_secs(300),
            // RFC 5382 REQ-5: not less than 4 minutes while one side may still send.
            Self::FinWait | Self::CloseWait => Ticks::from_secs(240),
            Self::LastAck => Ticks::from_secs(30),
            // Long enough for the last ACKs; RFC 5382 REQ-5 would have 4 minutes, which lets short
            // connections fill a small table. A new SYN may reuse the tuple at once.
            Self::TimeWait | Self::Closed => Ticks::from_secs(10),
            Self::Sent | Self::Asked => Ticks::from_secs(30),
            // RFC 4787 REQ-5: not less than 2 minutes.
            Self::Talking | Self::Mutual => Ticks::from_secs(180),
            // RFC 5508 REQ-2: not less than 60 seconds.
            Self::Pinged | Self::Answered => Ticks::from_secs(60),
        }
    }

    /// Whether the flow may make room for another under pressure: it was never used by both sides, or it is over.
    #[must_use]
    pub const fn is_expendable(self) -> bool {
        match self {
            Self::Free
            | Self::SynSent
            | Self::SynSent2
            | Self::SynReceived
            | Self::PickedUp
            | Self::TimeWait
            | Self::Closed
            | Self::Sent
            | Self::Pinged
            | Self::Asked => true,
            Self::Established
            | Self::Inherited
            | Self::FinWait
            | Self::CloseWait
            | Self::LastAck
            | Self::Talking
            | Self::Answered
            | Self::Mutual => false,
        }
    }

    /// Whether a handshake is under way.
    #[must_use]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::SynSent | Self::SynSent2 | Self::SynReceived)
    }

    /// Whether the connection is over, and kept for stragglers only.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Closed)
    }
}

/// Time in units of 262.144 ms; getting there from microseconds is a shift. 16 bits wrap after 4.8 hours, so that spans of
/// up to 2.4 hours can be told from moments that have passed: longer than any timeout, and the table is swept far
/// more often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
pub struct Ticks(u16);

impl Ticks {
    /// The first tick.
    pub const ZERO: Self = Self(0);

    /// The tick of a moment.
    #[must_use]
    #[inline]
    pub const fn at(now: Instant) -> Self {
        Self((now.as_micros() >> SHIFT) as u16)
    }

    /// At least this many seconds, at most 8,589.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        let ticks = ((seconds * 1_000_000) >> SHIFT) + 1;
        assert!(ticks < 1 << 15, "a span that 16 bits cannot hold");
        Self(ticks as u16)
    }

    /// This moment and `span` more.
    #[must_use]
    #[inline]
    pub const fn after(self, span: Self) -> Self {
        Self(self.0.wrapping_add(span.0))
    }

    /// Ticks from here to `later`; negative if that has passed.
    #[must_use]
    #[inline]
    pub const fn until(self, later: Self) -> i16 {
        later.0.wrapping_sub(self.0).cast_signed()
    }
}

const SHIFT: u32 = 18;

#[cfg(test)]
mod tests {
    use super::Direction::{Original, Reply};
    use super::State::*;
    use super::*;

    const SYN: Flags = Flags::SYN;
    const SYN_ACK: Flags = Flags::SYN.with(Flags::ACK);
    const ACK: Flags = Flags::ACK;
    const FIN: Flags = Flags::FIN.with(Flags::ACK);
    const RST: Flags = Flags::RST;

    #[test]
    fn conversations() {
        type Story<'a> = (&'a str, State, &'a [(Direction, Flags, Step)]);
        let to = Step::To;
        let table: [Story<'_>; 9] = [
            (
                "a whole connection",
                SynSent,
                &[
                    (Original, SYN, Step::Keep),
                    (Reply, SYN_ACK, to(SynReceived)),
                    (Reply, SYN_ACK, Step::Keep),
                    (Original, ACK, to(Established)),
                    (Reply, ACK, Step::Keep),
                    (Original, FIN, to(FinWait)),
                    (Reply, ACK, to(CloseWait)),
                    (Reply, FIN, to(LastAck)),
                    (Original, ACK, to(TimeWait)),
                    (Original, ACK, Step::Keep),
                    (Original, SYN, Step::Reopen),
                ],
            ),
            (
                "both close at once",
                Established,
                &[
                    (Reply, FIN, to(FinWait)),
                    (Original, FIN, to(LastAck)),
                    (Reply, ACK, to(TimeWait)),
                    (Original, ACK, Step::Keep),
                ],
            ),
            (
                "refused",
                SynSent,
                &[(Reply, RST, to(Closed)), (Original, SYN, Step::Reopen)],
            ),
            (
                "simultaneous open",
                SynSent,
                &[
                    (Reply, SYN, to(SynSent2)),
                    (Original, SYN_ACK, to(SynReceived)),
                    (Reply, SYN_ACK, Step::Keep),
                    (Original, ACK, to(Established)),
                ],
            ),
            (
                "what no client sends before the answer",
                SynSent,
                &[
                    (Original, ACK, Step::Invalid),
                    (Original, FIN, Step::Invalid),
                    (Original, SYN_ACK, Step::Invalid),
                    (Reply, FIN, Step::Invalid),
                    (Original, RST.with(ACK), Step::Invalid),
                    (Reply, ACK, Step::Keep),
                    (Original, RST, Step::Keep),
                ],
            ),
            (
                "a SYN inside a connection is answered by the other end",
                Established,
                &[
                    (Original, SYN, Step::Keep),
                    (Reply, SYN, Step::Invalid),
                    (Original, SYN_ACK, Step::Invalid),
                    (Reply, SYN_ACK, Step::Keep),
                ],
            ),
            (
                "the server does not open a closed connection",
                Closed,
                &[(Reply, SYN, Step::Invalid), (Reply, ACK, Step::Keep)],
            ),
            (
                "data and FIN with the last handshake segment lost",
                SynReceived,
                &[(Reply, ACK, Step::Keep), (Original, FIN, to(FinWait))],
            ),
            (
                "picked up",
                PickedUp,
                &[(Original, ACK, Step::Keep), (Reply, FIN, to(FinWait))],
            ),
        ];
        for (name, first, segments) in table {
            let mut state = first;
            for (number, (direction, flags, expected)) in segments.iter().enumerate() {
                let step = state.step(*direction, *flags);
                assert_eq!(step, *expected, "{name}, segment {number}");
                if let Step::To(next) = step {
                    state = next;
                }
            }
        }
    }

    #[test]
    fn an_answer_makes_a_conversation() {
        for kind in [Kind::Udp, Kind::EchoRequest, Kind::Other] {
            let first = State::first(kind);
            assert_eq!(first.next(Original), first);
            assert!(first.is_expendable());
            let answered = first.next(Reply);
            assert_ne!(answered, first);
            assert!(!answered.is_expendable());
            assert_eq!(answered.next(Reply), answered);
            assert_eq!(Some(answered.class()), kind.class());
        }
    }

    #[test]
    fn ticks_count_and_wrap() {
        let now = Ticks::at(Instant::from_micros(3_000_000));
        let end = now.after(Ticks::from_secs(30));
        assert!(Ticks::at(Instant::from_micros(33_000_000)).until(end) >= 0);
        assert!(Ticks::at(Instant::from_micros(33_600_000)).until(end) < 0);
        let late = Ticks(u16::MAX);
        assert_eq!(late.until(late.after(Ticks(5))), 5);
    }
}
