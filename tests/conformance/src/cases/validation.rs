//! What a router must not believe, and what it must (RFC 9568 §7.1, RFC 3768 §7.1): an advert that is not good changes
//! neither the state nor a timer, however often it comes.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use forge::{Extension, Icmp, Ip, Ipv4, Ipv6, Sum, Transport as _, Vrrp};

use super::Case;
use crate::cable;
use crate::frame::Frame;
use crate::profile::{OWN_MAC, PEER_MAC, PSEUDO_HEADER, STRICT, V2, V4, V6};
use crate::tester::{Tester, Verdict, frame, wrong};

/// Makes frames of an advert that would be good.
pub type Spoil = fn(&Tester<'_>, Vrrp) -> Vec<Vec<u8>>;

/// Where something is written and what it is.
type Row = (&'static str, &'static str, Spoil);

/// `each_alone`: one case for every row, where boards start quickly; else a few rows share a case.
pub fn cases(each_alone: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for (kind, profile, rows) in [
        ("IPv4", V4, [ANY, THREE, FOUR].concat()),
        ("IPv6", V6, [ANY, THREE, SIX].concat()),
        ("version 2", V2, [ANY, FOUR, TWO].concat()),
        ("IPv4 with pseudo-header", PSEUDO_HEADER, CHECKSUMS.to_vec()),
        ("strict", STRICT, OTHER_LISTS.to_vec()),
    ] {
        // A second is long.
        let alone = each_alone && profile.name != V2.name;
        for rows in rows.chunks(if alone { 1 } else { TOGETHER }) {
            let what: Vec<&str> = rows.iter().map(|(_, what, _)| *what).collect();
            let name = |role: &str| format!("{kind}: {role} ignores {}", what.join("; "));
            let spoils = || {
                rows.iter()
                    .map(|(.., spoil)| *spoil)
                    .collect::<Vec<Spoil>>()
            };
            let (section, backup, active) = (rows[0].0, spoils(), spoils());
            let backup = move |t: &mut Tester<'_>| ignored_by_backup(t, &backup);
            let active = move |t: &mut Tester<'_>| ignored_by_active(t, &active);
            cases.push(Case::new(name("a Backup"), section, profile, backup));
            cases.push(Case::new(name("an Active"), section, profile, active));
        }
    }
    for (kind, profile, rows) in [
        ("IPv4", V4, [ACCEPTED, ACCEPTED_3, ACCEPTED_4].concat()),
        ("IPv6", V6, [ACCEPTED, ACCEPTED_3].concat()),
        ("version 2", V2, ACCEPTED.to_vec()),
        (
            "IPv4 with pseudo-header",
            PSEUDO_HEADER,
            ACCEPTED_4.to_vec(),
        ),
        ("strict", STRICT, SAME_LIST.to_vec()),
    ] {
        for (section, what, change) in rows {
            let name = format!("{kind}: a Backup believes {what}");
            cases.push(Case::new(name, section, profile, move |t| {
                believed(t, change)
            }));
        }
    }
    for (kind, profile) in [("IPv4", V4), ("IPv6", V6)] {
        let name = format!(
            "{kind}: a burst of 1,000 bad adverts and other frames delays an Active's no more than the frames take"
        );
        cases.push(Case::new(name, "RFC 9568 §10", profile, |t| {
            burst(t, &profile_rows(t))
        }));
    }
    cases
}

/// Rows that share a case.
const TOGETHER: usize = 5;
/// Most frames sent at once: a small board's memory for frames holds no more.
const AT_ONCE: usize = 32;

fn profile_rows(t: &Tester<'_>) -> Vec<Row> {
    [ANY, THREE, if t.facts.six() { SIX } else { FOUR }].concat()
}

/// An advert from a router at another address than usual.
fn from(t: &Tester<'_>, source: IpAddr, message: &Vrrp) -> Vec<Vec<u8>> {
    vec![t.from(source, message)]
}

fn peer(t: &Tester<'_>) -> IpAddr {
    t.facts.peer(false)
}

/// These bytes as the message of an otherwise good advert.
fn raw(t: &Tester<'_>, message: &[u8]) -> Vec<u8> {
    t.framed(&t.packet(peer(t)).raw(112, message))
}

/// An advert to another address, in a frame to the MAC address that goes with it.
fn to(t: &Tester<'_>, destination: IpAddr, message: &Vrrp) -> Vec<u8> {
    let mac = match destination {
        IpAddr::V4(address) if address.is_multicast() => {
            let [_, b, c, d] = address.octets();
            [1, 0, 0x5e, b & 0x7f, c, d]
        }
        IpAddr::V6(address) if address.is_multicast() => {
            let [.., a, b, c, d] = address.octets();
            [0x33, 0x33, a, b, c, d]
        }
        IpAddr::V4(Ipv4Addr::BROADCAST) => [0xff; 6],
        address if t.facts.addresses.contains(&address) => t.facts.router_mac,
        _ => OWN_MAC,
    };
    let packet = Ip::new(peer(t), destination).ttl(255).around(message);
    frame(mac, t.facts.router_mac, &packet)
}

/// For every virtual router.
const ANY: &[Row] = &[
    ("RFC 9568 §5.1.1.3", "TTLs other than 255", |t, m| {
        let ttls = [254, 128, 64, 1, 0].into_iter();
        ttls.map(|ttl| t.framed(&t.packet(peer(t)).ttl(ttl).around(&m)))
            .collect()
    }),
    ("RFC 9568 §7.1", "other versions", |t, m| {
        let others = (0..16).filter(|version| *version != t.facts.version);
        others
            .flat_map(|version| {
                from(
                    t,
                    peer(t),
                    &Vrrp {
                        version,
                        ..m.clone()
                    },
                )
            })
            .collect()
    }),
    ("RFC 9568 §5.2.2", "other types", |t, m| {
        let others = (0..16).filter(|kind| *kind != 1);
        others
            .flat_map(|kind| from(t, peer(t), &Vrrp { kind, ..m.clone() }))
            .collect()
    }),
    ("RFC 9568 §7.1", "other virtual routers", |t, m| {
        let others = [0, 1, m.vrid - 1, m.vrid + 1, 255].into_iter();
        others
            .flat_map(|vrid| from(t, peer(t), &Vrrp { vrid, ..m.clone() }))
            .collect()
    }),
    (
        "RFC 9568 §7.1",
        "checksums that are wrong by one bit",
        |t, m| {
            (0..16)
                .flat_map(|bit| {
                    from(
                        t,
                        peer(t),
                        &Vrrp {
                            checksum: wrong(bit),
                            ..m.clone()
                        },
                    )
                })
                .collect()
        },
    ),
    ("RFC 9568 §7.1", "a checksum of zero", |t, m| {
        from(
            t,
            peer(t),
            &Vrrp {
                checksum: Sum::Zero,
                ..m
            },
        )
    }),
    ("RFC 9568 §7.1", "damage anywhere", |t, m| {
        let message = t.bytes(peer(t), &m);
        let damaged = |at: usize| {
            let mut message = message.clone();
            message[at] ^= 1 << (at % 8);
            message
        };
        (0..message.len()).map(|at| raw(t, &damaged(at))).collect()
    }),
    ("RFC 9568 §7.1", "messages that end anywhere", |t, m| {
        let message = t.bytes(peer(t), &m);
        (0..message.len())
            .map(|len| raw(t, &message[..len]))
            .collect()
    }),
    (
        "RFC 9568 §7.1",
        "messages that end anywhere, and whose checksums know of it",
        |t, m| {
            let message = t.bytes(peer(t), &m);
            (0..message.len())
                .map(|len| raw(t, &mended(t, &message[..len])))
                .collect()
        },
    ),
    (
        "RFC 791 §3.1, RFC 8200 §3",
        "packets that say they are longer than they are",
        |t, m| {
            let len = t.bytes(peer(t), &m).len() as u16;
            let lie = |more: u16| match t.packet(peer(t)) {
                Ip::V4(ip) => Ipv4 {
                    total_len: Some(20 + len + more),
                    ..ip
                }
                .around(&m),
                Ip::V6(ip) => Ipv6 {
                    payload_len: Some(len + more),
                    ..ip
                }
                .around(&m),
            };
            [60, 100, 1480, 60_000]
                .map(|more| t.framed(&lie(more)))
                .into()
        },
    ),
    ("RFC 9568 §5.2.5", "adverts about no address", |t, m| {
        from(
            t,
            peer(t),
            &Vrrp {
                addresses: Vec::new(),
                ..m
            },
        )
    }),
    (
        "RFC 9568 §5.2.5",
        "counts of more addresses than there are",
        |t, m| {
            let count = m.addresses.len() as u8;
            let counts = [count + 1, count + 2, 128, 255].into_iter();
            counts
                .flat_map(|count| {
                    from(
                        t,
                        peer(t),
                        &Vrrp {
                            count: Some(count),
                            ..m.clone()
                        },
                    )
                })
                .collect()
        },
    ),
    ("RFC 9568 §5.2.7", "an interval of zero", |t, m| {
        from(t, peer(t), &Vrrp { interval: 0, ..m })
    }),
    (
        "RFC 9568 §7.1",
        "its own address as source: the cable reflects",
        |t, m| {
            let mut frames = from(t, t.facts.own, &m);
            frames.extend(
                t.seen
                    .iter()
                    .filter(|frame| frame.advert().is_some())
                    .map(|frame| frame.bytes.clone()),
            );
            frames
        },
    ),
    ("RFC 9568 §5.1.1.1", "sources that are nobody's", |t, m| {
        let sources: &[IpAddr] = match t.facts.six() {
            false => &[
                Ipv4Addr::UNSPECIFIED.into(),
                Ipv4Addr::BROADCAST.into(),
                Ipv4Addr::LOCALHOST.into(),
                Ipv4Addr::new(224, 0, 0, 18).into(),
            ],
            true => &[
                Ipv6Addr::UNSPECIFIED.into(),
                Ipv6Addr::LOCALHOST.into(),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12).into(),
            ],
        };
        sources
            .iter()
            .flat_map(|source| from(t, *source, &m))
            .collect()
    }),
    ("RFC 9568 §7.1", "adverts to other addresses", |t, m| {
        let others: Vec<IpAddr> = match t.facts.six() {
            false => vec![
                Ipv4Addr::new(224, 0, 0, 1).into(),
                Ipv4Addr::new(224, 0, 0, 19).into(),
                Ipv4Addr::BROADCAST.into(),
                t.facts.own,
                t.facts.addresses[0],
            ],
            true => vec![
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into(),
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2).into(),
                Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0x12).into(),
                t.facts.own,
                t.facts.addresses[0],
            ],
        };
        others.iter().map(|other| to(t, *other, &m)).collect()
    }),
    (
        "RFC 9568 §7.1",
        "adverts of the other IP version",
        |t, m| {
            let (four, six) = (
                [192, 0, 2, 3].into(),
                "fe80::3".parse().expect("an address"),
            );
            let packet = match t.facts.six() {
                true => Ip::new(four, [224, 0, 0, 18].into()),
                false => Ip::new(six, "ff02::12".parse().expect("an address")),
            };
            let other: &[IpAddr] = if t.facts.six() { &[four] } else { &[six] };
            let message = Vrrp {
                addresses: other.to_vec(),
                ..m.clone()
            };
            [m, message]
                .map(|message| t.framed(&packet.clone().ttl(255).around(&message)))
                .into()
        },
    ),
    (
        "IEEE 802.1Q",
        "adverts in a VLAN that it has no leg in",
        |t, m| {
            let plain = t.from(peer(t), &m);
            let tagged = |vlan: u8| [&plain[..12], &[0x81, 0, 0, vlan], &plain[12..]].concat();
            [2, 51].map(tagged).into()
        },
    ),
    (
        "RFC 9568 §5.1",
        "other protocols between the same addresses",
        |t, m| {
            let bytes = t.bytes(peer(t), &m);
            [0x33, 89, 111, 113]
                .map(|protocol| t.framed(&t.packet(peer(t)).raw(protocol, &bytes)))
                .into()
        },
    ),
];

/// Of version 3.
const THREE: &[Row] = &[
    (
        "RFC 9568 §5.2.6",
        "an interval of zero with reserved bits that are not",
        |t, m| {
            [0xf000, 0x1000]
                .map(|interval| {
                    from(
                        t,
                        peer(t),
                        &Vrrp {
                            interval,
                            ..m.clone()
                        },
                    )
                })
                .concat()
        },
    ),
    ("RFC 9568 §7.1", "good adverts of version 2", |t, m| {
        let version2 = Vrrp {
            version: 2,
            interval: 1,
            authentication: vec![0; 8],
            ..m
        };
        from(t, peer(t), &version2)
    }),
];

/// Of IPv4.
const FOUR: &[Row] = &[
    (
        "RFC 791 §3.1",
        "packets with a wrong header checksum",
        |t, m| {
            let Ip::V4(ip) = t.packet(peer(t)) else {
                return Vec::new();
            };
            let packet = |bit| {
                Ipv4 {
                    checksum: wrong(bit),
                    ..ip.clone()
                }
                .around(&m)
            };
            [0, 7, 15].map(|bit| t.framed(&packet(bit))).into()
        },
    ),
    ("RFC 791 §3.2", "fragments", |t, m| {
        let Ip::V4(ip) = t.packet(peer(t)) else {
            return Vec::new();
        };
        let more = Ipv4 {
            fragment: Ipv4::MF,
            ..ip.clone()
        }
        .around(&m);
        let mut frames = vec![t.framed(&more)];
        frames.extend(ip.fragments(&m, &[8]).iter().map(|piece| t.framed(piece)));
        frames
    }),
    (
        "CARP",
        "CARP, which shares protocol number and group",
        |t, m| {
            // Version 2, type 1, VHID, advskew, auth length, demotion, advbase, checksum, counter, SHA-1.
            let mut bytes = vec![0x21, m.vrid, 0, 7, 0, 1, 0, 0];
            bytes.extend([0x5a; 28]);
            let sum = forge::checksum(&[&bytes]);
            bytes[6..8].copy_from_slice(&sum.to_be_bytes());
            vec![raw(t, &bytes)]
        },
    ),
];

/// Of IPv6.
const SIX: &[Row] = &[
    (
        "RFC 9568 §5.2.8",
        "checksums over the message alone",
        |t, m| {
            from(
                t,
                peer(t),
                &Vrrp {
                    pseudo_header: Some(false),
                    ..m
                },
            )
        },
    ),
    (
        "RFC 9568 §5.1.2.1",
        "sources that are not link-local",
        |t, m| from(t, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 3).into(), &m),
    ),
    ("RFC 8200 §4.5", "fragments", |t, m| {
        let Ip::V6(ip) = t.packet(peer(t)) else {
            return Vec::new();
        };
        let pieces = ip.fragments(&m, 7, &[16]);
        let whole = Ipv6 {
            extensions: vec![Extension::Fragment(0, false, 8)],
            ..ip
        }
        .around(&m);
        pieces
            .iter()
            .chain([&whole])
            .map(|piece| t.framed(piece))
            .collect()
    }),
];

/// Of version 2.
const TWO: &[Row] = &[
    ("RFC 3768 §7.1", "another interval than its own", |t, m| {
        [2, 3, 255]
            .map(|interval| {
                from(
                    t,
                    peer(t),
                    &Vrrp {
                        interval,
                        ..m.clone()
                    },
                )
            })
            .concat()
    }),
    (
        "RFC 3768 §7.1",
        "other types of authentication than none",
        |t, m| {
            [0x0100, 0x0200, 0xff00]
                .map(|kind| {
                    from(
                        t,
                        peer(t),
                        &Vrrp {
                            interval: kind | m.interval,
                            ..m.clone()
                        },
                    )
                })
                .concat()
        },
    ),
    ("RFC 3768 §7.1", "good adverts of version 3", |t, m| {
        let version3 = Vrrp {
            version: 3,
            interval: 100,
            authentication: Vec::new(),
            ..m
        };
        from(t, peer(t), &version3)
    }),
    (
        "RFC 3768 §5.3.10",
        "messages without room for authentication",
        |t, m| {
            from(
                t,
                peer(t),
                &Vrrp {
                    authentication: Vec::new(),
                    ..m
                },
            )
        },
    ),
];

/// Who takes one form of the checksum, or both, still takes no other number.
const CHECKSUMS: &[Row] = &[
    (
        "RFC 9568 §5.2.8",
        "checksums that are wrong by one bit in either form",
        |t, m| {
            let forms = [true, false].into_iter();
            let bad = forms.flat_map(|form| (0..16).map(move |bit| (form, bit)));
            bad.flat_map(|(form, bit)| {
                let message = Vrrp {
                    pseudo_header: Some(form),
                    checksum: wrong(bit),
                    ..m.clone()
                };
                from(t, peer(t), &message)
            })
            .collect()
        },
    ),
    (
        "RFC 9568 §5.2.8",
        "a pseudo-header of other addresses",
        |t, m| {
            let other = ("192.0.2.9".parse().expect("an address"), t.facts.group().0);
            vec![raw(
                t,
                &Vrrp {
                    pseudo_header: Some(true),
                    ..m
                }
                .bytes(other),
            )]
        },
    ),
];

/// Lists that are not the device's, for one that minds.
const OTHER_LISTS: &[Row] = &[("RFC 9568 §7.1", "lists of other addresses", |t, m| {
    let [a, b]: [IpAddr; 2] = m.addresses.clone().try_into().expect("two addresses");
    let other = Ipv4Addr::new(192, 0, 2, 77).into();
    let lists = [
        vec![a],
        vec![a, other],
        vec![a, b, other],
        vec![a, a],
        vec![a, b, b],
    ];
    lists
        .into_iter()
        .flat_map(|addresses| {
            from(
                t,
                peer(t),
                &Vrrp {
                    addresses,
                    ..m.clone()
                },
            )
        })
        .collect()
})];

/// What a receiver has to take although it looks unusual.
const ACCEPTED: &[Row] = &[
    ("RFC 9568 §7.1", "a plain advert", |t, m| {
        from(t, peer(t), &m)
    }),
    (
        "RFC 9568 §7.2",
        "an advert from the sender's own MAC address",
        |t, m| {
            let packet = t.packet(peer(t)).around(&m);
            vec![frame(t.facts.group().1, PEER_MAC, &packet)]
        },
    ),
    ("RFC 894", "padding of any bytes", |t, m| {
        let mut frame = t.from(peer(t), &m);
        let used = 14 + if t.facts.six() { 40 } else { 20 } + t.bytes(peer(t), &m).len();
        frame.resize(frame.len().max(120), 0);
        frame[used..].fill(0xa5);
        vec![frame]
    }),
    ("RFC 9568 §5.2.4", "the owner", |t, m| {
        from(t, peer(t), &Vrrp { priority: 255, ..m })
    }),
    ("RFC 2474", "any traffic class", |t, m| {
        let packet = match t.packet(peer(t)) {
            Ip::V4(ip) => Ipv4 {
                tos: 0xc0,
                id: 1,
                fragment: Ipv4::DF,
                ..ip
            }
            .around(&m),
            Ip::V6(ip) => Ipv6 {
                class: 0xc0,
                label: 0x5_2a5e,
                ..ip
            }
            .around(&m),
        };
        vec![t.framed(&packet)]
    }),
];

/// Of version 3.
const ACCEPTED_3: &[Row] = &[
    (
        "RFC 9568 §5.2.6",
        "any reserved bits, and takes them for no interval",
        |t, m| {
            from(
                t,
                peer(t),
                &Vrrp {
                    interval: m.interval | 0xf000,
                    ..m
                },
            )
        },
    ),
    (
        "RFC 9568 §7.1",
        "the addresses in another order",
        |t, m| {
            let addresses = m.addresses.iter().rev().copied().collect();
            from(t, peer(t), &Vrrp { addresses, ..m })
        },
    ),
    (
        "RFC 9568 §7.1",
        "other addresses, if it need not mind",
        |t, m| {
            let addresses = m.addresses[..1].to_vec();
            from(t, peer(t), &Vrrp { addresses, ..m })
        },
    ),
];

/// Both forms of the checksum, whichever it sends itself.
const ACCEPTED_4: &[Row] = &[
    (
        "RFC 9568 §5.2.8",
        "a checksum without pseudo-header",
        |t, m| {
            from(
                t,
                peer(t),
                &Vrrp {
                    pseudo_header: Some(false),
                    ..m
                },
            )
        },
    ),
    (
        "RFC 5798 §5.2.8",
        "a checksum with pseudo-header",
        |t, m| {
            from(
                t,
                peer(t),
                &Vrrp {
                    pseudo_header: Some(true),
                    ..m
                },
            )
        },
    ),
];

/// The device's own list, for one that minds.
const SAME_LIST: &[Row] = &[
    ("RFC 9568 §7.1", "its own list", |t, m| {
        from(t, peer(t), &m)
    }),
    ("RFC 9568 §7.1", "its own list in another order", |t, m| {
        let addresses = m.addresses.iter().rev().copied().collect();
        from(t, peer(t), &Vrrp { addresses, ..m })
    }),
];

/// A message with a checksum that is right for it, if there is room for one.
fn mended(t: &Tester<'_>, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    if message.len() < 8 {
        return message;
    }
    message[6..8].fill(0);
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (peer(t), t.facts.group().0) else {
        let sum = forge::checksum(&[&message]);
        message[6..8].copy_from_slice(&sum.to_be_bytes());
        return message;
    };
    let mut pseudo = [source.octets(), destination.octets()].concat();
    pseudo.extend((message.len() as u32).to_be_bytes());
    pseudo.extend([0, 0, 0, 112]);
    let sum = forge::checksum(&[&pseudo, &message]);
    message[6..8].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The bad frames that would make a difference in any state: of a stronger router, a weaker one, and one that leaves.
fn bad(t: &Tester<'_>, spoils: &[Spoil]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for spoil in spoils {
        for priority in [254, t.facts.priority - 1, 0] {
            let more = spoil(t, t.message(priority));
            assert!(!more.is_empty(), "nothing is spoilt");
            frames.extend(more);
        }
    }
    frames
}

/// All of them again and again, so many at once.
fn in_turn(frames: Vec<Vec<u8>>) -> impl FnMut() -> Vec<Vec<u8>> {
    let count = frames.len().min(AT_ONCE);
    let mut frames = frames.into_iter().cycle();
    move || frames.by_ref().take(count).collect()
}

/// Bad adverts every half interval: the take-over comes as if there were none.
pub fn ignored_by_backup(t: &mut Tester<'_>, spoils: &[Spoil]) -> Verdict {
    t.make_backup();
    let frames = in_turn(bad(t, spoils));
    let last = t.send(&t.advert(254));
    let limit = last + 10 * t.unit();
    let advert = t.listen_sending(t.unit() / 2, limit, frames, |frame| {
        frame.advert().is_some()
    });
    let advert = advert.ok_or_else(|| t.late("bad adverts silence it"))?;
    t.on_time(
        "the take-over",
        advert.at - last,
        t.facts.active_down(t.facts.interval),
    )
}

/// Bad adverts every half interval: the Active goes on as if there were none.
pub fn ignored_by_active(t: &mut Tester<'_>, spoils: &[Spoil]) -> Verdict {
    t.make_active()?;
    let limit = cable::now() + 3 * t.unit();
    let first = t.listen(limit, |frame| frame.advert().is_some());
    let first = first.ok_or_else(|| t.late("no advert"))?;
    let frames = in_turn(bad(t, spoils));
    t.seen.clear();
    // Adverts are due in the middle between two bursts of bad ones.
    let begin = first.at + t.unit() / 4;
    t.listen(begin, |_| false);
    let count = if t.facts.version == 2 { 2 } else { 5 };
    let until = begin + count * t.unit();
    t.listen_sending(t.unit() / 2, until, frames, |_| false);
    let times: Vec<_> = t.adverts().map(|(frame, _)| frame.at).collect();
    let priority = t.facts.priority;
    assert!(
        t.adverts().all(|(_, advert)| advert.priority() == priority),
        "{:?}",
        t.seen
    );
    // Answered, or late.
    if times.len() != count as usize {
        return Err(t.late(&format!("{} adverts in {count} intervals", times.len())));
    }
    let all: Vec<_> = [first.at].into_iter().chain(times).collect();
    for pair in all.windows(2) {
        t.apart("an advert", pair[1] - pair[0], t.facts.interval)?;
    }
    Ok(())
}

/// A frame in the middle of an election: it begins anew.
pub fn believed(t: &mut Tester<'_>, change: Spoil) -> Verdict {
    t.make_backup();
    let last = t.send(&t.advert(254));
    let middle = last + t.unit().mul_f64(1.5);
    t.listen(middle, |_| false);
    let frames = change(t, t.message(254));
    let heard = Cell::new(last);
    for frame in &frames {
        heard.set(t.send(frame));
    }
    let took = t.take_over(heard.get())?;
    t.on_time("the take-over", took, t.facts.active_down(t.facts.interval))
}

/// Everything bad at once, and frames of other kinds between them.
fn burst(t: &mut Tester<'_>, rows: &[Row]) -> Verdict {
    t.make_active()?;
    let mut frames: Vec<Vec<u8>> = rows
        .iter()
        .flat_map(|(.., spoil)| bad(t, &[*spoil]))
        .collect();
    frames.extend(t.questions());
    frames.push(vec![0xff; 60]);
    let error = Ipv4::new([192, 0, 2, 100].into(), [192, 0, 2, 2].into()).around(&Icmp::about(
        3,
        1,
        &frames[0][14..],
        28,
    ));
    frames.push(frame(OWN_MAC, PEER_MAC, &error));
    t.seen.clear();
    let begun = cable::now();
    for frame in frames.iter().cycle().take(1000) {
        t.send(frame);
    }
    let sent = cable::now();
    t.listen(sent + 4 * t.unit(), |_| false);
    let times: Vec<_> = t.adverts().map(|(frame, _)| frame.at).collect();
    let priority = t.facts.priority;
    assert!(
        t.adverts().all(|(_, advert)| advert.priority() == priority),
        "it stays Active"
    );
    // Of all the adverts that are due, the device may be late with those within the burst only.
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
    let longest = longest.ok_or_else(|| t.late("no adverts"))?;
    if longest > t.unit() + (sent - begun) + t.tolerance() {
        return Err(t.late(&format!(
            "adverts {longest:?} apart, the burst took {:?}",
            sent - begun
        )));
    }
    let answered = |frame: &&Frame| frame.arp().is_some() || frame.neighbour_advert().is_some();
    assert!(
        t.seen.iter().any(|frame| answered(&frame)),
        "it has heard the burst"
    );
    Ok(())
}
