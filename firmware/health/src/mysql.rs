//! The first packet of a MySQL or MariaDB server: its greeting, or an error.

use crate::exchange::Progress;
use crate::reason::Reason;

/// Reads the first packet: a header of a 24-bit length and a sequence number, then protocol version 10 and what
/// belongs to it, or 0xff and an error code.
#[derive(Clone, Debug, Default)]
pub struct Mysql {
    /// Length that the header announces.
    len: usize,
    /// Bytes read so far, the header's four included.
    read: usize,
    /// Whether the server's version has been read up to its zero.
    version_ends: Option<usize>,
    code: u16,
    done: Option<Progress>,
}

const HEADER: usize = 4;
const PROTOCOL: u8 = 10;
const ERROR: u8 = 0xff;
/// A longer greeting is none. Real ones have 70 to 120 bytes, errors up to 512 bytes of text.
const MAX_LEN: usize = 1024;
/// Bytes behind the version in any greeting of protocol 10: thread, scramble, filler, capabilities.
const MIN_REST: usize = 4 + 8 + 1 + 2;

impl Mysql {
    /// A reader at the beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the server.
    #[must_use]
    pub fn receive(&mut self, bytes: &[u8]) -> Progress {
        for &byte in bytes {
            if let Some(progress) = self.done {
                return progress;
            }
            self.done = self.next(byte);
            self.read += 1;
        }
        self.done.unwrap_or(Progress::Continue)
    }

    fn next(&mut self, byte: u8) -> Option<Progress> {
        let garbage = Some(Progress::Bad(Reason::Garbage));
        let at = self.read;
        match at {
            0..3 => {
                self.len |= usize::from(byte) << (8 * at);
                return None;
            }
            3 if self.len > MAX_LEN => return Some(Progress::Bad(Reason::TooLong)),
            3 if self.len < 3 => return garbage,
            // The sequence number: always the first, but some errors of old servers count otherwise.
            3 => return None,
            HEADER if byte == PROTOCOL => return None,
            HEADER if byte == ERROR => {
                self.version_ends = Some(0);
                return None;
            }
            HEADER => return garbage,
            _ => {}
        }
        match self.version_ends {
            Some(0) if at == HEADER + 1 => {
                self.code = u16::from(byte);
                None
            }
            Some(0) => Some(Progress::Bad(Reason::Mysql(
                self.code | u16::from(byte) << 8,
            ))),
            None if byte == 0 => {
                self.version_ends = Some(at);
                let rest = (HEADER + self.len).saturating_sub(at + 1);
                // An empty version, or no room for what follows it.
                if at == HEADER + 1 || rest < MIN_REST {
                    return garbage;
                }
                None
            }
            None if at + 1 >= HEADER + self.len => garbage,
            None => None,
            Some(_) if at + 1 == HEADER + self.len => Some(Progress::Good),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::exchange::Progress::{Bad, Continue, Good};

    #[test]
    fn greetings() {
        let good = greeting(b"8.0.36");
        let maria = greeting(b"5.5.5-10.11.14-MariaDB-0+deb12u2");
        let table: [(&str, Vec<u8>, Progress); 14] = [
            ("mysql", good.clone(), Good),
            ("mariadb", maria.clone(), Good),
            (
                "all but the last byte",
                good[..good.len() - 1].to_vec(),
                Continue,
            ),
            ("only the header", good[..4].to_vec(), Continue),
            (
                "too many connections",
                error(1040, b"Too many connections"),
                Bad(Reason::Mysql(1040)),
            ),
            (
                "host blocked",
                error(
                    1129,
                    b"Host '10.9.0.2' is blocked because of many connection errors",
                ),
                Bad(Reason::Mysql(1129)),
            ),
            (
                "error without text",
                error(1130, b""),
                Bad(Reason::Mysql(1130)),
            ),
            ("protocol 9", packet(b"\x093.20\0"), Bad(Reason::Garbage)),
            (
                "no version",
                packet(&[&[PROTOCOL, 0][..], &[1; 30]].concat()),
                Bad(Reason::Garbage),
            ),
            (
                "version without end",
                packet(b"\x0a8.0.36"),
                Bad(Reason::Garbage),
            ),
            (
                "nothing behind the version",
                packet(b"\x0a8.0.36\0abc"),
                Bad(Reason::Garbage),
            ),
            ("empty packet", packet(b""), Bad(Reason::Garbage)),
            (
                "huge packet",
                b"\xff\xff\xff\0".to_vec(),
                Bad(Reason::TooLong),
            ),
            (
                "another protocol",
                b"HTTP/1.1 400 Bad Request\r\n".to_vec(),
                Bad(Reason::TooLong),
            ),
        ];
        for (name, bytes, expected) in table {
            assert_eq!(Mysql::new().receive(&bytes), expected, "{name}");
            let mut mysql = Mysql::new();
            let mut progress = Continue;
            for byte in &bytes {
                progress = mysql.receive(&[*byte]);
            }
            assert_eq!(progress, expected, "{name}, byte by byte");
            if expected != Continue {
                assert_eq!(mysql.receive(&good), expected, "{name}, then more");
            }
        }
    }

    proptest! {
        /// No bytes panic, and only a packet of protocol 10 is good.
        #[test]
        fn anything(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if Mysql::new().receive(&bytes) == Good {
                prop_assert_eq!(bytes[4], PROTOCOL);
            }
        }

        /// A changed greeting never does worse than a wrong verdict, and ends.
        #[test]
        fn bent_greetings(at in 0..60_usize, to: u8) {
            let mut bytes = greeting(b"8.0.36");
            let at = at % bytes.len();
            bytes[at] = to;
            bytes.resize(2048, 7);
            prop_assert_ne!(Mysql::new().receive(&bytes), Continue);
        }
    }

    fn greeting(version: &[u8]) -> Vec<u8> {
        let mut payload = Vec::from([PROTOCOL]);
        payload.extend_from_slice(version);
        payload.push(0);
        payload.extend_from_slice(&[9, 0, 0, 0]);
        payload.extend_from_slice(b"abcdefgh\0");
        payload.extend_from_slice(&[0xff, 0xf7, 0x21, 2, 0, 0xff, 0x81, 21]);
        payload.extend_from_slice(&[0; 10]);
        payload.extend_from_slice(b"ijklmnopqrst\0mysql_native_password\0");
        packet(&payload)
    }

    fn error(code: u16, text: &[u8]) -> Vec<u8> {
        let mut payload = Vec::from([ERROR]);
        payload.extend_from_slice(&code.to_le_bytes());
        payload.extend_from_slice(text);
        packet(&payload)
    }

    fn packet(payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_le_bytes();
        [&len[..3], &[0], payload].concat()
    }
}
