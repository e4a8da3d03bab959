//! The flow table: fixed room, found by either direction's tuple, hashed with a secret key.
//!
//! Flows lie in one array; an index of three entries for each points at them from buckets of four. Each flow has two
//! entries, one per direction, in one of two buckets: the first if it has room. When both are full, an entry moves
//! to its other bucket. Nothing here depends on how many flows there are.

use random::SplitMix64;
use zerocopy::FromZeros;

use crate::address::Address;
use crate::flow::Flow;
use crate::packet::{Class, Tuple};
use crate::track::{Direction, State, Ticks};

/// Who keeps count of flows: for servers, limits and sources.
pub trait Ledger<A> {
    /// A flow was added.
    fn opened(&mut self, flow: &Flow<A>);
    /// A flow was removed, for whatever reason.
    fn closed(&mut self, id: u32, flow: &Flow<A>);
    /// A flow was removed that the peer may know.
    fn gone(&mut self, flow: &Flow<A>);
}

/// Why no flow in its usual state was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// There is one, in another state.
    Unusual,
    /// There is none at all.
    Nobody,
}

/// What was found, in one register: the id and the direction, or one of two numbers that no id reaches.
#[derive(Clone, Copy)]
struct Found(u32);

impl Found {
    const UNUSUAL: Self = Self(u32::MAX);
    const NOBODY: Self = Self(u32::MAX - 1);

    #[inline(always)]
    const fn new(found: Result<(u32, Direction), Miss>) -> Self {
        match found {
            Ok((id, direction)) => Self(id << 1 | direction as u32),
            Err(Miss::Unusual) => Self::UNUSUAL,
            Err(Miss::Nobody) => Self::NOBODY,
        }
    }

    #[inline(always)]
    const fn get(self) -> Result<(u32, Direction), Miss> {
        if self.0 == Self::UNUSUAL.0 {
            return Err(Miss::Unusual);
        }
        if self.0 == Self::NOBODY.0 {
            return Err(Miss::Nobody);
        }
        let direction = match self.0 & 1 {
            0 => Direction::Original,
            _ => Direction::Reply,
        };
        Ok((self.0 >> 1, direction))
    }
}

/// Why a flow could not be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// Another flow has one of the tuples.
    Clash,
    /// No room, and nothing expendable near.
    Full,
}

/// Memory for `N` flows (a multiple of four below 2^23). All zeros, so that it costs a program nothing but room.
#[derive(Debug, FromZeros)]
pub struct Room<A, const N: usize> {
    /// Three for each flow.
    index: [[Entry; 3]; N],
    flows: [Flow<A>; N],
    /// What the peer knows of each.
    marks: [Marks; N],
}

impl<A: Address, const N: usize> Room<A, N> {
    /// Room without a flow.
    #[must_use]
    pub const fn new() -> Self {
        assert!(
            N.is_multiple_of(4) && N >= 4 && N < 1 << (32 - ID_SHIFT),
            "room for flows: a multiple of four below 2^23"
        );
        Self {
            index: [[Entry(0); 3]; N],
            flows: [Flow::ZERO; N],
            marks: [Marks::NONE; N],
        }
    }
}

impl<A: Address, const N: usize> Default for Room<A, N> {
    fn default() -> Self {
        Self::new()
    }
}

/// All flows of one IP version. What every packet needs stands first.
#[derive(Debug)]
#[repr(C)]
pub struct Flows<'t, A> {
    flows: &'t mut [Flow<A>],
    index: &'t mut [[Entry; WAYS]],
    keys: Keys,
    /// Ids from here on were never used.
    fresh: u32,
    /// Head of the list of freed ids, plus one; linked through `Flow::windows`.
    freed: u32,
    /// Where the sweep goes on.
    hand: u32,
    used: u32,
    half_open: u32,
    marks: &'t mut [Marks],
    /// Whether changes are marked: this appliance is the one that tells the other.
    tells: bool,
    /// How many flows are marked as changed.
    changed: u32,
    /// Where the search for changed flows goes on.
    finger: u32,
}

/// What the peer knows of a flow, and what was heard of it from the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
struct Marks(u8);

impl Marks {
    const NONE: Self = Self(0);
    /// The peer should hear of it.
    const CHANGED: u8 = 1;
    /// The peer may have heard of it.
    const TOLD: u8 = 2;
    /// The peer has spoken of it since its last pass.
    const CONFIRMED: u8 = 4;
    /// The peer has spoken of it in the pass before.
    const CONFIRMED_BEFORE: u8 = 8;
    /// The peer is never told of it.
    const PRIVATE: u8 = 16;
}

/// Secret numbers of the hash: one for each class, then one for each word.
#[derive(Clone, Copy, Debug)]
struct Keys {
    class: [u64; 4],
    ports: u64,
    words: [u64; 8],
}

/// Index entry: 8 bits of the hash lowest, to be compared as one byte; the direction; the flow's id plus one. Zero is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromZeros)]
struct Entry(u32);

const WAYS: usize = 4;
const TAG_BITS: u32 = 8;
const ID_SHIFT: u32 = TAG_BITS + 1;
/// Flows that one insertion looks at for something expendable when the table is full.
const SEARCH: u32 = 16;

impl Entry {
    fn new(hash: u32, direction: Direction, id: u32) -> Self {
        Self((id + 1) << ID_SHIFT | (direction as u32) << TAG_BITS | hash & 0xff)
    }

    fn id(self) -> Option<u32> {
        (self.0 >> ID_SHIFT).checked_sub(1)
    }

    #[inline(always)]
    const fn tag(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    const fn direction(self) -> Direction {
        match self.0 >> TAG_BITS & 1 {
            0 => Direction::Original,
            _ => Direction::Reply,
        }
    }
}

impl<'t, A: Address> Flows<'t, A> {
    /// An empty table in this room; `seed` keys the hash.
    #[must_use]
    pub fn new<const N: usize>(room: &'t mut Room<A, N>, seed: u64) -> Self {
        let mut numbers = SplitMix64::new(seed);
        let (index, _) = room.index.as_flattened_mut().as_chunks_mut();
        // Looked at before it is written: memory that a host never touched stays so.
        for bucket in index
            .iter_mut()
            .filter(|bucket| **bucket != [Entry(0); WAYS])
        {
            *bucket = [Entry(0); WAYS];
        }
        for marks in room.marks.iter_mut().filter(|marks| **marks != Marks::NONE) {
            *marks = Marks::NONE;
        }
        Self {
            flows: &mut room.flows,
            index,
            keys: Keys {
                class: core::array::from_fn(|_| numbers.draw()),
                ports: numbers.draw(),
                words: core::array::from_fn(|_| numbers.draw()),
            },
            fresh: 0,
            freed: 0,
            hand: 0,
            used: 0,
            half_open: 0,
            marks: &mut room.marks,
            tells: false,
            changed: 0,
            finger: 0,
        }
    }

    /// How many flows there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.used as usize
    }

    /// How many of them are TCP handshakes under way.
    #[must_use]
    pub const fn half_open(&self) -> usize {
        self.half_open as usize
    }

    /// The flow that a packet with this tuple belongs to, and which side sent it.
    #[must_use]
    pub fn find(&self, tuple: &Tuple<A>, class: Class) -> Option<(u32, Direction)> {
        let hash = self.hash(tuple, class);
        let any = |_| true;
        self.buckets(hash)
            .into_iter()
            .find_map(|bucket| self.find_in(bucket, hash, tuple, class, any).ok())
    }

    /// The flow in its usual state that the packet with this front belongs to, and which side sent it: an established
    /// connection, or datagrams.
    #[inline(always)]
    pub fn find_usual(
        &mut self,
        front: &A::Front,
        class: Class,
    ) -> Result<(&mut Flow<A>, Direction), Miss> {
        let found = match class {
            Class::Tcp => self.find_established(front),
            _ => self.find_datagrams(front),
        };
        let (id, direction) = found.get()?;
        let flow = self.flows.get_mut(id as usize).ok_or(Miss::Nobody)?;
        Ok((flow, direction))
    }

    // Functions of their own, so that the sums of a hash do not take the registers of everything around it.

    #[inline(never)]
    fn find_established(&self, front: &A::Front) -> Found {
        self.find_first(front, Class::Tcp, |state| state == State::Established)
    }

    #[inline(never)]
    fn find_datagrams(&self, front: &A::Front) -> Found {
        self.find_first(front, Class::Udp, |_| true)
    }

    #[inline(always)]
    fn find_first(
        &self,
        front: &A::Front,
        class: Class,
        is_usual: impl Fn(State) -> bool,
    ) -> Found {
        let tuple = A::tuple(front);
        let hash = self.hash(&tuple, class);
        let first = self.first(hash);
        let found = match self.find_in(first, hash, &tuple, class, &is_usual) {
            Err(Miss::Nobody) => {
                let other = self.other(first, hash);
                self.find_in(other, hash, &tuple, class, is_usual)
            }
            found => found,
        };
        Found::new(found)
    }

    #[inline(always)]
    fn find_in(
        &self,
        bucket: usize,
        hash: u32,
        tuple: &Tuple<A>,
        class: Class,
        is_usual: impl Fn(State) -> bool,
    ) -> Result<(u32, Direction), Miss> {
        for entry in self.bucket(bucket).ok_or(Miss::Nobody)? {
            if entry.tag() != hash as u8 {
                continue;
            }
            // An empty entry has an id that no flow has.
            let id = (entry.0 >> ID_SHIFT).wrapping_sub(1);
            let Some(flow) = self.flows.get(id as usize) else {
                continue;
            };
            let direction = entry.direction();
            if flow.tuple(direction) != tuple {
                continue;
            }
            if is_usual(flow.state) && flow.state as u8 >> 4 == class as u8 {
                return Ok((id, direction));
            }
            if flow.state as u8 >> 4 == class as u8 {
                return Err(Miss::Unusual);
            }
        }
        Err(Miss::Nobody)
    }

    /// Every id that a flow may have.
    pub const fn ids(&self) -> core::ops::Range<u32> {
        0..self.fresh
    }

    /// The flow with this id.
    #[inline(always)]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut Flow<A>> {
        self.flows.get_mut(id as usize)
    }

    /// Adds a flow; where there is no room, an expired flow goes, otherwise the oldest expendable one
    /// of those looked at.
    pub fn insert(
        &mut self,
        now: Ticks,
        flow: Flow<A>,
        ledger: &mut impl Ledger<A>,
    ) -> Result<u32, InsertError> {
        for direction in [Direction::Original, Direction::Reply] {
            let Some((id, _)) = self.find(flow.tuple(direction), flow.state.class()) else {
                continue;
            };
            let other = self.flows.get(id as usize).ok_or(InsertError::Clash)?;
            if now.until(other.expiry) > 0 && !other.state.is_expendable() {
                return Err(InsertError::Clash);
            }
            self.remove(id, ledger);
        }
        let id = self.allocate(now, ledger).ok_or(InsertError::Full)?;
        if let Some(place) = self.flows.get_mut(id as usize) {
            *place = flow;
        }
        self.used += 1;
        self.half_open += u32::from(flow.state.is_half_open());
        ledger.opened(&flow);
        for direction in [Direction::Original, Direction::Reply] {
            let hash = self.hash(flow.tuple(direction), flow.state.class());
            if !self.place(now, Entry::new(hash, direction, id), hash, ledger) {
                self.remove(id, ledger);
                return Err(InsertError::Full);
            }
        }
        Ok(id)
    }

    /// Gives a flow another state.
    pub fn set_state(&mut self, id: u32, state: State) {
        if let Some(flow) = self.flows.get_mut(id as usize) {
            let was = core::mem::replace(&mut flow.state, state);
            self.half_open += u32::from(state.is_half_open());
            self.half_open -= u32::from(was.is_half_open());
            if state != was && self.tells {
                self.tell(id, state);
            }
        }
    }

    /// The peer should hear of a flow in this state, if it has heard of it before or it is worth it: nobody asks the peer to
    /// know of what was never answered.
    #[cold]
    fn tell(&mut self, id: u32, state: State) {
        let told = |marks: &Marks| marks.0 & Marks::TOLD != 0;
        if !state.is_expendable() || self.marks.get(id as usize).is_some_and(told) {
            self.mark(id);
        }
    }

    /// Removes a flow.
    pub fn remove(&mut self, id: u32, ledger: &mut impl Ledger<A>) {
        let Some(flow) = self.flows.get(id as usize).copied() else {
            return;
        };
        if flow.state == State::Free {
            return;
        }
        for direction in [Direction::Original, Direction::Reply] {
            let hash = self.hash(flow.tuple(direction), flow.state.class());
            let gone = Entry::new(hash, direction, id);
            for bucket in self.buckets(hash) {
                for entry in self.bucket_mut(bucket).into_iter().flatten() {
                    if *entry == gone {
                        *entry = Entry(0);
                    }
                }
            }
        }
        if let Some(place) = self.flows.get_mut(id as usize) {
            *place = Flow::default();
            place.windows.sides[0].end = self.freed;
            self.freed = id + 1;
            self.used -= 1;
            self.half_open -= u32::from(flow.state.is_half_open());
            ledger.closed(id, &flow);
        }
        let marks = self.unmark(id);
        // What is over ends there by itself.
        if self.tells && marks.0 & Marks::TOLD != 0 && !flow.state.is_over() {
            ledger.gone(&flow);
        }
    }

    /// Removes expired flows among the next `budget`. (Of those that the peer keeps alive see [`Self::refresh`].)
    pub fn sweep(&mut self, now: Ticks, budget: u32, ledger: &mut impl Ledger<A>) {
        for _ in 0..budget.min(self.fresh) {
            let id = self.hand;
            self.hand = if id + 1 < self.fresh { id + 1 } else { 0 };
            let Some(flow) = self.flows.get(id as usize) else {
                return;
            };
            if flow.state != State::Free && now.until(flow.expiry) <= 0 {
                self.remove(id, ledger);
            }
        }
    }

    /// Removes all flows that `gone` picks. Looks at every flow: for rare events only.
    pub fn remove_where(&mut self, gone: impl Fn(&Flow<A>) -> bool, ledger: &mut impl Ledger<A>) {
        for id in 0..self.fresh {
            let flow = self.flows.get(id as usize);
            if flow.is_some_and(|flow| flow.state != State::Free && gone(flow)) {
                self.remove(id, ledger);
            }
        }
    }

    fn allocate(&mut self, now: Ticks, ledger: &mut impl Ledger<A>) -> Option<u32> {
        if self.freed == 0 && self.fresh as usize == self.flows.len() {
            let victim = self.victim(now)?;
            self.remove(victim, ledger);
        }
        if let Some(id) = self.freed.checked_sub(1) {
            self.freed = self.flows.get(id as usize)?.windows.sides[0].end;
            return Some(id);
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    /// An expired flow, or the oldest expendable one, among the next few.
    fn victim(&mut self, now: Ticks) -> Option<u32> {
        let mut oldest: Option<(i16, u32)> = None;
        for _ in 0..SEARCH.min(self.flows.len() as u32) {
            let id = self.hand;
            self.hand = if id + 1 < self.fresh { id + 1 } else { 0 };
            let flow = self.flows.get(id as usize)?;
            let left = now.until(flow.expiry);
            if left <= 0 {
                return Some(id);
            }
            if flow.state.is_expendable() && oldest.is_none_or(|(least, _)| left < least) {
                oldest = Some((left, id));
            }
        }
        oldest.map(|(_, id)| id)
    }

    /// Puts an entry into one of its buckets: where there is room, where another entry can move away, or over
    /// an expendable flow.
    fn place(&mut self, now: Ticks, entry: Entry, hash: u32, ledger: &mut impl Ledger<A>) -> bool {
        for bucket in self.buckets(hash) {
            if self.put(bucket, entry) {
                return true;
            }
        }
        for depth in [1, 2] {
            for bucket in self.buckets(hash) {
                if let Some(way) = self.make_room(bucket, depth) {
                    return self.put_over(bucket, way, entry);
                }
            }
        }
        for bucket in self.buckets(hash) {
            for way in 0..WAYS {
                let Some(other) = self.bucket(bucket).and_then(|entries| entries[way].id()) else {
                    continue;
                };
                let Some(flow) = self.flows.get(other as usize) else {
                    continue;
                };
                let goes = now.until(flow.expiry) <= 0 || flow.state.is_expendable();
                if Some(other) != entry.id() && goes {
                    self.remove(other, ledger);
                    return self.put_over(bucket, way, entry);
                }
            }
        }
        false
    }

    /// Moves an entry of a full bucket to its other bucket, after making room there if `depth` allows that. The
    /// place that has become free, which still has its old entry.
    fn make_room(&mut self, bucket: usize, depth: u32) -> Option<usize> {
        for way in 0..WAYS {
            let moved = *self.bucket(bucket)?.get(way)?;
            // Its tag is all that its other bucket depends on.
            let elsewhere = self.other(bucket, moved.0);
            if elsewhere == bucket {
                continue;
            }
            if self.put(elsewhere, moved) {
                return Some(way);
            }
            if depth > 1
                && let Some(place) = self.make_room(elsewhere, depth - 1)
            {
                self.put_over(elsewhere, place, moved);
                return Some(way);
            }
        }
        None
    }

    fn put(&mut self, bucket: usize, entry: Entry) -> bool {
        let mut places = self.bucket_mut(bucket).into_iter().flatten();
        match places.find(|place| **place == Entry(0)) {
            Some(place) => {
                *place = entry;
                true
            }
            None => false,
        }
    }

    fn put_over(&mut self, bucket: usize, way: usize, entry: Entry) -> bool {
        match self.bucket_mut(bucket) {
            Some(entries) => {
                entries[way % WAYS] = entry;
                true
            }
            None => false,
        }
    }

    #[inline(always)]
    fn bucket(&self, bucket: usize) -> Option<&[Entry; WAYS]> {
        self.index.get(bucket)
    }

    fn bucket_mut(&mut self, bucket: usize) -> Option<&mut [Entry; WAYS]> {
        self.index.get_mut(bucket)
    }

    #[inline(always)]
    fn buckets_len(&self) -> u32 {
        self.index.len() as u32
    }

    /// The two buckets of a hash; they may be the same.
    fn buckets(&self, hash: u32) -> [usize; 2] {
        let first = self.first(hash);
        [first, self.other(first, hash)]
    }

    #[inline(always)]
    fn first(&self, hash: u32) -> usize {
        ((u64::from(hash) * u64::from(self.buckets_len())) >> 32) as usize
    }

    /// The other bucket of an entry: each is the other's other. Depends on the tag, the low bits of the hash.
    fn other(&self, bucket: usize, hash: u32) -> usize {
        let spread = (hash & 0xff).wrapping_mul(0x9e37_79b1);
        let sum = (u64::from(spread) * u64::from(self.buckets_len())) >> 32;
        match (sum as usize).checked_sub(bucket) {
            Some(other) => other,
            None => sum as usize + self.buckets_len() as usize - bucket,
        }
    }

    /// Multilinear hash with 64-bit keys; its upper half is strongly universal (Lemire and Kaser, 2014),
    /// so a stranger who does not know the keys cannot aim at a bucket.
    #[inline(always)]
    fn hash(&self, tuple: &Tuple<A>, class: Class) -> u32 {
        let keys = &self.keys;
        let mut low = keys.class[class as usize & 3];
        // Products of the upper halves of the keys: apart, each is one instruction.
        let mut high = 0_u32;
        let mut add = |key: u64, word: u32| {
            low = low.wrapping_add(u64::from(key as u32) * u64::from(word));
            high = high.wrapping_add(((key >> 32) as u32).wrapping_mul(word));
        };
        add(keys.ports, tuple.ports.0);
        let words = tuple.source.words().iter().chain(tuple.destination.words());
        for (key, word) in keys.words.iter().zip(words) {
            add(*key, *word);
        }
        mix(((low >> 32) as u32).wrapping_add(high))
    }
}

/// Spreads a hash: successive ports of one client differ by a constant in a multilinear hash, and would otherwise visit
/// a few buckets only. A bijection, so it keeps the promise of the hash.
#[inline(always)]
const fn mix(hash: u32) -> u32 {
    let hash = (hash ^ hash >> 16).wrapping_mul(0x7feb_352d);
    hash ^ hash >> 15
}

mod shared;
#[cfg(test)]
mod tests;
