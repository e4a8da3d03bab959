//! Rules as boxes: the lists of a rule multiplied out, one extent for each word of the key.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use policy::rule::{self, Ports, Protocol, Rule};
use policy::{IpPrefix, Prefix, Prefix6};

use crate::key::{DIMENSIONS_V4, DIMENSIONS_V6, TAIL};
use crate::linear::{ICMP, ICMP6, TCP, UDP};

/// One IP version's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn dimensions(self) -> usize {
        match self {
            Self::V4 => DIMENSIONS_V4,
            Self::V6 => DIMENSIONS_V6,
        }
    }

    /// Where ports, protocol, legs and state begin.
    pub fn tail(self) -> usize {
        self.dimensions() - TAIL
    }

    /// Whether a piece has a set of bits there instead of an interval: legs and states.
    pub fn is_set(self, dimension: usize) -> bool {
        dimension >= self.tail() + 3
    }

    /// All keys.
    pub fn everything(self) -> Region {
        let mut region = [(0, u32::MAX); DIMENSIONS_V6];
        let tail = region.iter_mut().skip(self.tail());
        for (extent, last) in tail.zip([0xffff, 0xffff, 0xff, 7, 7, 1]) {
            *extent = (0, last);
        }
        region
    }
}

/// First and last word in each dimension; what is beyond the family's dimensions is not looked at.
pub type Region = [(u32, u32); DIMENSIONS_V6];

/// A box that belongs to a rule.
#[derive(Clone, Debug)]
pub struct Piece {
    pub rule: u16,
    /// First and last word; of a set the bits, twice.
    extents: Region,
}

impl Piece {
    /// First and last word that the piece and the region have in common.
    pub fn clip(&self, family: Family, region: &Region, dimension: usize) -> Option<(u32, u32)> {
        let ((low, high), (first, last)) = (self.extents[dimension], region[dimension]);
        if family.is_set(dimension) {
            let set = low & bits(first, last);
            return (set != 0).then(|| (set.trailing_zeros(), 31 - set.leading_zeros()));
        }
        let (low, high) = (low.max(first), high.min(last));
        (low <= high).then_some((low, high))
    }

    /// Whether every key of the region is in the piece, as far as this dimension goes.
    pub fn covers(&self, family: Family, region: &Region, dimension: usize) -> bool {
        let ((low, high), (first, last)) = (self.extents[dimension], region[dimension]);
        if family.is_set(dimension) {
            let all = bits(first, last);
            return low & all == all;
        }
        low <= first && high >= last
    }

    /// Whether this piece has every key of the region that `other` has.
    pub fn shadows(&self, family: Family, region: &Region, other: &Self) -> bool {
        (0..family.dimensions()).all(|dimension| {
            if family.is_set(dimension) {
                let (first, last) = region[dimension];
                let (mine, its) = (self.extents[dimension].0, other.extents[dimension].0);
                return its & !mine & bits(first, last) == 0;
            }
            let mine = self.clip(family, region, dimension);
            let its = other.clip(family, region, dimension);
            match (mine, its) {
                (Some(mine), Some(its)) => mine.0 <= its.0 && mine.1 >= its.1,
                (None, Some(_)) => false,
                (_, None) => true,
            }
        })
    }

    /// The bits of a set, or the whole interval.
    pub fn extent(&self, dimension: usize) -> (u32, u32) {
        self.extents[dimension]
    }
}

/// The bits `first..=last`, both at most 31.
fn bits(first: u32, last: u32) -> u32 {
    (u32::MAX >> (31 - last)) & (u32::MAX << first)
}

/// The pieces of all rules for one IP version, in the order of the rules; an error is the number of pieces at
/// which it stopped.
pub fn pieces(rules: &[Rule], family: Family, most: usize) -> Result<Vec<Piece>, usize> {
    let mut pieces = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let sources = addresses(&rule.sources, family);
        let destinations = addresses(&rule.destinations, family);
        for (protocol, source_ports, destination_ports) in protocols(&rule.protocol, family) {
            let count =
                sources.len() * destinations.len() * source_ports.len() * destination_ports.len();
            if pieces.len() + count > most {
                return Err(pieces.len() + count);
            }
            for source in &sources {
                for destination in &destinations {
                    for source_port in &source_ports {
                        for destination_port in &destination_ports {
                            let tail = [
                                *source_port,
                                *destination_port,
                                protocol,
                                twice(rule.from.0.into()),
                                twice(rule.to.0.into()),
                                twice(states(rule.state)),
                            ];
                            let parts = source.iter().chain(destination).chain(&tail);
                            let mut extents = family.everything();
                            for (extent, part) in extents.iter_mut().zip(parts) {
                                *extent = *part;
                            }
                            pieces.push(Piece {
                                rule: index as u16,
                                extents,
                            });
                        }
                    }
                }
            }
        }
    }
    // Rules that no packet can match, such as one without any interface, have no keys.
    pieces.retain(|piece| {
        let all = family.everything();
        (0..family.dimensions()).all(|dimension| piece.clip(family, &all, dimension).is_some())
    });
    Ok(pieces)
}

fn twice(set: u32) -> (u32, u32) {
    (set, set)
}

fn states(state: rule::State) -> u32 {
    match state {
        rule::State::New => 0b01,
        rule::State::Invalid => 0b10,
        rule::State::Any => 0b11,
    }
}

/// Address lists as extents: one word for IPv4, four for IPv6.
fn addresses(list: &[IpPrefix], family: Family) -> Vec<Vec<(u32, u32)>> {
    match family {
        Family::V4 => {
            let ranges = list.iter().filter_map(|prefix| match *prefix {
                IpPrefix::V4(Prefix { address, length }) => {
                    let prefix = Prefix::of(address, length);
                    Some((prefix.address.to_bits(), prefix.last().to_bits()))
                }
                IpPrefix::V6(_) => None,
            });
            if list.is_empty() {
                return vec![vec![(0, u32::MAX)]];
            }
            let ranges = merge(ranges.collect());
            ranges.into_iter().map(|range| vec![range]).collect()
        }
        Family::V6 => {
            let prefixes = list.iter().filter_map(|prefix| match *prefix {
                IpPrefix::V6(Prefix6 { address, length }) => Some(Prefix6::of(address, length)),
                IpPrefix::V4(_) => None,
            });
            let mut prefixes: Vec<Prefix6> = prefixes.collect();
            if list.is_empty() {
                prefixes.push(Prefix6::ANY);
            }
            // Wide ones first, so that what is inside of another comes later and is left out.
            prefixes.sort_by_key(|prefix| (prefix.length, prefix.address));
            let mut kept: Vec<Prefix6> = Vec::new();
            for prefix in prefixes {
                if !kept.iter().any(|wide| wide.contains(prefix.address)) {
                    kept.push(prefix);
                }
            }
            let words = |prefix: Prefix6| {
                let (first, last) = (prefix.address.to_bits(), prefix.last().to_bits());
                let word = |bits: u128, index: u32| (bits >> (96 - 32 * index)) as u32;
                (0..4)
                    .map(|index| (word(first, index), word(last, index)))
                    .collect()
            };
            kept.into_iter().map(words).collect()
        }
    }
}

type Extents = Vec<(u32, u32)>;

/// Protocol, source ports, destination ports.
fn protocols(protocol: &Protocol, family: Family) -> Vec<((u32, u32), Extents, Extents)> {
    let any = vec![(0, 0xffff)];
    let one = |number: u8, source, destination| {
        vec![((number.into(), number.into()), source, destination)]
    };
    let ported =
        |number: u8, ports: &Ports| one(number, ranges(&ports.source), ranges(&ports.destination));
    match (protocol, family) {
        (Protocol::Any, _) => vec![((0, 0xff), any.clone(), any)],
        (Protocol::Tcp(ports), _) => ported(TCP, ports),
        (Protocol::Udp(ports), _) => ported(UDP, ports),
        (Protocol::Icmp(kinds), Family::V4) => one(ICMP, any, types(kinds)),
        (Protocol::Icmp6(kinds), Family::V6) => one(ICMP6, any, types(kinds)),
        (Protocol::Icmp(_), Family::V6) | (Protocol::Icmp6(_), Family::V4) => Vec::new(),
        (Protocol::Number(number), _) => one(*number, any.clone(), any),
    }
}

fn ranges(list: &[RangeInclusive<u16>]) -> Extents {
    if list.is_empty() {
        return vec![(0, 0xffff)];
    }
    let ranges = list
        .iter()
        .map(|range| (u32::from(*range.start()), u32::from(*range.end())));
    merge(ranges.filter(|(first, last)| first <= last).collect())
}

fn types(list: &[u8]) -> Extents {
    if list.is_empty() {
        return vec![(0, 0xffff)];
    }
    let ranges = list.iter().map(|kind| {
        let first = u32::from(*kind) << 8;
        (first, first | 0xff)
    });
    merge(ranges.collect())
}

/// Joins ranges that overlap or touch.
fn merge(mut ranges: Extents) -> Extents {
    ranges.sort_unstable();
    let mut merged: Extents = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(previous) if first <= previous.1.saturating_add(1) => {
                previous.1 = previous.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}
