//! A token bucket: how often something may happen.

use time::{Duration, Instant};

/// So many times per second on average, and so many at once after a pause.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Time that one token takes to come; zero for a bucket that never has one.
    interval: Duration,
    /// How far `full` may lie ahead.
    tolerance: Duration,
    /// When the bucket is full again.
    full: Instant,
}

impl Bucket {
    pub fn new(now: Instant, per_second: u16, burst: u16) -> Self {
        let micros = 1_000_000_u64.checked_div(per_second.into()).unwrap_or(0);
        let interval = Duration::from_micros(micros);
        Self {
            interval,
            tolerance: interval * u32::from(burst.saturating_sub(1)),
            full: now,
        }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.interval.is_zero() || now + self.tolerance < self.full {
            return false;
        }
        self.full = self.full.max(now) + self.interval;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let mut now = Instant::ZERO;
        let mut bucket = Bucket::new(now, 100, 5);
        assert_eq!((0..20).filter(|_| bucket.take(now)).count(), 5);
        let mut taken = 0;
        for _ in 0..1000 {
            now = now + Duration::from_millis(1);
            taken += u32::from(bucket.take(now));
        }
        assert_eq!(taken, 100);
        now = now + Duration::from_secs(60);
        assert_eq!((0..20).filter(|_| bucket.take(now)).count(), 5);
    }

    #[test]
    fn zero_is_never() {
        let mut bucket = Bucket::new(Instant::ZERO, 0, 5);
        assert!(!bucket.take(Instant::ZERO + Duration::from_secs(1)));
    }
}
