//! Two sessions on cables that can be cut, lose, repeat, reorder and damage.

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use random::SplitMix64;
use time::{Duration, Instant};

use super::*;

mod exchange;
mod shelf;

use shelf::Shelf;

const KEY: [u8; 32] = [9; 32];

/// Both appliances and what lies between them.
struct Pair {
    now: Instant,
    ends: [End; 2],
    /// By arrival, and in the order of sending.
    wire: BTreeMap<(Instant, u64), (usize, Path, Vec<u8>)>,
    sent: u64,
    /// How long a datagram takes.
    delay: Duration,
    weather: Weather,
    random: SplitMix64,
    /// Everything that was ever sent, for whoever listens.
    recorded: Vec<(usize, Path, Vec<u8>)>,
    cut: [bool; PATHS],
    boots: u8,
}

/// What the cables do to datagrams, in percent of them.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    lost: u64,
    repeated: u64,
    damaged: u64,
    /// Most microseconds that one takes longer than another.
    late: u64,
}

struct End {
    session: Session,
    store: Shelf,
    settings: Settings,
    running: bool,
    events: Vec<Event>,
}

impl Pair {
    fn new(change: impl Fn(usize, &mut Settings)) -> Self {
        let ends = [0, 1].map(|index| {
            let mut settings = Settings {
                first: index == 0,
                key: KEY,
                paths: 2,
                serial: true,
                fingerprint: 77,
                firmware: 5,
                ..Settings::default()
            };
            change(index, &mut settings);
            End {
                session: Session::new(settings, [index as u8 + 1; 32]),
                store: Shelf::default(),
                settings,
                running: true,
                events: Vec::new(),
            }
        });
        Self {
            now: Instant::from_micros(1_000_000),
            ends,
            wire: BTreeMap::new(),
            sent: 0,
            delay: Duration::from_micros(200),
            weather: Weather::default(),
            random: SplitMix64::new(1),
            recorded: Vec::new(),
            cut: [false; PATHS],
            boots: 2,
        }
    }

    /// A pair that has begun.
    fn started() -> Self {
        let mut pair = Self::new(|_, _| {});
        pair.run(100);
        pair.forget();
        pair
    }

    fn give(&mut self, index: usize, input: Input<'_>) {
        let end = &mut self.ends[index];
        let (now, wire, recorded) = (self.now, &mut self.wire, &mut self.recorded);
        let (cut, weather, random) = (&self.cut, self.weather, &mut self.random);
        let (delay, sent) = (self.delay, &mut self.sent);
        let mut out = |path: Path, bytes: &[u8]| {
            assert!(bytes.len() <= MAX_DATAGRAM);
            assert!(path != Path::SERIAL || bytes.len() <= MAX_SERIAL);
            if recorded.len() < 10_000 {
                recorded.push((index, path, bytes.to_vec()));
            }
            let mut chance = |percent| random.draw() % 100 < percent;
            if cut[path.index()] || chance(weather.lost) {
                return;
            }
            let copies = if chance(weather.repeated) { 2 } else { 1 };
            for _ in 0..copies {
                let mut bytes = bytes.to_vec();
                if random.draw() % 100 < weather.damaged {
                    let at = random.draw() as usize % bytes.len();
                    bytes[at] ^= 1 << (random.draw() % 8);
                }
                let late = Duration::from_micros(random.draw() % (weather.late + 1));
                *sent += 1;
                wire.insert((now + delay + late, *sent), (1 - index, path, bytes));
            }
        };
        let events = end.session.step(now, input, &mut end.store, &mut out);
        end.events.extend(events);
    }

    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        loop {
            let timers = self.ends.iter().filter(|end| end.running);
            let timer = timers.map(|end| end.session.deadline()).min();
            let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
            let next = timer.into_iter().chain(arrival).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let (_, (to, path, mut bytes)) = self.wire.pop_first().unwrap();
                if self.ends[to].running {
                    let bytes = &mut bytes[..];
                    self.give(to, Input::Datagram { path, bytes });
                }
                continue;
            }
            for index in 0..2 {
                if self.ends[index].running && self.ends[index].session.deadline() <= self.now {
                    self.give(index, Input::Timer);
                }
            }
        }
        self.now = end;
    }

    fn restart(&mut self, index: usize) {
        self.boots += 1;
        let end = &mut self.ends[index];
        end.session = Session::new(end.settings, [self.boots; 32]);
        end.store = Shelf::default();
        end.running = true;
    }

    fn forget(&mut self) {
        for end in &mut self.ends {
            end.events.clear();
        }
    }

    fn say(&mut self, index: usize, standing: Standing) {
        self.give(index, Input::Standing(standing));
    }

    fn standing(&self, index: usize) -> Option<Standing> {
        match self.ends[index].session.peer() {
            Peer::Alive(remote) => Some(remote.standing),
            Peer::Unknown | Peer::Lost => None,
        }
    }

    /// Events of one end about the session itself.
    fn events(&self, index: usize) -> Vec<Event> {
        let events = self.ends[index].events.iter().copied();
        let other =
            |event: &Event| !matches!(event, Event::Heard | Event::InSync | Event::OutOfSync);
        events.filter(other).collect()
    }
}

fn active(priority: u8) -> Standing {
    Standing {
        state: State::Active,
        priority,
        demotion: 0,
        yielding: false,
        links: 3,
    }
}

#[test]
fn a_pair_begins_and_goes_on() {
    let mut pair = Pair::new(|_, _| {});
    assert_eq!(pair.ends[0].session.peer(), Peer::Unknown);
    pair.say(0, active(200));
    pair.run(5);
    for index in 0..2 {
        let established = Event::Established { version: 1 };
        assert_eq!(pair.events(index)[0], established, "{index}");
        let status = pair.ends[index].session.status(Instant::ZERO, &Nothing);
        assert_eq!(status.version, Some(1));
        assert_eq!(status.hears, 0b1_0011);
        assert_eq!(status.counters.sessions, 1);
    }
    pair.forget();
    pair.run(10_000);
    assert_eq!(pair.standing(1), Some(active(200)));
    for index in 0..2 {
        assert_eq!(pair.events(index), []);
        let status = pair.ends[index].session.status(Instant::ZERO, &Nothing);
        assert_eq!((status.hears, status.heard), (0b1_0011, 0b1_0011));
        let bad = status.counters.forged + status.counters.replayed + status.counters.malformed;
        assert_eq!(bad, 0);
    }
}

#[test]
fn a_change_is_told_at_once() {
    let mut pair = Pair::started();
    pair.run(3);
    pair.say(0, active(150));
    pair.run(1);
    assert_eq!(pair.standing(1), Some(active(150)));
}

/// One path that lives is enough; when the last one is silent, the peer is lost within the time that was asked for.
#[test]
fn every_path_must_be_silent() {
    let mut pair = Pair::started();
    pair.cut[0] = true;
    pair.cut[1] = true;
    pair.run(1_000);
    assert_eq!(
        pair.events(0),
        [Event::PathDown(Path(0)), Event::PathDown(Path(1))]
    );
    assert!(matches!(pair.ends[0].session.peer(), Peer::Alive(_)));
    pair.cut[Path::SERIAL.index()] = true;
    pair.run(19);
    assert!(matches!(pair.ends[0].session.peer(), Peer::Alive(_)));
    pair.run(12);
    assert_eq!(pair.ends[0].session.peer(), Peer::Lost);
    assert_eq!(
        pair.ends[0].session.status(Instant::ZERO, &Nothing).hears,
        0
    );
    pair.forget();
    pair.cut = [false; PATHS];
    pair.run(150);
    for index in 0..2 {
        assert!(matches!(pair.ends[index].session.peer(), Peer::Alive(_)));
        let events = pair.events(index);
        assert!(events.contains(&Event::PathUp(Path(1))), "{events:?}");
    }
}

/// Timers ring a moment late, every one of them: that is not being away.
#[test]
fn a_dead_peer_is_lost_by_a_late_clock_too() {
    let mut pair = Pair::started();
    pair.ends[1].running = false;
    let dead = pair.now;
    while pair.now.since(dead) < Duration::from_millis(60) {
        pair.now = pair.ends[0].session.deadline() + Duration::from_micros(300);
        pair.give(0, Input::Timer);
    }
    assert_eq!(pair.ends[0].session.peer(), Peer::Lost);
}

#[test]
fn a_dead_peer_is_lost_and_comes_back() {
    let mut pair = Pair::started();
    pair.say(
        1,
        Standing {
            demotion: 0x10,
            ..active(90)
        },
    );
    pair.run(20);
    pair.ends[1].running = false;
    pair.run(41);
    assert_eq!(pair.ends[0].session.peer(), Peer::Lost);
    assert_eq!(pair.events(0).last(), Some(&Event::Lost));
    pair.run(5_000);
    pair.forget();
    pair.restart(1);
    pair.run(5);
    assert_eq!(pair.standing(0), Some(Standing::default()));
    // What it was demoted for is told it back, once.
    let remembered = Event::Remembered(0x10);
    assert!(pair.events(1).contains(&remembered));
    assert!(!pair.events(0).contains(&remembered));
    pair.ends[0].running = false;
    pair.run(1_000);
    pair.restart(0);
    pair.run(100);
    assert_eq!(
        pair.events(1)
            .iter()
            .filter(|event| **event == remembered)
            .count(),
        1
    );
}

/// A peer that starts anew so fast that nobody missed it.
#[test]
fn a_quick_restart() {
    let mut pair = Pair::started();
    for round in 0..20 {
        pair.restart(round % 2);
        pair.run(7);
        for index in 0..2 {
            assert!(pair.standing(index).is_some(), "round {round}, {index}");
        }
    }
    pair.run(300);
    for index in 0..2 {
        assert_eq!(
            pair.ends[index]
                .session
                .status(Instant::ZERO, &Nothing)
                .hears,
            0b1_0011
        );
        assert!(!pair.events(index).contains(&Event::Lost));
    }
}

#[test]
fn versions_of_a_rolling_upgrade() {
    let table = [
        ((1, 1), (1, 2), Some(1)),
        ((1, 3), (2, 4), Some(3)),
        ((1, 1), (2, 2), None),
    ];
    for (ours, theirs, expected) in table {
        let versions = [ours, theirs];
        let mut pair = Pair::new(|index, settings| settings.versions = versions[index]);
        pair.run(1_000);
        for index in 0..2 {
            let session = &pair.ends[index].session;
            assert_eq!(session.status(Instant::ZERO, &Nothing).version, expected);
            assert_eq!(session.peer() == Peer::Unknown, expected.is_none());
            let (oldest, newest) = versions[1 - index];
            let said = Event::Incompatible { oldest, newest };
            let count = pair
                .events(index)
                .iter()
                .filter(|event| **event == said)
                .count();
            assert_eq!(count, usize::from(expected.is_none()), "said once");
        }
    }
}

#[test]
fn other_configurations_are_noticed() {
    let mut pair = Pair::new(|index, settings| settings.fingerprint = index as u64);
    pair.run(100);
    for index in 0..2 {
        let theirs = 1 - index as u64;
        assert!(pair.events(index).contains(&Event::Mismatch { theirs }));
        let status = pair.ends[index].session.status(Instant::ZERO, &Nothing);
        assert_eq!(status.mismatch, Some(theirs));
        assert!(matches!(status.peer, Peer::Alive(remote) if !remote.same_policy));
    }
    pair.forget();
    pair.ends[1].settings.fingerprint = 0;
    pair.restart(1);
    pair.run(100);
    assert!(pair.events(0).contains(&Event::Match));
}

/// Who knows no key but has heard all that was ever said, also by earlier sessions, changes nothing by saying it again.
#[test]
fn recordings_change_nothing() {
    let mut pair = Pair::started();
    for round in 0..6 {
        pair.restart(round % 2);
        pair.run(50);
    }
    let recorded = core::mem::take(&mut pair.recorded);
    pair.forget();
    let sessions = |pair: &Pair| {
        [0, 1].map(|end| {
            pair.ends[end]
                .session
                .status(Instant::ZERO, &Nothing)
                .counters
                .sessions
        })
    };
    let (before, beats) = (
        sessions(&pair),
        [0, 1].map(|end| {
            pair.ends[end]
                .session
                .status(Instant::ZERO, &Nothing)
                .counters
                .beats
        }),
    );
    for (from, path, bytes) in &recorded {
        for to in [1 - from, *from] {
            for path in [*path, Path(0), Path::SERIAL] {
                let mut bytes = bytes.clone();
                let bytes = &mut bytes[..];
                pair.give(to, Input::Datagram { path, bytes });
            }
        }
    }
    assert_eq!(sessions(&pair), before);
    assert_eq!(
        [0, 1].map(|end| pair.ends[end]
            .session
            .status(Instant::ZERO, &Nothing)
            .counters
            .beats),
        beats
    );
    assert!(pair.wire.len() <= 2 * (8 + 3), "answers are bounded");
    pair.run(500);
    assert_eq!(sessions(&pair), before);
    for index in 0..2 {
        assert_eq!(pair.events(index), []);
    }
}

/// A session is made anew in the middle of a flood.
#[test]
fn floods_do_not_keep_a_peer_away() {
    let mut pair = Pair::started();
    let hellos: Vec<_> = pair
        .recorded
        .iter()
        .filter(|(_, _, bytes)| bytes[0] == 1)
        .cloned()
        .collect();
    pair.restart(1);
    for round in 0..600_u32 {
        pair.run(1);
        let (from, path, bytes) = &hellos[round as usize % hellos.len()];
        let mut bytes = bytes.clone();
        if round % 3 == 0 {
            bytes[40] ^= 1;
        }
        pair.give(
            1 - from,
            Input::Datagram {
                path: *path,
                bytes: &mut bytes,
            },
        );
        let mut noise = vec![2; 1 + round as usize % 1200];
        pair.give(
            0,
            Input::Datagram {
                path: Path(0),
                bytes: &mut noise,
            },
        );
    }
    for index in 0..2 {
        assert!(pair.standing(index).is_some());
        assert_eq!(
            pair.ends[index]
                .session
                .status(Instant::ZERO, &Nothing)
                .hears,
            0b1_0011
        );
    }
}

/// Who was away itself looks at what came meanwhile before it calls the peer dead.
#[test]
fn a_stall_is_no_silence() {
    let mut pair = Pair::started();
    pair.ends[0].running = false;
    let mut held = Vec::new();
    for _ in 0..40 {
        let end = pair.now + Duration::from_millis(5);
        pair.run(5);
        pair.now = end;
        held.extend(pair.recorded.drain(..).filter(|(from, ..)| *from == 1));
    }
    pair.forget();
    pair.ends[0].running = true;
    pair.give(0, Input::Timer);
    for (_, path, mut bytes) in held {
        let bytes = &mut bytes[..];
        pair.give(0, Input::Datagram { path, bytes });
    }
    pair.run(100);
    assert!(!pair.events(0).contains(&Event::Lost));
    // A peer that is dead for certain is lost all the same, one heartbeat later.
    pair.ends[1].running = false;
    pair.ends[0].running = false;
    pair.run(500);
    pair.ends[0].running = true;
    pair.run(15);
    assert!(pair.events(0).contains(&Event::Lost));
}

/// Serial line alone.
#[test]
fn a_serial_line_is_enough() {
    let mut pair = Pair::new(|_, settings| settings.paths = 0);
    pair.run(100);
    for index in 0..2 {
        assert!(pair.standing(index).is_some());
    }
    let mut deframer = Deframer::new();
    for (_, path, bytes) in &pair.recorded {
        assert_eq!(*path, Path::SERIAL);
        let frame = frame(bytes).unwrap();
        let heard: Vec<_> = frame
            .iter()
            .filter_map(|byte| deframer.push(*byte).map(|d| d.to_vec()))
            .collect();
        assert_eq!(heard, core::slice::from_ref(bytes));
    }
}
