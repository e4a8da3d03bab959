//! The header space of one IP version: sets of packets as binary decision diagrams.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use biodivine_lib_bdd::{Bdd, BddPartialValuation, BddValuation, BddVariable, BddVariableSet};
use policy::IpPrefix;

use crate::packet::{Packet, Version, flags, icmp, protocol};

/// A set of packets of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set(Bdd);

impl Set {
    /// What is in both.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.and(&other.0))
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.or(&other.0))
    }

    /// What is in this and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.and_not(&other.0))
    }

    /// What is not in it.
    #[must_use]
    pub fn not(&self) -> Self {
        Self(self.0.not())
    }

    /// Whether no packet is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_false()
    }

    /// Whether a packet is in both.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        !self.and(other).is_empty()
    }
}

/// A field of the header. ICMP's type and code are the two bytes of the destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// IP protocol number.
    Protocol,
    /// FIN, SYN, RST, ACK, in this order.
    Flags,
    /// Destination port.
    DestinationPort,
    /// ICMP type.
    IcmpType,
    /// ICMP code.
    IcmpCode,
    /// Destination address.
    Destination,
    /// Source address.
    Source,
    /// Source port.
    SourcePort,
    /// Time to live or hop limit.
    Hops,
}

/// The variables of one IP version, from which sets are made. What policies distinguish most stands
/// first, which keeps the diagrams small.
#[derive(Debug)]
pub struct Space {
    version: Version,
    set: BddVariableSet,
    variables: Vec<BddVariable>,
}

impl Space {
    /// The header space of a version.
    #[must_use]
    pub fn new(version: Version) -> Self {
        let set = BddVariableSet::new_anonymous(FIXED + 2 * version.width());
        let variables = set.variables();
        Self {
            version,
            set,
            variables,
        }
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every combination of bits.
    #[must_use]
    pub fn all(&self) -> Set {
        Set(self.set.mk_true())
    }

    /// Nothing.
    #[must_use]
    pub fn none(&self) -> Set {
        Set(self.set.mk_false())
    }

    /// All or nothing.
    #[must_use]
    pub fn when(&self, condition: bool) -> Set {
        if condition { self.all() } else { self.none() }
    }

    /// Every packet that a sender could form: ports are not zero, fields that a protocol lacks are.
    #[must_use]
    pub fn packets(&self) -> Set {
        let zero = |field| self.equals(field, 0);
        let ports = self
            .protocols(&[protocol::TCP, protocol::UDP])
            .minus(&zero(Field::SourcePort).or(&zero(Field::DestinationPort)));
        let icmp = self.protocols(&[protocol::ICMP, protocol::ICMP6]);
        let with_ports = self.protocols(&[
            protocol::TCP,
            protocol::UDP,
            protocol::ICMP,
            protocol::ICMP6,
        ]);
        let without = zero(Field::SourcePort)
            .and(&zero(Field::DestinationPort))
            .minus(&with_ports);
        let plain = ports.or(&icmp).or(&without);
        let flags = zero(Field::Flags).or(&self.protocols(&[protocol::TCP]));
        plain.and(&flags).minus(&zero(Field::Hops))
    }

    /// Packets that can open a flow.
    #[must_use]
    pub fn opening(&self) -> Set {
        let syn = self
            .equals(Field::Protocol, u128::from(protocol::TCP))
            .minus(&self.equals(Field::Flags, SYN_ALONE));
        let echo = |number: u8, kind: u8| {
            self.equals(Field::Protocol, number.into())
                .minus(&self.equals(Field::IcmpType, kind.into()))
        };
        let others = syn
            .or(&echo(protocol::ICMP, icmp::ECHO))
            .or(&echo(protocol::ICMP6, icmp::ECHO6));
        self.packets().minus(&others)
    }

    /// Packets of one of these protocols.
    #[must_use]
    pub fn protocols(&self, numbers: &[u8]) -> Set {
        self.any(
            numbers
                .iter()
                .map(|number| self.equals(Field::Protocol, (*number).into())),
        )
    }

    /// Whatever is in one of the sets.
    #[must_use]
    pub fn any(&self, sets: impl IntoIterator<Item = Set>) -> Set {
        sets.into_iter().fold(self.none(), |all, set| all.or(&set))
    }

    /// Packets whose field has this value.
    #[must_use]
    pub fn equals(&self, field: Field, value: u128) -> Set {
        let (_, width) = self.place(field);
        self.leading(field, value, width)
    }

    /// Packets with this address in the field; none if it is of the other version.
    #[must_use]
    pub fn host(&self, field: Field, address: IpAddr) -> Set {
        self.prefix(field, IpPrefix::host(address))
    }

    /// Packets with an address of the prefix in the field; none if it is of the other version.
    #[must_use]
    pub fn prefix(&self, field: Field, prefix: IpPrefix) -> Set {
        match (self.version, prefix) {
            (Version::V4, IpPrefix::V4(prefix)) => {
                self.leading(field, prefix.address.to_bits().into(), prefix.length.into())
            }
            (Version::V6, IpPrefix::V6(prefix)) => {
                self.leading(field, prefix.address.to_bits(), prefix.length.into())
            }
            (Version::V4, IpPrefix::V6(_)) | (Version::V6, IpPrefix::V4(_)) => self.none(),
        }
    }

    /// Packets whose field has a value of the range.
    #[must_use]
    pub fn range(&self, field: Field, range: RangeInclusive<u128>) -> Set {
        let (_, width) = self.place(field);
        let (mut first, last) = range.into_inner();
        let mut set = self.none();
        // Aligned blocks, as a range is written as prefixes.
        while first <= last {
            let room = 128 - (last - first).saturating_add(1).leading_zeros() - 1;
            let block = first.trailing_zeros().min(room).min(width.into());
            set = set.or(&self.leading(field, first, width - block as u16));
            let Some(next) = 1_u128
                .checked_shl(block)
                .and_then(|size| first.checked_add(size))
            else {
                break;
            };
            first = next;
        }
        set
    }

    /// Packets with a port of one of the ranges; any port if there is none.
    #[must_use]
    pub fn ports(&self, field: Field, ranges: &[RangeInclusive<u16>]) -> Set {
        if ranges.is_empty() {
            return self.all();
        }
        let wide = |port: &RangeInclusive<u16>| (*port.start()).into()..=(*port.end()).into();
        self.any(ranges.iter().map(|range| self.range(field, wide(range))))
    }

    /// TCP segments of which the flags in `mask` are as in `value` (bits as in the header).
    #[must_use]
    pub fn flags(&self, mask: u8, value: u8) -> Set {
        let (start, _) = self.place(Field::Flags);
        let mut clause = BddPartialValuation::empty();
        for (index, (bit, _)) in flags::NAMES.iter().enumerate() {
            if mask & bit != 0 {
                clause.set_value(self.variables[usize::from(start) + index], value & bit != 0);
            }
        }
        Set(self.set.mk_conjunctive_clause(&clause))
    }

    /// The set with these fields set free: what it may become when they are rewritten.
    #[must_use]
    pub fn forget(&self, set: &Set, fields: &[Field]) -> Set {
        let variables: Vec<BddVariable> = (fields.iter())
            .flat_map(|field| {
                let (start, width) = self.place(*field);
                &self.variables[usize::from(start)..usize::from(start + width)]
            })
            .copied()
            .collect();
        Set(set.0.exists(&variables))
    }

    /// Whether the packet is in the set.
    #[must_use]
    pub fn contains(&self, set: &Set, packet: &Packet) -> bool {
        let mut valuation = BddValuation::all_false(self.set.num_vars());
        let mut put = |field, value: u128| {
            let (start, width) = self.place(field);
            for bit in 0..width {
                let variable = self.variables[usize::from(start + bit)];
                valuation.set_value(variable, value >> (width - 1 - bit) & 1 != 0);
            }
        };
        put(Field::Protocol, packet.protocol.into());
        put(Field::Flags, flag_bits(packet.flags));
        put(Field::DestinationPort, packet.destination_port.into());
        put(Field::Destination, number(packet.destination));
        put(Field::Source, number(packet.source));
        put(Field::SourcePort, packet.source_port.into());
        put(Field::Hops, packet.hops.into());
        set.0.eval_in(&valuation)
    }

    /// A packet of the set that a person finds natural, always the same one; `None` if it is empty.
    #[must_use]
    pub fn example(&self, set: &Set) -> Option<Packet> {
        let mut rest = set.clone();
        for wish in self.wishes() {
            let narrower = rest.and(&wish);
            if !narrower.is_empty() {
                rest = narrower;
            }
        }
        self.lowest(&rest)
    }

    /// What examples look like if nothing speaks against it.
    fn wishes(&self) -> Vec<Set> {
        let known: [IpAddr; 2] = match self.version {
            Version::V4 => [
                Ipv4Addr::new(198, 51, 100, 7).into(),
                Ipv4Addr::new(198, 51, 100, 8).into(),
            ],
            Version::V6 => [
                Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7).into(),
                Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 8).into(),
            ],
        };
        vec![
            self.opening(),
            self.protocols(&[protocol::TCP]),
            self.protocols(&[protocol::UDP]),
            self.protocols(&[protocol::ICMP, protocol::ICMP6]),
            self.host(Field::Source, known[0]),
            self.host(Field::Destination, known[1]),
            self.equals(Field::Hops, 64),
            self.equals(Field::SourcePort, 40_000),
        ]
    }

    /// The packet of the set whose fields, read in the order of the variables, are lowest.
    fn lowest(&self, set: &Set) -> Option<Packet> {
        if set.is_empty() {
            return None;
        }
        let mut bits = vec![false; self.variables.len()];
        let mut node = set.0.root_pointer();
        while !node.is_terminal() {
            let low = set.0.low_link_of(node);
            bits[set.0.var_of(node).to_index()] = low.is_zero();
            node = if low.is_zero() {
                set.0.high_link_of(node)
            } else {
                low
            };
        }
        let value = |field| {
            let (start, width) = self.place(field);
            bits[usize::from(start)..usize::from(start + width)]
                .iter()
                .fold(0_u128, |value, bit| value << 1 | u128::from(*bit))
        };
        let flags = (flags::NAMES.iter().enumerate())
            .filter(|(index, _)| value(Field::Flags) >> (3 - index) & 1 != 0)
            .fold(0, |all, (_, (bit, _))| all | bit);
        Some(Packet {
            source: self.address(value(Field::Source)),
            destination: self.address(value(Field::Destination)),
            protocol: value(Field::Protocol) as u8,
            source_port: value(Field::SourcePort) as u16,
            destination_port: value(Field::DestinationPort) as u16,
            flags,
            hops: value(Field::Hops) as u8,
        })
    }

    fn address(&self, value: u128) -> IpAddr {
        match self.version {
            Version::V4 => Ipv4Addr::from_bits(value as u32).into(),
            Version::V6 => Ipv6Addr::from_bits(value).into(),
        }
    }

    /// Packets whose field begins with the `length` first bits of `value`.
    fn leading(&self, field: Field, value: u128, length: u16) -> Set {
        let (start, width) = self.place(field);
        let mut clause = BddPartialValuation::empty();
        for bit in 0..length.min(width) {
            let variable = self.variables[usize::from(start + bit)];
            clause.set_value(variable, value >> (width - 1 - bit) & 1 != 0);
        }
        Set(self.set.mk_conjunctive_clause(&clause))
    }

    /// First variable and number of variables of a field.
    fn place(&self, field: Field) -> (u16, u16) {
        let width = self.version.width();
        match field {
            Field::Protocol => (0, 8),
            Field::Flags => (8, 4),
            Field::DestinationPort => (12, 16),
            Field::IcmpType => (12, 8),
            Field::IcmpCode => (20, 8),
            Field::Destination => (28, width),
            Field::Source => (28 + width, width),
            Field::SourcePort => (28 + 2 * width, 16),
            Field::Hops => (44 + 2 * width, 8),
        }
    }
}

/// Variables besides the addresses'.
const FIXED: u16 = 52;
/// [`Field::Flags`] of a segment with SYN and none of the others.
const SYN_ALONE: u128 = 0b0100;

fn flag_bits(byte: u8) -> u128 {
    (flags::NAMES.iter()).fold(0, |value, (bit, _)| {
        value << 1 | u128::from(byte & bit != 0)
    })
}

/// An address as a number.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}
