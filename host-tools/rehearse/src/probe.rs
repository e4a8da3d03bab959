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
