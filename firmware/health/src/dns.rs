//! The query of a DNS check and its answer (RFC 1035).

use crate::exchange::Progress;
use crate::reason::Reason;

const HEADER: usize = 12;
/// Recursion desired.
const RD: u8 = 0x01;
/// In the third byte: this is a response.
const QR: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RCODE: u8 = 0x0f;
const A: u16 = 1;
const IN: u16 = 1;

/// Writes a query for the IPv4 address of `name`; its length, or `None` if that is no name or does not fit.
#[must_use]
pub fn query(id: u16, name: &str, buffer: &mut [u8]) -> Option<usize> {
    let [a, b] = id.to_be_bytes();
    let mut len = put(buffer, 0, &[a, b, RD, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.is_empty() {
        for label in name.split('.') {
            let count = u8::try_from(label.len())
                .ok()
                .filter(|n| (1..64).contains(n))?;
            len = put(buffer, len, &[count])?;
            len = put(buffer, len, label.as_bytes())?;
        }
    }
    len = put(buffer, len, &[0])?;
    len = put(buffer, len, &A.to_be_bytes())?;
    put(buffer, len, &IN.to_be_bytes())
}

/// What a datagram from the server's port says about `query`. One that does not repeat id and question is not the
/// answer, whoever sent it.
#[must_use]
pub fn answer(query: &[u8], datagram: &[u8]) -> Progress {
    let (Some(question), Some(rest)) = (query.get(HEADER..), datagram.get(HEADER..)) else {
        return Progress::Continue;
    };
    let &[a, b, flags, codes, ref counts @ ..] = datagram else {
        return Progress::Continue;
    };
    if query.get(..2) != Some(&[a, b]) || flags & QR == 0 || flags & OPCODE != 0 {
        return Progress::Continue;
    }
    let rcode = codes & RCODE;
    let repeated = counts.starts_with(&[0, 1])
        && rest
            .get(..question.len())
            .is_some_and(|other| other.eq_ignore_ascii_case(question));
    match rcode {
        0 if repeated => Progress::Good,
        0 => Progress::Continue,
        // An error may come without the question.
        _ if repeated || counts.starts_with(&[0, 0]) => Progress::Bad(Reason::Rcode(rcode)),
        _ => Progress::Continue,
    }
}

fn put(buffer: &mut [u8], at: usize, bytes: &[u8]) -> Option<usize> {
    buffer.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
    Some(at + bytes.len())
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::exchange::Progress::{Bad, Continue, Good};

    #[test]
    fn queries() {
        let mut buffer = [0; 512];
        let len = query(0x1234, "www.example.org", &mut buffer).unwrap();
        assert_eq!(
            &buffer[..len],
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03org\0\0\x01\0\x01"
        );
        let dotted = query(0x1234, "www.example.org.", &mut buffer);
        assert_eq!(dotted, Some(len));
        assert_eq!(query(1, ".", &mut buffer), Some(17), "the root");
        for name in ["a..b", ".a", "a..", &["a"; 64].concat()] {
            assert_eq!(query(1, name, &mut buffer), None, "{name}");
        }
        assert_eq!(query(1, "example.org", &mut buffer[..20]), None);
    }

    #[test]
    fn answers() {
        type Change = fn(&mut Vec<u8>);
        let table: [(&str, Change, Progress); 16] = [
            ("an answer", |_| {}, Good),
            ("without records", |d| d.truncate(29), Good),
            ("truncated flag", |d| d[2] |= 2, Good),
            (
                "another spelling",
                |d| d[13..16].make_ascii_uppercase(),
                Good,
            ),
            ("server failure", |d| d[3] = 2, Bad(Reason::Rcode(2))),
            ("no such name", |d| d[3] = 0x83, Bad(Reason::Rcode(3))),
            ("refused", |d| d[3] = 5, Bad(Reason::Rcode(5))),
            (
                "format error without question",
                |d| {
                    d.truncate(12);
                    d[3] = 1;
                    d[5] = 0;
                },
                Bad(Reason::Rcode(1)),
            ),
            ("another id", |d| d[1] ^= 1, Continue),
            ("a query", |d| d[2] &= !QR, Continue),
            ("a notification", |d| d[2] |= 0x20, Continue),
            ("another name", |d| d[13] = b'x', Continue),
            ("another type", |d| d[26] = 28, Continue),
            ("no question", |d| d[5] = 0, Continue),
            ("cut in the question", |d| d.truncate(28), Continue),
            ("cut in the header", |d| d.truncate(11), Continue),
        ];
        let mut buffer = [0; 64];
        let len = query(7, "example.org", &mut buffer).unwrap();
        let asked = &buffer[..len];
        assert_eq!(len, 29);
        for (name, change, expected) in table {
            let mut datagram = asked.to_vec();
            datagram[2] |= QR;
            datagram[3] = 0x80;
            datagram.extend_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
            change(&mut datagram);
            assert_eq!(answer(asked, &datagram), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn anything(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut buffer = [0; 64];
            let len = query(7, "example.org", &mut buffer).expect("a name");
            if answer(&buffer[..len], &bytes) != Continue {
                prop_assert_eq!(&bytes[..2], &[0, 7]);
            }
        }
    }
}
