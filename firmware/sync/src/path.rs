//! Paths between the two appliances: which of them live.

use time::{Duration, Instant};

/// One of the paths, numbered alike on both appliances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Path(pub u8);

/// Most paths: four between addresses, and the serial line.
pub const PATHS: usize = 5;

impl Path {
    /// The serial line.
    pub const SERIAL: Self = Self(PATHS as u8 - 1);

    /// Its place in lists of paths.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its place in sets of paths.
    #[must_use]
    pub const fn bit(self) -> u8 {
        1_u8.unbounded_shl(self.0 as u32)
    }
}

/// What is known of one path.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// Time between two heartbeats.
    pub interval: Duration,
    /// How long it may be silent.
    pub limit: Duration,
    /// When the next heartbeat is due.
    pub due: Instant,
    /// When the peer was heard last.
    pub heard: Option<Instant>,
    /// The latest heartbeat of this session that was heard here.
    pub latest: Option<u32>,
    /// Whether the peer was heard not too long ago.
    pub up: bool,
}

impl Line {
    /// A path that was not used yet.
    #[must_use]
    pub fn new(interval: Duration, misses: u8) -> Self {
        Self {
            interval,
            limit: interval * u32::from(misses),
            due: Instant::ZERO,
            heard: None,
            latest: None,
            up: false,
        }
    }

    /// When it will have been silent for too long.
    #[must_use]
    pub fn end(&self) -> Option<Instant> {
        let heard = self.heard.filter(|_| self.up)?;
        Some(heard + self.limit)
    }
}
