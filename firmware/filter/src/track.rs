//! What the filter remembers of a conversation, and for how long.

use time::Instant;
use wire::tcp::Flags;

use crate::packet::Kind;

/// Who sent a packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The side that opened the flow.
    Original,
    /// The side that answers.
    Reply,
}

/// State of a flow. TCP's are coarse: sequence numbers are not tracked (see the README).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No flow.
    #[default]
    Free,
    /// SYN seen, no answer yet.
    Opening,
    /// SYN answered.
    Answered,
    /// Data may flow.
    Established,
    /// Taken up in the middle after a take-over; only one side heard so far.
    PickedUp,
    /// FIN seen from the side that opened.
    ClosingOriginal,
    /// FIN seen from the side that answered.
    ClosingReply,
    /// FIN seen from both sides, or RST.
    Closed,
    /// UDP, ping or another protocol, no answer yet.
    Asked,
    /// UDP, ping or another protocol, answered.
    Talking,
}

impl State {
    /// The state that the first packet of a flow begins with.
    #[must_use]
    pub const fn first(kind: Kind) -> Self {
        match kind {
            Kind::Tcp(flags) if flags.opens() => Self::Opening,
            Kind::Tcp(_) => Self::PickedUp,
            Kind::Udp | Kind::EchoRequest | Kind::EchoReply | Kind::Error(_) | Kind::Other => {
                Self::Asked
            }
        }
    }

    /// The state after one more packet.
    #[must_use]
    pub const fn next(self, direction: Direction, kind: Kind) -> Self {
        let Kind::Tcp(flags) = kind else {
            return match (self, direction) {
                (Self::Asked, Direction::Reply) => Self::Talking,
                (state, _) => state,
            };
        };
        if flags.contains(Flags::RST) {
            return Self::Closed;
        }
        if flags.contains(Flags::FIN) {
            return match (self, direction) {
                (Self::ClosingOriginal, Direction::Reply)
                | (Self::ClosingReply, Direction::Original)
                | (Self::Closed, _) => Self::Closed,
                (_, Direction::Original) => Self::ClosingOriginal,
                (_, Direction::Reply) => Self::ClosingReply,
            };
        }
        match (self, direction) {
            (Self::Opening, Direction::Reply) if flags.contains(Flags::SYN) => Self::Answered,
            (Self::Opening | Self::PickedUp, Direction::Reply) => Self::Established,
            (Self::Answered, Direction::Original) if !flags.contains(Flags::SYN) => {
                Self::Established
            }
            (state, _) => state,
        }
    }

    /// How long the flow lives without another packet.
    #[must_use]
    pub const fn timeout(self) -> Ticks {
        match self {
            Self::Free => Ticks::from_secs(0),
            Self::Opening | Self::Answered => Ticks::from_secs(30),
            // RFC 5382 REQ-5: not less than 2 hours 4 minutes.
            Self::Established => Ticks::from_secs(7_440),
            Self::PickedUp => Ticks::from_secs(300),
            Self::ClosingOriginal | Self::ClosingReply => Ticks::from_secs(240),
            // Long enough for the last ACKs; RFC 5382 REQ-5 would have 4 minutes, which lets short
            // connections fill a small table. A new SYN may reuse the tuple at once.
            Self::Closed => Ticks::from_secs(10),
            Self::Asked => Ticks::from_secs(30),
            // RFC 4787 REQ-5: not less than 2 minutes; RFC 5508 REQ-2 asks 60 s for pings.
            Self::Talking => Ticks::from_secs(180),
        }
    }

    /// Whether the flow may make room for another under pressure: nobody answered, or it is over.
    #[must_use]
    pub const fn is_expendable(self) -> bool {
        match self {
            Self::Free | Self::Opening | Self::PickedUp | Self::Closed | Self::Asked => true,
            Self::Answered
            | Self::Established
            | Self::ClosingOriginal
            | Self::ClosingReply
            | Self::Talking => false,
        }
    }
}

/// Time in units of 65.536 ms: 32 bits last for 8.9 years before they wrap, and getting there from
/// microseconds is a shift.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks(u32);

impl Ticks {
    /// The tick of a moment.
    #[must_use]
    pub const fn at(now: Instant) -> Self {
        Self((now.as_micros() >> SHIFT) as u32)
    }

    /// At least this many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(((seconds * 1_000_000) >> SHIFT) as u32 + 1)
    }

    /// This moment and `span` more.
    #[must_use]
    pub const fn after(self, span: Self) -> Self {
        Self(self.0.wrapping_add(span.0))
    }

    /// Ticks from here to `later`; negative if that has passed.
    #[must_use]
    pub const fn until(self, later: Self) -> i32 {
        later.0.wrapping_sub(self.0).cast_signed()
    }
}

const SHIFT: u32 = 16;

#[cfg(test)]
mod tests {
    use super::Direction::{Original, Reply};
    use super::State::*;
    use super::*;

    const SYN: Kind = Kind::Tcp(Flags::SYN);
    const SYN_ACK: Kind = Kind::Tcp(Flags::SYN.with(Flags::ACK));
    const ACK: Kind = Kind::Tcp(Flags::ACK);
    const FIN: Kind = Kind::Tcp(Flags::FIN.with(Flags::ACK));
    const RST: Kind = Kind::Tcp(Flags::RST);

    #[test]
    fn conversations() {
        type Story<'a> = (&'a str, Kind, &'a [(Direction, Kind, State)]);
        let table: [Story<'_>; 7] = [
            (
                "a whole connection",
                SYN,
                &[
                    (Original, SYN, Opening),
                    (Reply, SYN_ACK, Answered),
                    (Reply, SYN_ACK, Answered),
                    (Original, ACK, Established),
                    (Reply, ACK, Established),
                    (Original, FIN, ClosingOriginal),
                    (Original, FIN, ClosingOriginal),
                    (Reply, ACK, ClosingOriginal),
                    (Reply, FIN, Closed),
                    (Original, ACK, Closed),
                ],
            ),
            (
                "server closes",
                SYN,
                &[
                    (Reply, SYN_ACK, Answered),
                    (Original, ACK, Established),
                    (Reply, FIN, ClosingReply),
                    (Original, FIN, Closed),
                ],
            ),
            ("refused", SYN, &[(Reply, RST, Closed)]),
            (
                "reset",
                SYN,
                &[
                    (Reply, SYN_ACK, Answered),
                    (Original, ACK, Established),
                    (Original, RST, Closed),
                ],
            ),
            (
                "answer missed",
                SYN,
                &[(Original, ACK, Opening), (Reply, ACK, Established)],
            ),
            (
                "picked up",
                ACK,
                &[(Original, ACK, PickedUp), (Reply, ACK, Established)],
            ),
            (
                "datagrams",
                Kind::Udp,
                &[
                    (Original, Kind::Udp, Asked),
                    (Reply, Kind::Udp, Talking),
                    (Original, Kind::Udp, Talking),
                ],
            ),
        ];
        for (name, first, packets) in table {
            let mut state = State::first(first);
            for (step, (direction, kind, after)) in packets.iter().enumerate() {
                state = state.next(*direction, *kind);
                assert_eq!(state, *after, "{name}, packet {step}");
            }
        }
    }

    #[test]
    fn ticks_count_and_wrap() {
        let now = Ticks::at(Instant::from_micros(3_000_000));
        let end = now.after(Ticks::from_secs(30));
        assert!(Ticks::at(Instant::from_micros(33_000_000)).until(end) >= 0);
        assert!(Ticks::at(Instant::from_micros(33_200_000)).until(end) < 0);
        let late = Ticks(u32::MAX);
        assert_eq!(late.until(late.after(Ticks(5))), 5);
    }
}
