//! VRRP (RFC 9568, RFC 3768) as a pure state machine: time, adverts, links, checks and news of the peer go in, what must happen
//! comes out. A [`Group`] holds all virtual routers of one appliance and moves them together; a group of one router without a
//! peer is exactly the machine of RFC 9568 §6.4.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use core::net::IpAddr;

use policy::MAX_ROUTERS;
use time::{Duration, Instant};

mod absence;
mod announcements;
mod companion;
mod group;
mod handover;
mod reload;
mod router;
mod standing;
#[cfg(test)]
mod tests;

pub use group::Group;
pub use standing::{Reason, Reasons};

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
    /// A valid advertisement for one of the routers.
    Advert(Advert),
    /// A physical port gained or lost its carrier. Ports start up.
    Link {
        /// Index of the physical port.
        port: u8,
        /// Whether it has a carrier now.
        up: bool,
    },
    /// A tracked condition became good or bad. All start good. The conditions about ports follow from [`Input::Link`].
    Track {
        /// Index of the condition in the configuration.
        track: u8,
        /// Whether it is good.
        good: bool,
    },
    /// A reason to leave the addresses to others begins or ends. Those about links and tracks follow from the inputs above.
    Demote {
        /// Why.
        reason: Reason,
        /// Whether it holds from now on.
        on: bool,
    },
    /// The appliance has failed and was started anew: until then it is worth as little as one that stalled.
    Failed {
        /// When that is over.
        until: Instant,
    },
    /// What is known about the other appliance of the pair, on every change and each heartbeat.
    Peer(Peer),
    /// The operator wants the peer to take over. Answered by [`Action::Handover`], at once or within some seconds.
    Handover,
}

/// A received advertisement, as far as the state machine is concerned. Whoever hands it over has checked it (RFC 9568 §7.1); one
/// of version 2 must have the router's own interval (RFC 3768 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Advert {
    /// Index of the router in the configuration.
    pub router: u8,
    /// The sender's primary address (source of the IP packet).
    pub source: IpAddr,
    /// 0 when the sender gives up, otherwise 1 to 255.
    pub priority: u8,
    /// Max Advertise Interval, of version 2 the Advertisement Interval; never zero.
    pub interval: Duration,
}

/// What is known about the other appliance of the pair, apart from its adverts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Peer {
    /// Nothing: there is no pair, or no heartbeat has been received yet.
    #[default]
    Unknown,
    /// Every path has been silent for too long.
    Lost,
    /// A heartbeat says so.
    Alive {
        /// Its state.
        state: State,
        /// Its priority, with all that tracking and demotions make of it.
        priority: u8,
        /// Whether it wants to be relieved, as [`Group::yielding`].
        yielding: bool,
        /// Whether it knows this appliance's flows.
        in_sync: bool,
    },
}

/// What has to happen now, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Action {
    /// Send one advertisement of a router.
    SendAdvert {
        /// Index of the router.
        router: u8,
        /// Priority field of the advertisement.
        priority: u8,
    },
    /// Start to answer for, and forward to, all virtual addresses and virtual MACs.
    Claim,
    /// Announce every virtual address of every router once (gratuitous ARP, unsolicited neighbour advertisement). The group keeps
    /// the schedule.
    Announce,
    /// Stop to answer for virtual addresses: another one is Active. What switches still send here is forwarded as before; `Release`
    /// or `Claim` follows.
    Linger,
    /// Stop to answer for, and forward to, any virtual address or virtual MAC.
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
    /// How the hand-over ended that [`Input::Handover`] asked for.
    Handover(Outcome),
    /// Which routers hear no adverts although the peer says that it is Active: their path is cut, the peer is not dead.
    Silent {
        /// One bit for each router, the first is the lowest; 0 when all is well again.
        routers: u16,
    },
}

/// The longest answer of any input: an advertisement of every router, and what two changes of state come with.
pub type Actions = heapless::Vec<Action, { MAX_ROUTERS + 12 }>;

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
    /// Something is broken that the addresses need: this appliance must not be elected.
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
    /// It owns the addresses: nobody else is to be Active.
    Owner,
    /// No acceptable advertisement on any leg for the Active_Down interval, or priority 0 and Skew_Time.
    Silence,
    /// The Active is weaker than this appliance.
    WeakerPeer,
    /// An advertisement of a router that has the better claim.
    StrongerPeer {
        /// Index of the router that it was for.
        router: u8,
        /// Priority of the peer.
        priority: u8,
    },
    /// Both appliances of the pair were Active, and the peer has the better claim, as its heartbeat says.
    SplitBrain {
        /// Priority of the peer.
        priority: u8,
    },
    /// The Active does not answer on any path any more.
    PeerLost,
    /// The Active says that it is no longer able to be it.
    PeerGone,
    /// The Active asked to be relieved.
    Relief,
    /// The peer has taken over as it was asked to.
    HandedOver,
    /// This appliance was away for so long that another one may be Active.
    Stalled,
    /// A port lost its carrier.
    LinkLost {
        /// Index of the physical port.
        port: u8,
    },
    /// A tracked condition that must be good is bad.
    TrackLost {
        /// Index of the condition.
        track: u8,
    },
    /// Nothing is broken any more.
    Repaired,
}

/// How a hand-over ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// The peer is Active.
    Done,
    /// This appliance was not Active in the first place, or had to stop being it.
    NotActive,
    /// There is no peer, or it does not answer.
    NoPeer,
    /// The peer is not able to be Active.
    PeerFault,
    /// The peer does not know the flows yet.
    PeerNotInSync,
    /// The peer did not take over in time.
    NotTaken,
}
