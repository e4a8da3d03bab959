//! Adverts to one other router instead of to the group (keepalived's `unicast_peer`), and router advertisements.

use super::Case;
use super::validation::{Spoil, believed, ignored_by_active, ignored_by_backup};
use crate::cable;
use crate::frame::Frame;
use crate::profile::{OWN_MAC, PEER_MAC, UNICAST, V6_ADVERTISED, V6_UNICAST};
use crate::questions;
use crate::tester::{Tester, Verdict, frame};

pub fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new(
            "an Active tells hosts that it is a router",
            "RFC 4861 §6.2.6, RFC 9568 §8.2.4",
            V6_ADVERTISED,
            advertises,
        ),
        Case::new(
            "a Backup tells no host that it is a router",
            "RFC 9568 §8.2.4",
            V6_ADVERTISED,
            does_not_advertise,
        ),
    ];
    let mut add = |what: &str, section, run: fn(&mut Tester<'_>) -> Verdict| {
        for profile in [UNICAST, V6_UNICAST] {
            cases.push(Case::new(
                format!("{}: {what}", profile.name),
                section,
                profile,
                run,
            ));
        }
    };
    add(
        "an Active advertises to the other router alone",
        KEEPALIVED,
        to_the_peer,
    );
    add("a Backup believes TTLs that are allowed", KEEPALIVED, |t| {
        believed(t, |t, m| {
            vec![t.framed(&t.packet(t.facts.peer(false)).ttl(254).around(&m))]
        })
    });
    add("a Backup ignores TTLs that are not", KEEPALIVED, |t| {
        ignored_by_backup(t, &[FAR])
    });
    add("an Active ignores TTLs that are not", KEEPALIVED, |t| {
        ignored_by_active(t, &[FAR])
    });
    add(
        "a Backup ignores routers that are none of its peers",
        KEEPALIVED,
        |t| ignored_by_backup(t, &[STRANGER]),
    );
    add(
        "an Active ignores routers that are none of its peers",
        KEEPALIVED,
        |t| ignored_by_active(t, &[STRANGER]),
    );
    add("a Backup ignores adverts to the group", KEEPALIVED, |t| {
        ignored_by_backup(t, &[MULTICAST])
    });
    add("an Active ignores adverts to the group", KEEPALIVED, |t| {
        ignored_by_active(t, &[MULTICAST])
    });
    cases
}

const KEEPALIVED: &str = "keepalived unicast_peer";

const FAR: Spoil = |t, m| {
    [253, 64, 1]
        .map(|ttl| t.framed(&t.packet(t.facts.peer(false)).ttl(ttl).around(&m)))
        .into()
};
const STRANGER: Spoil = |t, m| vec![t.from(t.facts.peer(true), &m)];
const MULTICAST: Spoil = |t, m| {
    let (group, mac) = t.facts.multicast();
    let packet = forge::Ip::new(t.facts.peer(false), group)
        .ttl(255)
        .around(&m);
    vec![frame(mac, PEER_MAC, &packet)]
};

fn to_the_peer(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    super::gaps(t, 3);
    for (frame, _) in t.adverts() {
        let ip = frame.ip().expect("an advert is a packet");
        assert_eq!(
            (ip.source, ip.destination),
            (t.facts.own, t.facts.peer(false))
        );
        assert_eq!((frame.destination, ip.hops), (PEER_MAC, 255));
        assert_eq!(ip.sum(t.facts.six(), &ip.payload), 0, "checksum");
    }
    Ok(())
}

/// A router advertisement.
fn router_advert(frame: &Frame) -> bool {
    frame.ip().is_some_and(|ip| ip.icmp6() == Some(134))
}

fn advertises(t: &mut Tester<'_>) -> Verdict {
    t.make_active()?;
    t.send(&questions::router_solicitation());
    let until = cable::now() + 20 * t.unit();
    let advert = t
        .listen(until, router_advert)
        .ok_or_else(|| t.late("no router advertisement"))?;
    let ip = advert.ip().expect("it is a packet");
    assert!(ip.intact6(), "a wrong checksum: {advert:?}");
    assert_eq!(ip.hops, 255);
    // The virtual router is the router: its link-local and MAC address outlive every take-over.
    assert_eq!(
        (ip.source, advert.source),
        (t.facts.addresses[0], t.facts.router_mac)
    );
    let lifetime = u16::from_be_bytes([ip.payload[6], ip.payload[7]]);
    assert!(
        lifetime > 4,
        "a lifetime of {lifetime} s, advertised every 4 s"
    );
    let link_layer = [&[1, 1][..], &t.facts.router_mac].concat();
    assert!(
        ip.payload[16..]
            .windows(8)
            .any(|option| option == link_layer),
        "{advert:?}"
    );
    Ok(())
}

fn does_not_advertise(t: &mut Tester<'_>) -> Verdict {
    t.make_backup();
    // Not even a farewell after it has gone.
    t.stay_backup(std::time::Duration::from_millis(1200))?;
    t.seen.clear();
    for _ in 0..3 {
        t.send(&questions::router_solicitation());
        t.stay_backup(2 * t.unit())?;
    }
    // A solicitation would be answered within half a second.
    t.stay_backup(std::time::Duration::from_millis(600))?;
    let router = |frame: &&Frame| router_advert(frame);
    assert!(!t.seen.iter().any(|frame| router(&frame)), "{:?}", t.seen);
    let own = |frame: &Frame| frame.source == OWN_MAC;
    t.send(&questions::solicitation(
        crate::profile::OWN6,
        Some(crate::profile::HOST6),
        255,
    ));
    let until = cable::now() + t.unit();
    t.listen(until, own)
        .map(drop)
        .ok_or_else(|| t.late("it is not there"))
}
