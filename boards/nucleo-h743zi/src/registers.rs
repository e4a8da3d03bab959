//! The peripherals of the STM32H743 (RM0433) that the board uses besides its MAC.

use core::ptr::{
    read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile,
};

pub const TIM2: usize = 0x4000_0000;
pub const TIM5: usize = 0x4000_0c00;
pub const USART3: usize = 0x4000_4800;
pub const USART6: usize = 0x4001_1400;
pub const RNG: usize = 0x4802_1800;
pub const FLASH: usize = 0x5200_2000;
pub const SYSCFG: usize = 0x5800_0400;
pub const GPIO: usize = 0x5802_0000;
pub const RCC: usize = 0x5802_4400;
pub const PWR: usize = 0x5802_4800;
pub const IWDG1: usize = 0x5800_4800;

/// 32-bit timers (§39).
pub mod tim {
    pub const CR1: usize = 0x00;
    pub const DIER: usize = 0x0c;
    pub const SR: usize = 0x10;
    pub const EGR: usize = 0x14;
    pub const CNT: usize = 0x24;
    pub const PSC: usize = 0x28;
    pub const ARR: usize = 0x2c;
    pub const CEN: u32 = 1 << 0;
    /// Only an overflow is an update that interrupts.
    pub const URS: u32 = 1 << 2;
    /// Stops at the overflow.
    pub const OPM: u32 = 1 << 3;
    pub const UIE: u32 = 1 << 0;
    pub const UG: u32 = 1 << 0;
}

/// USART (§48).
pub mod usart {
    pub const CR1: usize = 0x00;
    pub const BRR: usize = 0x0c;
    pub const ISR: usize = 0x1c;
    pub const ICR: usize = 0x20;
    pub const RDR: usize = 0x24;
    pub const TDR: usize = 0x28;
    pub const UE: u32 = 1 << 0;
    pub const RE: u32 = 1 << 2;
    pub const TE: u32 = 1 << 3;
    pub const RXFNEIE: u32 = 1 << 5;
    pub const FIFOEN: u32 = 1 << 29;
    /// Parity, framing, noise and overrun, in ISR and in ICR.
    pub const ERRORS: u32 = 0xf;
    pub const RXFNE: u32 = 1 << 5;
    pub const TXFNF: u32 = 1 << 7;
}

/// True random number generator (§34).
pub mod rng {
    pub const CR: usize = 0x00;
    pub const SR: usize = 0x04;
    pub const DR: usize = 0x08;
    pub const RNGEN: u32 = 1 << 2;
    pub const DRDY: u32 = 1 << 0;
    /// Clock or seed error, now or since the last look.
    pub const ERRORS: u32 = 0b110_0110;
}

/// Flash interface (§4.9).
pub mod flash {
    pub const ACR: usize = 0x00;
    /// Two wait states and the delay for up to 210 MHz at VOS1 (table 17).
    pub const FOR_200_MHZ: u32 = (2 << 4) | 2;
}

/// System configuration (§13).
pub mod syscfg {
    pub const PMCR: usize = 0x04;
    pub const EPIS: u32 = 7 << 21;
    pub const EPIS_RMII: u32 = 4 << 21;
}

/// General-purpose pins (§11): one block for each letter.
pub mod gpio {
    pub const BLOCK: usize = 0x400;
    pub const MODER: usize = 0x00;
    pub const OSPEEDR: usize = 0x08;
    pub const AFR: usize = 0x20;
    pub const ALTERNATE: u32 = 2;
    pub const FASTEST: u32 = 3;
}

/// Power (§6.8).
pub mod pwr {
    pub const CSR1: usize = 0x04;
    pub const CR3: usize = 0x0c;
    pub const D3CR: usize = 0x18;
    pub const ACTVOSRDY: u32 = 1 << 13;
    /// The core is fed by the regulator inside, as the Nucleo is wired; this is said once.
    pub const LDO: u32 = (1 << 2) | (1 << 1);
    pub const VOS1: u32 = 3 << 14;
    pub const VOSRDY: u32 = 1 << 13;
}

/// Clocks and resets (§8.7).
pub mod rcc {
    pub const CR: usize = 0x00;
    pub const CFGR: usize = 0x10;
    pub const D1CFGR: usize = 0x18;
    pub const D2CFGR: usize = 0x1c;
    pub const D3CFGR: usize = 0x20;
    pub const PLLCKSELR: usize = 0x28;
    pub const PLLCFGR: usize = 0x2c;
    pub const PLL1DIVR: usize = 0x30;
    pub const AHB1RSTR: usize = 0x80;
    pub const AHB1ENR: usize = 0xd8;
    pub const AHB2ENR: usize = 0xdc;
    pub const AHB4ENR: usize = 0xe0;
    pub const APB1LENR: usize = 0xe8;
    pub const APB2ENR: usize = 0xf0;
    pub const APB4ENR: usize = 0xf4;
    pub const HSI48ON: u32 = 1 << 12;
    pub const HSI48RDY: u32 = 1 << 13;
    pub const HSEON: u32 = 1 << 16;
    pub const HSERDY: u32 = 1 << 17;
    pub const HSEBYP: u32 = 1 << 18;
    pub const PLL1ON: u32 = 1 << 24;
    pub const PLL1RDY: u32 = 1 << 25;
    pub const SW_PLL1: u32 = 3;
    pub const SWS: u32 = 7 << 3;
    pub const SWS_PLL1: u32 = 3 << 3;
    /// AHB at half of the core's clock, APB3 at half of that.
    pub const D1_HALVES: u32 = (4 << 4) | 8;
    /// APB1 and APB2 at half of AHB.
    pub const D2_HALVES: u32 = (4 << 8) | (4 << 4);
    /// APB4 at half of AHB.
    pub const D3_HALVES: u32 = 4 << 4;
    pub const PLLSRC_HSE: u32 = 2;
    pub const DIVM1_SHIFT: u32 = 4;
    /// Output P alone, wide oscillator, 4 to 8 MHz at its input.
    pub const PLL1_P: u32 = (1 << 16) | (2 << 2);
    /// 200 times the input, halved.
    pub const PLL1_200_HALVED: u32 = ((2 - 1) << 9) | (200 - 1);
    pub const ETH1MAC: u32 = 1 << 15;
    pub const ETH1TX: u32 = 1 << 16;
    pub const ETH1RX: u32 = 1 << 17;
    pub const RNG: u32 = 1 << 6;
    pub const SRAM1_2_3: u32 = 7 << 29;
    pub const TIM2: u32 = 1 << 0;
    pub const TIM5: u32 = 1 << 3;
    pub const USART3: u32 = 1 << 18;
    pub const USART6: u32 = 1 << 5;
    pub const SYSCFG: u32 = 1 << 1;
}

/// Independent watchdog (§45).
pub mod iwdg {
    pub const KR: usize = 0x00;
    pub const PR: usize = 0x04;
    pub const RLR: usize = 0x08;
    pub const START: u32 = 0xcccc;
    pub const UNLOCK: u32 = 0x5555;
    pub const FEED: u32 = 0xaaaa;
    /// 32 kHz / 256.
    pub const HERTZ: u32 = 125;
    pub const BY_256: u32 = 6;
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

/// Sets bits of a register.
pub fn set(address: usize, bits: u32) {
    write(address, read(address) | bits);
}

/// Polls until all of these bits are set, at most for a while.
pub fn wait(address: usize, bits: u32) -> bool {
    (0..100_000).any(|_| read(address) & bits == bits)
}
