//! A configuration blob of any content is refused or decoded; what was decoded encodes and decodes to itself.

#![no_main]

use crc::{CRC_32_ISO_HDLC, Crc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As read from flash, and with a header that fits, so that the fuzzer also gets behind the checksum.
    let _ = policy::decode(bytes);
    let Ok(config) = policy::decode(&sealed(bytes)) else { return };
    let mut buffer = vec![0; 64 * 1024];
    let blob = policy::encode(&config, &mut buffer).expect("a decoded configuration is valid");
    assert_eq!(policy::decode(blob).as_ref(), Ok(&config));
});

fn sealed(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short input");
    let checksum = Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(payload);
    [&b"RVLN\x01\x00\x00\x00"[..], &length.to_le_bytes(), &checksum.to_le_bytes(), payload].concat()
}
