//! The one brain over all virtual routers of an appliance.

use policy::Config;
use time::Instant;

use crate::{Actions, Input, State};

/// All virtual routers of one appliance, which are Active together or not at all.
#[derive(Clone, Debug)]
pub struct Group {
    state: State,
}

impl Group {
    /// The group of all routers in `config`, in Initialize. The configuration must be a validated one.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let _ = config;
        Self {
            state: State::Initialize,
        }
    }

    /// Applies one input and returns all that has to happen now (RFC 9568 §6.4). One call does all that
    /// is due: there is no queue to drain.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input) -> Actions {
        let _ = (now, input);
        Actions::new()
    }

    /// When to call `step` with `Input::Timer`; `None` while no timer runs.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The state of all routers.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What tracking takes from every router's priority now.
    #[must_use]
    pub fn penalty(&self) -> u8 {
        0
    }

    /// The priority that the router of a leg advertises now (base less tracking, at least 1); `None` if
    /// the leg has no router.
    #[must_use]
    pub fn priority(&self, leg: u8) -> Option<u8> {
        let _ = leg;
        None
    }
}
