//! What a server may get, from its check and its agent together.

use crate::agent::{Admin, Said, State};

/// What a server may get now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Standing {
    /// Whether it is in service at all.
    pub healthy: bool,
    /// Whether it keeps its flows but gets no new ones.
    pub drain: bool,
    /// Percent of its configured weight that it can take; 0 drains it too.
    pub percent: u8,
    /// Most flows at a time, if its agent set that; 0 for no limit.
    pub max_flows: Option<u32>,
}

impl Standing {
    /// The standing of a server whose check passed or not, if its agent said this.
    #[must_use]
    pub fn new(passed: bool, said: Said) -> Self {
        Self {
            healthy: passed && said.state == State::Up && said.admin != Admin::Maint,
            drain: said.admin == Admin::Drain,
            percent: u8::try_from(said.percent).unwrap_or(u8::MAX),
            max_flows: said.max_flows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_and_agent_together() {
        use Admin::{Drain, Maint, Ready};
        use State::{Down, Fail, Stopped, Up};
        // Check passed; what the agent said; healthy, drain, percent.
        let table = [
            ("fit", true, (Up, Ready, 100), (true, false, 100)),
            ("check failed", false, (Up, Ready, 100), (false, false, 100)),
            ("half", true, (Up, Ready, 50), (true, false, 50)),
            ("nothing", true, (Up, Ready, 0), (true, false, 0)),
            (
                "more than a byte",
                true,
                (Up, Ready, 300),
                (true, false, 255),
            ),
            ("drain", true, (Up, Drain, 100), (true, true, 100)),
            ("maintenance", true, (Up, Maint, 100), (false, false, 100)),
            ("down", true, (Down, Ready, 100), (false, false, 100)),
            ("fail", true, (Fail, Ready, 100), (false, false, 100)),
            ("stopped", true, (Stopped, Drain, 100), (false, true, 100)),
        ];
        for (name, passed, (state, admin, percent), (healthy, drain, share)) in table {
            let said = Said {
                state,
                admin,
                percent,
                max_flows: Some(7),
            };
            let standing = Standing {
                healthy,
                drain,
                percent: share,
                max_flows: Some(7),
            };
            assert_eq!(Standing::new(passed, said), standing, "{name}");
        }
        let silent = Standing::new(true, Said::default());
        assert_eq!(
            (silent.healthy, silent.drain, silent.percent),
            (true, false, 100)
        );
    }
}
