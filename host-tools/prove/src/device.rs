//! What the device itself says: the compiled tables, looked up by the code that runs on the appliance.

use std::net::IpAddr;

use classifier::{Addresses, Aligned, CompileError, Key, State, Tables};
use policy::rule::Rule;

use crate::packet::Packet;

/// The tables of one appliance.
#[derive(Debug)]
pub struct Device {
    bytes: Aligned,
}

impl Device {
    /// Compiles rules as for the device, whatever room its board has.
    pub fn new(rules: &[Rule]) -> Result<Self, CompileError> {
        let compiled = classifier::compile(rules, ROOM)?;
        Tables::parse(&Aligned::copy(&compiled.bytes))?;
        Ok(Self {
            bytes: Aligned::copy(&compiled.bytes),
        })
    }

    /// The index of the rule that decides about a packet between two legs.
    #[must_use]
    pub fn rule(&self, packet: &Packet, from: u8, to: u8) -> Option<usize> {
        let tables = Tables::parse(&self.bytes).ok()?;
        let addresses = match (packet.source, packet.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 {
                source: source.to_bits(),
                destination: destination.to_bits(),
            },
            (source, destination) => Addresses::V6 {
                source: words(source),
                destination: words(destination),
            },
        };
        let key = Key {
            addresses,
            source_port: packet.source_port,
            destination_port: packet.destination_port,
            protocol: packet.protocol,
            from,
            to,
            state: if packet.opens() {
                State::New
            } else {
                State::Invalid
            },
        };
        tables.lookup(&key).map(|found| found.rule.into())
    }
}

/// More than any board has.
const ROOM: usize = 64 << 20;

fn words(address: IpAddr) -> [u32; 4] {
    let bits = crate::space::number(address);
    [bits >> 96, bits >> 64, bits >> 32, bits].map(|word| word as u32)
}
