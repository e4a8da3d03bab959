//! Where virtual addresses are: announced, answered for, forwarded for.

use std::net::Ipv4Addr;

use node::{Drop, Event, State};
use policy::VirtualRouter;
use wire::ethernet::{self, BROADCAST};
use wire::nd;

use crate::lone::*;

#[test]
fn announcements_have_the_form_that_is_configured() {
    for (virtual_mac, replies) in [(true, false), (true, true), (false, true)] {
        let four = VirtualRouter {
            virtual_mac,
            ..v4()
        };
        let six = VirtualRouter {
            virtual_mac,
            ..v6()
        };
        let mut lone = Lone::altered([four, six], |config| {
            config.availability.announce.replies = replies;
        });
        lone.run(10 * SECOND);
        let (mac4, mac6) = if virtual_mac {
            (MAC4, MAC6)
        } else {
            (OWN, OWN)
        };
        let operations: Vec<u8> = lone
            .frames(ethernet::ARP)
            .filter(|(header, body)| {
                header.destination == BROADCAST && body[14..18] == body[24..28]
            })
            .map(|(header, body)| {
                assert_eq!((header.source, &body[8..14]), (mac4, &mac4[..]));
                assert_eq!(body[14..18], SHARED.octets());
                body[7]
            })
            .collect();
        assert!(operations.contains(&1), "{operations:?}");
        assert_eq!(operations.contains(&2), replies, "{operations:?}");
        let adverts = lone.neighbour_adverts();
        for address in [LINK_LOCAL6, SHARED6] {
            let advert = nd::Advertisement {
                target: address.octets(),
                mac: Some(mac6),
                router: true,
                solicited: false,
                overrides: true,
            };
            assert!(adverts.contains(&(mac6, advert)), "{address}");
        }
    }
}

#[test]
fn who_claims_a_virtual_address_is_contradicted_at_once() {
    let mut lone = Lone::active([v4(), v6()]);
    lone.run(10 * SECOND);
    lone.sent.0.clear();
    lone.take(0, &arp(PEER, BROADCAST, 1, (PEER, SHARED), SHARED));
    let announced = lone
        .frames(ethernet::ARP)
        .any(|(header, body)| header.source == MAC4 && body[14..18] == SHARED.octets());
    assert!(announced);
    assert!(
        lone.events()
            .iter()
            .any(|event| matches!(event, Event::AddressConflict { mac: PEER, .. }))
    );
    lone.run(2 * SECOND);
    lone.sent.0.clear();
    let claim = nd::Advertisement {
        target: SHARED6.octets(),
        mac: Some(PEER),
        router: false,
        solicited: false,
        overrides: true,
    };
    let packet = nd::advertisement(&claim, PEER, nd::ALL_NODES);
    lone.take(
        0,
        &frame(
            nd::multicast_mac(nd::ALL_NODES),
            PEER,
            ethernet::IPV6,
            &packet,
        ),
    );
    let answers = lone.neighbour_adverts();
    assert!(
        answers
            .iter()
            .any(|(from, advert)| *from == MAC6 && advert.target == SHARED6.octets())
    );
    // The same virtual router elsewhere confuses no station; adverts decide.
    lone.run(2 * SECOND);
    lone.sent.0.clear();
    lone.take(0, &arp(MAC4, BROADCAST, 1, (MAC4, SHARED), SHARED));
    assert_eq!(lone.frames(ethernet::ARP).count(), 0);
}

#[test]
fn addresses_that_are_not_accepted_are_only_forwarded_for() {
    let not = |router| VirtualRouter {
        accept: false,
        ..router
    };
    for (router, ours, ping) in [
        (not(v4()), true, ping4(MAC4, SHARED)),
        (not(v6()), true, ping6(MAC6, SHARED6)),
        (v4(), false, ping4(MAC4, SHARED)),
        (v6(), false, ping6(MAC6, SHARED6)),
    ] {
        let mut lone = Lone::active([router]);
        lone.take(0, &ping);
        let pongs = lone.pongs();
        assert_eq!(pongs, usize::from(!ours));
        assert_eq!(
            lone.node.counters().dropped(Drop::NotAccepted),
            u32::from(ours)
        );
    }
    let mut lone = Lone::active([not(v4())]);
    lone.take(
        0,
        &arp(HOST_MAC, BROADCAST, 1, (HOST_MAC, WAN_PEER), SHARED),
    );
    assert_eq!(lone.arp_replies(), [(MAC4, SHARED)]);
    lone.take(0, &ping4(OWN, WAN));
    assert_eq!(lone.pongs(), 1);
}

#[test]
fn without_virtual_mac_addresses_the_own_one_is_forwarded_for() {
    let routers = [
        VirtualRouter {
            virtual_mac: false,
            ..v4()
        },
        VirtualRouter {
            virtual_mac: false,
            ..lan()
        },
    ];
    let mut lone = Lone::new(routers.clone());
    let transit = udp(HOST_MAC, OWN_LAN, LAN_HOST, WAN_PEER);
    lone.take(1, &transit);
    assert_eq!(lone.drops(), [Drop::NotActive]);
    let mut lone = Lone::active(routers);
    lone.take(
        1,
        &arp(HOST_MAC, BROADCAST, 1, (HOST_MAC, LAN_HOST), LAN_SHARED),
    );
    assert_eq!(lone.arp_replies(), [(OWN_LAN, LAN_SHARED)]);
    lone.take(0, &arp(PEER, BROADCAST, 1, (PEER, WAN_PEER), SHARED));
    assert_eq!(lone.arp_replies(), [(OWN_LAN, LAN_SHARED), (OWN, SHARED)]);
    for _ in 0..3 {
        lone.take(1, &transit);
    }
    let forwarded = lone.frames(ethernet::IPV4).filter(|(header, body)| {
        (header.source, header.destination) == (OWN, PEER) && body[16..20] == WAN_PEER.octets()
    });
    assert_eq!(forwarded.count(), 3);
    lone.take(0, &ping4(OWN, SHARED));
    assert_eq!(lone.pongs(), 1);
    lone.take(0, &ping4(OWN, WAN));
    assert_eq!(lone.pongs(), 1);
    let six = VirtualRouter {
        virtual_mac: false,
        ..v6()
    };
    let mut lone = Lone::active([six]);
    for ping in [
        ping6(OWN, SHARED6),
        ping6_from(PEER6, OWN, LINK_LOCAL6),
        ping6(OWN, WAN6),
    ] {
        lone.take(0, &ping);
        assert_eq!(lone.pongs(), 1);
    }
    // Where they have MAC addresses, the own one is for the appliance alone.
    let mut lone = Lone::active([v4(), lan()]);
    lone.take(1, &transit);
    assert_eq!(lone.drops(), [Drop::NotActive]);
}

#[test]
fn several_virtual_routers_share_a_leg() {
    let second = VirtualRouter {
        vrid: 9,
        addresses: [Ipv4Addr::new(192, 0, 2, 11).into()].into_iter().collect(),
        ..v4()
    };
    let inside = VirtualRouter {
        vrid: 19,
        addresses: [Ipv4Addr::new(10, 9, 0, 11).into()].into_iter().collect(),
        ..lan()
    };
    let mut lone = Lone::active([v4(), second, lan(), inside]);
    lone.run(SECOND);
    let mut vrids: Vec<(u8, u8, u8)> = lone
        .adverts()
        .iter()
        .map(|sent| (sent.port, sent.message[1], sent.from[5]))
        .collect();
    vrids.sort_unstable();
    vrids.dedup();
    assert_eq!(
        vrids,
        [(0, VRID, VRID), (0, 9, 9), (1, 17, 17), (1, 19, 19)]
    );
    lone.take(
        0,
        &arp(
            PEER,
            BROADCAST,
            1,
            (PEER, WAN_PEER),
            Ipv4Addr::new(192, 0, 2, 11),
        ),
    );
    assert_eq!(
        lone.arp_replies(),
        [([0, 0, 0x5e, 0, 1, 9], Ipv4Addr::new(192, 0, 2, 11))]
    );
    for vrid in [17, 19, 17, 19] {
        lone.take(
            1,
            &udp(HOST_MAC, [0, 0, 0x5e, 0, 1, vrid], LAN_HOST, WAN_PEER),
        );
    }
    assert_eq!(lone.drops(), []);
    let forwarded = lone
        .frames(ethernet::IPV4)
        .filter(|(header, _)| header.destination == PEER);
    assert_eq!(forwarded.count(), 4);
    lone.take(1, &udp(HOST_MAC, [0, 0, 0x5e, 0, 1, 9], LAN_HOST, WAN_PEER));
    assert_eq!(
        lone.drops(),
        [Drop::OtherStation],
        "it is a router of the other leg"
    );
}

/// Its own address is the virtual one, and its stations must not learn another MAC address for it.
#[test]
fn an_owner_answers_with_the_virtual_mac_address() {
    let router = VirtualRouter {
        accept: false,
        ..VirtualRouter::new(0, VRID, [WAN.into()])
    };
    let mut lone = Lone::altered([router], |config| config.availability.priority = 255);
    assert_eq!(lone.node.state(), Some(State::Active));
    lone.take(0, &arp(PEER, BROADCAST, 1, (PEER, WAN_PEER), WAN));
    assert_eq!(lone.arp_replies(), [(MAC4, WAN)]);
    lone.take(0, &ping4(MAC4, WAN));
    assert_eq!(lone.pongs(), 1, "an owner accepts what is for it");
    lone.node.stop(lone.now, &mut lone.sent);
    lone.sent.0.clear();
    lone.take(0, &arp(PEER, BROADCAST, 1, (PEER, WAN_PEER), WAN));
    assert_eq!(lone.arp_replies(), [(OWN, WAN)]);
}
