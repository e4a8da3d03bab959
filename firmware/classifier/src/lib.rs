//! Rules as tables. The host compiles a list of rules to binary trees (feature `compile`); the device
//! looks a packet up in them, where they lie in flash, at a cost that is flat in the number of rules.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "compile"))]
extern crate alloc;

#[cfg(feature = "compile")]
mod aligned;
#[cfg(feature = "compile")]
mod compile;
#[cfg(feature = "compile")]
pub mod generate;
mod key;
#[cfg(feature = "compile")]
pub mod linear;
mod load;
mod node;
mod tables;

#[cfg(feature = "compile")]
pub use aligned::Aligned;
#[cfg(feature = "compile")]
pub use compile::{BlobError, CompileError, Compiled, blob, compile, policy};
pub use key::{Addresses, Key, State};
pub use load::{LoadError, Policy, load};
pub use tables::{Match, TableError, Tables};
