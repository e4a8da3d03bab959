//! What news of the peer adds: heartbeats every 10 ms, dead after three. The peer has the higher address on leg 0.

use super::*;

const HEARTBEAT: Duration = Duration::from_millis(10);

fn alive(state: State, priority: u8) -> Input {
    Input::Peer(Peer::Alive {
        state,
        priority,
        yielding: false,
        in_sync: true,
    })
}

fn yields(state: State) -> Input {
    Input::Peer(Peer::Alive {
        state,
        priority: 1,
        yielding: true,
        in_sync: true,
    })
}

const LOST: Input = Input::Peer(Peer::Lost);

fn demote(reason: Reason, on: bool) -> Input {
    Input::Demote { reason, on }
}

/// A Backup whose peer has said for a while that it is Active, last at the time returned, and is not heard otherwise.
fn watching(legs: u8) -> (Group, Instant) {
    let mut group = group_of(&pair_config(legs), Backup);
    let last = NOW + 5 * HEARTBEAT;
    beats(&mut group, NOW, last, alive(Active, 200));
    assert_eq!(group.state(), Backup);
    (group, last)
}

/// One heartbeat after another, and all timers between them.
fn beats(group: &mut Group, from: Instant, to: Instant, news: Input) -> List<(Instant, Action)> {
    let mut all = List::new();
    let mut now = from;
    while now <= to {
        all.extend(served(group, now));
        all.extend(group.step(now, news).into_iter().map(|a| (now, a)));
        now = now + HEARTBEAT;
    }
    all
}

#[test]
fn a_peer_that_is_silent_on_every_path_is_succeeded_at_once() {
    let (mut group, last) = watching(2);
    let now = last + 3 * HEARTBEAT;
    let _ = served(&mut group, now);
    let takes_over = [
        Claim,
        advert(0, 100),
        advert(1, 100),
        Announce,
        changed(Backup, Active, Cause::PeerLost),
    ];
    assert_eq!(group.step(now, LOST), takes_over);
}

#[test]
fn a_peer_that_can_no_longer_be_active_is_succeeded_at_once() {
    for state in [Initialize, Fault] {
        let (mut group, last) = watching(1);
        let now = last + HEARTBEAT;
        let actions = group.step(now, alive(state, 200));
        let change = changed(Backup, Active, Cause::PeerGone);
        assert_eq!(actions.last(), Some(&change), "{state:?}");
    }
    // One that has never been Active leaves nothing: a third router may be there.
    let mut group = group_of(&pair_config(1), Backup);
    let news = [alive(Backup, 200), alive(Fault, 200), LOST];
    for input in news {
        assert_eq!(group.step(NOW, input), []);
        assert_eq!(running(&group), Some(NOW + DOWN), "{input:?}");
    }
}

/// The heartbeats stopped, the adverts did not: something else is broken, or somebody else is Active.
#[test]
fn who_still_advertises_is_not_succeeded() {
    let (mut group, last) = watching(1);
    let now = last + 2 * HEARTBEAT;
    let _ = served(&mut group, now);
    let _ = group.step(now, heard(200, HIGHER));
    assert_eq!(group.step(last + 3 * HEARTBEAT, LOST), []);
    assert_eq!(running(&group), Some(now + DOWN));

    // The last advert may be just behind the last heartbeat.
    let (mut group, last) = watching(1);
    let _ = group.step(last + HEARTBEAT / 2, heard(200, HIGHER));
    let _ = served(&mut group, last + 3 * HEARTBEAT);
    let _ = group.step(last + 3 * HEARTBEAT, LOST);
    assert_eq!(group.state(), Active);

    // An advert that comes even later takes the succession back.
    let (mut group, last) = watching(1);
    let _ = group.step(last + 10 * HEARTBEAT, LOST);
    assert_eq!(group.state(), Backup, "it slept, so it waits");
    let _ = group.step(last + 10 * HEARTBEAT, heard(200, HIGHER));
    let later = running(&group);
    assert_eq!(later, Some(last + 10 * HEARTBEAT + DOWN));
}

/// Our own sleep is no silence of the peer.
#[test]
fn a_backup_that_slept_does_not_believe_in_a_dead_peer() {
    let (mut group, last) = watching(1);
    let late = last + 50 * HEARTBEAT;
    assert_eq!(group.step(late, LOST), []);
    let mut unheard = group.clone();
    let all = served(&mut unheard, late + 3 * HEARTBEAT);
    assert_eq!(all[0], (late + 3 * HEARTBEAT, Claim), "but then it does");
    let _ = group.step(late + TICK, alive(Active, 200));
    let _ = beats(
        &mut group,
        late + TICK,
        late + 50 * HEARTBEAT,
        alive(Active, 200),
    );
    assert_eq!(group.state(), Backup);
}

/// A busy board whose every turn is late must not wait for ever.
#[test]
fn a_backup_that_always_sleeps_succeeds_to_a_dead_peer_too() {
    let (mut group, last) = watching(1);
    let mut now = last;
    while group.state() == Backup {
        now = now + 5 * HEARTBEAT / 2;
        let input = match now < last + 3 * HEARTBEAT {
            true => Input::Timer,
            false => LOST,
        };
        let _ = group.step(now, input);
    }
    assert!(now <= last + 8 * HEARTBEAT, "{:?}", now.since(last));
}

/// A cut path is not a dead peer.
#[test]
fn silent_legs_elect_nobody_while_the_peer_is_active() {
    let (mut group, last) = watching(2);
    let end = NOW + 40 * INTERVAL;
    let mut all = List::new();
    let mut now = last + HEARTBEAT;
    while now < end {
        if now.since(NOW).as_millis().is_multiple_of(100) {
            let _ = group.step(now, heard_on(1, 200, HIGHER));
        }
        all.extend(beats(&mut group, now, now, alive(Active, 200)));
        now = now + HEARTBEAT;
    }
    let [(_, cut)] = all[..] else {
        panic!("{all:?}");
    };
    assert_eq!(cut, Silent { routers: 0b01 }, "told once");
    assert_eq!(group.silent(), 0b01);
    assert_eq!(group.step(now, heard(200, HIGHER)), []);
    let mended = group.step(now, alive(Active, 200));
    assert_eq!(mended, [Silent { routers: 0 }]);

    // Both are cut; the peer still lives. Then it says that it is no longer Active.
    let (mut group, last) = watching(2);
    let all = beats(&mut group, last, end, alive(Active, 200));
    assert_eq!(all.last().unwrap().1, Silent { routers: 0b11 });
    assert_eq!(group.state(), Backup);
    let mut fault = group.clone();
    let _ = fault.step(end + HEARTBEAT, alive(Fault, 200));
    assert_eq!(fault.state(), Active);
    let _ = group.step(end + HEARTBEAT, alive(Backup, 200));
    assert_eq!(group.state(), Active, "nobody is Active");
}

/// It says itself that it is weaker, and gives way on all legs, those included where its adverts are not heard.
#[test]
fn a_weaker_peer_is_preempted_although_a_leg_is_cut() {
    let mut cut = group_of(&pair_config(2), Backup);
    let mut whole = cut.clone();
    let mut now = NOW;
    while now < NOW + 10 * DOWN {
        for (group, legs) in [(&mut cut, 1), (&mut whole, 2)] {
            if group.state() == Active {
                continue;
            }
            let mut all = served(group, now);
            for leg in 0..legs {
                let _ = group.step(now, heard_on(leg, 50, HIGHER));
            }
            let news = group.step(now, alive(Active, 50));
            all.extend(news.into_iter().map(|action| (now, action)));
            if group.state() == Active {
                let change = changed(Backup, Active, Cause::WeakerPeer);
                assert!(all.iter().any(|(_, action)| *action == change));
            }
        }
        now = now + HEARTBEAT;
    }
    assert_eq!((cut.state(), whole.state()), (Active, Active));

    let mut config = pair_config(2);
    config.availability.preempt = false;
    let mut group = group_of(&config, Backup);
    let _ = beats(&mut group, NOW, NOW + 10 * DOWN, alive(Active, 50));
    assert_eq!(group.state(), Backup, "without preemption it may stay");
}

/// Heartbeats end a split that no advert crosses.
#[test]
fn the_weaker_of_two_actives_gives_way() {
    #[rustfmt::skip]
    let table = [
        // its priority, tie by address, after
        (101, Backup),
        (100, Backup), // the peer has the higher address
        (99,  Active),
    ];
    for (priority, after) in table {
        let mut group = group_of(&pair_config(1), Active);
        let actions = group.step(NOW, alive(Active, priority));
        assert_eq!(group.state(), after, "{priority}");
        if after == Backup {
            let cause = Cause::SplitBrain { priority };
            let loses = [advert(0, 100), Linger, changed(Active, Backup, cause)];
            assert_eq!(actions, loses);
        } else {
            let all = beats(
                &mut group,
                NOW + HEARTBEAT,
                NOW + INTERVAL,
                alive(Active, priority),
            );
            assert!(all.iter().any(|(_, action)| *action == Announce));
        }
    }
    // Without an address to compare, the first of the two wins.
    let mut config = pair_config(1);
    let pair = config.availability.pair.as_mut().unwrap();
    pair.paths[0].interface = 1;
    pair.first = true;
    let mut group = group_of(&config, Active);
    let _ = group.step(NOW, alive(Active, 100));
    assert_eq!(group.state(), Active);
}

#[test]
fn a_hand_over_is_make_before_break() {
    // The one that goes.
    let mut group = group_of(&pair_config(1), Active);
    let _ = group.step(NOW, alive(Backup, 90));
    assert_eq!(group.step(NOW, Input::Handover), [advert(0, 1)]);
    assert!(group.yielding(), "and still Active");
    assert_eq!(group.step(NOW, Input::Handover), [], "asked once more");
    let now = NOW + HEARTBEAT;
    let actions = group.step(now, alive(Active, 90));
    let gone = [
        advert(0, 1),
        Linger,
        Handover(Outcome::Done),
        changed(Active, Backup, Cause::HandedOver),
    ];
    assert_eq!(actions, gone);
    assert!(group.demotions().contains(Reason::Operator));
    let all = beats(
        &mut group,
        now,
        now + Duration::from_secs(2),
        alive(Active, 90),
    );
    assert_eq!(all[0], (now + DOWN.max(all[0].0.since(now)), all[0].1));
    assert!(all.contains(&(now + Duration::from_secs(1), Release)));
    assert_eq!(group.state(), Backup, "it stays demoted");

    // The one that comes.
    let (mut group, last) = watching(1);
    let now = last + HEARTBEAT;
    let actions = group.step(now, yields(Active));
    let comes = [
        Claim,
        advert(0, 100),
        Announce,
        changed(Backup, Active, Cause::Relief),
    ];
    assert_eq!(actions, comes);
    // Adverts of the one that goes do not disturb it, nor does it wait for them.
    let _ = group.step(now, heard(1, HIGHER));
    assert_eq!(group.state(), Active);
    let _ = group.step(now, yields(Active));
    assert_eq!(group.state(), Active);
}

/// Adverts that the peer sent before it asked may be slower than its heartbeat. A third router's mean what they say.
#[test]
fn old_adverts_do_not_undo_a_hand_over() {
    let (mut group, last) = watching(1);
    let now = last + HEARTBEAT;
    let _ = group.step(now, yields(Active));
    assert_eq!(group.step(now, heard(200, HIGHER)), [advert(0, 100)]);
    assert_eq!(group.state(), Active);
    let _ = group.step(now, heard(200, LOWER));
    assert_eq!(group.state(), Backup);
}

/// Nor do they undo what came of its end: here it stopped, and what it had said on another leg is read later.
#[test]
fn old_adverts_do_not_undo_a_succession() {
    for gone in [Initialize, Fault, Backup] {
        let (mut group, last) = watching(1);
        let now = last + HEARTBEAT;
        let _ = group.step(now, alive(gone, 200));
        let _ = beats(&mut group, now, now + DOWN, alive(gone, 200));
        assert_eq!(group.state(), Active, "{gone:?}");
        let now = now + DOWN + TICK;
        assert_eq!(group.step(now, heard(200, HIGHER)), [advert(0, 100)]);
        assert_eq!(group.state(), Active, "{gone:?}");
        // If it means it, its heartbeat says so.
        let _ = group.step(now + TICK, alive(Active, 200));
        assert_eq!(group.state(), Backup, "{gone:?}");
    }
}

/// Two that both want to be relieved are no reason to go on both.
#[test]
fn one_of_two_demoted_actives_gives_way() {
    for (peer, after) in [(2, Backup), (1, Backup), (0, Active)] {
        let mut group = group_of(&pair_config(1), Active);
        let _ = group.step(NOW, demote(Reason::Operator, true));
        let asks = Input::Peer(Peer::Alive {
            state: Active,
            priority: peer,
            yielding: true,
            in_sync: true,
        });
        let _ = group.step(NOW, asks);
        assert_eq!(group.state(), after, "{peer}");
    }
    let mut group = group_of(&pair_config(1), Active);
    let _ = group.step(NOW, demote(Reason::Operator, true));
    let _ = group.step(NOW, yields(Backup));
    let _ = group.step(NOW, heard(1, HIGHER));
    assert_eq!(group.state(), Backup, "by adverts too");
}

/// Its advert may be faster than its heartbeat.
#[test]
fn an_advert_of_the_peer_completes_a_hand_over() {
    let mut group = group_of(&pair_config(1), Active);
    let _ = group.step(NOW, alive(Backup, 90));
    let _ = group.step(NOW, Input::Handover);
    let actions = group.step(NOW, heard(90, LOWER));
    assert_eq!(actions[2], Handover(Outcome::Done));
    assert_eq!(actions[3], changed(Active, Backup, Cause::HandedOver));
}

#[test]
fn a_hand_over_without_a_taker_changes_nothing() {
    let out_of_sync = Input::Peer(Peer::Alive {
        state: Backup,
        priority: 1, // so it is demoted, and this is why
        yielding: false,
        in_sync: false,
    });
    #[rustfmt::skip]
    let at_once = [
        (Input::Peer(Peer::Unknown), Outcome::NoPeer),
        (LOST,                       Outcome::NoPeer),
        (alive(Fault, 90),           Outcome::PeerFault),
        (alive(Initialize, 90),      Outcome::PeerFault),
        (alive(Backup, 1),           Outcome::PeerFault), // it stands back itself
        (out_of_sync,                Outcome::PeerNotInSync),
    ];
    for (news, why) in at_once {
        let mut group = group_of(&pair_config(1), Active);
        let _ = group.step(NOW, news);
        assert_eq!(group.step(NOW, Input::Handover), [Handover(why)]);
        assert!(!group.yielding());

        // The same while it is under way.
        let mut group = group_of(&pair_config(1), Active);
        let _ = group.step(NOW, alive(Backup, 90));
        let _ = group.step(NOW, Input::Handover);
        let actions = group.step(NOW, news);
        assert_eq!(actions, [Handover(why), advert(0, 100)]);
        assert!(!group.yielding());
    }

    let mut group = group_of(&pair_config(1), Active);
    let _ = group.step(NOW, alive(Backup, 90));
    let _ = group.step(NOW, Input::Handover);
    let end = NOW + Duration::from_secs(4);
    let all = beats(&mut group, NOW + HEARTBEAT, end, alive(Backup, 90));
    let given_up = Handover(Outcome::NotTaken);
    let at = NOW + Duration::from_secs(3);
    assert!(all.contains(&(at, given_up)) && all.contains(&(at, advert(0, 100))));
    assert_eq!((group.state(), group.yielding()), (Active, false));

    let (mut group, last) = watching(1);
    let not_active = Handover(Outcome::NotActive);
    assert_eq!(group.step(last, Input::Handover), [not_active]);
}

/// An operator's demotion is a lasting wish to be relieved; who is demoted too does not fulfil it.
#[test]
fn only_the_able_relieve() {
    let mut group = group_of(&pair_config(1), Active);
    let _ = group.step(NOW, demote(Reason::Operator, true));
    assert!(group.yielding());
    let _ = group.step(NOW, demote(Reason::Operator, false));
    assert!(!group.yielding());

    for reason in [Reason::Operator, Reason::Sync, Reason::Watchdog] {
        let (mut group, last) = watching(1);
        let _ = group.step(last, demote(reason, true));
        let now = last + HEARTBEAT;
        let _ = group.step(now, yields(Active));
        assert_eq!(group.state(), Backup, "{reason:?}");
        let _ = group.step(now, demote(reason, false));
        assert_eq!(group.state(), Active, "{reason:?}");
    }
    let mut config = pair_config(1);
    config.availability.start_delay = 1000;
    let mut group = group_of(&config, Backup);
    let _ = group.step(NOW, yields(Active));
    assert_eq!(group.state(), Backup, "it only listens yet");
}

/// Who does not know the flows yet does not preempt an Active peer that does; nobody waits for a dead one.
#[test]
fn flows_are_waited_for_while_the_peer_serves_them() {
    let (mut group, mut now) = watching(1);
    let _ = group.step(now, demote(Reason::Sync, true));
    assert_eq!(group.priority(), 1);
    let start = now;
    while now < start + 10 * DOWN {
        now = now + HEARTBEAT;
        let _ = served(&mut group, now);
        let _ = group.step(now, heard(50, HIGHER));
        let _ = group.step(now, alive(Active, 50));
        assert_eq!(group.state(), Backup);
    }
    let now = now + 5 * HEARTBEAT;
    let _ = served(&mut group, now);
    let _ = group.step(now, LOST);
    assert_eq!((group.state(), group.priority()), (Active, 100));
}

/// The gate: before the peer takes over, this one has stopped.
#[test]
fn an_active_that_stalled_is_succeeded_by_its_peer() {
    let mut group = group_of(&pair_config(1), Active);
    let _ = beats(&mut group, NOW, NOW, alive(Backup, 90));
    let stops = [Release, changed(Active, Backup, Cause::Stalled)];
    let mut late = group.clone();
    assert_eq!(late.step(NOW + 2 * HEARTBEAT, Input::Timer), stops);
    assert!(late.yielding());
    let _ = late.step(NOW + 2 * HEARTBEAT, alive(Active, 90));
    assert!(!late.yielding());
    let in_time = NOW + 2 * HEARTBEAT - TICK;
    assert_eq!(group.step(in_time, Input::Timer), []);
    // A peer that cannot take over is no reason to hurry.
    let mut group = group_of(&pair_config(1), Active);
    let _ = group.step(NOW, alive(Fault, 90));
    assert_eq!(group.step(in_time + HEARTBEAT, Input::Timer), []);

    let (mut peer, last) = watching(1);
    let _ = peer.step(last + HEARTBEAT, yields(Backup));
    assert_eq!(peer.state(), Active, "the peer of one that stalled");
}
