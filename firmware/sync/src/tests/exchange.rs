//! Flows, as the exchange sees them: numbers at places.

use proptest::prelude::*;

use super::*;

/// A pair whose first appliance is Active and has room for so much.
fn with_places(places: usize) -> Pair {
    with_heartbeat(places, 10)
}

/// The same with another time between heartbeats: the longer, the sooner a test ends.
fn with_heartbeat(places: usize, millis: u64) -> Pair {
    let mut pair = Pair::new(|_, settings| {
        settings.serial = false;
        settings.heartbeat = Duration::from_millis(millis);
        settings.misses = 8;
    });
    pair.ends[0].store.own = vec![None; places];
    pair.say(0, active(200));
    pair.say(1, backup());
    pair
}

fn backup() -> Standing {
    Standing {
        state: State::Backup,
        ..active(100)
    }
}

fn status(pair: &Pair, index: usize) -> Status {
    let end = &pair.ends[index];
    end.session.status(pair.now, &end.store)
}

fn assert_equal(pair: &Pair) {
    let [active, backup] = &pair.ends;
    assert_eq!(backup.store.heard(), active.store.known());
}

/// Ten thousand flows are known soon, and both say so.
#[test]
fn a_peer_joins() {
    let mut pair = with_places(16_384);
    for place in 0..10_000 {
        pair.ends[0].store.set_in_secret(place, Some(place as u16));
    }
    pair.run(100);
    assert!(!pair.ends[0].session.in_sync() && !pair.ends[1].session.in_sync());
    pair.run(1_000);
    assert!(pair.ends[0].session.in_sync() && pair.ends[1].session.in_sync());
    assert_equal(&pair);
    assert!(pair.ends[1].events.contains(&Event::InSync));
    assert!(status(&pair, 0).last_bulk.is_some());
    let counters = status(&pair, 0).exchange;
    assert_eq!(counters.lost, 0);
    assert!(
        (10_000..10_500).contains(&counters.records),
        "each is told once"
    );
}

#[test]
fn a_change_is_told_within_milliseconds() {
    let mut pair = with_places(64);
    pair.run(1_000);
    for value in 0..50 {
        let place = u32::from(value) % 7;
        pair.ends[0].store.set(place, Some(value));
        pair.run(6);
        assert_equal(&pair);
        pair.ends[0].store.set(place, None);
        pair.run(6);
        assert_equal(&pair);
    }
    assert_eq!(status(&pair, 0).lag, Lag::default());
}

/// What somebody forgot to tell of is found out by the slow passes.
#[test]
fn nothing_stays_wrong_for_long() {
    let mut pair = with_heartbeat(1_000, 500);
    for place in 0..500 {
        pair.ends[0].store.set(place, Some(1));
    }
    pair.run(1_000);
    assert_equal(&pair);
    for place in 0..100 {
        pair.ends[0].store.set_in_secret(place, None);
        pair.ends[0].store.set_in_secret(place + 600, Some(2));
        pair.ends[0].store.set_in_secret(place + 200, Some(3));
    }
    pair.run(200_000);
    assert_equal(&pair);
    assert!(pair.ends[1].store.passes >= 3);
    let sent = status(&pair, 0).exchange.sent;
    pair.run(60_000);
    let sent = status(&pair, 0).exchange.sent - sent;
    assert!((25..=3_100).contains(&sent), "{sent} batches in a minute");
}

/// The new Active tells all it knows, the old one stops to.
#[test]
fn roles_change() {
    let mut pair = with_places(200);
    for place in 0..100 {
        pair.ends[0].store.set(place, Some(1));
    }
    pair.run(1_000);
    // Make before break: for a moment both are Active.
    pair.ends[1].store.own = vec![Some(7); 150];
    pair.say(1, active(200));
    pair.run(5);
    assert!(
        pair.ends[0].session.in_sync(),
        "it was, and is not Backup yet"
    );
    pair.say(0, backup());
    pair.run(1);
    assert!(!pair.ends[0].session.in_sync() && !pair.ends[1].session.in_sync());
    pair.run(1_000);
    assert!(pair.ends[0].session.in_sync() && pair.ends[1].session.in_sync());
    assert_eq!(pair.ends[0].store.heard(), pair.ends[1].store.known());
    let before = status(&pair, 0).exchange.sent;
    pair.ends[0].store.set(3, Some(9));
    pair.run(1_000);
    assert_eq!(status(&pair, 0).exchange.sent, before);
}

#[test]
fn a_pair_that_does_not_share_tells_nothing() {
    let mut pair = Pair::new(|_, settings| settings.sync = false);
    pair.ends[0].store.own = vec![Some(1); 10];
    pair.say(0, active(200));
    pair.run(1_000);
    assert_eq!(pair.ends[1].store.heard(), []);
    assert!(pair.ends[0].session.in_sync() && pair.ends[1].session.in_sync());
}

/// A path with a long delay is slow, and nothing worse.
#[test]
fn a_slow_path() {
    let mut pair = with_heartbeat(2_000, 100);
    for place in 0..1_000 {
        pair.ends[0].store.set_in_secret(place, Some(1));
    }
    pair.delay = Duration::from_millis(60);
    pair.run(8_000);
    assert!(pair.ends[1].session.in_sync());
    assert_equal(&pair);
    let lost = status(&pair, 0).exchange.lost;
    pair.run(5_000);
    assert_eq!(
        status(&pair, 0).exchange.lost,
        lost,
        "it has learned how long that takes"
    );
}

const PLACES: usize = 20_000;

#[derive(Clone, Debug)]
enum Step {
    Set(u32, Option<u16>),
    Wait(u64),
    Weather(Weather),
    Restart(usize),
    Cut(usize, bool),
}

fn weather() -> impl Strategy<Value = Weather> {
    (0_u64..40, 0_u64..30, 0_u64..10, 0_u64..6_000).prop_map(|(lost, repeated, damaged, late)| {
        Weather {
            lost,
            repeated,
            damaged,
            late,
        }
    })
}

fn event() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u32..60, any::<Option<u16>>()).prop_map(|(place, value)| Step::Set(place, value)),
        12 => (0_u64..60).prop_map(Step::Wait),
        2 => weather().prop_map(Step::Weather),
        1 => (0_usize..2).prop_map(Step::Restart),
        1 => (0_usize..2, any::<bool>()).prop_map(|(path, cut)| Step::Cut(path, cut)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Whatever the cables do and whoever starts anew: soon after it is quiet, both know the same.
    #[test]
    fn both_know_the_same_in_the_end(
        seed: u64,
        events in prop::collection::vec(event(), 1..200),
    ) {
        // So many places that the slow pass mends nothing before the first look.
        let mut pair = with_heartbeat(PLACES, 200);
        pair.random = SplitMix64::new(seed);
        pair.run(1_000);
        for event in events {
            match event {
                Step::Set(place, value) => pair.ends[0].store.set(place, value),
                Step::Wait(millis) => pair.run(millis),
                Step::Weather(weather) => pair.weather = weather,
                Step::Cut(path, cut) => pair.cut[path] = cut,
                Step::Restart(index) => {
                    pair.restart(index);
                    if index == 0 {
                        pair.ends[0].store.own = vec![None; PLACES];
                        pair.say(0, active(200));
                    } else {
                        pair.say(1, backup());
                    }
                }
            }
        }
        pair.weather = Weather::default();
        pair.cut = [false; PATHS];
        pair.run(2_000);
        let in_sync = [0, 1].map(|index| pair.ends[index].session.in_sync());
        prop_assert_eq!(in_sync, [true, true]);
        // What a restarted Active does not know goes with the second pass.
        let known = pair.ends[0].store.known();
        let heard = pair.ends[1].store.heard();
        prop_assert!(known.iter().all(|entry| heard.contains(entry)), "{:?} {:?}", known, heard);
        pair.run(130_000);
        prop_assert_eq!(pair.ends[1].store.heard(), pair.ends[0].store.known());
        prop_assert_eq!(status(&pair, 1).counters.malformed, 0);
    }
}

/// A first packet waits until the peer knows its flow, and not longer than twenty milliseconds.
#[test]
fn first_packets_wait() {
    let mut pair = with_places(64);
    let defer = |pair: &mut Pair, place| {
        pair.ends[0].store.set_in_secret(place, Some(5));
        let (now, mut sent) = (pair.now, Vec::new());
        let End { session, store, .. } = &mut pair.ends[0];
        let mut out = |path: Path, bytes: &[u8]| sent.push((path, bytes.to_vec()));
        let deferred = session.defer(now, place, store, &mut out);
        let cut = pair.cut[0];
        for (path, bytes) in sent.into_iter().filter(|_| !cut) {
            pair.sent += 1;
            pair.wire
                .insert((now + pair.delay, pair.sent), (1, path, bytes));
        }
        deferred
    };
    let held = |pair: &Pair, deferred| pair.ends[0].session.is_held(pair.now, &deferred);
    assert_eq!(defer(&mut pair, 1), None, "there is nobody to tell");
    pair.run(1_000);
    let deferred = defer(&mut pair, 2).unwrap();
    assert!(held(&pair, deferred));
    pair.run(1);
    assert!(!held(&pair, deferred));
    assert_equal(&pair);
    pair.cut = [true; PATHS];
    let deferred = defer(&mut pair, 3).unwrap();
    pair.run(15);
    assert!(held(&pair, deferred));
    pair.run(6);
    assert!(!held(&pair, deferred));
    assert_eq!(deferred.until(), pair.now - Duration::from_millis(1));
}
