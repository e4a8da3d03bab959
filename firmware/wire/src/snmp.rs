//! SNMPv2c traps (RFC 3416 §4.2.6): what little of BER they take, written from the end to the front, so that lengths are known
//! when they are written.

/// A trap.
#[derive(Clone, Copy, Debug)]
pub struct Trap<'a> {
    /// The community (RFC 1901 §3).
    pub community: &'a [u8],
    /// A number that tells traps apart.
    pub request: u32,
    /// Hundredths of a second since the sender started.
    pub uptime: u32,
    /// What happened.
    pub oid: &'a [u32],
    /// What is to know of it.
    pub bindings: &'a [Binding<'a>],
}

/// An object and its value.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The object's instance.
    pub name: &'a [u32],
    /// Its value.
    pub value: Value<'a>,
}

/// A value of one of the types that traps need (RFC 2578 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// `INTEGER`.
    Integer(i32),
    /// `OCTET STRING`.
    Octets(&'a [u8]),
    /// `OBJECT IDENTIFIER`.
    Oid(&'a [u32]),
    /// `TimeTicks`, hundredths of a second.
    Ticks(u32),
}

/// sysUpTime.0 (RFC 3418).
const UPTIME: &[u32] = &[1, 3, 6, 1, 2, 1, 1, 3, 0];
/// snmpTrapOID.0.
const TRAP_OID: &[u32] = &[1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0];

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const TICKS: u8 = 0x43;
const TRAP: u8 = 0xa7;
/// SNMPv2c (RFC 1901 §3).
const VERSION: i32 = 1;

impl Trap<'_> {
    /// Writes the message to the end of `buffer` and returns it; `None` if it does not fit.
    #[must_use]
    pub fn write<'b>(&self, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let mut ber = Ber::new(buffer);
        let end = ber.start;
        for binding in self.bindings.iter().rev() {
            ber.binding(binding)?;
        }
        ber.binding(&Binding {
            name: TRAP_OID,
            value: Value::Oid(self.oid),
        })?;
        ber.binding(&Binding {
            name: UPTIME,
            value: Value::Ticks(self.uptime),
        })?;
        ber.wrap(SEQUENCE, end)?;
        ber.value(Value::Integer(0))?; // error-index
        ber.value(Value::Integer(0))?; // error-status
        ber.value(Value::Integer((self.request & 0x7fff_ffff) as i32))?;
        ber.wrap(TRAP, end)?;
        ber.value(Value::Octets(self.community))?;
        ber.value(Value::Integer(VERSION))?;
        ber.wrap(SEQUENCE, end)?;
        let Ber { buffer, start } = ber;
        buffer.get(start..)
    }
}

/// Basic encoding rules (X.690 §8), definite lengths only.
struct Ber<'b> {
    buffer: &'b mut [u8],
    /// Where what is written begins.
    start: usize,
}

impl<'b> Ber<'b> {
    fn new(buffer: &'b mut [u8]) -> Self {
        let start = buffer.len();
        Self { buffer, start }
    }

    fn byte(&mut self, byte: u8) -> Option<()> {
        self.bytes(&[byte])
    }

    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let start = self.start.checked_sub(bytes.len())?;
        self.buffer
            .get_mut(start..self.start)?
            .copy_from_slice(bytes);
        self.start = start;
        Some(())
    }

    /// Puts tag and length before everything from here to `end`.
    fn wrap(&mut self, tag: u8, end: usize) -> Option<()> {
        let len = end - self.start;
        match len {
            0..0x80 => self.byte(len as u8)?,
            0x80..0x100 => self.bytes(&[0x81, len as u8])?,
            0x100..0x1_0000 => self.bytes(&[0x82, (len >> 8) as u8, len as u8])?,
            _ => return None,
        }
        self.byte(tag)
    }

    fn binding(&mut self, binding: &Binding<'_>) -> Option<()> {
        let end = self.start;
        self.value(binding.value)?;
        self.value(Value::Oid(binding.name))?;
        self.wrap(SEQUENCE, end)
    }

    fn value(&mut self, value: Value<'_>) -> Option<()> {
        let end = self.start;
        let tag = match value {
            Value::Integer(number) => {
                self.integer(number.into())?;
                INTEGER
            }
            Value::Ticks(number) => {
                self.integer(number.into())?;
                TICKS
            }
            Value::Octets(bytes) => {
                self.bytes(bytes)?;
                OCTETS
            }
            Value::Oid(arcs) => {
                self.oid(arcs)?;
                OID
            }
        };
        self.wrap(tag, end)
    }

    /// Two's complement in as few bytes as there may be.
    fn integer(&mut self, number: i64) -> Option<()> {
        let bytes = number.to_be_bytes();
        let spare = |pair: &&[u8]| {
            matches!(pair, [0, next] if next & 0x80 == 0)
                || matches!(pair, [0xff, next] if next & 0x80 != 0)
        };
        let skip = bytes.windows(2).take_while(spare).count();
        self.bytes(bytes.get(skip..)?)
    }

    /// Two arcs in the first number, then seven bits a byte.
    fn oid(&mut self, arcs: &[u32]) -> Option<()> {
        let (&[first, second], rest) = arcs.split_first_chunk()?;
        for arc in rest.iter().rev() {
            self.arc(*arc)?;
        }
        self.arc(first.checked_mul(40)?.checked_add(second)?)
    }

    fn arc(&mut self, mut arc: u32) -> Option<()> {
        self.byte((arc & 0x7f) as u8)?;
        while arc >= 0x80 {
            arc >>= 7;
            self.byte((arc & 0x7f) as u8 | 0x80)?;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests;
