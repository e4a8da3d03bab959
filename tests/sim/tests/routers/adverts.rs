//! What a node advertises, and whom it believes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use node::{Drop, Heard, State};
use policy::{Checksum, HmacMode, Version, VirtualRouter};
use wire::ethernet::{BROADCAST, Mac};
use wire::vrrp::trailer::{Number, Signature};
use wire::vrrp::{self, Advert, Ends, Expected, NewAdvert};

use crate::lone::*;

#[test]
fn adverts_are_of_the_kind_that_is_configured() {
    let three = Expected::V3;
    let password = Expected {
        version: vrrp::Version::V2,
        password: Some(*b"secret12"),
        ..three
    };
    let two = Expected {
        password: None,
        ..password
    };
    type Row = (&'static str, VirtualRouter, Mac, Expected, vrrp::Checksum);
    let table: [Row; 7] = [
        ("version 3", v4(), MAC4, three, vrrp::Checksum::Message),
        (
            "with pseudo-header",
            VirtualRouter {
                checksum: Checksum::PseudoHeader,
                ..v4()
            },
            MAC4,
            three,
            vrrp::Checksum::PseudoHeader,
        ),
        (
            "own MAC address",
            VirtualRouter {
                virtual_mac: false,
                ..v4()
            },
            OWN,
            three,
            vrrp::Checksum::Message,
        ),
        (
            "version 2",
            VirtualRouter {
                version: Version::V2,
                ..v4()
            },
            MAC4,
            two,
            vrrp::Checksum::Message,
        ),
        (
            "password",
            with_password(),
            MAC4,
            password,
            vrrp::Checksum::Message,
        ),
        ("IPv6", v6(), MAC6, three, vrrp::Checksum::PseudoHeader),
        (
            "IPv6, own MAC address",
            VirtualRouter {
                virtual_mac: false,
                ..v6()
            },
            OWN,
            three,
            vrrp::Checksum::PseudoHeader,
        ),
    ];
    for (name, router, mac, expected, checksum) in table {
        let six = router.is_v6();
        let listed = router.addresses.clone();
        let mut lone = Lone::active([router]);
        lone.run(SECOND);
        let adverts = lone.adverts();
        let (source, to) = match six {
            false => (IpAddr::V4(WAN), vrrp::MULTICAST_MAC),
            true => (own_link_local(), vrrp::MULTICAST6_MAC),
        };
        assert!(!adverts.is_empty(), "{name}");
        for sent in adverts {
            assert_eq!((sent.port, sent.from, sent.to), (0, mac, to), "{name}");
            assert_eq!((sent.ends.source(), sent.ttl), (source, 255), "{name}");
            assert!(sent.ends.is_multicast(), "{name}");
            let advert = Advert::parse(&sent.ends, sent.ttl, &sent.message, &expected).expect(name);
            assert_eq!(
                (advert.vrid, advert.priority, advert.checksum),
                (VRID, 100, checksum),
                "{name}"
            );
            assert_eq!(advert.interval, SECOND, "{name}");
            assert!(advert.addresses.are(&listed), "{name}");
        }
    }
}

#[test]
fn excluded_addresses_are_answered_for_but_not_advertised() {
    let other = Ipv4Addr::new(192, 0, 2, 77);
    let router = VirtualRouter {
        advertised: 1,
        addresses: [SHARED.into(), other.into()].into_iter().collect(),
        ..v4()
    };
    let mut lone = Lone::active([router]);
    lone.run(SECOND);
    let adverts = lone.adverts();
    let advert =
        Advert::parse(&adverts[0].ends, 255, &adverts[0].message, &Expected::V3).expect("ours");
    assert!(advert.addresses.are(&[SHARED.into()]));
    lone.take(0, &arp(HOST_MAC, BROADCAST, 1, (HOST_MAC, WAN_PEER), other));
    assert_eq!(lone.arp_replies(), [(MAC4, other)]);
}

#[test]
fn signed_adverts_verify_and_their_numbers_grow() {
    let mut lone = Lone::active([signed(HmacMode::Enforce)]);
    lone.run(5 * SECOND);
    let mut last = Number::at(MADE * 1_000_000 - 1);
    let adverts = lone.adverts();
    assert!(adverts.len() >= 5);
    for sent in adverts {
        let advert =
            Advert::parse(&sent.ends, sent.ttl, &sent.message, &Expected::V3).expect("ours");
        let number = advert
            .trailer
            .expect("signed")
            .authenticate(&sent.ends, |id| (id == 3).then_some(&SECRET));
        let number = number.expect("by our key");
        assert!(number.follows(last), "{number:?} after {last:?}");
        last = number;
    }
    let mut lone = Lone::active([signed(HmacMode::ReceiveOnly)]);
    lone.run(SECOND);
    let sent = &lone.adverts()[0];
    let advert = Advert::parse(&sent.ends, sent.ttl, &sent.message, &Expected::V3).expect("ours");
    assert!(advert.trailer.is_none());
}

/// It has no clock: what others sign says what time it is, and what it signs afterwards is not older.
#[test]
fn a_node_learns_the_time_from_signed_adverts() {
    let mut lone = Lone::new([signed(HmacMode::Enforce)]);
    let heard = Number::at((MADE + 86_400) * 1_000_000);
    lone.take(0, &advert4(&with_number(heard, 50)));
    lone.run(10 * SECOND);
    assert_eq!(lone.node.state(), Some(State::Active));
    let adverts = lone.adverts();
    for sent in &adverts {
        let advert =
            Advert::parse(&sent.ends, sent.ttl, &sent.message, &Expected::V3).expect("ours");
        let number = advert
            .trailer
            .expect("signed")
            .authenticate(&sent.ends, |_| Some(&SECRET));
        assert!(number.expect("by our key").follows(heard));
    }
    assert!(!adverts.is_empty());
}

#[test]
fn peers_get_adverts_one_by_one_once_they_are_known() {
    let far = Ipv4Addr::new(198, 51, 100, 9);
    let router = VirtualRouter {
        peers: [WAN_PEER.into(), far.into()].into_iter().collect(),
        ttl: (250, 255),
        ..v4()
    };
    let mut lone = Lone::active([router]);
    let gateway = Ipv4Addr::new(192, 0, 2, 254);
    // Nobody has answered ARP yet.
    assert!(lone.adverts().is_empty());
    lone.take(0, &arp(PEER, OWN, 2, (PEER, WAN_PEER), WAN));
    lone.take(0, &arp(HOST_MAC, OWN, 2, (HOST_MAC, gateway), WAN));
    lone.sent.0.clear();
    lone.run(SECOND);
    let to: Vec<(Mac, Mac, IpAddr)> = lone
        .adverts()
        .iter()
        .map(|sent| (sent.from, sent.to, sent.ends.destination()))
        .collect();
    assert!(to.contains(&(MAC4, PEER, WAN_PEER.into())), "{to:02x?}");
    assert!(to.contains(&(MAC4, HOST_MAC, far.into())), "{to:02x?}");
    assert!(to.iter().all(|(_, mac, _)| *mac != vrrp::MULTICAST_MAC));
    // A peer with the other form of checksum gets that.
    let form = |lone: &mut Lone, peer: Ipv4Addr| {
        lone.sent.0.clear();
        lone.run(SECOND);
        let adverts = lone.adverts();
        let sent = adverts
            .iter()
            .find(|sent| sent.ends.destination() == IpAddr::V4(peer))
            .expect("one a second");
        Advert::parse(&sent.ends, 255, &sent.message, &Expected::V3)
            .expect("ours")
            .checksum
    };
    assert_eq!(form(&mut lone, WAN_PEER), vrrp::Checksum::Message);
    let weaker = NewAdvert {
        checksum: vrrp::Checksum::PseudoHeader,
        ..NewAdvert::v3(VRID, 50, 100, &[IpAddr::V4(SHARED)])
    };
    let ends = Ends::unicast(WAN_PEER.into(), WAN.into()).expect("both IPv4");
    lone.take(0, &advert(&weaker, &ends, (PEER, OWN), 255));
    assert_eq!(form(&mut lone, WAN_PEER), vrrp::Checksum::PseudoHeader);
    assert_eq!(form(&mut lone, far), vrrp::Checksum::Message);
}

/// Each row is a stronger router's advert, spoilt or for a node that is particular. Good ones end the node's being Active; all
/// others change neither its state nor any timer.
#[test]
fn whom_a_node_believes() {
    let good = NewAdvert::v3(VRID, 200, 100, &[IpAddr::V4(SHARED)]);
    let all = Ends::multicast(WAN_PEER.into());
    let two = NewAdvert {
        version: vrrp::Version::V2,
        ..good
    };
    let own = Ends::unicast(WAN_PEER.into(), WAN.into()).expect("both IPv4");
    let peers = |ttl| VirtualRouter {
        peers: [IpAddr::V4(WAN_PEER)].into_iter().collect(),
        ttl,
        ..v4()
    };
    let of = |advert: &NewAdvert<'_>| advert_of(advert, &all, 255);
    let later = Number::at((MADE + 5000) * 1_000_000);
    let mut rows: Vec<(&str, VirtualRouter, Vec<u8>, Option<Drop>)> = vec![
        ("good", v4(), of(&good), None),
        (
            "the other checksum",
            v4(),
            of(&NewAdvert {
                checksum: vrrp::Checksum::PseudoHeader,
                ..good
            }),
            None,
        ),
        (
            "another interval",
            v4(),
            of(&NewAdvert {
                interval: 50,
                ..good
            }),
            None,
        ),
        (
            "routed",
            v4(),
            advert_of(&good, &all, 254),
            Some(Drop::VrrpTtl),
        ),
        ("version 2 for 3", v4(), of(&two), Some(Drop::VrrpVersion)),
        (
            "version 3 for 2",
            VirtualRouter {
                version: Version::V2,
                ..v4()
            },
            of(&good),
            Some(Drop::VrrpVersion),
        ),
        (
            "version 2",
            VirtualRouter {
                version: Version::V2,
                ..v4()
            },
            of(&two),
            None,
        ),
        (
            "version 2 with another interval",
            VirtualRouter {
                version: Version::V2,
                ..v4()
            },
            of(&NewAdvert {
                interval: 200,
                ..two
            }),
            Some(Drop::VrrpInterval),
        ),
        (
            "another virtual router",
            v4(),
            of(&NewAdvert { vrid: 8, ..good }),
            Some(Drop::VrrpRouter),
        ),
        (
            "other addresses",
            v4(),
            of(&NewAdvert {
                addresses: &[IpAddr::V4(WAN_PEER)],
                ..good
            }),
            None,
        ),
        (
            "other addresses to a strict one",
            VirtualRouter {
                strict_addresses: true,
                ..v4()
            },
            of(&NewAdvert {
                addresses: &[IpAddr::V4(WAN_PEER)],
                ..good
            }),
            Some(Drop::VrrpAddresses),
        ),
        (
            "no address",
            v4(),
            of(&NewAdvert {
                addresses: &[],
                ..good
            }),
            Some(Drop::VrrpAddresses),
        ),
        (
            "interval zero",
            v4(),
            of(&NewAdvert {
                interval: 0,
                ..good
            }),
            Some(Drop::VrrpInterval),
        ),
        (
            "password",
            with_password(),
            of(&NewAdvert {
                password: Some(*b"secret12"),
                ..two
            }),
            None,
        ),
        (
            "wrong password",
            with_password(),
            of(&NewAdvert {
                password: Some(*b"secret13"),
                ..two
            }),
            Some(Drop::VrrpAuthentication),
        ),
        (
            "no password",
            with_password(),
            of(&two),
            Some(Drop::VrrpAuthentication),
        ),
        (
            "unsigned",
            signed(HmacMode::Enforce),
            of(&good),
            Some(Drop::VrrpAuthentication),
        ),
        (
            "unsigned where it may be",
            signed(HmacMode::Permissive),
            of(&good),
            None,
        ),
        (
            "unsigned where nobody signs",
            signed(HmacMode::ReceiveOnly),
            of(&good),
            None,
        ),
        (
            "signed",
            signed(HmacMode::Enforce),
            of(&with_number(later, 200)),
            None,
        ),
        (
            "signed although nobody asks",
            v4(),
            of(&with_number(later, 200)),
            None,
        ),
        (
            "signed by somebody else",
            signed(HmacMode::ReceiveOnly),
            of(&NewAdvert {
                signature: Some(Signature {
                    key: 3,
                    secret: &[1; 32],
                    number: later,
                }),
                ..good
            }),
            Some(Drop::VrrpAuthentication),
        ),
        (
            "signed with an unknown key",
            signed(HmacMode::Permissive),
            of(&NewAdvert {
                signature: Some(Signature {
                    key: 4,
                    secret: &SECRET,
                    number: later,
                }),
                ..good
            }),
            Some(Drop::VrrpAuthentication),
        ),
        (
            "to all, where there are peers",
            peers((255, 255)),
            of(&good),
            Some(Drop::VrrpPeer),
        ),
        (
            "to us, where there are none",
            v4(),
            advert(&good, &own, (PEER, OWN), 255),
            Some(Drop::VrrpPeer),
        ),
        (
            "from a peer",
            peers((255, 255)),
            advert(&good, &own, (PEER, OWN), 255),
            None,
        ),
        (
            "from a peer far away",
            peers((253, 254)),
            advert(&good, &own, (PEER, OWN), 253),
            None,
        ),
        (
            "from further away",
            peers((253, 254)),
            advert(&good, &own, (PEER, OWN), 252),
            Some(Drop::VrrpTtl),
        ),
        (
            "from too near",
            peers((253, 254)),
            advert(&good, &own, (PEER, OWN), 255),
            Some(Drop::VrrpTtl),
        ),
        (
            "from no peer",
            peers((255, 255)),
            advert(
                &good,
                &Ends::unicast(Ipv4Addr::new(192, 0, 2, 66).into(), WAN.into()).expect("IPv4"),
                (PEER, OWN),
                255,
            ),
            Some(Drop::VrrpPeer),
        ),
        (
            "from us",
            v4(),
            advert_of(&good, &Ends::multicast(WAN.into()), 255),
            Some(Drop::Martian),
        ),
        (
            "from another net",
            v4(),
            advert_of(&good, &Ends::multicast(LAN_HOST.into()), 255),
            Some(Drop::Martian),
        ),
        ("CARP", v4(), carp(), Some(Drop::Carp)),
    ];
    let mut broken = of(&good);
    broken[14 + 20] = 0x32;
    rows.push(("another type", v4(), broken, Some(Drop::VrrpType)));
    let mut broken = of(&good);
    broken[14 + 20 + 6] ^= 1;
    rows.push(("a wrong checksum", v4(), broken, Some(Drop::VrrpChecksum)));
    let mut broken = of(&good);
    broken[14 + 20 + 3] = 200;
    rows.push(("cut short", v4(), broken, Some(Drop::VrrpLength)));
    let six = NewAdvert::v3(
        VRID,
        200,
        100,
        &[IpAddr::V6(LINK_LOCAL6), IpAddr::V6(SHARED6)],
    );
    let all6 = Ends::multicast(PEER6.into());
    rows.push(("IPv6", v6(), advert_of(&six, &all6, 255), None));
    rows.push((
        "IPv6, routed",
        v6(),
        advert_of(&six, &all6, 64),
        Some(Drop::VrrpTtl),
    ));
    rows.push((
        "IPv6 for IPv4",
        v4(),
        advert_of(&six, &all6, 255),
        Some(Drop::VrrpRouter),
    ));
    rows.push(("IPv4 for IPv6", v6(), of(&good), Some(Drop::VrrpRouter)));
    let global = Ends::multicast(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 3).into());
    rows.push((
        "IPv6 from a global address",
        v6(),
        advert_of(&six, &global, 255),
        Some(Drop::Martian),
    ));
    let ours = Ends::multicast(own_link_local());
    rows.push((
        "IPv6 from us",
        v6(),
        advert_of(&six, &ours, 255),
        Some(Drop::Martian),
    ));
    for (name, router, frame, refused) in rows {
        let mut lone = Lone::active([router.clone()]);
        lone.take(0, &frame);
        let state = if refused.is_some() {
            State::Active
        } else {
            State::Backup
        };
        assert_eq!(lone.node.state(), Some(state), "{name}");
        let drops: Vec<Drop> = lone.drops();
        assert_eq!(drops, Vec::from_iter(refused), "{name}");
        let Some(reason) = refused else { continue };
        // A flood of them keeps no Backup from taking over, in its own time.
        let takes = |flood: Option<&[u8]>| {
            let mut lone = Lone::new([router.clone()]);
            let begun = lone.now;
            while lone.node.state() != Some(State::Active) {
                if let Some(frame) = flood {
                    lone.take(0, frame);
                }
                lone.run(SECOND / 2);
            }
            lone.now.since(begun)
        };
        assert_eq!(takes(Some(&frame)), takes(None), "{name}: {reason}");
    }
}

#[test]
fn replayed_adverts_are_refused() {
    let mut lone = Lone::active([signed(HmacMode::Enforce)]);
    let number = Number::at((MADE + 100) * 1_000_000);
    let frame = advert4(&with_number(number, 50));
    lone.take(0, &frame);
    assert_eq!(lone.drops(), []);
    lone.take(0, &frame);
    assert_eq!(lone.drops(), [Drop::VrrpReplay]);
    lone.take(0, &advert4(&with_number(Number(number.0 - 1), 50)));
    assert_eq!(lone.node.counters().dropped(Drop::VrrpReplay), 2);
    lone.take(0, &advert4(&with_number(Number(number.0 + 1), 50)));
    assert_eq!(lone.node.counters().dropped(Drop::VrrpReplay), 2);
    let counters: Vec<_> = lone.node.adverts().collect();
    assert_eq!((counters[0].received, counters[0].refused), (2, 2));
    assert!(counters[0].sent >= 2);
}

#[test]
fn a_person_is_told_of_odd_adverts_once_in_a_while() {
    let good = NewAdvert::v3(VRID, 50, 100, &[IpAddr::V4(SHARED)]);
    let table = [
        (
            "unknown",
            NewAdvert { vrid: 8, ..good },
            Some(Heard::Unknown),
        ),
        (
            "refused",
            NewAdvert {
                version: vrrp::Version::V2,
                ..good
            },
            Some(Heard::Refused(Drop::VrrpVersion)),
        ),
        (
            "addresses",
            NewAdvert {
                addresses: &[IpAddr::V4(WAN_PEER)],
                ..good
            },
            Some(Heard::OtherAddresses),
        ),
        (
            "checksum",
            NewAdvert {
                checksum: vrrp::Checksum::PseudoHeader,
                ..good
            },
            Some(Heard::OtherChecksum),
        ),
        ("good", good, None),
    ];
    for (name, advert, expected) in table {
        let mut lone = Lone::active([v4()]);
        for _ in 0..5 {
            lone.take(0, &advert4(&advert));
        }
        let told: Vec<(u8, Heard)> = lone.told();
        assert_eq!(
            told,
            Vec::from_iter(expected.map(|heard| (advert.vrid, heard))),
            "{name}"
        );
    }
    let mut lone = Lone::active([v4()]);
    lone.take(0, &carp());
    lone.take(0, &carp());
    assert_eq!(lone.told(), [(VRID, Heard::Carp)]);
    lone.run(11 * SECOND);
    lone.take(0, &carp());
    assert_eq!(lone.told(), [(VRID, Heard::Carp)]);
}
