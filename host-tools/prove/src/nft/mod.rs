//! A server's nftables.conf, read as the kernel would read it. Only statements whose meaning is modelled
//! here are accepted: what is unknown is an error, never ignored.

mod lex;
mod matches;
mod parse;

use std::ops::RangeInclusive;

pub use matches::{Judgement, Line, Verdict};

use crate::packet::{Packet, Version};
use crate::space::{Set, Space};

/// What is wrong with a ruleset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct NftError {
    /// Line of the text, from 1.
    pub line: usize,
    /// What is there.
    pub problem: String,
}

/// Which way a packet goes through a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the network to a process.
    In,
    /// From a process to the network.
    Out,
    /// From the network to the network.
    Through,
}

/// What connection tracking says about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It belongs to no connection yet.
    New,
    /// It belongs to one that was seen in both directions.
    Established,
    /// It belongs to another connection, as ICMP errors do.
    Related,
    /// It belongs nowhere.
    Invalid,
}

/// A parsed ruleset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    chains: Vec<Chain>,
}

/// A base chain of type filter.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chain {
    name: String,
    /// `ip` and `ip6` tables see one version only.
    version: Option<Version>,
    hook: Hook,
    accepts: bool,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    fn is_on(self, way: Way) -> bool {
        match self {
            Self::Prerouting => way != Way::Out,
            Self::Input => way == Way::In,
            Self::Forward => way == Way::Through,
            Self::Output => way == Way::Out,
            Self::Postrouting => way != Way::In,
        }
    }
}

impl Ruleset {
    /// Reads a ruleset.
    pub fn parse(text: &str) -> Result<Self, NftError> {
        parse::ruleset(text)
    }

    /// Packets that pass in one direction over the network (not the loopback interface), while no rate limit is exceeded.
    #[must_use]
    pub fn accepts(&self, space: &Space, way: Way, state: State) -> Set {
        let mut passes = space.all();
        for chain in self.on(space.version(), way) {
            let (mut accepted, mut open) = (space.none(), space.all());
            for line in &chain.lines {
                for (set, verdict) in line.decides(space, state) {
                    let decided = open.and(&set);
                    if verdict == Verdict::Accept {
                        accepted = accepted.or(&decided);
                    }
                    open = open.minus(&decided);
                }
            }
            if chain.accepts {
                accepted = accepted.or(&open);
            }
            passes = passes.and(&accepted);
        }
        passes
    }

    /// What happens to one packet, and which line says so.
    #[must_use]
    pub fn judge(&self, space: &Space, way: Way, state: State, packet: &Packet) -> Judgement {
        let mut last = Judgement {
            accepted: true,
            line: None,
            text: "no chain looks at it".to_owned(),
        };
        for chain in self.on(space.version(), way) {
            last = chain.judge(space, state, packet);
            if !last.accepted {
                return last;
            }
        }
        last
    }

    fn on(&self, version: Version, way: Way) -> impl Iterator<Item = &Chain> {
        self.chains.iter().filter(move |chain| {
            chain.hook.is_on(way) && chain.version.is_none_or(|only| only == version)
        })
    }
}

impl Chain {
    fn judge(&self, space: &Space, state: State, packet: &Packet) -> Judgement {
        for line in &self.lines {
            for (set, verdict) in line.decides(space, state) {
                if space.contains(&set, packet) {
                    return Judgement {
                        accepted: verdict == Verdict::Accept,
                        line: Some(line.number),
                        text: line.text.clone(),
                    };
                }
            }
        }
        let policy = if self.accepts { "accept" } else { "drop" };
        Judgement {
            accepted: self.accepts,
            line: None,
            text: format!("policy {policy} of chain {}", self.name),
        }
    }
}

/// A list of values and ranges of a field.
type Values = Vec<RangeInclusive<u128>>;

#[cfg(test)]
mod tests;
