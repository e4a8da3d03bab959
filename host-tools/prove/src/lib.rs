//! What the policy of a site lets through, over the whole header space: for the appliances from the very
//! rules that are compiled for them, for every server from the text of its nftables.conf. Pure and
//! deterministic.

#![forbid(unsafe_code)]

mod device;
mod finding;
mod frame;
pub mod gate;
pub mod intent;
mod lint;
pub mod nft;
pub mod packet;
mod parse;
pub mod prefix6;
mod proof;
pub mod rack;
pub mod reach;
pub mod space;
mod trace;
mod walk;
mod why;

pub use device::{DeviceError, MOST_BEFORE, Moment};
pub use finding::{Code, Finding};
pub use parse::{PacketError, packet as parse_packet};
pub use proof::{Cell, Matrix, Proof};
pub use rack::{Component, Rack, RackError};
pub use trace::{Decision, End, Question, Ruling, Step, Trace};
