//! What an appliance is worth: keepalived's arithmetic of weights, faults, and named demotions.

use policy::{Track, Tracked};

use super::*;

const SERVICE: Tracked = Tracked::Service(0);

fn tracking(priority: u8, tracks: &[(Tracked, i16, bool)]) -> Config {
    let mut config = config(2);
    config.availability.priority = priority;
    let track = |&(what, weight, reverse): &(Tracked, i16, bool)| Track {
        what,
        weight,
        reverse,
    };
    config.availability.tracks = tracks.iter().map(track).collect();
    config
}

fn track(track: u8, good: bool) -> Input {
    Input::Track { track, good }
}

/// keepalived.conf(5), track_interface and track_script: a positive weight is added while the condition is good, a negative one
/// taken while it is bad, `reverse` turns the direction.
#[test]
fn weights_count_as_keepalived_counts_them() {
    #[rustfmt::skip]
    let table = [
        // priority, weight, reverse, while good, while bad
        (100,   20, false, 120, 100),
        (100,  -20, false, 100,  80),
        (100,   20, true,   80, 100),
        (100,  -20, true,  100, 120),
        (100,  253, false, 254, 100),
        (100, -253, false, 100,   1),
        (254,    1, false, 254, 254),
        (1,     -1, false,   1,   1),
        (255,  -20, false, 255, 255),
        (255,   20, true,  255, 255),
    ];
    for (priority, weight, reverse, good, bad) in table {
        let config = tracking(priority, &[(SERVICE, weight, reverse)]);
        let mut group = Group::new(&config);
        assert_eq!(group.priority(), good, "{priority} {weight} {reverse}");
        let _ = group.step(NOW, track(0, false));
        assert_eq!(group.priority(), bad, "{priority} {weight} {reverse}");
        assert_eq!(group.penalty(), i16::from(priority) - i16::from(bad));
    }
    // Sums are clamped once, at the end.
    let config = tracking(
        200,
        &[
            (SERVICE, 100, false),
            (Tracked::Posted(0), -150, false),
            (Tracked::Posted(1), -150, false),
        ],
    );
    let mut group = Group::new(&config);
    let steps = [(1, false, 150), (2, false, 1), (0, false, 1), (1, true, 50)];
    for (index, good, priority) in steps {
        let _ = group.step(NOW, track(index, good));
        assert_eq!(group.priority(), priority);
    }
}

#[test]
fn others_hear_at_once_who_is_the_better_one() {
    let config = tracking(100, &[(SERVICE, -60, false), (SERVICE, -60, false)]);
    let mut group = group_of(&config, Active);
    let lowered = [advert(0, 40), advert(1, 40)];
    assert_eq!(group.tracks(SERVICE), [0, 1]);
    assert_eq!(group.step(NOW, track(1, false)), lowered);
    assert_eq!(group.step(NOW, track(1, false)), [], "no news");
    let least = [advert(0, 1), advert(1, 1)];
    assert_eq!(group.step(NOW, track(0, false)), least, "0 is a goodbye");
    assert_eq!(group.demotions().iter().next(), Some(Reason::Track));
    assert_eq!(group.step(NOW, track(0, true)), lowered);

    // A Backup has to wait a little longer, or shorter again.
    let mut group = group_of(&config, Backup);
    assert_eq!(group.step(NOW, track(0, false)), []);
    let longer = NOW + 3 * INTERVAL + INTERVAL * 216 / 256;
    assert_eq!(running(&group), Some(longer));
    let mut better = group.clone();
    let _ = better.step(NOW, track(0, true));
    assert_eq!(running(&better), Some(NOW + DOWN));
    let later = NOW + INTERVAL;
    for router in 0..2 {
        let _ = group.step(later, heard_on(router, 41, LOWER));
    }
    assert!(
        election(&group) > later + DOWN,
        "stronger than what tracking has left us"
    );
}

/// Without a weight a bad condition is a fault; with `reverse` a good one is.
#[test]
fn a_condition_without_a_weight_is_a_fault() {
    let config = tracking(100, &[(Tracked::Posted(3), 0, false)]);
    let mut group = group_of(&config, Active);
    let cause = Cause::TrackLost { track: 0 };
    let actions = group.step(NOW, track(0, false));
    let fault = [
        advert(0, 0),
        advert(1, 0),
        Release,
        changed(Active, Fault, cause),
    ];
    assert_eq!(actions, fault);
    let actions = group.step(NOW, track(0, true));
    assert_eq!(actions, [changed(Fault, Backup, Cause::Repaired)]);

    let config = tracking(255, &[(SERVICE, 0, true)]);
    let mut group = Group::new(&config);
    let actions = group.step(NOW, Input::Start);
    let fault = changed(Initialize, Fault, cause);
    assert_eq!(actions, [fault], "even of the owner");
    let _ = group.step(NOW, track(0, false));
    assert_eq!(group.state(), Active);
}

/// A port with a weight of its own is no fault, as long as a leg is left.
#[test]
fn a_port_may_be_worth_less_than_everything() {
    let config = tracking(
        100,
        &[
            (Tracked::Port(0), -30, false),
            (Tracked::Port(1), -30, false),
        ],
    );
    let link = |port, up| Input::Link { port, up };
    let mut group = group_of(&config, Active);
    assert_eq!(group.step(NOW, link(1, false)), [advert(0, 70)]);
    assert_eq!(group.demotions().iter().next(), Some(Reason::Link));
    assert_eq!(group.step(NOW, track(1, true)), [], "links decide");
    assert_eq!(group.step(NOW, heard_on(1, 255, HIGHER)), [], "not there");
    let back = group.step(NOW, link(1, true));
    assert!(back.contains(&advert(1, 100)) && back.contains(&Announce));

    let _ = group.step(NOW, link(1, false));
    let _ = group.step(NOW, link(0, false));
    assert_eq!(group.state(), Fault, "no leg is left");
    let _ = group.step(NOW, link(1, true));
    assert_eq!(group.state(), Backup);

    // A leg that comes back to a Backup has to be listened to first.
    let mut group = group_of(&config, Backup);
    let _ = group.step(NOW, link(1, false));
    let later = NOW + 2 * INTERVAL;
    let _ = served(&mut group, later);
    let _ = group.step(later, link(1, true));
    assert_eq!(running(&group), Some(later + DOWN));
}

#[test]
fn who_failed_and_started_anew_serves_only_if_nobody_else_does() {
    let until = NOW + Duration::from_secs(30);
    let mut group = group_of(&config(1), Initialize);
    assert_eq!(group.step(NOW, Input::Failed { until }), []);
    let _ = group.step(NOW, Input::Start);
    assert_eq!((group.state(), group.priority()), (Backup, 1));
    let reasons: List<Reason> = group.demotions().iter().collect();
    assert_eq!(reasons, [Reason::Watchdog]);
    let _ = served(&mut group, NOW + Duration::from_secs(1));
    assert_eq!(group.state(), Active, "nobody else is there");
    // Stalling, which is forgiven after a second, does not end that.
    let _ = group.step(NOW + Duration::from_secs(3), Input::Timer);
    assert_eq!(group.state(), Backup);
    let _ = served(&mut group, until - TICK);
    assert_eq!((group.state(), group.priority()), (Active, 1));
    let _ = served(&mut group, until + INTERVAL);
    assert_eq!((group.state(), group.priority()), (Active, 100));
    assert!(group.demotions().is_empty());
}

#[test]
fn demotions_have_names_and_end_by_themselves() {
    let demote = |reason, on| Input::Demote { reason, on };
    let mut group = group_in(Active, 1);
    assert_eq!(
        group.step(NOW, demote(Reason::Operator, true)),
        [advert(0, 1)]
    );
    assert_eq!(group.step(NOW, demote(Reason::Watchdog, true)), []);
    for derived in [Reason::Link, Reason::Track] {
        assert_eq!(group.step(NOW, demote(derived, true)), []);
    }
    let reasons: List<Reason> = group.demotions().iter().collect();
    assert_eq!(reasons, [Reason::Watchdog, Reason::Operator]);
    assert_eq!(group.step(NOW, demote(Reason::Operator, false)), []);
    assert_eq!(group.priority(), 1);
    let all = served(&mut group, NOW + Duration::from_secs(1));
    assert_eq!(group.priority(), 100);
    assert_eq!(all.last().unwrap().1, advert(0, 100), "told at once");

    let _ = group.step(NOW, demote(Reason::Sync, true));
    let until = NOW + Duration::from_secs(30);
    let _ = served(&mut group, until - TICK);
    assert!(group.demotions().contains(Reason::Sync));
    assert_eq!(group.priority(), 100, "there is nobody to wait for");
    let _ = group.step(until - TICK, demote(Reason::Sync, true));
    let _ = served(&mut group, until + INTERVAL);
    assert!(group.demotions().is_empty(), "30 s must do");
    let _ = group.step(until + INTERVAL, demote(Reason::Sync, true));
    assert!(group.demotions().is_empty(), "once");
    let _ = group.step(until + INTERVAL, demote(Reason::Sync, false));
    let _ = group.step(until + INTERVAL, demote(Reason::Sync, true));
    assert!(!group.demotions().is_empty(), "other flows, another time");
}
