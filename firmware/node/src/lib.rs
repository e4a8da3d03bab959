//! The appliance: joins packet path, VRRP and health checks into `ingress` and `poll`.

#![no_std]
#![forbid(unsafe_code)]

pub mod superloop;

use policy::Config;
use time::Instant;
use wire::Frame;

/// Where the node's frames go: a board's ports, or a test's list.
pub trait Transmit {
    /// Sends one complete frame (VLAN tag included, no FCS) out of a physical port; a port that cannot
    /// take it drops it and counts.
    fn transmit(&mut self, port: u8, frame: &[u8]);
}

/// One appliance with room for `FLOWS` flows (a power of two, chosen by the board).
pub struct Node<const FLOWS: usize> {
    config: Option<Config>,
}

/// What the board should log. Fixed size, `defmt::Format` with the feature `defmt`, `Display` on every target.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {}

impl core::fmt::Display for Event {
    fn fmt(&self, _: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {}
    }
}

impl<const FLOWS: usize> Node<FLOWS> {
    /// A node that runs `config`; without one it is closed: it forwards nothing and answers nothing.
    /// `seed` keys the flow hash and picks initial sequence numbers and identifiers.
    #[must_use]
    pub fn new(config: Option<Config>, seed: u64, now: Instant) -> Self {
        let _ = (seed, now);
        Self { config }
    }

    /// Takes one received frame; it may be rewritten in place and sent on.
    pub fn ingress(&mut self, now: Instant, port: u8, frame: Frame<'_>, out: &mut impl Transmit) {
        let _ = (now, port, frame, out);
    }

    /// Runs every timer that is due. Calling early is harmless.
    pub fn poll(&mut self, now: Instant, out: &mut impl Transmit) {
        let _ = (now, out);
    }

    /// Tells the node that a port gained or lost its carrier. Ports start up.
    pub fn link(&mut self, now: Instant, port: u8, up: bool, out: &mut impl Transmit) {
        let _ = (now, port, up, out);
    }

    /// Orderly end: advertises priority 0, so that the peer takes over at once (RFC 9568 §6.4.3).
    pub fn stop(&mut self, now: Instant, out: &mut impl Transmit) {
        let _ = (now, out);
    }

    /// When `poll` has work next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::ZERO
    }

    /// The oldest event not yet taken. When the queue is full the oldest are lost and counted.
    pub fn next_event(&mut self) -> Option<Event> {
        let _ = &self.config;
        None
    }
}
