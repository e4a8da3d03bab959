//! The last events, numbered, for whoever reads them at a pace of its own: the board's log, operators, collectors.

use heapless::Deque;
use time::Instant;

use crate::Event;

/// An event, when it happened, and its number since the start.
#[derive(Clone, Debug)]
pub struct Entry {
    pub number: u32,
    pub at: Instant,
    pub event: Event,
}

/// How many are kept: more than a moment brings in which much goes wrong.
pub const ENTRIES: usize = 128;

/// The last events.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Deque<Entry, ENTRIES>,
    /// Number of the next one.
    next: u32,
    /// The next one that the board's log takes.
    logged: u32,
}

impl Journal {
    pub fn push(&mut self, now: Instant, event: Event) {
        if self.entries.is_full() {
            self.entries.pop_front();
        }
        let entry = Entry {
            number: self.next,
            at: now,
            event,
        };
        self.next = self.next.wrapping_add(1);
        // Just made room.
        let _ = self.entries.push_back(entry);
    }

    /// Number of the event that comes next.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// The event with this number, or the oldest after it that is still there.
    pub fn from(&self, number: u32) -> Option<&Entry> {
        let kept = self.entries.len() as u32;
        let back = self.next.wrapping_sub(number).min(kept);
        self.entries.get((kept - back) as usize)
    }

    /// The next event for the board's log.
    pub fn pop(&mut self) -> Option<Event> {
        let entry = self.from(self.logged)?;
        let (number, event) = (entry.number, &entry.event);
        let count = number.wrapping_sub(self.logged);
        if count > 0 {
            self.logged = number;
            return Some(Event::Lost { count });
        }
        let event = event.clone();
        self.logged = number.wrapping_add(1);
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(port: usize) -> Event {
        Event::Link {
            port: port as u8,
            up: true,
        }
    }

    #[test]
    fn the_oldest_are_lost_and_counted() {
        let mut journal = Journal::default();
        for port in 0..ENTRIES + 3 {
            journal.push(Instant::ZERO, link(port));
        }
        assert_eq!(journal.pop(), Some(Event::Lost { count: 3 }));
        for port in 3..ENTRIES + 3 {
            assert_eq!(journal.pop(), Some(link(port)));
        }
        assert_eq!(journal.pop(), None);
    }

    #[test]
    fn every_reader_goes_at_its_own_pace() {
        let mut journal = Journal {
            next: u32::MAX - 1,
            logged: u32::MAX - 1,
            ..Journal::default()
        };
        for port in 0..5 {
            journal.push(Instant::ZERO, link(port));
        }
        assert_eq!(journal.next(), 3);
        let at = |number: u32| journal.from(number).map(|entry| entry.event.clone());
        assert_eq!(at(u32::MAX - 1), Some(link(0)));
        assert_eq!(at(u32::MAX), Some(link(1)));
        assert_eq!(at(2), Some(link(4)));
        assert_eq!(at(3), None);
        assert_eq!(at(u32::MAX - 9), Some(link(0)), "the oldest that there is");
    }
}
