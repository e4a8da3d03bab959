//! What is asked and answered. Names are those of RFC 8347 (YANG for VRRP) where it has one.

use core::net::{IpAddr, Ipv4Addr};

use heapless::Vec;
use policy::{MAX_PATHS, MAX_ROUTERS, Name};
use serde::{Deserialize, Serialize};

/// What an operator wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How are you?
    Status,
    /// How is the virtual router with this index?
    Member(u8),
    /// Let the peer take over, then stand back until maintenance ends. Answered at once; how it goes, status says.
    HandOver,
    /// Stand back, or no longer.
    Maintenance(bool),
    /// A value that is watched ([`policy::Tracked::Posted`]).
    Post {
        /// Which.
        index: u8,
        /// Whether it is as it should be.
        good: bool,
        /// Seconds until it is bad without news.
        seconds: u16,
    },
}

/// The answer.
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and never more than one"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// It is so now, or will be.
    Done,
    /// It cannot be.
    Refused(Refusal),
    /// How the appliance is.
    Status(Status),
    /// How a virtual router is.
    Member(MemberStatus),
}

/// Why something cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Only the Active has something to hand over.
    #[error("it is not Active")]
    NotActive,
    /// Nobody is there to take over.
    #[error("its peer is not heard")]
    NoPeer,
    /// The peer cannot run.
    #[error("its peer is not able to take over: a fault, or it stands back")]
    PeerUnable,
    /// The peer does not know all flows yet.
    #[error("its peer does not know all connections yet")]
    NotInSync,
    /// The peer runs another configuration.
    #[error("its peer has another configuration")]
    Mismatch,
    /// The peer did not take over in time.
    #[error("its peer did not take over in time, so that it is still Active")]
    TimedOut,
    /// There is nothing with this index.
    #[error("there is no such thing")]
    Unknown,
}

/// State of an appliance (RFC 9568 §6.4, and keepalived's fault).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Not started.
    #[default]
    Initialize,
    /// Listens.
    Backup,
    /// Answers for the virtual addresses.
    Active,
    /// Not able to.
    Fault,
}

/// How an appliance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: Name,
    /// Version of the firmware: major, minor, patch.
    pub version: [u8; 3],
    /// Digest of what both appliances must agree about.
    pub fingerprint: u64,
    /// Seconds since it started.
    pub uptime: u32,
    /// State of all virtual routers.
    pub state: State,
    /// Seconds since it changed.
    pub since: u32,
    /// As configured.
    pub priority: u8,
    /// What adverts say.
    pub effective_priority: u8,
    /// Why it stands back.
    pub demotions: Vec<Demotion, 8>,
    /// Ports with a carrier, one bit each.
    pub links: u8,
    /// The virtual routers.
    pub members: Vec<Member, MAX_ROUTERS>,
    /// Known flows.
    pub flows: u32,
    /// Frames received, and forwarded.
    pub frames: (u32, u32),
    /// What became of the last order to hand over.
    pub hand_over: Option<Refusal>,
    /// The other appliance, where there is one.
    pub peer: Option<PeerStatus>,
}

/// Why an appliance stands back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Demotion {
    /// A port has no carrier.
    Link,
    /// Something watched is bad.
    Track,
    /// It does not know all flows yet.
    Sync,
    /// Its loop stood still.
    Watchdog,
    /// An operator said so.
    Operator,
}

/// A virtual router in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name of the network.
    pub network: Name,
    /// Virtual router identifier.
    pub vrid: u8,
    /// The first address that packets are routed to.
    pub address: IpAddr,
}

/// A virtual router in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// In short.
    pub member: Member,
    /// Protocol version, 2 or 3.
    pub version: u8,
    /// Centiseconds between two adverts.
    pub interval: u16,
    /// Who is Active as far as known: the last sender of an advert that counted.
    pub active: Option<IpAddr>,
    /// What was counted.
    pub statistics: Statistics,
}

/// Counters of a virtual router (RFC 8347, statistics). All wrap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Times that it became Active.
    pub active_transitions: u32,
    /// Adverts received that counted.
    pub advertisement_rcvd: u32,
    /// Adverts sent.
    pub advertisement_sent: u32,
    /// Of another interval (version 2 only).
    pub interval_errors: u32,
    /// With priority zero, received.
    pub priority_zero_pkts_rcvd: u32,
    /// With priority zero, sent.
    pub priority_zero_pkts_sent: u32,
    /// Of another type.
    pub invalid_type_pkts_rcvd: u32,
    /// With other addresses.
    pub address_list_errors: u32,
    /// Too short or too long.
    pub packet_length_errors: u32,
    /// With a wrong checksum.
    pub checksum_errors: u32,
    /// Of another version.
    pub version_errors: u32,
    /// With a TTL that they must not have.
    pub ip_ttl_errors: u32,
    /// Not, or wrongly, authenticated.
    pub authentication_errors: u32,
}

/// The other appliance, as this one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its name.
    pub name: Name,
    /// Whether it is there.
    pub peer: Peer,
    /// The paths to it.
    pub paths: Vec<PathStatus, { MAX_PATHS + 1 }>,
    /// Whether both run the same configuration.
    pub same_configuration: bool,
    /// Whether the Backup knows all flows.
    pub in_sync: bool,
    /// Changes that the peer has not confirmed yet.
    pub lag: u32,
}

/// Whether the other appliance is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// It was never heard.
    Unknown,
    /// It is silent on every path.
    Lost,
    /// It says so itself.
    Alive {
        /// Its state.
        state: State,
        /// Its effective priority.
        priority: u8,
    },
}

/// One path between the two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Name of the network; of the serial line, `serial`.
    pub network: Name,
    /// The peer's address there.
    pub address: Option<Ipv4Addr>,
    /// Whether it is heard there.
    pub up: bool,
}
