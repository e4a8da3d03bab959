//! What the other appliance of the pair says of itself, and what follows for an election: a peer that answers on any path is
//! not dead, and one that does not answer on any need not be waited for.

use policy::Config;
use time::{Duration, Instant};

use crate::router::Router;
use crate::{Cause, Peer, State};

/// The peer, as its heartbeats show it.
#[derive(Clone, Debug)]
pub(crate) struct Companion {
    terms: Option<Terms>,
    /// What holds from when both have the same configuration.
    next: Option<Terms>,
    news: Peer,
    /// When it last said that it is Active.
    active_at: Instant,
    /// From when on a Backup succeeds to the Active peer without waiting for Active_Down_Timer, and why.
    succession: Option<(Instant, Cause)>,
    /// Until when its silence may be our own sleep.
    distrusted_until: Instant,
    /// Whether a sleep has put off what its silence means. Once, or who always sleeps would never succeed to it.
    excused: bool,
}

/// What the two have agreed about.
#[derive(Clone, Debug)]
struct Terms {
    heartbeat: Duration,
    /// How long all paths must be silent for a dead peer.
    silence: Duration,
    /// Whether a tie is ours.
    senior: bool,
}

impl Companion {
    pub(crate) fn new(config: &Config) -> Self {
        let terms = config.availability.pair.as_ref().map(|pair| {
            let heartbeat = Duration::from_millis(pair.heartbeat.max(1).into());
            // Heartbeats and adverts must not see different winners of a tie: the addresses decide where both are known.
            let routers = config.routers.iter();
            let seniority = routers
                .filter_map(|router| Router::new(config, router))
                .find_map(|router| Some(router.address > router.peer?));
            Terms {
                heartbeat,
                silence: heartbeat * u32::from(pair.misses.max(2)),
                senior: seniority.unwrap_or(pair.first),
            }
        });
        Self {
            terms,
            next: None,
            news: Peer::Unknown,
            active_at: Instant::ZERO,
            succession: None,
            distrusted_until: Instant::ZERO,
            excused: false,
        }
    }

    /// Goes on under the terms of another configuration, as soon as the peer has it too.
    pub(crate) fn reload(&mut self, config: &Config) {
        let new = Self::new(config);
        if self.terms.is_some() && new.terms.is_some() {
            self.next = new.terms;
        } else {
            *self = new;
        }
    }

    /// The peer has the same configuration.
    pub(crate) fn agree(&mut self) {
        if let Some(next) = self.next.take() {
            self.terms = Some(next);
        }
    }

    pub(crate) fn news(&self) -> Peer {
        self.news
    }

    /// Takes what is known now.
    pub(crate) fn hear(&mut self, now: Instant, news: Peer) {
        if self.terms.is_none() {
            return;
        }
        let was_active = self.is_active();
        self.news = news;
        self.excused &= !matches!(news, Peer::Alive { .. });
        match news {
            Peer::Alive {
                state: State::Active,
                ..
            } => {
                self.active_at = now;
                self.succession = None;
            }
            Peer::Alive {
                state: State::Backup,
                yielding: false,
                ..
            } => self.succession = None,
            Peer::Alive { .. } if was_active => self.succession = Some((now, Cause::PeerGone)),
            Peer::Lost if was_active => {
                let at = now.max(self.distrusted_until);
                self.succession = Some((at, Cause::PeerLost));
            }
            Peer::Alive { .. } | Peer::Lost | Peer::Unknown => {}
        }
    }

    /// Another router than the peer may be Active: the succession is not open.
    pub(crate) fn forgo(&mut self) {
        self.succession = None;
    }

    pub(crate) fn succession(&self) -> Option<(Instant, Cause)> {
        self.succession
    }

    /// Adverts that came in later were not the peer's last ones as an Active: between two heartbeats it may have sent one, and
    /// that may have been slow.
    pub(crate) fn last_advert(&self) -> Instant {
        let heartbeat = self.terms.as_ref().map(|terms| terms.heartbeat);
        self.active_at + heartbeat.unwrap_or_default() * 3 / 2
    }

    /// We slept: what lies in the receive queue may break the silence.
    pub(crate) fn slept(&mut self, now: Instant) {
        if let Some(terms) = &self.terms
            && !self.excused
        {
            self.excused = true;
            self.distrusted_until = now + terms.silence;
            if let Some((at, Cause::PeerLost)) = &mut self.succession {
                *at = self.distrusted_until.max(*at);
            }
        }
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(
            self.news,
            Peer::Alive {
                state: State::Active,
                ..
            }
        )
    }

    /// Whether it is there and says that it is not Active.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.news, Peer::Alive { .. }) && !self.is_active()
    }

    /// Its priority, if it is Active.
    pub(crate) fn active_priority(&self) -> Option<u8> {
        match self.news {
            Peer::Alive {
                state: State::Active,
                priority,
                ..
            } => Some(priority),
            Peer::Unknown | Peer::Lost | Peer::Alive { .. } => None,
        }
    }

    /// Whether it is Active and wants to be relieved.
    pub(crate) fn asks_for_relief(&self) -> bool {
        matches!(
            self.news,
            Peer::Alive {
                state: State::Active,
                yielding: true,
                ..
            }
        )
    }

    /// Whether it has the better claim if both are Active, with its priority. Who asks for relief has none, unless both do.
    pub(crate) fn outranks(&self, priority: u8, yielding: bool) -> Option<u8> {
        let senior = self.terms.as_ref()?.senior;
        match self.news {
            Peer::Alive {
                state: State::Active,
                priority: theirs,
                yielding: asks,
                ..
            } if (!asks || yielding) && (theirs, !senior) > (priority, senior) => Some(theirs),
            Peer::Alive { .. } | Peer::Lost | Peer::Unknown => None,
        }
    }

    /// After how long an absence of ours the peer may have taken over; `None` if it does not watch us or is not able to.
    pub(crate) fn patience(&self) -> Option<Duration> {
        match self.news {
            Peer::Alive {
                state: State::Backup | State::Active,
                ..
            } => self.nap(),
            Peer::Alive {
                state: State::Initialize | State::Fault,
                ..
            }
            | Peer::Lost
            | Peer::Unknown => None,
        }
    }

    /// After how long an absence one of the two may take the other for dead.
    pub(crate) fn nap(&self) -> Option<Duration> {
        (self.terms.as_ref()).map(|terms| terms.silence - terms.heartbeat)
    }

    /// How often we want to be called, to know how long we were away.
    pub(crate) fn attention(&self) -> Option<Duration> {
        self.terms.as_ref().map(|terms| terms.heartbeat / 2)
    }
}
