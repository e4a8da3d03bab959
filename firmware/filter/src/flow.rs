//! One flow: what it takes to know its packets again, to judge them and to translate them.

use zerocopy::FromZeros;

use crate::address::Address;
use crate::packet::Tuple;
use crate::rewrite::Change;
use crate::route::{Hop, Routes};
use crate::track::{Direction, State, Ticks};
use crate::window::Windows;

/// One flow: 52 bytes for IPv4, 100 for IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
#[repr(C)]
pub struct Flow<A> {
    /// What packets of either side carry when they arrive. They leave with the other one, reversed.
    pub tuples: [Tuple<A>; 2],
    /// TCP's sequence numbers.
    pub windows: Windows,
    /// When it ends without another packet.
    pub expiry: Ticks,
    /// What happens to checksums over the addresses when the first side's packets are translated.
    pub change: Change,
    /// Protocol and state.
    pub state: State,
    /// Two halves: the leg that either side's packets come in from, and whether it is reached by the default router.
    paths: [u8; 1],
    owner: Owner,
    extra: Extra,
}

/// The real server that a flow counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
pub struct Owner(u8);

impl Owner {
    /// A flow of no service.
    pub const NONE: Self = Self(0xff);

    /// Server `choice` (below 15) of `service` (below 16).
    #[must_use]
    pub const fn new(service: usize, choice: usize) -> Self {
        Self((service as u8 & 0xf) << 4 | choice as u8 & 0xf)
    }

    /// Index of the service and of its server.
    #[must_use]
    pub const fn get(self) -> Option<(usize, usize)> {
        match self.0 & 0xf {
            0xf => None,
            choice => Some(((self.0 >> 4) as usize, choice as usize)),
        }
    }
}

impl Default for Owner {
    fn default() -> Self {
        Self::NONE
    }
}

/// The limit that a flow counts for, and whether its packets need more than the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromZeros)]
struct Extra(u8);

const SPECIAL: u8 = 0x80;
const NO_LIMIT: u8 = 0x7f;

impl Default for Extra {
    fn default() -> Self {
        Self(NO_LIMIT)
    }
}

/// Where one side of a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path {
    /// The leg.
    pub leg: u8,
    /// Behind the default router, not a neighbour.
    pub routed: bool,
}

impl Path {
    const fn bits(self) -> u8 {
        self.leg & 7 | (self.routed as u8) << 3
    }

    #[inline(always)]
    pub(crate) const fn from_bits(bits: u8) -> Self {
        Self {
            leg: bits & 7,
            routed: bits & 8 != 0,
        }
    }
}

impl<A: Address> Flow<A> {
    /// All zeros: no flow, and not even the place of one.
    pub const ZERO: Self = Self {
        tuples: [Tuple::ZERO; 2],
        windows: Windows::NONE,
        expiry: Ticks::ZERO,
        change: Change::NONE,
        state: State::SynSent,
        paths: [0],
        owner: Owner(0),
        extra: Extra(0),
    };

    /// A flow whose first side sends `original` from `from`, and whose second side answers with `reply` from `to`.
    #[must_use]
    pub fn new(original: Tuple<A>, reply: Tuple<A>, state: State, from: Path, to: Path) -> Self {
        let leaves = reply.reversed();
        let change = Change::NONE
            .address(original.source, leaves.source)
            .address(original.destination, leaves.destination);
        Self {
            tuples: [original, reply],
            windows: Windows::default(),
            expiry: Ticks::default(),
            change,
            state,
            paths: [from.bits() | to.bits() << 4],
            owner: Owner::NONE,
            extra: Extra::default(),
        }
    }

    /// The same, counted for a real server.
    #[must_use]
    pub const fn owned_by(self, owner: Owner) -> Self {
        Self { owner, ..self }
    }

    /// The same, counted for a limit (below 127).
    #[must_use]
    pub const fn limited_by(self, limit: Option<u8>) -> Self {
        let limit = match limit {
            Some(limit) => limit & NO_LIMIT,
            None => NO_LIMIT,
        };
        let extra = Extra(self.extra.0 & SPECIAL | limit);
        Self { extra, ..self }
    }

    /// The same, with packets that leave the fast path (direct return, spliced handshakes).
    #[must_use]
    pub const fn special(self) -> Self {
        let extra = Extra(self.extra.0 | SPECIAL);
        Self { extra, ..self }
    }

    /// Whether its packets leave the fast path.
    #[must_use]
    #[inline(always)]
    pub const fn is_special(&self) -> bool {
        self.extra.0 & SPECIAL != 0
    }

    /// Paths, owner, and limit with the mark of special ones, as the other appliance is told of them.
    #[must_use]
    pub const fn bits(&self) -> (u8, u8, u8) {
        (self.paths[0], self.owner.0, self.extra.0)
    }

    /// Sets what [`Self::bits`] says besides the paths.
    pub const fn set_bits(&mut self, owner: u8, extra: u8) {
        self.owner = Owner(owner);
        self.extra = Extra(extra);
    }

    /// The real server that it counts for.
    #[must_use]
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    /// The limit that it counts for.
    #[must_use]
    pub const fn limit(&self) -> Option<u8> {
        match self.extra.0 & NO_LIMIT {
            NO_LIMIT => None,
            limit => Some(limit),
        }
    }

    /// The tuple that packets of one direction carry when they arrive.
    #[must_use]
    #[inline(always)]
    pub fn tuple(&self, direction: Direction) -> &Tuple<A> {
        &self.tuples[direction as usize & 1]
    }

    /// The tuple that packets of one direction carry when they leave.
    #[must_use]
    #[inline(always)]
    pub fn leaves(&self, direction: Direction) -> Tuple<A> {
        self.tuple(direction.opposite()).reversed()
    }

    /// Where packets of one direction go next.
    #[inline(always)]
    pub fn hop(&self, routes: &Routes, direction: Direction) -> Hop {
        let out = self.path(direction.opposite());
        let destination = self.tuple(direction.opposite()).source;
        Hop {
            leg: out.leg,
            address: A::family(routes).next(out, destination).into(),
        }
    }

    /// Where the sender of one direction's packets is.
    #[must_use]
    #[inline(always)]
    pub const fn path(&self, direction: Direction) -> Path {
        match direction {
            Direction::Original => Path::from_bits(self.paths[0] & 0xf),
            Direction::Reply => Path::from_bits(self.paths[0] >> 4),
        }
    }

    /// What happens to checksums over the addresses of one direction's packets.
    #[must_use]
    #[inline(always)]
    pub const fn change(&self, direction: Direction) -> Change {
        match direction {
            Direction::Original => self.change,
            Direction::Reply => self.change.reversed(),
        }
    }

    /// Forgets where both sides of a connection are, for it goes on elsewhere.
    pub fn grow_old(&mut self) {
        match self.state {
            State::Established => self.state = State::Inherited,
            State::Inherited
            | State::FinWait
            | State::CloseWait
            | State::LastAck
            | State::TimeWait
            | State::Closed => {}
            State::Free
            | State::SynSent
            | State::SynSent2
            | State::SynReceived
            | State::PickedUp
            | State::Sent
            | State::Talking
            | State::Pinged
            | State::Answered
            | State::Asked
            | State::Mutual => return,
        }
        self.windows = self.windows.aged();
    }

    /// Whether packets change on their way.
    #[must_use]
    pub fn is_translated(&self) -> bool {
        self.tuples[0] != self.tuples[1].reversed()
    }
}
