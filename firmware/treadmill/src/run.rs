//! The node on its treadmill.

use core::hint::black_box;

use node::{Node, State, Transmit};
use time::{Duration, Instant};
use wire::tcp::Flags;

use crate::outcome::{Fault, Outcome};
use crate::packet::Packet;
use crate::station::Mailbox;
use crate::world::{SYN_ACK, World};
use crate::{Cost, Meter, PACKETS, PORT};

pub struct Run<'r, 't, M, R> {
    node: &'r mut Node<'t>,
    meter: &'r mut M,
    report: &'r mut R,
    now: Instant,
}

impl<'r, 't, M, R> Run<'r, 't, M, R>
where
    M: Meter,
    R: FnMut(&'static str, Cost),
{
    /// Turns the node until it is Active, its services have healthy servers, and it takes up no more connections that it
    /// has not seen begin.
    pub fn settle(node: &'r mut Node<'t>, meter: &'r mut M, report: &'r mut R) -> Self {
        let mut now = Instant::ZERO;
        let mut active = Duration::ZERO;
        while active < SETTLED {
            now = now + STEP;
            let mut sent = Mailbox::default();
            node.poll(now, &mut sent);
            sent.answer(node, now);
            while node.next_event().is_some() {}
            if node.state() == Some(State::Active) {
                active += STEP;
            }
        }
        Self {
            node,
            meter,
            report,
            now,
        }
    }

    /// Opens a flow, and measures its packets there and back.
    pub fn connection(
        &mut self,
        world: &World,
        [there, back]: [&'static str; 2],
    ) -> Result<(), Fault> {
        self.pass(world.client_sends(PORT, Flags::SYN));
        self.pass(world.server_sends(PORT, SYN_ACK));
        self.pass(world.client_sends(PORT, Flags::ACK));
        let request = world.client_sends(PORT, Flags::ACK.with(Flags::PSH));
        let forwarded = world.server_gets(PORT, Flags::ACK.with(Flags::PSH));
        self.leaves(there, request, &forwarded)?;
        self.repeat(there, Outcome::Passes, request)?;
        let reply = world.server_sends(PORT, Flags::ACK);
        self.leaves(back, reply, &world.client_gets(PORT, Flags::ACK))?;
        self.repeat(back, Outcome::Passes, reply)
    }

    /// Opens one flow and looks at what the server gets of it.
    pub fn translated(&mut self, world: &World, port: u16) -> Result<(), Fault> {
        let opening = world.client_sends(port, Flags::SYN);
        self.leaves(
            "new-flow-dnat",
            opening,
            &world.server_gets(port, Flags::SYN),
        )
    }

    /// Measures one packet again and again.
    pub fn repeat(
        &mut self,
        path: &'static str,
        outcome: Outcome,
        packet: Packet,
    ) -> Result<(), Fault> {
        self.path(path, outcome, &mut |_| packet)
    }

    /// Measures the packets that `make` makes, and holds them to what should become of them.
    pub fn path(
        &mut self,
        path: &'static str,
        outcome: Outcome,
        make: &mut dyn FnMut(u32) -> Packet,
    ) -> Result<(), Fault> {
        let Self { node, now, .. } = self;
        let mut sink = Sink::default();
        let before = outcome.counts(node);
        let whole = self.meter.cost(&mut || {
            for turn in 0..PACKETS {
                let mut packet = make(black_box(turn));
                if let Some(frame) = packet.frame() {
                    node.ingress(*now, 0, frame, &mut sink);
                }
                black_box(&packet);
            }
        });
        let after = outcome.counts(node);
        let making = self.meter.cost(&mut || {
            for turn in 0..PACKETS {
                let mut packet = make(black_box(turn));
                black_box(packet.frame());
                black_box(&packet);
            }
        });
        outcome.check(path, PACKETS, sink.frames, [before, after])?;
        (self.report)(path, Cost { whole, making });
        Ok(())
    }

    /// Sends a packet through, and holds what leaves to what should.
    fn leaves(&mut self, path: &'static str, packet: Packet, want: &Packet) -> Result<(), Fault> {
        let mut sent = Mailbox::default();
        self.ingress(packet, &mut sent);
        match sent.only() {
            Some(frame) if frame == want.bytes() => Ok(()),
            _ => Err(Fault::Bytes { path }),
        }
    }

    /// Sends a packet through, and lets the stations answer whatever comes of it.
    fn pass(&mut self, packet: Packet) {
        let mut sent = Mailbox::default();
        self.ingress(packet, &mut sent);
        sent.answer(self.node, self.now);
    }

    fn ingress(&mut self, mut packet: Packet, out: &mut impl Transmit) {
        if let Some(frame) = packet.frame() {
            self.node.ingress(self.now, 0, frame, out);
        }
    }
}

/// Counts what the node sends.
#[derive(Default)]
struct Sink {
    frames: u32,
}

impl Transmit for Sink {
    fn transmit(&mut self, _port: u8, frame: &[u8]) {
        self.frames += 1;
        black_box(frame);
    }
}

/// Between two looks at the timers.
const STEP: Duration = Duration::from_millis(5);
/// Longer than a new Active takes up connections in the middle, and than servers need to become healthy.
const SETTLED: Duration = Duration::from_secs(65);
