//! The debug logic of a Cortex-M that QEMU does not have: halting, stepping, breakpoints, reset catch (ARMv7-M, part C).

use std::collections::HashMap;

use crate::{
    Faults,
    gdb::{Stub, StubError, register},
};

/// A core with its debug registers.
#[derive(Debug)]
pub struct Core {
    stub: Stub,
    faults: Faults,
    /// C_DEBUGEN, C_HALT, C_STEP, C_MASKINTS as written.
    control: u32,
    /// Why it halted, one bit a reason.
    reasons: u32,
    /// DEMCR.
    monitor: u32,
    /// DCRDR.
    transfer: u32,
    /// Registers that the stub does not have.
    special: HashMap<u32, u32>,
    was_reset: bool,
    /// It could not even read its first instruction.
    locked_up: bool,
    /// It is said to run and does nothing.
    stuck: bool,
    in_reset: bool,
    /// Let out of reset with the catch armed, before debugging was enabled: halts when it is.
    caught: bool,
    breakpoints_on: bool,
    breakpoints: [u32; BREAKPOINTS],
    /// Where BKPT instructions stand that flash algorithms return to.
    returns: Vec<u32>,
    /// Memory behind what was read last: a core that runs is not stopped for every piece of a long read.
    ahead: (u32, Vec<u8>),
}

const BREAKPOINTS: usize = 8;

/// The longest piece that is read ahead.
const AHEAD: usize = 0x4000;
/// A read of so many bytes may be one of many.
const LONG: usize = 256;

const ENABLE: u32 = 1;
const HALT: u32 = 1 << 1;
const STEP: u32 = 1 << 2;
/// What must stand in the upper half to write DHCSR.
const DEBUG_KEY: u32 = 0xa05f;
const READY: u32 = 1 << 16;
const IS_HALTED: u32 = 1 << 17;
const IS_LOCKED_UP: u32 = 1 << 19;
const WAS_RESET: u32 = 1 << 25;

const BY_REQUEST: u32 = 1;
const BY_BREAKPOINT: u32 = 1 << 1;
const BY_RESET: u32 = 1 << 3;

/// The bit of xPSR without which a Cortex-M executes nothing.
const THUMB: u32 = 1 << 24;

/// VC_CORERESET of DEMCR.
const CATCH_RESET: u32 = 1;

mod address {
    pub const BREAKPOINT_CONTROL: u32 = 0xe000_2000;
    pub const BREAKPOINT_FIRST: u32 = 0xe000_2008;
    pub const BREAKPOINT_LAST: u32 = BREAKPOINT_FIRST + 4 * (super::BREAKPOINTS as u32 - 1);
    pub const AIRCR: u32 = 0xe000_ed0c;
    pub const DFSR: u32 = 0xe000_ed30;
    pub const DHCSR: u32 = 0xe000_edf0;
    pub const DCRSR: u32 = 0xe000_edf4;
    pub const DCRDR: u32 = 0xe000_edf8;
    pub const DEMCR: u32 = 0xe000_edfc;
    /// The instrumentation and watchpoint units, which are not there.
    pub const TRACE_FIRST: u32 = 0xe000_0000;
    pub const TRACE_LAST: u32 = 0xe000_1fff;
    pub const ROM_TABLE: u32 = 0xe00f_f000;
    pub const ROM_TABLE_LAST: u32 = 0xe00f_ffff;
}

impl Core {
    /// A core behind this stub, running.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn new(stub: Stub, faults: Faults) -> Result<Self, StubError> {
        let mut core = Self {
            stub,
            faults,
            control: 0,
            reasons: 0,
            monitor: 0,
            transfer: 0,
            special: HashMap::new(),
            was_reset: true,
            locked_up: false,
            stuck: false,
            in_reset: false,
            caught: false,
            breakpoints_on: false,
            breakpoints: [0; BREAKPOINTS],
            returns: Vec::new(),
            ahead: (0, Vec::new()),
        };
        core.start()?;
        Ok(core)
    }

    /// Reads memory or debug registers.
    ///
    /// # Errors
    /// If nothing is there, or it cannot be had.
    pub fn read(&mut self, address: u32, length: usize) -> Result<Vec<u8>, StubError> {
        if !is_private(address) {
            self.allowed(address, length)?;
            let mut bytes = self.read_on(address, length)?;
            self.faults.spoil(address, &mut bytes);
            return Ok(bytes);
        }
        self.ahead.1.clear();
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let at = address.wrapping_add(bytes.len() as u32);
            let word = self.register(at & !3)?.to_le_bytes();
            let missing = length - bytes.len();
            bytes.extend(word.iter().skip((at & 3) as usize).take(missing));
        }
        Ok(bytes)
    }

    /// Writes memory or debug registers.
    ///
    /// # Errors
    /// If nothing is there, or it cannot be had.
    pub fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), StubError> {
        self.ahead.1.clear();
        let (words, rest) = bytes.as_chunks();
        if !is_private(address) || address & 3 != 0 || !rest.is_empty() {
            self.allowed(address, bytes.len())?;
            return self.stub.write(address, bytes);
        }
        for (index, word) in words.iter().enumerate() {
            let at = address.wrapping_add(4 * index as u32);
            self.set_register(at, u32::from_le_bytes(*word))?;
        }
        Ok(())
    }

    /// Reads memory, and more than was asked for if that looks like the beginning of more.
    fn read_on(&mut self, address: u32, length: usize) -> Result<Vec<u8>, StubError> {
        let (next, ahead) = &mut self.ahead;
        if *next == address && ahead.len() >= length {
            let rest = ahead.split_off(length);
            *next = address.wrapping_add(length as u32);
            return Ok(std::mem::replace(ahead, rest));
        }
        ahead.clear();
        let aligned = address.is_multiple_of(AHEAD as u32);
        // What begins at such an address has this much memory behind it.
        if length >= LONG && (aligned || *next == address) {
            let end = (address as usize / AHEAD + 1) * AHEAD;
            let wanted = (end - address as usize).max(length);
            let mut bytes = self.stub.read(address, wanted)?;
            let rest = bytes.split_off(length);
            self.ahead = (address.wrapping_add(length as u32), rest);
            return Ok(bytes);
        }
        self.ahead.0 = address.wrapping_add(length as u32);
        self.stub.read(address, length)
    }

    /// Holds the reset line or lets it go.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn hold_in_reset(&mut self, hold: bool) -> Result<(), StubError> {
        let was = std::mem::replace(&mut self.in_reset, hold);
        match (was, hold) {
            (false, true) => self.reset(),
            (true, false) if self.monitor & CATCH_RESET == 0 => self.start(),
            (true, false) => {
                self.reasons |= BY_RESET;
                self.caught = self.control & ENABLE == 0;
                if !self.caught {
                    self.control |= HALT;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn register(&mut self, at: u32) -> Result<u32, StubError> {
        if let Some(value) = identification(at) {
            return Ok(value);
        }
        Ok(match at {
            address::DHCSR => self.status()?,
            address::DCRDR => self.transfer,
            address::DEMCR => self.monitor,
            address::DFSR => {
                self.halted()?;
                self.reasons
            }
            address::BREAKPOINT_CONTROL => {
                // Version 2, eight comparators.
                0x1000_0080 | u32::from(self.breakpoints_on)
            }
            address::BREAKPOINT_FIRST..=address::BREAKPOINT_LAST => {
                self.breakpoints[comparator(at)]
            }
            address::TRACE_FIRST..=address::TRACE_LAST => 0,
            // What the core has, relative to the table itself: SCS, DWT, FPB, ITM.
            address::ROM_TABLE => 0xfff0_f003,
            0xe00f_f004 => 0xfff0_2003,
            0xe00f_f008 => 0xfff0_3003,
            0xe00f_f00c => 0xfff0_1003,
            0xe00f_f010..=address::ROM_TABLE_LAST => 0,
            _ => match self.stub.read(at, 4)?.try_into() {
                Ok(word) => u32::from_le_bytes(word),
                Err(_) => 0,
            },
        })
    }

    fn set_register(&mut self, at: u32, value: u32) -> Result<(), StubError> {
        match at {
            address::DHCSR if value >> 16 == DEBUG_KEY => self.command(value)?,
            address::DHCSR => {}
            address::DCRSR => self.transfer(value)?,
            address::DCRDR => self.transfer = value,
            address::DEMCR => self.monitor = value,
            address::DFSR => self.reasons &= !value,
            address::AIRCR if value >> 16 == 0x05fa && value & 4 != 0 => self.reset()?,
            address::BREAKPOINT_CONTROL if value & 2 != 0 => {
                self.breakpoints_on = value & 1 != 0;
                for comparator in self.breakpoints {
                    self.arm(comparator, self.breakpoints_on)?;
                }
            }
            address::BREAKPOINT_CONTROL => {}
            address::BREAKPOINT_FIRST..=address::BREAKPOINT_LAST => {
                let old = std::mem::replace(&mut self.breakpoints[comparator(at)], value);
                if self.breakpoints_on {
                    self.arm(old, false)?;
                    self.arm(value, true)?;
                }
            }
            address::TRACE_FIRST..=address::TRACE_LAST => {}
            _ => self.stub.write(at, &value.to_le_bytes())?,
        }
        Ok(())
    }

    fn status(&mut self) -> Result<u32, StubError> {
        let halted = self.halted()?;
        let mut status = (self.control & 0xf) | READY;
        match halted {
            true => status |= IS_HALTED,
            false => status &= !HALT,
        }
        if self.locked_up {
            status |= IS_LOCKED_UP;
        }
        if std::mem::take(&mut self.was_reset) {
            status |= WAS_RESET;
        }
        Ok(status)
    }

    fn halted(&mut self) -> Result<bool, StubError> {
        let halted = !self.stub.runs()? && !self.locked_up && !self.stuck;
        if self.stub.take_hit() {
            self.reasons |= BY_BREAKPOINT;
        }
        // Whatever halts the core sets C_HALT, and debuggers write back what they read.
        if halted && self.control & ENABLE != 0 {
            self.control |= HALT;
        }
        Ok(halted)
    }

    /// DHCSR as a debugger writes it.
    fn command(&mut self, value: u32) -> Result<(), StubError> {
        let halted = self.halted()?;
        if value & ENABLE != 0 && std::mem::take(&mut self.caught) {
            self.control = ENABLE | HALT;
            return Ok(());
        }
        self.control = value & 0xf;
        let halts = value & (ENABLE | HALT) == ENABLE | HALT;
        if halts && !halted {
            self.stub.halt()?;
            self.locked_up = false;
            self.stuck = false;
            self.reasons |= BY_REQUEST;
        } else if !halts && halted && value & (ENABLE | STEP) == ENABLE | STEP {
            if self.can_go_on()? {
                self.stub.step()?;
            }
            self.reasons |= BY_REQUEST;
            self.control |= HALT;
        } else if !halts && halted {
            self.resume()?;
        }
        Ok(())
    }

    /// DCRSR: a register of the core to or from DCRDR.
    fn transfer(&mut self, value: u32) -> Result<(), StubError> {
        let number = value & 0x7f;
        let writes = value >> 16 & 1 != 0;
        let known = match number {
            0..=15 => Some(number),
            16 => Some(register::XPSR),
            // The main stack is the one in use: nothing of ours runs on the other.
            17 => Some(register::SP),
            _ => None,
        };
        match (known, writes) {
            (Some(number), true) => self.stub.set_register(number, self.transfer)?,
            (Some(number), false) => self.transfer = self.stub.register(number)?,
            (None, true) => {
                self.special.insert(number, self.transfer);
            }
            (None, false) => self.transfer = self.special.get(&number).copied().unwrap_or(0),
        }
        Ok(())
    }

    fn resume(&mut self) -> Result<(), StubError> {
        // QEMU takes a BKPT for a fault of the program, where silicon halts for the debugger: the one that a flash algorithm
        // returns to becomes a breakpoint.
        let back = self.stub.register(register::LR)? & !1;
        if !is_private(back) && !self.returns.contains(&back) {
            let is_break = self.stub.read(back, 2).is_ok_and(|code| code[1] == 0xbe);
            if is_break {
                self.stub.set_breakpoint(back)?;
                self.returns.push(back);
                if self.faults.sticks() {
                    self.stuck = true;
                    return Ok(());
                }
            }
        } else if self.returns.contains(&back) && self.faults.sticks() {
            self.stuck = true;
            return Ok(());
        }
        self.start()
    }

    fn start(&mut self) -> Result<(), StubError> {
        self.locked_up = !self.can_go_on()?;
        match self.locked_up {
            true => Ok(()),
            false => self.stub.resume(),
        }
    }

    /// Whether there is code to go on with. An erased part has none and locks up, where the emulator would end itself.
    fn can_go_on(&mut self) -> Result<bool, StubError> {
        let next = self.stub.register(register::PC)?;
        let is_thumb = self.stub.register(register::XPSR)? & THUMB != 0;
        Ok(is_thumb && next != 0 && next < 0xf000_0000)
    }

    fn reset(&mut self) -> Result<(), StubError> {
        self.stub.reset()?;
        self.returns.clear();
        self.was_reset = true;
        self.reasons = 0;
        self.locked_up = false;
        self.stuck = false;
        let caught = self.monitor & CATCH_RESET != 0 && self.control & ENABLE != 0;
        if caught {
            self.reasons |= BY_RESET;
            self.control |= HALT;
            return Ok(());
        }
        self.control &= !HALT;
        match self.in_reset {
            true => Ok(()),
            false => self.start(),
        }
    }

    fn arm(&mut self, comparator: u32, on: bool) -> Result<(), StubError> {
        let at = comparator & !1;
        match (comparator & 1 != 0, on) {
            (true, true) => self.stub.set_breakpoint(at),
            (true, false) => self.stub.clear_breakpoint(at),
            (false, _) => Ok(()),
        }
    }

    /// A part that is locked lets nobody at its flash until all of it is erased.
    fn allowed(&mut self, address: u32, length: usize) -> Result<(), StubError> {
        let Some(flash) = self.faults.locked(address, length) else {
            return Ok(());
        };
        let mut at = flash.start;
        while at < flash.end {
            let length = (flash.end - at).min(0x1_0000);
            let bytes = self.stub.read(at, length as usize)?;
            if bytes.iter().any(|byte| *byte != 0xff) {
                return Err(StubError::Refused {
                    request: format!("{address:#x}"),
                    answer: "the part is locked".to_owned(),
                });
            }
            at += length;
        }
        self.faults.unlock();
        Ok(())
    }
}

fn is_private(address: u32) -> bool {
    address >> 20 == 0xe00
}

fn comparator(at: u32) -> usize {
    ((at - address::BREAKPOINT_FIRST) / 4) as usize
}

/// Component and peripheral identification of what a Cortex-M7 has, all of it ARM's.
fn identification(at: u32) -> Option<u32> {
    let (class, part) = match at & !0xfff {
        address::ROM_TABLE => (0x1, 0x4c7),
        0xe000_e000 => (0xe, 0x00c),
        0xe000_2000 => (0xe, 0x00e),
        0xe000_1000 => (0xe, 0x002),
        0xe000_0000 => (0xe, 0x001),
        _ => return None,
    };
    Some(match at & 0xfff {
        0xff0 => 0x0d,
        0xff4 => class << 4,
        0xff8 => 0x05,
        0xffc => 0xb1,
        0xfd0 => 0x04,
        0xfd4..=0xfdc => 0,
        0xfe0 => part & 0xff,
        0xfe4 => 0xb0 | part >> 8,
        0xfe8 => 0x0b,
        0xfec | 0xfbc | 0xfcc => 0,
        _ => return None,
    })
}
