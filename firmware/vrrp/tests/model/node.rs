//! One appliance of the model: a group, a clock of its own, and what a session between the two of a pair amounts to.

use policy::Config;
use time::{Duration, Instant};
use vrrp::{Action, Group, Input, Peer, Reason, State};

use crate::setup::{LEGS, ROUTERS, Setup, config};

/// What a heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    pub state: State,
    pub priority: u8,
    pub yielding: bool,
    pub in_sync: bool,
}

/// What travels.
#[derive(Clone, Copy, Debug)]
pub enum Frame {
    Advert(vrrp::Advert),
    /// Authenticated, so nobody else's; `number` grows over restarts too, as a session sees to.
    Heartbeat {
        number: (u32, u64),
        status: Status,
    },
}

/// Time of the world in microseconds, and how a node counts it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset: u64,
    /// Parts per million that it is too fast.
    drift: i64,
}

impl Clock {
    fn read(self, world: u64) -> Instant {
        let rate = (1_000_000 + self.drift) as u128;
        Instant::from_micros(self.offset + (u128::from(world) * rate / 1_000_000) as u64)
    }

    /// The first moment of the world at which the clock shows `local` or more.
    fn world(self, local: Instant) -> u64 {
        let rate = (1_000_000 + self.drift) as u128;
        let micros = local.as_micros().saturating_sub(self.offset);
        (u128::from(micros) * 1_000_000).div_ceil(rate) as u64
    }
}

pub struct Node {
    pub config: Config,
    pub clock: Clock,
    /// `None` while it has no power.
    pub group: Option<Group>,
    pub carrier: [bool; LEGS],
    pub tracks: Vec<bool>,
    /// What its operator told it; the peer would remember that over a restart.
    pub operator: bool,
    /// What it does, by its actions.
    pub claims: bool,
    pub lingers: bool,
    /// Until when its loop does nothing at all, and what waits for it.
    pub stalled: Option<u64>,
    /// Whether it still was Active when it had looked at the clock, but not yet at what waited.
    pub claimed_awake: bool,
    pub queue: Vec<Frame>,
    /// Until when its loop is in the turn before.
    pub busy_until: u64,
    boots: u32,
    number: u64,
    next_heartbeat: u64,
    synced_at: Option<u64>,
    told: Option<Status>,
    heard: Option<((u32, u64), u64)>,
    alive: bool,
}

impl Node {
    pub fn new(n: usize, setup: &Setup) -> Self {
        let config = config(n, setup);
        Self {
            clock: Clock {
                offset: setup.nodes[n].offset,
                drift: setup.nodes[n].drift,
            },
            group: None,
            carrier: [true; LEGS],
            tracks: vec![true; config.availability.tracks.len()],
            config,
            operator: false,
            claims: false,
            lingers: false,
            stalled: None,
            claimed_awake: false,
            queue: Vec::new(),
            busy_until: 0,
            boots: 0,
            number: 0,
            next_heartbeat: 0,
            synced_at: None,
            told: None,
            heard: None,
            alive: false,
        }
    }

    pub fn state(&self) -> Option<State> {
        self.group.as_ref().map(Group::state)
    }

    /// Whether it answers for the addresses now.
    pub fn serves(&self) -> bool {
        self.claims && self.stalled.is_none()
    }

    /// Whether it could be Active, as far as itself is concerned.
    pub fn is_sound(&self) -> bool {
        let state = self.state();
        self.stalled.is_none() && matches!(state, Some(State::Backup | State::Active))
    }

    pub fn power_off(&mut self) {
        self.group = None;
        self.claims = false;
        self.lingers = false;
        self.stalled = None;
        self.queue.clear();
    }

    /// A fresh start; `sync` is how long it takes until the flows of the other one are here.
    pub fn boot(&mut self, now: u64, sync: u64) {
        self.boots += 1;
        self.number = 0;
        self.told = None;
        self.alive = false;
        self.heard = None;
        self.next_heartbeat = now;
        self.group = Some(Group::new(&self.config));
        self.synced_at = self
            .config
            .availability
            .pair
            .is_some()
            .then_some(now + sync);
    }

    /// Time between two heartbeats, and how long all paths must be silent for a dead peer.
    pub fn pair(&self) -> Option<(u64, u64)> {
        let pair = self.config.availability.pair.as_ref()?;
        let heartbeat = u64::from(pair.heartbeat) * 1000;
        Some((heartbeat, heartbeat * u64::from(pair.misses)))
    }

    /// When the node has something to do if nothing comes in.
    pub fn next(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        if let Some(until) = self.stalled {
            return Some(until.max(self.busy_until));
        }
        let timer = group.deadline().map(|at| self.clock.world(at));
        let heartbeat = self.pair().map(|_| self.next_heartbeat);
        let silence = self.silence();
        let frames = (!self.queue.is_empty()).then_some(0);
        let next = [timer, heartbeat, silence, self.synced_at, frames];
        let next = next.into_iter().flatten().min()?;
        Some(next.max(self.busy_until))
    }

    fn silence(&self) -> Option<u64> {
        let (_, heard) = self.heard?;
        let (_, silence) = self.pair()?;
        self.alive.then_some(heard + silence)
    }

    /// One turn of its loop: the timer before the frames that waited, then what the session has to say.
    pub fn turn(&mut self, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let stalls = self.stalled.is_some_and(|until| until > now);
        if self.group.is_none() || stalls || self.busy_until > now {
            return actions;
        }
        self.stalled = None;
        let due = |node: &Self| {
            let deadline = node.group.as_ref().and_then(Group::deadline);
            deadline.is_some_and(|at| node.clock.read(now) >= at)
        };
        if due(self) {
            actions.extend(self.step(now, Input::Timer));
        }
        self.claimed_awake = self.claims;
        for frame in std::mem::take(&mut self.queue) {
            actions.extend(self.receive(now, frame));
        }
        if self.silence().is_some_and(|at| at <= now) {
            self.alive = false;
            actions.extend(self.step(now, Input::Peer(Peer::Lost)));
        }
        if self.synced_at.is_some_and(|at| at <= now) {
            self.synced_at = None;
            let reason = Reason::Sync;
            actions.extend(self.step(now, Input::Demote { reason, on: false }));
        }
        if due(self) {
            actions.extend(self.step(now, Input::Timer));
        }
        actions
    }

    fn receive(&mut self, now: u64, frame: Frame) -> Vec<Action> {
        match frame {
            Frame::Advert(advert) => self.step(now, Input::Advert(advert)),
            Frame::Heartbeat { number, status } => {
                if self.heard.is_some_and(|(last, _)| number <= last) {
                    return Vec::new();
                }
                self.heard = Some((number, now));
                self.alive = true;
                let Status {
                    state,
                    priority,
                    yielding,
                    in_sync,
                } = status;
                let news = Peer::Alive {
                    state,
                    priority,
                    yielding,
                    in_sync,
                };
                self.step(now, Input::Peer(news))
            }
        }
    }

    /// The actions of one input, after they were held against what a node may do in its state.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Action> {
        let local = self.clock.read(now);
        let Some(group) = &mut self.group else {
            return Vec::new();
        };
        let actions: Vec<Action> = group.step(local, input).into_iter().collect();
        for action in &actions {
            match *action {
                Action::SendAdvert { router, .. } => {
                    assert!(self.claims, "a Backup sends");
                    assert!(usize::from(router) < ROUTERS);
                }
                Action::Announce => assert!(self.claims, "announces what is not its own"),
                Action::Claim => {
                    assert!(!self.claims, "claims twice");
                    (self.claims, self.lingers) = (true, false);
                }
                Action::Linger => {
                    assert!(self.claims, "lingers without a reason");
                    (self.claims, self.lingers) = (false, true);
                }
                Action::Release => {
                    assert!(self.claims || self.lingers, "releases what is not its own");
                    (self.claims, self.lingers) = (false, false);
                }
                Action::StateChanged { from, to, .. } => assert_ne!(from, to),
                Action::Handover(_) | Action::Silent { .. } => {}
            }
        }
        assert_eq!(self.claims, group.state() == State::Active);
        assert!(!self.lingers || group.state() == State::Backup);
        actions
    }

    /// The heartbeat that is due, on every change and as often as agreed.
    pub fn heartbeat(&mut self, now: u64) -> Option<Frame> {
        let (heartbeat, _) = self.pair()?;
        let group = self.group.as_ref()?;
        if self.stalled.is_some() || self.busy_until > now {
            return None;
        }
        let status = Status {
            state: group.state(),
            priority: group.priority(),
            yielding: group.yielding(),
            in_sync: !group.demotions().contains(Reason::Sync),
        };
        if now < self.next_heartbeat && self.told == Some(status) {
            return None;
        }
        self.told = Some(status);
        self.next_heartbeat = now + heartbeat;
        self.number += 1;
        let number = (self.boots, self.number);
        Some(Frame::Heartbeat { number, status })
    }

    /// How long one of its own seconds or less may take in the world.
    pub fn stretch(&self, local: Duration) -> u64 {
        local.as_micros() as u64 * 1_001 / 1_000
    }
}
