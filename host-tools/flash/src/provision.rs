//! Who a device is: its configuration, number, addresses and keys, in the older of two slots of its flash. What the device has and may
//! keep stays; a private key is made here when there is none, handed over, and forgotten.

use slots::provision::{self, Provision, Section};

use crate::{Job, Options};

/// The key of a device and the certificate to it.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The private key, PKCS #8 DER.
    pub key: Vec<u8>,
}

/// Whoever makes keys and certificates of devices.
pub trait Issuer: Send + Sync {
    /// Whether a certificate that a device has may stay.
    fn is_good(&self, appliance: &str, certificate: &[u8]) -> bool;
    /// A new key with its certificate.
    ///
    /// # Errors
    /// If there is no authority, in words.
    fn issue(&self, appliance: &str) -> Result<Credentials, String>;
}

/// The slots of a board's configuration as they are in its flash; erased, foreign or unreadable ones are empty.
pub(crate) type Slots = [Vec<u8>; 2];

/// Which slot is written, and with what; `None` if the device has all of it already.
pub(crate) struct Next {
    /// Where.
    pub address: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// What the newer slot says that the unit is called.
pub(crate) fn serial_number(slots: &Slots) -> Option<String> {
    let (_, newest) = newest(slots)?;
    let number = newest.section(Section::SerialNumber)?;
    String::from_utf8(number.to_vec()).ok()
}

/// The configuration that counts in these slots.
pub(crate) fn configuration(slots: &Slots) -> Option<&[u8]> {
    newest(slots)?.1.section(Section::Configuration)
}

fn newest(slots: &Slots) -> Option<(usize, Provision<'_>)> {
    provision::newest([&slots[0], &slots[1]])
}

/// What has to be written so that the device is this appliance.
///
/// # Errors
/// If there is no key for it, in words.
pub(crate) fn next(slots: &Slots, job: &Job, options: &Options) -> Result<Option<Next>, String> {
    let (appliance, image) = (&job.appliance, &job.image);
    let (board, issuer) = (&image.firmware.board, job.issuer.as_deref());
    let newest = newest(slots);
    let had = |section| newest.and_then(|(_, slot)| slot.section(section));
    let kept = had(Section::Certificate)
        .zip(had(Section::Key))
        .filter(|(certificate, _)| {
            !options.rotate && issuer.is_none_or(|issuer| issuer.is_good(appliance, certificate))
        })
        .map(|(certificate, key)| Credentials {
            certificate: certificate.to_vec(),
            key: key.to_vec(),
        });
    let credentials = match (kept, issuer) {
        (Some(kept), _) => Some(kept),
        (None, Some(issuer)) => Some(issuer.issue(appliance)?),
        (None, None) => None,
    };
    let number = match had(Section::SerialNumber) {
        Some(number) => number.to_vec(),
        None => format!("RV-{:08X}", rand::random::<u32>()).into_bytes(),
    };
    let mut sections = vec![
        (Section::Configuration, &*image.configuration),
        (Section::SerialNumber, &*number),
        (Section::Macs, image.macs.as_flattened()),
    ];
    if let Some(credentials) = &credentials {
        sections.push((Section::Certificate, &*credentials.certificate));
        sections.push((Section::Key, &*credentials.key));
    }
    let size = board.config_size / 2;
    let encode = |sequence| {
        let mut bytes = vec![0; size];
        let length = provision::write(sequence, &sections, &mut bytes);
        bytes.truncate(length.ok_or("it does not fit into a slot")?);
        Ok::<_, String>(bytes)
    };
    let (slot, sequence) = match newest {
        Some((slot, current)) if !options.erase_all => {
            if encode(current.sequence)? == slots[slot] {
                return Ok(None);
            }
            (1 - slot, current.sequence.wrapping_add(1))
        }
        _ => (0, 1),
    };
    Ok(Some(Next {
        address: board.config_address + (slot * size) as u64,
        bytes: encode(sequence)?,
    }))
}
