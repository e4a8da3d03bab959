//! Regular probes of the virtual address, and the blackout that they show.

use std::time::{Duration, Instant};

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent.
    pub sent: Instant,
    /// When its answer came.
    pub answered: Option<Instant>,
}

/// The longest time around or after `fault` in which no probe was answered, measured between the sending
/// times of answered probes. `None` if probes were never answered again, or not before.
#[must_use]
pub fn blackout(probes: &[Probe], fault: Instant) -> Option<Duration> {
    let answered: Vec<Instant> = probes
        .iter()
        .filter(|probe| probe.answered.is_some())
        .map(|probe| probe.sent)
        .collect();
    let first = answered.iter().rposition(|sent| *sent <= fault)?;
    let lost_at_end = probes
        .iter()
        .rev()
        .take_while(|probe| probe.answered.is_none())
        .count();
    if lost_at_end > UNANSWERED_AT_END {
        return None;
    }
    answered
        .get(first..)?
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
}

/// Probes at regular times, and their answers.
#[derive(Debug, Default)]
pub struct Probing {
    interval: Duration,
    next: Option<Instant>,
    log: Vec<Probe>,
}

impl Probing {
    /// Probes every `interval` from `now` on.
    #[must_use]
    pub fn every(interval: Duration, now: Instant) -> Self {
        Self {
            interval,
            next: Some(now),
            log: Vec::new(),
        }
    }

    /// When the next probe is due; `None` while there are none.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// The number of the probe that has to be sent now, if one is due.
    pub fn send(&mut self, now: Instant) -> Option<u32> {
        self.next.filter(|due| *due <= now)?;
        self.next = Some(now + self.interval);
        self.log.push(Probe {
            sent: now,
            answered: None,
        });
        u32::try_from(self.log.len() - 1).ok()
    }

    /// Takes the answer to probe `n`.
    pub fn answer(&mut self, n: u32, now: Instant) {
        if let Some(probe) = usize::try_from(n).ok().and_then(|n| self.log.get_mut(n)) {
            probe.answered.get_or_insert(now);
        }
    }

    /// Takes the answer to the most recent probe whose number ends in these 16 bits.
    pub fn answer_short(&mut self, n: u16, now: Instant) {
        let Some(last) = self
            .log
            .len()
            .checked_sub(1)
            .and_then(|last| u32::try_from(last).ok())
        else {
            return;
        };
        let back = u32::from(((last & 0xffff) as u16).wrapping_sub(n));
        if let Some(n) = last.checked_sub(back) {
            self.answer(n, now);
        }
    }

    /// Ends the probes and returns them.
    #[must_use]
    pub fn stop(&mut self) -> Vec<Probe> {
        self.next = None;
        std::mem::take(&mut self.log)
    }
}

/// So many last probes may still be under way when the measurement ends.
const UNANSWERED_AT_END: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_after_the_fault_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        // One probe each millisecond; lost in 100..=350 (a hiccup before the fault) and 1001..1301.
        let lost = |ms| (100..=350).contains(&ms) || (1001..1301).contains(&ms);
        let probes: Vec<_> = (0..2000)
            .map(|ms| Probe {
                sent: at(ms),
                answered: (!lost(ms)).then(|| at(ms + 1)),
            })
            .collect();
        assert_eq!(
            blackout(&probes, at(1000)),
            Some(Duration::from_millis(301))
        );
        assert_eq!(
            blackout(&probes, at(1010)),
            Some(Duration::from_millis(301))
        );
        // Without a fault the gap is that between two probes.
        assert_eq!(blackout(&probes, at(1500)), Some(Duration::from_millis(1)));
    }

    #[test]
    fn probes_are_sent_when_due_and_answers_find_them() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut probing = Probing::every(Duration::from_millis(2), start);
        assert_eq!(probing.send(at(0)), Some(0));
        assert_eq!(probing.send(at(1)), None);
        assert_eq!(probing.due(), Some(at(2)));
        for n in 1..70_000_u64 {
            assert_eq!(
                probing.send(at(2 * n)),
                Some(u32::try_from(n).expect("small"))
            );
        }
        probing.answer(3, at(7));
        probing.answer(3, at(9));
        probing.answer_short(3, at(5)); // 65,539 is more recent than 3
        probing.answer_short(65_535, at(6)); // 131,071 was not sent yet
        probing.answer(70_000, at(8));
        let log = probing.stop();
        assert_eq!(probing.send(at(1_000_000)), None);
        let answered: Vec<_> = (0..log.len())
            .filter(|n| log[*n].answered.is_some())
            .collect();
        assert_eq!(answered, [3, 65_535, 65_539]);
        assert_eq!(log[3].answered, Some(at(7)), "the first answer counts");
    }

    #[test]
    fn no_end_or_no_beginning_is_not_a_number() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let probes = |answered: &dyn Fn(u64) -> bool| -> Vec<_> {
            (0..500)
                .map(|ms| Probe {
                    sent: at(ms),
                    answered: answered(ms).then(|| at(ms)),
                })
                .collect()
        };
        assert_eq!(
            blackout(&probes(&|ms| ms < 100), at(100)),
            None,
            "never again"
        );
        assert_eq!(
            blackout(&probes(&|ms| ms > 100), at(50)),
            None,
            "never before"
        );
        assert_eq!(blackout(&[], start), None, "no probes");
        // The very last answers may still be under way.
        assert_eq!(
            blackout(&probes(&|ms| ms < 495), at(100)),
            Some(Duration::from_millis(1))
        );
    }
}
