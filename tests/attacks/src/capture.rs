//! Capture files (pcapng) that say by themselves what becomes of each frame: the section's comment is the attack, interfaces
//! are the legs, and each frame's comment is its end. The same attack gives the same bytes.

use std::time::Duration;

use differential::site::NAMES;
use node::Drop;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{Block, PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use crate::{Attack, End, Frame};

/// An attack as a file.
///
/// # Errors
/// If a name is too long for the format.
pub fn write(attack: &Attack) -> Result<Vec<u8>, String> {
    let section = SectionHeaderBlock {
        endianness: Endianness::Little,
        options: vec![
            SectionHeaderOption::Common(CommonOption::Comment(attack.what.as_str().into())),
            SectionHeaderOption::Common(CommonOption::Comment(attack.described.as_str().into())),
        ],
        ..SectionHeaderBlock::default()
    };
    let text = |error| format!("{}: {error}", attack.name);
    let mut writer = PcapNgWriter::with_section_header(Vec::new(), section).map_err(text)?;
    for name in NAMES {
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfName(name.into())],
        };
        writer.write_pcapng_block(interface).map_err(text)?;
    }
    for (number, frame) in (0..).zip(&attack.frames) {
        let packet = EnhancedPacketBlock {
            interface_id: frame.leg.into(),
            timestamp: Duration::from_millis(number),
            original_len: frame.bytes.len() as u32,
            data: frame.bytes.as_slice().into(),
            options: vec![EnhancedPacketOption::Common(CommonOption::Comment(
                frame.end.to_string().into(),
            ))],
        };
        writer.write_pcapng_block(packet).map_err(text)?;
    }
    Ok(writer.into_inner())
}

/// The attack in a file with this name.
///
/// # Errors
/// With what is not as [`write()`] makes it.
pub fn read(name: &str, file: &[u8]) -> Result<Attack, String> {
    let mut reader = PcapNgReader::new(file).map_err(|error| format!("{name}: {error}"))?;
    let comments = |options: &[SectionHeaderOption<'_>]| -> Vec<String> {
        let comment = |option: &SectionHeaderOption<'_>| match option {
            SectionHeaderOption::Common(CommonOption::Comment(text)) => Some(text.to_string()),
            _ => None,
        };
        options.iter().filter_map(comment).collect()
    };
    let [what, described] = comments(&reader.section().options)
        .try_into()
        .map_err(|_| format!("{name}: not two comments"))?;
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        let (block, _) = block.map_err(|error| format!("{name}: {error}"))?;
        let Block::EnhancedPacket(packet) = block else {
            continue;
        };
        let comment = packet.options.iter().find_map(|option| match option {
            EnhancedPacketOption::Common(CommonOption::Comment(text)) => Some(text),
            _ => None,
        });
        let end = comment.and_then(|text| End::named(text));
        frames.push(Frame {
            leg: packet.interface_id as u8,
            bytes: packet.data.to_vec(),
            end: end.ok_or_else(|| format!("{name}: {comment:?} is no end"))?,
        });
    }
    Ok(Attack {
        name: name.to_owned(),
        what,
        described,
        frames,
    })
}

const PASSES: &str = "passes";
const DROPPED: &str = "dropped: ";
const ANSWERED: &str = "dropped and answered: ";

impl End {
    /// The end with these words.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let drop = |name: &str| Drop::ALL.iter().copied().find(|drop| drop.name() == name);
        if let Some(name) = text.strip_prefix(DROPPED) {
            return drop(name).map(Self::Dropped);
        }
        if let Some(name) = text.strip_prefix(ANSWERED) {
            return drop(name).map(Self::Answered);
        }
        (text == PASSES).then_some(Self::Passes)
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dropped(drop) => write!(f, "{DROPPED}{drop}"),
            Self::Answered(drop) => write!(f, "{ANSWERED}{drop}"),
            Self::Passes => f.write_str(PASSES),
        }
    }
}
