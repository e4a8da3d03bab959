//! An advertisement of any content is refused or read; nothing else.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::vrrp::Advert::parse(bytes);
});
