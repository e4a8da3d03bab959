//! Hand-over: the operator wants the peer to take over, and this appliance goes on until it has.

use time::{Duration, Instant};

use crate::group::{Group, push};
use crate::standing::{DEMOTED, Reason};
use crate::{Action, Actions, Outcome, Peer, State};

/// How long a peer may take to take over when the operator asks for it.
const HANDOVER: Duration = Duration::from_secs(3);

/// A hand-over that has been asked for. Only in Active.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) until: Instant,
    /// Whether the operator had demoted this appliance before.
    demoted: bool,
}

impl Group {
    /// The operator wants the peer to take over: this one goes on until it has.
    pub(crate) fn hand_over(&mut self, now: Instant, actions: &mut Actions) {
        let obstacle = match self.state {
            State::Initialize | State::Backup | State::Fault => Some(Outcome::NotActive),
            State::Active => self.obstacle(),
        };
        if let Some(obstacle) = obstacle {
            return push(actions, Action::Handover(obstacle));
        }
        if self.handover.is_none() {
            self.handover = Some(Pending {
                until: now + HANDOVER,
                demoted: self.yielding(),
            });
        }
        self.reassess(now, actions, |standing| {
            standing.demote(now, Reason::Operator, true);
        });
    }

    /// Why the peer cannot take over, if so.
    pub(crate) fn obstacle(&self) -> Option<Outcome> {
        match self.companion.news() {
            Peer::Unknown | Peer::Lost => Some(Outcome::NoPeer),
            Peer::Alive {
                state,
                priority,
                in_sync,
                ..
            } => match state {
                State::Initialize | State::Fault => Some(Outcome::PeerFault),
                State::Backup if !in_sync => Some(Outcome::PeerNotInSync),
                State::Backup if priority <= DEMOTED => Some(Outcome::PeerFault),
                State::Backup | State::Active => None,
            },
        }
    }

    /// Ends a hand-over that does not come about; this appliance goes on as before.
    pub(crate) fn fail(&mut self, now: Instant, why: Outcome, actions: &mut Actions) {
        let before = self.priority();
        self.abandon(now, why, actions);
        if self.priority() != before {
            self.advertise(now, actions);
        }
    }

    pub(crate) fn abandon(&mut self, now: Instant, why: Outcome, actions: &mut Actions) {
        if let Some(pending) = self.handover.take() {
            self.standing.demote(now, Reason::Operator, pending.demoted);
            push(actions, Action::Handover(why));
        }
    }
}
