//! What a debug probe provisions a board with, apart from its firmware: who it is, its configuration, its keys. There are two slots, of
//! which the newer whole one counts; the other one is written next. So whenever the power fails, the board is what it was or
//! what it shall be.

use sha2::{Digest as _, Sha256};

/// Bytes before a slot's content: a magic word, the sequence number, how long the content is, SHA-256 over these and the content.
pub const HEADER: usize = 48;
const MAGIC: u32 = u32::from_le_bytes(*b"RVP1");
const DIGEST_AT: usize = 16;

/// A part of what a board is provisioned with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Section {
    /// The compiled configuration.
    Configuration = 1,
    /// What tells the unit from all others; text.
    SerialNumber = 2,
    /// The MAC addresses of its ports, six bytes each.
    Macs = 3,
    /// Its certificate of the site's authority, DER.
    Certificate = 4,
    /// The private key to that, PKCS #8 DER.
    Key = 5,
}

/// A slot that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provision<'a> {
    /// The higher, the newer.
    pub sequence: u32,
    content: &'a [u8],
}

impl<'a> Provision<'a> {
    /// The slot at the front of these bytes, if one is there and whole.
    #[must_use]
    pub fn parse(slot: &'a [u8]) -> Option<Self> {
        let length = length(slot)?;
        let content = slot.get(HEADER..length)?;
        let digest = slot.get(DIGEST_AT..HEADER)?;
        let sequence = word(slot, 4)?;
        (digest == digest_of(slot.get(..DIGEST_AT)?, content).as_slice())
            .then_some(Self { sequence, content })
    }

    /// One part of it.
    #[must_use]
    pub fn section(&self, wanted: Section) -> Option<&'a [u8]> {
        let mut rest = self.content;
        loop {
            let kind = word(rest, 0)?;
            let length = word(rest, 4)? as usize;
            let bytes = rest.get(8..)?.get(..length)?;
            if kind == wanted as u32 {
                return Some(bytes);
            }
            rest = rest.get(8 + length.checked_next_multiple_of(4)?..)?;
        }
    }
}

/// How long the slot at the front of these bytes says it is, header included.
#[must_use]
pub fn length(slot: &[u8]) -> Option<usize> {
    (word(slot, 0)? == MAGIC).then_some(())?;
    HEADER.checked_add(word(slot, 8)? as usize)
}

/// Which of a region's two slots counts, and what is in it.
#[must_use]
pub fn newest<'a>(slots: [&'a [u8]; 2]) -> Option<(usize, Provision<'a>)> {
    let [first, second] = slots.map(Provision::parse);
    match (first, second) {
        // Numbers go on behind the last one.
        (Some(first), Some(second)) if newer(second.sequence, first.sequence) => Some((1, second)),
        (Some(first), _) => Some((0, first)),
        (None, Some(second)) => Some((1, second)),
        (None, None) => None,
    }
}

fn newer(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

/// The two slots of a region.
#[must_use]
pub fn halves(region: &[u8]) -> [&[u8]; 2] {
    let (first, second) = region.split_at(region.len() / 2);
    [first, second]
}

/// The configuration that counts; a region that was never provisioned has one at its front, or none.
#[must_use]
pub fn configuration(region: &[u8]) -> &[u8] {
    let newest = newest(halves(region));
    let provisioned = newest.and_then(|(_, slot)| slot.section(Section::Configuration));
    provisioned.unwrap_or(region)
}

/// Writes a slot; returns how long it is, or `None` if it does not fit into `out`.
pub fn write(sequence: u32, sections: &[(Section, &[u8])], out: &mut [u8]) -> Option<usize> {
    let mut end = HEADER;
    for (kind, bytes) in sections {
        let length = u32::try_from(bytes.len()).ok()?;
        let body = end + 8;
        out.get_mut(end..body)?[..4].copy_from_slice(&(*kind as u32).to_le_bytes());
        out[end + 4..body].copy_from_slice(&length.to_le_bytes());
        end = body + bytes.len().next_multiple_of(4);
        let room = out.get_mut(body..end)?;
        room.fill(0);
        room[..bytes.len()].copy_from_slice(bytes);
    }
    let (head, content) = out.get_mut(..end)?.split_at_mut(HEADER);
    let length = u32::try_from(content.len()).ok()?;
    for (index, value) in [MAGIC, sequence, length, 0].into_iter().enumerate() {
        head[4 * index..][..4].copy_from_slice(&value.to_le_bytes());
    }
    let digest = digest_of(&head[..DIGEST_AT], content);
    head[DIGEST_AT..].copy_from_slice(&digest);
    Some(end)
}

fn digest_of(head: &[u8], content: &[u8]) -> [u8; 32] {
    let hash = Sha256::new().chain_update(head).chain_update(content);
    hash.finalize().into()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const SECTOR: usize = 256;
    const SLOT: usize = 1024;

    fn slot(sequence: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0xff; SLOT];
        let sections = [
            (Section::SerialNumber, name),
            (Section::Configuration, &[7; 301][..]),
        ];
        write(sequence, &sections, &mut bytes).expect("it fits");
        bytes
    }

    fn name(region: &[u8]) -> Option<&[u8]> {
        let (_, slot) = newest(halves(region))?;
        slot.section(Section::SerialNumber)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut region = slot(7, b"unit");
        region.extend(slot(6, b"before"));
        assert_eq!(name(&region), Some(&b"unit"[..]));
        assert_eq!(configuration(&region), [7; 301]);
        let (_, found) = newest(halves(&region)).expect("it is whole");
        assert_eq!(found.section(Section::Key), None);
        // Numbers that have come round.
        let mut region = slot(u32::MAX, b"old");
        region.extend(slot(0, b"new"));
        assert_eq!(name(&region), Some(&b"new"[..]));
    }

    #[test]
    fn what_was_never_provisioned_has_its_configuration_in_front() {
        let region = [1, 2, 3, 4, 5, 6];
        assert_eq!(configuration(&region), region);
        assert!(write(0, &[(Section::Key, &[0; 64])], &mut [0; 100]).is_none());
    }

    #[test]
    fn a_broken_slot_does_not_count_wherever_a_bit_is_wrong() {
        let whole = slot(1, b"unit");
        let end = length(&whole).expect("a slot");
        for bit in 0..8 * end {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let unused = bit / 8 >= 12 && bit / 8 < DIGEST_AT;
            let parsed = Provision::parse(&broken);
            assert!(parsed.is_none(), "bit {bit}, {unused}");
        }
    }

    /// Erasing a sector and programming a word take effect one after the other, and each may be cut off in its middle.
    #[test]
    fn the_power_may_fail_at_every_single_write() {
        for (current, next) in [(0, 1), (1, 0)] {
            let mut flash = vec![0xff; 2 * SLOT];
            let other = slot(4, b"older");
            flash[current * SLOT..][..SLOT].copy_from_slice(&slot(5, b"old"));
            flash[next * SLOT..][..SLOT].copy_from_slice(&other);
            let new = slot(6, b"new");
            let mut seen_old = 0;
            let mut check = |flash: &[u8], done: bool| {
                let name = name(flash).expect("never nobody");
                match done {
                    true => assert_eq!(name, b"new"),
                    false => assert!(name == b"old" || name == b"new"),
                }
                seen_old += usize::from(name == b"old");
            };
            let start = next * SLOT;
            for sector in 0..SLOT / SECTOR {
                let at = start + sector * SECTOR;
                // Half erased, anything between: some bits are ones already.
                flash[at..at + SECTOR]
                    .iter_mut()
                    .step_by(3)
                    .for_each(|byte| *byte |= 0xa5);
                check(&flash, false);
                flash[at..at + SECTOR].fill(0xff);
                check(&flash, false);
            }
            for at in (0..SLOT).step_by(4) {
                for (index, byte) in new[at..at + 4].iter().enumerate() {
                    flash[start + at + index] &= byte | 0x0f; // half programmed
                    check(&flash, false);
                    flash[start + at + index] &= byte;
                    check(&flash, false);
                }
            }
            check(&flash, true);
            assert!(seen_old > 500, "{seen_old}: it was the old one for long");
        }
    }
}
