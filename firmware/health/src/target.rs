//! One thing that is checked again and again, and what its results add up to.

use core::net::IpAddr;

use time::{Duration, Instant};

use crate::agent::Said;
use crate::random::Random;
use crate::reason::Reason;

/// One address that is asked one question.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub server: IpAddr,
    pub asks: Asks,
    pub port: u16,
    pub pace: Pace,
    pub health: Health,
    /// What it said; only an agent says anything.
    pub said: Said,
    /// When the next check begins.
    pub due: Instant,
    /// The check under way.
    pub probe: Option<Probe>,
    /// When its question is sent again.
    pub again: Option<Instant>,
    /// When that is over.
    pub gives_up: Instant,
}

/// Which question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    /// That of the check with this index.
    Check(u8),
    /// What the agent has to say.
    Agent,
}

/// How often, and how patiently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub interval_ms: u16,
    pub timeout_ms: u16,
    pub rise: u8,
    pub fall: u8,
    pub jitter: u8,
}

/// A check under way.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    /// One packet and its answer.
    Question(Question),
    /// The connection with this index.
    Stream(u8),
}

/// What an answer is recognised by.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Question {
    /// A SYN that has no answer yet.
    HalfOpen { port: u16, sequence: u32 },
    /// A DNS query.
    Query { port: u16, id: u16 },
    /// An echo request.
    Echo { id: u16, sequence: u16, token: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not yet checked: the first result decides.
    Unknown,
    /// With so many failures in a row.
    Healthy { failures: u8 },
    /// With so many successes in a row.
    Unhealthy { successes: u8 },
}

impl Target {
    pub fn is_at(&self, address: IpAddr, port: u16) -> bool {
        (self.server, self.port) == (address, port)
    }

    pub fn is_healthy(&self) -> bool {
        matches!(self.health, Health::Healthy { .. })
    }

    /// Index of the check; 0 for an agent, which is asked nothing.
    pub fn check(&self) -> u8 {
        match self.asks {
            Asks::Check(check) => check,
            Asks::Agent => 0,
        }
    }

    /// Notes that a check begins.
    pub fn begin(&mut self, now: Instant, probe: Probe, random: &mut Random) {
        self.probe = Some(probe);
        self.gives_up = now + Duration::from_millis(self.pace.timeout_ms.into());
        self.again = match probe {
            Probe::Stream(_) => None,
            Probe::Question(_) => (self.health == Health::Unknown).then_some(now + AGAIN),
        };
        self.plan(now, random);
    }

    /// Plans the next check: an interval later, give or take the jitter.
    pub fn plan(&mut self, now: Instant, random: &mut Random) {
        let interval = 1000 * u64::from(self.pace.interval_ms);
        let jitter = interval / 100 * u64::from(self.pace.jitter.min(100));
        let jittered = interval - jitter + random.below(2 * jitter + 1);
        self.due = now + Duration::from_micros(jittered);
    }

    /// Counts the result of a check; `true` if it makes the target healthy or unhealthy.
    pub fn judge(&mut self, result: Result<(), Reason>) -> bool {
        let Pace { rise, fall, .. } = self.pace;
        let before = self.health;
        self.health = match (before, result) {
            (Health::Unknown | Health::Healthy { .. }, Ok(())) => Health::Healthy { failures: 0 },
            (Health::Unknown | Health::Unhealthy { .. }, Err(_)) => {
                Health::Unhealthy { successes: 0 }
            }
            (Health::Healthy { failures }, Err(_)) if failures + 1 < fall => Health::Healthy {
                failures: failures + 1,
            },
            (Health::Healthy { .. }, Err(_)) => Health::Unhealthy { successes: 0 },
            (Health::Unhealthy { successes }, Ok(())) if successes + 1 < rise => {
                Health::Unhealthy {
                    successes: successes + 1,
                }
            }
            (Health::Unhealthy { .. }, Ok(())) => Health::Healthy { failures: 0 },
        };
        core::mem::discriminant(&before) != core::mem::discriminant(&self.health)
    }
}

/// How long the very first answer is waited for before the question is repeated.
const AGAIN: Duration = Duration::from_millis(100);
