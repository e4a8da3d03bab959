//! The traits a board fills in.

#![no_std]
#![forbid(unsafe_code)]

use time::Instant;

/// One Ethernet MAC. Frames carry no FCS; every frame is received, whatever its destination address.
pub trait Port {
    /// Copies or lends the next received frame into `buffer` at offset `start`; its length, or `None`.
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize>;

    /// Queues one frame; `false` if there was no room or it is longer than the MAC takes.
    fn transmit(&mut self, frame: &[u8]) -> bool;

    /// Whether the PHY has a link.
    fn link_up(&mut self) -> bool;
}

/// What the superloop needs of a board besides its ports.
pub trait Board {
    /// Time since boot.
    fn now(&self) -> Instant;

    /// A random seed: from a true source where the part has one, otherwise what the README says.
    fn seed(&mut self) -> u64;

    /// The configuration region, as provisioned; may be erased or corrupt.
    fn config(&self) -> &[u8];

    /// Shows the watchdog that the loop still turns.
    fn feed_watchdog(&mut self);
}
