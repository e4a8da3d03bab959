//! What is sent: packets in an order that makes sense together.

/// Packets that arrive on a leg one right after the other; what they bring about is compared as a whole.
#[derive(Clone, Debug)]
pub struct Step {
    /// Where they come in.
    pub leg: u8,
    /// The IP packets.
    pub packets: Vec<Vec<u8>>,
    /// What they are, in words.
    pub what: &'static str,
}

impl Step {
    /// A step of one packet.
    #[must_use]
    pub fn one(leg: u8, what: &'static str, packet: Vec<u8>) -> Self {
        Self {
            leg,
            packets: vec![packet],
            what,
        }
    }
}

/// A sequence of steps that no other story shares flows with.
#[derive(Clone, Debug)]
pub struct Story {
    /// Its kind.
    pub name: &'static str,
    /// Its number, from which everything in it follows.
    pub number: u32,
    /// In order.
    pub steps: Vec<Step>,
}
