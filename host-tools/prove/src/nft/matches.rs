//! Rules of a chain and the packets that they match.

use crate::packet::Version;
use crate::space::{Field, Set, Space};

use super::{State, Values};

/// What a rule does with a packet for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes this chain.
    Accept,
    /// It is gone.
    Drop,
}

/// One rule with its place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Line of the text, from 1.
    pub number: usize,
    /// The rule as it is written.
    pub text: String,
    pub(super) matches: Vec<Match>,
    pub(super) then: Then,
}

/// What follows a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next rule: counters and logs decide nothing.
    Continue,
    Verdict(Verdict),
    /// `ct state vmap`.
    ByState(Vec<(State, Verdict)>),
}

/// One condition; a rule matches what meets all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// `iifname` or `oifname` is, or is not, the loopback interface.
    Loopback { is: bool },
    /// `ct state`.
    State { states: Vec<State>, is: bool },
    /// A field of a packet of these versions and protocols.
    Field {
        version: Option<Version>,
        protocols: Vec<u8>,
        field: Field,
        values: Values,
        is: bool,
    },
    /// `meta nfproto`.
    Version { version: Version, is: bool },
    /// `tcp flags & mask == value`.
    Flags { mask: u8, value: u8, is: bool },
    /// `limit rate over`: what this looks at is more than anybody should send.
    Excess,
}

/// What a ruleset does with a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it passes.
    pub accepted: bool,
    /// Line that decided, from 1; `None` for a chain's policy.
    pub line: Option<usize>,
    /// That line's text, or the policy.
    pub text: String,
}

impl Line {
    /// The packets of this state that the line decides about.
    pub(super) fn decides(&self, space: &Space, state: State) -> Vec<(Set, Verdict)> {
        let verdict = match &self.then {
            Then::Continue => None,
            Then::Verdict(verdict) => Some(*verdict),
            Then::ByState(map) => (map.iter())
                .find(|(of, _)| *of == state)
                .map(|(_, verdict)| *verdict),
        };
        let Some(verdict) = verdict else {
            return Vec::new();
        };
        let set = (self.matches.iter()).fold(space.all(), |set, condition| {
            set.and(&condition.set(space, state))
        });
        vec![(set, verdict)]
    }
}

impl Match {
    fn set(&self, space: &Space, state: State) -> Set {
        match self {
            Self::Loopback { is } => space.when(!is),
            Self::State { states, is } => space.when(states.contains(&state) == *is),
            Self::Version { version, is } => space.when((space.version() == *version) == *is),
            Self::Field {
                version,
                protocols,
                field,
                values,
                is,
            } => {
                if version.is_some_and(|only| only != space.version()) {
                    return space.none();
                }
                let right = space.any(
                    values
                        .iter()
                        .map(|range| space.range(*field, range.clone())),
                );
                let right = if *is { right } else { right.not() };
                if protocols.is_empty() {
                    right
                } else {
                    right.and(&space.protocols(protocols))
                }
            }
            Self::Flags { mask, value, is } => {
                let right = space.flags(*mask, *value);
                let right = if *is { right } else { right.not() };
                right.and(&space.protocols(&[crate::packet::protocol::TCP]))
            }
            Self::Excess => space.none(),
        }
    }
}
