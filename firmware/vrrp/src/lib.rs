//! VRRPv3 (RFC 9568) as a pure state machine: time, adverts and link changes go in, what must happen
//! comes out. A [`Group`] holds all virtual routers of one appliance and moves them together; a group
//! of one leg is exactly the machine of RFC 9568 §6.4.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::net::Ipv4Addr;

use policy::MAX_INTERFACES;
use time::Duration;

mod group;
mod router;
#[cfg(test)]
mod tests;

pub use group::Group;

/// What the group is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Input {
    /// The appliance runs: leave Initialize.
    Start,
    /// Orderly end: say goodbye with priority 0 and return to Initialize.
    Stop,
    /// Time has passed. Before [`Group::deadline`] nothing happens.
    Timer,
    /// An advertisement that passed `wire::vrrp` arrived on a leg that has a router with its VRID.
    Advert(Advert),
    /// A physical port gained or lost its carrier. Ports start up.
    Link {
        /// Index of the physical port.
        port: u8,
        /// Whether it has a carrier now.
        up: bool,
    },
    /// A leg's tracked neighbours answer again, or none of them does any more. Legs start reachable.
    Track {
        /// Index of the interface in the configuration.
        leg: u8,
        /// Whether at least one neighbour answers.
        reachable: bool,
    },
}

/// A received advertisement, as far as the state machine is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Advert {
    /// Index of the interface that it came in from.
    pub leg: u8,
    /// The sender's primary address (source of the IP packet).
    pub source: Ipv4Addr,
    /// 0 when the sender gives up, otherwise 1 to 255.
    pub priority: u8,
    /// Max Advertise Interval; never zero (`wire::vrrp` refuses that).
    pub interval: Duration,
}

/// What has to happen now, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Send one advertisement from the leg's virtual MAC and the appliance's own address.
    SendAdvert {
        /// Index of the interface.
        leg: u8,
        /// Priority field of the advertisement.
        priority: u8,
    },
    /// Start to answer for, and forward to, all virtual addresses and virtual MACs.
    Claim,
    /// Send one gratuitous ARP for every virtual address of every leg, from its virtual MAC. Comes with
    /// `Claim` and again some times after it (the group keeps the schedule).
    Announce,
    /// Stop to answer for any virtual address or virtual MAC.
    Release,
    /// For the log and the node's own mode.
    StateChanged {
        /// State before.
        from: State,
        /// State now.
        to: State,
        /// What made it change.
        cause: Cause,
    },
}

/// The longest answer of any transition: an advertisement on every leg, claim, announce, state change.
pub type Actions = heapless::Vec<Action, { MAX_INTERFACES + 3 }>;

/// State of the whole appliance (RFC 9568 §6.4, and Fault).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Not started.
    Initialize,
    /// Another router is Active; listen.
    Backup,
    /// This appliance answers for the virtual addresses.
    Active,
    /// A leg has no carrier: this appliance must not be elected.
    Fault,
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Cause {
    /// [`Input::Start`].
    Started,
    /// [`Input::Stop`].
    Stopped,
    /// No acceptable advertisement on any leg for the Active_Down interval, or priority 0 and Skew_Time.
    Silence,
    /// An advertisement of a router that has the better claim.
    StrongerPeer {
        /// Index of the interface that it came in from.
        leg: u8,
        /// Priority of the peer.
        priority: u8,
    },
    /// A port lost its carrier.
    LinkLost {
        /// Index of the physical port.
        port: u8,
    },
    /// All ports have a carrier again.
    LinksBack,
}
