//! What every board does again and again: frames from the ports, carrier changes and timers into the node.

use core::time::Duration;

use hal::{Board, ConfigurationStore, NoSerial, Port, Serial};
use heapless::Deque;
use sync::{Deframer, MAX_FRAME};
use time::Instant;
use wire::{Frame, frame::HEADROOM};

use crate::{Event, Node, Objection, Refusal, Transmit};

/// Most ports of a board.
pub const MAX_PORTS: usize = 4;

/// Bytes of the receive buffer: headroom, 1518 bytes of a tagged frame, and one more tag.
const BUFFER: usize = 1536;

/// Most frames taken from one port before the others and the timers get their turn.
const BATCH: usize = 32;

/// How long packets may keep the work below them waiting.
const STRETCH: Duration = Duration::from_millis(4);
/// How long they wait for it then.
const REST: Duration = Duration::from_millis(1);

/// Most bytes taken from the serial line in one turn.
const LINE_BATCH: usize = 256;
/// How long a full line is left alone: less than the 64 bytes of a usual queue take at 115,200 baud.
const PUMP: Duration = Duration::from_millis(1);

/// Time between two looks at the PHYs.
const LINK_INTERVAL: Duration = Duration::from_millis(5);

/// Lets `node` do all that is due on a board without an operating system, from its interrupts: they come when a port that was
/// armed receives and when the time has come that this tells the board. `log` gets every event. While packets come without end,
/// work below the loop that is `waiting` has a fifth of the time. If that work has stopped, the appliance says goodbye and starts
/// over.
pub fn visit<B: Board, P: Port, S: Serial>(
    board: &mut B,
    turns: &mut Superloop<'_, P, S>,
    node: &mut Node<'_>,
    mut log: impl FnMut(Event),
    waiting: impl Fn() -> bool,
) {
    let vigil = board.vigil();
    let begun = board.now();
    // There was an interrupt to wait for.
    let mut had_time = true;
    loop {
        let now = board.now();
        let busy = turns.turn(node, now);
        match vigil.turned(now, had_time || waiting()) {
            Ok(true) => board.feed_watchdog(),
            Ok(false) => {}
            Err(part) => {
                turns.stop(node, now);
                return board.give_up(part);
            }
        }
        had_time = false;
        while let Some(event) = node.next_event() {
            log(event);
        }
        if !busy && turns.arm() {
            return board.wake_at(turns.deadline(node));
        }
        let now = board.now();
        if now.since(begun) >= STRETCH && waiting() {
            turns.disarm();
            return board.wake_at(now + REST);
        }
    }
}

/// The ports of a board and what the loop remembers about them.
pub struct Superloop<'a, P, S = NoSerial> {
    ports: Ports<'a, P, S>,
    deframer: Deframer,
    /// When the line takes the rest of what is to be sent.
    pump_at: Option<Instant>,
    up: [bool; MAX_PORTS],
    next_link_check: Instant,
    buffer: Buffer,
}

impl<'a, P: Port> Superloop<'a, P> {
    /// A loop over `ports`, of which the first [`MAX_PORTS`] are used.
    #[must_use]
    pub fn new(ports: &'a mut [P]) -> Self {
        Self::with_line(ports, NoSerial)
    }
}

impl<'a, P: Port, S: Serial> Superloop<'a, P, S> {
    /// The same with a serial line to the other appliance.
    #[must_use]
    pub fn with_line(ports: &'a mut [P], line: S) -> Self {
        Self {
            ports: Ports {
                ports,
                store: None,
                line,
                queue: Deque::new(),
            },
            deframer: Deframer::new(),
            pump_at: None,
            up: [true; MAX_PORTS], // as the node assumes
            next_link_check: Instant::ZERO,
            buffer: Buffer([0; BUFFER]),
        }
    }

    /// Lets configurations come into this memory while the loop runs.
    #[must_use]
    pub fn with_store(mut self, store: &'a mut dyn ConfigurationStore) -> Self {
        self.ports.store = Some(store);
        self
    }

    /// Runs a configuration that the board has from now on.
    ///
    /// # Errors
    /// Why the node cannot. Then nothing has changed.
    pub fn replace(
        &mut self,
        node: &mut Node<'_>,
        now: Instant,
        blob: &[u8],
    ) -> Result<(), Objection> {
        node.replace(now, blob, &mut self.ports)
    }

    /// Does what is due at `now`: a batch of frames from each port, carrier changes, timers. `true` if
    /// frames came in, so that there may be more.
    pub fn turn(&mut self, node: &mut Node<'_>, now: Instant) -> bool {
        let mut busy = false;
        node.attend(now, &mut self.ports);
        for index in 0..self.len() {
            for _ in 0..BATCH {
                let buffer = &mut self.buffer.0;
                let Some(len) = self.ports.ports[index].receive(buffer, HEADROOM) else {
                    break;
                };
                busy = true;
                let Some(frame) = Frame::new(buffer, HEADROOM, len) else {
                    continue;
                };
                node.ingress(now, index as u8, frame, &mut self.ports);
            }
        }
        if now >= self.next_link_check {
            self.next_link_check = now + LINK_INTERVAL;
            self.check_links(node, now);
        }
        for _ in 0..LINE_BATCH {
            let Some(byte) = self.ports.line.read() else {
                break;
            };
            if let Some(datagram) = self.deframer.push(byte) {
                node.serial(now, datagram, &mut self.ports);
            }
        }
        node.poll(now, &mut self.ports);
        self.pump_at = match self.ports.pump() {
            true => None,
            false => Some(now + PUMP),
        };
        busy
    }

    /// Arms every port's wake-up; `false` if a frame waits, so that there is no time to sleep.
    pub fn arm(&mut self) -> bool {
        self.ports.line.arm() && self.ports.ports.iter_mut().all(Port::arm)
    }

    /// Takes every port's wake-up back.
    pub fn disarm(&mut self) {
        self.ports.ports.iter_mut().for_each(P::disarm);
    }

    /// When `turn` has work next if no frame comes in.
    #[must_use]
    pub fn deadline(&self, node: &Node<'_>) -> Instant {
        let next = node.deadline().min(self.next_link_check);
        self.pump_at.map_or(next, |pump| pump.min(next))
    }

    /// Orders the node to hand over to its peer.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn hand_over(&mut self, node: &mut Node<'_>, now: Instant) -> Result<(), Refusal> {
        node.hand_over(now, &mut self.ports)
    }

    /// Lets the node stand back until told otherwise, or ends that.
    pub fn maintain(&mut self, node: &mut Node<'_>, now: Instant, on: bool) {
        node.maintain(now, on, &mut self.ports);
    }

    /// The board has started anew after a failure: its node stands back for so long, unless nobody else serves.
    pub fn recover(&mut self, node: &mut Node<'_>, now: Instant, time: Duration) {
        node.recover(now, time, &mut self.ports);
    }

    /// Stops the node in good order.
    pub fn stop(&mut self, node: &mut Node<'_>, now: Instant) {
        node.stop(now, &mut self.ports);
    }

    /// The ports, for their counters.
    #[must_use]
    pub fn ports(&self) -> &[P] {
        self.ports.ports
    }

    fn check_links(&mut self, node: &mut Node<'_>, now: Instant) {
        for index in 0..self.len() {
            let up = self.ports.ports[index].link_up();
            if up != self.up[index] {
                self.up[index] = up;
                node.link(now, index as u8, up, &mut self.ports);
            }
        }
    }

    fn len(&self) -> usize {
        self.ports.ports.len().min(MAX_PORTS)
    }
}

struct Ports<'a, P, S> {
    ports: &'a mut [P],
    store: Option<&'a mut dyn ConfigurationStore>,
    line: S,
    /// Bytes that the line takes when it has room.
    queue: Deque<u8, { 2 * MAX_FRAME }>,
}

impl<P, S: Serial> Ports<'_, P, S> {
    /// Hands over what the line takes; whether that is all.
    fn pump(&mut self) -> bool {
        while let Some(byte) = self.queue.front() {
            if !self.line.write(*byte) {
                return false;
            }
            self.queue.pop_front();
        }
        true
    }
}

impl<P: Port, S: Serial> Transmit for Ports<'_, P, S> {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        if let Some(port) = self.ports.get_mut(usize::from(port)) {
            port.transmit(frame); // a port counts what it cannot take
        }
    }

    fn store(&mut self) -> Option<&mut dyn ConfigurationStore> {
        match &mut self.store {
            Some(store) => Some(&mut **store),
            None => None,
        }
    }

    fn serial(&mut self, datagram: &[u8]) {
        // What the line has not sent by now is old news, but half of a frame would spoil the next one.
        let Some(frame) = sync::frame(datagram) else {
            return;
        };
        if self.queue.len() + frame.len() <= self.queue.capacity() {
            self.queue.extend(frame);
        }
    }
}

/// Aligned, so that [`HEADROOM`] puts the IP header on a word.
#[repr(align(8))]
struct Buffer([u8; BUFFER]);
