//! Power, clocks, pins, memory and caches, from what reset left.

use cortex_m::Peripherals;

use crate::registers::{self as r, FLASH, GPIO, PWR, RCC, SYSCFG, flash, gpio, pwr, rcc, syscfg};

/// Core 400 MHz, buses 200 MHz, peripherals 100 MHz and their timers 200 MHz; memory cleared, caches on.
pub fn up() {
    clocks();
    for (register, bits) in [
        (rcc::AHB1ENR, rcc::ETH1MAC | rcc::ETH1TX | rcc::ETH1RX),
        (rcc::AHB2ENR, rcc::RNG | rcc::SRAM1_2_3),
        (rcc::AHB4ENR, 0x7f), // GPIOA to G
        (rcc::APB1LENR, rcc::TIM2 | rcc::TIM5 | rcc::USART3),
        (rcc::APB2ENR, rcc::USART6),
        (rcc::APB4ENR, rcc::SYSCFG),
    ] {
        r::set(RCC + register, bits);
        r::read(RCC + register); // the clock is there when this is over
    }
    clear_memory();
    caches();
    // The interface is chosen while the MAC is in reset.
    r::set(RCC + rcc::AHB1RSTR, rcc::ETH1MAC);
    let others = r::read(SYSCFG + syscfg::PMCR) & !syscfg::EPIS;
    r::write(SYSCFG + syscfg::PMCR, others | syscfg::EPIS_RMII);
    r::write(
        RCC + rcc::AHB1RSTR,
        r::read(RCC + rcc::AHB1RSTR) & !rcc::ETH1MAC,
    );
    for (letter, number, function) in PINS {
        pin(letter, number, function);
    }
}

/// From the 8 MHz that the board's debugger gives, which a quartz makes, or from the oscillator inside.
fn clocks() {
    r::write(PWR + pwr::CR3, pwr::LDO);
    r::wait(PWR + pwr::CSR1, pwr::ACTVOSRDY);
    r::write(PWR + pwr::D3CR, pwr::VOS1);
    r::wait(PWR + pwr::D3CR, pwr::VOSRDY);
    r::write(FLASH + flash::ACR, flash::FOR_200_MHZ);
    r::set(RCC + rcc::CR, rcc::HSEBYP | rcc::HSI48ON);
    r::set(RCC + rcc::CR, rcc::HSEON);
    let source = match r::wait(RCC + rcc::CR, rcc::HSERDY) {
        true => (2 << rcc::DIVM1_SHIFT) | rcc::PLLSRC_HSE,
        false => 16 << rcc::DIVM1_SHIFT, // 64 MHz
    };
    r::write(RCC + rcc::PLLCKSELR, source);
    r::write(RCC + rcc::PLLCFGR, rcc::PLL1_P);
    r::write(RCC + rcc::PLL1DIVR, rcc::PLL1_200_HALVED);
    r::set(RCC + rcc::CR, rcc::PLL1ON);
    r::wait(RCC + rcc::CR, rcc::PLL1RDY | rcc::HSI48RDY);
    r::write(RCC + rcc::D1CFGR, rcc::D1_HALVES);
    r::write(RCC + rcc::D2CFGR, rcc::D2_HALVES);
    r::write(RCC + rcc::D3CFGR, rcc::D3_HALVES);
    r::write(RCC + rcc::CFGR, rcc::SW_PLL1);
    while r::read(RCC + rcc::CFGR) & rcc::SWS != rcc::SWS_PLL1 {}
}

/// What `cortex-m-rt` does for its own memory: these statics begin as zeros.
fn clear_memory() {
    unsafe extern "C" {
        static mut __axi: u32;
        static mut __axi_end: u32;
        static mut __sram4: u32;
        static mut __sram4_end: u32;
    }
    for (start, end) in [
        (&raw mut __axi, &raw mut __axi_end),
        (&raw mut __sram4, &raw mut __sram4_end),
    ] {
        let mut at = start;
        while at < end {
            // SAFETY: between these symbols of memory.x are statics that are all zeros, which nobody has looked at yet.
            unsafe {
                at.write_volatile(0);
                at = at.add(1);
            }
        }
    }
}

/// Both caches, but none for the first 56 KiB of SRAM1, which the MAC shares.
fn caches() {
    // SAFETY: `up` runs once, before anybody else has the core's peripherals.
    let mut core = unsafe { Peripherals::steal() };
    // SAFETY: names memory that the MAC's rings alone are in (memory.x); all else stays as the core has it by default.
    unsafe {
        core.MPU.rnr.write(0);
        core.MPU.rbar.write(0x3000_0000);
        core.MPU.rasr.write(SHARED_56K);
        core.MPU.ctrl.write(MPU_ON_WITH_DEFAULTS);
    }
    cortex_m::asm::dsb();
    cortex_m::asm::isb();
    core.SCB.enable_icache();
    core.SCB.enable_dcache(&mut core.CPUID);
}

/// Never executed, read and written, normal memory that is not cached and shared; 2^16 bytes without the last eighth (ARMv7-M B3.5.9).
const SHARED_56K: u32 =
    (1 << 28) | (0b011 << 24) | (0b001 << 19) | (1 << 18) | (1 << 15) | (15 << 1) | 1;
const MPU_ON_WITH_DEFAULTS: u32 = (1 << 2) | (1 << 0);

/// RMII to the PHY, USART3 to the debugger, USART6 to the connector (D1, D0): UM1974 tables 12 and 17.
const PINS: [(char, usize, u32); 13] = [
    ('A', 1, 11),  // REF_CLK
    ('A', 2, 11),  // MDIO
    ('A', 7, 11),  // CRS_DV
    ('B', 13, 11), // TXD1
    ('C', 1, 11),  // MDC
    ('C', 4, 11),  // RXD0
    ('C', 5, 11),  // RXD1
    ('G', 11, 11), // TX_EN
    ('G', 13, 11), // TXD0
    ('D', 8, 7),   // USART3_TX
    ('D', 9, 7),   // USART3_RX
    ('G', 9, 7),   // USART6_RX
    ('G', 14, 7),  // USART6_TX
];

/// Gives a pin to a peripheral.
fn pin(letter: char, number: usize, function: u32) {
    let block = GPIO + gpio::BLOCK * (letter as usize - 'A' as usize);
    let field = |register: usize, width: usize, value: u32, place: usize| {
        let mask = (1 << width) - 1;
        let others = r::read(block + register) & !(mask << (width * place));
        r::write(block + register, others | (value << (width * place)));
    };
    field(gpio::OSPEEDR, 2, gpio::FASTEST, number);
    field(gpio::AFR + 4 * (number / 8), 4, function, number % 8);
    field(gpio::MODER, 2, gpio::ALTERNATE, number);
}
