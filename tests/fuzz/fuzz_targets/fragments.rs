//! Fragments in any order: those that pass never overlap, stay inside the datagram, and follow a first one.
//! Each record of the input is: datagram and flags, offset in 8 bytes (two bytes), length, seconds to wait.

#![no_main]

use std::collections::BTreeMap;

use filter::fragment::{Fragments, Piece};
use filter::hash::Key;
use libfuzzer_sys::fuzz_target;
use time::{Duration, Instant};

#[derive(Default)]
struct Passed {
    ranges: Vec<(u32, u32)>,
    last: Option<u32>,
}

fuzz_target!(|bytes: &[u8]| {
    let mut now = Instant::from_micros(1_000_000_000);
    let mut table = Fragments::<u8, 4>::new(Key::secret(1, 2));
    let mut passed: BTreeMap<u32, Passed> = BTreeMap::new();
    for record in bytes.chunks_exact(5) {
        let [which, high, low, length, wait] = *record else { return };
        now = now + Duration::from_secs(u64::from(wait % 16));
        let id = u32::from(which & 15);
        let more = which & 16 != 0;
        let offset = (u16::from_be_bytes([high, low]) & 0x3f) << 3;
        let piece = Piece {
            source: 1,
            destination: 2,
            id,
            protocol: 17,
            leg: which >> 7,
            offset,
            len: u16::from(length) * if more { 8 } else { 1 },
            more,
        };
        let name = id | u32::from(piece.leg) << 8;
        let result = if offset == 0 {
            table.begin(now, &piece).map(|()| {
                // A new datagram of this name.
                passed.remove(&name);
                table.first(now, &piece, 7);
                7
            })
        } else {
            table.later(now, &piece)
        };
        let Ok(course) = result else { continue };
        assert_eq!(course, 7);
        assert!(piece.len > 0);
        let (start, end) = (u32::from(offset), u32::from(offset) + u32::from(piece.len));
        assert!(end <= 65_535);
        let datagram = passed.entry(name).or_default();
        assert!(offset == 0 || !datagram.ranges.is_empty(), "no first fragment");
        for (from, to) in &datagram.ranges {
            assert!(end <= *from || *to <= start, "{start}..{end} overlaps {from}..{to}");
        }
        datagram.ranges.push((start, end));
        if !more {
            assert_eq!(datagram.last.replace(end), None, "two ends");
        }
        if let Some(last) = datagram.last {
            assert!(datagram.ranges.iter().all(|range| range.1 <= last), "behind the end");
        }
        let total: u32 = datagram.ranges.iter().map(|(from, to)| to - from).sum();
        if datagram.last == Some(total) {
            passed.remove(&name);
        }
    }
});
