//! TLS 1.3 towards servers that are checked (RFC 8446): bytes in, bytes out, no sockets and no clock. Its worker needs a heap.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cipher;
mod client;
mod exchange;
mod failure;
mod mailbox;
mod random;
mod signature;
mod trust;
mod worker;

pub use client::Client;
pub use health::Reason;
pub use mailbox::Mailbox;
pub use random::seed;
pub use worker::Worker;
