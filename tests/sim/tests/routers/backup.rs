//! A Backup is silent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use node::State;
use policy::VirtualRouter;
use proptest::prelude::*;
use time::Duration;
use wire::ethernet::{self, BROADCAST};
use wire::vrrp::{Ends, NewAdvert};
use wire::{ipv6, nd};

use crate::lone::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, a node that is not Active sends nothing from a virtual MAC address and answers for no virtual address.
    #[test]
    fn a_backup_speaks_for_nobody_but_itself(
        steps in prop::collection::vec((any::<u8>(), any::<prop::sample::Index>(), 0_u64..900), 1..120),
        peers: bool,
        virtual_mac: bool,
    ) {
        let peers: Vec<IpAddr> = if peers { vec![WAN_PEER.into()] } else { vec![] };
        let routers = [
            VirtualRouter { peers: peers.into_iter().collect(), ..v4() },
            v6(),
            VirtualRouter { virtual_mac, ..lan() },
        ];
        let mut lone = Lone::altered(routers, |config| {
            config.availability.announce.router_advertisement = 4;
            config.availability.announce.replies = true;
        });
        let frames = everything();
        for (kind, which, millis) in steps {
            let before = lone.node.state();
            lone.sent.0.clear();
            match kind {
                0..128 => lone.take(kind & 1, which.get::<Vec<u8>>(&frames)),
                128..144 => lone.link(kind & 1, kind & 2 != 0),
                144..148 => lone.node.stop(lone.now, &mut lone.sent),
                _ => {
                    lone.now = lone.now + Duration::from_millis(millis);
                    lone.node.poll(lone.now, &mut lone.sent);
                }
            }
            let active = Some(State::Active);
            if before == active || lone.node.state() == active {
                continue;
            }
            for (_, sent) in &lone.sent.0 {
                let header = ethernet::parse(sent).expect("whole");
                prop_assert!(!header.source.starts_with(&[0, 0, 0x5e, 0]), "{:02x?}", sent);
                let body = &sent[header.payload..];
                if header.ethertype == ethernet::ARP {
                    let sender: [u8; 4] = body[14..18].try_into().expect("four bytes");
                    prop_assert!(![SHARED, LAN_SHARED].contains(&sender.into()), "{:02x?}", sent);
                }
                if header.ethertype == ethernet::IPV6 && body[6] == ipv6::ICMP {
                    prop_assert_ne!(body[40], nd::ROUTER_ADVERTISEMENT);
                    let about = body[40] == nd::NEIGHBOUR_ADVERTISEMENT;
                    let shared = |address: &Ipv6Addr| body[48..64] == address.octets();
                    let speaks = about && [LINK_LOCAL6, SHARED6].iter().any(shared);
                    prop_assert!(!speaks, "{:02x?}", sent);
                }
            }
        }
    }
}

/// What stations and other routers may say.
fn everything() -> Vec<Vec<u8>> {
    let adverts = [0, 50, 100, 101, 255]
        .map(|priority| advert4(&NewAdvert::v3(VRID, priority, 100, &[IpAddr::V4(SHARED)])));
    let six = [LINK_LOCAL6.into(), SHARED6.into()];
    let adverts6 = [0, 50, 150].map(|priority| {
        advert_of(
            &NewAdvert::v3(VRID, priority, 100, &six),
            &Ends::multicast(PEER6.into()),
            255,
        )
    });
    let own = Ends::unicast(WAN_PEER.into(), WAN.into()).expect("both IPv4");
    let mut all = vec![
        advert(
            &NewAdvert::v3(VRID, 200, 100, &[IpAddr::V4(SHARED)]),
            &own,
            (PEER, OWN),
            255,
        ),
        carp(),
        ping4(MAC4, SHARED),
        ping4(OWN, SHARED),
        ping4(OWN, WAN),
        ping6(MAC6, SHARED6),
        ping6(OWN, SHARED6),
        udp(HOST_MAC, OWN_LAN, LAN_HOST, WAN_PEER),
        udp(HOST_MAC, [0, 0, 0x5e, 0, 1, 17], LAN_HOST, WAN_PEER),
        udp(HOST_MAC, MAC4, WAN_PEER, SHARED),
    ];
    for (asked, leg) in [
        (SHARED, WAN_PEER),
        (LAN_SHARED, LAN_HOST),
        (WAN, WAN_PEER),
        (SHARED, SHARED),
        (LAN_SHARED, LAN_SHARED),
    ] {
        all.push(arp(PEER, BROADCAST, 1, (PEER, leg), asked));
        all.push(arp(PEER, OWN, 2, (PEER, leg), asked));
        all.push(arp(
            PEER,
            BROADCAST,
            1,
            (PEER, Ipv4Addr::UNSPECIFIED),
            asked,
        ));
    }
    for target in [LINK_LOCAL6, SHARED6, WAN6] {
        for (source, to) in [(PEER6, MAC6), (PEER6, OWN)] {
            let group = nd::solicited_node(target.octets());
            for (destination, to) in [(group, nd::multicast_mac(group)), (target.octets(), to)] {
                let packet = nd::solicitation(source.octets(), PEER, destination, target.octets());
                all.push(frame(to, PEER, ethernet::IPV6, &packet));
            }
        }
        let claim = nd::Advertisement {
            target: target.octets(),
            mac: Some(PEER),
            router: true,
            solicited: false,
            overrides: true,
        };
        let packet = nd::advertisement(&claim, PEER, nd::ALL_NODES);
        all.push(frame(
            nd::multicast_mac(nd::ALL_NODES),
            PEER,
            ethernet::IPV6,
            &packet,
        ));
    }
    all.extend(adverts);
    all.extend(adverts6);
    all
}
