//! Drivers for Ethernet MACs over `hal::Port`, and the small parts that boards share. One module per
//! part; registers are named as in the manual that each module cites.

#![no_std]

pub mod dwmac;
pub mod enet;
pub mod gem;
pub mod heap;
pub mod lan9118;
pub mod log;
mod mmio;
mod phy;
mod ring;
pub mod ticks;
pub mod w5500;

/// A part did not do in time what its manual promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, defmt::Format)]
pub enum InitError {
    /// The identification register reads otherwise: another part, or none, is at this address.
    #[defmt("no such part here: identification reads {=u32:#x}")]
    Identity(u32),
    /// A reset or a management access did not end.
    #[defmt("the part does not answer")]
    Timeout,
}
