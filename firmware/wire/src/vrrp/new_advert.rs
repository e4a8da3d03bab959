//! Advertisements to send.

use core::net::IpAddr;

use crate::checksum::Sum;

use super::trailer::{self, Signature};
use super::{
    Checksum, Ends, HEADER, MAX_ADDRESSES, NO_AUTHENTICATION, PASSWORD, SIMPLE_PASSWORD, Version,
    header, message_len,
};

/// An advertisement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewAdvert<'a> {
    /// The version to speak.
    pub version: Version,
    /// The virtual router that this is about.
    pub vrid: u8,
    /// 0 to give up.
    pub priority: u8,
    /// How often this router advertises, in centiseconds, 1 to 4095. Version 2 sends whole seconds.
    pub interval: u16,
    /// The addresses that the sender answers for: all of the IP version that carries it. Those beyond [`MAX_ADDRESSES`] are left
    /// out.
    pub addresses: &'a [IpAddr],
    /// What the checksum is over, where there is a choice: version 3 with IPv4.
    pub checksum: Checksum,
    /// Version 2's password.
    pub password: Option<[u8; PASSWORD]>,
    /// Who signs it, and as which one in a row.
    pub signature: Option<Signature<'a>>,
}

impl<'a> NewAdvert<'a> {
    /// A plain advertisement of version 3.
    #[must_use]
    pub const fn v3(vrid: u8, priority: u8, interval: u16, addresses: &'a [IpAddr]) -> Self {
        Self {
            version: Version::V3,
            vrid,
            priority,
            interval,
            addresses,
            checksum: Checksum::Message,
            password: None,
            signature: None,
        }
    }

    /// Bytes that [`Self::write`] needs.
    #[must_use]
    pub fn size(&self, ends: &Ends) -> usize {
        self.message_len(ends)
            + if self.signature.is_some() {
                trailer::LEN
            } else {
                0
            }
    }

    /// Writes the message, with its trailer, to the front of `buffer`, for a packet between `ends`; `None` if it does not fit, or
    /// if an address is of another IP version.
    pub fn write<'b>(&self, ends: &Ends, buffer: &'b mut [u8]) -> Option<&'b [u8]> {
        let len = self.message_len(ends);
        let payload = buffer.get_mut(..self.size(ends))?;
        let (message, rest) = payload.split_at_mut_checked(len)?;
        let own = match self.version {
            Version::V2 => {
                let kind = self.password.map_or(NO_AUTHENTICATION, |_| SIMPLE_PASSWORD);
                [kind, u8::try_from(self.interval / 100).unwrap_or(u8::MAX)]
            }
            Version::V3 => (self.interval & 0x0fff).to_be_bytes(),
        };
        let count = u8::try_from(self.addresses().len()).ok()?;
        let (front, mut body) = message.split_first_chunk_mut::<HEADER>()?;
        *front = header(self.version, self.vrid, self.priority, count, own, [0; 2]);
        for address in self.addresses() {
            body = match (ends, address) {
                (Ends::V4 { .. }, IpAddr::V4(address)) => put(body, address.octets())?,
                (Ends::V6 { .. }, IpAddr::V6(address)) => put(body, address.octets())?,
                (Ends::V4 { .. }, IpAddr::V6(_)) | (Ends::V6 { .. }, IpAddr::V4(_)) => return None,
            };
        }
        if self.version == Version::V2 {
            put(body, self.password.unwrap_or_default())?;
        }
        if let Some(signature) = &self.signature {
            signature.write(ends, message, rest)?;
        }
        let sum = match ends {
            Ends::V6 { .. } => ends.pseudo_header(payload.len()).bytes(payload),
            Ends::V4 { .. } => {
                let start = match (self.version, self.checksum) {
                    (Version::V3, Checksum::PseudoHeader) => ends.pseudo_header(len),
                    (Version::V3, Checksum::Message) | (Version::V2, _) => Sum::default(),
                };
                start.bytes(payload.get(..len)?)
            }
        };
        let place = payload.get_mut(HEADER - 2..HEADER)?;
        place.copy_from_slice(&sum.finish().to_be_bytes());
        Some(payload)
    }

    fn message_len(&self, ends: &Ends) -> usize {
        message_len(self.version, ends.address_len(), self.addresses().len())
    }

    fn addresses(&self) -> &'a [IpAddr] {
        let count = self.addresses.len().min(MAX_ADDRESSES);
        self.addresses.get(..count).unwrap_or_default()
    }
}

/// Writes to the front of `place`; what is left of it.
fn put<const N: usize>(place: &mut [u8], bytes: [u8; N]) -> Option<&mut [u8]> {
    let (front, rest) = place.split_first_chunk_mut::<N>()?;
    *front = bytes;
    Some(rest)
}
