//! The flow table: fixed room, found by either direction's tuple, hashed with a secret key.
//!
//! Flows lie in one array; an index of twice the size points at them from buckets of four. Each flow has
//! two entries, one per direction, each in the emptier of two buckets, so that the index is half full
//! when the table is full. Nothing here depends on how many flows there are.

use wire::checksum::Delta;

use crate::Tuple;
use crate::track::{Direction, State, Ticks};

/// One flow. `address` and `port` are what the client connected to, `server` and `server_port` what it
/// really talks to; without DNAT they are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub client: u32,
    pub address: u32,
    pub server: u32,
    /// Next stations towards the client and towards the server.
    pub client_hop: u32,
    pub server_hop: u32,
    pub client_port: u16,
    pub port: u16,
    pub server_port: u16,
    pub protocol: u8,
    pub state: State,
    /// Legs towards the client and towards the server.
    pub client_leg: u8,
    pub server_leg: u8,
    /// Index of the service and of its server; [`Flow::NO_SERVICE`] for routed flows.
    pub service: u8,
    pub choice: u8,
    /// Change of the checksums when `address` becomes `server`.
    pub address_delta: Delta,
    pub transport_delta: Delta,
    pub expiry: Ticks,
}

impl Flow {
    pub const NO_SERVICE: u8 = u8::MAX;

    /// The tuple that packets of one direction carry when they arrive.
    pub const fn tuple(&self, direction: Direction) -> Tuple {
        match direction {
            Direction::Original => Tuple {
                source: self.client,
                destination: self.address,
                source_port: self.client_port,
                destination_port: self.port,
                protocol: self.protocol,
            },
            Direction::Reply => Tuple {
                source: self.server,
                destination: self.client,
                source_port: self.server_port,
                destination_port: self.client_port,
                protocol: self.protocol,
            },
        }
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

/// Room for `N` flows, at most 2^20 - 1.
#[derive(Debug)]
pub struct Flows<const N: usize> {
    keys: [u64; 5],
    index: [[Entry; WAYS]; N],
    flows: [Flow; N],
    /// Ids from here on were never used.
    fresh: u32,
    /// Head of the list of freed ids, plus one; linked through `Flow::client`.
    freed: u32,
    /// Where the sweep goes on.
    hand: u32,
    used: u32,
}

/// Index entry: 11 bits of the hash, the direction, the flow's id plus one. Zero is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Entry(u32);

const WAYS: usize = 4;
const ID_BITS: u32 = 20;
/// Flows that one insertion looks at for something expendable when the table is full.
const SEARCH: u32 = 16;

impl Entry {
    fn new(hash: u32, direction: Direction, id: u32) -> Self {
        Self(tag(hash) << (ID_BITS + 1) | (direction as u32) << ID_BITS | (id + 1))
    }

    fn id(self) -> Option<u32> {
        (self.0 & ((1 << ID_BITS) - 1)).checked_sub(1)
    }

    fn direction(self) -> Direction {
        if self.0 >> ID_BITS & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    fn tag(self) -> u32 {
        self.0 >> (ID_BITS + 1)
    }
}

const fn tag(hash: u32) -> u32 {
    hash >> (ID_BITS + 1)
}

impl<const N: usize> Flows<N> {
    const MASK: u32 = {
        assert!(
            N.is_power_of_two() && N < 1 << ID_BITS,
            "room for flows: a power of two below 2^20"
        );
        N as u32 - 1
    };

    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self {
            keys: core::array::from_fn(|_| split_mix(&mut state)),
            index: [[Entry(0); WAYS]; N],
            flows: [Flow::default(); N],
            fresh: 0,
            freed: 0,
            hand: 0,
            used: 0,
        }
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// The flow that a packet with this tuple belongs to, and which side sent it.
    pub fn find(&self, tuple: &Tuple) -> Option<(u32, Direction)> {
        let hash = self.hash(tuple);
        for bucket in Self::buckets(hash) {
            for entry in self.index.get(bucket)? {
                if entry.tag() != tag(hash) {
                    continue;
                }
                let Some(id) = entry.id() else { continue };
                let flow = self.flows.get(id as usize)?;
                if flow.tuple(entry.direction()) == *tuple {
                    return Some((id, entry.direction()));
                }
            }
        }
        None
    }

    pub fn get_mut(&mut self, id: u32) -> Option<&mut Flow> {
        self.flows.get_mut(id as usize)
    }

    /// Adds a flow; where there is no room, an expired flow goes, otherwise the oldest expendable one
    /// of those looked at.
    pub fn insert(&mut self, now: Ticks, flow: Flow) -> Result<u32, InsertError> {
        for direction in [Direction::Original, Direction::Reply] {
            let Some((id, _)) = self.find(&flow.tuple(direction)) else {
                continue;
            };
            let other = self.flows.get(id as usize).ok_or(InsertError::Clash)?;
            if now.until(other.expiry) > 0 && !other.state.is_expendable() {
                return Err(InsertError::Clash);
            }
            self.remove(id);
        }
        let id = self.allocate(now).ok_or(InsertError::Full)?;
        if let Some(place) = self.flows.get_mut(id as usize) {
            *place = flow;
        }
        self.used += 1;
        for direction in [Direction::Original, Direction::Reply] {
            let hash = self.hash(&flow.tuple(direction));
            if !self.place(now, id, hash, direction) {
                self.remove(id);
                return Err(InsertError::Full);
            }
        }
        Ok(id)
    }

    pub fn remove(&mut self, id: u32) {
        let Some(flow) = self.flows.get(id as usize).copied() else {
            return;
        };
        if flow.state == State::Free {
            return;
        }
        for direction in [Direction::Original, Direction::Reply] {
            let hash = self.hash(&flow.tuple(direction));
            let gone = Entry::new(hash, direction, id);
            for bucket in Self::buckets(hash) {
                for entry in self.index.get_mut(bucket).into_iter().flatten() {
                    if *entry == gone {
                        *entry = Entry(0);
                    }
                }
            }
        }
        if let Some(place) = self.flows.get_mut(id as usize) {
            *place = Flow {
                client: self.freed,
                ..Flow::default()
            };
            self.freed = id + 1;
            self.used -= 1;
        }
    }

    /// Removes expired flows among the next `budget`.
    pub fn sweep(&mut self, now: Ticks, budget: u32) {
        for _ in 0..budget {
            let id = self.hand;
            self.hand = if id + 1 < self.fresh { id + 1 } else { 0 };
            let Some(flow) = self.flows.get(id as usize) else {
                return;
            };
            if flow.state != State::Free && now.until(flow.expiry) <= 0 {
                self.remove(id);
            }
        }
    }

    /// Removes all flows that `gone` picks. Looks at every flow: for rare events only.
    pub fn remove_where(&mut self, gone: impl Fn(&Flow) -> bool) {
        for id in 0..self.fresh {
            let flow = self.flows.get(id as usize);
            if flow.is_some_and(|flow| flow.state != State::Free && gone(flow)) {
                self.remove(id);
            }
        }
    }

    fn allocate(&mut self, now: Ticks) -> Option<u32> {
        if self.freed == 0 && self.fresh as usize == N {
            let victim = self.victim(now)?;
            self.remove(victim);
        }
        if let Some(id) = self.freed.checked_sub(1) {
            self.freed = self.flows.get(id as usize)?.client;
            return Some(id);
        }
        self.fresh += 1;
        Some(self.fresh - 1)
    }

    /// An expired flow, or the oldest expendable one, among the next few.
    fn victim(&mut self, now: Ticks) -> Option<u32> {
        let mut oldest: Option<(i32, u32)> = None;
        for _ in 0..SEARCH.min(N as u32) {
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

    /// Puts an entry into the emptier of its two buckets, or over an expendable flow.
    fn place(&mut self, now: Ticks, id: u32, hash: u32, direction: Direction) -> bool {
        let entry = Entry::new(hash, direction, id);
        let taken = |bucket: usize| {
            self.index
                .get(bucket)
                .map_or(0, |b| b.iter().filter(|e| **e != Entry(0)).count())
        };
        let [one, other] = Self::buckets(hash);
        let emptier = if taken(one) <= taken(other) {
            one
        } else {
            other
        };
        for place in self.index.get_mut(emptier).into_iter().flatten() {
            if *place == Entry(0) {
                *place = entry;
                return true;
            }
        }
        for bucket in Self::buckets(hash) {
            for way in 0..WAYS {
                let Some(other) = self.index.get(bucket).and_then(|b| b.get(way)?.id()) else {
                    continue;
                };
                let Some(flow) = self.flows.get(other as usize) else {
                    continue;
                };
                let goes = now.until(flow.expiry) <= 0 || flow.state.is_expendable();
                if other == id || !goes {
                    continue;
                }
                self.remove(other);
                if let Some(place) = self.index.get_mut(bucket).and_then(|b| b.get_mut(way)) {
                    *place = entry;
                    return true;
                }
            }
        }
        false
    }

    /// The two buckets of a hash; they differ unless there is but one.
    fn buckets(hash: u32) -> [usize; 2] {
        let first = hash & Self::MASK;
        let second = first ^ (tag(hash).wrapping_mul(0x9e37_79b1) | 1) & Self::MASK;
        [first as usize, second as usize]
    }

    /// Multilinear hash with 64-bit keys; its upper half is strongly universal (Lemire and Kaser, 2014),
    /// so a stranger who does not know the keys cannot aim at a bucket.
    fn hash(&self, tuple: &Tuple) -> u32 {
        let [a, b, c, d, e] = self.keys;
        let ports = u32::from(tuple.source_port) << 16 | u32::from(tuple.destination_port);
        let one = b
            .wrapping_add(tuple.source.into())
            .wrapping_mul(c.wrapping_add(tuple.destination.into()));
        let two = d
            .wrapping_add(ports.into())
            .wrapping_mul(e.wrapping_add(tuple.protocol.into()));
        mix((a.wrapping_add(one).wrapping_add(two) >> 32) as u32)
    }
}

/// Spreads a hash over all bits (Wellons' lowbias32): successive ports of one client differ by a constant
/// in a multilinear hash, and would otherwise visit a few buckets only. A bijection, so it keeps the
/// promise of the hash.
const fn mix(hash: u32) -> u32 {
    let hash = (hash ^ hash >> 16).wrapping_mul(0x7feb_352d);
    let hash = (hash ^ hash >> 15).wrapping_mul(0x846c_a68b);
    hash ^ hash >> 16
}

/// SplitMix64: makes many words of one seed.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Ticks = Ticks::from_secs(100);

    #[test]
    fn a_flow_is_found_from_both_sides_and_only_so() {
        let mut flows = Flows::<64>::new(1);
        let flow = flow(1, State::Established);
        let id = flows.insert(NOW, flow).unwrap();
        assert_eq!(
            flows.find(&flow.tuple(Direction::Original)),
            Some((id, Direction::Original))
        );
        assert_eq!(
            flows.find(&flow.tuple(Direction::Reply)),
            Some((id, Direction::Reply))
        );
        assert_eq!(
            flows.find(&flow.tuple(Direction::Original).reversed()),
            None
        );
        assert_eq!(flows.insert(NOW, flow), Err(InsertError::Clash));
        flows.remove(id);
        assert_eq!(flows.find(&flow.tuple(Direction::Original)), None);
        assert_eq!(flows.find(&flow.tuple(Direction::Reply)), None);
        assert_eq!(flows.len(), 0);
    }

    /// The table takes all it has room for, whatever the key, and finds each.
    #[test]
    fn full_means_full() {
        for seed in 0..20 {
            let mut flows = Flows::<256>::new(seed);
            for n in 0..256 {
                flows.insert(NOW, flow(n, State::Established)).unwrap();
            }
            assert_eq!(flows.len(), 256);
            assert_eq!(
                flows.insert(NOW, flow(256, State::Opening)),
                Err(InsertError::Full)
            );
            for n in 0..256 {
                for direction in [Direction::Original, Direction::Reply] {
                    let found = flows.find(&flow(n, State::Established).tuple(direction));
                    assert_eq!(found.map(|(_, side)| side), Some(direction), "{n}");
                }
            }
        }
    }

    #[test]
    fn under_pressure_the_unanswered_go_and_the_established_stay() {
        let mut flows = Flows::<64>::new(7);
        for n in 0..8 {
            flows.insert(NOW, flow(n, State::Established)).unwrap();
        }
        for n in 8..10_000 {
            flows.insert(NOW, flow(n, State::Opening)).unwrap();
            assert!(flows.len() <= 64);
        }
        for n in 0..8 {
            let tuple = flow(n, State::Established).tuple(Direction::Reply);
            assert!(flows.find(&tuple).is_some(), "{n}");
        }
    }

    #[test]
    fn sweeping_removes_the_expired_only() {
        let mut flows = Flows::<64>::new(7);
        for n in 0..32 {
            let expiry = NOW.after(Ticks::from_secs(if n % 2 == 0 { 10 } else { 1000 }));
            flows
                .insert(
                    NOW,
                    Flow {
                        expiry,
                        ..flow(n, State::Established)
                    },
                )
                .unwrap();
        }
        flows.sweep(NOW.after(Ticks::from_secs(100)), 64);
        assert_eq!(flows.len(), 16);
        for n in 0..32 {
            let found = flows.find(&flow(n, State::Established).tuple(Direction::Original));
            assert_eq!(found.is_some(), n % 2 == 1, "{n}");
        }
    }

    /// Random insertions and removals against a plain list.
    #[test]
    fn same_answers_as_a_list() {
        let mut flows = Flows::<128>::new(3);
        let mut list: [Option<Flow>; 200] = [None; 200];
        let mut random = 99;
        for _ in 0..20_000 {
            let n = (split_mix(&mut random) % 200) as usize;
            let model = flow(n as u32, State::Established);
            match list[n] {
                Some(_) => {
                    let (id, _) = flows.find(&model.tuple(Direction::Original)).unwrap();
                    flows.remove(id);
                    list[n] = None;
                }
                None if flows.insert(NOW, model).is_ok() => list[n] = Some(model),
                None => assert_eq!(flows.len(), 128),
            }
            let other = (split_mix(&mut random) % 200) as usize;
            let tuple = flow(other as u32, State::Established).tuple(Direction::Reply);
            assert_eq!(flows.find(&tuple).is_some(), list[other].is_some());
            assert_eq!(flows.len(), list.iter().flatten().count());
        }
    }

    #[test]
    fn a_flow_and_its_index_fit_64_bytes() {
        assert!(size_of::<Flow>() + WAYS * size_of::<Entry>() <= 64);
    }

    fn flow(n: u32, state: State) -> Flow {
        Flow {
            client: 0xc633_6400 + n,
            address: 0xcb00_710a,
            server: 0x0a14_010b,
            client_port: 40_000 + n as u16,
            port: 443,
            server_port: 8443,
            protocol: 6,
            state,
            service: 0,
            expiry: NOW.after(state.timeout()),
            ..Flow::default()
        }
    }
}
