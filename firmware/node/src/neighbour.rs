//! Who has which MAC address on each leg, by ARP and by neighbour discovery.
//!
//! Entries lie in sets of eight, chosen by a keyed hash of the address. Strangers can ask for addresses that nobody
//! has (RFC 6583): unanswered requests get at most half of a set, and never push out the last known
//! neighbours of the other half.

use core::net::IpAddr;

use filter::{Address, Drop, Hop, Stations, V4, V6};
use sync::{Deferred, Session};
use time::{Duration, Instant};
use wire::ethernet::Mac;
use wire::nd::Advertisement;

use crate::error::Errors;
use crate::held::{Held, Owner};
use crate::leg::Legs;
use crate::{Log, Transmit, emit};

/// The neighbours of all legs.
#[derive(Debug)]
#[repr(C)]
pub struct Neighbours {
    key: [u32; 4],
    /// Where an address was found last, by its hash: any entry, if it never was.
    hints: [u8; HINTS],
    entries: [Entry; SETS * WAYS],
    held: Held,
    next: Instant,
}

/// Leg and address of a neighbour, as words to compare, in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    /// An IPv4 address is the last word.
    words: [u32; 4],
    /// The leg, and the version of the address.
    tag: u16,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    state: State,
    /// Asked for since the last tick.
    used: bool,
    mac: Mac,
    /// Last time that the neighbour was heard, or that the first request was sent.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Asked {
        tries: u8,
    },
    /// `asked` times for a confirmation since it was heard.
    Known {
        asked: u8,
    },
}

/// Why a neighbour spoke of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It asks about one of our addresses: it will want an answer, so it may take a free place.
    Asking(Mac),
    /// Otherwise. What is known is renewed, and nothing else.
    Telling(Mac),
}

const SETS: usize = 32;
const WAYS: usize = 8;
/// As many as a byte can tell apart, and as there are entries.
const HINTS: usize = 256;
/// Most requests under way in one set.
const MAX_ASKED: usize = WAYS / 2;

/// How often requests are repeated and entries looked through.
const TICK: Duration = Duration::from_millis(250);
/// Requests without answer after which a neighbour counts as silent.
const TRIES: u8 = 4;
/// After this long without being heard, an entry that is used is confirmed by requests to its MAC
/// (RFC 4861 §7.3 calls that unreachability detection).
const CONFIRM: Duration = Duration::from_secs(30);
/// Without an answer to so many of them, everybody is asked.
const CONFIRMATIONS: u8 = 8;
/// Entries that nobody uses are kept this long.
const UNUSED: Duration = Duration::from_secs(300);

const FREE: Entry = Entry {
    key: Key {
        words: [0; 4],
        tag: u16::MAX,
    },
    state: State::Free,
    used: false,
    mac: [0; 6],
    since: Instant::ZERO,
};

impl Neighbours {
    /// No neighbour is known yet. `seed` keys the hash.
    pub fn new(now: Instant, seed: u64) -> Self {
        let (high, low) = ((seed >> 32) as u32, seed as u32);
        Self {
            entries: [FREE; SETS * WAYS],
            hints: [0; HINTS],
            key: [low, high, low.rotate_left(15), high.rotate_left(15)]
                // Odd, and nothing that leaves neighbouring addresses together (Knuth, volume 3, §6.4).
                .map(|key| (key | 1).wrapping_mul(0x9e37_79b1)),
            held: Held::new(),
            next: now + TICK,
        }
    }

    /// The MAC address of a neighbour, if it is known.
    pub fn lookup(&mut self, hop: Hop) -> Option<Mac> {
        let (_, mac) = match hop.address {
            IpAddr::V4(address) => Macs(self).find(hop.leg, V4::from(address))?,
            IpAddr::V6(address) => Macs(self).find(hop.leg, V6::from(address))?,
        };
        Some(*mac)
    }

    /// The entry of a neighbour that the hint did not lead to; from now on it does.
    #[cold]
    #[inline(never)]
    fn search<A: Address>(&mut self, leg: u8, address: A) -> Option<&mut Entry> {
        let key = &Key::new(leg, address);
        let hint = self.hash(key) as usize;
        let set = self.set_of(key);
        let entries = self.entries.get(set..set + WAYS)?;
        let place = set + entries.iter().position(|entry| entry.is(key))?;
        *self.hints.get_mut(hint)? = place as u8;
        self.entries.get_mut(place)
    }

    /// Keeps a packet until its neighbour answers, and asks for it unless that is under way.
    pub fn hold(
        &mut self,
        now: Instant,
        hop: Hop,
        packet: &[u8],
        owner: Owner,
        legs: &Legs,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        self.ask(now, hop, legs, out)?;
        self.held.keep(hop, packet, owner)
    }

    /// The packets that wait for the peer, too.
    pub fn held(&self) -> &Held {
        &self.held
    }

    /// Keeps a packet until the peer knows its flow.
    pub fn defer(
        &mut self,
        hop: Hop,
        packet: &[u8],
        owner: Owner,
        deferred: Deferred,
    ) -> Result<(), Drop> {
        self.held.defer(hop, packet, owner, deferred)
    }

    /// Sends packets that wait for the peer no longer, or asks for their neighbours.
    pub fn let_go(
        &mut self,
        now: Instant,
        session: &Session,
        legs: &Legs,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        while let Some(hop) = self.held.ready(now, session) {
            match self.lookup(hop) {
                Some(mac) => self.held.send(hop, mac, legs, log, out),
                None => {
                    if let Err(reason) = self.ask(now, hop, legs, out) {
                        self.held.drop(hop, reason, log);
                    }
                }
            }
        }
    }

    /// Asks for a neighbour, unless that is under way.
    pub fn ask(
        &mut self,
        now: Instant,
        hop: Hop,
        legs: &Legs,
        out: &mut impl Transmit,
    ) -> Result<(), Drop> {
        let key = Key::from(hop);
        if self.entry(&key).is_none() {
            let entry = self.room(&key).ok_or(Drop::NeighbourTableFull)?;
            *entry = Entry {
                key,
                state: State::Asked { tries: 1 },
                since: now,
                ..FREE
            };
            emit::ask(legs, hop, None, out);
        }
        Ok(())
    }

    /// Takes what a neighbour said about itself by ARP or in a solicitation, and sends what waited for it.
    /// New neighbours are only taken into free places: shouting strangers push nobody out.
    pub fn learn(
        &mut self,
        now: Instant,
        hop: Hop,
        said: Said,
        legs: &Legs,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let (Said::Asking(mac) | Said::Telling(mac)) = said;
        let key = Key::from(hop);
        let set = self.set(&key);
        let entry = match set.iter().position(|entry| entry.is(&key)) {
            Some(index) => set.get_mut(index),
            None if matches!(said, Said::Telling(_)) => None,
            None => set.iter_mut().find(|entry| entry.state == State::Free),
        };
        if let Some(entry) = entry {
            *entry = Entry {
                key,
                state: State::Known { asked: 0 },
                mac,
                since: now,
                used: entry.used && entry.is(&key),
            };
            self.held.send(hop, mac, legs, log, out);
        }
    }

    /// Takes a neighbour advertisement as RFC 4861 §7.2.5 says: nothing that was not asked for is entered,
    /// and without the override flag nobody takes a known neighbour's place.
    pub fn advertised(
        &mut self,
        now: Instant,
        hop: Hop,
        advert: &Advertisement,
        legs: &Legs,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        let Some(entry) = self.entry(&Key::from(hop)) else {
            return;
        };
        let known = matches!(entry.state, State::Known { .. });
        let mac = match advert.mac {
            Some(mac) => mac,
            // An answer to a question that went to it alone (§4.4).
            None if known => entry.mac,
            None => return,
        };
        let changed = !known || mac != entry.mac;
        if known && changed && !advert.overrides {
            return;
        }
        entry.mac = mac;
        if changed || advert.solicited {
            entry.state = State::Known { asked: 0 };
            entry.since = now;
        }
        self.held.send(hop, mac, legs, log, out);
    }

    /// Drops held packets of others: for a router that is no longer Active.
    pub fn release(&mut self, log: &mut Log) {
        self.held.release(log);
    }

    /// When [`Self::tick`] has work next.
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Repeats requests, confirms entries in use, forgets the silent and the unused.
    pub fn tick(
        &mut self,
        now: Instant,
        legs: &Legs,
        errors: &mut Errors,
        log: &mut Log,
        out: &mut impl Transmit,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + TICK;
        for entry in &mut self.entries {
            let age = now.since(entry.since);
            match entry.state {
                State::Free => {}
                State::Asked { tries } if tries < TRIES => {
                    entry.state = State::Asked { tries: tries + 1 };
                    emit::ask(legs, entry.key.hop(), None, out);
                }
                State::Asked { .. } => {
                    let hop = entry.key.hop();
                    *entry = FREE;
                    self.held.give_up(now, hop, legs, errors, log, out);
                }
                State::Known {
                    asked: CONFIRMATIONS,
                } => *entry = FREE,
                State::Known { asked } if entry.used && age > CONFIRM => {
                    entry.state = State::Known { asked: asked + 1 };
                    emit::ask(legs, entry.key.hop(), Some(entry.mac), out);
                }
                State::Known { .. } if age > UNUSED => *entry = FREE,
                State::Known { .. } => {}
            }
            // Uses are noticed again once the entry is old enough to be confirmed.
            if age < CONFIRM {
                entry.used = false;
            }
        }
    }

    /// The entry of a neighbour, tried first where it was last.
    #[inline(always)]
    fn hinted<A: Address>(&mut self, leg: u8, address: A) -> Option<&mut Entry> {
        let key = Key::new(leg, address);
        let hint = self.hints[self.hash(&key) as usize % HINTS];
        match self.entries[usize::from(hint)].is(&key) {
            true => Some(&mut self.entries[usize::from(hint)]),
            false => self.search(leg, address),
        }
    }

    fn entry(&mut self, key: &Key) -> Option<&mut Entry> {
        self.set(key).iter_mut().find(|entry| entry.is(key))
    }

    /// A place for a request: a free one, otherwise that of the known neighbour not heard for longest, while
    /// there are more than half a set of them. One with a request under way keeps its place.
    fn room(&mut self, key: &Key) -> Option<&mut Entry> {
        let set = self.set(key);
        let asked = |entry: &&Entry| matches!(entry.state, State::Asked { .. });
        if set.iter().filter(asked).count() >= MAX_ASKED {
            return None;
        }
        set.iter_mut()
            .filter(|entry| !asked(&&**entry))
            .min_by_key(|entry| (entry.state != State::Free, entry.used, entry.since))
    }

    /// Where the set of an address begins.
    fn set_of(&self, key: &Key) -> usize {
        (self.hash(key) >> 3) as usize % SETS * WAYS
    }

    fn set(&mut self, key: &Key) -> &mut [Entry] {
        let start = self.set_of(key);
        self.entries
            .get_mut(start..start + WAYS)
            .unwrap_or_default()
    }

    #[inline(always)]
    fn hash(&self, key: &Key) -> u32 {
        let [a, b, c, d] = key.words;
        let [k, l, m, n] = self.key;
        // What differs between neighbours lies lowest.
        let mixed = (u32::from_be(d) ^ u32::from(key.tag) << 24).wrapping_mul(n);
        let mixed = match key.tag & SIX {
            0 => mixed,
            _ => mixed ^ c.wrapping_mul(m) ^ b.wrapping_mul(l) ^ a.wrapping_mul(k),
        };
        // The upper bits depend on all of the lower ones.
        mixed >> 24
    }
}

/// The neighbours as the filter asks for them: it is told the leg and the MAC address.
pub struct Macs<'n>(pub &'n mut Neighbours);

impl<'n> Stations for Macs<'n> {
    type Station = (u8, &'n Mac);

    #[inline(always)]
    fn find<A: Address>(self, leg: u8, address: A) -> Option<(u8, &'n Mac)> {
        let entry = self.0.hinted(leg, address)?;
        if !matches!(entry.state, State::Known { .. }) {
            return None;
        }
        entry.used = true;
        Some((leg, &entry.mac))
    }
}

impl Entry {
    #[inline(always)]
    fn is(&self, key: &Key) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.key.words, key.words);
        // Word by word: a comparison of arrays is a call. An IPv4 address has one only.
        d == h && self.key.tag == key.tag && (key.tag & SIX == 0 || c == g && b == f && a == e)
    }
}

/// Marks keys of IPv6 neighbours.
const SIX: u16 = 0x100;

impl Key {
    #[inline(always)]
    fn new<A: Address>(leg: u8, address: A) -> Self {
        match *address.words() {
            [word] => Self {
                words: [0, 0, 0, word],
                tag: leg.into(),
            },
            [a, b, c, d] => Self {
                words: [a, b, c, d],
                tag: SIX | u16::from(leg),
            },
            // There are no other versions.
            _ => FREE.key,
        }
    }

    fn hop(&self) -> Hop {
        Hop {
            leg: self.tag as u8,
            address: match self.tag & SIX {
                0 => V4(self.words[3]).into(),
                _ => V6(self.words).into(),
            },
        }
    }
}

impl From<Hop> for Key {
    fn from(hop: Hop) -> Self {
        match hop.address {
            IpAddr::V4(address) => Self::new(hop.leg, V4::from(address)),
            IpAddr::V6(address) => Self::new(hop.leg, V6::from(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use policy::{Config, Interface, Interface6, Protection};
    use wire::ethernet;

    use super::*;
    use crate::counters::Counters;
    use crate::journal::Journal;

    const NOW: Instant = Instant::from_micros(1_000_000);
    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];

    struct Asked(u32);

    impl Transmit for Asked {
        fn transmit(&mut self, _: u8, frame: &[u8]) {
            let received = ethernet::parse(frame).unwrap();
            self.0 += u32::from(received.source == Interface::default().mac);
        }
    }

    struct Bench {
        neighbours: Neighbours,
        legs: Legs,
        log: Log,
        out: Asked,
    }

    fn bench() -> Bench {
        let address6 = Interface6 {
            address: "2001:db8::1".parse().unwrap(),
            prefix: 64,
        };
        let interface = Interface {
            address6: Some(address6),
            ..Interface::default()
        };
        let config = Config {
            interfaces: [interface].into_iter().collect(),
            ..Config::default()
        };
        Bench {
            neighbours: Neighbours::new(NOW, 7),
            legs: Legs::new(&config),
            log: Log {
                counters: Counters::new(),
                journal: Journal::default(),
                epoch: None,
            },
            out: Asked(0),
        }
    }

    impl Bench {
        fn learn(&mut self, hop: Hop, said: Said) {
            let Self {
                neighbours,
                legs,
                log,
                out,
            } = self;
            neighbours.learn(NOW, hop, said, legs, log, out);
        }

        fn advertised(&mut self, hop: Hop, mac: Option<Mac>, solicited: bool, overrides: bool) {
            let advert = Advertisement {
                target: [0; 16],
                mac,
                router: false,
                solicited,
                overrides,
            };
            let Self {
                neighbours,
                legs,
                log,
                out,
            } = self;
            neighbours.advertised(NOW, hop, &advert, legs, log, out);
        }

        fn hold(&mut self, hop: Hop) -> Result<(), Drop> {
            let owner = Owner::Transit { from: None };
            self.neighbours
                .hold(NOW, hop, &[0x45; 40], owner, &self.legs, &mut self.out)
        }
    }

    fn hop(address: &str) -> Hop {
        Hop {
            leg: 0,
            address: address.parse().unwrap(),
        }
    }

    fn six(number: u32) -> Hop {
        let address = 0x2001_0db8_u128 << 96 | u128::from(number);
        Hop {
            leg: 0,
            address: IpAddr::V6(address.into()),
        }
    }

    #[test]
    fn keys_keep_what_hops_say() {
        for address in ["192.0.2.7", "2001:db8:1:2:3:4:5:6", "::7", "fe80::1"] {
            for leg in [0, 7] {
                let hop = Hop {
                    leg,
                    ..hop(address)
                };
                assert_eq!(Key::from(hop).hop(), hop);
            }
        }
    }

    #[test]
    fn neighbours_differ_by_leg_and_version() {
        let mut bench = bench();
        bench.learn(hop("0.0.0.7"), Said::Asking(A));
        assert_eq!(bench.neighbours.lookup(hop("0.0.0.7")), Some(A));
        assert_eq!(bench.neighbours.lookup(hop("::7")), None);
        let other = Hop {
            leg: 1,
            ..hop("0.0.0.7")
        };
        assert_eq!(bench.neighbours.lookup(other), None);
    }

    #[test]
    fn who_only_tells_is_not_entered_but_renewed() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let mut bench = bench();
            bench.learn(hop(address), Said::Telling(A));
            assert_eq!(bench.neighbours.lookup(hop(address)), None);
            bench.learn(hop(address), Said::Asking(A));
            bench.learn(hop(address), Said::Telling(B));
            assert_eq!(bench.neighbours.lookup(hop(address)), Some(B));
        }
    }

    /// Rows follow RFC 4861 §7.2.5.
    #[test]
    fn advertisements() {
        #[derive(Clone, Copy, Debug)]
        enum Before {
            Unknown,
            Asked,
            Known,
        }
        let table = [
            // before, MAC, solicited, overrides, MAC after
            (Before::Unknown, Some(B), true, true, None),
            (Before::Asked, Some(B), true, false, Some(B)),
            (Before::Asked, Some(B), false, true, Some(B)),
            (Before::Asked, None, true, true, None),
            (Before::Known, Some(B), true, false, Some(A)),
            (Before::Known, Some(B), false, true, Some(B)),
            (Before::Known, Some(A), false, false, Some(A)),
            (Before::Known, None, true, true, Some(A)),
        ];
        for (before, mac, solicited, overrides, after) in table {
            let name = std::format!("{before:?} {mac:?} {solicited} {overrides}");
            let mut bench = bench();
            let hop = hop("2001:db8::7");
            match before {
                Before::Unknown => {}
                Before::Asked => bench.hold(hop).unwrap(),
                Before::Known => bench.learn(hop, Said::Asking(A)),
            }
            bench.advertised(hop, mac, solicited, overrides);
            assert_eq!(bench.neighbours.lookup(hop), after, "{name}");
        }
    }

    /// Somebody sends packets to each address of a /64 (RFC 6583).
    #[test]
    fn a_scan_pushes_out_no_neighbour_of_a_half_full_table() {
        let mut bench = bench();
        let known = |number: u32| Hop {
            leg: 0,
            address: IpAddr::V4((0xc000_0200 + number).into()),
        };
        for number in 0..32 {
            bench.learn(known(number), Said::Asking(A));
        }
        let mut refused = 0;
        for number in 0..5000 {
            refused += u32::from(bench.hold(six(number)) == Err(Drop::NeighbourTableFull));
        }
        let found = (0..32).filter(|n| bench.neighbours.lookup(known(*n)).is_some());
        assert_eq!(found.count(), 32);
        assert_eq!(refused, 5000 - (SETS * MAX_ASKED) as u32);
        assert_eq!(bench.out.0, (SETS * MAX_ASKED) as u32, "and few are asked");
    }

    #[test]
    fn silent_neighbours_are_confirmed_then_forgotten() {
        for address in ["192.0.2.7", "2001:db8::7"] {
            let mut bench = bench();
            let mut errors = Errors::new(NOW, &Protection::default());
            let hop = hop(address);
            bench.learn(hop, Said::Asking(A));
            let mut now = NOW;
            let mut asked_at = None;
            while bench.neighbours.lookup(hop).is_some() {
                now = now + TICK;
                bench.neighbours.tick(
                    now,
                    &bench.legs,
                    &mut errors,
                    &mut bench.log,
                    &mut bench.out,
                );
                if bench.out.0 == 1 {
                    asked_at.get_or_insert(now.since(NOW));
                }
            }
            assert!(asked_at.is_some_and(|at| at > CONFIRM && at <= CONFIRM + 2 * TICK));
            assert_eq!(bench.out.0, u32::from(CONFIRMATIONS));
        }
    }
}
