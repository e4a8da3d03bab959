//! What happened to frames, counted.

use filter::Drop;

/// Counters since boot.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Frames taken in.
    pub received: u64,
    /// Frames passed on to another station.
    pub forwarded: u64,
    /// ICMP errors sent.
    pub errors_sent: u32,
    /// ICMP errors not sent because there were too many.
    pub errors_withheld: u32,
    /// Packets that rules with `log` decided about and no event tells of, because there were too many; wraps.
    pub rules_withheld: u32,
    drops: [u32; Drop::ALL.len()],
}

impl Counters {
    pub(crate) const fn new() -> Self {
        Self {
            received: 0,
            forwarded: 0,
            errors_sent: 0,
            errors_withheld: 0,
            rules_withheld: 0,
            drops: [0; Drop::ALL.len()],
        }
    }

    pub(crate) fn drop(&mut self, reason: Drop) {
        if let Some(count) = self.drops.get_mut(reason.index()) {
            *count = count.wrapping_add(1);
        }
    }

    /// Frames dropped for one reason; wraps.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u32 {
        self.drops.get(reason.index()).copied().unwrap_or_default()
    }

    /// Every reason with its count, zero ones included.
    pub fn drops(&self) -> impl Iterator<Item = (Drop, u32)> {
        Drop::ALL.iter().copied().zip(self.drops)
    }
}
