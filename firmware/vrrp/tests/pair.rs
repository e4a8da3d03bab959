//! Two appliances on links that lose, delay and part, through any sequence of faults: never two Actives
//! for long while any one link works, never none for long while an appliance is sound.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use policy::{Availability, Config, Interface, Name, Track, Tracked, VirtualRouter};
use proptest::prelude::*;
use time::{Duration, Instant};
use vrrp::{Action, Advert, Group, Input, State};

const LEGS: u8 = 3;

/// What happens to the pair.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// A node loses power: it is silent without a goodbye, and forgets everything.
    Kill(usize),
    /// It comes back.
    Boot(usize),
    /// An orderly end.
    Stop(usize),
    /// The carrier of one port of a node goes or comes.
    Carrier(usize, u8, bool),
    /// The link of a leg swallows everything, with carriers in place.
    Cut(u8),
    /// It works again.
    Mend(u8),
    /// Share of frames lost on every leg, in percent.
    Loss(u64),
    /// A node's neighbours on a leg answer or not.
    Track(usize, u8, bool),
}

/// What the two sites were set up with.
#[derive(Clone, Copy, Debug)]
struct Setup {
    priorities: [u8; 2],
    /// In centiseconds; they may differ.
    intervals: [u16; 2],
    preempt: bool,
    seed: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn one_active_whatever_happens(setup in setup(), faults in faults()) {
        let mut pair = Pair::new(setup);
        for (pause, fault) in faults {
            pair.run(Duration::from_millis(pause))?;
            pair.apply(fault);
        }
        pair.run(Duration::from_secs(20))?;

        // All is mended in the end: exactly one Active, and with preemption the stronger one.
        for leg in 0..LEGS {
            pair.apply(Fault::Mend(leg));
            for node in 0..2 {
                pair.apply(Fault::Carrier(node, leg, true));
                pair.apply(Fault::Track(node, leg, true));
            }
        }
        pair.apply(Fault::Loss(0));
        pair.apply(Fault::Boot(0));
        pair.apply(Fault::Boot(1));
        pair.run(Duration::from_secs(20))?;
        prop_assert_eq!(pair.actives(), 1);
        if setup.preempt && setup.priorities[0] != setup.priorities[1] {
            let stronger = usize::from(setup.priorities[1] > setup.priorities[0]);
            prop_assert_eq!(pair.state(stronger), Some(State::Active));
        }
    }
}

/// The nodes, the frames on their way, and for how long something has been wrong.
struct Pair {
    now: Instant,
    setup: Setup,
    random: u64,
    nodes: [Node; 2],
    cut: [bool; LEGS as usize],
    loss: u64,
    /// Adverts by time of arrival and number, with the node that they go to.
    flying: BTreeMap<(Instant, u64), (usize, Advert)>,
    sent: u64,
    /// Since when each link works without loss.
    connected: [Option<Instant>; LEGS as usize],
    /// Since when both have been Active.
    both: Option<Instant>,
    /// Since when none has been Active, and since when each one could have been.
    none: Option<Instant>,
    sound: [Option<Instant>; 2],
}

struct Node {
    config: Config,
    /// `None` while it has no power.
    group: Option<Group>,
    carrier: [bool; LEGS as usize],
    tracked: [bool; LEGS as usize],
    /// What it does, by its actions; must agree with its state.
    claims: bool,
}

impl Pair {
    fn new(setup: Setup) -> Self {
        let node = |n: usize| Node {
            config: config(n, setup),
            group: None,
            carrier: [true; LEGS as usize],
            tracked: [true; LEGS as usize],
            claims: false,
        };
        let mut pair = Self {
            now: Instant::from_micros(1),
            setup,
            random: setup.seed,
            nodes: [node(0), node(1)],
            cut: [false; LEGS as usize],
            loss: 0,
            flying: BTreeMap::new(),
            sent: 0,
            connected: [None; LEGS as usize],
            both: None,
            none: None,
            sound: [None; 2],
        };
        pair.apply(Fault::Boot(0));
        pair.apply(Fault::Boot(1));
        pair
    }

    fn apply(&mut self, fault: Fault) {
        match fault {
            Fault::Kill(n) => {
                self.nodes[n].group = None;
                self.nodes[n].claims = false;
            }
            Fault::Boot(n) => {
                if self.state(n).is_none_or(|state| state == State::Initialize) {
                    self.nodes[n].group = Some(Group::new(&self.nodes[n].config));
                    for leg in 0..LEGS {
                        let up = self.nodes[n].carrier[usize::from(leg)];
                        self.input(n, Input::Link { port: leg, up });
                        let reachable = self.nodes[n].tracked[usize::from(leg)];
                        self.input(n, Input::Track { leg, reachable });
                    }
                    self.input(n, Input::Start);
                }
            }
            Fault::Stop(n) => self.input(n, Input::Stop),
            Fault::Carrier(n, port, up) => {
                self.nodes[n].carrier[usize::from(port)] = up;
                self.input(n, Input::Link { port, up });
            }
            Fault::Cut(leg) => self.cut[usize::from(leg)] = true,
            Fault::Mend(leg) => self.cut[usize::from(leg)] = false,
            Fault::Loss(percent) => self.loss = percent,
            Fault::Track(n, leg, reachable) => {
                self.nodes[n].tracked[usize::from(leg)] = reachable;
                self.input(n, Input::Track { leg, reachable });
            }
        }
        self.observe();
    }

    /// Lets time pass, from one arrival or timer to the next.
    fn run(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let end = self.now + time;
        loop {
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let timers = self
                .nodes
                .iter()
                .filter_map(|node| node.group.as_ref()?.deadline());
            let next = timers.chain(arrival).min().filter(|at| *at <= end);
            self.now = self.now.max(next.unwrap_or(end));
            self.check()?;
            if next.is_none() {
                return Ok(());
            }
            while let Some(first) = self.flying.first_entry()
                && first.key().0 <= self.now
            {
                let (to, advert) = first.remove();
                self.input(to, Input::Advert(advert));
            }
            for n in 0..2 {
                self.input(n, Input::Timer);
            }
            self.observe();
        }
    }

    fn input(&mut self, n: usize, input: Input) {
        let Some(group) = &mut self.nodes[n].group else {
            return;
        };
        for action in group.step(self.now, input) {
            match action {
                Action::SendAdvert { leg, priority } => self.send(n, leg, priority),
                Action::Claim => {
                    assert!(!self.nodes[n].claims, "claims twice");
                    self.nodes[n].claims = true;
                }
                Action::Release => {
                    assert!(self.nodes[n].claims, "releases what it did not claim");
                    self.nodes[n].claims = false;
                }
                Action::Announce => assert!(self.nodes[n].claims, "announces what is not its own"),
                Action::StateChanged { from, to, .. } => assert_ne!(from, to),
            }
        }
        let claims = self.state(n) == Some(State::Active);
        assert_eq!(self.nodes[n].claims, claims, "actions and state agree");
    }

    fn send(&mut self, from: usize, leg: u8, priority: u8) {
        let to = 1 - from;
        let index = usize::from(leg);
        let lost = self.random() % 100 < self.loss;
        let carriers = self.nodes[from].carrier[index] && self.nodes[to].carrier[index];
        if lost || self.cut[index] || !carriers {
            return;
        }
        let delay = Duration::from_micros(self.random() % MAX_DELAY_US);
        let advert = Advert {
            leg,
            source: self.nodes[from].config.interfaces[index].address,
            priority,
            interval: Duration::from_millis(10) * u32::from(self.setup.intervals[from]),
        };
        self.sent += 1;
        self.flying
            .insert((self.now + delay, self.sent), (to, advert));
    }

    /// Notes when each condition began.
    fn observe(&mut self) {
        let now = self.now;
        let since = |holds: bool, since: &mut Option<Instant>| {
            *since = holds.then(|| since.unwrap_or(now));
        };
        let sound = [0, 1].map(|n| {
            self.state(n)
                .is_some_and(|state| state != State::Initialize)
                && self.nodes[n].carrier.iter().all(|up| *up)
        });
        let connected = core::array::from_fn(|leg| {
            let carriers = self.nodes.iter().all(|node| node.carrier[leg]);
            !self.cut[leg] && self.loss == 0 && carriers
        });
        let actives = self.actives();
        for (holds, begin) in
            core::iter::zip::<[bool; LEGS as usize], _>(connected, &mut self.connected)
        {
            since(holds, begin);
        }
        since(actives == 2, &mut self.both);
        since(actives == 0, &mut self.none);
        since(sound[0], &mut self.sound[0]);
        since(sound[1], &mut self.sound[1]);
    }

    /// The promises, each with its time.
    fn check(&self) -> Result<(), TestCaseError> {
        let [a, b] = self.setup.intervals;
        let interval = Duration::from_millis(10) * u32::from(a.max(b));
        let delay = Duration::from_micros(MAX_DELAY_US);
        if let (Some(both), Some(connected)) = (self.both, self.connected.iter().flatten().min()) {
            let lasted = self.now.since(both.max(*connected));
            // The stronger one's next advertisement ends it.
            prop_assert!(lasted <= interval + delay, "both Active for {lasted:?}");
        }
        if let (Some(none), Some(sound)) = (self.none, self.sound.iter().flatten().min()) {
            let lasted = self.now.since(none.max(*sound));
            // Active_Down_Interval, after the last advertisement that was on its way.
            prop_assert!(
                lasted <= 4 * interval + delay,
                "nobody Active for {lasted:?}"
            );
        }
        Ok(())
    }

    fn actives(&self) -> usize {
        (0..2)
            .filter(|n| self.state(*n) == Some(State::Active))
            .count()
    }

    fn state(&self, n: usize) -> Option<State> {
        self.nodes[n].group.as_ref().map(Group::state)
    }

    /// xorshift64: the same run for the same seed.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Adverts may overtake each other, but do not live as long as an interval.
const MAX_DELAY_US: u64 = 5_000;

fn setup() -> impl Strategy<Value = Setup> {
    let priority = prop_oneof![Just(100_u8), 1..=254_u8];
    let interval = prop_oneof![Just(10_u16), 1..=100_u16];
    (
        [priority.clone(), priority],
        [interval.clone(), interval],
        any::<bool>(),
        1..=u64::MAX,
    )
        .prop_map(|(priorities, intervals, preempt, seed)| Setup {
            priorities,
            intervals,
            preempt,
            seed,
        })
}

fn faults() -> impl Strategy<Value = Vec<(u64, Fault)>> {
    let node = 0..2_usize;
    let leg = 0..LEGS;
    let fault = prop_oneof![
        node.clone().prop_map(Fault::Kill),
        node.clone().prop_map(Fault::Boot),
        node.clone().prop_map(Fault::Stop),
        (node.clone(), leg.clone(), any::<bool>()).prop_map(|(n, l, up)| Fault::Carrier(n, l, up)),
        leg.clone().prop_map(Fault::Cut),
        leg.clone().prop_map(Fault::Mend),
        prop_oneof![Just(0), 0..60_u64].prop_map(Fault::Loss),
        (node, leg, any::<bool>()).prop_map(|(n, l, yes)| Fault::Track(n, l, yes)),
    ];
    let pause = prop_oneof![0..50_u64, 0..3_000_u64];
    prop::collection::vec((pause, fault), 0..25)
}

fn config(n: usize, setup: Setup) -> Config {
    let interface = |leg: u8| Interface {
        name: Name::new(),
        port: leg,
        vlan: None,
        mac: [2, 0, 0, 0, leg, n as u8],
        address: Ipv4Addr::new(10, 0, leg, 2 + n as u8),
        prefix: 24,
        track: [Ipv4Addr::new(10, 0, leg, 9)].into_iter().collect(),
        ..Interface::default()
    };
    let router = |leg: u8| VirtualRouter {
        advertisement_interval: setup.intervals[n],
        ..VirtualRouter::new(leg, 1 + leg, [Ipv4Addr::new(10, 0, leg, 1).into()])
    };
    let track = |leg: u8| Track {
        what: Tracked::Neighbours(leg),
        weight: -50,
        reverse: false,
    };
    let config = Config {
        name: Name::new(),
        interfaces: (0..LEGS).map(interface).collect(),
        routers: (0..LEGS).map(router).collect(),
        availability: Availability {
            priority: setup.priorities[n],
            preempt: setup.preempt,
            tracks: (0..LEGS).map(track).collect(),
            ..Availability::default()
        },
        ..Config::default()
    };
    assert_eq!(config.validate(), Ok(()));
    config
}
