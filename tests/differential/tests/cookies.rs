//! Connections that begin with a SYN cookie, beside the kernel's SYN proxy. Each world has cookies and timestamps of its own, so
//! that both ends speak to each in its numbers, and what comes of it is compared with those taken out.

use std::net::IpAddr;
use std::time::Duration;

use differential::kernel::Kernel;
use differential::known::{self, Notion};
use differential::ours::Ours;
use differential::site::{LAN, Site, WAN, host, host6};
use differential::{Emission, stories};
use fastrand::Rng;
use forge::flags::{ACK, FIN, PSH, SYN};
use forge::{Ip, Tcp};

#[test]
fn connections_come_about_the_same_way() {
    let (mut kernel, mut ours) = worlds();
    let mut rng = Rng::with_seed(4);
    for number in 0..300 {
        let ends = Ends::any(&mut rng, number);
        let mut packets = |leg, packet: &[u8]| kernel.exchange(leg, &[packet]);
        let theirs = talk(&mut packets, &ends);
        let mut packets = |leg, packet: &[u8]| ours.exchange(leg, &[packet]).0;
        let mine = talk(&mut packets, &ends);
        compare(&ends, &theirs, &mine);
        // Room for another: what is over is forgotten after a while.
        ours.pass(Duration::from_secs(1));
    }
}

/// Nothing that is no cookie opens a connection, in neither world.
#[test]
fn guesses_open_nothing() {
    let (mut kernel, mut ours) = worlds();
    let mut rng = Rng::with_seed(5);
    for number in 0..200 {
        let ends = Ends::any(&mut rng, number);
        let cookie = number_of_synack(&kernel.exchange(WAN, &[&ends.syn()]));
        let own = number_of_synack(&ours.exchange(WAN, &[&ends.syn()]).0);
        // To the kernel a cookie with another of its four segment sizes is a good one, too; ours has them in its hash.
        // The next number is a good one of a client that probes the window.
        let (far, near) = (rng.u32(..), 1 << rng.u32(1..32));
        let ack = |cookie: u32| ends.client(ACK, 0, cookie.wrapping_add(1), &[], b"");
        assert_eq!(kernel.exchange(WAN, &[&ack(cookie ^ far)]), [], "{number}");
        for guess in [far, near] {
            // A segment of no connection to a service is told so.
            let (sent, _) = ours.exchange(WAN, &[&ack(own ^ guess)]);
            assert!(sent.iter().all(|one| one.leg == WAN), "{number}");
            assert_eq!(ours.flows(), 0, "{number}");
        }
    }
}

fn worlds() -> (Kernel, Ours) {
    let site = site();
    let (mut kernel, ours) = (Kernel::new(&site), Ours::new(&site));
    // Without, nftables' synproxy takes each SYN of IPv6 for damaged: it adds up the pseudo-header of IPv4.
    kernel.card = true;
    (kernel, ours)
}

/// A client and a server, and what they offer.
#[derive(Debug)]
struct Ends {
    v6: bool,
    port: u16,
    client: Offer,
    server: Offer,
    data: [Vec<u8>; 2],
}

#[derive(Clone, Debug)]
struct Offer {
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
    stamps: bool,
    window: u16,
}

/// What a world sent in one step.
type Step = Vec<Seen>;

/// A segment, in numbers that are the same in both worlds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    leg: u8,
    to: [u8; 6],
    ends: [(IpAddr, u16); 2],
    flags: u8,
    sequence: u32,
    /// 0 without ACK.
    acknowledgment: u32,
    window: u16,
    mss: Option<u16>,
    scale: Option<u8>,
    sack: bool,
    /// Edges of a selective acknowledgment.
    blocks: Vec<u32>,
    stamps: Option<(u32, u32)>,
    /// Order and padding of the options.
    kinds: Vec<u8>,
    data: Vec<u8>,
    sound: bool,
}

/// A whole connection: handshake, data both ways, a selective acknowledgment, and the end.
fn talk(world: &mut dyn FnMut(u8, &[u8]) -> Vec<Emission>, ends: &Ends) -> Vec<Step> {
    let answer = world(WAN, &ends.syn());
    let [synack] = &answer[..] else {
        panic!("{answer:02x?} answers {ends:?}");
    };
    let raw = Seen::of(synack, (0, 0));
    let (cookie, stamp) = (raw.sequence, raw.stamps.map_or(0, |(value, _)| value));
    let numbers = (cookie, stamp);
    let mut steps = vec![vec![Seen::of(synack, numbers)]];
    let mut step = |sent: Vec<Emission>| {
        steps.push(sent.iter().map(|one| Seen::of(one, numbers)).collect());
    };
    let stamps = raw.stamps.is_some();
    let clients = |value: u32| {
        if stamps {
            stamp_option(value, stamp)
        } else {
            Vec::new()
        }
    };
    let next = cookie.wrapping_add(1);
    let asked = world(WAN, &ends.client(ACK, 1, next, &clients(101), b""));
    // The server offers what it was asked for.
    let offered = asked.first().map(|one| Seen::of(one, numbers));
    step(asked);
    let Some(offered) = offered else { return steps };
    let server = Offer {
        scale: ends.server.scale.filter(|_| offered.scale.is_some()),
        sack: ends.server.sack && offered.sack,
        stamps: ends.server.stamps && offered.stamps.is_some(),
        ..ends.server.clone()
    };
    let stamps = stamps && server.stamps;
    let servers = |value: u32| {
        if stamps {
            stamp_option(value, 101)
        } else {
            Vec::new()
        }
    };
    let sent = world(
        LAN,
        &ends.server(SYN | ACK, 0, 1, &server.options(777_000, 101), b""),
    );
    step(sent);
    let clients = |value: u32| {
        if stamps {
            stamp_option(value, stamp)
        } else {
            Vec::new()
        }
    };
    let [question, page] = &ends.data;
    let (asked, told) = (question.len() as u32, page.len() as u32);
    step(world(
        WAN,
        &ends.client(ACK | PSH, 1, next, &clients(102), question),
    ));
    step(world(
        LAN,
        &ends.server(ACK | PSH, 1, 1 + asked, &servers(777_001), page),
    ));
    let got = next.wrapping_add(told);
    let mut told = told;
    if server.sack {
        // A segment comes before the one that should have come first.
        let (first, second) = (vec![1; 500], vec![2; 400]);
        step(world(
            LAN,
            &ends.server(ACK, 501 + told, 1 + asked, &servers(777_001), &second),
        ));
        let edges = [got.wrapping_add(500), got.wrapping_add(900)].map(u32::to_be_bytes);
        let sack = [&clients(103)[..], &[1, 1, 5, 10], &edges.concat()].concat();
        step(world(WAN, &ends.client(ACK, 1 + asked, got, &sack, b"")));
        step(world(
            LAN,
            &ends.server(ACK, 1 + told, 1 + asked, &servers(777_001), &first),
        ));
        told += 900;
    }
    let got = next.wrapping_add(told);
    step(world(
        WAN,
        &ends.client(ACK, 1 + asked, got, &clients(103), b""),
    ));
    step(world(
        LAN,
        &ends.server(ACK | FIN, 1 + told, 1 + asked, &servers(777_002), b""),
    ));
    let last = got.wrapping_add(1);
    step(world(
        WAN,
        &ends.client(ACK | FIN, 1 + asked, last, &clients(104), b""),
    ));
    step(world(
        LAN,
        &ends.server(ACK, 2 + told, 2 + asked, &servers(777_003), b""),
    ));
    steps
}

/// Both worlds did the same but for what is listed.
fn compare(ends: &Ends, kernel: &[Step], ours: &[Step]) {
    assert_eq!(kernel.len(), ours.len(), "{ends:?}\n{kernel:?}\n{ours:?}");
    let scaled = kernel[0][0].scale.is_some();
    for (number, (theirs, mine)) in kernel.iter().zip(ours).enumerate() {
        let place = format!("step {number} of {ends:?}\nkernel {theirs:?}\nours   {mine:?}");
        assert_eq!(theirs.len(), mine.len(), "{place}");
        for (theirs, mine) in theirs.iter().zip(mine) {
            assert!(theirs.sound && mine.sound, "{place}");
            let (mut theirs, mut mine) = (theirs.clone(), mine.clone());
            let plain = |seen: &mut Seen| seen.kinds.clear();
            listed(known::OPTION_ORDER, &mut theirs, &mut mine, plain);
            if number == 0 && ends.client.mss.is_none() {
                listed(known::ROUNDED_SIZE, &mut theirs, &mut mine, |seen| {
                    seen.mss = None
                });
            }
            if number == 1 {
                let (own, scale) = (theirs.window, theirs.scale.unwrap_or(0));
                let whole = (u32::from(own) << scale).min(u16::MAX.into());
                assert_eq!(u32::from(mine.window), whole, "{place}");
                listed(known::WINDOW_OF_SYN, &mut theirs, &mut mine, |seen| {
                    seen.window = 0
                });
                let most = ends.client.mss.unwrap_or(536);
                assert!(mine.mss <= Some(most.max(536)), "{place}");
                listed(known::ROUNDED_SIZE, &mut theirs, &mut mine, |seen| {
                    seen.mss = None
                });
                listed(known::STAMPS_OF_PROXY, &mut theirs, &mut mine, |seen| {
                    seen.stamps = seen.stamps.map(|(value, _)| (value, 0));
                });
            }
            if number == 2 && (mine.leg == LAN || theirs.stamps.is_none()) {
                listed(known::STAMPS_OF_PROXY, &mut theirs, &mut mine, |seen| {
                    seen.stamps = None;
                });
            }
            let towards_client = mine.leg == WAN || number == 2;
            if towards_client && number > 1 && scaled && ends.server.scale != Some(7) {
                listed(known::OTHER_SCALE, &mut theirs, &mut mine, |seen| {
                    seen.window = 0
                });
            }
            assert_eq!(theirs, mine, "{place}");
        }
    }
}

/// Takes a listed difference out of both.
fn listed(_: Notion, theirs: &mut Seen, mine: &mut Seen, out: impl Fn(&mut Seen)) {
    out(theirs);
    out(mine);
}

impl Ends {
    fn any(rng: &mut Rng, number: u16) -> Self {
        let data = |rng: &mut Rng| (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect();
        Self {
            v6: rng.bool(),
            port: 20_000 + number,
            client: Offer::any(rng),
            server: Offer::any(rng),
            data: [data(rng), data(rng)],
        }
    }

    fn addresses(&self) -> [IpAddr; 3] {
        match self.v6 {
            true => [
                [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7].into(),
                host6(WAN, 0x10).into(),
                host6(LAN, 11).into(),
            ],
            false => [
                [198, 51, 100, 7].into(),
                host(WAN, 10).into(),
                host(LAN, 11).into(),
            ],
        }
    }

    fn syn(&self) -> Vec<u8> {
        self.client(SYN, 0, 0, &self.client.options(100, 0), b"")
    }

    /// A segment of the client's, whose numbers begin at 1000.
    fn client(&self, flags: u8, sequence: u32, ack: u32, options: &[u8], data: &[u8]) -> Vec<u8> {
        let [client, public, _] = self.addresses();
        Ip::new(client, public).around(&Tcp {
            source: self.port,
            destination: 80,
            sequence: 1000 + sequence,
            acknowledgment: ack,
            flags,
            window: self.client.window,
            options: options.to_vec(),
            payload: data.to_vec(),
            ..Tcp::default()
        })
    }

    /// A segment of the server's, whose numbers begin at 9000.
    fn server(&self, flags: u8, sequence: u32, ack: u32, options: &[u8], data: &[u8]) -> Vec<u8> {
        let [client, _, server] = self.addresses();
        Ip::new(server, client).around(&Tcp {
            source: 8080,
            destination: self.port,
            sequence: 9000 + sequence,
            acknowledgment: 1000 + ack,
            flags,
            window: self.server.window,
            options: options.to_vec(),
            payload: data.to_vec(),
            ..Tcp::default()
        })
    }
}

impl Offer {
    fn any(rng: &mut Rng) -> Self {
        let mss = [
            None,
            Some(536),
            Some(1200),
            Some(1380),
            Some(1440),
            Some(1460),
            Some(8960),
        ];
        Self {
            mss: mss[rng.usize(..mss.len())],
            scale: [None, Some(0), Some(7), Some(7), Some(9), Some(14)][rng.usize(..6)],
            sack: rng.bool(),
            stamps: rng.u8(0..3) > 0,
            window: rng.u16(2000..),
        }
    }

    fn options(&self, value: u32, echo: u32) -> Vec<u8> {
        let mut options = Vec::new();
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            options.extend([2, 4, a, b]);
        }
        if self.sack {
            options.extend([4, 2]);
        }
        if self.stamps {
            options.extend(stamp_option(value, echo));
        }
        if let Some(scale) = self.scale {
            options.extend([1, 3, 3, scale]);
        }
        options
    }
}

fn stamp_option(value: u32, echo: u32) -> Vec<u8> {
    [
        &[1, 1, 8, 10][..],
        &value.to_be_bytes(),
        &echo.to_be_bytes(),
    ]
    .concat()
}

impl Seen {
    /// `numbers` are the cookie and the timestamp that came with it.
    fn of(emission: &Emission, (cookie, stamp): (u32, u32)) -> Self {
        let packet = &emission.packet;
        let v6 = packet[0] >> 4 == 6;
        let start = if v6 { 40 } else { 20 };
        let tcp = &packet[start..];
        let word = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from(word(at)) << 16 | u32::from(word(at + 2));
        let header = usize::from(tcp[12] >> 4) * 4;
        let address = |at: usize| -> IpAddr {
            match v6 {
                true => <[u8; 16]>::try_from(&packet[at..at + 16])
                    .expect("sixteen")
                    .into(),
                false => <[u8; 4]>::try_from(&packet[at..at + 4])
                    .expect("four")
                    .into(),
            }
        };
        let places = if v6 { (8, 24) } else { (12, 16) };
        // The client's side counts from the cookie; the server's from 9000.
        let towards_client = emission.leg == WAN;
        let flags = tcp[13];
        let mut seen = Self {
            leg: emission.leg,
            to: emission.to,
            ends: [(address(places.0), word(0)), (address(places.1), word(2))],
            flags,
            sequence: if towards_client {
                long(4).wrapping_sub(cookie)
            } else {
                long(4)
            },
            acknowledgment: if flags & ACK == 0 { 0 } else { long(8) },
            window: word(14),
            mss: None,
            scale: None,
            sack: false,
            blocks: Vec::new(),
            stamps: None,
            kinds: Vec::new(),
            data: tcp[header..].to_vec(),
            sound: is_sound(packet, start),
        };
        let mut at = 20;
        while at < header {
            let kind = tcp[at];
            seen.kinds.push(kind);
            let size = if kind < 2 {
                1
            } else {
                usize::from(tcp[at + 1])
            };
            match kind {
                2 => seen.mss = Some(word(at + 2)),
                3 => seen.scale = Some(tcp[at + 2]),
                4 => seen.sack = true,
                5 => seen.blocks = (at + 2..at + size).step_by(4).map(long).collect(),
                8 => {
                    let value = long(at + 2);
                    let value = if towards_client {
                        value.wrapping_sub(stamp)
                    } else {
                        value
                    };
                    seen.stamps = Some((value, long(at + 6)));
                }
                _ => {}
            }
            at += size.max(1);
        }
        seen
    }
}

/// Whether the checksum is right.
fn is_sound(packet: &[u8], start: usize) -> bool {
    let addresses = if start == 20 { 12..20 } else { 8..40 };
    let len = ((packet.len() - start) as u16).to_be_bytes();
    forge::checksum(&[&packet[addresses], &[0, 6], &len, &packet[start..]]) == 0
}

fn number_of_synack(sent: &[Emission]) -> u32 {
    let [one] = sent else { panic!("{sent:02x?}") };
    let seen = Seen::of(one, (0, 0));
    assert_eq!(seen.flags, SYN | ACK);
    seen.sequence
}

/// All SYNs to services are answered with cookies.
fn site() -> Site {
    let mut site = stories::site();
    site.config.protection.syn_cookies_above = 0;
    site
}
