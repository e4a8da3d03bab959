//! Packet views and emitters that `smoltcp::wire` does not have, and the frame buffer they work on.

#![no_std]
#![forbid(unsafe_code)]

pub mod checksum;
pub mod ethernet;
pub mod frame;
pub mod icmp;
pub mod igmp;
pub mod ipv4;
pub mod ipv6;
pub mod mld;
pub mod nd;
pub mod router_discovery;
pub mod snmp;
pub mod syslog;
pub mod tcp;
pub mod vrrp;
pub use frame::Frame;
