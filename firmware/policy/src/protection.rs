//! Limits and defence.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Most limits.
pub const MAX_LIMITS: usize = 64;

/// A limit that rules refer to by its index in `Config::limits`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limit {
    /// What is limited.
    pub kind: LimitKind,
    /// For whom.
    pub scope: Scope,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LimitKind {
    /// New flows per second: a token bucket.
    Rate {
        /// Tokens per second, at least 1.
        per_second: u16,
        /// Size of the bucket, at least 1.
        burst: u16,
    },
    /// Flows at a time.
    Flows {
        /// Most of them, at least 1.
        max: u16,
    },
}

/// Who shares a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Scope {
    /// All flows of the rules that refer to it together.
    Rule,
    /// Each source prefix for itself.
    Source {
        /// Length of an IPv4 source's prefix, 1 to 32.
        prefix: u8,
        /// Length of an IPv6 source's prefix, 1 to 128.
        prefix6: u8,
    },
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            LimitKind::Rate { per_second, burst } => write!(f, "{per_second}/s burst {burst}")?,
            LimitKind::Flows { max } => write!(f, "at most {max}")?,
        }
        match self.scope {
            Scope::Rule => Ok(()),
            Scope::Source { prefix, prefix6 } => write!(f, " per /{prefix} /{prefix6}"),
        }
    }
}

/// Defence against floods and odd packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Protection {
    /// Most half-open TCP connections: services' SYNs that would make more are answered with cookies (RFC 4987 §3.6),
    /// and only completed handshakes reach a server.
    pub syn_cookies_above: u16,
    /// Whether segments outside a connection's windows are dropped. If not they are counted and pass
    /// (netfilter's `nf_conntrack_tcp_be_liberal`).
    pub strict_windows: bool,
    /// ICMP errors that the appliance sends per second at most (RFC 1812 §4.3.2.8, RFC 4443 §2.4 f).
    pub icmp_errors_per_second: u16,
    /// Whether the MSS of SYNs is lowered to what the legs' MTUs carry.
    pub clamp_mss: bool,
    /// Whether flows refused by a rule are answered (TCP with RST, others with ICMP administratively
    /// prohibited) when the rule says reject; if not, reject is drop.
    pub answer_rejects: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            syn_cookies_above: 512,
            strict_windows: true,
            icmp_errors_per_second: 100,
            clamp_mss: true,
            answer_rejects: true,
        }
    }
}
