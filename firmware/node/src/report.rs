//! Which dropped frames a person is told about: every reason at once when it is new, then less and less often
//! while it goes on.

use filter::Drop;
use time::Instant;

use crate::{Event, Log};

/// What was reported of each reason.
#[derive(Debug)]
pub struct Reports([Reason; Drop::ALL.len()]);

#[derive(Clone, Copy, Debug)]
struct Reason {
    /// The counter at the last event.
    reported: u32,
    /// Looks until the next event may come.
    wait: u8,
    /// The last wait; doubled by each event, and forgotten after as long without a drop.
    pause: u8,
}

/// Longest pause between two events about one reason, in looks: with one each 10 s, about 20 minutes.
const MAX_PAUSE: u8 = 128;

impl Reports {
    pub const fn new() -> Self {
        let fresh = Reason {
            reported: 0,
            wait: 0,
            pause: 0,
        };
        Self([fresh; Drop::ALL.len()])
    }

    /// Looks at all counters, and puts what is due into the queue of events.
    pub fn write(&mut self, now: Instant, log: &mut Log) {
        for (entry, (reason, total)) in self.0.iter_mut().zip(log.counters.drops()) {
            if let Some(wait) = entry.wait.checked_sub(1) {
                entry.wait = wait;
                continue;
            }
            let count = total.wrapping_sub(entry.reported);
            if count == 0 {
                entry.pause = 0;
                continue;
            }
            log.journal.push(now, Event::Dropped { reason, count });
            entry.reported = total;
            entry.wait = entry.pause;
            entry.pause = (entry.pause * 2 + 1).min(MAX_PAUSE - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::Counters;
    use crate::journal::Journal;

    #[test]
    fn what_goes_on_is_said_ever_less_often_and_every_drop_once() {
        let mut log = Log {
            counters: Counters::new(),
            journal: Journal::default(),
            epoch: None,
        };
        let mut reports = Reports::new();
        let mut said = Vec::new();
        let mut drops_then_look = |drops: u32| {
            for _ in 0..drops {
                log.counters.drop(Drop::NeighbourSilent);
            }
            reports.write(Instant::ZERO, &mut log);
            match log.journal.pop() {
                Some(Event::Dropped {
                    reason: Drop::NeighbourSilent,
                    count,
                }) => said.push(count),
                Some(other) => panic!("{other:?}"),
                None => said.push(0),
            }
        };
        for _ in 0..8 {
            drops_then_look(1);
        }
        // Nothing happens any more: what was not yet said is, and then it is new again.
        for _ in 0..20 {
            drops_then_look(0);
        }
        drops_then_look(5);
        assert_eq!(said[..8], [1, 1, 0, 2, 0, 0, 0, 4]);
        assert_eq!(said[8..28], [0; 20]);
        assert_eq!(said[28..], [5]);
    }

    #[test]
    fn pauses_have_an_end() {
        let mut log = Log {
            counters: Counters::new(),
            journal: Journal::default(),
            epoch: None,
        };
        let mut reports = Reports::new();
        let mut last = 0;
        for look in 0..2000 {
            log.counters.drop(Drop::NoRule);
            reports.write(Instant::ZERO, &mut log);
            if log.journal.pop().is_some() {
                assert!(look - last <= usize::from(MAX_PAUSE), "{look}");
                last = look;
            }
        }
        assert!(last > 1800);
    }
}
