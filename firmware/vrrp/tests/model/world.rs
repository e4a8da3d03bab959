//! The network between the appliances, and the promises that must hold whatever happens in it.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use time::Duration;
use vrrp::{Action, Advert, Cause, Group, Input, Reason, State};

use crate::node::{Frame, Node};
use crate::setup::{Event, LEGS, MAX_DELAY_US, NODES, PATHS, Setup, leg, source};

type Outcome = Result<(), TestCaseError>;

pub struct World {
    pub now: u64,
    setup: Setup,
    random: u64,
    pub nodes: [Node; NODES],
    /// Ways from a node into a path, and from a path to a node, that swallow everything.
    mute: [[bool; PATHS]; NODES],
    deaf: [[bool; PATHS]; NODES],
    loss: u64,
    /// Frames by time of arrival and number, with the node that they go to and the path.
    flying: BTreeMap<(u64, u64), (usize, usize, Frame)>,
    sent: u64,
    /// Since when two of them are Active, and can talk to each other.
    both: [[Option<u64>; NODES]; NODES],
    connected: [[Option<u64>; NODES]; NODES],
    /// Since when none has been Active, and since when each one could have been.
    none: Option<u64>,
    sound: [Option<u64>; NODES],
    /// By when a winner has to announce the addresses again.
    announces: [Option<u64>; NODES],
    /// When each one became Active, and why.
    since: [Option<(u64, Cause)>; NODES],
    /// When each one's loop stopped in an undisturbed network.
    stalled: [Option<u64>; NODES],
    /// By when one has to be Active after the other of its pair was lost in an undisturbed network, or handed over.
    succeeds: [Option<u64>; NODES],
    /// When the last event was, and whether it was the wish of a hand-over in peace.
    disturbed: u64,
    handover: bool,
    /// What happened, for a person who wonders.
    story: bool,
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let mut world = Self {
            now: 1,
            random: setup.seed,
            nodes: [0, 1, 2].map(|n| Node::new(n, setup)),
            mute: Default::default(),
            deaf: Default::default(),
            loss: 0,
            flying: BTreeMap::new(),
            sent: 0,
            both: Default::default(),
            connected: Default::default(),
            none: None,
            sound: [None; NODES],
            announces: [None; NODES],
            since: [None; NODES],
            stalled: [None; NODES],
            succeeds: [None; NODES],
            disturbed: 0,
            handover: false,
            story: std::env::var_os("RAVELIN_STORY").is_some(),
            setup: setup.clone(),
        };
        for n in 0..NODES {
            world.apply(Event::Boot(n));
        }
        world
    }

    /// Makes everything whole and lets nobody be worth less than was configured.
    pub fn mend_all(&mut self) {
        self.apply(Event::Loss(0));
        for n in 0..NODES {
            for path in 0..PATHS {
                self.apply(Event::Mend(n, path));
            }
            for leg in 0..LEGS {
                self.apply(Event::Carrier(n, leg, true));
            }
            for track in 0..self.nodes[n].tracks.len() {
                self.apply(Event::Track(n, track as u8, true));
            }
            self.apply(Event::Maintenance(n, false));
            self.apply(Event::Boot(n));
        }
    }

    pub fn apply(&mut self, event: Event) {
        let now = self.now;
        if self.story {
            eprintln!("{now:>12} {event:?}");
        }
        let quiet = self.is_quiet();
        self.disturbed = now;
        self.handover = quiet && matches!(event, Event::Handover(_));
        self.succeeds = [None; NODES];
        match event {
            Event::Kill(n) => {
                if quiet {
                    let silence = self.nodes[n].pair().map_or(0, |(_, silence)| silence);
                    self.expect_successor(n, silence * 1001 / 1000);
                }
                self.nodes[n].power_off();
                self.since[n] = None;
            }
            Event::Boot(n) => {
                let off = (self.nodes[n].state()).is_none_or(|state| state == State::Initialize);
                if off && (n < 2 || self.setup.third) {
                    self.boot(n);
                }
            }
            Event::Stop(n) => {
                if quiet {
                    self.expect_successor(n, 0);
                }
                self.input(n, Input::Stop);
            }
            Event::Stall(n, ms) => {
                if self.nodes[n].group.is_some() && self.nodes[n].stalled.is_none() {
                    self.stalled[n] = quiet.then_some(now);
                    self.nodes[n].stalled = Some(now + ms * 1000);
                }
            }
            Event::Carrier(n, leg, up) => {
                self.announces = [None; NODES]; // what should make them is lost on its way
                if quiet && !up {
                    self.expect_successor(n, 0);
                }
                self.nodes[n].carrier[leg] = up;
                let port = leg as u8;
                self.input(n, Input::Link { port, up });
            }
            Event::Mute(n, path) => self.mute[n][path] = true,
            Event::Deafen(n, path) => self.deaf[n][path] = true,
            Event::Mend(n, path) => {
                (self.mute[n][path], self.deaf[n][path]) = (false, false);
            }
            Event::Isolate(n) => (self.mute[n], self.deaf[n]) = ([true; PATHS], [true; PATHS]),
            Event::MendAll => {
                self.loss = 0;
                (self.mute, self.deaf) = Default::default();
            }
            Event::Loss(percent) => self.loss = percent,
            Event::Track(n, track, good) => {
                self.nodes[n].tracks[usize::from(track)] = good;
                self.input(n, Input::Track { track, good });
            }
            Event::Handover(n) => {
                if quiet && !self.nodes.iter().any(|node| node.operator) {
                    self.expect_successor(n, 0);
                }
                self.input(n, Input::Handover);
                let group = self.nodes[n].group.as_ref();
                let reasons = group.map(Group::demotions).unwrap_or_default();
                self.nodes[n].operator = reasons.contains(Reason::Operator);
            }
            Event::Maintenance(n, on) => {
                self.nodes[n].operator = on;
                let reason = Reason::Operator;
                self.input(n, Input::Demote { reason, on });
            }
        }
        self.observe();
    }

    /// Whether nothing has happened for so long that the pair has settled, with all of its paths in order.
    fn is_quiet(&self) -> bool {
        let settled = (0..NODES).map(|n| self.t(n)).max().unwrap_or(0);
        let delays = self.setup.nodes.iter().map(|own| own.preempt_delay).max();
        let settled = settled + u64::from(delays.unwrap_or(0)) * 1001 + 1_500_000;
        let paths = (0..PATHS).all(|path| self.works(0, 1, path) && self.works(1, 0, path));
        let sound = self.nodes.iter().take(2).all(Node::is_sound);
        let idle = self.busy() == 0;
        self.setup.pair
            && idle
            && sound
            && paths
            && self.loss == 0
            && self.now > self.disturbed + settled
    }

    /// The Active of a pair leaves, on its own or by force: the other one takes over within that time.
    fn expect_successor(&mut self, n: usize, within: u64) {
        if n < 2 && self.nodes[n].serves() && !self.setup.third {
            self.succeeds[1 - n] = Some(self.now + within + 2 * MAX_DELAY_US);
        }
    }

    fn boot(&mut self, n: usize) {
        let sync = self.random() % 1_000_000;
        let node = &mut self.nodes[n];
        node.power_off();
        node.boot(self.now, sync);
        let carrier = node.carrier;
        let tracks = node.tracks.clone();
        let mut demotions = Vec::new();
        if node.config.availability.pair.is_some() {
            demotions.push((Reason::Sync, true));
            demotions.push((Reason::Operator, node.operator));
        }
        for (port, up) in (0..).zip(carrier) {
            self.input(n, Input::Link { port, up });
        }
        for (track, good) in (0..).zip(tracks) {
            self.input(n, Input::Track { track, good });
        }
        for (reason, on) in demotions {
            self.input(n, Input::Demote { reason, on });
        }
        self.input(n, Input::Start);
    }

    /// Lets time pass, from one arrival or timer to the next.
    pub fn run(&mut self, time: Duration) -> Outcome {
        let end = self.now + time.as_micros() as u64;
        loop {
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let timers = self.nodes.iter().filter_map(Node::next);
            let next = timers.chain(arrival).min().filter(|at| *at <= end);
            self.now = self.now.max(next.unwrap_or(end));
            self.check()?;
            if next.is_none() {
                return Ok(());
            }
            while let Some(first) = self.flying.first_entry()
                && first.key().0 <= self.now
            {
                let (to, path, frame) = first.remove();
                // A cable that is cut meanwhile brings nothing any more.
                if path >= LEGS || self.nodes[to].carrier[path] {
                    self.nodes[to].queue.push(frame);
                }
            }
            for n in 0..NODES {
                self.turn(n)?;
            }
            self.observe();
        }
    }

    fn turn(&mut self, n: usize) -> Outcome {
        let woke = self.nodes[n].stalled.is_some_and(|until| until <= self.now);
        let actions = self.nodes[n].turn(self.now);
        if woke
            && let Some(stalled) = self.stalled[n].take()
            && self.nodes[n].claimed_awake
            && self.disturbed == stalled
        {
            // The gate: nobody answers for addresses that another one has taken while it was away.
            for other in (0..NODES).filter(|other| *other != n) {
                let taken = self.since[other].filter(|(at, cause)| {
                    *at > stalled && matches!(cause, Cause::Silence | Cause::PeerLost)
                });
                prop_assert_eq!(taken, None, "{} goes on after {} took over", n, other);
            }
        }
        self.perform(n, actions);
        let busy = self.setup.nodes[n].busy;
        if busy > 0 && self.nodes[n].busy_until <= self.now {
            self.nodes[n].busy_until = self.now + self.random() % busy;
        }
        Ok(())
    }

    /// How late two may be together, because they are busy.
    fn busy(&self) -> u64 {
        self.setup.nodes.iter().map(|own| 2 * own.busy).sum()
    }

    /// An input from outside: the node's loop is not asked for it while it stalls.
    fn input(&mut self, n: usize, input: Input) {
        if self.nodes[n].stalled.take().is_some() {
            // It comes when the loop does.
            let actions = self.nodes[n].turn(self.now);
            self.perform(n, actions);
            self.observe();
        }
        let actions = self.nodes[n].step(self.now, input);
        self.perform(n, actions);
    }

    fn perform(&mut self, n: usize, actions: Vec<Action>) {
        let mut last = false;
        for action in actions {
            if self.story && !matches!(action, Action::SendAdvert { .. } | Action::Announce) {
                eprintln!("{:>12}   {n}: {action:?}", self.now);
            }
            match action {
                Action::SendAdvert { router, priority } => {
                    last |= priority > 0;
                    self.advertise(n, router, priority);
                }
                Action::Announce => self.announces[n] = None,
                Action::StateChanged {
                    from: State::Active,
                    cause,
                    ..
                } => {
                    self.announces[n] = None;
                    self.since[n] = None;
                    self.lost(n, cause, last);
                }
                Action::StateChanged {
                    to: State::Active,
                    cause,
                    ..
                } => self.won(n, cause),
                Action::StateChanged { .. }
                | Action::Claim
                | Action::Linger
                | Action::Release
                | Action::Handover(_)
                | Action::Silent { .. } => {}
            }
        }
        if let Some(heartbeat) = self.nodes[n].heartbeat(self.now) {
            for path in 0..PATHS {
                self.send(n, 1 - n, path, heartbeat);
            }
        }
    }

    /// A cut path is not a dead peer: nobody is taken for dead whose heartbeats come in, after a moment for them to tell.
    fn won(&mut self, n: usize, cause: Cause) {
        self.since[n] = Some((self.now, cause));
        self.succeeds[n] = None;
        let taken_for_dead = matches!(cause, Cause::Silence | Cause::PeerLost | Cause::PeerGone);
        let pair = self.nodes[n].pair();
        let Some((_, silence)) = pair.filter(|_| taken_for_dead && self.busy() == 0) else {
            return;
        };
        let other = 1 - n;
        let connected = self.connected[n.max(other)][n.min(other)];
        if let Some((active, _)) = self.since[other]
            && self.nodes[other].serves()
            && let Some(connected) = connected
        {
            let known = self.now - active.max(connected);
            assert!(known <= 2 * silence, "{other} was Active for {known} us");
        }
    }

    /// The loser of a split said so, and who hears it has to announce itself again.
    fn lost(&mut self, n: usize, cause: Cause, last: bool) {
        let gave_way = matches!(
            cause,
            Cause::StrongerPeer { .. } | Cause::SplitBrain { .. } | Cause::HandedOver
        );
        if !gave_way {
            return;
        }
        assert!(last, "no last advert after {cause:?}");
        if cause == Cause::HandedOver && self.handover {
            let mut others = (0..NODES).filter(|other| *other != n);
            let made = others.any(|other| self.nodes[other].serves());
            assert!(made, "break before make");
        }
        for winner in (0..NODES).filter(|winner| *winner != n) {
            let heard = (0..LEGS).any(|leg| self.works(n, winner, leg));
            if self.nodes[winner].serves() && heard && self.loss == 0 {
                let gap = self.nodes[winner].config.availability.announce.gap;
                let gap = self.nodes[winner].stretch(Duration::from_millis(gap.into()));
                self.announces[winner] = Some(self.now + MAX_DELAY_US + gap + self.busy());
            }
        }
    }

    fn advertise(&mut self, from: usize, router: u8, priority: u8) {
        let own = &self.nodes[from].config.routers[usize::from(router)];
        let interval = Duration::from_millis(10 * u64::from(own.advertisement_interval));
        for to in (0..NODES).filter(|to| *to != from) {
            let advert = Advert {
                router,
                source: source(from, router),
                priority,
                interval,
            };
            self.send(from, to, leg(router), Frame::Advert(advert));
        }
    }

    fn send(&mut self, from: usize, to: usize, path: usize, frame: Frame) {
        let lost = self.random() % 100 < self.loss;
        let delay = self.random() % MAX_DELAY_US;
        if lost || !self.works(from, to, path) || self.nodes[to].group.is_none() {
            return;
        }
        self.sent += 1;
        let key = (self.now + delay, self.sent);
        self.flying.insert(key, (to, path, frame));
    }

    /// Whether what one sends into a path reaches the other.
    fn works(&self, from: usize, to: usize, path: usize) -> bool {
        let carriers =
            path >= LEGS || self.nodes[from].carrier[path] && self.nodes[to].carrier[path];
        carriers && !self.mute[from][path] && !self.deaf[to][path]
    }

    /// Whether two can talk to each other, so that they must agree.
    fn talk(&self, a: usize, b: usize) -> bool {
        let heartbeats = self.setup.pair && a < 2 && b < 2;
        let paths = if heartbeats { PATHS } else { LEGS };
        let both = |path| self.works(a, b, path) && self.works(b, a, path);
        let awake = [a, b].iter().all(|n| self.nodes[*n].is_sound());
        awake && self.loss == 0 && (0..paths).any(both)
    }

    /// Notes when each condition began.
    fn observe(&mut self) {
        let now = self.now;
        let since = |holds: bool, since: &mut Option<u64>| {
            *since = holds.then(|| since.unwrap_or(now));
        };
        for a in 0..NODES {
            for b in 0..a {
                let both = self.nodes[a].serves() && self.nodes[b].serves();
                let talk = self.talk(a, b);
                since(both, &mut self.both[a][b]);
                since(talk, &mut self.connected[a][b]);
            }
            let sound = self.nodes[a].is_sound();
            since(sound, &mut self.sound[a]);
            if !self.nodes[a].serves() {
                self.announces[a] = None;
            }
        }
        let none = !self.nodes.iter().any(Node::serves);
        since(none, &mut self.none);
    }

    /// The promises, each with its time.
    fn check(&self) -> Outcome {
        let interval = self.interval();
        // The stronger one's next advertisement ends it, or its next heartbeat.
        let heartbeat = u64::from(self.setup.heartbeat) * 1001;
        let d = interval.max(heartbeat) + MAX_DELAY_US + self.busy();
        for a in 0..NODES {
            for b in 0..a {
                if let (Some(both), Some(connected)) = (self.both[a][b], self.connected[a][b]) {
                    let lasted = self.now - both.max(connected);
                    prop_assert!(lasted <= d, "{a} and {b} are Active for {lasted} us");
                }
            }
            if let Some(by) = self.succeeds[a] {
                prop_assert!(self.now <= by, "{a} does not succeed in time");
            }
            if let Some(by) = self.announces[a] {
                prop_assert!(self.now <= by, "{a} won and does not announce it");
            }
            let Some(none) = self.none else { continue };
            if let Some(sound) = self.sound[a] {
                let lasted = self.now - none.max(sound);
                prop_assert!(
                    lasted <= self.t(a),
                    "{a} leaves nobody Active for {lasted} us"
                );
            }
        }
        Ok(())
    }

    /// How long nobody may be Active while a node is sound: the last heartbeats may just have come and been believed,
    /// Active_Down_Interval follows, one interval more for who slept, after the time in which it only listens.
    fn t(&self, n: usize) -> u64 {
        let availability = &self.nodes[n].config.availability;
        let start = u64::from(availability.start_delay) * 1001;
        let skew = if self.setup.v2 {
            1_000_000
        } else {
            self.interval()
        };
        let silence = availability.pair.as_ref().map_or(0, |pair| {
            u64::from(pair.heartbeat) * u64::from(pair.misses) * 1001
        });
        start + 4 * self.interval() + skew + silence + 2 * MAX_DELAY_US + 2 * self.busy()
    }

    /// The longest interval of all, on the slowest clock.
    fn interval(&self) -> u64 {
        let nodes = if self.setup.third { NODES } else { 2 };
        let nodes = self.nodes.iter().take(nodes);
        let routers = nodes.flat_map(|node| &node.config.routers);
        let longest = routers.map(|router| router.advertisement_interval).max();
        u64::from(longest.unwrap_or(100)) * 10_010
    }

    pub fn actives(&self) -> Vec<usize> {
        (0..NODES).filter(|n| self.nodes[*n].serves()).collect()
    }

    /// xorshift64: the same run for the same seed.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Every event after its pause, then peace, then all is mended and there is peace again: exactly one is Active in the end, and
/// the strongest if it preempts.
pub fn tell(setup: &Setup, events: &[(u64, Event)]) -> Outcome {
    let mut world = World::new(setup);
    for (pause, event) in events {
        world.run(Duration::from_millis(*pause))?;
        world.apply(*event);
    }
    world.run(Duration::from_secs(20))?;
    world.mend_all();
    world.run(Duration::from_secs(20))?;
    if world.busy() > 0 {
        return Ok(()); // they may be late and change places at any time
    }
    let [active] = world.actives()[..] else {
        return Err(TestCaseError::fail(format!(
            "{:?} are Active in the end",
            world.actives()
        )));
    };
    let priority = |n: usize| {
        let group = world.nodes[n].group.as_ref();
        group.map_or(0, Group::priority)
    };
    let nodes = if setup.third { NODES } else { 2 };
    for n in 0..nodes {
        let preempts = setup.nodes[n].preempt && n != active;
        prop_assert!(
            !preempts || priority(n) <= priority(active),
            "{n} does not preempt {active}"
        );
    }
    Ok(())
}
