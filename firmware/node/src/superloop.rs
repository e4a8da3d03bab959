//! What every board does again and again: frames from the ports, carrier changes and timers into the node.

use core::time::Duration;

use hal::{Board, Port};
use time::Instant;
use wire::{Frame, frame::HEADROOM};

use crate::{Event, Node, Refusal, Transmit};

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

/// Time between two looks at the PHYs.
const LINK_INTERVAL: Duration = Duration::from_millis(10);

/// Lets `node` do all that is due on a board without an operating system, from its interrupts: they come when a port that was
/// armed receives and when the time has come that this tells the board. `log` gets every event. While packets come without end,
/// work below the loop that is `waiting` has a fifth of the time.
pub fn visit<B: Board, P: Port>(
    board: &mut B,
    turns: &mut Superloop<'_, P>,
    node: &mut Node<'_>,
    mut log: impl FnMut(Event),
    waiting: impl Fn() -> bool,
) {
    let begun = board.now();
    loop {
        board.feed_watchdog();
        let busy = turns.turn(node, board.now());
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
pub struct Superloop<'a, P> {
    ports: Ports<'a, P>,
    up: [bool; MAX_PORTS],
    next_link_check: Instant,
    buffer: Buffer,
}

impl<'a, P: Port> Superloop<'a, P> {
    /// A loop over `ports`, of which the first [`MAX_PORTS`] are used.
    #[must_use]
    pub fn new(ports: &'a mut [P]) -> Self {
        Self {
            ports: Ports(ports),
            up: [true; MAX_PORTS], // as the node assumes
            next_link_check: Instant::ZERO,
            buffer: Buffer([0; BUFFER]),
        }
    }

    /// Does what is due at `now`: a batch of frames from each port, carrier changes, timers. `true` if
    /// frames came in, so that there may be more.
    pub fn turn(&mut self, node: &mut Node<'_>, now: Instant) -> bool {
        let mut busy = false;
        node.attend(now, &mut self.ports);
        for index in 0..self.len() {
            for _ in 0..BATCH {
                let buffer = &mut self.buffer.0;
                let Some(len) = self.ports.0[index].receive(buffer, HEADROOM) else {
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
        node.poll(now, &mut self.ports);
        busy
    }

    /// Arms every port's wake-up; `false` if a frame waits, so that there is no time to sleep.
    pub fn arm(&mut self) -> bool {
        self.ports.0.iter_mut().all(Port::arm)
    }

    /// Takes every port's wake-up back.
    pub fn disarm(&mut self) {
        self.ports.0.iter_mut().for_each(P::disarm);
    }

    /// When `turn` has work next if no frame comes in.
    #[must_use]
    pub fn deadline(&self, node: &Node<'_>) -> Instant {
        node.deadline().min(self.next_link_check)
    }

    /// Orders the node to hand over to its peer.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn hand_over(&mut self, node: &mut Node<'_>, now: Instant) -> Result<(), Refusal> {
        node.hand_over(now, &mut self.ports)
    }

    /// Stops the node in good order.
    pub fn stop(&mut self, node: &mut Node<'_>, now: Instant) {
        node.stop(now, &mut self.ports);
    }

    /// The ports, for their counters.
    #[must_use]
    pub fn ports(&self) -> &[P] {
        self.ports.0
    }

    fn check_links(&mut self, node: &mut Node<'_>, now: Instant) {
        for index in 0..self.len() {
            let up = self.ports.0[index].link_up();
            if up != self.up[index] {
                self.up[index] = up;
                node.link(now, index as u8, up, &mut self.ports);
            }
        }
    }

    fn len(&self) -> usize {
        self.ports.0.len().min(MAX_PORTS)
    }
}

struct Ports<'a, P>(&'a mut [P]);

impl<P: Port> Transmit for Ports<'_, P> {
    fn transmit(&mut self, port: u8, frame: &[u8]) {
        if let Some(port) = self.0.get_mut(usize::from(port)) {
            port.transmit(frame); // a port counts what it cannot take
        }
    }
}

/// Aligned, so that [`HEADROOM`] puts the IP header on a word.
#[repr(align(8))]
struct Buffer([u8; BUFFER]);
