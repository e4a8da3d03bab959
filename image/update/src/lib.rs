//! Updates of a server.
//!
//! A server has two slots for roots and an entry of the boot loader for each version. An update writes the slot that is not
//! in use, then a kernel image and an identity in a directory of their own, and last an entry on trial: the boot loader
//! counts how often it starts that, and takes the old one when the count is used up. A version proves itself by serving
//! (`ravelin-update healthy`, before systemd-bless-boot); one that does not is given up at once.

#![forbid(unsafe_code)]

pub use identity::{File, Identity};

pub mod certificates;
pub mod client;
pub mod entries;
pub mod firmware;
pub mod message;
pub mod questions;
pub mod rollout;
pub mod server;
pub mod tls;
