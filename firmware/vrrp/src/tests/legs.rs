//! What a group of several legs adds to RFC 9568, and what the passing of time means to it.

use super::*;

#[test]
fn one_silent_leg_elects_nobody() {
    let mut group = group_in(Backup, 2);
    let mut now = NOW;
    for _ in 0..100 {
        assert_eq!(group.step(now, heard_on(1, 200, HIGHER)), []);
        now = now + INTERVAL;
        assert_eq!(group.step(now, Input::Timer), []);
    }
    let due = now + 2 * INTERVAL + SKEW;
    assert_eq!(running(&group), Some(due), "the leg heard last decides");
    let _ = served(&mut group, due - TICK);
    let takes_over = [
        Claim,
        advert(0, 100),
        advert(1, 100),
        Announce,
        changed(Backup, Active, Cause::Silence),
    ];
    assert_eq!(group.step(due, Input::Timer), takes_over);
}

#[test]
fn a_stronger_peer_on_one_leg_takes_all() {
    let mut group = group_in(Active, 2);
    let cause = Cause::StrongerPeer {
        router: 1,
        priority: 200,
    };
    let actions = group.step(NOW, heard_on(1, 200, HIGHER));
    let last = [advert(0, 100), advert(1, 100), Linger];
    assert_eq!(actions[..3], last);
    assert_eq!(actions[3..], [changed(Active, Backup, cause)]);
}

#[test]
fn a_goodbye_on_one_leg_shortens_the_wait_on_the_others() {
    let mut group = group_in(Backup, 2);
    let now = NOW + INTERVAL / 2;
    assert_eq!(group.step(now, heard(0, HIGHER)), []);
    assert_eq!(
        running(&group),
        Some(NOW + 2 * INTERVAL),
        "one advert may be late by an interval"
    );
    assert_eq!(group.step(now, heard_on(1, 0, HIGHER)), []);
    assert_eq!(
        running(&group),
        Some(now + SKEW),
        "with a goodbye everywhere only the skew is left"
    );

    let mut group = group_in(Backup, 2);
    assert_eq!(group.step(now, heard(0, HIGHER)), []);
    assert_eq!(group.step(now, heard_on(1, 200, HIGHER)), []);
    assert_eq!(running(&group), Some(now + DOWN), "who goes on is believed");
}

/// IPv4 and IPv6 of a leg are two routers of one group.
#[test]
fn both_ip_versions_move_together() {
    let mut config = config(1);
    let six = VirtualRouter {
        advertisement_interval: 10,
        ..VirtualRouter::new(0, 1, [VirtualRouter::link_local(1).into()])
    };
    config.routers.push(six).unwrap();
    let mut group = group_of(&config, Active);
    let heard = Advert {
        source: VirtualRouter::link_local(9).into(),
        ..received(1, 200, 0)
    };
    let cause = Cause::StrongerPeer {
        router: 1,
        priority: 200,
    };
    let actions = group.step(NOW, Input::Advert(heard));
    assert_eq!(actions[..2], [advert(0, 100), advert(1, 100)]);
    assert_eq!(actions[3], changed(Active, Backup, cause));
}

#[test]
fn carrier_decides_about_fault() {
    let lost = Cause::LinkLost { port: 1 };
    let down = Input::Link { port: 1, up: false };
    let up = Input::Link { port: 1, up: true };

    let mut group = group_in(Active, 2);
    let actions = [advert(0, 0), Release, changed(Active, Fault, lost)];
    assert_eq!(
        group.step(NOW, down),
        actions,
        "goodbye where it can be said"
    );
    assert_eq!(group.deadline(), None);
    assert_eq!(group.step(NOW, down), [], "once");
    assert_eq!(group.step(NOW, heard(0, HIGHER)), []);
    let later = NOW + 100 * INTERVAL;
    assert_eq!(group.step(later, Input::Timer), [], "nobody is elected");
    let back = NOW + 200 * INTERVAL;
    let repaired = [changed(Fault, Backup, Cause::Repaired)];
    assert_eq!(group.step(back, up), repaired);
    assert_eq!(running(&group), Some(back + DOWN));

    let mut group = group_in(Backup, 2);
    let silently = [changed(Backup, Fault, lost)];
    assert_eq!(group.step(NOW, down), silently, "nothing to give up");
    assert_eq!(group.step(NOW, Input::Link { port: 0, up: false }), []);
    assert_eq!(group.step(NOW, up), [], "one of two is not enough");
    let stopped = [changed(Fault, Initialize, Cause::Stopped)];
    assert_eq!(group.step(NOW, Input::Stop), stopped);
    let lost = Cause::LinkLost { port: 0 };
    let fault = [changed(Initialize, Fault, lost)];
    assert_eq!(group.step(NOW, Input::Start), fault);
}

#[test]
fn an_appliance_without_routers_is_active_at_once() {
    let mut group = Group::new(&config(0));
    let started = [changed(Initialize, Backup, Cause::Started)];
    assert_eq!(group.step(NOW, Input::Start), started);
    assert!(group.deadline() <= Some(NOW));
    let active = [Claim, Announce, changed(Backup, Active, Cause::Silence)];
    assert_eq!(group.step(NOW, Input::Timer), active);
}

/// A stalled emulator or a busy processor must not be taken for a dead Active.
#[test]
fn a_backup_that_slept_listens_for_one_more_interval() {
    let late = NOW + Duration::from_secs(5);
    let mut group = group_in(Backup, 1);
    assert_eq!(
        group.step(late, Input::Timer),
        [],
        "adverts may still be in the queue"
    );
    assert_eq!(election(&group), late + INTERVAL);
    let _ = group.step(late, heard(200, HIGHER));
    assert_eq!(election(&group), late + DOWN, "there was one");
    let later = late + Duration::from_secs(5);
    assert_eq!(
        group.step(later, Input::Timer),
        [],
        "so the next sleep is excused as well"
    );

    let mut group = group_in(Backup, 1);
    assert_eq!(group.step(late, Input::Timer), []);
    assert_eq!(
        group.step(later, Input::Timer).len(),
        4,
        "but who always sleeps is elected too"
    );
}

/// Three adverts may be missing: another one is Active by now, whatever lies in the queue.
#[test]
fn an_active_that_stalled_stops_before_it_does_anything_else() {
    let late = NOW + 3 * INTERVAL;
    let stops = [Release, changed(Active, Backup, Cause::Stalled)];
    for input in [Input::Timer, heard(99, HIGHER), heard(0, HIGHER)] {
        let mut group = group_in(Active, 1);
        let _ = served(&mut group, NOW);
        assert_eq!(group.step(late, input), stops, "{input:?}");
        assert!(group.demotions().contains(Reason::Watchdog));
        assert_eq!(group.priority(), 1);
        let heard = input == heard(99, HIGHER);
        assert_eq!(group.yielding(), !heard, "until somebody is Active");
    }
    let mut group = group_in(Active, 1);
    let early = group.step(late - TICK, Input::Timer);
    assert!(early.contains(&advert(0, 100)), "late, but in time");

    // Nobody else was there: it goes on after one interval, and is as strong as before when it ran well for a second.
    let mut group = group_in(Active, 1);
    let _ = group.step(late, Input::Timer);
    let all = served(&mut group, late + Duration::from_secs(2));
    assert_eq!(all[0], (late + INTERVAL, Claim));
    let strong = all.iter().find(|(_, action)| *action == advert(0, 100));
    assert_eq!(strong.unwrap().0, late + Duration::from_secs(1));
    assert!(group.demotions().is_empty());

    // Somebody was.
    let mut group = group_in(Active, 1);
    let _ = group.step(late, Input::Timer);
    let _ = group.step(late, heard(50, LOWER));
    assert_eq!(election(&group), late + 3 * INTERVAL + INTERVAL * 255 / 256);
    assert!(!group.yielding());
}
