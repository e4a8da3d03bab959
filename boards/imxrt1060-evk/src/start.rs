//! Power, clocks, pins, memory and caches, from what the part's ROM left.

use cortex_m::Peripherals;
use cortex_m::asm::delay;

use crate::registers::{
    self as r, CCM, CCM_ANALOG, DCDC, GPIO1, IOMUXC, IOMUXC_GPR, WDOG1, WDOG2, WDOG3, ccm, dcdc,
    gpio, gpr, iomuxc, pll, wdog, wdog3,
};

// All sixteen banks of the FlexRAM are DTCM (IMXRT1060RM, "IOMUXC GPR Memory Map": GPR17, GPR16), before anybody has a stack.
core::arch::global_asm!(
    ".section .text.__pre_init, \"ax\"",
    ".global __pre_init",
    ".type __pre_init, %function",
    ".thumb_func",
    "__pre_init:",
    "ldr r0, =0x400ac040",
    "ldr r1, =0xaaaaaaaa",
    "str r1, [r0, #4]",
    "ldr r1, [r0]",
    "orr r1, r1, #6", // FLEXRAM_BANK_CFG_SEL, INIT_DTCM_EN
    "str r1, [r0]",
    "dsb",
    "isb",
    "bx lr",
    ".pool",
    ".size __pre_init, . - __pre_init",
    ".text",
);

/// Core 528 MHz, peripherals 132 MHz, timers and UARTs 24 MHz; memory cleared, caches on, the PHY out of reset.
pub fn up() {
    other_watchdogs();
    for (register, gates) in [
        (ccm::CCGR0, ccm::gate(6) | ccm::gate(12) | ccm::gate(13)), // LPUART3, GPT2
        (
            ccm::CCGR1, // ENET, GPT1, GPIO1
            ccm::gate(5) | ccm::gate(10) | ccm::gate(11) | ccm::gate(13),
        ),
        (ccm::CCGR3, ccm::gate(8)),                // WDOG1
        (ccm::CCGR4, ccm::gate(1) | ccm::gate(2)), // IOMUXC, IOMUXC_GPR
        (ccm::CCGR5, ccm::gate(12)),               // LPUART1
        (ccm::CCGR6, ccm::gate(3) | ccm::gate(6)), // DCDC, TRNG
    ] {
        r::set(CCM + register, gates);
    }
    clocks();
    clear_memory();
    caches();
    for (pad, function, settings) in PINS {
        r::write(IOMUXC + pad, function);
        r::write(IOMUXC + pad + iomuxc::TO_PAD, settings);
    }
    for (input, pad) in INPUTS {
        r::write(IOMUXC + input, pad);
    }
    phy_out_of_reset();
}

/// The first two would pull a pin of the part low after 16 seconds; the third is on if a fuse says so.
fn other_watchdogs() {
    r::write_half(WDOG1 + wdog::WMCR, 0);
    r::write_half(WDOG2 + wdog::WMCR, 0);
    if r::read(WDOG3 + wdog3::CS) & wdog3::EN != 0 {
        r::write(WDOG3 + wdog3::CNT, wdog3::UNLOCK);
        r::write(WDOG3 + wdog3::TOVAL, 0xffff);
        r::replace(WDOG3 + wdog3::CS, wdog3::EN, wdog3::UPDATE);
    }
}

/// What the flash runs from, another PLL, stays as the ROM has set it: this code is read from there.
fn clocks() {
    r::replace(DCDC + dcdc::REG3, dcdc::TRG, dcdc::TRG_1250_MV);
    r::wait(DCDC + dcdc::REG0, dcdc::STS_DC_OK);
    // Onto the oscillator while the core's PLL changes.
    r::replace(CCM + ccm::CBCDR, ccm::PERIPH_CLK2_PODF, 0);
    r::replace(CCM + ccm::CBCMR, ccm::PERIPH_CLK2_SEL, ccm::PERIPH_CLK2_OSC);
    r::wait_clear(CCM + ccm::CDHIPR, u32::MAX);
    r::set(CCM + ccm::CBCDR, ccm::PERIPH_CLK_SEL);
    r::wait_clear(CCM + ccm::CDHIPR, u32::MAX);
    start_pll(pll::ARM, pll::ARM_1056_MHZ);
    r::replace(CCM + ccm::CCSR, ccm::PLL1_SW_CLK_SEL, 0);
    r::write(CCM + ccm::CACRR, ccm::ARM_PODF_2);
    r::set(CCM + ccm::CBCMR, ccm::PRE_PERIPH_CLK_ARM);
    r::replace(CCM + ccm::CBCDR, ccm::AHB_PODF, ccm::IPG_PODF_4);
    r::wait_clear(CCM + ccm::CDHIPR, u32::MAX);
    r::replace(CCM + ccm::CBCDR, ccm::PERIPH_CLK_SEL, 0);
    r::wait_clear(CCM + ccm::CDHIPR, u32::MAX);
    start_pll(pll::ENET, pll::ENET_50_MHZ);
    r::replace(CCM + ccm::CSCMR1, ccm::PERCLK_PODF, ccm::PERCLK_OSC);
    r::replace(CCM + ccm::CSCDR1, ccm::UART_CLK_PODF, ccm::UART_CLK_OSC);
    // Sleep stops the core's clock, no other.
    r::replace(CCM + ccm::CLPCR, ccm::LPM, 0);
}

/// From the oscillator; bypassed until it is locked.
fn start_pll(register: usize, divider: u32) {
    r::write(CCM_ANALOG + register, pll::BYPASS | pll::ENABLE | divider);
    r::wait(CCM_ANALOG + register, pll::LOCK);
    r::write(CCM_ANALOG + register, pll::ENABLE | divider);
}

/// What `cortex-m-rt` does for its own memory: these statics begin as zeros.
fn clear_memory() {
    unsafe extern "C" {
        static mut __ocram: u32;
        static mut __ocram_end: u32;
    }
    let mut at = &raw mut __ocram;
    while at < &raw mut __ocram_end {
        // SAFETY: between these symbols of memory.x are statics that are all zeros, which nobody has looked at yet.
        unsafe {
            at.write_volatile(0);
            at = at.add(1);
        }
    }
}

/// Both caches, but none for the first 56 KiB of OCRAM2, which the MAC shares. Where no memory is, the core may not look ahead:
/// the bus would never answer.
fn caches() {
    // SAFETY: `up` runs once, before anybody else has the core's peripherals.
    let mut core = unsafe { Peripherals::steal() };
    let regions = [
        (0x6000_0000, NOTHING | size(29)), // what the serial flash could be,
        (0x6000_0000, FLASH | size(23)),   // and what it is
        (0x8000_0000, NOTHING | size(30)), // external RAM
        (0x0000_0000, NOTHING | size(19)), // ITCM
        (0x2020_0000, SHARED | WITHOUT_LAST_EIGHTH | size(16)),
    ];
    for (number, (base, settings)) in (0..).zip(regions) {
        // SAFETY: takes away what is no memory, and names flash, and memory that the MAC's rings alone are in (memory.x); all
        // else stays as the core has it by default.
        unsafe {
            core.MPU.rnr.write(number);
            core.MPU.rbar.write(base);
            core.MPU.rasr.write(settings);
        }
    }
    // SAFETY: all regions are written.
    unsafe { core.MPU.ctrl.write(MPU_ON_WITH_DEFAULTS) };
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
    core.SCB.enable_icache();
    core.SCB.enable_dcache(&mut core.CPUID);
}

/// A region of 2^bits bytes that is on (ARMv7-M B3.5.9).
const fn size(bits: u32) -> u32 {
    ((bits - 1) << 1) | 1
}
/// Never executed, read or written; a device.
const NOTHING: u32 = (1 << 28) | (1 << 16);
/// Executed and read; normal memory, cached.
const FLASH: u32 = (0b110 << 24) | (0b001 << 19) | (0b11 << 16);
/// Never executed, read and written; normal memory, not cached and shared.
const SHARED: u32 = (1 << 28) | (0b011 << 24) | (0b001 << 19) | (1 << 18);
const WITHOUT_LAST_EIGHTH: u32 = 1 << 15;
const MPU_ON_WITH_DEFAULTS: u32 = (1 << 2) | (1 << 0);

/// The PHY's reset and interrupt: pins of GPIO1.
const PHY_RESET: u32 = 1 << 9;
const PHY_INTERRUPT: u32 = 1 << 10;

/// The PHY gets its clock, and leaves reset with its interrupt pin high: low, it would test its pins (KSZ8081 data sheet, NAND tree).
fn phy_out_of_reset() {
    r::replace(
        IOMUXC_GPR + gpr::GPR1,
        gpr::ENET1_CLK_SEL,
        gpr::ENET1_TX_CLK_DIR,
    );
    r::replace(GPIO1 + gpio::DR, PHY_RESET, PHY_INTERRUPT);
    r::set(GPIO1 + gpio::GDIR, PHY_RESET | PHY_INTERRUPT);
    delay(10 * CYCLES_PER_MILLI);
    r::set(GPIO1 + gpio::DR, PHY_RESET);
    delay(CYCLES_PER_MILLI);
}

const CYCLES_PER_MILLI: u32 = 528_000;

/// Fast, 200 MHz, pulled up by 100 kΩ.
const RMII: u32 = 0xb0e9;
/// Fast, 50 MHz, strongest but one, no pull: drives the reference clock.
const CLOCK: u32 = 0x31;
/// Pulled up by 100 kΩ, 100 MHz.
const OUTPUT: u32 = 0xb0a9;
/// A keeper, 100 MHz.
const UART: u32 = 0x10b0;

/// Pad, function and electrical settings: RMII to the PHY, its reset and interrupt, LPUART1 to the debugger, LPUART3 to the
/// connector (D1, D0): MIMXRT1060-EVK schematic, IMXRT1060RM, "External Signals and Pin Multiplexing".
const PINS: [(usize, u32, u32); 16] = [
    (iomuxc::B1_04, 3, RMII),                 // RX_DATA00
    (iomuxc::B1_05, 3, RMII),                 // RX_DATA01
    (iomuxc::B1_06, 3, RMII),                 // RX_EN
    (iomuxc::B1_07, 3, RMII),                 // TX_DATA00
    (iomuxc::B1_08, 3, RMII),                 // TX_DATA01
    (iomuxc::B1_09, 3, RMII),                 // TX_EN
    (iomuxc::B1_10, 6 | iomuxc::SION, CLOCK), // REF_CLK
    (iomuxc::B1_11, 3, RMII),                 // RX_ER
    (iomuxc::EMC_40, 4, RMII),                // MDC
    (iomuxc::EMC_41, 4, RMII),                // MDIO
    (iomuxc::AD_B0_09, 5, OUTPUT),            // GPIO1_IO09, reset
    (iomuxc::AD_B0_10, 5, OUTPUT),            // GPIO1_IO10, interrupt
    (iomuxc::AD_B0_12, 2, UART),              // LPUART1_TX
    (iomuxc::AD_B0_13, 2, UART),              // LPUART1_RX
    (iomuxc::AD_B1_06, 2, UART),              // LPUART3_TX
    (iomuxc::AD_B1_07, 2, UART),              // LPUART3_RX
];

/// Which of several pads an input comes from.
const INPUTS: [(usize, u32); 8] = [
    (iomuxc::ENET_IPG_CLK_RMII_SELECT_INPUT, 1), // B1_10
    (iomuxc::ENET_MDIO_SELECT_INPUT, 1),         // EMC_41
    (iomuxc::ENET0_RXDATA_SELECT_INPUT, 1),      // B1_04
    (iomuxc::ENET1_RXDATA_SELECT_INPUT, 1),      // B1_05
    (iomuxc::ENET_RXEN_SELECT_INPUT, 1),         // B1_06
    (iomuxc::ENET_RXERR_SELECT_INPUT, 1),        // B1_11
    (iomuxc::LPUART3_RX_SELECT_INPUT, 0),        // AD_B1_07
    (iomuxc::LPUART3_TX_SELECT_INPUT, 0),        // AD_B1_06
];
