//! Whether the neighbours that a leg depends on answer ARP.

use core::net::Ipv4Addr;

use filter::Hop;
use policy::{MAX_INTERFACES, MAX_TRACKED};
use time::{Duration, Instant};

use crate::leg::Legs;
use crate::neighbour::Neighbours;
use crate::{Transmit, emit};

/// Legs whose verdict changed: index and whether a neighbour answers.
pub type Changes = heapless::Vec<(u8, bool), MAX_INTERFACES>;

/// Probes tracked neighbours and remembers when each was last heard.
#[derive(Debug)]
pub struct Tracker {
    tracked: heapless::Vec<Tracked, { MAX_INTERFACES * MAX_TRACKED }>,
    unreachable: [bool; MAX_INTERFACES],
    next: Option<Instant>,
}

#[derive(Debug)]
struct Tracked {
    hop: Hop,
    heard: Instant,
}

const PROBE: Duration = Duration::from_millis(200);
const SILENCE: Duration = Duration::from_secs(1);

impl Tracker {
    pub fn new(now: Instant, legs: &Legs) -> Self {
        let tracked: heapless::Vec<Tracked, _> = legs
            .iter()
            .flat_map(|(index, leg)| leg.leg().track.iter().map(move |address| (index, *address)))
            .map(|(leg, address)| Tracked {
                hop: Hop {
                    leg,
                    address: address.into(),
                },
                heard: now,
            })
            .collect();
        let next = (!tracked.is_empty()).then_some(now);
        Self {
            tracked,
            unreachable: [false; MAX_INTERFACES],
            next,
        }
    }

    /// Goes on with what other legs track.
    pub fn reload(&mut self, now: Instant, legs: &Legs) {
        let new = Self::new(now, legs);
        let old = core::mem::replace(self, new);
        for tracked in &mut self.tracked {
            if let Some(old) = old.tracked.iter().find(|old| old.hop == tracked.hop) {
                tracked.heard = old.heard;
            }
        }
        for (leg, (flag, was)) in (0..).zip(self.unreachable.iter_mut().zip(old.unreachable)) {
            *flag = was && self.tracked.iter().any(|tracked| tracked.hop.leg == leg);
        }
        self.next = self.next.map(|now| old.next.unwrap_or(now));
    }

    /// Whether a neighbour of a leg answers, or none is tracked.
    pub fn is_reachable(&self, leg: u8) -> bool {
        let unreachable = self.unreachable.get(usize::from(leg));
        unreachable.is_none_or(|unreachable| !unreachable)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Sends the probes that are due; the legs that fell silent.
    pub fn tick(
        &mut self,
        now: Instant,
        legs: &Legs,
        neighbours: &mut Neighbours,
        out: &mut impl Transmit,
    ) -> Changes {
        let mut changes = Changes::new();
        match self.next {
            Some(next) if now >= next => self.next = Some(now + PROBE),
            _ => return changes,
        }
        for tracked in &self.tracked {
            // One that answered just now is asked alone, so that its leg's other hosts have peace.
            let answers = now.since(tracked.heard) < 2 * PROBE;
            let mac = neighbours.lookup(tracked.hop).filter(|_| answers);
            emit::ask(legs, tracked.hop, mac, out);
        }
        for (leg, unreachable) in (0..).zip(&mut self.unreachable) {
            let mut on_leg = self.tracked.iter().filter(|t| t.hop.leg == leg).peekable();
            let silent = on_leg.peek().is_some() && on_leg.all(|t| now.since(t.heard) >= SILENCE);
            if silent && !*unreachable {
                *unreachable = true;
                let _ = changes.push((leg, false)); // one place for each leg
            }
        }
        changes
    }

    /// Notes an ARP reply; whether it makes the leg reachable again.
    pub fn heard(&mut self, now: Instant, leg: u8, address: Ipv4Addr) -> bool {
        let hop = Hop {
            leg,
            address: address.into(),
        };
        let Some(tracked) = self.tracked.iter_mut().find(|t| t.hop == hop) else {
            return false;
        };
        tracked.heard = now;
        let flag = self.unreachable.get_mut(usize::from(leg));
        flag.is_some_and(core::mem::take)
    }
}
