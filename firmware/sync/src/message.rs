//! What is said in sealed datagrams: the first byte says what follows. Heartbeats and acknowledgments are postcard's
//! encoding of these types, batches are records one behind the other.

use serde::{Deserialize, Serialize};

/// First byte of a heartbeat.
pub const BEAT: u8 = 1;
/// First byte of a batch of records.
pub const BATCH: u8 = 2;
/// First byte of an acknowledgment.
pub const ACK: u8 = 3;

/// State of an appliance, as VRRP has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum State {
    /// Not started, or stopped.
    #[default]
    Initialize,
    /// Listens.
    Backup,
    /// Answers for the virtual addresses.
    Active,
    /// Not able to.
    Fault,
}

/// How an appliance is, told to its peer in every heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Standing {
    /// State of its group.
    pub state: State,
    /// Its effective priority.
    pub priority: u8,
    /// Reasons for which it is demoted, one bit each.
    pub demotion: u8,
    /// Whether it would hand over.
    pub yielding: bool,
    /// Ports with a carrier, one bit each.
    pub links: u8,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Counts the sender's heartbeats, the same on all paths.
    pub sequence: u32,
    /// How the sender is.
    pub standing: Standing,
    /// Whether the Backup knows all that the Active does, as the sender sees it.
    pub in_sync: bool,
    /// Paths on which the sender hears the receiver, one bit each.
    pub hears: u8,
    /// Digest of what both must agree about.
    pub fingerprint: u64,
    /// The sender's firmware.
    pub firmware: u32,
    /// Batches that arrived.
    pub ack: Ack,
}

/// Which batches were taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The latest one; 0 before the first.
    pub newest: u32,
    /// Bit n: `newest − n` was.
    pub taken: u64,
}

/// Writes what `first` says and its message; the length.
pub fn write(first: u8, message: &impl Serialize, buffer: &mut [u8]) -> Option<usize> {
    let (front, rest) = buffer.split_first_mut()?;
    *front = first;
    Some(1 + postcard::to_slice(message, rest).ok()?.len())
}

/// Reads a message behind its first byte. Bytes behind it belong to later versions.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT_BYTES: [u8; 22] = [
        1, 0x96, 0x01, 2, 200, 0x11, 1, 3, 1, 5, 0xef, 0x9b, 0xaf, 0xcd, 0xf8, 0xac, 0xd1, 0x91, 1,
        7, 9, 5,
    ];

    /// The bytes of version 1. When this fails, it is the code that changes.
    #[test]
    fn bytes_of_version_1() {
        let beat = Beat {
            sequence: 150,
            standing: Standing {
                state: State::Active,
                priority: 200,
                demotion: 0x11,
                yielding: true,
                links: 3,
            },
            in_sync: true,
            hears: 5,
            fingerprint: 0x0123_4567_89ab_cdef,
            firmware: 7,
            ack: Ack {
                newest: 9,
                taken: 5,
            },
        };
        let mut buffer = [0; 64];
        let len = write(BEAT, &beat, &mut buffer).unwrap();
        assert_eq!(buffer[..len], BEAT_BYTES);
        assert_eq!(read(&buffer[1..len]), Some(beat));
        for short in 1..len {
            assert_eq!(read::<Beat>(&buffer[1..short]), None);
        }
        assert_eq!(write(BEAT, &beat, &mut buffer[..8]), None);
    }
}
