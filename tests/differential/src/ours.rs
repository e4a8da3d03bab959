//! Our world: the node in this process, with neighbours and servers that answer at once and a clock of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use node::{Drop, Node, State, Tables, Transmit};
use time::{Duration, Instant};
use wire::{Frame, frame::HEADROOM};

use crate::site::{LEGS, Site, host6, neighbour_mac, station, virtual_mac};
use crate::{Emission, destination, source};

/// A node and its surroundings.
#[derive(Debug)]
pub struct Ours {
    node: Box<Node<'static>>,
    now: Instant,
}

/// Room for flows of IPv4.
pub const FLOWS: usize = 16_384;
/// Room for flows of IPv6.
pub const FLOWS6: usize = 4096;

/// What a node sent.
#[derive(Default)]
struct Sent(Vec<(u8, Vec<u8>)>);

impl Transmit for Sent {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        assert!(
            (60..=1518).contains(&frame.len()),
            "{} bytes do not fit the wire",
            frame.len()
        );
        self.0.push((port, frame.to_vec()));
    }
}

impl Ours {
    /// A node that is Active, has healthy servers, and no longer picks up connections in the middle.
    #[must_use]
    pub fn new(site: &Site) -> Self {
        let policy = classifier::policy(site.config.clone(), &site.rules).expect("a good policy");
        // Not given back, but a test is short.
        let tables = Box::leak(Tables::<FLOWS, FLOWS6>::boxed());
        let node = Box::new(Node::new(Some(policy), tables, 1, Instant::ZERO));
        let mut ours = Self {
            node,
            now: Instant::ZERO,
        };
        ours.pass(Duration::from_secs(70));
        assert_eq!(ours.node.state(), Some(State::Active));
        ours
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.node.deadline() <= end {
            self.now = self
                .node
                .deadline()
                .max(self.now + Duration::from_micros(1));
            let mut sent = Sent::default();
            self.node.poll(self.now, &mut sent);
            // What is sent of its own accord is not compared.
            self.answer(sent);
        }
        self.now = end;
        while self.node.next_event().is_some() {}
    }

    /// Hands the node packets on a leg, and returns what it sends because of them, and why it dropped them.
    pub fn exchange(&mut self, leg: u8, packets: &[&[u8]]) -> (Vec<Emission>, Vec<Drop>) {
        let frame = |packet: &&[u8]| {
            let to = virtual_mac(leg, forge::ethertype(packet) == 0x86dd);
            let from = station(leg, source(packet));
            forge::ethernet(to, from, forge::ethertype(packet), packet)
        };
        let frames: Vec<Vec<u8>> = packets.iter().map(frame).collect();
        self.frames(leg, &frames)
    }

    /// The same with whole frames.
    pub fn frames(&mut self, leg: u8, frames: &[Vec<u8>]) -> (Vec<Emission>, Vec<Drop>) {
        self.pass(Duration::from_millis(1));
        let before = self.node.counters().clone();
        let mut emissions = Vec::new();
        for frame in frames {
            let sent = self.take(leg, frame);
            emissions.extend(self.answer(sent));
        }
        let after = self.node.counters();
        let drops = after
            .drops()
            .filter(|(reason, count)| before.dropped(*reason) != *count);
        (emissions, drops.map(|(reason, _)| reason).collect())
    }

    /// How many flows the node knows.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.node.flows()
    }

    /// How many frames the node dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u32 {
        self.node.counters().dropped(reason)
    }

    /// How many frames the node dropped, for any reason.
    #[must_use]
    pub fn drops(&self) -> u64 {
        let counts = self.node.counters().drops();
        counts.map(|(_, count)| u64::from(count)).sum()
    }

    fn take(&mut self, port: u8, bytes: &[u8]) -> Sent {
        let mut buffer = vec![0xaa; HEADROOM];
        buffer.extend_from_slice(bytes);
        buffer.resize(buffer.len() + 64, 0xaa);
        let frame = Frame::new(&mut buffer, HEADROOM, bytes.len()).expect("it fits");
        let mut sent = Sent::default();
        self.node.ingress(self.now, port, frame, &mut sent);
        sent
    }

    /// Neighbours answer what was sent to them; the rest, and what the answers bring about, is returned.
    fn answer(&mut self, sent: Sent) -> Vec<Emission> {
        let mut emissions = Vec::new();
        let mut queue: Vec<_> = sent.0.into_iter().rev().collect();
        while let Some((port, frame)) = queue.pop() {
            match reply(port, &frame) {
                Reply::None => emissions.push(Emission::new(port, &frame)),
                Reply::Silence => {}
                Reply::Frame(answer) => {
                    queue.extend(self.take(port, &answer).0.into_iter().rev());
                }
            }
        }
        emissions
    }
}

enum Reply {
    /// Nobody's question: a packet on its way.
    None,
    /// A question or announcement that nobody answers.
    Silence,
    Frame(Vec<u8>),
}

/// What the neighbour says that a frame of the node's own is for.
fn reply(leg: u8, frame: &[u8]) -> Reply {
    let own = LEGS[usize::from(leg)];
    let body = &frame[14..];
    if frame[12..14] == [8, 6] {
        let asked = Ipv4Addr::from([body[24], body[25], body[26], body[27]]);
        let [a, b, c, number] = asked.octets();
        let near = own.own.0.octets()[..3] == [a, b, c] && own.neighbours.contains(&number);
        if body[7] != 1 || !near {
            return Reply::Silence;
        }
        let mac = neighbour_mac(leg, number);
        let answer = [
            &[0, 1, 8, 0, 6, 4, 0, 2][..],
            &mac,
            &asked.octets(),
            &body[8..18],
        ];
        let from: [u8; 6] = body[8..14].try_into().expect("six bytes");
        return Reply::Frame(forge::ethernet(from, mac, 0x0806, &answer.concat()));
    }
    let v6 = frame[12..14] == [0x86, 0xdd];
    let (protocol, start) = if v6 { (body[6], 40) } else { (body[9], 20) };
    let own_address = match v6 {
        true => body[8..24] == own.own6.0.octets(),
        false => body[12..16] == own.own.0.octets(),
    };
    match protocol {
        58 if v6 && body[start] == SOLICITATION => solicited(leg, frame, body),
        // Announcements of virtual addresses.
        58 if v6 && body[start] == ADVERTISEMENT => Reply::Silence,
        112 => Reply::Silence,
        6 if own_address && body[start + 13] & 4 != 0 => Reply::Silence,
        6 if own_address => Reply::Frame(accepted(frame, body, start)),
        _ => Reply::None,
    }
}

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// A neighbour's answer to a solicitation (RFC 4861 §7.2.4).
fn solicited(leg: u8, frame: &[u8], body: &[u8]) -> Reply {
    let octets = |at: usize| -> [u8; 16] { body[at..at + 16].try_into().expect("sixteen bytes") };
    let (asker, asked) = (Ipv6Addr::from(octets(8)), Ipv6Addr::from(octets(48)));
    let number = asked.octets()[15];
    let near = LEGS[usize::from(leg)].neighbours.contains(&number) && host6(leg, number) == asked;
    if !near {
        return Reply::Silence;
    }
    let mac = neighbour_mac(leg, number);
    let mut ip = forge::Ipv6::new(asked, asker);
    ip.hop_limit = 255;
    let answer = ip.around(&forge::Icmp {
        kind: ADVERTISEMENT,
        // Solicited, override.
        rest: [0x60, 0, 0, 0],
        payload: [&asked.octets()[..], &[2, 1], &mac].concat(),
        ..forge::Icmp::default()
    });
    let to: [u8; 6] = frame[6..12].try_into().expect("six bytes");
    Reply::Frame(forge::ethernet(to, mac, 0x86dd, &answer))
}

/// A server's SYN-ACK to a health check, whose TCP header begins at `start`.
fn accepted(frame: &[u8], syn: &[u8], start: usize) -> Vec<u8> {
    let word = |at: usize| u16::from_be_bytes([syn[at], syn[at + 1]]);
    let sequence = u32::from(word(start + 4)) << 16 | u32::from(word(start + 6));
    let answer = forge::Ip::new(destination(syn), source(syn)).around(&forge::Tcp {
        source: word(start + 2),
        destination: word(start),
        acknowledgment: sequence.wrapping_add(1),
        flags: forge::flags::SYN | forge::flags::ACK,
        ..forge::Tcp::default()
    });
    let mac = |at: usize| -> [u8; 6] { frame[at..at + 6].try_into().expect("six bytes") };
    forge::ethernet(mac(6), mac(0), forge::ethertype(&answer), &answer)
}
