//! What this server's UEFI firmware says of itself, and which kernel images it would start.

use std::fs;

/// The value of a variable.
pub fn variable(name: &str, vendor: &str) -> Option<Vec<u8>> {
    let bytes = fs::read(format!("/sys/firmware/efi/efivars/{name}-{vendor}")).ok()?;
    // The first four are attributes.
    bytes.get(4..).map(<[u8]>::to_vec)
}

/// Refuses a kernel image that the firmware would not start, before it is written. That it arrived whole is known, so it is enough
/// to look whose signature it has.
pub fn would_start(kernel: &[u8]) -> Result<(), String> {
    let secure = variable("SecureBoot", GLOBAL).is_some_and(|value| value.first() == Some(&1));
    if !secure || is_signed_with_one_of(kernel, &variable("db", IMAGES).unwrap_or_default()) {
        return Ok(());
    }
    Err(
        "the firmware asks for signatures (Secure Boot), and the kernel image has none by a key that it knows"
            .to_owned(),
    )
}

fn is_signed_with_one_of(kernel: &[u8], db: &[u8]) -> bool {
    let signatures = signatures(kernel).unwrap_or_default();
    certificates(db).any(|known| {
        let mut parts = signatures.windows(known.len().max(1));
        parts.any(|part| part == known)
    })
}

/// The certificates of a signature database (UEFI §32.4.1): lists, in each of which all entries are of one kind and one size.
fn certificates(mut db: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut known = Vec::new();
    while let Some((kind, [length, header, entry])) =
        db.split_at_checked(16).and_then(|(kind, rest)| {
            let number =
                |at: usize| Some(u32::from_le_bytes(rest.get(at..at + 4)?.try_into().ok()?));
            Some((
                kind,
                [
                    number(0)? as usize,
                    number(4)? as usize,
                    number(8)? as usize,
                ],
            ))
        })
    {
        let entries = LIST_HEADER
            .checked_add(header)
            .and_then(|from| db.get(from..length));
        if kind == X509 && entry > OWNER {
            let entries = entries.unwrap_or_default().chunks_exact(entry);
            known.extend(entries.map(|entry| &entry[OWNER..]));
        }
        let Some(rest) = db.get(length.max(LIST_HEADER)..) else {
            break;
        };
        db = rest;
    }
    known.into_iter()
}

/// Where a program has its signatures: the fifth data directory of a PE32+ header, which gives offset and size in the file.
fn signatures(program: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| {
        let bytes = program.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let optional = number(0x3c)?.checked_add(24)?;
    if program.get(optional..optional.checked_add(2)?)? != PE32_PLUS {
        return None;
    }
    let (offset, size) = (number(optional + 144)?, number(optional + 148)?);
    program.get(offset..offset.checked_add(size)?)
}

const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
const IMAGES: &str = "d719b2cb-3d3a-4596-a3bc-dad00e67656f";
/// a5c059a1-94e4-4aa7-87b5-ab155c2bf072, as it is in memory.
const X509: &[u8] = &[
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
const LIST_HEADER: usize = 28;
/// Who has put it there stands before each entry.
const OWNER: usize = 16;
const PE32_PLUS: &[u8] = &[0x0b, 0x02];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_program_with_a_known_signature_is_started() {
        let (ours, theirs) = (&b"our certificate"[..], &b"their certificate"[..]);
        let db = [
            list(X509, &[ours, b"another one of it"[..15].as_ref()]),
            list(&[7; 16], &[theirs]),
        ]
        .concat();
        let table = [
            ("signed by us", program(ours), true),
            ("signed by others", program(theirs), false),
            ("unsigned", program(b""), false),
            (
                "our certificate outside of the signature",
                [program(b""), ours.to_vec()].concat(),
                false,
            ),
            ("nothing", Vec::new(), false),
            ("cut off", program(ours)[..400].to_vec(), false),
        ];
        for (what, program, starts) in table {
            assert_eq!(is_signed_with_one_of(&program, &db), starts, "{what}");
        }
        // No length in a database leads out of it, or never on.
        for cut in 0..db.len() {
            let _ = is_signed_with_one_of(&program(ours), &db[..cut]);
            let mut odd = db.clone();
            odd[cut] ^= 0xff;
            let _ = is_signed_with_one_of(&program(ours), &odd);
        }
        assert!(!is_signed_with_one_of(&program(ours), &[]));
    }

    fn list(kind: &[u8], entries: &[&[u8]]) -> Vec<u8> {
        let entry = OWNER + entries[0].len();
        let length = LIST_HEADER + entry * entries.len();
        let mut list = kind.to_vec();
        for number in [length, 0, entry] {
            list.extend_from_slice(&u32::try_from(number).unwrap().to_le_bytes());
        }
        for entry in entries {
            list.extend_from_slice(&[1; OWNER]);
            list.extend_from_slice(entry);
        }
        list
    }

    fn program(signature: &[u8]) -> Vec<u8> {
        let mut program = vec![0; 512];
        program[0x3c] = 64;
        program[88..90].copy_from_slice(PE32_PLUS);
        program[88 + 144..88 + 148].copy_from_slice(&512_u32.to_le_bytes());
        let size = u32::try_from(signature.len()).unwrap();
        program[88 + 148..88 + 152].copy_from_slice(&size.to_le_bytes());
        program.extend_from_slice(signature);
        program
    }
}
