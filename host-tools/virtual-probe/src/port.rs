//! The debug port and its one access port (ADIv5) in front of a core.

use crate::{core::Core, gdb::StubError, swd::Registers};

/// Debug port, access port 0, and the core behind them.
#[derive(Debug)]
pub struct Port {
    core: Core,
    control: u32,
    select: u32,
    word: u32,
    address: u32,
}

/// DPIDR of a Cortex-M7's debug port.
const DEBUG_PORT: u32 = 0x5ba0_2477;
/// IDR of its AHB-AP.
const ACCESS_PORT: u32 = 0x8477_0001;
/// BASE: where the ROM table is, and that there is one.
const BASE: u32 = 0xe00f_f003;
/// Requests to power up, whose acknowledgements are the bits above each.
const POWER_UP: u32 = 0x5000_0000;
/// DeviceEn of CSW: accesses are possible.
const ENABLED: u32 = 1 << 6;

impl Port {
    /// A port in front of a core.
    pub fn new(core: Core) -> Self {
        Self {
            core,
            control: 0,
            select: 0,
            word: 0x2300_0052,
            address: 0,
        }
    }

    /// What is behind it.
    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    /// Reads a register of an access port; there is only one port.
    ///
    /// # Errors
    /// If it is the one that reads memory, and that fails.
    pub fn read_access(&mut self, port: u8, address: u8) -> Result<u32, StubError> {
        if port != 0 {
            return Ok(0);
        }
        Ok(match address {
            0x00 => self.word | ENABLED,
            0x04 => self.address,
            0x0c => {
                let bytes = self.core.read(self.address, 4)?;
                bytes.try_into().map_or(0, u32::from_le_bytes)
            }
            0xf8 => BASE,
            0xfc => ACCESS_PORT,
            _ => 0,
        })
    }

    /// Writes one.
    ///
    /// # Errors
    /// If it is the one that writes memory, and that fails.
    pub fn write_access(&mut self, port: u8, address: u8, value: u32) -> Result<(), StubError> {
        match (port, address) {
            (0, 0x00) => self.word = value,
            (0, 0x04) => self.address = value,
            (0, 0x0c) => self.core.write(self.address, &value.to_le_bytes())?,
            _ => {}
        }
        Ok(())
    }
}

impl Registers for Port {
    fn read(&mut self, address: u8) -> u32 {
        match address & 0xc {
            0x0 => DEBUG_PORT,
            0x4 if self.select & 0xf == 0 => self.control,
            _ => 0,
        }
    }

    fn write(&mut self, address: u8, value: u32) {
        match address & 0xc {
            0x4 if self.select & 0xf == 0 => {
                self.control = value & 0x5000_0f01 | (value & POWER_UP) << 1;
            }
            0x8 => self.select = value,
            _ => {}
        }
    }
}
