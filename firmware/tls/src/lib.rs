//! TLS 1.3 towards servers that are checked (RFC 8446): bytes in, bytes out, no sockets and no clock. It needs a heap.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cipher;
mod client;
mod exchange;
mod random;
mod trust;

pub use client::Client;
