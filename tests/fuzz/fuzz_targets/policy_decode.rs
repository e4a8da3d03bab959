//! A policy's blob of any content is refused or loaded; what was decoded encodes and decodes to itself.

#![no_main]

use classifier::Aligned;
use crc::{CRC_32_ISO_HDLC, Crc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As read from flash, and with a header that fits, so that the fuzzer also gets behind the checksum.
    let _ = classifier::load(&Aligned::copy(bytes));
    let whole = Aligned::copy(&sealed(bytes));
    let Ok((config, tables)) = policy::decode(&whole) else { return };
    let _ = classifier::load(&whole);
    let mut buffer = vec![0; 64 * 1024];
    let blob = policy::encode(&config, tables, &mut buffer).expect("a decoded configuration is valid");
    assert_eq!(policy::decode(blob), Ok((config.clone(), tables)));
});

fn sealed(payload: &[u8]) -> Vec<u8> {
    // The first byte says how much of the rest is the configuration, the rest of it the tables.
    let (share, payload) = payload.split_first().unwrap_or((&0, &[]));
    let begin = payload.len() * usize::from(*share) / 256 / 4 * 4;
    let length = |bytes: usize| u32::try_from(bytes).expect("a short input").to_le_bytes();
    let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(payload).to_le_bytes();
    let (config, tables) = (length(begin), length(payload.len() - begin));
    [&b"RVLN\x02\x00\x00\x00"[..], &config, &tables, &checksum, payload].concat()
}
