//! The Black Magic remote protocol, version 1, as a probe hears and answers it. Requests are `!...#`, answers `&K...#` or an error.

use crate::gdb::hex;

/// What a debugger asks of its probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Who are you?
    Identify,
    /// Which version of the protocol?
    Version,
    /// What voltage has the target?
    Voltage,
    /// How fast is the clock?
    Speed,
    /// Settings that change nothing here: clock, power of the target, change to SWD.
    Setting,
    /// Holds the target's reset line, or lets it go.
    Reset(bool),
    /// Bits to the target, the lowest first.
    SwdOut {
        /// How many.
        count: u32,
        /// They.
        bits: u64,
    },
    /// Bits from the target.
    SwdIn {
        /// How many.
        count: u32,
    },
    /// Reads a register of the debug port.
    ReadPort {
        /// Its address.
        address: u8,
    },
    /// Writes a register of the debug port.
    WritePort {
        /// Its address.
        address: u8,
        /// What.
        value: u32,
    },
    /// Reads a register of an access port.
    ReadAccess {
        /// Which access port.
        port: u8,
        /// The register's address.
        address: u8,
    },
    /// Writes a register of an access port.
    WriteAccess {
        /// Which access port.
        port: u8,
        /// The register's address.
        address: u8,
        /// What.
        value: u32,
    },
    /// Reads memory through an access port.
    ReadMemory {
        /// From where.
        address: u32,
        /// How many bytes.
        length: usize,
    },
    /// Writes memory through an access port.
    WriteMemory {
        /// Where.
        address: u32,
        /// What.
        bytes: Vec<u8>,
    },
    /// Something this protocol version, or this probe, does not know.
    Unknown,
}

/// What the probe says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done.
    Done,
    /// Plain text.
    Text(&'static str),
    /// A number.
    Number(u64),
    /// A register's value, which travels with its bytes turned round.
    Register(u32),
    /// Memory.
    Bytes(Vec<u8>),
    /// The target answered with a fault, or not at all.
    Fault,
    /// The request was not understood.
    Malformed,
    /// There is no such command here.
    Unsupported,
}

/// Bytes of a request; longer ones are a mistake of the sender. The longest of probe-rs has 1024.
const LONGEST: usize = 4096;

/// Cuts a stream of bytes into commands.
#[derive(Debug, Default)]
pub struct Decoder {
    request: Option<Vec<u8>>,
}

impl Decoder {
    /// Takes one byte; a command when it was the last of one, `Err` for one that is malformed.
    pub fn push(&mut self, byte: u8) -> Option<Result<Command, Malformed>> {
        match (byte, &mut self.request) {
            (b'!', request) => *request = Some(Vec::new()),
            (b'#', request) => {
                let request = request.take()?;
                return Some(Command::parse(&request).ok_or(Malformed));
            }
            (byte, Some(request)) if request.len() < LONGEST => request.push(byte),
            // Too long, or outside of any request, as the `+` of the handshake is.
            (_, request) => *request = None,
        }
        None
    }
}

/// A request that says something this protocol does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl Command {
    fn parse(request: &[u8]) -> Option<Self> {
        let (name, rest) = request.split_at_checked(2)?;
        let mut fields = Fields(rest);
        let command = match name {
            b"GA" => Self::Identify,
            b"HC" => Self::Version,
            b"GV" => Self::Voltage,
            b"Gf" => Self::Speed,
            b"GF" | b"GE" | b"GP" | b"SS" | b"SR" => return Some(Self::Setting),
            b"GZ" => Self::Reset(fields.hex(1)? == 1),
            b"So" => Self::SwdOut {
                count: fields.hex(2)? as u32,
                bits: fields.rest()?,
            },
            b"Si" => Self::SwdIn {
                count: fields.hex(2)? as u32,
            },
            b"Hd" => {
                fields.hex(4)?; // the device on the chain, and a filler
                Self::ReadPort {
                    address: fields.low_byte()?,
                }
            }
            b"HL" => {
                fields.hex(2)?;
                let reads = fields.hex(2)? != 0;
                let address = fields.low_byte()?;
                let value = fields.word()?;
                match reads {
                    true => Self::ReadPort { address },
                    false => Self::WritePort { address, value },
                }
            }
            b"Ha" => {
                fields.hex(2)?;
                Self::ReadAccess {
                    port: fields.hex(2)? as u8,
                    address: fields.low_byte()?,
                }
            }
            b"HA" if !rest.is_empty() => {
                fields.hex(2)?;
                Self::WriteAccess {
                    port: fields.hex(2)? as u8,
                    address: fields.low_byte()?,
                    value: fields.word()?,
                }
            }
            b"HM" => {
                fields.hex(12)?; // device, access port, control word
                Self::ReadMemory {
                    address: fields.word()?,
                    length: fields.word()? as usize,
                }
            }
            b"Hm" => {
                fields.hex(14)?; // the same, and the size of a word
                let address = fields.word()?;
                let length = fields.word()? as usize;
                let bytes = fields.bytes(length)?;
                Self::WriteMemory { address, bytes }
            }
            _ => return Some(Self::Unknown),
        };
        fields.0.is_empty().then_some(command)
    }
}

/// Hexadecimal fields, one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn hex(&mut self, digits: usize) -> Option<u64> {
        let (field, rest) = self.0.split_at_checked(digits)?;
        self.0 = rest;
        number(field)
    }

    fn word(&mut self) -> Option<u32> {
        self.hex(8).map(|value| value as u32) // eight digits fit
    }

    /// A register's address: four digits, of which the upper two say "access port".
    fn low_byte(&mut self) -> Option<u8> {
        self.hex(4).map(|value| value as u8)
    }

    fn rest(&mut self) -> Option<u64> {
        self.hex(self.0.len())
    }

    fn bytes(&mut self, length: usize) -> Option<Vec<u8>> {
        (self.0.len() == length.checked_mul(2)?).then_some(())?;
        (0..length).map(|_| self.hex(2).map(|v| v as u8)).collect()
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    (1..=16).contains(&digits.len()).then_some(())?;
    digits.iter().try_fold(0, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u64::from(digit))
    })
}

impl Answer {
    /// As it goes over the line.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Done => b"&K0#".to_vec(),
            Self::Text(text) => format!("&K{text}#").into_bytes(),
            Self::Number(number) => format!("&K{number:x}#").into_bytes(),
            Self::Register(value) => format!("&K{:08x}#", value.swap_bytes()).into_bytes(),
            Self::Bytes(bytes) => format!("&K{}#", hex(bytes)).into_bytes(),
            Self::Fault => b"&E1#".to_vec(),
            Self::Malformed => b"&P1#".to_vec(),
            Self::Unsupported => b"&N0#".to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Vec<Result<Command, Malformed>> {
        let mut decoder = Decoder::default();
        text.bytes().filter_map(|b| decoder.push(b)).collect()
    }

    #[test]
    fn requests() {
        let table = [
            ("+#!GA#", Command::Identify),
            ("!HC#", Command::Version),
            (" !GV#", Command::Voltage),
            ("!GF003d0900#", Command::Setting),
            ("!GZ1#", Command::Reset(true)),
            ("!GZ0#", Command::Reset(false)),
            (
                "!So20ffffffff#",
                Command::SwdOut {
                    count: 32,
                    bits: 0xffff_ffff,
                },
            ),
            ("!Si21#", Command::SwdIn { count: 33 }),
            ("!Hd00ff0004#", Command::ReadPort { address: 4 }),
            (
                "!HL00000004500000f0#",
                Command::WritePort {
                    address: 4,
                    value: 0x5000_00f0,
                },
            ),
            (
                "!Ha000101fc#",
                Command::ReadAccess {
                    port: 1,
                    address: 0xfc,
                },
            ),
            (
                "!HA0000010423000052#",
                Command::WriteAccess {
                    port: 0,
                    address: 4,
                    value: 0x2300_0052,
                },
            ),
            (
                "!HM0000230000522000000000000010#",
                Command::ReadMemory {
                    address: 0x2000_0000,
                    length: 16,
                },
            ),
            (
                "!Hm000023000052022000000400000004deadbeef#",
                Command::WriteMemory {
                    address: 0x2000_0004,
                    bytes: vec![0xde, 0xad, 0xbe, 0xef],
                },
            ),
            // What other versions of the protocol, or other buses, say.
            ("!HA#", Command::Unknown),
            ("!JS#", Command::Unknown),
        ];
        for (text, command) in table {
            assert_eq!(decode(text), [Ok(command)], "{text}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_or_ignored() {
        for text in ["!Hd00ff#", "!Hd00ffzz04#", "!GZ#", "!x#", "!HM00#"] {
            assert_eq!(decode(text), [Err(Malformed)], "{text}");
        }
        // Says four bytes and has three.
        assert_eq!(
            decode("!Hm000023000052022000000400000004deadbe#"),
            [Err(Malformed)]
        );
        assert_eq!(decode("noise#!GV"), []);
        let endless = format!("!{}#!GV#", "0".repeat(2 * LONGEST));
        assert_eq!(decode(&endless), [Ok(Command::Voltage)]);
    }

    #[test]
    fn answers() {
        for (answer, text) in [
            (Answer::Done, "&K0#"),
            (Answer::Number(0x1f), "&K1f#"),
            (Answer::Register(0x5ba0_2477), "&K7724a05b#"),
            (Answer::Bytes(vec![0, 0xab]), "&K00ab#"),
            (Answer::Fault, "&E1#"),
            (Answer::Unsupported, "&N0#"),
        ] {
            assert_eq!(answer.encode(), text.as_bytes());
        }
    }
}
