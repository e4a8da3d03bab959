//! A configuration comes to an appliance that works, over the operators' channel: in parts that get lost or damaged, checked as
//! a whole, on trial, confirmed or not.

use std::net::Ipv4Addr;

use classifier::Aligned;
use hal::ConfigurationStore;
use mgmt::{Client, Digest, Heard, MAX_DATAGRAM, Refusal, Request, Response, Running, Status};
use node::{Event, Node, Tables, Transmit};
use policy::{Config, Interface, Pair};
use sha2::{Digest as _, Sha256};
use sim::Boards;
use time::{Duration, Instant};
use wire::ethernet::{self, Mac};
use wire::frame::HEADROOM;
use wire::tcp::UdpHeader;
use wire::{Frame, ipv4};
use zerocopy::IntoBytes;

const OPERATOR: Mac = [2, 0xaa, 0, 0, 0, 1];
const PORT: u16 = 50_000;

/// A board's memory, of which nothing is used twice.
struct Memory {
    running: &'static [u8],
    before: Option<&'static [u8]>,
    next: Vec<u8>,
    kept: usize,
}

impl ConfigurationStore for Memory {
    fn room(&self) -> usize {
        ROOM
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let end = offset + bytes.len();
        self.next.resize(end.max(self.next.len()), 0);
        self.next[offset..end].copy_from_slice(bytes);
        end <= ROOM
    }

    fn next(&self) -> &[u8] {
        // Where memory is aligned, as a board's is.
        Aligned::copy(&self.next).leak()
    }

    fn running(&self) -> &[u8] {
        self.running
    }

    fn switch(&mut self) -> Option<&'static [u8]> {
        let next = Aligned::copy(&self.next).leak();
        self.before = Some(core::mem::replace(&mut self.running, next));
        Some(next)
    }

    fn back(&mut self) -> Option<&'static [u8]> {
        self.running = self.before.take()?;
        Some(self.running)
    }

    fn keep(&mut self) -> bool {
        self.before = None;
        self.kept += 1;
        true
    }
}

/// Less than a message has room for, so that there are some to lose.
const STEP: usize = 128;
const ROOM: usize = 64 * 1024;

struct Board {
    memory: Memory,
    frames: Vec<Vec<u8>>,
}

impl Transmit for Board {
    fn transmit(&mut self, _: u8, frame: &[u8]) {
        self.frames.push(frame.to_vec());
    }

    fn store(&mut self) -> Option<&mut dyn ConfigurationStore> {
        Some(&mut self.memory)
    }
}

struct Desk {
    node: Box<Node<'static>>,
    board: Board,
    client: Client,
    leg: Interface,
    now: Instant,
    nonce: u8,
}

impl Desk {
    fn new() -> Self {
        let blob: &'static [u8] = Aligned::copy(&blob(|_| {})).leak();
        let policy = classifier::load(blob).expect("a good one");
        let leg = policy.config.interfaces[0].clone();
        let tables = Box::leak(Tables::<64, 64>::boxed());
        let mut desk = Self {
            node: Box::new(Node::new(Some(policy), tables, 1, Instant::ZERO)),
            board: Board {
                memory: Memory {
                    running: blob,
                    before: None,
                    next: Vec::new(),
                    kept: 0,
                },
                frames: Vec::new(),
            },
            client: Client::new(&KEY),
            leg,
            now: Instant::ZERO,
            nonce: 0,
        };
        desk.wait(Duration::from_secs(2));
        desk
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.now = self
                .node
                .deadline()
                .max(self.now + Duration::from_micros(1))
                .min(end);
            self.node.poll(self.now, &mut self.board);
        }
    }

    /// Asks until there is an answer. With `lost`, the first answer to the command is.
    fn ask(&mut self, request: &Request, mut lost: bool) -> Response {
        let mut datagram = [0; MAX_DATAGRAM];
        let mut sent = self.make(request, &mut datagram);
        for _ in 0..5 {
            self.board.frames.clear();
            self.send(&sent);
            self.now = self.now + Duration::from_millis(15);
            for mut answer in self.answers() {
                match self.client.receive(&mut answer) {
                    Heard::Answer(response) if !lost => return response,
                    Heard::Answer(_) => lost = false,
                    Heard::Challenge => sent = self.make(request, &mut datagram),
                    Heard::Nothing => {}
                }
            }
        }
        panic!("no answer to {request:?}");
    }

    fn make(&mut self, request: &Request, datagram: &mut [u8; MAX_DATAGRAM]) -> Vec<u8> {
        self.nonce += 1;
        let made = self.client.make(request, [self.nonce; 12], datagram);
        made.to_vec()
    }

    fn send(&mut self, datagram: &[u8]) {
        let len = UDP + datagram.len();
        let [a, b, c, _] = self.leg.address.octets();
        let source = Ipv4Addr::from([a, b, c, 200]).octets();
        let ip = ipv4::Header::new(source, self.leg.address.octets(), ipv4::UDP, 64, len);
        let udp = UdpHeader {
            source: PORT.into(),
            destination: mgmt::PORT.into(),
            length: (len as u16).into(),
            checksum: 0.into(),
        };
        let mut front = [0; 18];
        let (mac, vlan) = (self.leg.mac, self.leg.vlan);
        let written = ethernet::write(&mut front, mac, OPERATOR, vlan, ethernet::IPV4);
        let mut bytes = vec![0; HEADROOM];
        bytes.extend(&front[..written.expect("room")]);
        bytes.extend(ip.as_bytes());
        bytes.extend(udp.as_bytes());
        bytes.extend(datagram);
        let len = bytes.len() - HEADROOM;
        let frame = Frame::new(&mut bytes, HEADROOM, len).expect("room");
        self.node
            .ingress(self.now, self.leg.port, frame, &mut self.board);
    }

    /// What was sent to the operator.
    fn answers(&mut self) -> Vec<Vec<u8>> {
        let frames = core::mem::take(&mut self.board.frames);
        let mut answers = Vec::new();
        for frame in frames {
            let received = ethernet::parse(&frame).expect("whole frames");
            let packet = &frame[received.payload..];
            if frame[..6] != OPERATOR || received.ethertype != ethernet::IPV4 {
                continue;
            }
            let (ip, header) = ipv4::Header::parse(packet).expect("whole packets");
            let end: usize = ip.total_len.get().into();
            answers.push(packet[header + UDP..end].to_vec());
        }
        answers
    }

    fn stage(&mut self, blob: &[u8]) -> (Digest, u32) {
        let digest = digest(blob);
        let total = blob.len() as u32;
        match self.ask(&Request::Stage { total, digest }, false) {
            Response::Staged(have) => (digest, have),
            other => panic!("{other:?}"),
        }
    }

    fn part(&mut self, blob: &[u8], offset: usize, lost: bool) -> u32 {
        let bytes = blob[offset..blob.len().min(offset + STEP)]
            .iter()
            .copied()
            .collect();
        let offset = offset as u32;
        match self.ask(&Request::Part { offset, bytes }, lost) {
            Response::Staged(have) => have,
            other => panic!("{other:?}"),
        }
    }

    /// Sends all of it.
    fn give(&mut self, blob: &[u8]) -> Digest {
        let (digest, mut have) = self.stage(blob);
        while (have as usize) < blob.len() {
            have = self.part(blob, have as usize, false);
        }
        digest
    }

    fn status(&mut self) -> Status {
        match self.ask(&Request::Status, false) {
            Response::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn running(&mut self) -> Running {
        self.status().configuration
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.node.next_event()).collect()
    }
}

const KEY: [u8; 32] = [8; 32];
const UDP: usize = 8;

fn digest(blob: &[u8]) -> Digest {
    Sha256::digest(blob).into()
}

/// What the example's first appliance runs, changed; it accepts nothing.
fn blob(change: impl FnOnce(&mut Config)) -> Vec<u8> {
    let mut config = sim::config(Boards::TwoPorts, "gw1");
    let peer = sim::config(Boards::TwoPorts, "gw2");
    config.availability.pair = Some(Pair {
        peer: "gw2".try_into().expect("short"),
        first: true,
        paths: core::iter::once(policy::Path {
            interface: 0,
            mac: peer.interfaces[0].mac,
            address: peer.interfaces[0].address,
        })
        .collect(),
        serial: false,
        heartbeat: 50,
        misses: 4,
        sync: true,
        defer: false,
        key: [7; 32],
        operator: KEY,
        fingerprint: 1,
    });
    change(&mut config);
    classifier::blob(&config, &[], policy::MAX_BLOB).expect("a good one")
}

fn another(config: &mut Config) {
    config.availability.priority = 77;
}

#[test]
fn parts_come_once_and_in_order() {
    let mut desk = Desk::new();
    let blob = blob(another);
    assert!(blob.len() > 2 * STEP, "{} bytes", blob.len());
    let (digest, have) = desk.stage(&blob);
    assert_eq!(have, 0);
    assert_eq!(desk.part(&blob, STEP, false), 0, "not this one yet");
    assert_eq!(
        desk.part(&blob, 0, true),
        STEP as u32,
        "its answer was lost"
    );
    assert_eq!(
        desk.part(&blob, 0, false),
        STEP as u32,
        "it is here already"
    );
    // Too early, and it is still only asked.
    let apply = Request::Apply {
        digest,
        seconds: Some(10),
    };
    assert_eq!(desk.ask(&apply, false), Response::Refused(Refusal::Damaged));
    // From the beginning then; an operator who comes back goes on where it was.
    let (_, have) = desk.stage(&blob);
    assert_eq!(have, 0);
    desk.part(&blob, 0, false);
    desk.client = Client::new(&KEY);
    let (_, have) = desk.stage(&blob);
    assert_eq!(have as usize, STEP);
    desk.give(&blob);
    assert_eq!(desk.ask(&apply, true), Response::Done);
    desk.wait(Duration::from_secs(1));
    assert_eq!(
        (desk.running().digest, desk.status().priority),
        (digest, 77)
    );
}

#[test]
fn what_is_damaged_or_unfit_changes_nothing() {
    let mut desk = Desk::new();
    let before = desk.running();
    assert_eq!(before.room as usize, ROOM);
    let refuse = |desk: &mut Desk, blob: &[u8]| {
        let digest = desk.give(blob);
        let seconds = Some(10);
        desk.ask(&Request::Apply { digest, seconds }, false)
    };
    let total = ROOM as u32 + 1;
    let too_long = desk.ask(
        &Request::Stage {
            total,
            digest: [1; 32],
        },
        false,
    );
    assert_eq!(too_long, Response::Refused(Refusal::NoRoom));
    let mut damaged = blob(another);
    damaged[100] ^= 1;
    let legs = blob(|config| config.interfaces[0].mac[5] ^= 1);
    let name = blob(|config| config.name = "gw9".try_into().expect("short"));
    let alone = blob(|config| config.availability.pair = None);
    for (blob, word) in [
        (damaged, "damaged"),
        (legs, "network wan"),
        (name, "gw9"),
        (alone, "no operator"),
    ] {
        match refuse(&mut desk, &blob) {
            Response::Objection(text) => assert!(text.contains(word), "{text}"),
            other => panic!("{word}: {other:?}"),
        }
    }
    // Something else than was announced.
    let (announced, other) = (blob(another), blob(|_| {}));
    let (digest, _) = desk.stage(&announced);
    let len = announced.len().min(other.len());
    let mut have = 0;
    while have < len {
        have = desk.part(&other[..len], have, false) as usize;
    }
    let seconds = Some(10);
    let answer = desk.ask(&Request::Apply { digest, seconds }, false);
    assert_eq!(answer, Response::Refused(Refusal::Damaged));
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.running(), before);
    let changed = |event: &Event| matches!(event, Event::Configured { .. } | Event::Trial { .. });
    assert!(!desk.events().iter().any(changed));
}

#[test]
fn who_is_not_confirmed_goes_back_by_itself() {
    let mut desk = Desk::new();
    let before = desk.running();
    let new = blob(another);
    let digest = desk.give(&new);
    let only_asked = Request::Apply {
        digest,
        seconds: None,
    };
    assert_eq!(desk.ask(&only_asked, false), Response::Done);
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.running(), before, "it was only asked");
    let apply = Request::Apply {
        digest,
        seconds: Some(10),
    };
    let confirm = Request::Confirm { digest };
    assert_eq!(
        desk.ask(&confirm, false),
        Response::Refused(Refusal::Unknown)
    );
    assert_eq!(desk.ask(&apply, false), Response::Done);
    desk.wait(Duration::from_secs(1));
    let running = desk.running();
    assert_eq!(running.digest, digest);
    assert!(
        running
            .unconfirmed
            .is_some_and(|left| (5..10).contains(&left))
    );
    // Nothing else comes meanwhile.
    let total = new.len() as u32;
    let stage = Request::Stage { total, digest };
    assert_eq!(
        desk.ask(&stage, false),
        Response::Refused(Refusal::Unconfirmed)
    );
    desk.wait(Duration::from_secs(10));
    let running = desk.running();
    assert_eq!(
        (running.digest, running.unconfirmed, running.reverted),
        (before.digest, None, true)
    );
    assert_eq!(desk.board.memory.kept, 0);
    assert!(desk.events().contains(&Event::Reverted));
    assert_eq!(
        desk.status().priority,
        sim::config(Boards::TwoPorts, "gw1").availability.priority
    );
    // Once more, and this time it stays.
    desk.give(&new);
    assert_eq!(desk.ask(&apply, false), Response::Done);
    desk.wait(Duration::from_secs(1));
    assert_eq!(desk.ask(&confirm, true), Response::Done);
    assert_eq!(desk.ask(&confirm, false), Response::Done, "it stays so");
    desk.wait(Duration::from_secs(20));
    let running = desk.running();
    assert_eq!(
        (running.digest, running.unconfirmed, running.reverted),
        (digest, None, false)
    );
    assert_eq!(desk.board.memory.kept, 1);
}
