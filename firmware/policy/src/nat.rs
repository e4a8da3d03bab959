//! Address translation besides the services'.

use core::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Prefix, Prefix6, Transport};

/// Most translations.
pub const MAX_NAT: usize = 32;

/// One translation. Interfaces are named by their index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nat {
    /// New flows from `source` that leave by `to` get another source address; ports of `first..=last` are kept where they
    /// are free, otherwise one of these is taken (RFC 4787 §4.2, RFC 5382). Identifiers of pings are kept where they are free.
    Source {
        /// Addresses that are translated.
        source: Prefix,
        /// The interface that the flow leaves by.
        to: u8,
        /// The new source: a virtual address, so that it moves with the Active.
        address: Ipv4Addr,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
    /// Port forwarding: flows to `address` and ports `first..=last` go to `server`, ports counted up from
    /// `server_port`. Flows that come in from the server's own leg get the leg's virtual address as source, so that
    /// answers come back (hairpin, RFC 4787 REQ-9).
    Destination {
        /// TCP or UDP.
        transport: Transport,
        /// A virtual address.
        address: IpAddr,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
        /// Where the flows go; of the version of `address`.
        server: IpAddr,
        /// Its port for `first`.
        server_port: u16,
    },
    /// Stateless prefix translation (NPTv6, RFC 6296): `inside` becomes `outside` in sources that leave by
    /// `to`, and back in destinations that come in from there. Both prefixes have the same length.
    Prefix6 {
        /// The outer interface.
        to: u8,
        /// Prefix used inside, at most 64 bits.
        inside: Prefix6,
        /// Prefix used outside.
        outside: Prefix6,
    },
}
