//! The peripherals of the Cortex-A9 MPCore (ARM DDI 0407) and of the Zynq (UG585, appendix B).

use core::ptr::{
    read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile,
};

pub const UART0: usize = 0xe000_0000;
pub const UART1: usize = 0xe000_1000;
pub const SLCR: usize = 0xf800_0000;
pub const GIC_CPU: usize = 0xf8f0_0100;
pub const GLOBAL_TIMER: usize = 0xf8f0_0200;
pub const PRIVATE_TIMER: usize = 0xf8f0_0600;
pub const WATCHDOG: usize = 0xf8f0_0620;
pub const GIC_DISTRIBUTOR: usize = 0xf8f0_1000;

/// Global and private timers (DDI 0407 chapter 4).
pub mod timer {
    pub const GLOBAL_LOW: usize = 0x00;
    pub const GLOBAL_HIGH: usize = 0x04;
    pub const GLOBAL_CONTROL: usize = 0x08;
    pub const LOAD: usize = 0x00;
    pub const CONTROL: usize = 0x08;
    pub const STATUS: usize = 0x0c;
    pub const ENABLE: u32 = 1 << 0;
    pub const INTERRUPT: u32 = 1 << 2;
}

/// Private watchdog (DDI 0407 chapter 4): as a timer it interrupts, as a watchdog it resets.
pub mod watchdog {
    pub const LOAD: usize = 0x00;
    pub const CONTROL: usize = 0x08;
    pub const ENABLE: u32 = 1 << 0;
    pub const INTERRUPT: u32 = 1 << 2;
    pub const RESETS: u32 = 1 << 3;
}

/// Interrupt controller (GIC architecture 1.0, ARM IHI 0048).
pub mod gic {
    pub const CONTROL: usize = 0x00;
    pub const ENABLE: u32 = 1;
    // Distributor.
    pub const SET_ENABLE: usize = 0x100;
    pub const SET_PENDING: usize = 0x200;
    pub const PRIORITY: usize = 0x400;
    pub const TARGET: usize = 0x800;
    // CPU interface.
    pub const PRIORITY_MASK: usize = 0x04;
    pub const ACKNOWLEDGE: usize = 0x0c;
    pub const END: usize = 0x10;
    pub const ID_MASK: u32 = 0x3ff;
    /// This number and those above say that nothing is pending.
    pub const SPURIOUS: u32 = 1020;
}

/// UART (UG585 B.33).
pub mod uart {
    pub const CONTROL: usize = 0x00;
    pub const INTERRUPT_ENABLE: usize = 0x08;
    pub const INTERRUPT_STATUS: usize = 0x14;
    pub const RX_TRIGGER: usize = 0x20;
    pub const STATUS: usize = 0x2c;
    pub const FIFO: usize = 0x30;
    pub const RESET: u32 = 0b11;
    pub const RX_ENABLE: u32 = 1 << 2;
    pub const TX_ENABLE: u32 = 1 << 4;
    pub const RX_TRIGGERED: u32 = 1 << 0;
    pub const RX_EMPTY: u32 = 1 << 1;
    pub const TX_FULL: u32 = 1 << 4;
}

/// System-level control registers (UG585 B.28).
pub mod slcr {
    pub const UNLOCK: usize = 0x008;
    pub const UNLOCK_KEY: u32 = 0xdf0d;
    pub const PSS_RST_CTRL: usize = 0x200;
    /// Why the system was reset.
    pub const REBOOT_STATUS: usize = 0x258;
    /// By the system's watchdog, or by one of the cores' own.
    pub const WATCHDOGS: u32 = 0b111 << 16;
}

/// `address` is a base and an offset from above.
pub fn read(address: usize) -> u32 {
    // SAFETY: only called with the constants of this module, which are registers without side effects
    // on memory.
    unsafe { read_volatile(with_exposed_provenance(address)) }
}

/// `address` is a base and an offset from above.
pub fn write(address: usize, value: u32) {
    // SAFETY: as for `read`.
    unsafe { write_volatile(with_exposed_provenance_mut(address), value) }
}

/// `address` is a base and an offset from above, of registers that allow byte access.
pub fn write_byte(address: usize, value: u8) {
    // SAFETY: as for `read`.
    unsafe { write_volatile(with_exposed_provenance_mut(address), value) }
}
