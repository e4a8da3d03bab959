//! TCP: connections as they should be, and as they should not.

use fastrand::Rng;
use forge::flags::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};
use forge::{Ip, Sum, Tcp};

use super::way::Way;
use super::{Setting, bytes, pick, story};
use crate::story::{Step, Story};

/// Both ends of a connection, as they see it.
struct Talk {
    way: Way,
    /// Next sequence number of the client and of the server.
    next: [u32; 2],
    /// What each acknowledges: the other's next sequence number as far as it heard.
    heard: [u32; 2],
    window: [u16; 2],
    steps: Vec<Step>,
}

const CLIENT: usize = 0;
const SERVER: usize = 1;

impl Talk {
    fn new(rng: &mut Rng, way: Way) -> Self {
        // Some connections wrap around soon.
        let isn = |rng: &mut Rng| match rng.bool() {
            true => rng.u32(..),
            false => u32::MAX - rng.u32(0..3000),
        };
        Self {
            way,
            next: [isn(rng), isn(rng)],
            heard: [0, 0],
            window: [rng.u16(1000..), rng.u16(1000..)],
            steps: Vec::new(),
        }
    }

    fn segment(&self, side: usize, flags: u8) -> Tcp {
        let way = &self.way;
        let (source, destination) = match side {
            CLIENT => (way.client.1, way.public.1),
            _ => (way.server.1, way.seen.1),
        };
        Tcp {
            source,
            destination,
            sequence: self.next[side],
            acknowledgment: if flags & ACK == 0 {
                0
            } else {
                self.heard[side]
            },
            flags,
            window: self.window[side],
            ..Tcp::default()
        }
    }

    fn ip(&self, side: usize) -> (u8, Ip) {
        let way = &self.way;
        match side {
            CLIENT => (way.client_leg, Ip::new(way.client.0, way.public.0)),
            _ => (way.server_leg, Ip::new(way.server.0, way.seen.0)),
        }
    }

    fn send(&mut self, what: &'static str, side: usize, segment: &Tcp) {
        let (leg, ip) = self.ip(side);
        self.steps.push(Step::one(leg, what, ip.around(segment)));
    }

    /// Sends what the other side then hears.
    fn say(&mut self, what: &'static str, side: usize, flags: u8, payload: &[u8]) {
        let mut segment = self.segment(side, flags);
        segment.payload = payload.to_vec();
        if flags & SYN != 0 {
            segment.options = vec![2, 4, 5, 0xb4, 1, 3, 3, 7];
        }
        self.send(what, side, &segment);
        let length =
            payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.next[side] = self.next[side].wrapping_add(length);
        self.heard[1 - side] = self.next[side];
    }

    fn open(&mut self) {
        self.say("syn", CLIENT, SYN, &[]);
        self.say("syn-ack", SERVER, SYN | ACK, &[]);
        self.say("ack", CLIENT, ACK, &[]);
    }

    fn again(&mut self, what: &'static str, rng: &mut Rng) {
        let mut step = self.steps[rng.usize(..self.steps.len())].clone();
        step.what = what;
        self.steps.push(step);
    }
}

/// A whole connection with retransmissions, half-closes and late packets.
pub fn orderly(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.tcp(rng, number);
    let mut talk = Talk::new(rng, way);
    talk.say("syn", CLIENT, SYN, &[]);
    if rng.u8(0..8) == 0 {
        talk.again("syn again", rng);
    }
    if rng.u8(0..8) == 0 {
        let refusal = Tcp {
            sequence: 0,
            ..talk.segment(SERVER, RST | ACK)
        };
        talk.send("refused", SERVER, &refusal);
        return story(talk.steps);
    }
    talk.say("syn-ack", SERVER, SYN | ACK, &[]);
    talk.say("ack", CLIENT, ACK, &[]);
    for _ in 0..rng.u8(0..6) {
        let side = rng.usize(0..2);
        let payload: Vec<u8> = bytes(rng, 0..200);
        talk.say("data", side, ACK | PSH, &payload);
        if rng.bool() {
            talk.say("ack", 1 - side, ACK, &[]);
        }
        if rng.u8(0..6) == 0 {
            let last = talk.steps.len() - 1;
            let mut step = talk.steps[last].clone();
            step.what = "sent again";
            talk.steps.push(step);
        }
    }
    let first = rng.usize(0..2);
    match rng.u8(0..4) {
        0 => talk.say("rst", first, RST | ACK, &[]),
        1 => {
            talk.say("fin", first, FIN | ACK, &[]);
            talk.say("ack", 1 - first, ACK, &[]);
            talk.say("data after half-close", 1 - first, ACK | PSH, b"more");
            talk.say("ack", first, ACK, &[]);
            talk.say("fin", 1 - first, FIN | ACK, &[]);
            talk.say("last ack", first, ACK, &[]);
        }
        _ => {
            talk.say("fin", first, FIN | ACK, &[]);
            talk.say("fin", 1 - first, FIN | ACK, &[]);
            talk.say("last ack", first, ACK, &[]);
        }
    }
    story(talk.steps)
}

/// Connections whose ends announce a maximum segment size, among all kinds of options.
pub fn announced(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.tcp(rng, number);
    let mut talk = Talk::new(rng, way);
    for (what, side, flags) in [
        ("syn with options", CLIENT, SYN),
        ("syn-ack with options", SERVER, SYN | ACK),
    ] {
        let segment = Tcp {
            options: options(rng),
            ..talk.segment(side, flags)
        };
        talk.send(what, side, &segment);
        talk.next[side] = talk.next[side].wrapping_add(1);
        talk.heard[1 - side] = talk.next[side];
    }
    talk.say("ack", CLIENT, ACK, &[]);
    talk.say("data", SERVER, ACK | PSH, b"data");
    story(talk.steps)
}

/// Up to 40 bytes, most of them well formed.
fn options(rng: &mut Rng) -> Vec<u8> {
    let mut options = Vec::new();
    for _ in 0..rng.u8(0..6) {
        let sizes = [0, 536, 1220, 1340, 1360, 1380, 1440, 1460, 8960, u16::MAX];
        match rng.u8(0..16) {
            0..=4 => {
                let [a, b] = pick(rng, sizes).to_be_bytes();
                options.extend([2, 4, a, b]);
            }
            5..=8 => options.push(1),
            9 => options.extend([3, 3, rng.u8(0..15)]),
            10 => options.extend([4, 2]),
            11 => options.extend([8, 10, 1, 2, 3, 4, 0, 0, 0, 0]),
            12 => options.extend([&[254, 6][..], &[rng.u8(..); 4]].concat()),
            13 => options.extend([&[2, rng.u8(..)][..], &[rng.u8(..); 2]].concat()),
            14 => options.push(0),
            _ => options.extend([rng.u8(..), rng.u8(..)]),
        }
    }
    options.truncate(40);
    options
}

/// Whatever comes to a tester's mind, somewhere in a connection.
pub fn disorderly(rng: &mut Rng, number: u32, setting: Setting) -> Story {
    let way = setting.tcp(rng, number);
    let mut talk = Talk::new(rng, way);
    if rng.u8(0..4) > 0 {
        talk.open();
    }
    for _ in 0..rng.u8(1..10) {
        let side = rng.usize(0..2);
        disturb(&mut talk, side, rng);
    }
    story(talk.steps)
}

fn disturb(talk: &mut Talk, side: usize, rng: &mut Rng) {
    let data = vec![rng.u8(..); rng.usize(1..100)];
    match rng.u8(0..20) {
        0..=2 => talk.say("data", side, ACK | PSH, &data),
        3 | 4 => talk.say("ack", side, ACK, &[]),
        5 if !talk.steps.is_empty() => talk.again("an old segment", rng),
        6 => talk.say("syn", CLIENT, SYN, &[]),
        7 => talk.say("syn-ack", SERVER, SYN | ACK, &[]),
        8 => talk.say("fin", side, FIN | ACK, &[]),
        9 => talk.say("rst", side, RST, &[]),
        10 => {
            let segment = Tcp {
                flags: rng.u8(..),
                ..talk.segment(side, ACK)
            };
            talk.send("any flags", side, &segment);
        }
        11 => {
            let flags = pick(
                rng,
                [
                    SYN | ECE | CWR,
                    ACK | URG,
                    ACK | URG | PSH,
                    SYN | URG,
                    FIN,
                    0,
                    RST | URG,
                ],
            );
            let segment = Tcp {
                urgent: 1,
                ..talk.segment(side, flags)
            };
            talk.send("unusual flags", side, &segment);
        }
        12 => {
            let segment = Tcp {
                offset: Some(rng.u8(0..16)),
                options: vec![1; rng.usize(0..40)],
                ..talk.segment(side, ACK)
            };
            talk.send("any offset", side, &segment);
        }
        13 => {
            let segment = Tcp {
                checksum: Sum::Flipped(1 << rng.u8(0..16)),
                payload: data,
                ..talk.segment(side, ACK)
            };
            talk.send("wrong checksum", side, &segment);
        }
        14 => {
            let (leg, ip) = talk.ip(side);
            let packet = ip.ttl(rng.u8(0..3)).around(&talk.segment(side, ACK));
            talk.steps.push(Step::one(leg, "short-lived", packet));
        }
        15 => {
            let (leg, ip) = talk.ip(side);
            let whole = ip.around(&talk.segment(side, ACK));
            let header = if matches!(ip, Ip::V4(_)) { 20 } else { 40 };
            let cut = rng.usize(0..whole.len() - header);
            let packet = ip.raw(6, &whole[header..header + cut]);
            talk.steps.push(Step::one(leg, "cut short", packet));
        }
        16 => {
            let (_, ip) = talk.ip(side);
            let leg = rng.u8(0..3);
            let packet = ip.around(&talk.segment(side, ACK));
            talk.steps.push(Step::one(leg, "from any leg", packet));
        }
        _ => talk.say("ack", side, ACK, &[]),
    }
}
