//! What of a packet the rules see.

/// The fields of a packet that rules compare, between both translations: the destination is the one after
/// DNAT, the source the one before SNAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Addresses of either version.
    pub addresses: Addresses,
    /// Source port of TCP and UDP; not compared for other protocols.
    pub source_port: u16,
    /// Destination port of TCP and UDP. For ICMP and ICMPv6 the type in the high byte and the code in the low one.
    pub destination_port: u16,
    /// IP protocol number; of IPv6 the one after the extension headers.
    pub protocol: u8,
    /// Index of the interface the packet came in from, 0 to 7.
    pub from: u8,
    /// Index of the interface the packet would leave by, 0 to 7.
    pub to: u8,
    /// Whether it can open a flow.
    pub state: State,
}

/// Source and destination as numbers in host order; IPv6 addresses as four words, the first ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// Source.
        source: u32,
        /// Destination.
        destination: u32,
    },
    /// IPv6.
    V6 {
        /// Source.
        source: [u32; 4],
        /// Destination.
        destination: [u32; 4],
    },
}

/// What a packet without a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can open a flow.
    New,
    /// It cannot, such as a TCP ACK out of nowhere.
    Invalid,
}

/// Dimensions of IPv4 keys: source, destination, then as [`TAIL`] says.
pub(crate) const DIMENSIONS_V4: usize = 8;
/// Dimensions of IPv6 keys: four words of the source, four of the destination, then as [`TAIL`] says.
pub(crate) const DIMENSIONS_V6: usize = 14;
/// Source port, destination port, protocol, from, to, state stand behind the addresses.
pub(crate) const TAIL: usize = 6;

/// IPv4 keys as an array whose length is a power of two, so that a masked index needs no check.
pub(crate) type WordsV4 = [u32; 8];
/// The same for IPv6.
pub(crate) type WordsV6 = [u32; 16];

const _: () = assert!(DIMENSIONS_V4 == 2 + TAIL && DIMENSIONS_V6 == 8 + TAIL);

impl State {
    /// The state in a key.
    #[inline]
    pub(crate) const fn word(self) -> u32 {
        match self {
            Self::New => 0,
            Self::Invalid => 1,
        }
    }
}

impl Key {
    #[inline]
    pub(crate) fn tail(&self) -> [u32; TAIL] {
        [
            self.source_port.into(),
            self.destination_port.into(),
            self.protocol.into(),
            (self.from & 7).into(),
            (self.to & 7).into(),
            self.state.word(),
        ]
    }
}

#[inline]
pub(crate) fn words_v4(source: u32, destination: u32, tail: [u32; TAIL]) -> WordsV4 {
    let [source_port, destination_port, protocol, from, to, state] = tail;
    [
        source,
        destination,
        source_port,
        destination_port,
        protocol,
        from,
        to,
        state,
    ]
}

#[inline]
pub(crate) fn words_v6(source: [u32; 4], destination: [u32; 4], tail: [u32; TAIL]) -> WordsV6 {
    let mut words = [0; 16];
    words[..4].copy_from_slice(&source);
    words[4..8].copy_from_slice(&destination);
    words[8..8 + TAIL].copy_from_slice(&tail);
    words
}
