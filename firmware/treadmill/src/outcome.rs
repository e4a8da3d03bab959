//! What becomes of a path's packets, and how the node's own counters prove it.

use node::{Drop, Node};

/// What must become of every packet of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on, as a packet of a known flow.
    Passes,
    /// It goes on, because a rule accepts it, and opens a flow.
    Opens,
    /// It ends in silence, for this reason.
    Drops(Drop),
    /// It ends for this reason, and its sender gets an answer.
    Answers(Drop),
}

/// Why a measurement is not one of what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing to send to.
    #[error("the policy has no TCP service on IPv4")]
    NoService,
    /// Nothing to drop.
    #[error("the rules accept every port of the server")]
    NoPort,
    /// A packet did not leave as it should.
    #[error("{path}: a packet left the node otherwise than expected")]
    Bytes {
        /// The path.
        path: &'static str,
    },
    /// The node's counters say something else.
    #[error("{path}: {what}: {have} instead of {want}")]
    Count {
        /// The path.
        path: &'static str,
        /// The counter.
        what: &'static str,
        /// What it says.
        have: u32,
        /// What it should say.
        want: u32,
    },
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    forwarded: u32,
    flows: u32,
    accepted: u32,
    drops: u32,
    reason: u32,
}

impl Outcome {
    const fn reason(self) -> Option<Drop> {
        match self {
            Self::Passes | Self::Opens => None,
            Self::Drops(reason) | Self::Answers(reason) => Some(reason),
        }
    }

    /// The counters now.
    pub fn counts(self, node: &Node<'_>) -> Counts {
        let counters = node.counters();
        let sum = |sum: u32, count: u32| sum.wrapping_add(count);
        Counts {
            forwarded: counters.forwarded as u32,
            flows: node.flows() as u32,
            accepted: node.rule_hits().iter().copied().fold(0, sum),
            drops: counters.drops().map(|(_, count)| count).fold(0, sum),
            reason: self.reason().map_or(0, |reason| counters.dropped(reason)),
        }
    }

    /// Compares what `packets` packets and `sent` sent frames changed with what they should have.
    pub fn check(
        self,
        path: &'static str,
        packets: u32,
        sent: u32,
        [before, after]: [Counts; 2],
    ) -> Result<(), Fault> {
        let (passes, opens) = (matches!(self, Self::Passes), matches!(self, Self::Opens));
        let (drops, answers) = (self.reason().is_some(), matches!(self, Self::Answers(_)));
        let grown = |of: fn(&Counts) -> u32| of(&after).wrapping_sub(of(&before));
        let table = [
            ("frames sent", sent, passes || opens || answers),
            ("packets forwarded", grown(|c| c.forwarded), passes || opens),
            ("flows opened", grown(|c| c.flows), opens),
            ("hits of rules", grown(|c| c.accepted), opens),
            ("packets dropped", grown(|c| c.drops), drops),
            ("dropped for the reason", grown(|c| c.reason), drops),
        ];
        for (what, have, all) in table {
            let want = if all { packets } else { 0 };
            if have != want {
                return Err(Fault::Count {
                    path,
                    what,
                    have,
                    want,
                });
            }
        }
        Ok(())
    }
}
