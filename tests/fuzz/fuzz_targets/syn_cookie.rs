//! A SYN of any content is answered by a SYN-ACK whose cookie its ACK brings back, or not at all; no other ACK is taken.

#![no_main]

use filter::cookie::Cookies;
use filter::hash::Key;
use libfuzzer_sys::fuzz_target;
use time::{Duration, Instant};

fuzz_target!(|bytes: &[u8]| {
    let now = Instant::from_micros(1_000_000_000);
    let cookies = Cookies::new(Key::secret(1, 2));
    let Some((first, packet)) = bytes.split_first() else { return };
    let start = if first & 1 == 0 { 20 } else { 40 };
    // Whatever it is, a check of it ends.
    let _ = cookies.check(now, packet, start);
    // The filter has seen that it is a whole SYN.
    if packet.len() < start + 20 || packet[start + 13] & 0x17 != 2 {
        return;
    }
    let mut buffer = packet.to_vec();
    buffer.resize(packet.len() + usize::from(first >> 1) % 8, 0);
    let Some(length) = cookies.answer(now, &mut buffer, start, 1460) else { return };
    assert!(length <= buffer.len());
    let answer = &buffer[..length];
    assert_eq!(answer[start + 13] & 0x17, 0x12, "a SYN-ACK");
    assert_eq!(answer[start..start + 2], packet[start + 2..start + 4], "ports are turned");
    let word = |at: usize| u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]]);
    let asked = u32::from_be_bytes([packet[start + 4], packet[start + 5], packet[start + 6], packet[start + 7]]);
    assert_eq!(word(start + 8), asked.wrapping_add(1));

    // The client's ACK: the SYN with the numbers that an honest client would write.
    let mut ack = packet.to_vec();
    ack[start + 4..start + 8].copy_from_slice(&asked.wrapping_add(1).to_be_bytes());
    ack[start + 8..start + 12].copy_from_slice(&word(start + 4).wrapping_add(1).to_be_bytes());
    ack[start + 12] = 0x50;
    ack[start + 13] = 0x10;
    let opened = cookies.check(now + Duration::from_secs(30), &ack, start).expect("its own cookie");
    assert_eq!(opened.sequence, asked);
    assert_eq!(cookies.check(now + Duration::from_secs(300), &ack, start), None, "too late");
    ack[start] ^= 1;
    assert_eq!(cookies.check(now, &ack, start), None, "another port");
});
