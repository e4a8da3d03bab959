//! Every transition of RFC 9568 §6.4 for one virtual router, and what RFC 3768 does differently.

use core::net::Ipv6Addr;

use policy::Version;

use super::*;

/// The timer in the last column is the one that runs after the step, from [`NOW`].
#[test]
fn transitions() {
    let down = Some(DOWN);
    let adver = Some(INTERVAL);
    let ours = [advert(0, 100)].to_vec();
    let goodbye = [
        advert(0, 0),
        Release,
        changed(Active, Initialize, Cause::Stopped),
    ];
    let yields = |priority| {
        let router = 0;
        let cause = Cause::StrongerPeer { router, priority };
        let last = advert(0, 100);
        [last, Linger, changed(Active, Backup, cause)].to_vec()
    };
    let starts = [changed(Initialize, Backup, Cause::Started)].to_vec();
    let stops = [changed(Backup, Initialize, Cause::Stopped)].to_vec();
    let none = List::new;

    #[rustfmt::skip]
    let table = [
        // name                                  before      input               after       actions           timer
        ("6.4.1 start",                          Initialize, Input::Start,       Backup,     starts,           down),
        ("6.4.1 adverts before start",           Initialize, heard(255, HIGHER), Initialize, none(),           None),
        ("6.4.1 timer before start",             Initialize, Input::Timer,       Initialize, none(),           None),
        ("6.4.1 stop before start",              Initialize, Input::Stop,        Initialize, none(),           None),

        ("6.4.2 start twice",                    Backup,     Input::Start,       Backup,     none(),           down),
        ("6.4.2 stop",                           Backup,     Input::Stop,        Initialize, stops,            None),
        ("6.4.2 timer too early",                Backup,     Input::Timer,       Backup,     none(),           down),
        ("6.4.2 goodbye starts the skew time",   Backup,     heard(0, LOWER),    Backup,     none(),           Some(SKEW)),
        ("6.4.2 an equal Active is accepted",    Backup,     heard(100, LOWER),  Backup,     none(),           down),
        ("6.4.2 a stronger Active is accepted",  Backup,     heard(254, LOWER),  Backup,     none(),           down),
        ("6.4.2 the owner is accepted",          Backup,     heard(255, LOWER),  Backup,     none(),           down),
        ("6.4.2 a weaker Active is discarded",   Backup,     heard(99, HIGHER),  Backup,     none(),           down),

        ("6.4.3 stop",                           Active,     Input::Stop,        Initialize, goodbye.to_vec(), None),
        ("6.4.3 start",                          Active,     Input::Start,       Active,     none(),           adver),
        ("6.4.3 a goodbye is answered",          Active,     heard(0, HIGHER),   Active,     ours.clone(),     adver),
        ("6.4.3 a weaker Active is answered",    Active,     heard(99, HIGHER),  Active,     ours.clone(),     adver),
        ("6.4.3 equal, lower address: answered", Active,     heard(100, LOWER),  Active,     ours,             adver),
        ("6.4.3 equal, higher address wins",     Active,     heard(100, HIGHER), Backup,     yields(100),      down),
        ("6.4.3 a stronger Active wins",         Active,     heard(101, LOWER),  Backup,     yields(101),      down),
        ("6.4.3 the owner wins",                 Active,     heard(255, LOWER),  Backup,     yields(255),      down),
    ];
    for (name, before, input, after, actions, timer) in table {
        let mut group = group_in(before, 1);
        assert_eq!(group.step(NOW, input), actions[..], "{name}");
        assert_eq!(group.state(), after, "{name}");
        let runs = running(&group).map(|timer| timer.since(NOW));
        assert_eq!(runs, timer, "{name}");
    }
}

#[test]
fn silence_elects_us() {
    let mut group = group_in(Backup, 1);
    let before = served(&mut group, NOW + DOWN - TICK);
    assert_eq!(before, []);
    let takes_over = [
        Claim,
        advert(0, 100),
        Announce,
        changed(Backup, Active, Cause::Silence),
    ];
    assert_eq!(group.step(NOW + DOWN, Input::Timer), takes_over);
    assert_eq!(running(&group), Some(NOW + DOWN + INTERVAL));
}

/// The one that gives way says so once more, so that the winner knows that there were two, and goes on forwarding for a second
/// what switches still send to it.
#[test]
fn the_loser_of_a_healed_split_lingers() {
    let mut group = group_in(Active, 1);
    let actions = group.step(NOW, heard(200, HIGHER));
    assert_eq!(actions[..2], [advert(0, 100), Linger]);
    let mut late = group.clone();
    assert_eq!(late.step(NOW, Input::Stop)[0], Release, "or stops at once");
    let mut now = NOW;
    let mut released = List::new();
    while now < NOW + 20 * INTERVAL {
        let actions = group.step(now, heard(200, HIGHER)).into_iter();
        released.extend(
            actions
                .chain(group.step(now, Input::Timer))
                .map(|a| (now, a)),
        );
        now = now + INTERVAL;
    }
    assert_eq!(released, [(NOW + Duration::from_secs(1), Release)]);
}

/// Who was Active beside us for a moment has drawn switches to itself.
#[test]
fn an_active_that_was_contested_announces_again() {
    for rival in [heard(99, HIGHER), heard(0, HIGHER)] {
        let mut group = group_in(Active, 1);
        let now = NOW + Duration::from_secs(20);
        let _ = served(&mut group, now);
        assert_eq!(group.step(now, rival), [advert(0, 100)]);
        let soon = now + Duration::from_millis(100);
        // More of the same does not put it off.
        let _ = group.step(soon - TICK, rival);
        let all = served(&mut group, now + Duration::from_secs(10));
        let announced = all.iter().filter(|(_, action)| *action == Announce);
        let times: List<Instant> = announced.map(|(at, _)| *at).collect();
        assert_eq!(times, [soon, soon + Duration::from_millis(100)]);
    }
}

#[test]
fn announcements_follow_the_configured_schedule() {
    let mut group = group_in(Backup, 1);
    let start = election(&group);
    let all = served(&mut group, start + Duration::from_secs(130));
    let announced = all.iter().filter(|(_, action)| *action == Announce);
    let times: List<u128> = announced
        .map(|(at, _)| at.since(start).as_millis())
        .collect();
    assert_eq!(
        times,
        [0, 100, 200, 5000, 5100, 5200, 60_000, 120_000],
        "a burst, a second one, and refreshed each minute"
    );

    let mut config = config(1);
    config.availability.announce = policy::Announce {
        repeat: 1,
        second: 0,
        refresh: 0,
        rival: 0,
        ..policy::Announce::default()
    };
    let mut group = group_of(&config, Active);
    let _ = group.step(NOW, heard(99, HIGHER));
    let all = served(&mut group, NOW + Duration::from_secs(130));
    assert!(all.iter().all(|(_, action)| *action == advert(0, 100)));
}

#[test]
fn an_active_advertises_without_drift() {
    let mut group = group_in(Active, 1);
    let first = NOW + INTERVAL;
    let _ = served(&mut group, first - TICK);
    let late = first + INTERVAL / 2;
    assert!(group.step(late, Input::Timer).contains(&advert(0, 100)));
    assert_eq!(
        running(&group),
        Some(first + INTERVAL),
        "a late call does not shift the next one"
    );
}

#[test]
fn the_interval_of_the_active_is_learned_and_forgotten() {
    let mut group = group_in(Backup, 1);
    let slow = Duration::from_secs(1);
    assert_eq!(group.step(NOW, heard_at(slow, 200)), []);
    let slow_down = 3 * slow + slow * 156 / 256;
    assert_eq!(running(&group), Some(NOW + slow_down));
    assert_eq!(group.step(NOW, heard_at(slow / 2, 50)), []);
    assert_eq!(
        running(&group),
        Some(NOW + slow_down),
        "nothing is learned from a weaker one"
    );

    let _ = group.step(NOW, Input::Stop);
    let _ = group.step(NOW, Input::Start);
    assert_eq!(running(&group), Some(NOW + DOWN));

    let mut group = group_in(Active, 1);
    let _ = group.step(NOW, heard_at(slow, 200));
    assert_eq!(
        running(&group),
        Some(NOW + slow_down),
        "learned while falling"
    );
}

/// RFC 3768 §6.1: Skew_Time is of a second, and nobody's interval is learned.
#[test]
fn version_2_has_its_own_timers() {
    let mut config = config(1);
    config.routers[0].version = Version::V2;
    config.routers[0].advertisement_interval = 200;
    let interval = Duration::from_secs(2);
    let skew = Duration::from_secs(1) * 156 / 256;
    let v2 = |priority, interval| heard_at(interval, priority);

    let mut group = group_of(&config, Backup);
    assert_eq!(running(&group), Some(NOW + 3 * interval + skew));
    let _ = group.step(NOW, v2(200, interval));
    assert_eq!(running(&group), Some(NOW + 3 * interval + skew));
    let _ = group.step(NOW, v2(200, 10 * interval));
    assert_eq!(running(&group), Some(NOW + 3 * interval + skew));
    let _ = group.step(NOW, v2(0, interval));
    assert_eq!(running(&group), Some(NOW + skew));

    let mut group = group_of(&config, Active);
    assert_eq!(group.step(NOW, v2(99, interval)), [advert(0, 100)]);
    assert_eq!(running(&group), Some(NOW + interval));
}

/// Ties are broken by the address as an unsigned number, of IPv6 by the link-local one.
#[test]
fn ties_are_broken_by_the_primary_address() {
    let mut config = config(1);
    config.interfaces[0].address = Ipv4Addr::new(10, 0, 0, 127);
    let v4 = |host| Input::Advert(received(0, 100, host));
    let mut group = group_of(&config, Active);
    let _ = group.step(NOW, v4(126));
    assert_eq!(group.state(), Active);
    let _ = group.step(NOW, v4(128));
    assert_eq!(group.state(), Backup, "128 is more than 127, not negative");

    let addresses = [VirtualRouter::link_local(1).into()];
    config.routers[0] = VirtualRouter {
        advertisement_interval: 10,
        ..VirtualRouter::new(0, 1, addresses)
    };
    // The interface has the MAC address 02:00:00:00:00:00.
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0);
    for (source, after) in [
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfdff, 0), Active),
        (own, Active),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1), Backup),
        (
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0x8000, 0xff, 0xfe00, 0),
            Backup,
        ),
    ] {
        let mut group = group_of(&config, Active);
        let source = source.into();
        let heard = Advert {
            source,
            ..received(0, 100, 0)
        };
        let actions = group.step(NOW, Input::Advert(heard));
        assert_eq!(group.state(), after, "{source}");
        assert_eq!(actions.is_empty(), source == IpAddr::V6(own), "reflected");
    }
}

#[test]
fn without_preemption_a_weaker_active_is_left_alone() {
    let mut config = config(1);
    config.availability.preempt = false;
    let mut group = group_of(&config, Backup);
    let later = NOW + INTERVAL;
    // Nor is an equal one with a lower address preempted.
    for priority in [1, 99, 100] {
        assert_eq!(group.step(later, heard(priority, LOWER)), []);
        assert_eq!(running(&group), Some(later + DOWN));
    }
    let _ = group.step(later, heard(0, LOWER));
    assert_eq!(running(&group), Some(later + SKEW), "but it is succeeded");
    // Two Actives are one too many whatever the mode is.
    let mut group = group_of(&config, Active);
    let _ = group.step(NOW, heard(101, LOWER));
    assert_eq!(group.state(), Backup);
}

/// The delay begins when a weaker Active is first heard by one that may preempt it; a dead one is not waited for.
#[test]
fn preemption_waits_for_its_delay() {
    let delay = 50 * INTERVAL;
    let mut config = config(1);
    config.availability.preempt_delay = delay.as_millis() as u32;
    let mut group = group_of(&config, Backup);
    let mut now = NOW;
    let mut took_over = None;
    while took_over.is_none() {
        now = now + INTERVAL;
        let _ = served(&mut group, now);
        let _ = group.step(now, heard(50, LOWER));
        took_over = (group.state() == Active).then_some(now);
    }
    let first = NOW + INTERVAL;
    assert!(now >= first + delay, "not before the delay");
    assert!(now <= first + delay + DOWN + INTERVAL, "soon after it");

    let mut group = group_of(&config, Backup);
    let _ = group.step(NOW, heard(50, LOWER));
    assert_eq!(running(&group), Some(NOW + DOWN), "it died");

    // From when it is able to run, not from when it was first disturbed.
    config.availability.start_delay = delay.as_millis() as u32;
    let mut group = group_of(&config, Backup);
    let mut now = NOW;
    while group.state() == Backup {
        now = now + INTERVAL;
        let _ = served(&mut group, now);
        let _ = group.step(now, heard(50, LOWER));
    }
    assert!(now >= NOW + 2 * delay, "start delay, then preempt delay");
}

/// Switches and links need time: nobody is elected before, and Active_Down_Timer starts afterwards.
#[test]
fn a_start_delay_is_for_listening_only() {
    let delay = 50 * INTERVAL;
    let mut config = config(1);
    config.availability.start_delay = delay.as_millis() as u32;
    let mut group = group_of(&config, Backup);
    assert_eq!(running(&group), Some(NOW + delay + DOWN));
    let _ = group.step(NOW, heard(0, LOWER));
    assert_eq!(
        running(&group),
        Some(NOW + delay),
        "not even after a goodbye"
    );
    let later = NOW + 10 * INTERVAL;
    let _ = served(&mut group, later);
    let _ = group.step(later, Input::Link { port: 0, up: false });
    let _ = group.step(later, Input::Link { port: 0, up: true });
    assert_eq!(
        running(&group),
        Some(later + delay + DOWN),
        "again when links come back"
    );
}

/// Priority 255 (RFC 9568 §6.4.1): Active at once, always preempts, and no tracking changes it.
#[test]
fn the_owner_is_active_from_the_start() {
    let mut config = config(1);
    config.availability.priority = 255;
    config.availability.preempt = false;
    let mut group = Group::new(&config);
    let takes_over = [
        Claim,
        advert(0, 255),
        Announce,
        changed(Initialize, Active, Cause::Owner),
    ];
    assert_eq!(group.step(NOW, Input::Start), takes_over);
    assert_eq!(group.step(NOW, heard(254, HIGHER)), [advert(0, 255)]);
    let _ = group.step(NOW, Input::Link { port: 0, up: false });
    assert_eq!(group.state(), Fault);
    let actions = group.step(NOW, Input::Link { port: 0, up: true });
    assert_eq!(actions[3], changed(Fault, Active, Cause::Owner));

    config.availability.start_delay = 1000;
    let mut group = group_of(&config, Backup);
    let _ = group.step(NOW, heard(254, HIGHER));
    let able = NOW + Duration::from_secs(1);
    assert_eq!(election(&group), able, "it listens if it was told to");
    let _ = served(&mut group, able);
    assert_eq!(group.state(), Active);
    // Two owners are a mistake in the configuration: the tie is broken as any other.
    let _ = group.step(able, heard(255, HIGHER));
    assert_eq!(group.state(), Backup);
}

/// FACTS of other implementations: a stream of adverts that are discarded must not keep a router silent, and a stream of goodbyes
/// must not keep a Backup from its election.
#[test]
fn no_stream_of_adverts_holds_timers_up() {
    for (priority, elected) in [(0, NOW + SKEW), (99, NOW + DOWN)] {
        let mut group = group_in(Backup, 1);
        let mut now = NOW;
        while group.state() == Backup {
            let _ = group.step(now, heard(priority, HIGHER));
            let _ = group.step(now, Input::Timer);
            assert!(now < elected + SKEW / 2, "priority {priority}");
            now = now + SKEW / 2;
        }
    }
    let mut group = group_in(Active, 1);
    let start = NOW + Duration::from_secs(20);
    let _ = served(&mut group, start);
    let due = running(&group).unwrap();
    for step in 0..100 {
        let now = due + INTERVAL / 2 * step;
        let answer = group.step(now, heard(99, HIGHER));
        assert_eq!(answer, [advert(0, 100)], "answered at once");
        let regular = group.step(now, Input::Timer);
        assert_eq!(
            regular.contains(&advert(0, 100)),
            step % 2 == 0,
            "the regular ones go on, step {step}"
        );
    }
}

#[test]
fn foreign_and_impossible_inputs_change_nothing() {
    let table = [
        ("reflected", heard(255, OWN)),
        ("interval zero", heard_at(Duration::ZERO, 255)),
        ("a router that is not there", heard_on(2, 255, HIGHER)),
        ("the last router of all", heard_on(255, 255, HIGHER)),
        (
            "a port that is not there",
            Input::Link { port: 9, up: false },
        ),
        (
            "a port beyond all",
            Input::Link {
                port: 255,
                up: false,
            },
        ),
        (
            "a port that is up already",
            Input::Link { port: 2, up: true },
        ),
        (
            "a condition that is not there",
            Input::Track {
                track: 200,
                good: false,
            },
        ),
        ("a peer without a pair", Input::Peer(Peer::Lost)),
    ];
    for state in [Initialize, Backup, Active, Fault] {
        for (name, input) in table {
            let mut group = group_in(state, 2);
            let timer = running(&group);
            assert_eq!(group.step(NOW, input), [], "{name} in {state:?}");
            assert_eq!(
                (group.state(), running(&group)),
                (state, timer),
                "{name} in {state:?}"
            );
        }
    }
}
