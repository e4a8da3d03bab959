//! The one brain over all virtual routers of an appliance.

use heapless::Vec;
use policy::{Config, MAX_INTERFACES};
use time::{Duration, Instant};

use crate::router::{Judgement, Router};
use crate::{Action, Actions, Advert, Cause, Input, State};

/// All virtual routers of one appliance, which are Active together or not at all.
#[derive(Clone, Debug)]
pub struct Group {
    state: State,
    legs: Vec<Leg, MAX_INTERFACES>,
    /// When the next gratuitous ARP is due, and how many have been; only while Active.
    announce: Option<(Instant, usize)>,
    /// When time was last seen to pass. Only in Backup.
    awake: Instant,
    /// Whether a late awakening has put off this election.
    excused: bool,
}

/// One interface, as far as an election is concerned.
#[derive(Clone, Debug)]
struct Leg {
    port: u8,
    up: bool,
    reachable: bool,
    /// Taken from every priority while not reachable.
    weight: u8,
    router: Option<Router>,
}

impl Group {
    /// The group of all routers in `config`, in Initialize. The configuration must be a validated one.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let leg = |(index, interface): (usize, &policy::Interface)| Leg {
            port: interface.port,
            up: true,
            reachable: true,
            weight: weight(config, index),
            router: (config.routers_on(index).find(|router| !router.is_v6()))
                .map(|router| Router::new(interface.address, router, &config.availability)),
        };
        Self {
            state: State::Initialize,
            legs: config.interfaces.iter().enumerate().map(leg).collect(),
            announce: None,
            awake: Instant::ZERO,
            excused: false,
        }
    }

    /// Applies one input and returns all that has to happen now (RFC 9568 §6.4). One call does all that
    /// is due: there is no queue to drain.
    #[must_use]
    pub fn step(&mut self, now: Instant, input: Input) -> Actions {
        let mut actions = Actions::new();
        match input {
            Input::Start => self.start(now, &mut actions),
            Input::Stop => self.leave(State::Initialize, Cause::Stopped, &mut actions),
            Input::Timer => self.timer(now, &mut actions),
            Input::Advert(advert) => self.advert(now, advert, &mut actions),
            Input::Link { port, up } => self.link(now, port, up, &mut actions),
            Input::Track { leg, reachable } => self.track(now, leg, reachable, &mut actions),
        }
        actions
    }

    /// When to call `step` with `Input::Timer`; `None` while no timer runs.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Initialize | State::Fault => None,
            State::Backup => Some(self.election().min(self.awake + self.attention())),
            State::Active => {
                let adverts = self.routers().map(|(_, router)| router.timer);
                adverts.chain(self.announce.map(|(due, _)| due)).min()
            }
        }
    }

    /// The state of all routers.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What tracking takes from every router's priority now.
    #[must_use]
    pub fn penalty(&self) -> u8 {
        let silent = self.legs.iter().filter(|leg| !leg.reachable);
        silent.fold(0, |sum: u8, leg| sum.saturating_add(leg.weight))
    }

    /// The priority that the router of a leg advertises now (its own less [`Self::penalty`], at least
    /// 1); `None` if the leg has no router.
    #[must_use]
    pub fn priority(&self, leg: u8) -> Option<u8> {
        let router = self.legs.get(usize::from(leg))?.router.as_ref()?;
        Some(router.priority(self.penalty()))
    }

    fn start(&mut self, now: Instant, actions: &mut Actions) {
        if self.state != State::Initialize {
            return;
        }
        match self.legs.iter().find(|leg| !leg.up) {
            Some(leg) => {
                let port = leg.port;
                self.enter(State::Fault, Cause::LinkLost { port }, actions);
            }
            None => self.begin(now, Cause::Started, actions),
        }
    }

    /// To Backup from Initialize or Fault: nothing learned before counts.
    fn begin(&mut self, now: Instant, cause: Cause, actions: &mut Actions) {
        for (_, router) in self.routers_mut() {
            router.forget();
        }
        self.listen(now, cause, actions);
    }

    /// To Backup, from any state (RFC 9568 §6.4.1, §6.4.3).
    fn listen(&mut self, now: Instant, cause: Cause, actions: &mut Actions) {
        let penalty = self.penalty();
        for (_, router) in self.routers_mut() {
            router.await_active(now, penalty);
        }
        (self.awake, self.excused) = (now, false);
        if self.state == State::Active {
            self.announce = None;
            push(actions, Action::Release);
        }
        self.enter(State::Backup, cause, actions);
    }

    /// To Active (RFC 9568 §6.4.2). The claim comes first, so that what the rest draws is answered.
    fn take_over(&mut self, now: Instant, cause: Cause, actions: &mut Actions) {
        push(actions, Action::Claim);
        self.advertise(now, actions);
        push(actions, Action::Announce);
        self.announce = next_announce(now, 0);
        self.enter(State::Active, cause, actions);
    }

    /// To Initialize or Fault: an Active says goodbye on every leg that is left (RFC 9568 §6.4.3).
    fn leave(&mut self, to: State, cause: Cause, actions: &mut Actions) {
        if self.state == State::Active {
            self.announce = None;
            for (leg, _) in self.routers() {
                push(actions, Action::SendAdvert { leg, priority: 0 });
            }
            push(actions, Action::Release);
        }
        if self.state != to {
            self.enter(to, cause, actions);
        }
    }

    fn enter(&mut self, to: State, cause: Cause, actions: &mut Actions) {
        let from = core::mem::replace(&mut self.state, to);
        push(actions, Action::StateChanged { from, to, cause });
    }

    /// One advertisement on every leg, now.
    fn advertise(&mut self, now: Instant, actions: &mut Actions) {
        let penalty = self.penalty();
        for (leg, router) in self.routers_mut() {
            router.restart_adverts(now);
            push(
                actions,
                Action::SendAdvert {
                    leg,
                    priority: router.priority(penalty),
                },
            );
        }
    }

    fn timer(&mut self, now: Instant, actions: &mut Actions) {
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => {
                let slept = now.since(self.awake) > 2 * self.attention();
                self.awake = now;
                if self.election() > now {
                    return;
                }
                if slept && !self.excused {
                    return self.listen_again(now);
                }
                self.take_over(now, Cause::Silence, actions);
            }
            State::Active => {
                let penalty = self.penalty();
                for (leg, router) in self.routers_mut() {
                    if router.advert_due(now) {
                        push(
                            actions,
                            Action::SendAdvert {
                                leg,
                                priority: router.priority(penalty),
                            },
                        );
                    }
                }
                if let Some((due, done)) = self.announce
                    && due <= now
                {
                    push(actions, Action::Announce);
                    self.announce = next_announce(now, done);
                }
            }
        }
    }

    fn advert(&mut self, now: Instant, advert: Advert, actions: &mut Actions) {
        let penalty = self.penalty();
        let leg = advert.leg;
        let Some(Leg {
            router: Some(router),
            up: true,
            ..
        }) = self.legs.get_mut(usize::from(leg))
        else {
            return;
        };
        // A loop in the network, or a cable that reflects: answering it would never end.
        if advert.source == router.address || advert.interval.is_zero() {
            return;
        }
        let priority = router.priority(penalty);
        match self.state {
            State::Initialize | State::Fault => {}
            State::Backup => match router.heard_as_backup(now, &advert, penalty) {
                Judgement::Goodbye => self.hurry(),
                Judgement::Stronger => self.excused = false,
                Judgement::Weaker => {}
            },
            State::Active => match router.heard_as_active(&advert, penalty) {
                Judgement::Goodbye => {
                    router.restart_adverts(now);
                    push(actions, Action::SendAdvert { leg, priority });
                    self.announce_soon(now);
                }
                Judgement::Weaker => {
                    push(actions, Action::SendAdvert { leg, priority });
                    self.announce_soon(now);
                }
                Judgement::Stronger => {
                    router.learn(advert.interval);
                    let priority = advert.priority;
                    self.listen(now, Cause::StrongerPeer { leg, priority }, actions);
                }
            },
        }
    }

    /// Another one was Active for a moment, and switches look for the virtual MACs there. Our next advert leads them back for
    /// IPv4's (RFC 9568 §6.4.3), an announcement for both versions' and on all legs.
    fn announce_soon(&mut self, now: Instant) {
        let soon = next_announce(now, 0);
        if let (Some((due, _)), Some((soon, _))) = (self.announce, soon)
            && due <= soon
        {
            return;
        }
        self.announce = soon;
    }

    /// After a goodbye on one leg, one late advertisement is enough on the others: the Active probably
    /// lost a link and could not say goodbye on it.
    fn hurry(&mut self) {
        for (_, router) in self.routers_mut() {
            router.hurry();
        }
    }

    /// When this Backup is elected: every leg must have been silent. Without routers there is nobody to
    /// wait for.
    fn election(&self) -> Instant {
        self.routers()
            .map(|(_, router)| router.timer)
            .max()
            .unwrap_or(Instant::ZERO)
    }

    /// How often a Backup wants to be called, to know that it has not slept.
    fn attention(&self) -> Duration {
        self.routers()
            .map(|(_, router)| router.interval)
            .min()
            .unwrap_or_default()
    }

    /// Who slept (a stalled emulator, a busy processor) cannot call it silence: the adverts may still lie
    /// in the receive queue. One more interval, once, brings them or proves the Active dead.
    fn listen_again(&mut self, now: Instant) {
        self.excused = true;
        for (_, router) in self.routers_mut() {
            router.extend(now);
        }
    }

    fn link(&mut self, now: Instant, port: u8, up: bool, actions: &mut Actions) {
        for leg in self.legs.iter_mut().filter(|leg| leg.port == port) {
            leg.up = up;
        }
        let all_up = self.legs.iter().all(|leg| leg.up);
        match self.state {
            State::Initialize => {}
            State::Backup | State::Active if all_up => {}
            State::Backup | State::Active => {
                self.leave(State::Fault, Cause::LinkLost { port }, actions);
            }
            State::Fault if all_up => self.begin(now, Cause::LinksBack, actions),
            State::Fault => {}
        }
    }

    fn track(&mut self, now: Instant, leg: u8, reachable: bool, actions: &mut Actions) {
        let before = self.penalty();
        if let Some(leg) = self.legs.get_mut(usize::from(leg)) {
            leg.reachable = reachable;
        }
        // Peers should hear at once who is the better one now.
        if self.state == State::Active && self.penalty() != before {
            self.advertise(now, actions);
        }
    }

    /// The routers of legs that are up, with the index of their leg.
    fn routers(&self) -> impl Iterator<Item = (u8, &Router)> {
        (0..)
            .zip(&self.legs)
            .filter(|(_, leg)| leg.up)
            .filter_map(|(index, leg)| Some((index, leg.router.as_ref()?)))
    }

    fn routers_mut(&mut self) -> impl Iterator<Item = (u8, &mut Router)> {
        (0..)
            .zip(&mut self.legs)
            .filter(|(_, leg)| leg.up)
            .filter_map(|(index, leg)| Some((index, leg.router.as_mut()?)))
    }
}

/// What the priority loses while the neighbours of an interface are silent.
fn weight(config: &Config, interface: usize) -> u8 {
    let tracks = config.availability.tracks.iter();
    let mut of = tracks.filter(|track| match track.what {
        policy::Tracked::Neighbours(leg) => usize::from(leg) == interface,
        _ => false,
    });
    of.next()
        .map_or(0, |track| track.weight.unsigned_abs().min(255) as u8)
}

/// The schedule after `done` announcements, the last of them at `now`.
fn next_announce(now: Instant, done: usize) -> Option<(Instant, usize)> {
    Some((now + *REPEAT_ANNOUNCE.get(done)?, done + 1))
}

/// There is room: `Actions` holds the longest answer of any transition.
fn push(actions: &mut Actions, action: Action) {
    let pushed = actions.push(action);
    debug_assert!(pushed.is_ok());
}

/// After a take-over gratuitous ARP is repeated after each of these times in turn: hosts and switches may
/// miss the first one, a switch port may still be learning.
const REPEAT_ANNOUNCE: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(4),
];
