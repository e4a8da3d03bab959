//! Both boards' firmware in QEMU. Every test runs on each board.

use std::net::Ipv4Addr;
use std::time::Duration;

use qemu::frames::{self, BROADCAST, Frame};
use qemu::{Emulated, Neighbours, blob, config, mac_of, router, shared};
use smoltcp::wire::{ArpOperation, ArpRepr, EthernetAddress, TcpControl};

const BOARDS: [&str; 2] = ["mps2-an500", "zynq7000"];

/// The provider's router, through which every user comes.
const UPLINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// What users connect to.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const USER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);
const LB1: Ipv4Addr = Ipv4Addr::new(10, 20, 1, 11);

#[test]
fn drivers_carry_frames_of_every_length() {
    for board in BOARDS {
        let emulated = Emulated::start(board, "echo", &[]);
        for port in 0..emulated.ports() {
            let echo = |frame: &[u8]| {
                emulated.send(port, frame);
                emulated.wait_for_frame(port)
            };
            for len in (14..=128).chain(1490..=1518) {
                let frame: Vec<u8> = (0..len).map(|i| (i * 7 + len) as u8).collect();
                let expected = [&frame[6..12], &frame[..6], &frame[12..]].concat();
                let answer = echo(&frame);
                assert_eq!(answer[..len], expected, "{board}, {len} bytes");
                assert!(
                    answer[len..].iter().all(|byte| *byte == 0),
                    "{board} pads with stale bytes"
                );
            }
            // More than any FIFO or ring takes; afterwards reception goes on.
            for _ in 0..2000 {
                emulated.send(port, &[9; 600]);
            }
            emulated.flush(port);
            assert_eq!(echo(&[5; 100]), [5; 100], "{board} after a flood");
            // Longer than the cable allows: dropped, and the next one still passes.
            emulated.send(port, &[1; 2000]);
            emulated.send(port, &[1; 1600]);
            assert_eq!(
                echo(&[6; 100]),
                [6; 100],
                "{board} after frames that are too long"
            );
        }
    }
}

#[test]
fn answers_for_its_addresses_and_advertises_them() {
    for board in BOARDS {
        let config = config(board);
        let emulated = Emulated::start(board, board, &blob(board));
        let site = Neighbours::new(&emulated, &config);
        let mut missing: Vec<&str> = config
            .interfaces
            .iter()
            .map(|leg| leg.name.as_str())
            .collect();
        site.until(
            "an advertisement in every network",
            || {},
            |name, frame| {
                let (ip, ttl, advert) = frame
                    .ipv4()
                    .filter(|(ip, ..)| ip.next_header == 112.into())?;
                let leg = site.leg(name);
                let router = router(&config, leg);
                assert_eq!(frame.source, [0, 0, 0x5e, 0, 1, router.vrid], "{board}");
                assert_eq!(frame.destination, [1, 0, 0x5e, 0, 0, 0x12], "{board}");
                assert_eq!(
                    (ip.src_addr, ip.dst_addr, ttl),
                    (leg.address, [224, 0, 0, 18].into(), 255)
                );
                let interval = router.advertisement_interval.to_be_bytes();
                let address = shared(&config, leg).octets();
                let expected = [
                    &[
                        0x31,
                        router.vrid,
                        config.availability.priority,
                        1,
                        interval[0],
                        interval[1],
                    ][..],
                    &checksum(advert),
                    &address,
                ];
                assert_eq!(advert, expected.concat(), "{board}, {name}");
                missing.retain(|other| *other != name);
                missing.is_empty().then_some(())
            },
        );

        for leg in &config.interfaces {
            let router = router(&config, leg);
            let asker = Ipv4Addr::from_bits(leg.address.to_bits() | 0x64);
            let asker = (mac_of(asker), asker);
            let virtual_mac = [0, 0, 0x5e, 0, 1, router.vrid];
            for (address, mac) in [(leg.address, leg.mac), (shared(&config, leg), virtual_mac)] {
                let request =
                    frames::arp(leg.vlan, ArpOperation::Request, asker, (BROADCAST, address));
                let ask = || site.send(leg, &request);
                site.until("an ARP reply", ask, |name, frame| {
                    let ArpRepr::EthernetIpv4 {
                        operation: ArpOperation::Reply,
                        source_hardware_addr,
                        source_protocol_addr,
                        target_hardware_addr,
                        target_protocol_addr,
                    } = frame.arp()?
                    else {
                        return None;
                    };
                    assert_eq!(name, leg.name, "{board}");
                    assert_eq!(
                        (frame.source, frame.destination),
                        (mac, asker.0),
                        "{board} {address}"
                    );
                    assert_eq!(
                        (source_hardware_addr, source_protocol_addr),
                        (EthernetAddress(mac), address)
                    );
                    assert_eq!((target_hardware_addr.0, target_protocol_addr), asker);
                    Some(())
                });
                let request = frames::ping(leg.vlan, asker, (mac, address), b"how is it there?");
                let ask = || site.send(leg, &request);
                site.until("an echo reply", ask, |_, frame| {
                    let (ip, _, icmp) =
                        frame.ipv4().filter(|(ip, ..)| ip.next_header == 1.into())?;
                    assert_eq!((ip.src_addr, ip.dst_addr), (address, asker.1), "{board}");
                    let (_, _, asked) = request.ipv4().expect("we built it");
                    assert_eq!(icmp[..2], [0, 0], "an echo reply without code");
                    assert_eq!(icmp[4..], asked[4..], "{board} returns what it got");
                    Some(())
                });
            }
        }
    }
}

#[test]
fn carries_the_public_service_to_the_balancer_and_back() {
    for board in BOARDS {
        let config = config(board);
        let emulated = Emulated::start(board, board, &blob(board));
        let site = Neighbours::new(&emulated, &config);
        let (wan, edge) = (site.leg("wan"), site.leg("edge"));
        let service = config
            .services
            .iter()
            .find(|service| service.port == 443)
            .expect("https");
        let server_port = service.servers[0].port;
        let wan_mac = virtual_mac(&config, wan);
        let user = |port| (mac_of(UPLINK), USER, port);
        let syn = |to| {
            frames::tcp(
                wan.vlan,
                user(40_000),
                (wan_mac, PUBLIC, to),
                TcpControl::Syn,
                None,
            )
        };

        site.until(
            "a healthy balancer",
            || {},
            |_, _| {
                let line = format!("server {LB1}:{server_port} is healthy");
                emulated.log().contains(&line).then_some(())
            },
        );

        // Telnet first: were it let through, it would be seen before HTTPS.
        let knock = || {
            site.send(wan, &syn(23));
            site.send(wan, &syn(443));
        };
        let forwarded = site.until("the user's SYN at the balancer", knock, |name, frame| {
            let (from, ..) = frame.tcp().filter(|(from, ..)| *from == USER)?;
            assert_eq!((from, name), (USER, "edge"), "{board}");
            Some(frame.clone())
        });
        assert_eq!(forwarded.vlan, edge.vlan, "{board}");
        assert_eq!(
            (forwarded.source, forwarded.destination),
            (edge.mac, mac_of(LB1)),
            "{board}"
        );
        let (_, to, segment) = forwarded.tcp().expect("checksums are right");
        assert_eq!((to, segment.dst_port), (LB1, server_port), "{board}");
        let (_, hops, content) = forwarded.ipv4().expect("it is IPv4");
        assert_eq!(hops, 63, "one hop");
        let original = syn(443);
        let (_, _, sent) = original.ipv4().expect("we built it");
        assert_eq!(
            content[4..16],
            sent[4..16],
            "sequence numbers, flags and window are the user's"
        );
        assert_eq!(content[18..], sent[18..], "so are the options");

        let answer = frames::tcp(
            edge.vlan,
            (mac_of(LB1), LB1, server_port),
            (virtual_mac(&config, edge), USER, 40_000),
            TcpControl::Syn,
            Some(segment.seq_number + 1),
        );
        let reply = || site.send(edge, &answer);
        let returned = site.until("the balancer's answer at the user", reply, |name, frame| {
            let (.., to, _) = frame.tcp().filter(|(_, to, _)| *to == USER)?;
            assert_eq!((to, name), (USER, "wan"), "{board}");
            Some(frame.clone())
        });
        let (from, _, segment) = returned.tcp().expect("checksums are right");
        assert_eq!(
            (from, segment.src_port, segment.dst_port),
            (PUBLIC, 443, 40_000),
            "{board}"
        );
        assert_eq!(
            (returned.vlan, returned.destination),
            (wan.vlan, mac_of(UPLINK)),
            "{board}"
        );
    }
}

#[test]
fn without_a_good_configuration_it_stays_closed_and_says_why() {
    for board in BOARDS {
        let config = config(board);
        let good = blob(board);
        let mut flipped = good.clone();
        *flipped.last_mut().expect("it is not empty") ^= 0x10;
        let mut newer = good.clone();
        newer[4] = 9;
        for (name, bytes, why) in [
            ("nothing", &[][..], "erased"),
            ("one bit flipped", &flipped, "checksum"),
            ("another format", &newer, "version"),
            ("noise", &[0x5a; 256], "not a configuration"),
        ] {
            let emulated = Emulated::start(board, board, bytes);
            emulated.wait_for_log("closed");
            let log = emulated.log().to_lowercase();
            assert!(
                log.contains(why),
                "{board}, {name}: the log does not speak of {why:?}:\n{log}"
            );
            for leg in &config.interfaces {
                let asker = (mac_of(LB1), LB1);
                for address in [leg.address, shared(&config, leg)] {
                    let request =
                        frames::arp(leg.vlan, ArpOperation::Request, asker, (BROADCAST, address));
                    emulated.send(leg.port.into(), &request.bytes());
                }
            }
            std::thread::sleep(Duration::from_millis(500));
            for port in 0..emulated.ports() {
                assert_eq!(emulated.receive(port), None, "{board}, {name}: it answers");
            }
        }
    }
}

#[test]
fn a_lost_cable_is_a_fault_until_it_is_back() {
    for board in BOARDS {
        let config = config(board);
        let mut emulated = Emulated::start(board, board, &blob(board));
        let advert = |priority: u8| {
            move |_: &str, frame: &Frame| {
                let (ip, _, advert) = frame.ipv4()?;
                (ip.next_header == 112.into() && advert[2] == priority).then_some(())
            }
        };
        let priority = config.availability.priority;
        Neighbours::new(&emulated, &config).until("an advertisement", || {}, advert(priority));

        emulated.set_link(0, false);
        if emulated.ports() > 1 {
            // With one port there is nobody left to tell.
            Neighbours::new(&emulated, &config).until(
                "priority 0 on the other port",
                || {},
                advert(0),
            );
        }
        emulated.wait_for_log("Fault");
        emulated.set_link(0, true);
        Neighbours::new(&emulated, &config).until(
            "an advertisement again",
            || {},
            advert(priority),
        );
    }
}

#[test]
fn frames_outside_of_its_networks_are_not_answered() {
    for board in BOARDS {
        let config = config(board);
        let emulated = Emulated::start(board, board, &blob(board));
        let site = Neighbours::new(&emulated, &config);
        let edge = site.leg("edge");
        let asker = (mac_of(LB1), LB1);
        let request = |vlan| {
            frames::arp(
                vlan,
                ArpOperation::Request,
                asker,
                (BROADCAST, edge.address),
            )
        };
        // The wrong ones first: their answers would be seen before the right one's. `until` itself fails on
        // frames in no network.
        let ask = || {
            site.send(edge, &request(None));
            site.send(edge, &request(Some(99)));
            site.send(edge, &request(site.leg("web").vlan));
            site.send(edge, &request(edge.vlan));
        };
        site.until("an ARP reply", ask, |name, frame| {
            let ArpRepr::EthernetIpv4 {
                operation: ArpOperation::Reply,
                ..
            } = frame.arp()?
            else {
                return None;
            };
            assert_eq!(name, "edge", "{board} answers in the wrong network");
            Some(())
        });
    }
}

/// An idle board lets the machine that emulates it sleep.
#[test]
fn an_idle_board_needs_little_of_the_host() {
    for board in BOARDS {
        let emulated = Emulated::start(board, board, &blob(board));
        let before = emulated.cpu_time();
        for _ in 0..400 {
            // QEMU spins on a cable that nobody reads.
            for port in 0..emulated.ports() {
                while emulated.receive(port).is_some() {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let used = emulated.cpu_time() - before;
        assert!(
            used < Duration::from_secs(2),
            "{board} used {used:?} of 4 s"
        );
    }
}

fn virtual_mac(config: &policy::Config, leg: &policy::Interface) -> frames::Mac {
    [0, 0, 0x5e, 0, 1, router(config, leg).vrid]
}

/// The checksum that an advertisement of VRRPv3 has to have: over the message alone (RFC 9568 §5.2.8).
fn checksum(advert: &[u8]) -> [u8; 2] {
    let bytes = [&advert[..6], &[0, 0], &advert[8..]].concat();
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    (!((folded & 0xffff) + (folded >> 16)) as u16).to_be_bytes()
}
