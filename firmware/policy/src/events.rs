//! Where an appliance tells what happens to it.

use core::fmt;
use core::net::IpAddr;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Most collectors of each kind.
pub const MAX_COLLECTORS: usize = 4;

/// Who is told of events, and of which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// Those that get syslog messages (RFC 5424) by UDP.
    pub syslog: Vec<Collector, MAX_COLLECTORS>,
    /// Those that get SNMPv2c traps.
    pub snmp: Vec<Collector, MAX_COLLECTORS>,
    /// The traps' community.
    pub community: String<32>,
    /// The least severe events that they are told of.
    pub severity: Severity,
}

/// A machine that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// Its address.
    pub address: IpAddr,
    /// Its UDP port.
    pub port: u16,
}

/// How bad something is (RFC 5424 §6.2.1), the worst first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[repr(u8)]
pub enum Severity {
    /// Nothing works.
    Emergency,
    /// Somebody has to act at once.
    Alert,
    /// Something that must work does not.
    Critical,
    /// Something failed.
    Error,
    /// Something may fail.
    Warning,
    /// Normal, and worth knowing.
    #[default]
    Notice,
    /// Normal.
    Informational,
    /// For who looks for faults.
    Debug,
}

impl Severity {
    /// Every severity, the worst first.
    pub const ALL: [Self; 8] = [
        Self::Emergency,
        Self::Alert,
        Self::Critical,
        Self::Error,
        Self::Warning,
        Self::Notice,
        Self::Informational,
        Self::Debug,
    ];

    /// The name that operators write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Emergency => "emergency",
            Self::Alert => "alert",
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
            Self::Informational => "info",
            Self::Debug => "debug",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
