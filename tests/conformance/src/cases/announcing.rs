//! How an Active tells hosts and switches where the addresses are (RFC 9568 §6.4.2, §8).

use std::net::IpAddr;
use std::time::Duration;

use super::Case;
use crate::cable;
use crate::frame::Frame;
use crate::profile::{BURST, BURSTS, V4, V6, V6_BURSTS};
use crate::tester::{Tester, Verdict};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "gratuitous ARP is a broadcast request that says the virtual MAC address",
            "RFC 9568 §6.4.2",
            V4,
            gratuitous,
        ),
        Case::new(
            "an unsolicited neighbour advertisement says router and override, and the virtual MAC address",
            "RFC 9568 §6.4.2",
            V6,
            unsolicited,
        ),
    ];
    for (kind, plain, bursts) in [("IPv4", V4, BURSTS), ("IPv6", V6, V6_BURSTS)] {
        let named = |what: &str| format!("{kind}: {what}");
        cases.extend([
            Case::new(named("the first frame of a new Active is an advert, announcements follow for each address"), "RFC 9568 §6.4.2", plain, order),
            Case::new(named("announcements come in bursts, and are refreshed"), "keepalived garp_master_*", bursts, in_bursts),
            Case::new(named("the addresses are announced again after another was Active as well"), "keepalived garp_lower_prio_*", bursts, after_a_rival),
            Case::new(named("who yields announces nothing any more"), "RFC 9568 §6.4.3", bursts, none_after_yielding),
        ]);
    }
    cases
}

/// All that a device says when it takes over, for so many intervals.
fn after_take_over(t: &mut Tester<'_>, intervals: f64) -> Result<Vec<Frame>, crate::tester::Late> {
    t.make_backup();
    let now = cable::now();
    t.take_over(now)?;
    let from = t.seen.len() - 1;
    t.listen_for(intervals);
    Ok(t.seen.split_off(from))
}

fn gratuitous(t: &mut Tester<'_>) -> Verdict {
    let frames = after_take_over(t, 1.5)?;
    for address in &t.facts.addresses {
        let IpAddr::V4(address) = *address else {
            continue;
        };
        let about = |frame: &&Frame| frame.announced() == Some(address.into());
        let frame = frames
            .iter()
            .find(about)
            .unwrap_or_else(|| panic!("nothing about {address}: {frames:?}"));
        let arp = frame.arp().expect("it is ARP");
        assert_eq!(frame.destination, [0xff; 6]);
        assert_eq!(frame.source, t.facts.router_mac);
        assert_eq!(arp.operation, 1, "a request");
        assert_eq!(arp.sender, (t.facts.router_mac, address));
        assert_eq!(arp.target.1, address);
    }
    Ok(())
}

fn unsolicited(t: &mut Tester<'_>) -> Verdict {
    let frames = after_take_over(t, 1.5)?;
    for address in &t.facts.addresses {
        let about = |frame: &&Frame| frame.announced() == Some(*address);
        let frame = frames
            .iter()
            .find(about)
            .unwrap_or_else(|| panic!("nothing about {address}: {frames:?}"));
        let advert = frame.neighbour_advert().expect("it is one");
        assert_eq!(advert.flags, (true, false, true), "R, S, O");
        assert_eq!(
            advert.mac,
            Some(t.facts.router_mac),
            "target link-layer address"
        );
        assert_eq!(frame.source, t.facts.router_mac);
        assert_eq!(frame.destination, [0x33, 0x33, 0, 0, 0, 1]);
        let ip = frame.ip().expect("it is IPv6");
        assert_eq!(
            ip.destination,
            "ff02::1".parse::<IpAddr>().expect("an address")
        );
        assert_eq!(ip.source, *address, "from the virtual address itself");
    }
    Ok(())
}

fn order(t: &mut Tester<'_>) -> Verdict {
    let frames = after_take_over(t, 0.5)?;
    assert!(
        frames[0].advert().is_some(),
        "an advert comes first: {frames:?}"
    );
    let announced: Vec<IpAddr> = frames.iter().filter_map(Frame::announced).collect();
    for address in &t.facts.addresses {
        assert!(
            announced.contains(address),
            "{address} is announced within half an interval: {announced:?}"
        );
    }
    Ok(())
}

/// When one address was announced.
fn times(t: &Tester<'_>, frames: &[Frame]) -> Vec<Duration> {
    let about = |frame: &&Frame| frame.announced() == Some(t.facts.addresses[0]);
    let first = frames.first().map_or(Duration::ZERO, |frame| frame.at);
    frames
        .iter()
        .filter(about)
        .map(|frame| frame.at - first)
        .collect()
}

fn in_bursts(t: &mut Tester<'_>) -> Verdict {
    let frames = after_take_over(t, 3.4 / t.facts.interval.as_secs_f64())?;
    let times = times(t, &frames);
    let repeat = usize::from(BURST.repeat);
    let (gap, second) = (
        Duration::from_millis(BURST.gap.into()),
        Duration::from_millis(BURST.second.into()),
    );
    if times.len() <= 2 * repeat {
        return Err(t.late(&format!("too few announcements: {times:?}")));
    }
    let (first, rest) = times.split_at(repeat);
    let (next, refreshes) = rest.split_at(repeat);
    for burst in [first, next] {
        for pair in burst.windows(2) {
            t.apart("an announcement of a burst", pair[1] - pair[0], gap)?;
        }
    }
    t.apart("the second burst", next[0], second)?;
    let refresh = refreshes[0] - next[0];
    if refresh < Duration::from_millis(900) {
        return Err(t.late(&format!("a burst, not a refresh: {times:?}")));
    }
    Ok(())
}

fn after_a_rival(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    // Far from the bursts of the take-over.
    t.listen_for(1.4 * f64::from(BURST.second) / 1000.0 / t.facts.interval.as_secs_f64());
    t.seen.clear();
    let sent = t.send(&t.advert(t.facts.priority - 1));
    let until = sent + t.unit();
    t.listen(until, |_| false);
    let heard = times(t, &t.seen).len();
    if heard < usize::from(BURST.rival) {
        return Err(t.late(&format!(
            "{heard} announcements after a rival: {:?}",
            t.seen
        )));
    }
    Ok(())
}

fn none_after_yielding(t: &mut Tester<'_>) -> Verdict {
    t.make_backup();
    let now = cable::now();
    t.take_over(now)?;
    t.make_backup(); // in the middle of a burst
    let (unit, until, strong) = (
        t.unit(),
        cable::now() + Duration::from_millis(2500),
        t.advert(254),
    );
    // The tester fails on announcements of a Backup.
    let advert = t.listen_sending(
        unit,
        until,
        || vec![strong.clone()],
        |frame| frame.advert().is_some(),
    );
    match advert {
        Some(_) => Err(t.late("it became Active")),
        None => Ok(()),
    }
}
