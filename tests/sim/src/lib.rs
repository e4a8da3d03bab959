//! Whole nodes on an in-memory network with a virtual clock: minutes of protocol time in milliseconds,
//! the same every time for the same seed.
//!
//! A [`World`] has one VLAN-aware switch. Appliances, hosts with a real TCP (smoltcp's) and taps hang on
//! its ports; ports can be cut (no carrier), muted for a VLAN (carrier stays), or made to lose and delay
//! frames. Two promises hold in every story and are checked on every frame: a node that is not Active
//! never sends from a virtual MAC address, and never passes on another station's packet.

mod host;
mod rack;
mod switch;
mod world;

pub use host::{Stream, StreamId};
pub use rack::{Boards, Rack, USER, USER6, Versions, config, policy};
pub use switch::PortId;
pub use world::{HostId, NodeId, STRAY, TapId, World};
