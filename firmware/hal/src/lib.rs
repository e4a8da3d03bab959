//! The traits a board fills in.

#![no_std]
#![forbid(unsafe_code)]

use recovery::{Part, Vigil};
use time::Instant;

/// One Ethernet MAC. Frames carry no FCS; every frame is received, whatever its destination address.
pub trait Port {
    /// Copies the next received frame into `buffer` from `start` on; its length, or `None` if nothing waits.
    /// A frame that is damaged or does not fit is dropped and counted.
    fn receive(&mut self, buffer: &mut [u8], start: usize) -> Option<usize>;

    /// Queues one frame; `false` (and counted) if there was no room or it is longer than the MAC takes.
    fn transmit(&mut self, frame: &[u8]) -> bool;

    /// Whether the PHY has a link.
    fn link_up(&mut self) -> bool;

    /// Arms the wake-up for the next received frame; `false` if one is waiting already.
    fn arm(&mut self) -> bool;

    /// Takes the wake-up back, for boards on which it would interrupt. Frames wait meanwhile.
    fn disarm(&mut self) {}

    /// What this port lost since it started.
    fn losses(&self) -> Losses;
}

/// A serial line to the other appliance of a pair.
pub trait Serial {
    /// The next byte that came.
    fn read(&mut self) -> Option<u8>;

    /// Takes one byte to send; `false` if there is no room now.
    fn write(&mut self, byte: u8) -> bool;

    /// Arms the wake-up for the next byte; `false` if one is waiting already.
    fn arm(&mut self) -> bool;
}

/// No line.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSerial;

impl Serial for NoSerial {
    fn read(&mut self) -> Option<u8> {
        None
    }

    fn write(&mut self, _: u8) -> bool {
        false
    }

    fn arm(&mut self) -> bool {
        true
    }
}

/// Frames that a port could not carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Received, but damaged, too long, or without a free buffer.
    pub receive: u32,
    /// Given to `transmit`, but too long, or without room in the queue.
    pub transmit: u32,
}

/// What the superloop needs of a board besides its ports.
pub trait Board {
    /// Time since boot.
    fn now(&self) -> Instant;

    /// A random seed: from a true source where the part has one, otherwise what the README says.
    fn seed(&mut self) -> u64;

    /// The configuration region, as provisioned; may be erased or corrupt.
    fn config(&self) -> &'static [u8];

    /// Shows the watchdog, which counts by itself, that all parts live.
    fn feed_watchdog(&mut self);

    /// Who knows whether they do.
    fn vigil(&self) -> &'static Vigil;

    /// A part has stopped while the loop turns: leaves word of it and starts over, when the loop has returned at the latest.
    fn give_up(&mut self, part: Part);

    /// Wakes the loop at `deadline` or soon after, at once if it is over. A port that was armed wakes it too.
    fn wake_at(&mut self, deadline: Instant);
}

/// Memory for configurations that come while the appliance runs: in it are the one that runs, unless that is the one of the
/// start, the one before while that may come back, and the next one as it arrives.
///
/// What [`Self::switch`] and [`Self::back`] return may be used until the call after next of either; whoever calls them drops it
/// before. (Memory is used again; a borrow that says so could not be kept beside the store.)
pub trait ConfigurationStore {
    /// Most bytes of a configuration that comes; 0 while there is no room because the one before is kept.
    fn room(&self) -> usize;

    /// Writes a part of the next configuration; `false` if it does not fit.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> bool;

    /// What has been written, to be looked at.
    fn next(&self) -> &[u8];

    /// The one that runs.
    fn running(&self) -> &[u8];

    /// The next one runs from now on, and the one that ran is kept as the one before; `None` while there is no room for a next
    /// one.
    fn switch(&mut self) -> Option<&'static [u8]>;

    /// The one before runs again, if it is kept.
    fn back(&mut self) -> Option<&'static [u8]>;

    /// The one that runs is to stay, after a restart too where the board can do that; the one before is not needed any more.
    /// `false` if it could not be written down: then a restart brings an older one back.
    fn keep(&mut self) -> bool;
}
