//! The request of an HTTP check, and the status line of the answer (RFC 9112).

use core::ops::RangeInclusive;

use crate::exchange::Progress;
use crate::reason::Reason;

/// Reads an answer up to the status that counts.
#[derive(Clone, Debug)]
pub struct Http {
    good: RangeInclusive<u16>,
    place: Place,
    /// Bytes read so far.
    read: u16,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Byte `0..9` of "HTTP/1.x ".
    Version(u8),
    /// The status, after so many of its digits.
    Status { digits: u8, value: u16 },
    /// Headers of an interim answer (1xx), in a line that is empty so far or not.
    Interim { empty: bool },
    /// After the verdict.
    Done(Progress),
}

/// Bytes within which the status has to come: interim answers and their headers.
const MAX_READ: u16 = 8192;

const VERSION: &[u8; 7] = b"HTTP/1.";

impl Http {
    /// A reader that calls these statuses good.
    #[must_use]
    pub fn new(good: RangeInclusive<u16>) -> Self {
        Self {
            good,
            place: Place::Version(0),
            read: 0,
        }
    }

    /// Takes the next bytes of the answer.
    #[must_use]
    pub fn receive(&mut self, bytes: &[u8]) -> Progress {
        for &byte in bytes {
            if let Place::Done(progress) = self.place {
                return progress;
            }
            self.read += 1;
            self.place = match self.next(byte) {
                Place::Done(progress) => Place::Done(progress),
                _ if self.read >= MAX_READ => Place::Done(Progress::Bad(Reason::TooLong)),
                place => place,
            };
        }
        match self.place {
            Place::Done(progress) => progress,
            Place::Version(_) | Place::Status { .. } | Place::Interim { .. } => Progress::Continue,
        }
    }

    fn next(&self, byte: u8) -> Place {
        match (self.place, byte) {
            // RFC 9112 §2.2: an empty line in front is tolerated.
            (Place::Version(0), b'\r' | b'\n') => Place::Version(0),
            (Place::Version(7), b'0'..=b'9') => Place::Version(8),
            (Place::Version(8), b' ') => Place::Status {
                digits: 0,
                value: 0,
            },
            (Place::Version(at), byte) if VERSION.get(usize::from(at)) == Some(&byte) => {
                Place::Version(at + 1)
            }
            (Place::Status { digits, value }, b'0'..=b'9') if digits < 3 => Place::Status {
                digits: digits + 1,
                value: 10 * value + u16::from(byte - b'0'),
            },
            // The reason phrase may be missing, even with its space.
            (Place::Status { digits: 3, value }, b' ' | b'\r' | b'\n') => self.judge(value, byte),
            (Place::Interim { empty: true }, b'\n') => Place::Version(0),
            (Place::Interim { .. }, b'\n') => Place::Interim { empty: true },
            (Place::Interim { empty }, b'\r') => Place::Interim { empty },
            (Place::Interim { .. }, _) => Place::Interim { empty: false },
            (Place::Version(_) | Place::Status { .. }, _) => {
                Place::Done(Progress::Bad(Reason::Garbage))
            }
            (Place::Done(progress), _) => Place::Done(progress),
        }
    }

    fn judge(&self, status: u16, byte: u8) -> Place {
        match status {
            _ if self.good.contains(&status) => Place::Done(Progress::Good),
            // The final answer follows; after "switching protocols" it would not (RFC 9110 §15.2).
            100 | 102..=199 => Place::Interim {
                empty: byte == b'\n',
            },
            0..100 => Place::Done(Progress::Bad(Reason::Garbage)),
            _ => Place::Done(Progress::Bad(Reason::Status(status))),
        }
    }
}

/// Writes the request; its length, or `None` if it does not fit.
pub(crate) fn request(host: &str, path: &str, buffer: &mut [u8]) -> Option<usize> {
    let parts = [
        "GET ",
        path,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUser-Agent: ravelin\r\nAccept: */*\r\nConnection: close\r\n\r\n",
    ];
    let mut len = 0;
    for part in parts {
        let place = buffer.get_mut(len..len + part.len())?;
        place.copy_from_slice(part.as_bytes());
        len += part.len();
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::exchange::Progress::{Bad, Continue, Good};

    #[test]
    fn answers() {
        let long = [b'a'; 9000];
        let table: [(&str, &[u8], Progress); 22] = [
            ("the usual", b"HTTP/1.1 200 OK\r\n", Good),
            ("at its first sufficient byte", b"HTTP/1.1 200 ", Good),
            ("not before", b"HTTP/1.1 200", Continue),
            ("no reason phrase", b"HTTP/1.1 204\r\n", Good),
            ("no carriage return", b"HTTP/1.1 200\n", Good),
            ("version 1.0", b"HTTP/1.0 200 OK\r\n", Good),
            ("an empty line in front", b"\r\nHTTP/1.1 200 OK\r\n", Good),
            ("the highest", b"HTTP/1.1 399 \r\n", Good),
            ("above", b"HTTP/1.1 400 \r\n", Bad(Reason::Status(400))),
            (
                "unavailable",
                b"HTTP/1.1 503 Service Unavailable\r\n",
                Bad(Reason::Status(503)),
            ),
            ("nothing", b"", Continue),
            ("interim", b"HTTP/1.1 100 Continue\r\n", Continue),
            (
                "interim, then final",
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 \r\n",
                Bad(Reason::Status(503)),
            ),
            (
                "interim with headers",
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n b\r\n\r\nHTTP/1.1 200 OK\r\n",
                Good,
            ),
            (
                "interim without end",
                b"HTTP/1.1 102\n\nHTTP/1.1 200 ",
                Good,
            ),
            (
                "other protocol",
                b"HTTP/1.1 101 Switching\r\n",
                Bad(Reason::Status(101)),
            ),
            ("two digits", b"HTTP/1.1 20 OK\r\n", Bad(Reason::Garbage)),
            ("four digits", b"HTTP/1.1 2000 OK\r\n", Bad(Reason::Garbage)),
            (
                "status below 100",
                b"HTTP/1.1 099 OK\r\n",
                Bad(Reason::Garbage),
            ),
            ("version 2", b"HTTP/2 200\r\n", Bad(Reason::Garbage)),
            ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", Bad(Reason::Garbage)),
            ("a page without status", b"<html>", Bad(Reason::Garbage)),
        ];
        for (name, bytes, expected) in table {
            check(name, bytes, expected);
        }
        let mut endless = b"HTTP/1.1 100 Continue\r\n".to_vec();
        endless.extend_from_slice(&long);
        check("headers without end", &endless, Bad(Reason::TooLong));
        check(
            "line breaks without end",
            &[b'\n'; 9000],
            Bad(Reason::TooLong),
        );
    }

    #[test]
    fn a_range_may_hold_anything() {
        for (good, status, expected) in [
            (101..=101, "101", Good),
            (401..=401, "401", Good),
            (401..=401, "200", Bad(Reason::Status(200))),
        ] {
            let answer = std::format!("HTTP/1.1 {status} \r\n");
            assert_eq!(
                Http::new(good).receive(answer.as_bytes()),
                expected,
                "{status}"
            );
        }
    }

    #[test]
    fn the_request_says_who_is_asked() {
        let mut buffer = [0; 512];
        let len = request("www.example.com", "/health?full=1", &mut buffer).unwrap();
        assert_eq!(
            &buffer[..len],
            b"GET /health?full=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: ravelin\r\n\
              Accept: */*\r\nConnection: close\r\n\r\n"
        );
        let [host, path] = [["a"; 63].concat(), ["/"; 63].concat()];
        let len = request(&host, &path, &mut buffer).unwrap();
        assert_eq!(request(&host, &path, &mut buffer[..len - 1]), None);
    }

    /// In one piece and byte by byte.
    fn check(name: &str, bytes: &[u8], expected: Progress) {
        assert_eq!(Http::new(200..=399).receive(bytes), expected, "{name}");
        let mut http = Http::new(200..=399);
        let mut progress = http.receive(&[]);
        for byte in bytes {
            progress = http.receive(&[*byte]);
        }
        assert_eq!(progress, expected, "{name}, byte by byte");
        if expected != Continue {
            assert_eq!(
                http.receive(b"HTTP/1.1 200 OK\r\n"),
                expected,
                "{name}, then more"
            );
        }
    }

    proptest! {
        /// However an answer is cut, the verdict is the same.
        #[test]
        fn cuts_change_nothing(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                prop::collection::vec(prop::sample::select(b"HTTP/1. 123\r\n".to_vec()), 0..200),
                (0..1000_u16, "[ -~]{0,9}").prop_map(|(n, s)| std::format!("HTTP/1.1 {n:03} {s}\r\n\r\n").into_bytes()),
            ],
            cuts in prop::collection::vec(0..200_usize, 0..5),
        ) {
            let whole = Http::new(200..=299).receive(&bytes);
            let mut http = Http::new(200..=299);
            let mut progress = Continue;
            let mut ends = vec![bytes.len()];
            ends.extend(cuts.iter().map(|cut| cut % (bytes.len() + 1)));
            ends.sort_unstable();
            let mut start = 0;
            for end in ends {
                progress = http.receive(&bytes[start..end]);
                start = end;
            }
            prop_assert_eq!(progress, whole);
        }
    }
}
