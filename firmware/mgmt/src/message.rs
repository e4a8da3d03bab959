//! What is asked and answered. Names are those of RFC 8347 (YANG for VRRP) where it has one.

use core::net::{IpAddr, Ipv4Addr};

use heapless::{String, Vec};
use policy::{MAX_PATHS, MAX_ROUTERS, Name};
use serde::{Deserialize, Serialize};

use crate::events::News;

/// What an operator wants.
#[expect(
    clippy::large_enum_variant,
    reason = "there is no heap, and never more than one"
)]
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
    /// A configuration of this length and digest comes, or goes on coming.
    Stage {
        /// Its bytes.
        total: u32,
        /// Their digest.
        digest: Digest,
    },
    /// Its next bytes.
    Part {
        /// Where they belong.
        offset: u32,
        /// The bytes.
        bytes: Vec<u8, PART>,
    },
    /// Look whether the appliance could run what has come, and run it from now on, if this does not only ask. It is answered
    /// before anything changes.
    Apply {
        /// Its digest.
        digest: Digest,
        /// For how many seconds it runs if nobody confirms it; `None` asks only.
        seconds: Option<u16>,
    },
    /// What runs for a time stays.
    Confirm {
        /// Its digest.
        digest: Digest,
    },
    /// What ran before runs again, at once.
    Revert,
    /// The event with this number, or the oldest after it.
    Event(u32),
}

/// SHA-256 of a configuration's bytes.
pub type Digest = [u8; 32];
/// Most bytes of a configuration in one message.
pub const PART: usize = 1024;

/// Why a configuration cannot run here, in words.
pub type Objection = String<111>;

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
    /// So many bytes of the configuration that comes are here.
    Staged(u32),
    /// It cannot run here.
    Objection(Objection),
    /// What happened.
    News(News),
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
    /// It has no memory for configurations that come while it runs, or not for one of this length.
    #[error("it has no room for this configuration")]
    NoRoom,
    /// It runs a configuration that nobody has confirmed yet, and keeps the one before.
    #[error(
        "it runs a configuration that is not confirmed yet: confirm it, or wait until the one before is back"
    )]
    Unconfirmed,
    /// Something else arrived than was announced.
    #[error("the configuration did not arrive as it was sent")]
    Damaged,
    /// It could not be written down: a restart brings an older one back.
    #[error(
        "it runs the configuration, but could not write it down: a restart brings an older one back"
    )]
    NotKept,
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
    /// The configuration that runs.
    pub configuration: Running,
}

/// The configuration that an appliance runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its digest; all zeros if that is not known.
    pub digest: Digest,
    /// When it was made, as it says itself.
    pub made: u64,
    /// Seconds until the one before is back, if nobody confirms it.
    pub unconfirmed: Option<u16>,
    /// Whether the one that came last was not confirmed in time, so that this is the one before.
    pub reverted: bool,
    /// Most bytes of one that may come.
    pub room: u32,
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
