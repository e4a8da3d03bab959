//! The peripherals of the CMSDK (ARM DDI 0479) and where AN500 puts them.

use core::ptr::{
    read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile,
};

pub const TIMER0: usize = 0x4000_0000;
pub const TIMER1: usize = 0x4000_1000;
pub const UART0: usize = 0x4000_4000;
pub const UART1: usize = 0x4000_5000;
pub const WATCHDOG: usize = 0x4000_8000;

/// APB timer (§4.2): counts down at the system clock.
pub mod timer {
    pub const CTRL: usize = 0x00;
    pub const VALUE: usize = 0x04;
    pub const RELOAD: usize = 0x08;
    pub const CLEAR: usize = 0x0c;
    pub const ENABLE: u32 = 1 << 0;
    pub const INTERRUPT: u32 = 1 << 3;
}

/// APB UART (§4.3).
pub mod uart {
    pub const DATA: usize = 0x00;
    pub const STATE: usize = 0x04;
    pub const CTRL: usize = 0x08;
    pub const INTERRUPT: usize = 0x0c;
    pub const BAUDDIV: usize = 0x10;
    pub const TX_FULL: u32 = 1 << 0;
    pub const RX_FULL: u32 = 1 << 1;
    pub const TX_ENABLE: u32 = 1 << 0;
    pub const RX_ENABLE: u32 = 1 << 1;
    pub const RX_INTERRUPT: u32 = 1 << 3;
    pub const RX_PENDING: u32 = 1 << 1;
}

/// Why the core was reset (§4.8); QEMU does not have it, and says nothing.
pub mod reset {
    pub const INFO: usize = 0x4001_f010;
    pub const WATCHDOG: u32 = 1 << 1;
    /// No instruction could be executed any more, not even of the fault's handler.
    pub const LOCKUP: u32 = 1 << 2;
}

/// System control block (ARMv7-M, B3.2).
pub mod fault {
    pub const CFSR: usize = 0xe000_ed28;
    pub const HFSR: usize = 0xe000_ed2c;
    pub const MMFAR: usize = 0xe000_ed34;
    pub const BFAR: usize = 0xe000_ed38;
}

/// APB watchdog (§4.5): interrupts (NMI) after one period, resets after the second.
pub mod wdog {
    pub const LOAD: usize = 0x000;
    pub const CTRL: usize = 0x008;
    pub const CLEAR: usize = 0x00c;
    pub const LOCK: usize = 0xc00;
    pub const UNLOCK_KEY: u32 = 0x1acc_e551;
    pub const INTERRUPT: u32 = 1 << 0;
    pub const RESET: u32 = 1 << 1;
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
