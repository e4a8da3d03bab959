//! A small generator, so that the same seed gives the same probes.

use random::SplitMix64;

/// What a checker draws. Not for secrets: who sees many sequence numbers can compute the next.
#[derive(Clone, Debug)]
pub(crate) struct Random(SplitMix64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) fn word(&mut self) -> u32 {
        (self.0.draw() >> 32) as u32
    }

    /// 64 bits.
    pub(crate) fn token(&mut self) -> u64 {
        self.0.draw()
    }

    /// A number less than `limit`, or 0 if that is 0. The bias does not matter for spreading timers.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0.draw().checked_rem(limit).unwrap_or(0)
    }
}
