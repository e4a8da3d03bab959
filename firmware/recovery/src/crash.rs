//! What is known of a failure.

use core::fmt;

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::Part;

/// Most registers that are kept of one.
pub const MAX_REGISTERS: usize = 16;

/// The last words of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// What happened.
    pub cause: Cause,
    /// What a panic said.
    pub message: String<160>,
    /// Where in the source; nothing if that is not known.
    pub file: String<80>,
    /// The line there.
    pub line: u32,
    /// The core's registers where it happened.
    pub registers: Vec<(Register, u32), MAX_REGISTERS>,
    /// Version of the firmware.
    pub version: String<16>,
    /// The first bytes of SHA-256 of its configuration; zeros without one.
    pub configuration: [u8; 8],
    /// How long it had run, in microseconds.
    pub uptime: u64,
    /// Which start since power came on ended so, from 1.
    pub start: u32,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// The program found itself wrong.
    Panic,
    /// The core could not go on.
    Fault(Fault),
    /// A part no longer lived.
    Watchdog(Part),
}

/// What a core could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// A Cortex-M escalates all to this.
    Hard,
    /// Data at a place where there is none, or not for it.
    DataAbort,
    /// Code at such a place.
    PrefetchAbort,
    /// An instruction that is none.
    Undefined,
}

/// What a word of a core was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the architecture's own names")]
pub enum Register {
    Pc,
    Lr,
    Sp,
    Psr,
    R0,
    R1,
    R2,
    R3,
    R12,
    // Cortex-M, ARMv7-M B3.2.
    Cfsr,
    Hfsr,
    Mmfar,
    Bfar,
    // Cortex-A, ARMv7-A B3.13.
    Dfsr,
    Dfar,
    Ifsr,
    Ifar,
}

impl Register {
    /// As manuals call it, in small letters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pc => "pc",
            Self::Lr => "lr",
            Self::Sp => "sp",
            Self::Psr => "psr",
            Self::R0 => "r0",
            Self::R1 => "r1",
            Self::R2 => "r2",
            Self::R3 => "r3",
            Self::R12 => "r12",
            Self::Cfsr => "cfsr",
            Self::Hfsr => "hfsr",
            Self::Mmfar => "mmfar",
            Self::Bfar => "bfar",
            Self::Dfsr => "dfsr",
            Self::Dfar => "dfar",
            Self::Ifsr => "ifsr",
            Self::Ifar => "ifar",
        }
    }

    /// Whether it may point at code.
    #[must_use]
    pub const fn is_code(self) -> bool {
        matches!(self, Self::Pc | Self::Lr)
    }
}

impl Cause {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Fault(Fault::Hard) => "hard-fault",
            Self::Fault(Fault::DataAbort) => "data-abort",
            Self::Fault(Fault::PrefetchAbort) => "prefetch-abort",
            Self::Fault(Fault::Undefined) => "undefined-instruction",
            Self::Watchdog(_) => "watchdog",
        }
    }
}

impl Crash {
    /// One register.
    #[must_use]
    pub fn register(&self, wanted: Register) -> Option<u32> {
        let mut all = self.registers.iter();
        all.find(|(register, _)| *register == wanted)
            .map(|(_, value)| *value)
    }
}

/// In a line: the cause, where, and after how long.
impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.cause.name())?;
        if let Cause::Watchdog(part) = self.cause {
            write!(f, ", {} stopped", part.name())?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        if !self.file.is_empty() {
            write!(f, " at {}:{}", self.file, self.line)?;
        }
        if let Some(pc) = self.register(Register::Pc) {
            write!(f, ", pc {pc:#010x}")?;
        }
        if let Some(lr) = self.register(Register::Lr) {
            write!(f, ", lr {lr:#010x}")?;
        }
        write!(f, ", after {} s", self.uptime / 1_000_000)
    }
}
