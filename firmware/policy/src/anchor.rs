//! Who signs the certificates of servers that are checked over TLS.

use heapless::Vec;
use serde::{Deserialize, Serialize};

/// Most authorities that an appliance knows.
pub const MAX_ANCHORS: usize = 4;
/// Longest name of an authority.
const MAX_SUBJECT: usize = 256;
/// Longest key: RSA with 4096 bits takes 550 bytes.
const MAX_KEY: usize = 576;
/// Longest list of names that an authority is confined to.
const MAX_CONSTRAINTS: usize = 256;

/// A trust anchor (RFC 5280 §6.1.1): what verifying needs of an authority's certificate. The host takes it out, so that the
/// appliance reads no certificate of an authority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// Content of the distinguished name, in DER.
    pub subject: Vec<u8, MAX_SUBJECT>,
    /// Content of the SubjectPublicKeyInfo, in DER.
    pub key: Vec<u8, MAX_KEY>,
    /// Content of the name constraints, in DER; empty for none.
    pub constraints: Vec<u8, MAX_CONSTRAINTS>,
}

/// Whose certificates are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Trust {
    /// Those that this authority of the configuration signed, for the name that is asked.
    Anchor(u8),
    /// Everybody's: somebody has written down that it does not matter.
    Anybody,
}
