//! The peripherals of the i.MX RT1060 (IMXRT1060RM) that the board uses besides its MAC.

use core::ptr::{
    read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile,
};

pub const DCDC: usize = 0x4008_0000;
pub const IOMUXC_GPR: usize = 0x400a_c000;
pub const WDOG1: usize = 0x400b_8000;
pub const WDOG3: usize = 0x400b_c000;
pub const TRNG: usize = 0x400c_c000;
pub const WDOG2: usize = 0x400d_0000;
pub const CCM_ANALOG: usize = 0x400d_8000;
pub const CCM: usize = 0x400f_c000;
pub const LPUART1: usize = 0x4018_4000;
pub const LPUART3: usize = 0x4018_c000;
pub const GPIO1: usize = 0x401b_8000;
pub const GPT1: usize = 0x401e_c000;
pub const GPT2: usize = 0x401f_0000;
pub const IOMUXC: usize = 0x401f_8000;

/// 32-bit timers ("GPT").
pub mod gpt {
    pub const CR: usize = 0x00;
    pub const SR: usize = 0x08;
    pub const IR: usize = 0x0c;
    pub const OCR1: usize = 0x10;
    pub const CNT: usize = 0x24;
    pub const EN: u32 = 1 << 0;
    /// Begins at zero whenever it is enabled.
    pub const ENMOD: u32 = 1 << 1;
    /// Counts in wait mode.
    pub const WAITEN: u32 = 1 << 3;
    /// PERCLK, which is the oscillator's 24 MHz.
    pub const PERIPHERAL_CLOCK: u32 = 1 << 6;
    /// Never restarts; otherwise it does at OCR1.
    pub const FRR: u32 = 1 << 9;
    pub const OF1IE: u32 = 1 << 0;
    pub const ALL: u32 = 0x3f;
}

/// UART ("LPUART").
pub mod lpuart {
    pub const BAUD: usize = 0x10;
    pub const STAT: usize = 0x14;
    pub const CTRL: usize = 0x18;
    pub const DATA: usize = 0x1c;
    pub const FIFO: usize = 0x28;
    pub const WATER: usize = 0x2c;
    pub const RE: u32 = 1 << 18;
    pub const RIE: u32 = 1 << 21;
    const TE: u32 = 1 << 19;
    /// 24 MHz / 16 / 13 = 115,385 baud.
    const BAUD_115200: u32 = (15 << 24) | 13;
    const RXFE_TXFE: u32 = (1 << 3) | (1 << 7);
    /// TDRE says that there is room for one more of four.
    const TXWATER: u32 = 3;
    /// Parity, framing, noise and overrun.
    pub const ERRORS: u32 = 0xf << 16;
    pub const RDRF: u32 = 1 << 21;
    pub const TDRE: u32 = 1 << 23;

    /// Starts the transmitter of the UART at `base`, and what else is in `control`.
    pub fn start(base: usize, control: u32) {
        super::write(base + CTRL, 0);
        super::write(base + BAUD, BAUD_115200);
        super::write(base + FIFO, RXFE_TXFE);
        super::write(base + WATER, TXWATER);
        super::write(base + CTRL, TE | control);
    }
}

/// True random number generator (the part's security reference manual, "TRNG").
pub mod trng {
    pub const MCTL: usize = 0x00;
    pub const ENT: usize = 0x40;
    /// Reading the last word begins the next number.
    pub const ENT15: usize = 0x7c;
    /// Von Neumann's for the number, raw bits for the checks of them.
    pub const SAMPLES: u32 = 2;
    const RST_DEF: u32 = 1 << 6;
    pub const ENT_VAL: u32 = 1 << 10;
    /// Written as one, it clears.
    pub const ERR: u32 = 1 << 12;
    const PRGM: u32 = 1 << 16;
    /// What the checks let pass (limits, and ranges below them), and how long it samples; as NXP's own driver has it for this part.
    const CHECKS: [(usize, u32); 14] = [
        (0x04, (15 << 16) | 34),     // SCMISC: tries, longest run
        (0x08, 2467),                // PKRRNG
        (0x0c, 26_912),              // PKRMAX
        (0x10, (3200 << 16) | 2500), // SDCTL: delay, samples
        (0x14, 63),                  // SBLIM
        (0x18, 1600),                // FRQMIN
        (0x1c, 25_600),              // FRQMAX
        (0x20, (268 << 16) | 1384),  // SCML: ones
        (0x24, (178 << 16) | 405),   // SCR1L to SCR6PL: runs of 1 to 6
        (0x28, (122 << 16) | 220),
        (0x2c, (88 << 16) | 125),
        (0x30, (64 << 16) | 75),
        (0x34, (46 << 16) | 47),
        (0x38, (46 << 16) | 47),
    ];

    /// Begins the first number.
    pub fn start() {
        super::write(super::TRNG + MCTL, PRGM | RST_DEF);
        for (register, value) in CHECKS {
            super::write(super::TRNG + register, value);
        }
        super::write(super::TRNG + MCTL, PRGM | SAMPLES);
        super::write(super::TRNG + MCTL, SAMPLES);
        super::read(super::TRNG + ENT15);
    }
}

/// General-purpose pins ("GPIO").
pub mod gpio {
    pub const DR: usize = 0x00;
    pub const GDIR: usize = 0x04;
}

/// Pads ("IOMUXC"): offsets are those of the pads' multiplexers.
pub mod iomuxc {
    pub const EMC_40: usize = 0x0b4;
    pub const EMC_41: usize = 0x0b8;
    pub const AD_B0_09: usize = 0x0e0;
    pub const AD_B0_10: usize = 0x0e4;
    pub const AD_B0_12: usize = 0x0ec;
    pub const AD_B0_13: usize = 0x0f0;
    pub const AD_B1_06: usize = 0x114;
    pub const AD_B1_07: usize = 0x118;
    pub const B1_04: usize = 0x18c;
    pub const B1_05: usize = 0x190;
    pub const B1_06: usize = 0x194;
    pub const B1_07: usize = 0x198;
    pub const B1_08: usize = 0x19c;
    pub const B1_09: usize = 0x1a0;
    pub const B1_10: usize = 0x1a4;
    pub const B1_11: usize = 0x1a8;
    /// From a pad's multiplexer to its electrical settings.
    pub const TO_PAD: usize = 0x1f0;
    pub const ENET_IPG_CLK_RMII_SELECT_INPUT: usize = 0x42c;
    pub const ENET_MDIO_SELECT_INPUT: usize = 0x430;
    pub const ENET0_RXDATA_SELECT_INPUT: usize = 0x434;
    pub const ENET1_RXDATA_SELECT_INPUT: usize = 0x438;
    pub const ENET_RXEN_SELECT_INPUT: usize = 0x43c;
    pub const ENET_RXERR_SELECT_INPUT: usize = 0x440;
    pub const LPUART3_RX_SELECT_INPUT: usize = 0x538;
    pub const LPUART3_TX_SELECT_INPUT: usize = 0x53c;
    /// The pad is an input whatever drives it.
    pub const SION: u32 = 1 << 4;
}

/// Settings of the part ("IOMUXC GPR").
pub mod gpr {
    pub const GPR1: usize = 0x04;
    pub const ENET1_CLK_SEL: u32 = 1 << 13;
    /// The reference clock leaves through its pad.
    pub const ENET1_TX_CLK_DIR: u32 = 1 << 17;
}

/// Clocks ("CCM").
pub mod ccm {
    pub const CCSR: usize = 0x0c;
    pub const CACRR: usize = 0x10;
    pub const CBCDR: usize = 0x14;
    pub const CBCMR: usize = 0x18;
    pub const CSCMR1: usize = 0x1c;
    pub const CSCDR1: usize = 0x24;
    pub const CDHIPR: usize = 0x48;
    pub const CLPCR: usize = 0x54;
    pub const CCGR0: usize = 0x68;
    pub const CCGR1: usize = 0x6c;
    pub const CCGR3: usize = 0x74;
    pub const CCGR4: usize = 0x78;
    pub const CCGR5: usize = 0x7c;
    pub const CCGR6: usize = 0x80;
    pub const PLL1_SW_CLK_SEL: u32 = 1 << 2;
    pub const ARM_PODF_2: u32 = 1;
    pub const PERIPH_CLK_SEL: u32 = 1 << 25;
    pub const PERIPH_CLK2_PODF: u32 = 7 << 27;
    pub const AHB_PODF: u32 = 7 << 10;
    pub const IPG_PODF_4: u32 = 3 << 8;
    pub const PERIPH_CLK2_SEL: u32 = 3 << 12;
    pub const PERIPH_CLK2_OSC: u32 = 1 << 12;
    /// PLL1, divided.
    pub const PRE_PERIPH_CLK_ARM: u32 = 3 << 18;
    pub const PERCLK_PODF: u32 = 0x3f;
    pub const PERCLK_OSC: u32 = 1 << 6;
    pub const UART_CLK_PODF: u32 = 0x3f;
    pub const UART_CLK_OSC: u32 = 1 << 6;
    pub const LPM: u32 = 3;

    /// The clock of one gate, always on.
    pub const fn gate(number: u32) -> u32 {
        3 << (2 * number)
    }
}

/// PLLs ("CCM Analog").
pub mod pll {
    pub const ARM: usize = 0x00;
    pub const ENET: usize = 0xe0;
    pub const ENABLE: u32 = 1 << 13;
    pub const BYPASS: u32 = 1 << 16;
    pub const LOCK: u32 = 1 << 31;
    /// 24 MHz * 88 / 2.
    pub const ARM_1056_MHZ: u32 = 88;
    /// Reference clock of ENET1.
    pub const ENET_50_MHZ: u32 = 1;
}

/// The core's supply ("DCDC").
pub mod dcdc {
    pub const REG0: usize = 0x00;
    pub const REG3: usize = 0x0c;
    pub const STS_DC_OK: u32 = 1 << 31;
    pub const TRG: u32 = 0x1f;
    /// (1.25 - 0.8) V / 25 mV.
    pub const TRG_1250_MV: u32 = 18;
}

/// Watchdogs 1 and 2 ("WDOG1-2"), of 16-bit registers.
pub mod wdog {
    pub const WCR: usize = 0x00;
    pub const WSR: usize = 0x02;
    pub const WMCR: usize = 0x08;
    /// Half seconds, less one.
    pub const WT_SHIFT: u32 = 8;
    pub const WDA: u16 = 1 << 5;
    pub const SRS: u16 = 1 << 4;
    pub const WDE: u16 = 1 << 2;
}

/// Watchdog 3 ("RTWDOG").
pub mod wdog3 {
    pub const CS: usize = 0x00;
    pub const CNT: usize = 0x04;
    pub const TOVAL: usize = 0x08;
    pub const UNLOCK: u32 = 0xd928_c520;
    pub const EN: u32 = 1 << 7;
    pub const UPDATE: u32 = 1 << 5;
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

/// A register of 16 bits.
pub fn write_half(address: usize, value: u16) {
    // SAFETY: as for `read`.
    unsafe { write_volatile(with_exposed_provenance_mut(address), value) }
}

/// Sets bits of a register.
pub fn set(address: usize, bits: u32) {
    write(address, read(address) | bits);
}

/// Clears some bits of a register and sets others.
pub fn replace(address: usize, clear: u32, set: u32) {
    write(address, read(address) & !clear | set);
}

/// Polls until all of these bits are set, at most for a while.
pub fn wait(address: usize, bits: u32) -> bool {
    (0..POLLS).any(|_| read(address) & bits == bits)
}

/// Polls until all of these bits are clear, at most for a while.
pub fn wait_clear(address: usize, bits: u32) -> bool {
    (0..POLLS).any(|_| read(address) & bits == 0)
}

const POLLS: u32 = 100_000;
