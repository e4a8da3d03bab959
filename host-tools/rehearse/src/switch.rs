//! The forwarding core of the virtual switch: VLANs, learning, flooding and faults. No IO and no clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::{Duration, Instant};

/// A MAC address.
pub type Mac = [u8; 6];

/// A port of the switch, where one cable ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(usize);

impl PortId {
    /// The port with number `index`.
    #[must_use]
    pub(crate) fn at(index: usize) -> Self {
        Self(index)
    }

    /// The port's number, counted from 0 in the order of [`Switch::add`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0
    }
}

/// Which VLANs a port takes part in, and how they look on its cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mode {
    /// VLAN of frames without a tag.
    pub untagged: Option<u16>,
    /// VLANs that are tagged on this cable.
    pub tagged: BTreeSet<u16>,
}

impl Mode {
    /// A port in one VLAN, without tags: a server, the uplink, the wan cable of a two-port appliance.
    #[must_use]
    pub fn access(vlan: u16) -> Self {
        Self {
            untagged: Some(vlan),
            tagged: BTreeSet::new(),
        }
    }

    fn egress(&self, vlan: u16) -> Option<Form> {
        if self.untagged == Some(vlan) {
            Some(Form::Untagged)
        } else if self.tagged.contains(&vlan) {
            Some(Form::Tagged)
        } else {
            None
        }
    }
}

/// What is wrong with a cable.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fault {
    /// Nothing passes in either direction.
    pub cut: bool,
    /// VLANs that do not pass.
    pub pruned: BTreeSet<u16>,
    /// Added in each direction.
    pub delay: Duration,
    /// Part of the frames lost in each direction, 0 to 1.
    pub loss: f64,
}

/// Frames that passed a port, and why others did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that came in and were forwarded.
    pub received: u64,
    /// Frames that went out.
    pub sent: u64,
    /// Frames lost, by reason.
    pub dropped: [u64; Drop::ALL.len()],
}

impl Counters {
    /// How many frames were lost for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.dropped[reason as usize]
    }
}

/// Why the switch did not forward a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// Shorter than an Ethernet header or longer than a jumbo frame.
    Length,
    /// A VLAN that the port does not take part in.
    ForeignVlan,
    /// The cable is cut.
    Cut,
    /// The VLAN is pruned from the cable.
    Pruned,
    /// The cable loses frames by chance.
    Loss,
    /// More frames delayed than the switch holds.
    HeldFull,
    /// The receiver at the other end is slow or gone.
    Receiver,
}

impl Drop {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Length,
        Self::ForeignVlan,
        Self::Cut,
        Self::Pruned,
        Self::Loss,
        Self::HeldFull,
        Self::Receiver,
    ];
}

/// Where forwarded frames go.
pub trait Sink {
    /// A frame without tag entered VLAN `vlan` at `from`. Called once for each frame that is forwarded.
    fn entered(&mut self, now: Instant, from: PortId, vlan: u16, frame: &[u8]);

    /// Sends `frame` on the cable of `to`; `false` if its receiver is slow or gone.
    fn transmit(&mut self, to: PortId, frame: &[u8]) -> bool;
}

/// A VLAN-aware learning switch.
#[derive(Debug, Default)]
pub struct Switch {
    ports: Vec<Port>,
    learned: BTreeMap<(u16, Mac), Learned>,
    held: BinaryHeap<Reverse<Held>>,
    order: u64,
    random: Random,
}

impl Switch {
    /// A switch without ports; `seed` decides which frames a lossy cable loses.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            ..Self::default()
        }
    }

    /// Adds a port.
    pub fn add(&mut self, mode: Mode) -> PortId {
        self.ports.push(Port {
            mode,
            fault: Fault::default(),
            counters: Counters::default(),
        });
        PortId(self.ports.len() - 1)
    }

    /// What is wrong with the cable of `port`.
    #[must_use]
    pub fn fault(&self, port: PortId) -> &Fault {
        &self.ports[port.0].fault
    }

    /// Changes what is wrong with the cable of `port`. What was learned from it is forgotten, as when a link drops.
    pub fn set_fault(&mut self, port: PortId, fault: Fault) {
        self.learned.retain(|_, learned| learned.port != port);
        self.ports[port.0].fault = fault;
    }

    /// Counters of `port`.
    #[must_use]
    pub fn counters(&self, port: PortId) -> Counters {
        self.ports[port.0].counters
    }

    /// Counts a frame that the sink took and could not send after all.
    pub fn receiver_lost(&mut self, port: PortId) {
        self.drop(port, Drop::Receiver);
    }

    /// Takes a frame that came in on the cable of `from`.
    pub fn receive(&mut self, now: Instant, from: PortId, frame: &[u8], sink: &mut impl Sink) {
        let fault = &self.ports[from.0].fault;
        if fault.cut {
            return self.drop(from, Drop::Cut);
        }
        let (loss, delay) = (fault.loss, fault.delay);
        if self.random.chance(loss) {
            return self.drop(from, Drop::Loss);
        }
        if delay.is_zero() {
            self.forward(now, from, frame, sink);
        } else {
            self.hold(now + delay, from, Step::Forward, frame);
        }
    }

    /// Lets go of the delayed frames that are due.
    pub fn release(&mut self, now: Instant, sink: &mut impl Sink) {
        while let Some(held) = self.held.peek()
            && held.0.due <= now
        {
            let Some(Reverse(held)) = self.held.pop() else {
                return;
            };
            match held.step {
                Step::Forward => self.forward(now, held.port, &held.frame, sink),
                Step::Send => self.transmit(held.port, &held.frame, sink),
            }
        }
    }

    /// When [`Switch::release`] has work next.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.held.peek().map(|held| held.0.due)
    }

    fn forward(&mut self, now: Instant, from: PortId, frame: &[u8], sink: &mut impl Sink) {
        if !(HEADER..=MAX_FRAME).contains(&frame.len()) {
            return self.drop(from, Drop::Length);
        }
        let port = &self.ports[from.0];
        let Some(frame) = Tagged::read(frame, port.mode.untagged) else {
            return self.drop(from, Drop::ForeignVlan);
        };
        let vlan = frame.vlan;
        if port.mode.egress(vlan) != Some(frame.form) {
            return self.drop(from, Drop::ForeignVlan);
        }
        if port.fault.pruned.contains(&vlan) {
            return self.drop(from, Drop::Pruned);
        }
        self.ports[from.0].counters.received += 1;
        self.learn(now, vlan, frame.source(), from);
        sink.entered(now, from, vlan, &frame.untagged);

        let destination = self
            .learned
            .get(&(vlan, frame.destination()))
            .filter(|learned| now.duration_since(learned.seen) < AGEING)
            .map(|learned| learned.port);
        match destination {
            Some(to) if to == from => {}
            Some(to) => self.send(now, to, &frame, sink),
            None => {
                for to in (0..self.ports.len()).map(PortId).filter(|to| *to != from) {
                    self.send(now, to, &frame, sink);
                }
            }
        }
    }

    fn send(&mut self, now: Instant, to: PortId, frame: &Tagged, sink: &mut impl Sink) {
        let port = &self.ports[to.0];
        let Some(form) = port.mode.egress(frame.vlan) else {
            return;
        };
        if port.fault.cut {
            return self.drop(to, Drop::Cut);
        }
        if port.fault.pruned.contains(&frame.vlan) {
            return self.drop(to, Drop::Pruned);
        }
        let (loss, delay) = (port.fault.loss, port.fault.delay);
        if self.random.chance(loss) {
            return self.drop(to, Drop::Loss);
        }
        let bytes = match form {
            Form::Untagged => &frame.untagged,
            Form::Tagged => &frame.tagged,
        };
        if delay.is_zero() {
            self.transmit(to, bytes, sink);
        } else {
            self.hold(now + delay, to, Step::Send, bytes);
        }
    }

    fn transmit(&mut self, to: PortId, frame: &[u8], sink: &mut impl Sink) {
        if sink.transmit(to, frame) {
            self.ports[to.0].counters.sent += 1;
        } else {
            self.drop(to, Drop::Receiver);
        }
    }

    fn learn(&mut self, now: Instant, vlan: u16, source: Mac, port: PortId) {
        if source[0] & GROUP_BIT != 0 {
            return;
        }
        if self.learned.len() >= MAX_LEARNED && !self.learned.contains_key(&(vlan, source)) {
            self.learned
                .retain(|_, learned| now.duration_since(learned.seen) < AGEING);
            if self.learned.len() >= MAX_LEARNED {
                return;
            }
        }
        self.learned
            .insert((vlan, source), Learned { port, seen: now });
    }

    fn hold(&mut self, due: Instant, port: PortId, step: Step, frame: &[u8]) {
        if self.held.len() >= MAX_HELD {
            return self.drop(port, Drop::HeldFull);
        }
        self.order += 1;
        self.held.push(Reverse(Held {
            due,
            order: self.order,
            port,
            step,
            frame: frame.to_vec(),
        }));
    }

    fn drop(&mut self, port: PortId, reason: Drop) {
        self.ports[port.0].counters.dropped[reason as usize] += 1;
    }
}

#[derive(Debug)]
struct Port {
    mode: Mode,
    fault: Fault,
    counters: Counters,
}

#[derive(Debug)]
struct Learned {
    port: PortId,
    seen: Instant,
}

/// A delayed frame. Ordered by time, then by arrival, so that a cable never reorders.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    order: u64,
    port: PortId,
    step: Step,
    frame: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Forward,
    Send,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Untagged,
    Tagged,
}

/// A frame in both of its forms.
struct Tagged {
    vlan: u16,
    form: Form,
    untagged: Vec<u8>,
    tagged: Vec<u8>,
}

impl Tagged {
    /// `None` for a frame without tag on a port without untagged VLAN, and for a tag that is cut short.
    fn read(frame: &[u8], untagged: Option<u16>) -> Option<Self> {
        let (addresses, rest) = frame.split_at_checked(ADDRESSES)?;
        let tag = match rest {
            [0x81, 0x00, high, low, ..] => Some(u16::from_be_bytes([*high, *low])),
            [0x81, 0x00, ..] => return None,
            _ => None,
        };
        let (payload, tci, form) = match tag {
            Some(tci) if tci & VLAN_MASK != 0 => (rest.get(TAG..)?, tci, Form::Tagged),
            // A priority tag: the VLAN is that of untagged frames (802.1Q-2022 §6.9.1).
            Some(tci) => (
                rest.get(TAG..)?,
                (tci & !VLAN_MASK) | untagged?,
                Form::Untagged,
            ),
            None => (rest, untagged?, Form::Untagged),
        };
        let tagged = [addresses, &[0x81, 0x00], &tci.to_be_bytes(), payload].concat();
        let untagged = [addresses, payload].concat();
        (untagged.len() >= HEADER).then_some(Self {
            vlan: tci & VLAN_MASK,
            form,
            untagged,
            tagged,
        })
    }

    fn destination(&self) -> Mac {
        self.untagged.first_chunk().copied().unwrap_or_default()
    }

    fn source(&self) -> Mac {
        self.untagged
            .get(6..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .unwrap_or_default()
    }
}

/// xorshift64*: which frames get lost must only be repeatable, not unpredictable.
#[derive(Debug, Default)]
struct Random(u64);

impl Random {
    fn chance(&mut self, probability: f64) -> bool {
        if probability <= 0.0 {
            return false;
        }
        self.0 = self.0.max(1);
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let draw = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        (draw as f64) < probability * f64::from(u32::MAX)
    }
}

/// Forgotten after five minutes of silence (802.1Q-2022 table 8-6).
const AGEING: Duration = Duration::from_secs(300);
const MAX_LEARNED: usize = 4096;
const MAX_HELD: usize = 16_384;
const MAX_FRAME: usize = 9_216;
const ADDRESSES: usize = 12;
const HEADER: usize = 14;
const TAG: usize = 4;
const VLAN_MASK: u16 = 0x0fff;
const GROUP_BIT: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];
    const BROADCAST: Mac = [0xff; 6];

    #[test]
    fn floods_inside_the_vlan_then_follows_what_it_learned() {
        let mut rig = Rig::new();
        let a = rig.switch.add(Mode::access(10));
        let b = rig.switch.add(Mode::access(10));
        let c = rig.switch.add(Mode::access(10));
        let other = rig.switch.add(Mode::access(20));

        assert_eq!(rig.receive(a, &untagged(BROADCAST, A)), [b, c]);
        assert_eq!(rig.receive(b, &untagged(A, B)), [a]);
        assert_eq!(rig.receive(c, &untagged(B, [2, 0, 0, 0, 0, 0xc])), [b]);
        // The same address in another VLAN is another station.
        assert_eq!(rig.receive(other, &untagged(A, [2, 0, 0, 0, 0, 0xd])), []);
    }

    #[test]
    fn an_address_moves_with_its_first_frame_from_the_new_port() {
        let mut rig = Rig::new();
        let ports: Vec<_> = (0..3).map(|_| rig.switch.add(Mode::access(10))).collect();
        rig.receive(ports[0], &untagged(BROADCAST, A));
        assert_eq!(rig.receive(ports[2], &untagged(A, B)), [ports[0]]);
        rig.receive(ports[1], &untagged(BROADCAST, A));
        assert_eq!(rig.receive(ports[2], &untagged(A, B)), [ports[1]]);
    }

    #[test]
    fn what_was_learned_ages_out() {
        let mut rig = Rig::new();
        let ports: Vec<_> = (0..3).map(|_| rig.switch.add(Mode::access(10))).collect();
        rig.receive(ports[0], &untagged(BROADCAST, A));
        rig.now += AGEING - Duration::from_secs(1);
        assert_eq!(rig.receive(ports[1], &untagged(A, B)), [ports[0]]);
        rig.now += Duration::from_secs(1);
        assert_eq!(rig.receive(ports[1], &untagged(A, B)), [ports[0], ports[2]]);
    }

    #[test]
    fn tags_appear_and_disappear_with_the_cable() {
        let mut rig = Rig::new();
        let server = rig.switch.add(Mode::access(21));
        let trunk = rig.switch.add(Mode {
            untagged: Some(10),
            tagged: BTreeSet::from([21, 22]),
        });
        let wan = rig.switch.add(Mode::access(10));

        rig.receive(server, &untagged(BROADCAST, A));
        assert_eq!(rig.sink.sent, [(trunk, tagged(21, BROADCAST, A))]);
        assert_eq!(rig.sink.entered, [(server, 21)]);

        rig.receive(trunk, &tagged(21, A, B));
        assert_eq!(rig.sink.sent, [(server, untagged(A, B))]);

        rig.receive(trunk, &untagged(BROADCAST, B));
        assert_eq!(rig.sink.sent, [(wan, untagged(BROADCAST, B))]);
    }

    #[test]
    fn refuses_what_does_not_belong_on_the_cable() {
        let frames: [(&str, Vec<u8>, Drop); 6] = [
            ("empty", vec![], Drop::Length),
            ("no ethertype", vec![0; 13], Drop::Length),
            ("too long", vec![0; MAX_FRAME + 1], Drop::Length),
            (
                "vlan of another port",
                tagged(23, BROADCAST, A),
                Drop::ForeignVlan,
            ),
            (
                "native vlan with a tag",
                tagged(10, BROADCAST, A),
                Drop::ForeignVlan,
            ),
            (
                "tag cut short",
                tagged(21, BROADCAST, A)[..15].to_vec(),
                Drop::ForeignVlan,
            ),
        ];
        for (name, frame, reason) in frames {
            let mut rig = Rig::new();
            let trunk = rig.switch.add(Mode {
                untagged: Some(10),
                tagged: BTreeSet::from([21]),
            });
            rig.switch.add(Mode {
                untagged: Some(10),
                tagged: BTreeSet::from([21, 23]),
            });
            assert_eq!(rig.receive(trunk, &frame), [], "{name}");
            assert_eq!(rig.switch.counters(trunk).dropped(reason), 1, "{name}");
            assert_eq!(rig.switch.counters(trunk).received, 0, "{name}");
        }
    }

    #[test]
    fn a_port_without_untagged_vlan_drops_untagged_frames() {
        let mut rig = Rig::new();
        let trunk = rig.switch.add(Mode {
            untagged: None,
            tagged: BTreeSet::from([21]),
        });
        rig.switch.add(Mode::access(21));
        assert_eq!(rig.receive(trunk, &untagged(BROADCAST, A)), []);
        assert_eq!(rig.switch.counters(trunk).dropped(Drop::ForeignVlan), 1);
    }

    #[test]
    fn a_cut_cable_is_silent_both_ways_and_forgotten() {
        let mut rig = Rig::new();
        let a = rig.switch.add(Mode::access(10));
        let b = rig.switch.add(Mode::access(10));
        let c = rig.switch.add(Mode::access(10));
        rig.receive(a, &untagged(BROADCAST, A));
        rig.switch.set_fault(
            a,
            Fault {
                cut: true,
                ..Fault::default()
            },
        );

        assert_eq!(rig.receive(a, &untagged(BROADCAST, A)), []);
        // Forgotten: flooded to the others instead of lost in the cut cable.
        assert_eq!(rig.receive(b, &untagged(A, B)), [c]);
        assert_eq!(rig.switch.counters(a).dropped(Drop::Cut), 2);

        rig.switch.set_fault(a, Fault::default());
        assert_eq!(rig.receive(b, &untagged(A, B)), [a, c]);
    }

    #[test]
    fn pruning_takes_one_vlan_from_a_trunk() {
        let mut rig = Rig::new();
        let trunk = rig.switch.add(Mode {
            untagged: None,
            tagged: BTreeSet::from([10, 21]),
        });
        let wan = rig.switch.add(Mode::access(10));
        let server = rig.switch.add(Mode::access(21));
        rig.switch.set_fault(
            trunk,
            Fault {
                pruned: BTreeSet::from([10]),
                ..Fault::default()
            },
        );

        assert_eq!(rig.receive(trunk, &tagged(10, BROADCAST, A)), []);
        assert_eq!(rig.receive(wan, &untagged(BROADCAST, B)), []);
        assert_eq!(rig.receive(trunk, &tagged(21, BROADCAST, A)), [server]);
        assert_eq!(rig.switch.counters(trunk).dropped(Drop::Pruned), 2);
    }

    #[test]
    fn delay_applies_in_each_direction_and_keeps_the_order() {
        let mut rig = Rig::new();
        let slow = rig.switch.add(Mode::access(10));
        let fast = rig.switch.add(Mode::access(10));
        let delay = Duration::from_millis(20);
        rig.switch.set_fault(
            slow,
            Fault {
                delay,
                ..Fault::default()
            },
        );

        assert_eq!(rig.receive(slow, &untagged(BROADCAST, A)), []);
        assert_eq!(rig.receive(slow, &untagged(BROADCAST, B)), []);
        assert_eq!(rig.switch.deadline(), Some(rig.now + delay));
        rig.now += delay;
        rig.release();
        let order: Vec<_> = rig
            .sink
            .sent
            .iter()
            .map(|(to, frame)| (*to, frame[11]))
            .collect();
        assert_eq!(order, [(fast, A[5]), (fast, B[5])]);

        assert_eq!(rig.receive(fast, &untagged(BROADCAST, B)), []);
        rig.now += delay;
        rig.release();
        assert_eq!(rig.sink.sent.len(), 1);
        assert_eq!(rig.switch.deadline(), None);
    }

    #[test]
    fn loss_is_about_as_asked_and_the_same_for_the_same_seed() {
        let lost = |seed| {
            let mut rig = Rig::new();
            rig.switch = Switch::new(seed);
            let a = rig.switch.add(Mode::access(10));
            rig.switch.add(Mode::access(10));
            rig.switch.set_fault(
                a,
                Fault {
                    loss: 0.25,
                    ..Fault::default()
                },
            );
            (0..4000)
                .map(|_| rig.receive(a, &untagged(BROADCAST, A)).is_empty())
                .collect::<Vec<_>>()
        };
        let first = lost(7);
        let count = first.iter().filter(|lost| **lost).count();
        assert!((900..1100).contains(&count), "{count} of 4000 lost");
        assert_eq!(first, lost(7));
        assert_ne!(first, lost(8));
    }

    #[test]
    fn a_flood_of_addresses_does_not_grow_the_table() {
        let mut rig = Rig::new();
        let a = rig.switch.add(Mode::access(10));
        rig.switch.add(Mode::access(10));
        for n in 0..u32::try_from(MAX_LEARNED).expect("small") + 100 {
            let [_, x, y, z] = n.to_be_bytes();
            rig.receive(a, &untagged(BROADCAST, [2, 1, 0, x, y, z]));
        }
        assert_eq!(rig.switch.learned.len(), MAX_LEARNED);
    }

    #[test]
    fn a_group_address_is_never_learned_as_a_source() {
        let mut rig = Rig::new();
        let a = rig.switch.add(Mode::access(10));
        let b = rig.switch.add(Mode::access(10));
        rig.receive(a, &untagged(A, BROADCAST));
        assert_eq!(rig.receive(b, &untagged(BROADCAST, B)), [a]);
        assert_eq!(rig.switch.learned.len(), 1);
    }

    struct Rig {
        switch: Switch,
        sink: Recorder,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self {
                switch: Switch::new(1),
                sink: Recorder::default(),
                now: Instant::now(),
            }
        }

        fn receive(&mut self, from: PortId, frame: &[u8]) -> Vec<PortId> {
            self.sink = Recorder::default();
            self.switch.receive(self.now, from, frame, &mut self.sink);
            self.sink.sent.iter().map(|(to, _)| *to).collect()
        }

        fn release(&mut self) {
            self.sink = Recorder::default();
            self.switch.release(self.now, &mut self.sink);
        }
    }

    #[derive(Default)]
    struct Recorder {
        entered: Vec<(PortId, u16)>,
        sent: Vec<(PortId, Vec<u8>)>,
    }

    impl Sink for Recorder {
        fn entered(&mut self, _: Instant, from: PortId, vlan: u16, _: &[u8]) {
            self.entered.push((from, vlan));
        }

        fn transmit(&mut self, to: PortId, frame: &[u8]) -> bool {
            self.sent.push((to, frame.to_vec()));
            true
        }
    }

    fn untagged(to: Mac, from: Mac) -> Vec<u8> {
        [&to[..], &from, &[0x08, 0x00], &[0x55; 46]].concat()
    }

    fn tagged(vlan: u16, to: Mac, from: Mac) -> Vec<u8> {
        [
            &to[..],
            &from,
            &[0x81, 0x00],
            &vlan.to_be_bytes(),
            &[0x08, 0x00],
            &[0x55; 46],
        ]
        .concat()
    }
}
