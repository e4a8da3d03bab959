//! The state machine and its timers (RFC 9568 §6).

use std::cell::Cell;
use std::time::Duration;

use forge::Vrrp;

use super::Case;
use crate::cable::{self, Moment};
use crate::profile::{
    NO_PREEMPT, OWNER, PREEMPT_DELAY, PREEMPT_DELAY_MILLIS, START_DELAY, START_DELAY_MILLIS,
    STRONG, V2, V4, V6,
};
use crate::tester::{Late, Tester, Verdict};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "a stronger Backup waits less",
            "RFC 9568 §6.1",
            STRONG,
            silence,
        ),
        Case::new(
            "a stronger Backup waits less after a goodbye",
            "RFC 9568 §6.4.2",
            STRONG,
            |t| goodbye(t, 1.0),
        ),
        Case::new(
            "a Backup that may not preempt stays behind a weaker Active",
            "RFC 9568 §6.4.2",
            NO_PREEMPT,
            stays_behind_weaker,
        ),
        Case::new(
            "a Backup that may not preempt takes over in silence",
            "RFC 9568 §6.4.2",
            NO_PREEMPT,
            silence,
        ),
        Case::new(
            "preemption waits as long as it should",
            "keepalived preempt_delay",
            PREEMPT_DELAY,
            preempt_delay,
        ),
        Case::new(
            "preemption's delay delays no election in silence",
            "keepalived preempt_delay",
            PREEMPT_DELAY,
            silence,
        ),
        Case::new(
            "a start only listens for as long as it should",
            "keepalived vrrp_startup_delay",
            START_DELAY,
            start_delay,
        )
        .fresh(),
        Case::new(
            "the owner is Active from its start on, whoever else is",
            "RFC 9568 §6.4.1",
            OWNER,
            owner,
        )
        .fresh(),
    ];
    for (kind, profile) in [("IPv4", V4), ("IPv6", V6), ("version 2", V2)] {
        let section = if profile.name == V2.name {
            "RFC 3768 §6.4"
        } else {
            "RFC 9568 §6.4"
        };
        let named = |what: &str| format!("{kind}: {what}");
        cases.extend([
            Case::new(
                named("a Backup takes over after three intervals and its skew"),
                section,
                profile,
                silence,
            ),
            Case::new(
                named("a Backup takes over its skew after a goodbye"),
                section,
                profile,
                |t| goodbye(t, 1.0),
            ),
            Case::new(
                named("repeated goodbyes put no election off"),
                section,
                profile,
                goodbyes,
            ),
            Case::new(
                named("a weaker router's adverts put no election off"),
                section,
                profile,
                weaker_in_backup,
            ),
            Case::new(
                named("an equal router's adverts do, whatever its address"),
                section,
                profile,
                equal_in_backup,
            ),
            Case::new(
                named("an Active yields to a stronger router"),
                section,
                profile,
                |t| yields(t, 254, false),
            ),
            Case::new(
                named("a tie goes to the higher address: an Active yields"),
                section,
                profile,
                |t| yields(t, t.facts.priority, true),
            ),
            Case::new(
                named("a tie goes to the higher address: an Active stays"),
                section,
                profile,
                |t| stays(t, t.facts.priority),
            ),
            Case::new(
                named("an Active answers a weaker router at once"),
                section,
                profile,
                |t| stays(t, t.facts.priority - 1),
            ),
            Case::new(
                named("an Active answers a goodbye at once, and waits an interval then"),
                section,
                profile,
                answers_goodbye,
            ),
            Case::new(
                named("an Active sends a last advert when it yields"),
                "keepalived higher_prio_send_advert",
                profile,
                last_advert,
            ),
            Case::new(
                named("who has lost its link begins as Backup"),
                section,
                profile,
                link_back,
            ),
            Case::new(named("a start begins as Backup"), section, profile, start).fresh(),
            Case::new(
                named("an Active that ends says goodbye"),
                section,
                profile,
                says_goodbye,
            )
            .stops(),
            Case::new(
                named("a Backup that ends is silent"),
                section,
                profile,
                ends_silently,
            )
            .stops(),
        ]);
    }
    for (kind, profile) in [("IPv4", V4), ("IPv6", V6)] {
        for (what, factor) in [("a shorter", 0.5), ("a longer", 2.0)] {
            let named = |rest: &str| format!("{kind}: {rest} {what} interval of the Active");
            cases.extend([
                Case::new(
                    named("the time for a take-over follows"),
                    "RFC 9568 §6.1",
                    profile,
                    move |t| learns(t, factor),
                ),
                Case::new(
                    named("the skew after a goodbye follows"),
                    "RFC 9568 §6.1",
                    profile,
                    move |t| goodbye(t, factor),
                ),
                Case::new(
                    named("who yields learns"),
                    "RFC 9568 §6.4.3",
                    profile,
                    move |t| yields_and_learns(t, factor),
                ),
            ]);
        }
    }
    cases
}

/// An advert with another interval.
fn with_interval(t: &Tester<'_>, priority: u8, interval: Duration) -> Vec<u8> {
    let message = Vrrp {
        interval: t.facts.field(interval),
        ..t.message(priority)
    };
    t.from(t.facts.peer(false), &message)
}

/// Lets a device with this advert be the last it heard of an Active: when that was.
fn last_heard(t: &mut Tester<'_>, advert: &[u8]) -> Moment {
    t.make_backup();
    t.send(advert)
}

fn silence(t: &mut Tester<'_>) -> Verdict {
    let advert = t.advert(254);
    let last = last_heard(t, &advert);
    let took = t.take_over(last)?;
    t.on_time("the take-over", took, t.facts.active_down(t.facts.interval))
}

fn learns(t: &mut Tester<'_>, factor: f64) -> Verdict {
    let interval = t.facts.interval.mul_f64(factor);
    let advert = with_interval(t, 254, interval);
    let last = last_heard(t, &advert);
    let took = t.take_over(last)?;
    t.on_time("the take-over", took, t.facts.active_down(interval))
}

/// The goodbye itself says the device's own interval: it is not learned from.
fn goodbye(t: &mut Tester<'_>, factor: f64) -> Verdict {
    let interval = t.facts.interval.mul_f64(factor);
    let advert = with_interval(t, 254, interval);
    last_heard(t, &advert);
    let said = t.send(&t.advert(0));
    let took = t.take_over(said)?;
    t.on_time("the take-over", took, t.facts.skew(interval))
}

fn goodbyes(t: &mut Tester<'_>) -> Verdict {
    let advert = t.advert(254);
    last_heard(t, &advert);
    let goodbye = t.advert(0);
    let skew = t.scaled(t.facts.skew(t.facts.interval));
    let first = cable::now();
    let advert = t.listen_sending(
        skew / 3,
        first + 12 * skew,
        || vec![goodbye.clone()],
        |frame| frame.advert().is_some(),
    );
    let advert = advert.ok_or_else(|| t.late("nobody is Active"))?;
    t.on_time(
        "the take-over",
        advert.at - first,
        t.facts.skew(t.facts.interval),
    )
}

fn weaker_in_backup(t: &mut Tester<'_>) -> Verdict {
    let advert = t.advert(254);
    let last = last_heard(t, &advert);
    let weaker = t.advert(t.facts.priority - 1);
    let unit = t.unit();
    let advert = t.listen_sending(
        unit / 2,
        last + 10 * unit,
        || vec![weaker.clone()],
        |frame| frame.advert().is_some(),
    );
    let advert = advert.ok_or_else(|| t.late("nobody is Active"))?;
    t.on_time(
        "the take-over",
        advert.at - last,
        t.facts.active_down(t.facts.interval),
    )
}

fn equal_in_backup(t: &mut Tester<'_>) -> Verdict {
    let equal = t.advert(t.facts.priority);
    kept_by(t, &equal)
}

fn stays_behind_weaker(t: &mut Tester<'_>) -> Verdict {
    let weaker = t.advert(t.facts.priority - 1);
    kept_by(t, &weaker)
}

/// This advert keeps a Backup as it is; Active_Down_Interval after the last one it takes over.
fn kept_by(t: &mut Tester<'_>, advert: &[u8]) -> Verdict {
    t.make_backup();
    let (unit, last) = (t.unit(), Cell::new(cable::now()));
    let frames = || {
        last.set(cable::now());
        vec![advert.to_vec()]
    };
    let heard = t.listen_sending(unit, cable::now() + 6 * unit, frames, |frame| {
        frame.advert().is_some()
    });
    if heard.is_some() {
        return Err(t.late("it became Active beside another"));
    }
    let took = t.take_over(last.get())?;
    t.on_time("the take-over", took, t.facts.active_down(t.facts.interval))
}

/// An Active in the middle between two adverts.
fn between_adverts(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    let limit = cable::now() + 4 * t.unit();
    let advert = t.listen(limit, |frame| frame.advert().is_some());
    let advert = advert.ok_or_else(|| t.late("no advert"))?;
    let middle = advert.at + t.unit().mul_f64(0.4);
    t.listen(middle, |_| false);
    t.seen.clear();
    match cable::now() > advert.at + t.unit().mul_f64(0.5) {
        true => Err(t.late("the middle is missed")),
        false => Ok(()),
    }
}

/// The advert that answers this frame before the next one is due; and what may be missed.
fn answer(t: &mut Tester<'_>, frame: &[u8]) -> Result<Moment, Late> {
    between_adverts(t)?;
    let sent = t.send(frame);
    let until = sent + t.unit().mul_f64(0.4);
    let advert = t.listen(until, |frame| frame.advert().is_some());
    let advert = advert.ok_or_else(|| t.late("no answer"))?;
    let priority = advert.advert().map(|advert| advert.priority());
    assert_eq!(priority, Some(t.facts.priority), "the answer's priority");
    Ok(advert.at)
}

fn stays(t: &mut Tester<'_>, priority: u8) -> Verdict {
    let advert = t.advert(priority);
    answer(t, &advert)?;
    t.listen_for(4.0);
    let heard = t.adverts().count();
    assert!(heard >= 4, "it goes on: {heard} adverts in 4 intervals");
    Ok(())
}

fn answers_goodbye(t: &mut Tester<'_>) -> Verdict {
    let goodbye = t.advert(0);
    let answered = answer(t, &goodbye)?;
    let limit = answered + 3 * t.unit();
    let next = t.listen(limit, |frame| frame.advert().is_some());
    let next = next.ok_or_else(|| t.late("no further advert"))?;
    t.apart(
        "the advert after the answer",
        next.at - answered,
        t.facts.interval,
    )
}

fn yields(t: &mut Tester<'_>, priority: u8, higher_address: bool) -> Verdict {
    between_adverts(t)?;
    let advert = t.from(t.facts.peer(higher_address), &t.message(priority));
    let sent = t.send(&advert);
    silent_until_take_over(t, sent, t.facts.interval)
}

fn yields_and_learns(t: &mut Tester<'_>, factor: f64) -> Verdict {
    between_adverts(t)?;
    let interval = t.facts.interval.mul_f64(factor);
    let sent = t.send(&with_interval(t, 254, interval));
    silent_until_take_over(t, sent, interval)
}

/// Nothing but a last advert until the take-over, Active_Down_Interval after it has yielded.
fn silent_until_take_over(t: &mut Tester<'_>, sent: Moment, interval: Duration) -> Verdict {
    let settled = sent + t.unit().mul_f64(0.3);
    t.listen(settled, |_| false);
    t.is_backup();
    let took = t.take_over(sent)?;
    t.on_time("the take-over", took, t.facts.active_down(interval))
}

fn last_advert(t: &mut Tester<'_>) -> Verdict {
    let stronger = t.advert(254);
    answer(t, &stronger)?;
    t.listen_for(0.3);
    let (adverts, priority) = (t.adverts().count(), t.facts.priority);
    if adverts != 1 {
        return Err(t.late(&format!("one last advert, not {:?}", t.seen))); // the one before it may have been late
    }
    assert!(t.adverts().all(|(_, advert)| advert.priority() == priority));
    t.is_backup();
    t.listen_for(1.5);
    Ok(())
}

fn preempt_delay(t: &mut Tester<'_>) -> Verdict {
    let advert = t.advert(254);
    last_heard(t, &advert);
    let weaker = t.advert(t.facts.priority - 1);
    let delay = Duration::from_millis(PREEMPT_DELAY_MILLIS.into());
    let first = cable::now();
    let unit = t.unit();
    let limit = first + 2 * delay + 10 * unit;
    let advert = t.listen_sending(
        unit,
        limit,
        || vec![weaker.clone()],
        |frame| frame.advert().is_some(),
    );
    let advert = advert.ok_or_else(|| t.late("it never preempts"))?;
    let waited = advert.at - first;
    if waited < t.scaled(delay).mul_f64(0.98) {
        // A tester that was away lets it take over in silence.
        return Err(t.late(&format!("it waited only {waited:?}")));
    }
    match waited > t.scaled(delay + t.facts.active_down(t.facts.interval)) + t.tolerance() {
        true => Err(t.late(&format!("it waited {waited:?}"))),
        false => Ok(()),
    }
}

fn start(t: &mut Tester<'_>) -> Verdict {
    t.is_backup();
    let least = t.facts.active_down(t.facts.interval);
    starts_after(t, least)
}

fn start_delay(t: &mut Tester<'_>) -> Verdict {
    t.is_backup();
    starts_after(t, Duration::from_millis(START_DELAY_MILLIS.into()))
}

fn starts_after(t: &mut Tester<'_>, least: Duration) -> Verdict {
    let started = t.started;
    let took = t.take_over(started)?;
    assert!(
        took >= least.mul_f64(0.95),
        "Active {took:?} after its start"
    );
    Ok(())
}

fn owner(t: &mut Tester<'_>) -> Verdict {
    let others = t.advert(254);
    let (unit, until) = (t.unit(), cable::now() + 30 * t.unit());
    let mut heard = 0;
    let count = |frame: &crate::frame::Frame| {
        if let Some(advert) = frame.advert() {
            assert_eq!(advert.priority(), 255);
            heard += 1;
        }
        heard == 8
    };
    let eighth = t.listen_sending(unit / 2, until, || vec![others.clone()], count);
    eighth.map(drop).ok_or_else(|| t.late("it does not go on"))
}

fn link_back(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.device.set_link(false);
    t.pause(2.0); // long enough for any board to notice
    t.device.set_link(true);
    let back = cable::now();
    t.is_backup();
    let took = t.take_over(back)?;
    let least = t.scaled(t.facts.active_down(t.facts.interval));
    assert!(
        took >= least.mul_f64(0.98),
        "Active {took:?} after its link was back"
    );
    Ok(())
}

fn says_goodbye(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.device.stop();
    let limit = cable::now() + 10 * t.unit();
    let goodbye = t.listen(limit, |frame| {
        frame.advert().is_some_and(|advert| advert.priority() == 0)
    });
    goodbye.ok_or_else(|| t.late("no goodbye"))?;
    t.listen_for(3.0);
    let last = t.adverts().last().map(|(_, advert)| advert.priority());
    assert_eq!(last, Some(0), "nothing after the goodbye: {:?}", t.seen);
    Ok(())
}

fn ends_silently(t: &mut Tester<'_>) -> Verdict {
    // A start begins as Backup; nothing is sent by then, so the first try already counts.
    t.make_active()?;
    t.make_backup();
    t.device.stop();
    t.listen_for(2.0); // the tester fails on goodbyes of a Backup
    Ok(())
}
