//! Fragments without reassembly: the first one, which has the transport header, is judged like a whole packet,
//! and the others of its datagram follow it. Nothing is held back, so a fragment that overtakes the first is lost.
//!
//! Overlapping fragments, with which one datagram can look different to a filter and to a host (RFC 1858, RFC
//! 5722), end their datagram: nothing more of it passes.

use time::{Duration, Instant};

use crate::Drop;
use crate::hash::Key;

/// What says which datagram a fragment belongs to, and which part of it it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Source address, as [`crate::hash::number`] has it.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Identification: 16 bits in IPv4, 32 in IPv6.
    pub id: u32,
    /// IPv4's protocol, or the Next Header of the fragment header.
    pub protocol: u8,
    /// The leg it came in from.
    pub leg: u8,
    /// Place of its data in the datagram, in bytes.
    pub offset: u16,
    /// Length of its data in bytes.
    pub len: u16,
    /// Whether others come after it.
    pub more: bool,
}

impl Piece {
    /// Refuses what no datagram can be made of: pieces that are empty, end beyond 65,535 bytes, or are not a multiple
    /// of 8 bytes although others follow (RFC 791, RFC 8200 §4.5).
    pub fn check(&self) -> Result<(), Drop> {
        let whole_units = !self.more || self.len.is_multiple_of(8);
        let fits = self.offset.checked_add(self.len).is_some();
        if self.len == 0 || !whole_units || !fits {
            return Err(Drop::FragmentLength);
        }
        Ok(())
    }

    fn is_of(&self, datagram: &Piece) -> bool {
        let name = |p: &Piece| (p.id, p.source, p.destination, p.protocol, p.leg);
        name(self) == name(datagram)
    }

    const fn end(&self) -> u16 {
        self.offset.saturating_add(self.len)
    }
}

/// The datagrams under way, `SETS * 4` at most; `C` is what becomes of their fragments.
///
/// Where four that share a set are under way already, the oldest one makes room: the rest of it is lost like any
/// fragment without a first one.
#[derive(Debug)]
pub struct Fragments<C, const SETS: usize> {
    key: Key,
    sets: [[Option<Datagram<C>>; WAYS]; SETS],
}

#[derive(Clone, Copy, Debug)]
struct Datagram<C> {
    /// The first fragment.
    first: Piece,
    since: Instant,
    /// `None` for a datagram of which nothing passes any more.
    course: Option<C>,
    seen: Seen,
}

/// Which bytes of a datagram have passed.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Ranges without a common border; `(0, 0)` is empty. One is enough while fragments come in order.
    ranges: [(u16, u16); RANGES],
    /// Its length, once the last fragment has passed.
    total: Option<u16>,
}

impl<C: Copy, const SETS: usize> Fragments<C, SETS> {
    /// Nothing under way. `key` is secret, so that nobody can choose whose datagrams to disturb.
    #[must_use]
    pub const fn new(key: Key) -> Self {
        Self {
            key,
            sets: [[None; WAYS]; SETS],
        }
    }

    /// Whether a first fragment may be judged: a second one for a datagram under way overlaps the first.
    pub fn begin(&mut self, now: Instant, piece: &Piece) -> Result<(), Drop> {
        piece.check()?;
        match self.find(now, piece) {
            Some(datagram) => {
                datagram.course = None;
                Err(Drop::FragmentOverlap)
            }
            None => Ok(()),
        }
    }

    /// A first fragment was let through: the others take the same course.
    pub fn first(&mut self, now: Instant, piece: &Piece, course: C) {
        let index = self.set(piece);
        let Some(set) = self.sets.get_mut(index) else {
            return;
        };
        let mut seen = Seen::default();
        if seen.add(piece).is_err() {
            return;
        }
        let age = |place: &&mut Option<Datagram<C>>| {
            place
                .as_ref()
                .map_or(Instant::ZERO, |datagram| datagram.since)
        };
        if let Some(place) = set.iter_mut().min_by_key(age) {
            *place = Some(Datagram {
                first: *piece,
                since: now,
                course: Some(course),
                seen,
            });
        }
    }

    /// What becomes of a fragment that is not the first of its datagram.
    pub fn later(&mut self, now: Instant, piece: &Piece) -> Result<C, Drop> {
        piece.check()?;
        let datagram = self.find(now, piece).ok_or(Drop::FragmentOrder)?;
        let course = datagram.course.ok_or(Drop::FragmentOverlap)?;
        match datagram.seen.add(piece) {
            Ok(Progress::Incomplete) => Ok(course),
            Ok(Progress::Complete) => {
                self.end(piece);
                Ok(course)
            }
            Err(reason) => {
                datagram.course = None;
                Err(reason)
            }
        }
    }

    fn find(&mut self, now: Instant, piece: &Piece) -> Option<&mut Datagram<C>> {
        let index = self.set(piece);
        let set = self.sets.get_mut(index)?;
        let mut datagrams = set.iter_mut().flatten();
        datagrams.find(|d| piece.is_of(&d.first) && now.since(d.since) < LIFETIME)
    }

    fn end(&mut self, piece: &Piece) {
        let index = self.set(piece);
        for place in self.sets.get_mut(index).into_iter().flatten() {
            if place.as_ref().is_some_and(|d| piece.is_of(&d.first)) {
                *place = None;
            }
        }
    }

    fn set(&self, piece: &Piece) -> usize {
        let from = self.key.address(piece.source, piece.id);
        let hash = self.key.address(piece.destination, from);
        hash as usize % SETS.max(1)
    }
}

enum Progress {
    Incomplete,
    Complete,
}

impl Seen {
    /// Adds a piece that must not touch what was seen before.
    fn add(&mut self, piece: &Piece) -> Result<Progress, Drop> {
        let (mut start, mut end) = (piece.offset, piece.end());
        if !piece.more && self.total.replace(end).is_some() {
            return Err(Drop::FragmentOverlap);
        }
        let highest = self.ranges.iter().map(|range| range.1).max();
        let highest = highest.unwrap_or(0).max(end);
        if self.total.is_some_and(|total| highest > total) {
            return Err(Drop::FragmentOverlap);
        }
        let overlaps = |range: &(u16, u16)| range.0 < end && start < range.1;
        if self.ranges.iter().any(overlaps) {
            return Err(Drop::FragmentOverlap);
        }
        // Ranges on either side grow together with the new one.
        for range in &mut self.ranges {
            if range.1 != 0 && (range.1 == start || range.0 == end) {
                (start, end) = (range.0.min(start), range.1.max(end));
                *range = (0, 0);
            }
        }
        let place = self.ranges.iter_mut().find(|range| range.1 == 0);
        *place.ok_or(Drop::FragmentOrder)? = (start, end);
        if start == 0 && self.total == Some(end) {
            return Ok(Progress::Complete);
        }
        Ok(Progress::Incomplete)
    }
}

const WAYS: usize = 4;
/// Gaps that reordering may leave in a datagram at a time; a whole one of 65,535 bytes in order leaves none.
const RANGES: usize = 6;
/// RFC 791 suggests 15 s for reassembly, RFC 8200 demands 60 s of hosts; who waits longer than this has lost a
/// fragment.
const LIFETIME: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::from_micros(1_000_000_000);

    type Lab = Fragments<u8, 8>;

    fn piece(offset: u16, len: u16, more: bool) -> Piece {
        Piece {
            source: 1,
            destination: 2,
            id: 3,
            protocol: 17,
            leg: 0,
            offset,
            len,
            more,
        }
    }

    /// Passes a fragment as the filter does.
    fn pass(lab: &mut Lab, now: Instant, piece: &Piece) -> Result<u8, Drop> {
        if piece.offset > 0 {
            return lab.later(now, piece);
        }
        lab.begin(now, piece)?;
        lab.first(now, piece, 7);
        Ok(7)
    }

    #[test]
    fn stories() {
        type Story<'a> = (&'a str, &'a [(u16, u16, bool, Result<u8, Drop>)]);
        let overlap = Err(Drop::FragmentOverlap);
        let order = Err(Drop::FragmentOrder);
        let length = Err(Drop::FragmentLength);
        let table: [Story<'_>; 11] = [
            (
                "in order",
                &[
                    (0, 1480, true, Ok(7)),
                    (1480, 1480, true, Ok(7)),
                    (2960, 40, false, Ok(7)),
                ],
            ),
            (
                "the last overtakes",
                &[
                    (0, 1480, true, Ok(7)),
                    (2960, 40, false, Ok(7)),
                    (1480, 1480, true, Ok(7)),
                ],
            ),
            (
                "before the first",
                &[
                    (1480, 1480, true, order),
                    (0, 1480, true, Ok(7)),
                    (1480, 8, false, Ok(7)),
                ],
            ),
            (
                "after the end",
                &[
                    (0, 16, true, Ok(7)),
                    (16, 8, false, Ok(7)),
                    (16, 8, false, order),
                ],
            ),
            (
                "teardrop",
                &[
                    (0, 40, true, Ok(7)),
                    (24, 4, false, overlap),
                    (40, 8, false, overlap),
                ],
            ),
            (
                "header written over",
                &[
                    (0, 24, true, Ok(7)),
                    (8, 16, true, overlap),
                    (24, 8, false, overlap),
                ],
            ),
            (
                "two firsts",
                &[
                    (0, 24, true, Ok(7)),
                    (0, 24, true, overlap),
                    (24, 8, false, overlap),
                ],
            ),
            (
                "two lasts",
                &[
                    (0, 24, true, Ok(7)),
                    (32, 8, false, Ok(7)),
                    (40, 8, false, overlap),
                ],
            ),
            (
                "beyond the last",
                &[
                    (0, 24, true, Ok(7)),
                    (32, 8, false, Ok(7)),
                    (48, 8, true, overlap),
                ],
            ),
            (
                "ping of death",
                &[(0, 1480, true, Ok(7)), (65_528, 100, false, length)],
            ),
            (
                "odd middle",
                &[
                    (0, 1480, true, Ok(7)),
                    (1480, 7, true, length),
                    (1480, 0, false, length),
                ],
            ),
        ];
        for (name, pieces) in table {
            let mut lab = Lab::new(Key::secret(1, 0));
            for (step, (offset, len, more, expected)) in pieces.iter().enumerate() {
                let passed = pass(&mut lab, NOW, &piece(*offset, *len, *more));
                assert_eq!(passed, *expected, "{name}, fragment {step}");
            }
        }
    }

    #[test]
    fn datagrams_are_told_apart_and_end_after_a_while() {
        let mut lab = Lab::new(Key::secret(1, 0));
        pass(&mut lab, NOW, &piece(0, 8, true)).unwrap();
        let changes: [fn(&mut Piece); 5] = [
            |p| p.source += 1,
            |p| p.destination += 1,
            |p| p.id += 1,
            |p| p.protocol += 1,
            |p| p.leg += 1,
        ];
        for change in changes {
            let mut other = piece(8, 8, true);
            change(&mut other);
            assert_eq!(lab.later(NOW, &other), Err(Drop::FragmentOrder));
        }
        let late = NOW + LIFETIME;
        assert_eq!(
            lab.later(late, &piece(8, 8, true)),
            Err(Drop::FragmentOrder)
        );
        assert_eq!(lab.later(NOW, &piece(8, 8, true)), Ok(7));
    }

    #[test]
    fn a_flood_of_first_fragments_takes_no_more_room() {
        let mut lab = Lab::new(Key::secret(1, 0));
        for id in 0..10_000 {
            let first = Piece {
                id,
                ..piece(0, 8, true)
            };
            pass(&mut lab, NOW + Duration::from_micros(id.into()), &first).unwrap();
        }
        let last = Piece {
            id: 9_999,
            ..piece(8, 8, false)
        };
        assert_eq!(lab.later(NOW + Duration::from_secs(1), &last), Ok(7));
        assert_eq!(lab.sets.as_flattened().iter().flatten().count(), 31);
    }

    proptest! {
        /// No byte of a datagram ever passes twice, and none beyond its end.
        #[test]
        fn no_byte_passes_twice(pieces in prop::collection::vec((0_u16..40, 1_u16..12, any::<bool>()), 1..60)) {
            let mut lab = Lab::new(Key::secret(1, 0));
            let mut passed: Vec<(u16, u16, bool)> = Vec::new();
            for (offset, len, more) in pieces {
                let piece = piece(offset * 8, len * 8, more);
                if pass(&mut lab, NOW, &piece).is_err() {
                    continue;
                }
                if piece.offset == 0 {
                    // Of a new datagram: the one before is complete, or was never begun.
                    passed.clear();
                }
                for (start, end, last) in &passed {
                    prop_assert!(piece.end() <= *start || *end <= piece.offset);
                    prop_assert!(!last || more && piece.end() <= *end);
                }
                passed.push((piece.offset, piece.end(), !more));
            }
        }

        /// In whatever order the pieces after the first come, all pass while the gaps are few.
        #[test]
        fn whole_datagrams_pass(count in 2_u16..=7, seed: u64) {
            let mut lab = Lab::new(Key::secret(1, 0));
            let mut order: Vec<u16> = (1..count).collect();
            order.sort_by_key(|n| Key::secret(seed, 0).hash([u32::from(*n)]));
            prop_assert_eq!(pass(&mut lab, NOW, &piece(0, 8, true)), Ok(7));
            for n in order {
                prop_assert_eq!(pass(&mut lab, NOW, &piece(n * 8, 8, n + 1 < count)), Ok(7));
            }
            prop_assert!(lab.sets.as_flattened().iter().all(Option::is_none));
        }
    }
}
