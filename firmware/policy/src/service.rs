//! Balanced services: which real server gets a new flow, how its packets reach it, how it is checked.

use core::net::{IpAddr, Ipv4Addr};

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::{Name, Trust};

/// Most balanced services.
pub const MAX_SERVICES: usize = 16;
/// Most real servers behind one service.
pub const MAX_SERVERS: usize = 8;

/// Host names and paths of checks.
pub type Text = String<63>;

/// A service on a virtual address, carried to one real server per flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Name for counters and logs.
    pub name: Name,
    /// The virtual address that users connect to.
    pub address: IpAddr,
    /// The port that users connect to.
    pub port: u16,
    /// TCP or UDP.
    pub transport: Transport,
    /// How packets reach the real server.
    pub forwarding: Forwarding,
    /// Which server gets a new flow.
    pub balance: Balance,
    /// Keeps a client with its server beyond one flow.
    pub persistence: Option<Persistence>,
    /// In the order of preference; all of the version of `address`.
    pub servers: Vec<Server, MAX_SERVERS>,
    /// Gets new flows while fewer than `quorum` servers are healthy; it is not checked.
    pub sorry: Option<Server>,
    /// Healthy servers that the service needs, at least 1.
    pub quorum: u8,
    /// Seconds in which the share of a server that came back grows to its weight; 0 for at once.
    pub slow_start: u16,
    /// How servers are checked.
    pub check: Check,
    /// Port where each server's HAProxy agent (agent-check protocol) says what it can take.
    pub agent: Option<u16>,
}

impl Default for Service {
    /// A service without name and servers, for tests to fill in.
    fn default() -> Self {
        Self {
            name: Name::new(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
            transport: Transport::Tcp,
            forwarding: Forwarding::Nat,
            balance: Balance::Failover,
            persistence: None,
            servers: Vec::new(),
            sorry: None,
            quorum: 1,
            slow_start: 0,
            check: Check::default(),
            agent: None,
        }
    }
}

/// Transport protocol of a service or port forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How packets reach the real server (the forwarding methods of IPVS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Forwarding {
    /// Destination address and port become the server's; answers pass the appliance again.
    Nat,
    /// Only the MAC address changes: the server has the virtual address itself, listens on the same port
    /// and answers the client directly. It must be a neighbour on a leg.
    DirectReturn,
}

/// Which healthy server gets a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Balance {
    /// Active/passive: the first healthy one in the order of the configuration.
    Failover,
    /// In turn, in the proportion of the weights.
    RoundRobin,
    /// The one with the fewest flows for its weight.
    LeastConnections,
    /// By a hash of the client's address; a change of the healthy set may move many clients.
    SourceHash,
    /// By Maglev's lookup table over the client's address and port: both appliances choose alike without
    /// talking to each other, and few flows move when the healthy set changes.
    Maglev,
}

/// Clients of one prefix stay with one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Persistence {
    /// Length of the prefix that counts as one client: 1 to 32, or 1 to 128 for an IPv6 service.
    pub prefix: u8,
    /// Seconds after its last flow that a client is remembered.
    pub seconds: u16,
}

/// One real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Name of the machine.
    pub name: Name,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its share of new flows against the other servers'. 0 drains it: it keeps its flows and gets no
    /// new ones.
    pub weight: u8,
    /// Most flows at a time; 0 for no limit.
    pub max_flows: u32,
}

impl Default for Server {
    /// A server without name and address, for tests to fill in.
    fn default() -> Self {
        Self {
            name: Name::new(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 0,
            weight: 1,
            max_flows: 0,
        }
    }
}

/// Check of the real servers of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub kind: CheckKind,
    /// Port that is asked (not for ping).
    pub port: u16,
    /// Time between two checks in milliseconds, give or take `jitter` percent.
    pub interval_ms: u16,
    /// A check without an answer after so many milliseconds has failed.
    pub timeout_ms: u16,
    /// Successes in a row that make a server healthy.
    pub rise: u8,
    /// Failures in a row that make it unhealthy.
    pub fall: u8,
    /// Percent of the interval, 0 to 50.
    pub jitter: u8,
}

impl Default for Check {
    /// A TCP check without a port, for tests to fill in.
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            port: 0,
            interval_ms: 1000,
            timeout_ms: 900,
            rise: 2,
            fall: 3,
            jitter: 6,
        }
    }
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckKind {
    /// An ICMP echo.
    Ping,
    /// A half-open TCP connection: SYN, SYN-ACK, RST.
    Tcp,
    /// `GET path` with this `Host`; the status must be in `lowest..=highest`.
    Http {
        /// Host name.
        host: Text,
        /// Path, with the slash in front.
        path: Text,
        /// Lowest good status.
        lowest: u16,
        /// Highest good status.
        highest: u16,
    },
    /// The same over TLS, with the host as server name (RFC 6066 §3).
    Https {
        /// Host name, which the server's certificate has to be for.
        host: Text,
        /// Path, with the slash in front.
        path: Text,
        /// Lowest good status.
        lowest: u16,
        /// Highest good status.
        highest: u16,
        /// Who has to have signed the certificate.
        trust: Trust,
    },
    /// A DNS query over UDP for the address of this name; any answer without an error is good.
    Dns {
        /// The name that is asked for.
        name: Text,
    },
    /// The greeting of a MySQL or MariaDB server (protocol 10).
    Mysql,
}
