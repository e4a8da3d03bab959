//! The checker of all real servers of an appliance.

use policy::Config;
use time::Instant;

use crate::{Actions, Input};

/// Checks every real server of every service. Servers with the same address and check share one probe.
#[derive(Clone, Debug)]
pub struct Checker {}

impl Checker {
    /// A checker of all servers in `config` (a validated one). Nobody is healthy before the first answer;
    /// first checks are due within the first tenth of a second. `seed` picks ports, sequence numbers and
    /// the spread of checks over time.
    #[must_use]
    pub fn new(config: &Config, seed: u64, now: Instant) -> Self {
        let _ = (config, seed, now);
        Self {}
    }

    /// Applies one input and returns what has to happen now.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input) -> Actions {
        let _ = (now, input);
        Actions::new()
    }

    /// When to call `step` with `Input::Timer`; `None` if there is nothing to check.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether a server (by index in its service) may get new flows.
    #[must_use]
    pub fn healthy(&self, service: usize, server: usize) -> bool {
        let _ = (service, server);
        false
    }

    /// The server that gets new flows of a service: the first healthy one (active/passive).
    #[must_use]
    pub fn choice(&self, service: usize) -> Option<usize> {
        let _ = service;
        None
    }
}
