//! The one brain over all virtual routers of an appliance.
//!
//! A gateway that is Active on one side and Backup on the other swallows traffic, so there is one state for all of them, of IPv4
//! and of IPv6:
//!
//! | state | this appliance | leaves it when |
//! |---|---|---|
//! | Initialize | is silent and deaf | it is started |
//! | Backup | listens, and never sends | every leg has been silent for Active_Down_Interval or has heard only weaker adverts: Active. Something it needs breaks: Fault |
//! | Active | answers for the addresses, advertises, announces | a better router is heard on any leg, or the peer has relieved it: last adverts, Backup. It stalled: Backup. Something breaks: goodbye on all legs that are left, Fault |
//! | Fault | is silent; must not be elected | all is mended: Backup, as after a start |
//!
//! Heartbeats of the other appliance of a pair ([`Peer`]) shorten or forbid an election, but never hinder a router that they do
//! not speak of:
//!
//! | in Backup, the peer | then |
//! |---|---|
//! | was Active, and is silent on every path | Active at once, unless adverts go on coming |
//! | was Active, and says that it no longer can be | Active at once, unless adverts go on coming |
//! | is Active, and legs are silent | no election: a cut path is not a dead peer. Only who preempts it because it says itself that it is weaker goes on |
//! | is Active, and wants to be relieved | Active at once, if nothing speaks against it; the peer stops when it sees that |
//! | is no Active, or unknown | Active_Down_Timer alone decides |
//!
//! Time that passes unseen is dangerous: who slept may take a full receive queue for silence, or go on answering for addresses
//! that another one has. [`Group::step`] looks at the clock before anything else, so the caller gives it [`Input::Timer`] when
//! that is due *before* it touches frames that waited.

use heapless::Vec;
use policy::{Config, MAX_ROUTERS, MAX_TRACKS, Tracked};
use time::{Duration, Instant};

use crate::announcements::Announcements;
use crate::companion::Companion;
use crate::handover::Pending;
use crate::router::{Judgement, Router};
use crate::standing::{OWNER, Reason, Reasons, Standing};
use crate::{Action, Actions, Advert, Cause, Input, Outcome, Peer, State};

/// How long frames are forwarded that switches send to the one who was Active.
const LINGER: Duration = Duration::from_secs(1);

/// All virtual routers of one appliance, which are Active together or not at all.
#[derive(Clone, Debug)]
pub struct Group {
    pub(crate) state: State,
    pub(crate) routers: Vec<Router, MAX_ROUTERS>,
    pub(crate) standing: Standing,
    pub(crate) companion: Companion,
    pub(crate) announcements: Announcements,
    pub(crate) preempt: bool,
    pub(crate) preempt_delay: Duration,
    pub(crate) start_delay: Duration,
    /// When time was last seen to pass.
    pub(crate) awake: Instant,
    /// Whether a late awakening has put off this election. Only in Backup.
    pub(crate) excused: bool,
    /// Nobody is elected before. Only in Backup.
    pub(crate) listen_until: Instant,
    /// From when on weaker adverts are ignored; none heard yet if `None`. Only in Backup.
    pub(crate) preempt_from: Option<Instant>,
    /// Whether it is Backup because it stalled, and nobody has taken over yet.
    pub(crate) stalled: bool,
    /// Until when frames are forwarded that come late. Only in Backup.
    pub(crate) linger: Option<Instant>,
    pub(crate) handover: Option<Pending>,
    /// Routers whose adverts are missing although the peer is Active, one bit for each.
    pub(crate) silent: u16,
}

impl Group {
    /// The group of all routers in `config`, in Initialize. The configuration must be a validated one.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let availability = &config.availability;
        Self {
            state: State::Initialize,
            routers: (config.routers.iter())
                .filter_map(|router| Router::new(config, router))
                .collect(),
            standing: Standing::new(config),
            companion: Companion::new(config),
            announcements: Announcements::new(availability.announce),
            preempt: availability.preempt,
            preempt_delay: Duration::from_millis(availability.preempt_delay.into()),
            start_delay: Duration::from_millis(availability.start_delay.into()),
            awake: Instant::ZERO,
            excused: false,
            listen_until: Instant::ZERO,
            preempt_from: None,
            stalled: false,
            linger: None,
            handover: None,
            silent: 0,
        }
    }

    /// Applies one input and returns all that has to happen now. One call does all that is due: there is no queue to drain.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input) -> Actions {
        let mut actions = Actions::new();
        self.wake(now, &mut actions);
        match input {
            Input::Start => {
                if self.state == State::Initialize {
                    match self.fault() {
                        Some(cause) => self.enter(State::Fault, cause, &mut actions),
                        None => self.begin(now, Cause::Started, &mut actions),
                    }
                }
            }
            Input::Stop => self.leave(State::Initialize, Cause::Stopped, &mut actions),
            Input::Timer => self.timer(now, &mut actions),
            Input::Advert(advert) => self.advert(now, advert, &mut actions),
            Input::Link { port, up } => self.link(now, port, up, &mut actions),
            Input::Track { track, good } => {
                self.reassess(now, &mut actions, |standing| standing.track(track, good));
            }
            Input::Demote { reason, on } => self.demote(now, reason, on, &mut actions),
            Input::Failed { until } => {
                self.reassess(now, &mut actions, |standing| standing.failed(until));
                self.elect(now, &mut actions);
            }
            Input::Peer(news) => self.peer(now, news, &mut actions),
            Input::Handover => self.hand_over(now, &mut actions),
        }
        actions
    }

    /// When to call `step` with `Input::Timer`; `None` while no timer runs.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let attention = self.attention().map(|attention| self.awake + attention);
        let timers = match self.state {
            State::Initialize | State::Fault => return None,
            State::Backup => [self.election(), self.linger, None],
            State::Active => [
                self.routers().map(|(_, router)| router.timer).min(),
                self.announcements.deadline(),
                self.handover.as_ref().map(|pending| pending.until),
            ],
        };
        let always = [attention, self.standing.deadline()];
        timers.into_iter().chain(always).flatten().min()
    }

    /// The state of all routers.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The priority that all routers advertise now.
    #[must_use]
    pub fn priority(&self) -> u8 {
        let waits = self.state != State::Active && self.companion.is_active();
        self.standing.priority(waits)
    }

    /// What tracking and demotions take from the configured priority now; negative if they add to it.
    #[must_use]
    pub fn penalty(&self) -> i16 {
        i16::from(self.standing.base()) - i16::from(self.priority())
    }

    /// Why this appliance is worth less than was configured.
    #[must_use]
    pub fn demotions(&self) -> Reasons {
        self.standing.reasons()
    }

    /// The tracked conditions about `what`, as [`Input::Track`] calls them.
    #[must_use]
    pub fn tracks(&self, what: Tracked) -> Vec<u8, MAX_TRACKS> {
        self.standing.tracks(what)
    }

    /// Whether the peer is asked to take over now: an Active that the operator demoted, or one that had to stop because it stalled.
    #[must_use]
    pub fn yielding(&self) -> bool {
        match self.state {
            State::Active => self.standing.reasons().contains(Reason::Operator),
            State::Backup => self.stalled,
            State::Initialize | State::Fault => false,
        }
    }

    /// Routers whose adverts are missing although the peer says that it is Active, one bit for each.
    #[must_use]
    pub fn silent(&self) -> u16 {
        self.silent
    }

    /// From Initialize or Fault to Backup, or to Active for the owner (RFC 9568 §6.4.1). Nothing learned before counts.
    pub(crate) fn begin(&mut self, now: Instant, cause: Cause, actions: &mut Actions) {
        let priority = self.priority();
        let until = now + self.start_delay;
        for router in &mut self.routers {
            router.forget();
            router.await_active(until, priority);
        }
        self.await_election(now);
        self.listen_until = until;
        if priority == OWNER {
            if until <= now {
                return self.take_over(now, Cause::Owner, actions);
            }
            for router in &mut self.routers {
                router.timer = until;
            }
        }
        self.enter(State::Backup, cause, actions);
    }

    /// From Active to Backup, because another one is Active (RFC 9568 §6.4.3). The last adverts tell it that there were two, so
    /// that it announces the addresses again.
    fn give_way(&mut self, now: Instant, cause: Cause, actions: &mut Actions) {
        let priority = self.priority();
        for (index, _) in self.routers() {
            send(actions, index, priority);
        }
        self.announcements.stop();
        push(actions, Action::Linger);
        self.linger = Some(now + LINGER);
        if self.handover.take().is_some() {
            push(actions, Action::Handover(Outcome::Done));
        }
        for (_, router) in self.routers_mut() {
            router.await_active(now, priority);
        }
        self.await_election(now);
        self.enter(State::Backup, cause, actions);
    }

    /// What every way into Backup has in common.
    pub(crate) fn await_election(&mut self, now: Instant) {
        self.excused = false;
        self.listen_until = now;
        self.preempt_from = None;
        self.stalled = false;
        self.companion.forgo();
    }

    /// To Active (RFC 9568 §6.4.2). The claim comes first, so that what the rest draws is answered.
    fn take_over(&mut self, now: Instant, cause: Cause, actions: &mut Actions) {
        self.linger = None;
        self.stalled = false;
        self.companion.forgo();
        let from = core::mem::replace(&mut self.state, State::Active);
        push(actions, Action::Claim);
        self.advertise(now, actions);
        push(actions, Action::Announce);
        self.announcements.start(now);
        self.changed(from, cause, actions);
    }

    /// To Initialize or Fault: an Active says goodbye on every leg that is left (RFC 9568 §6.4.3).
    pub(crate) fn leave(&mut self, to: State, cause: Cause, actions: &mut Actions) {
        if self.state == State::Active {
            self.abandon(self.awake, Outcome::NotActive, actions);
            self.announcements.stop();
            for (router, _) in self.routers() {
                send(actions, router, 0);
            }
            push(actions, Action::Release);
        }
        if self.linger.take().is_some() {
            push(actions, Action::Release);
        }
        if self.state != to {
            self.enter(to, cause, actions);
        }
    }

    pub(crate) fn enter(&mut self, to: State, cause: Cause, actions: &mut Actions) {
        let from = core::mem::replace(&mut self.state, to);
        self.changed(from, cause, actions);
    }

    fn changed(&mut self, from: State, cause: Cause, actions: &mut Actions) {
        let to = self.state;
        push(actions, Action::StateChanged { from, to, cause });
        self.note_silence(self.awake, actions);
    }

    /// One advertisement on every leg, now.
    pub(crate) fn advertise(&mut self, now: Instant, actions: &mut Actions) {
        let priority = self.priority();
        for (index, router) in self.routers_mut() {
            router.restart_adverts(now);
            send(actions, index, priority);
        }
    }

    fn timer(&mut self, now: Instant, actions: &mut Actions) {
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => self.elect(now, actions),
            State::Active => {
                let priority = self.priority();
                for (index, router) in self.routers_mut() {
                    if router.advert_due(now) {
                        send(actions, index, priority);
                    }
                }
                if self.announcements.due(now) {
                    push(actions, Action::Announce);
                }
                if (self.handover.as_ref()).is_some_and(|pending| pending.until <= now) {
                    self.fail(now, Outcome::NotTaken, actions);
                }
            }
        }
    }

    /// Takes over if that is due.
    fn elect(&mut self, now: Instant, actions: &mut Actions) {
        if self.state != State::Backup {
            return;
        }
        self.note_silence(now, actions);
        if now < self.listen_until {
            return;
        }
        if self.companion.asks_for_relief() && !self.standing.is_demoted() {
            return self.take_over(now, Cause::Relief, actions);
        }
        if let Some((at, cause)) = self.companion.succession()
            && at <= now
        {
            return self.take_over(now, cause, actions);
        }
        if self.timers() > now {
            return;
        }
        let outranks = self.outranks(now);
        if self.is_held_back(now) && !outranks {
            return;
        }
        let priority = self.priority();
        let contested = (self.routers()).any(|(_, router)| router.is_contested(now, priority));
        let cause = match (priority, outranks || contested) {
            (OWNER, _) => Cause::Owner,
            (_, true) => Cause::WeakerPeer,
            (_, false) => Cause::Silence,
        };
        self.take_over(now, cause, actions);
    }

    /// When every leg will have been silent for long enough. Without routers there is nobody to wait for.
    fn timers(&self) -> Instant {
        let timers = self.routers().map(|(_, router)| router.timer);
        timers.max().unwrap_or(Instant::ZERO)
    }

    /// When this Backup is elected if it hears nothing more, as far as that is known.
    fn election(&self) -> Option<Instant> {
        let succession = self.companion.succession().map(|(at, _)| at);
        let timers = Some(self.timers())
            .filter(|timers| *timers > self.awake || !self.is_held_back(self.awake));
        let election = [succession, timers].into_iter().flatten().min();
        election.map(|at| at.max(self.listen_until))
    }

    /// Whether the silence of a leg means nothing because the peer lives and is Active. Preemption is for who hears it everywhere.
    fn is_held_back(&self, now: Instant) -> bool {
        let priority = self.priority();
        let heard = || {
            self.routers()
                .all(|(_, router)| router.is_contested(now, priority))
        };
        self.companion.is_active() && !heard()
    }

    /// Whether the Active peer is the weaker one, as it says itself: it gives way on all legs, the silent ones too.
    fn outranks(&mut self, now: Instant) -> bool {
        let priority = self.priority();
        self.companion
            .active_priority()
            .is_some_and(|peer| peer < priority)
            && self.preempts(now, priority)
    }

    /// Reports which legs are silent although the peer is Active, when that changes.
    pub(crate) fn note_silence(&mut self, now: Instant, actions: &mut Actions) {
        let mut routers = 0;
        if self.state == State::Backup && self.companion.is_active() {
            let priority = self.priority();
            for (index, router) in self.routers() {
                if router.timer <= now && !router.is_contested(now, priority) {
                    routers |= 1 << index;
                }
            }
        }
        if routers != self.silent {
            self.silent = routers;
            push(actions, Action::Silent { routers });
        }
    }

    fn advert(&mut self, now: Instant, advert: Advert, actions: &mut Actions) {
        let priority = self.priority();
        // An advert of the peer may be older than its heartbeat, in which it asked to be relieved, or was not Active any more. If
        // it is Active again, its next heartbeat says so. Who yields waits for its advert.
        let companion = &self.companion;
        let outdated = (companion.asks_for_relief() || companion.is_idle()) && !self.yielding();
        let index = advert.router;
        let Some(router) = self.routers.get_mut(usize::from(index)) else {
            return;
        };
        // A loop in the network, or a cable that reflects: answering it would never end.
        let reflected = advert.source == router.address;
        if reflected || advert.interval.is_zero() || !self.standing.is_up(router.port) {
            return;
        }
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => {
                let weaker = (1..priority).contains(&advert.priority);
                let preempts = weaker && self.preempts(now, priority);
                let Some(router) = self.routers.get_mut(usize::from(index)) else {
                    return;
                };
                match router.heard_as_backup(now, &advert, priority, preempts) {
                    Judgement::Goodbye => self.hurry(),
                    Judgement::Weaker => self.companion.forgo(),
                    Judgement::Stronger => {
                        if !weaker {
                            self.preempt_from = None;
                        }
                        self.excused = false;
                        self.stalled = false;
                        self.companion.forgo();
                    }
                }
            }
            State::Active => {
                let mut judgement = router.heard_as_active(now, &advert, priority);
                if outdated && router.peer == Some(advert.source) {
                    judgement = judgement.min(Judgement::Weaker);
                }
                match judgement {
                    Judgement::Goodbye | Judgement::Weaker => {
                        if judgement == Judgement::Goodbye {
                            router.restart_adverts(now);
                        }
                        send(actions, index, priority);
                        self.announcements.rival(now);
                    }
                    Judgement::Stronger => {
                        router.learn(advert.interval);
                        let cause = match self.yielding() {
                            true => Cause::HandedOver,
                            false => Cause::StrongerPeer {
                                router: index,
                                priority: advert.priority,
                            },
                        };
                        self.give_way(now, cause, actions);
                    }
                }
            }
        }
    }

    /// Whether a weaker Active is not accepted: for an owner always, for others when it has been that for long enough.
    fn preempts(&mut self, now: Instant, priority: u8) -> bool {
        if priority == OWNER {
            return true;
        }
        if !self.preempt {
            return false;
        }
        let able = now.max(self.listen_until);
        now >= *self.preempt_from.get_or_insert(able + self.preempt_delay)
    }

    /// After a goodbye on one leg, one late advertisement is enough on the others: the Active probably lost a link and could not
    /// say goodbye on it.
    fn hurry(&mut self) {
        for (_, router) in self.routers_mut() {
            router.hurry();
        }
    }

    fn link(&mut self, now: Instant, port: u8, up: bool, actions: &mut Actions) {
        let returned = up && !self.standing.is_up(port);
        let state = self.state;
        self.reassess(now, actions, |standing| standing.link(port, up));
        if !returned || self.state != state {
            return;
        }
        // A port whose loss was no fault is back.
        let priority = self.priority();
        let from = now + self.start_delay;
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => {
                for router in self.routers.iter_mut().filter(|router| router.port == port) {
                    router.forget();
                    router.await_active(from, priority);
                }
            }
            State::Active => {
                self.advertise(now, actions);
                push(actions, Action::Announce);
                self.announcements.start(now);
            }
        }
    }

    /// Applies a change of what this appliance is worth, and all that follows.
    pub(crate) fn reassess(
        &mut self,
        now: Instant,
        actions: &mut Actions,
        change: impl FnOnce(&mut Standing),
    ) {
        let before = self.priority();
        change(&mut self.standing);
        match (self.state, self.fault()) {
            (State::Initialize, _) | (State::Fault, Some(_)) => {}
            (State::Backup, None) => {
                let priority = self.priority();
                for (_, router) in self.routers_mut() {
                    router.reprioritise(before, priority);
                }
            }
            (State::Fault, None) => self.begin(now, Cause::Repaired, actions),
            (State::Backup | State::Active, Some(cause)) => {
                self.leave(State::Fault, cause, actions);
            }
            // Others should hear at once who is the better one now.
            (State::Active, None) if self.priority() != before => self.advertise(now, actions),
            (State::Active, None) => {}
        }
    }

    /// What keeps this appliance from being Active.
    pub(crate) fn fault(&self) -> Option<Cause> {
        let deaf = || {
            let first = self.routers.first()?;
            let port = first.port;
            (self.routers().next().is_none()).then_some(Cause::LinkLost { port })
        };
        self.standing.fault().or_else(deaf)
    }

    fn demote(&mut self, now: Instant, reason: Reason, on: bool, actions: &mut Actions) {
        self.reassess(now, actions, |standing| standing.demote(now, reason, on));
        if reason == Reason::Operator && !on && self.handover.is_some() {
            self.fail(now, Outcome::NotTaken, actions);
        }
        self.elect(now, actions);
    }

    fn peer(&mut self, now: Instant, news: Peer, actions: &mut Actions) {
        let was_active = self.companion.is_active();
        self.companion.hear(now, news);
        if self.companion.is_active() {
            self.stalled = false;
        }
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => {
                let last = self.companion.last_advert();
                if self.routers().any(|(_, router)| router.seen_after(last)) {
                    self.companion.forgo();
                }
                self.elect(now, actions);
            }
            State::Active => {
                if self.handover.is_some()
                    && let Some(obstacle) = self.obstacle()
                {
                    return self.fail(now, obstacle, actions);
                }
                if !self.companion.is_active() {
                    return;
                }
                if self.yielding() && !self.companion.asks_for_relief() {
                    return self.give_way(now, Cause::HandedOver, actions);
                }
                if let Some(priority) = self.companion.outranks(self.priority(), self.yielding()) {
                    return self.give_way(now, Cause::SplitBrain { priority }, actions);
                }
                if !was_active {
                    self.announcements.rival(now);
                }
            }
        }
    }

    /// The routers of ports that are up, with their index.
    pub(crate) fn routers(&self) -> impl Iterator<Item = (u8, &Router)> {
        (0..)
            .zip(&self.routers)
            .filter(|(_, router)| self.standing.is_up(router.port))
    }

    pub(crate) fn routers_mut(&mut self) -> impl Iterator<Item = (u8, &mut Router)> {
        let standing = &self.standing;
        (0..)
            .zip(&mut self.routers)
            .filter(|(_, router)| standing.is_up(router.port))
    }
}

/// One advertisement of a router is enough for one answer: the last word counts.
pub(crate) fn send(actions: &mut Actions, router: u8, priority: u8) {
    for action in &mut *actions {
        if let Action::SendAdvert {
            router: other,
            priority: word,
        } = action
            && *other == router
        {
            *word = priority;
            return;
        }
    }
    push(actions, Action::SendAdvert { router, priority });
}

/// There is room: `Actions` holds the longest answer of any input.
pub(crate) fn push(actions: &mut Actions, action: Action) {
    let pushed = actions.push(action);
    debug_assert!(pushed.is_ok());
}
